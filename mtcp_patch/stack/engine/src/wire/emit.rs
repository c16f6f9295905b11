//! Writing a whole frame: link header, IP header, TCP header and payload in one pass.

use super::checksum::Sum;
use super::{ethernet, ipv4, ipv6, protocol, tcp, Flags, Link, Options, Seq};
use crate::device::{Caps, Medium};
use core::net::{IpAddr, SocketAddr};

/// Everything about a segment to be sent but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Hardware addresses, written on [`Medium::Ethernet`] only.
    pub link: Link,
    /// Our address and port.
    pub src: SocketAddr,
    /// The peer's address and port, of the same family.
    pub dst: SocketAddr,
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; zero without [`Flags::ACK`].
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as it stands in the header, already scaled.
    pub wnd: u16,
    /// The options. SACK blocks that do not fit are left out, the last ones first.
    pub options: Options,
    /// SEG.UP; zero without [`Flags::URG`].
    pub urgent: u16,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
    /// The other six bits of TOS or traffic class, in their place.
    pub dscp: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// The identification field of IPv4.
    pub ip_id: u16,
}

impl Header {
    /// Bytes before the payload on this medium.
    #[allow(clippy::len_without_is_empty)] // a size in bytes, not a container's length
    pub fn len(&self, medium: Medium) -> usize {
        self.len_before_tcp(medium) + self.tcp_len()
    }

    fn len_before_tcp(&self, medium: Medium) -> usize {
        let link = if medium == Medium::Ethernet { ethernet::HEADER_LEN } else { 0 };
        let ip = if self.dst.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        link + ip
    }

    fn tcp_len(&self) -> usize {
        tcp::HEADER_LEN + self.options.len()
    }

    /// Writes the frame with `payload` (the two halves of a ring) behind the headers.
    ///
    /// `out` must be exactly [`Header::len`] and the payload long, fit one IP packet, and both
    /// addresses be of one family; the caller built all three, so anything else is our own bug:
    /// it stops a debug build, and leaves zeros, which no receiver takes, in a release build.
    pub fn emit(&self, caps: &Caps, payload: [&[u8]; 2], out: &mut [u8]) {
        if self.try_emit(caps, payload, out).is_none() {
            debug_assert!(false, "the frame does not fit its header");
            out.fill(0);
        }
    }

    fn try_emit(&self, caps: &Caps, payload: [&[u8]; 2], mut out: &mut [u8]) -> Option<()> {
        let payload_len = payload[0].len() + payload[1].len();
        let tcp_len = self.tcp_len();
        if out.len() != self.len_before_tcp(caps.medium) + tcp_len + payload_len {
            return None;
        }
        if caps.medium == Medium::Ethernet {
            let kind = if self.dst.is_ipv4() { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 };
            let (head, rest) = out.split_first_chunk_mut()?;
            ethernet::emit(&self.link, kind, head);
            out = rest;
        }
        let segment_len = tcp_len + payload_len;
        let (addresses, segment) = self.emit_ip(caps, segment_len, out)?;
        self.emit_tcp(tcp_len, payload, segment)?;
        // RFC 9293 3.1, MUST-2: always, here or in the device.
        if caps.tx_checksum {
            let sum = Sum::default().pseudo_header(addresses, protocol::TCP, segment_len);
            let check = sum.bytes(segment).finish();
            segment.get_mut(16..18)?.copy_from_slice(&check.to_be_bytes());
        }
        Some(())
    }

