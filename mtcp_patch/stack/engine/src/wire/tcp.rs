//! The TCP header (RFC 9293 3.1).

use super::checksum::Sum;
use super::{protocol, Drop, Flags, Ip, Link, Options, Segment, Seq};
use crate::device::RxChecksum;
use core::net::SocketAddr;

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
    Ok(Segment {
        link,
        src: SocketAddr::new(ip.src, u16::from_be_bytes([h[0], h[1]])),
        dst: SocketAddr::new(ip.dst, u16::from_be_bytes([h[2], h[3]])),
        seq: Seq(u32::from_be_bytes([h[4], h[5], h[6], h[7]])),
        ack: Seq(u32::from_be_bytes([h[8], h[9], h[10], h[11]])),
        flags,
        wnd: u16::from_be_bytes([h[14], h[15]]),
        urgent: u16::from_be_bytes([h[18], h[19]]),
        options: Options::parse(header.get(HEADER_LEN..).unwrap_or_default(), flags)?,
        payload,
        ecn: ip.ecn,
    })
}

// RFC 9293 3.1, MUST-3: the receiver must check it.
fn checksum_is_acceptable(ip: &Ip<'_>, field: u16, rx: RxChecksum) -> bool {
    if rx == RxChecksum::Trusted {
        return true;
    }
    let pseudo = Sum::default().pseudo_header(ip.addresses, protocol::TCP, ip.payload.len());
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
    /// Fixed header and options, in bytes: a multiple of four, at most 60.
    pub(crate) header_len: usize,
}

/// Writes the fixed header, with a zero checksum and a zero urgent pointer.
pub(crate) fn emit(repr: &Repr, out: &mut [u8; HEADER_LEN]) {
    let [s0, s1] = repr.src_port.to_be_bytes();
    let [d0, d1] = repr.dst_port.to_be_bytes();
    let [q0, q1, q2, q3] = repr.seq.0.to_be_bytes();
    let [a0, a1, a2, a3] = repr.ack.0.to_be_bytes();
    let [w0, w1] = repr.wnd.to_be_bytes();
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
        0,
        0,
    ];
}
