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
