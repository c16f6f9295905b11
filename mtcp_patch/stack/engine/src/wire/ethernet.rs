//! The Ethernet II header.

use super::{Drop, Link};

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 14;
/// EtherType of IPv4.
pub(crate) const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(crate) const TYPE_IPV6: u16 = 0x86dd;

/// Splits a frame into addresses, type and what follows.
pub(crate) fn split(frame: &[u8]) -> Result<(Link, u16, &[u8]), Drop> {
    let (h, rest) = frame.split_first_chunk::<HEADER_LEN>().ok_or(Drop::Truncated)?;
    let dst = [h[0], h[1], h[2], h[3], h[4], h[5]];
    let src = [h[6], h[7], h[8], h[9], h[10], h[11]];
    Ok((Link { src, dst }, u16::from_be_bytes([h[12], h[13]]), rest))
}

/// Reads the header of a frame for this station: addresses, IP version announced, IP packet.
pub(crate) fn parse<'a>(frame: &'a [u8], own: &[u8; 6]) -> Result<(Link, u8, &'a [u8]), Drop> {
    let (link, kind, packet) = split(frame)?;
    let version = match kind {
        TYPE_IPV4 => 4,
        TYPE_IPV6 => 6,
        _ => return Err(Drop::NotIp),
    };
    // `lo` has no address of its own: its frames carry zeros, and all of them are ours.
    if *own != [0; 6] && link.dst != *own {
        // RFC 1122 3.3.6: unicast IP inside a link-layer broadcast is discarded.
        let group = link.dst[0] & 1 == 1;
        return Err(if group { Drop::LinkBroadcast } else { Drop::OtherHost });
    }
    Ok((link, version, packet))
}

/// Writes the header.
pub(crate) fn emit(link: &Link, kind: u16, out: &mut [u8; HEADER_LEN]) {
    let (dst, rest) = out.split_at_mut(6);
    let (src, ethertype) = rest.split_at_mut(6);
    dst.copy_from_slice(&link.dst);
    src.copy_from_slice(&link.src);
    ethertype.copy_from_slice(&kind.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::{emit, parse, split, HEADER_LEN, TYPE_ARP, TYPE_IPV4, TYPE_IPV6};
    use crate::wire::{Drop, Link};

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn header(dst: [u8; 6], kind: u16) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        emit(&Link { src: PEER, dst }, kind, &mut out);
        out
    }

    #[test]
    fn what_is_emitted_splits() {
        let frame = header(OWN, TYPE_IPV6);
        assert_eq!(frame[..12], [OWN, PEER].concat());
        assert_eq!(split(&frame), Ok((Link { src: PEER, dst: OWN }, TYPE_IPV6, &[][..])));
    }

    #[test]
    fn the_type_decides() {
        assert_eq!(parse(&header(OWN, TYPE_IPV4), &OWN).map(|(_, version, _)| version), Ok(4));
        assert_eq!(parse(&header(OWN, TYPE_IPV6), &OWN).map(|(_, version, _)| version), Ok(6));
        assert_eq!(parse(&header(OWN, TYPE_ARP), &OWN), Err(Drop::NotIp));
        assert_eq!(parse(&header(OWN, TYPE_IPV4)[..13], &OWN), Err(Drop::Truncated));
    }

    #[test]
    fn frames_for_others_are_refused_except_on_lo() {
        assert_eq!(parse(&header(PEER, TYPE_IPV4), &OWN), Err(Drop::OtherHost));
        assert_eq!(parse(&header([0xff; 6], TYPE_IPV4), &OWN), Err(Drop::LinkBroadcast));
        assert_eq!(parse(&header([0x33; 6], TYPE_IPV6), &OWN), Err(Drop::LinkBroadcast));
        assert!(parse(&header([0; 6], TYPE_IPV4), &[0; 6]).is_ok());
        assert!(parse(&header([0x33; 6], TYPE_IPV6), &[0; 6]).is_ok());
    }
}