    /// Writes the IP header; returns the addresses as they stand in it, and the room after it.
    fn emit_ip<'a>(
        &self,
        caps: &Caps,
        segment_len: usize,
        out: &'a mut [u8],
    ) -> Option<(&'a [u8], &'a mut [u8])> {
        let (tos, hop_limit) = (self.dscp & !3 | self.ecn & 3, self.hop_limit);
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total_len = u16::try_from(ipv4::HEADER_LEN + segment_len).ok()?;
                let (id, protocol) = (self.ip_id, protocol::TCP);
                let repr = ipv4::Repr { src, dst, total_len, id, tos, hop_limit, protocol };
                let (head, rest) = out.split_first_chunk_mut()?;
                ipv4::emit(&repr, caps.tx_checksum, head);
                Some((&head[12..20], rest))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let payload_len = u16::try_from(segment_len).ok()?;
                let next_header = protocol::TCP;
                let repr =
                    ipv6::Repr { src, dst, payload_len, tclass: tos, hop_limit, next_header };
                let (head, rest) = out.split_first_chunk_mut()?;
                ipv6::emit(&repr, head);
                Some((&head[8..40], rest))
            }
            _ => None,
        }
    }

    /// Writes the TCP header of `header_len` bytes without checksum, and the payload.
    fn emit_tcp(&self, header_len: usize, payload: [&[u8]; 2], segment: &mut [u8]) -> Option<()> {
        let repr = tcp::Repr {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            wnd: self.wnd,
            urgent: self.urgent,
            header_len,
        };
        let (fixed, rest) = segment.split_first_chunk_mut()?;
        tcp::emit(&repr, fixed);
        let (options, data) = rest.split_at_mut_checked(header_len - tcp::HEADER_LEN)?;
        self.options.emit(options);
        let (first, second) = data.split_at_mut_checked(payload[0].len())?;
        first.copy_from_slice(payload[0]);
        second.copy_from_slice(payload[1]);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::Header;
    use crate::device::{Caps, Medium, RxChecksum};
    use crate::wire::testing::naive_checksum;
    use crate::wire::{parse, Drop, Flags, Link, Options, Parsed, Seq};
    use std::net::SocketAddr;
    use std::vec;

    fn header(src: &str, dst: &str) -> Header {
        Header {
            link: Link::default(),
            src: src.parse::<SocketAddr>().unwrap(),
            dst: dst.parse::<SocketAddr>().unwrap(),
            seq: Seq(0xfedc_ba98),
            ack: Seq(7),
            flags: Flags::ACK | Flags::PSH | Flags::URG,
            wnd: 0xabcd,
            options: Options { timestamps: Some((1, 2)), ..Options::default() },
            urgent: 0x1234,
            ecn: 2,
            dscp: 0xb8,
            hop_limit: 64,
            ip_id: 99,
        }
    }

    fn caps(medium: Medium) -> Caps {
        let rx_checksum = RxChecksum::Verify;
        Caps { medium, mtu: 65535, rx_checksum, tx_checksum: true, hw_addr: [0; 6] }
    }

    /// RFC 9293 MUST-2.
    #[test]
    fn what_is_emitted_parses() {
        for medium in [Medium::Ip, Medium::Ethernet] {
            for (src, dst) in [("10.0.0.1:80", "10.0.0.2:4321"), ("[fd00::1]:80", "[fd00::2]:5")] {
                let header = header(src, dst);
                let caps = caps(medium);
                let mut frame = vec![0xee; header.len(medium) + 5];
                header.emit(&caps, [b"abc", b"de"], &mut frame);
                let Ok(Parsed::Tcp(segment)) = parse(&frame, &caps) else { panic!() };
                assert_eq!((segment.src, segment.dst), (header.src, header.dst));
                assert_eq!((segment.seq, segment.ack), (header.seq, header.ack));
                assert_eq!((segment.flags, segment.wnd), (header.flags, header.wnd));
                assert_eq!(segment.urgent, 0x1234);
                assert_eq!((segment.options, segment.ecn), (header.options, header.ecn));
                assert_eq!(segment.payload, b"abcde");
                *frame.last_mut().unwrap() ^= 1;
                assert_eq!(parse(&frame, &caps), Err(Drop::BadTcpChecksum));
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_rfcs() {
        let mut frame = vec![0; 53];
        header("10.0.0.1:80", "10.0.0.2:4321").emit(&caps(Medium::Ip), [b"", b"x"], &mut frame);
        // Version 4, DSCP 46, ECT(0), length 53, id 99, don't fragment, 64 hops, TCP.
        let ip = b"\x45\xba\0\x35\0\x63\x40\0\x40\x06\x25\xa4\x0a\0\0\x01\x0a\0\0\x02";
        let tcp = b"\0\x50\x10\xe1\xfe\xdc\xba\x98\0\0\0\x07\x80\x38\xab\xcd";
        let rest = b"\x12\x34\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02x";
        assert_eq!(frame[..20], ip[..]);
        assert_eq!(naive_checksum(&frame[..20]), 0);
        assert_eq!((&frame[20..36], &frame[38..]), (&tcp[..], &rest[..]));
        let mut frame = vec![0; 73];
        header("[fd00::1]:80", "[fd00::2]:4321").emit(&caps(Medium::Ip), [b"x", b""], &mut frame);
        assert_eq!(frame[..8], *b"\x6b\xa0\0\0\0\x21\x06\x40");
        assert_eq!((&frame[40..56], &frame[58..]), (&tcp[..], &rest[..]));
    }

    #[test]
    fn without_checksums_the_fields_are_zero() {
        let header = header("10.0.0.1:80", "10.0.0.2:4321");
        let mut frame = vec![0xee; header.len(Medium::Ip)];
        let caps = Caps { tx_checksum: false, ..caps(Medium::Ip) };
        header.emit(&caps, [b"", b""], &mut frame);
        assert_eq!((&frame[10..12], &frame[36..38]), (&[0, 0][..], &[0, 0][..]));
        assert!(parse(&frame, &Caps { rx_checksum: RxChecksum::Trusted, ..caps }).is_ok());
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "does not fit"))]
    fn nor_may_it_be_longer() {
        let header = header("10.0.0.1:80", "10.0.0.2:4321");
        let mut frame = vec![0xee; header.len(Medium::Ip) + 1];
        header.emit(&caps(Medium::Ip), [b"", b""], &mut frame);
        assert!(frame.iter().all(|byte| *byte == 0));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "does not fit"))]
    fn a_frame_of_the_wrong_size_is_our_bug() {
        let header = header("10.0.0.1:80", "10.0.0.2:4321");
        let mut frame = vec![0xee; header.len(Medium::Ip)];
        header.emit(&caps(Medium::Ip), [b"too much", b""], &mut frame);
        assert!(frame.iter().all(|byte| *byte == 0));
    }
}
