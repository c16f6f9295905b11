//! ARP for IPv4 over Ethernet (RFC 826): for devices whose address no kernel answers for.
//!
//! Devices that share the host's addresses leave ARP to the kernel and never call this.

use super::{ethernet, Drop, Link};
use core::net::Ipv4Addr;

/// Bytes of a whole frame, without the padding that Ethernet adds.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

const PACKET_LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const BROADCAST: [u8; 6] = [0xff; 6];

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks who has `target_ip`.
    Request,
    /// Says that `sender_hw` has `sender_ip`.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Question or answer.
    pub operation: Operation,
    /// Hardware address of the sender.
    pub sender_hw: [u8; 6],
    /// IPv4 address of the sender; zero in a probe (RFC 5227 1.1).
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; arbitrary in a request.
    pub target_hw: [u8; 6],
    /// IPv4 address of the target.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads an Ethernet frame.
    ///
    /// # Errors
    /// [`Drop::NotIp`] when it is no ARP for IPv4 over Ethernet, [`Drop::Truncated`],
    /// [`Drop::BadAddress`] when the sender claims a group address.
    pub fn parse(frame: &[u8]) -> Result<Self, Drop> {
        let (_, kind, rest) = ethernet::split(frame)?;
        if kind != ethernet::TYPE_ARP {
            return Err(Drop::NotIp);
        }
        let (p, _) = rest.split_first_chunk::<PACKET_LEN>().ok_or(Drop::Truncated)?;
        let operation = match [p[6], p[7]] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(Drop::NotIp),
        };
        if p[..6] != ETHERNET_IPV4 {
            return Err(Drop::NotIp);
        }
        let sender_ip = Ipv4Addr::new(p[14], p[15], p[16], p[17]);
        // RFC 1812 3.3.2: never believe that an address belongs to a group of stations.
        if p[8] & 1 == 1 || sender_ip.is_multicast() || sender_ip.is_broadcast() {
            return Err(Drop::BadAddress);
        }
        Ok(Self {
            operation,
            sender_hw: [p[8], p[9], p[10], p[11], p[12], p[13]],
            sender_ip,
            target_hw: [p[18], p[19], p[20], p[21], p[22], p[23]],
            target_ip: Ipv4Addr::new(p[24], p[25], p[26], p[27]),
        })
    }

    /// Writes the frame: a request to everyone, a reply to its target.
    pub fn emit(&self, out: &mut [u8; FRAME_LEN]) {
        let (operation, dst) = match self.operation {
            Operation::Request => (1, BROADCAST),
            Operation::Reply => (2, self.target_hw),
        };
        let link = Link { src: self.sender_hw, dst };
        let Some((head, packet)) = out.split_first_chunk_mut() else { return };
        ethernet::emit(&link, ethernet::TYPE_ARP, head);
        let pieces: [&[u8]; 6] = [
            &ETHERNET_IPV4,
            &[0, operation],
            &self.sender_hw,
            &self.sender_ip.octets(),
            &self.target_hw,
            &self.target_ip.octets(),
        ];
        for (to, from) in packet.iter_mut().zip(pieces.into_iter().flatten()) {
            *to = *from;
        }
    }

    /// The answer of the station that has `own_ip` at `own_hw`, if this asks for it.
    pub fn answer(&self, own_hw: [u8; 6], own_ip: Ipv4Addr) -> Option<Self> {
        (self.operation == Operation::Request && self.target_ip == own_ip).then_some(Self {
            operation: Operation::Reply,
            sender_hw: own_hw,
            sender_ip: own_ip,
            target_hw: self.sender_hw,
            target_ip: self.sender_ip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Packet, FRAME_LEN};
    use crate::wire::Drop;
    use std::net::Ipv4Addr;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn request() -> Packet {
        Packet {
            operation: Operation::Request,
            sender_hw: PEER,
            sender_ip: Ipv4Addr::new(10, 0, 0, 2),
            target_hw: [0; 6],
            target_ip: Ipv4Addr::new(10, 0, 0, 1),
        }
    }

    #[test]
    fn the_bytes_are_those_of_rfc_826() {
        let mut out = [0; FRAME_LEN];
        request().emit(&mut out);
        let expected = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x02\x08\x06\
            \0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x02\x0a\0\0\x02\0\0\0\0\0\0\x0a\0\0\x01";
        assert_eq!(&out, expected);
        assert_eq!(Packet::parse(&out), Ok(request()));
    }

    #[test]
    fn only_the_owner_answers_and_only_requests() {
        let own_ip = Ipv4Addr::new(10, 0, 0, 1);
        let reply = request().answer(OWN, own_ip).unwrap();
        let mut out = [0; FRAME_LEN];
        reply.emit(&mut out);
        assert_eq!(out[..12], [PEER, OWN].concat());
        assert_eq!(Packet::parse(&out), Ok(reply));
        assert_eq!((reply.sender_ip, reply.target_ip), (own_ip, Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(reply.answer(PEER, reply.target_ip), None);
        assert_eq!(request().answer(OWN, Ipv4Addr::new(10, 0, 0, 9)), None);
    }

    #[test]
    fn what_is_no_arp_is_refused() {
        let mut frame = [0; FRAME_LEN];
        request().emit(&mut frame);
        for len in 0..FRAME_LEN {
            assert_eq!(Packet::parse(&frame[..len]), Err(Drop::Truncated));
        }
        // EtherType, hardware type, protocol type, both lengths, operation, sender's group bit.
        for (at, value, reason) in [
            (13, 0, Drop::NotIp),
            (15, 6, Drop::NotIp),
            (16, 9, Drop::NotIp),
            (18, 8, Drop::NotIp),
            (19, 16, Drop::NotIp),
            (21, 3, Drop::NotIp),
            (22, 0xff, Drop::BadAddress),
            (28, 224, Drop::BadAddress),
        ] {
            let mut bad = frame;
            bad[at] = value;
            assert_eq!(Packet::parse(&bad), Err(reason), "byte {at}");
        }
    }
}
