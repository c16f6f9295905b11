//! ICMP (RFC 792) and ICMPv6 (RFC 4443) errors about TCP segments that we sent.

use super::address::Addresses;
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
        // Requests, answers, and RFC 9293 3.9.2.2, MUST-55: source quench.
        _ => return Err(Drop::IcmpIgnored),
    };
    let inner = ipv4::fields(m.body)?;
    if inner.protocol != protocol::TCP || inner.fragment_offset != 0 {
        return Err(Drop::IcmpIgnored);
    }
    let segment = m.body.get(inner.header_len..).ok_or(Drop::Truncated)?;
    embedded(kind, Addresses::V4(inner.addresses), segment)
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
    embedded(kind, Addresses::V6(inner.addresses), inner.rest)
}

// RFC 4443 2.3: unlike ICMP, ICMPv6 sums the pseudo-header too.
pub(crate) fn checksum_v6(ip: &Ip<'_>) -> Sum {
    ip.addresses.pseudo_header(protocol::ICMPV6, ip.payload.len()).bytes(ip.payload)
}

/// Reads the first eight bytes of the segment, all that RFC 792 promises.
fn embedded(kind: IcmpKind, addresses: Addresses<'_>, segment: &[u8]) -> Result<IcmpError, Drop> {
    let &[s0, s1, d0, d1, q0, q1, q2, q3, ..] = segment else { return Err(Drop::Truncated) };
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let (local, remote) = addresses.with_ports(ports.0, ports.1);
    Ok(IcmpError { kind, local, remote, seq: Seq(u32::from_be_bytes([q0, q1, q2, q3])) })
}

#[cfg(test)]
mod tests {
    use super::{IcmpError, IcmpKind};
    use crate::wire::testing::{fix_icmp, strict, tcp, v4, v6};
    use crate::wire::{parse, Drop, Parsed, Seq};
    use std::vec::Vec;

    /// An error about `inner`, which this host sent.
    fn error(is_v6: bool, kind: u8, code: u8, word: u32, inner: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0][..], &word.to_be_bytes(), inner].concat();
        fix_icmp(is_v6, &mut message);
        if is_v6 {
            v6(58, &message)
        } else {
            v4(1, &[], &message)
        }
    }

    fn verdict(packet: &[u8]) -> Result<IcmpError, Drop> {
        match parse(packet, &strict())? {
            Parsed::Icmp(error) => Ok(error),
            Parsed::Tcp(segment) => panic!("{segment:?}"),
        }
    }

    #[test]
    fn the_embedded_segment_is_named() {
        let inner = v4(6, &[1, 1, 1, 0], &tcp(false, 0x10, &[], b"data"));
        let got = verdict(&error(false, 3, 1, 0, &inner)).unwrap();
        assert_eq!(got.local, "10.0.0.1:1000".parse().unwrap());
        assert_eq!(got.remote, "10.0.0.2:2000".parse().unwrap());
        assert_eq!((got.seq, got.kind), (Seq(1), IcmpKind::Unreachable { code: 1 }));
        let inner = v6(6, &tcp(true, 0x10, &[], b"data"));
        let got = verdict(&error(true, 1, 3, 0, &inner)).unwrap();
        assert_eq!(got.local, "[fd00::1]:1000".parse().unwrap());
        assert_eq!(got.remote, "[fd00::2]:2000".parse().unwrap());
        assert_eq!((got.seq, got.kind), (Seq(1), IcmpKind::Unreachable { code: 3 }));
    }

    #[test]
    fn eight_bytes_of_it_suffice() {
        let inner = v4(6, &[], &tcp(false, 0x10, &[], b"data"));
        assert!(verdict(&error(false, 3, 1, 0, &inner[..28])).is_ok());
        assert_eq!(verdict(&error(false, 3, 1, 0, &inner[..27])), Err(Drop::Truncated));
        let inner = v6(6, &tcp(true, 0x10, &[], b"data"));
        assert!(verdict(&error(true, 1, 0, 0, &inner[..48])).is_ok());
        assert_eq!(verdict(&error(true, 1, 0, 0, &inner[..47])), Err(Drop::Truncated));
    }

    /// RFC 9293 MUST-55.
    #[test]
    fn kinds_of_both_families() {
        let v4_inner = v4(6, &[], &tcp(false, 0x10, &[], b""));
        let v6_inner = v6(6, &tcp(true, 0x10, &[], b""));
        let kind = |is_v6, kind, code, word| {
            let inner = if is_v6 { &v6_inner } else { &v4_inner };
            verdict(&error(is_v6, kind, code, word, inner)).map(|error| error.kind)
        };
        let mtu = 0xffff_0514;
        assert_eq!(kind(false, 3, 4, mtu), Ok(IcmpKind::FragNeeded { mtu: 0x514 }));
        assert_eq!(kind(true, 2, 0, 1280), Ok(IcmpKind::FragNeeded { mtu: 1280 }));
        assert_eq!(kind(false, 11, 0, 0), Ok(IcmpKind::TimeExceeded { code: 0 }));
        assert_eq!(kind(true, 3, 1, 0), Ok(IcmpKind::TimeExceeded { code: 1 }));
        assert_eq!(kind(false, 12, 0, 0), Ok(IcmpKind::ParameterProblem { code: 0 }));
        assert_eq!(kind(true, 4, 1, 0), Ok(IcmpKind::ParameterProblem { code: 1 }));
        assert_eq!(kind(false, 4, 0, 0), Err(Drop::IcmpIgnored), "source quench");
        assert_eq!(kind(false, 8, 0, 0), Err(Drop::IcmpIgnored), "echo request");
        assert_eq!(kind(true, 135, 0, 0), Err(Drop::IcmpIgnored), "neighbour solicitation");
    }

    #[test]
    fn hard_errors_are_those_of_rfc_1122() {
        let inner = v4(6, &[], &tcp(false, 0x10, &[], b""));
        let hard = |code| verdict(&error(false, 3, code, 0, &inner)).unwrap().is_hard();
        assert!((0..16).filter(|code| hard(*code)).eq([2, 3]));
        let inner = v6(6, &tcp(true, 0x10, &[], b""));
        let hard = |code| verdict(&error(true, 1, code, 0, &inner)).unwrap().is_hard();
        assert!((0..8).filter(|code| hard(*code)).eq([1, 4]));
    }

    #[test]
    fn errors_about_others_and_forgeries_are_refused() {
        let udp = v4(17, &[], b"12345678");
        assert_eq!(verdict(&error(false, 3, 1, 0, &udp)), Err(Drop::IcmpIgnored));
        let udp = v6(17, b"12345678");
        assert_eq!(verdict(&error(true, 1, 1, 0, &udp)), Err(Drop::IcmpIgnored));
        let mut second = v4(6, &[], b"12345678");
        second[7] = 1;
        assert_eq!(verdict(&error(false, 3, 1, 0, &second)), Err(Drop::IcmpIgnored));
        for is_v6 in [false, true] {
            let inner = if is_v6 {
                v6(6, &tcp(true, 0x10, &[], b""))
            } else {
                v4(6, &[], &tcp(false, 0x10, &[], b""))
            };
            let mut packet = error(is_v6, if is_v6 { 1 } else { 3 }, 1, 0, &inner);
            *packet.last_mut().unwrap() ^= 1;
            assert_eq!(verdict(&packet), Err(Drop::BadIcmpChecksum));
        }
        assert_eq!(verdict(&v4(1, &[], &[3, 1, 0])), Err(Drop::Truncated));
        assert_eq!(verdict(&v6(1, &[3, 1, 0])), Err(Drop::NotTcp), "ICMP inside IPv6");
    }
}
