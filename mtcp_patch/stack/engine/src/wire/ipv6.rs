//! The IPv6 header and its extension headers (RFC 8200).

use super::address::Addresses;
use super::{protocol, Drop, Ip};
use core::net::Ipv6Addr;

/// Bytes of the fixed header.
pub(crate) const HEADER_LEN: usize = 40;

/// More extension headers than this are an attack on the reader, not a packet.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const OPTION_PAD1: u8 = 0;

/// The fixed header's fields.
pub(crate) struct Fields<'a> {
    pub(crate) addresses: &'a [u8; 32],
    pub(crate) ecn: u8,
    pub(crate) hop_limit: u8,
    pub(crate) payload_len: usize,
    pub(crate) next_header: u8,
    /// Everything after the fixed header, to the end of what was given.
    pub(crate) rest: &'a [u8],
}

/// Reads the fixed header.
pub(crate) fn fields(packet: &[u8]) -> Result<Fields<'_>, Drop> {
    let (h, rest) = packet.split_first_chunk::<HEADER_LEN>().ok_or(Drop::Truncated)?;
    if h[0] >> 4 != 6 {
        return Err(Drop::BadVersion);
    }
    Ok(Fields {
        addresses: h.last_chunk().ok_or(Drop::Truncated)?,
        // The low two bits of the traffic class, which lies across two octets.
        ecn: (h[1] >> 4) & 3,
        hop_limit: h[7],
        payload_len: usize::from(u16::from_be_bytes([h[4], h[5]])),
        next_header: h[6],
        rest,
    })
}

/// Reads and checks a whole packet.
pub(crate) fn parse(packet: &[u8]) -> Result<Ip<'_>, Drop> {
    let f = fields(packet)?;
    let payload = f.rest.get(..f.payload_len).ok_or(Drop::Truncated)?;
    let (protocol, payload) = match f.next_header {
        protocol::TCP => (protocol::TCP, payload),
        other => skip_extensions(other, payload)?,
    };
    Ok(Ip { addresses: Addresses::V6(f.addresses), protocol, ecn: f.ecn, payload })
}

/// Follows the chain of extension headers to the upper-layer header.
fn skip_extensions(first: u8, payload: &[u8]) -> Result<(u8, &[u8]), Drop> {
    let mut next = first;
    let mut rest = payload;
    for position in 0..=MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok((next, rest));
        }
        // RFC 8200 4: each of these is at least eight octets and a multiple of eight.
        let &[following, len, third, fourth, ..] = rest else { return Err(Drop::Truncated) };
        // The fragment header has a reserved octet where the others have their length.
        let len = if next == FRAGMENT { 8 } else { (usize::from(len) + 1) * 8 };
        let (header, after) = rest.split_at_checked(len).ok_or(Drop::Truncated)?;
        match next {
            // RFC 8200 4.1: only ever the first.
            HOP_BY_HOP if position > 0 => return Err(Drop::BadExtension),
            HOP_BY_HOP | DESTINATION_OPTIONS => check_options(header)?,
            // RFC 8200 4.4: with segments left it is a router's; RFC 5095 3: type 0 the same.
            ROUTING if fourth != 0 => return Err(Drop::BadExtension),
            // RFC 6946 4: an "atomic" fragment (offset 0, none to follow) is a whole packet.
            FRAGMENT if third != 0 || fourth & 0xf9 != 0 => return Err(Drop::Fragment),
            _ => {}
        }
        next = following;
        rest = after;
    }
    Err(Drop::BadExtension)
}

/// Walks the options of a hop-by-hop or destination options header.
fn check_options(header: &[u8]) -> Result<(), Drop> {
    let mut options = header.get(2..).unwrap_or_default();
    while let Some((&kind, rest)) = options.split_first() {
        if kind == OPTION_PAD1 {
            options = rest;
            continue;
        }
        // RFC 8200 4.2: the two high bits say what one who does not know an option must do:
        // 00 skip it, anything else discard the packet. We know none but the paddings.
        if kind & 0xc0 != 0 {
            return Err(Drop::BadExtension);
        }
        let len = usize::from(*rest.first().ok_or(Drop::BadExtension)?);
        options = options.get(len + 2..).ok_or(Drop::BadExtension)?;
    }
    Ok(())
}

/// What a header to be sent says.
pub(crate) struct Repr {
    pub(crate) src: Ipv6Addr,
    pub(crate) dst: Ipv6Addr,
    pub(crate) payload_len: u16,
    /// The traffic class: DSCP and ECN (RFC 8200 7).
    pub(crate) tclass: u8,
    pub(crate) hop_limit: u8,
    pub(crate) next_header: u8,
}

