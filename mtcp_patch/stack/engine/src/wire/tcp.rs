//! The TCP header (RFC 9293 3.1).

use super::{protocol, Drop, Flags, Ip, Link, Options, Segment, Seq};
use crate::device::RxChecksum;

/// Bytes of the header without options.
pub(crate) const HEADER_LEN: usize = 20;

/// Reads and checks a segment.
pub(crate) fn parse<'a>(link: Link, ip: &Ip<'a>, rx: RxChecksum) -> Result<Segment<'a>, Drop> {
    let (h, _) = ip.payload.split_first_chunk::<HEADER_LEN>().ok_or(Drop::Truncated)?;
    let data_offset = usize::from(h[12] >> 4) * 4;
    if data_offset < HEADER_LEN {
        return Err(Drop::BadTcpOffset);
    }
    let (header, payload) = ip.payload.split_at_checked(data_offset).ok_or(Drop::BadTcpOffset)?;
    if !checksum_is_acceptable(ip, u16::from_be_bytes([h[16], h[17]]), rx) {
        return Err(Drop::BadTcpChecksum);
    }
    let flags = Flags(h[13]);
    let ports = (u16::from_be_bytes([h[0], h[1]]), u16::from_be_bytes([h[2], h[3]]));
    let (src, dst) = ip.addresses.with_ports(ports.0, ports.1);
    let segment = |options| Segment {
        link,
        src,
        dst,
        seq: Seq(u32::from_be_bytes([h[4], h[5], h[6], h[7]])),
        ack: Seq(u32::from_be_bytes([h[8], h[9], h[10], h[11]])),
        flags,
        wnd: u16::from_be_bytes([h[14], h[15]]),
        urgent: u16::from_be_bytes([h[18], h[19]]),
        options,
        payload,
        ecn: ip.ecn,
    };
    let options = header.get(HEADER_LEN..).unwrap_or_default();
    // Two ways, so that on the usual one the segment is put together in registers.
    match Options::parse_usual(options) {
        Some(usual) => Ok(segment(usual)),
        None => Options::parse(options, flags).map(segment),
    }
}

// RFC 9293 3.1, MUST-3: the receiver must check it.
fn checksum_is_acceptable(ip: &Ip<'_>, field: u16, rx: RxChecksum) -> bool {
    if rx == RxChecksum::Trusted {
        return true;
    }
    let pseudo = ip.addresses.pseudo_header(protocol::TCP, ip.payload.len());
    (rx == RxChecksum::AcceptPartial && pseudo.folded() == field)
        || pseudo.bytes(ip.payload).is_valid()
}

/// The fixed fields of a header to be sent.
pub(crate) struct Repr {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: Flags,
    pub(crate) wnd: u16,
    pub(crate) urgent: u16,
    /// Fixed header and options, in bytes: a multiple of four, at most 60.
    pub(crate) header_len: usize,
}

/// Writes the fixed header, with a zero checksum.
pub(crate) fn emit(repr: &Repr, out: &mut [u8; HEADER_LEN]) {
    let [s0, s1] = repr.src_port.to_be_bytes();
    let [d0, d1] = repr.dst_port.to_be_bytes();
    let [q0, q1, q2, q3] = repr.seq.0.to_be_bytes();
    let [a0, a1, a2, a3] = repr.ack.0.to_be_bytes();
    let [w0, w1] = repr.wnd.to_be_bytes();
    let [u0, u1] = repr.urgent.to_be_bytes();
    #[allow(clippy::cast_possible_truncation)] // at most fifteen words
    let offset = ((repr.header_len / 4) as u8) << 4;
    *out = [
        s0,
        s1,
        d0,
        d1, //
        q0,
        q1,
        q2,
        q3, //
        a0,
        a1,
        a2,
        a3, //
        offset,
        repr.flags.0,
        w0,
        w1, //
        0,
        0,
        u0,
        u1,
    ];
}

#[cfg(test)]
mod tests {
    use crate::device::{Caps, RxChecksum};
    use crate::wire::testing::{naive_checksum, pseudo_header, strict, tcp, v4, v6};
    use crate::wire::{parse, Drop, Flags, Parsed, Segment, Seq};

    fn verdict<'a>(packet: &'a [u8], caps: &Caps) -> Result<Segment<'a>, Drop> {
        match parse(packet, caps)? {
            Parsed::Tcp(segment) => Ok(segment),
            Parsed::Icmp(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn every_field_is_read() {
        let packet = v4(6, &[], &tcp(false, 0x1b, &[1, 1, 1, 0], b"data"));
        let segment = verdict(&packet, &strict()).unwrap();
        assert_eq!(segment.src, "10.0.0.1:1000".parse().unwrap());
        assert_eq!(segment.dst, "10.0.0.2:2000".parse().unwrap());
        assert_eq!((segment.seq, segment.ack, segment.wnd), (Seq(1), Seq(2), 3));
        assert_eq!(segment.flags, Flags::FIN | Flags::SYN | Flags::PSH | Flags::ACK);
        assert_eq!((segment.payload, segment.len()), (&b"data"[..], 6));
        let mut urgent = tcp(false, 0x30, &[], b"data");
        urgent[18..20].copy_from_slice(&[1, 2]);
        let trusting = Caps { rx_checksum: RxChecksum::Trusted, ..strict() };
        let packet = v4(6, &[], &urgent);
        assert_eq!(verdict(&packet, &trusting).map(|segment| segment.urgent), Ok(0x102));
        let packet = v6(6, &tcp(true, 0x10, &[], b""));
        let segment = verdict(&packet, &strict()).unwrap();
        assert_eq!(segment.src, "[fd00::1]:1000".parse().unwrap());
        assert_eq!(segment.dst, "[fd00::2]:2000".parse().unwrap());
    }

    #[test]
    fn lying_offsets_are_refused() {
        for (offset, reason) in [
            (0, Drop::BadTcpOffset),
            (4, Drop::BadTcpOffset),
            (15, Drop::BadTcpOffset),
            (6, Drop::BadTcpChecksum),
        ] {
            let mut segment = tcp(false, 0x10, &[], b"data");
            segment[12] = offset << 4;
            assert_eq!(verdict(&v4(6, &[], &segment), &strict()), Err(reason), "{offset}");
        }
        let segment = tcp(false, 0x10, &[], b"");
        assert_eq!(verdict(&v4(6, &[], &segment[..19]), &strict()), Err(Drop::Truncated));
    }

    #[test]
    fn partial_checksums_are_taken_where_they_are_expected_and_nothing_else_is() {
        for is_v6 in [false, true] {
            let whole = tcp(is_v6, 0x10, &[], b"odd");
            let right = u16::from_be_bytes([whole[16], whole[17]]);
            let partial = !naive_checksum(&pseudo_header(is_v6, 6, whole.len()));
            for field in 0..=u16::MAX {
                let mut segment = whole.clone();
                segment[16..18].copy_from_slice(&field.to_be_bytes());
                let packet = if is_v6 { v6(6, &segment) } else { v4(6, &[], &segment) };
                let accepted =
                    |rx_checksum| verdict(&packet, &Caps { rx_checksum, ..strict() }).is_ok();
                assert_eq!(accepted(RxChecksum::Verify), field == right, "{field:#x}");
                let either = field == right || field == partial;
                assert_eq!(accepted(RxChecksum::AcceptPartial), either, "{field:#x}");
                assert!(accepted(RxChecksum::Trusted));
            }
        }
    }
}
