//! ICMP (RFC 792) and ICMPv6 (RFC 4443) errors about TCP segments that we sent.

use super::checksum::Sum;
use super::{ipv4, ipv6, protocol, Drop, Ip, Seq};
use crate::device::RxChecksum;
use core::net::SocketAddr;

/// What an ICMP error says. Codes are those of the ICMP version of the addresses' family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Destination unreachable.
    Unreachable {
        /// Which kind of unreachable.
        code: u8,
    },
    /// The packet was too big for a link on its path.
    FragNeeded {
        /// The largest IP packet that fits, in bytes, as the router says; 0 from routers older
        /// than RFC 1191. A claim of a stranger: bound it before use.
        mtu: u32,
    },
    /// The hop limit ran out, or reassembly took too long.
    TimeExceeded {
        /// Which of the two.
        code: u8,
    },
    /// A field of the header was not understood.
    ParameterProblem {
        /// Which kind of problem.
        code: u8,
    },
}

/// An ICMP error, with the connection it speaks of. Anyone can forge one: the TCB must find `seq`
/// between SND.UNA and SND.NXT before it believes it (RFC 5927 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// What went wrong.
    pub kind: IcmpKind,
    /// The source of the embedded segment: us.
    pub local: SocketAddr,
    /// The destination of the embedded segment: the peer.
    pub remote: SocketAddr,
    /// The sequence number of the embedded segment.
    pub seq: Seq,
}

impl IcmpError {
    /// Whether RFC 1122 4.2.3.9 (and RFC 4443 by analogy) counts it as a hard error: the protocol
    /// or port does not exist there, or an administrator forbids it.
    pub fn is_hard(&self) -> bool {
        match self.kind {
            IcmpKind::Unreachable { code } if self.local.is_ipv4() => matches!(code, 2 | 3),
            IcmpKind::Unreachable { code } => matches!(code, 1 | 4),
            _ => false,
        }
    }
}

/// Type, code, and the word after the checksum.
struct Message<'a> {
    kind: u8,
    code: u8,
    word: u32,
    body: &'a [u8],
}

fn message(payload: &[u8]) -> Result<Message<'_>, Drop> {
    let (h, body) = payload.split_first_chunk::<8>().ok_or(Drop::Truncated)?;
    let word = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
    Ok(Message { kind: h[0], code: h[1], word, body })
}

/// Reads an ICMP message.
pub(crate) fn parse_v4(ip: &Ip<'_>, rx: RxChecksum) -> Result<IcmpError, Drop> {
    let m = message(ip.payload)?;
    if rx != RxChecksum::Trusted && !Sum::default().bytes(ip.payload).is_valid() {
        return Err(Drop::BadIcmpChecksum);
    }
    let kind = match (m.kind, m.code) {
        // RFC 1191 4: the next hop's MTU is the low half of the word.
        (3, 4) => IcmpKind::FragNeeded { mtu: m.word & 0xffff },
        (3, code) => IcmpKind::Unreachable { code },
        // Type 4, source quench, must be ignored (RFC 6633 3).
        (11, code) => IcmpKind::TimeExceeded { code },
        (12, code) => IcmpKind::ParameterProblem { code },
        _ => return Err(Drop::IcmpIgnored),
    };
    let inner = ipv4::fields(m.body)?;
    if inner.protocol != protocol::TCP || inner.fragment_offset != 0 {
        return Err(Drop::IcmpIgnored);
    }
    let segment = m.body.get(inner.header_len..).ok_or(Drop::Truncated)?;
    embedded(kind, inner.src.into(), inner.dst.into(), segment)
}

/// Reads an ICMPv6 message.
pub(crate) fn parse_v6(ip: &Ip<'_>, rx: RxChecksum) -> Result<IcmpError, Drop> {
    let m = message(ip.payload)?;
    if rx != RxChecksum::Trusted && !checksum_v6(ip).is_valid() {
        return Err(Drop::BadIcmpChecksum);
    }
    let kind = match (m.kind, m.code) {
        (1, code) => IcmpKind::Unreachable { code },
        (2, _) => IcmpKind::FragNeeded { mtu: m.word },
        (3, code) => IcmpKind::TimeExceeded { code },
        (4, code) => IcmpKind::ParameterProblem { code },
        _ => return Err(Drop::IcmpIgnored),
    };
    let inner = ipv6::fields(m.body)?;
    // We send no extension headers, so an error about us has none to skip.
    if inner.next_header != protocol::TCP {
        return Err(Drop::IcmpIgnored);
    }
    embedded(kind, inner.src.into(), inner.dst.into(), inner.rest)
}

// RFC 4443 2.3: unlike ICMP, ICMPv6 sums the pseudo-header too.
pub(crate) fn checksum_v6(ip: &Ip<'_>) -> Sum {
    let sum = Sum::default().pseudo_header(ip.addresses, protocol::ICMPV6, ip.payload.len());
    sum.bytes(ip.payload)
}

/// Reads the first eight bytes of the segment, all that RFC 792 promises.
fn embedded(
    kind: IcmpKind,
    src: core::net::IpAddr,
    dst: core::net::IpAddr,
    segment: &[u8],
) -> Result<IcmpError, Drop> {
    let &[s0, s1, d0, d1, q0, q1, q2, q3, ..] = segment else { return Err(Drop::Truncated) };
    Ok(IcmpError {
        kind,
        local: SocketAddr::new(src, u16::from_be_bytes([s0, s1])),
        remote: SocketAddr::new(dst, u16::from_be_bytes([d0, d1])),
        seq: Seq(u32::from_be_bytes([q0, q1, q2, q3])),
    })
}