/// Writes the header.
pub(crate) fn emit(repr: &Repr, out: &mut [u8; HEADER_LEN]) {
    let [len_hi, len_lo] = repr.payload_len.to_be_bytes();
    let (head, addresses) = out.split_at_mut(8);
    let (src, dst) = addresses.split_at_mut(16);
    head.copy_from_slice(&[
        0x60 | repr.tclass >> 4,
        repr.tclass << 4,
        0,
        0,
        len_hi,
        len_lo,
        repr.next_header,
        repr.hop_limit,
    ]);
    src.copy_from_slice(&repr.src.octets());
    dst.copy_from_slice(&repr.dst.octets());
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::wire::testing::v6;
    use crate::wire::Drop;
    use std::vec;
    use std::vec::Vec;

    fn verdict(packet: &[u8]) -> Result<(u8, Vec<u8>), Drop> {
        parse(packet).map(|ip| (ip.protocol, ip.payload.to_vec()))
    }

    /// An extension header of eight bytes whose next header is `next`.
    fn extension(next: u8, rest: [u8; 6]) -> Vec<u8> {
        [&[next, 0][..], &rest].concat()
    }

    const PADN: [u8; 6] = [1, 4, 0, 0, 0, 0];

    #[test]
    fn padding_is_cut_and_truncation_seen() {
        let mut packet = v6(6, b"payload");
        packet.extend([0; 9]);
        assert_eq!(verdict(&packet), Ok((6, b"payload".to_vec())));
        assert_eq!(verdict(&packet[..46]), Err(Drop::Truncated));
        assert_eq!(verdict(&packet[..39]), Err(Drop::Truncated));
        packet[0] = 0x40;
        assert_eq!(verdict(&packet), Err(Drop::BadVersion));
    }

    #[test]
    fn extension_headers_are_skipped() {
        let chain = [
            extension(43, PADN),
            extension(60, [4, 0, 0, 0, 0, 0]),
            extension(6, [5, 2, 0, 0, 0, 0]),
            b"tcp".to_vec(),
        ]
        .concat();
        assert_eq!(verdict(&v6(0, &chain)), Ok((6, b"tcp".to_vec())));
        let long = [&[6, 1, 1, 12][..], &[0; 12], b"tcp"].concat();
        assert_eq!(verdict(&v6(60, &long)), Ok((6, b"tcp".to_vec())));
    }

    #[test]
    fn what_they_order_is_obeyed() {
        let discard = |first, rest| verdict(&v6(first, &[extension(6, rest), vec![0]].concat()));
        // Unknown options with the high bits 01, 10 and 11; the jumbo payload option is 0xc2.
        for option in [0x40, 0x80, 0xc2] {
            assert_eq!(discard(0, [option, 4, 0, 0, 0, 0]), Err(Drop::BadExtension));
            assert_eq!(discard(60, [option, 4, 0, 0, 0, 0]), Err(Drop::BadExtension));
        }
        assert_eq!(discard(43, [0, 1, 0, 0, 0, 0]), Err(Drop::BadExtension), "segments left");
        assert_eq!(discard(60, [1, 5, 0, 0, 0, 0]), Err(Drop::BadExtension), "option overruns");
        assert_eq!(discard(60, [0, 0, 0, 0, 0, 1]), Err(Drop::BadExtension), "no length");
    }

    #[test]
    fn hop_by_hop_is_first_or_nowhere() {
        let chain = [extension(0, PADN), extension(6, PADN)].concat();
        assert_eq!(verdict(&v6(60, &chain)), Err(Drop::BadExtension));
    }

    #[test]
    fn chains_end() {
        let chain = |count: usize| {
            let mut bytes = vec![extension(60, PADN); count - 1].concat();
            bytes.extend(extension(6, PADN));
            bytes
        };
        assert_eq!(verdict(&v6(60, &chain(8))), Ok((6, vec![])));
        assert_eq!(verdict(&v6(60, &chain(9))), Err(Drop::BadExtension));
        assert_eq!(verdict(&v6(60, &extension(6, PADN)[..7])), Err(Drop::Truncated));
        assert_eq!(verdict(&v6(60, &[6, 1, 1, 4, 0, 0, 0, 0])), Err(Drop::Truncated));
        assert_eq!(verdict(&v6(60, &[6])), Err(Drop::Truncated));
    }

    #[test]
    fn fragments_are_refused_unless_atomic() {
        let fragment = |offset: [u8; 2]| {
            let header = [6, 0xff, offset[0], offset[1], 1, 2, 3, 4];
            verdict(&v6(44, &[&header[..], b"tcp"].concat()))
        };
        assert_eq!(fragment([0, 0]), Ok((6, b"tcp".to_vec())));
        assert_eq!(fragment([0, 6]), Ok((6, b"tcp".to_vec())), "reserved bits are ignored");
        for offset in [[0, 1], [0, 8], [1, 0], [0xff, 0xf8]] {
            assert_eq!(fragment(offset), Err(Drop::Fragment), "{offset:?}");
        }
    }

    #[test]
    fn other_protocols_are_named() {
        assert_eq!(verdict(&v6(59, b"")), Ok((59, vec![])));
        assert_eq!(verdict(&v6(50, b"esp")), Ok((50, b"esp".to_vec())));
    }

    #[test]
    fn ecn_bits_are_read() {
        let mut packet = v6(6, b"");
        packet[0] = 0x6f;
        packet[1] = 0x1c;
        assert_eq!(parse(&packet).map(|ip| ip.ecn), Ok(1));
    }
}
