//! Hand-made packets for the tests of this module, written without the code under test.

use crate::device::{Caps, Medium, RxChecksum};
use std::vec;
use std::vec::Vec;

pub(crate) const V4_SRC: [u8; 4] = [10, 0, 0, 1];
pub(crate) const V4_DST: [u8; 4] = [10, 0, 0, 2];
pub(crate) const V6_SRC: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const V6_DST: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A device without Ethernet headers that verifies everything.
pub(crate) fn strict() -> Caps {
    Caps {
        medium: Medium::Ip,
        mtu: 1500,
        rx_checksum: RxChecksum::Verify,
        tx_checksum: true,
        hw_addr: [0; 6],
    }
}

/// The checksum as RFC 1071 1 words it, one 16-bit word at a time.
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet with these option bytes (a multiple of four).
pub(crate) fn v4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = ((header_len + payload.len()) as u16).to_be_bytes();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0, total[0], total[1]];
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(V4_SRC);
    packet.extend(V4_DST);
    packet.extend(options);
    fix_v4(&mut packet);
    packet.extend(payload);
    packet
}

/// Makes the header checksum right again.
pub(crate) fn fix_v4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header_len = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    let check = naive_checksum(&packet[..header_len]).to_be_bytes();
    packet[10..12].copy_from_slice(&check);
}

/// An IPv6 packet; `payload` begins with the header that `next` names.
pub(crate) fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
    packet.extend(V6_SRC);
    packet.extend(V6_DST);
    packet.extend(payload);
    packet
}

/// The pseudo-header of a packet between the addresses above.
pub(crate) fn pseudo_header(is_v6: bool, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = if is_v6 { [V6_SRC, V6_DST].concat() } else { [V4_SRC, V4_DST].concat() };
    bytes.extend([0, protocol]);
    bytes.extend((len as u32).to_be_bytes());
    bytes
}

/// A segment from port 1000 to port 2000 with a right checksum: SEQ 1, ACK 2, WND 3.
pub(crate) fn tcp(is_v6: bool, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let offset = ((20 + options.len()) / 4) as u8;
    let mut segment = vec![3, 232, 7, 208, 0, 0, 0, 1, 0, 0, 0, 2];
    segment.extend([offset << 4, flags, 0, 3, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    let pseudo = pseudo_header(is_v6, 6, segment.len());
    let check = naive_checksum(&[pseudo, segment.clone()].concat()).to_be_bytes();
    segment[16..18].copy_from_slice(&check);
    segment
}

/// Puts a right ICMP or ICMPv6 checksum into `message`.
pub(crate) fn fix_icmp(is_v6: bool, message: &mut [u8]) {
    message[2..4].fill(0);
    let pseudo = if is_v6 { pseudo_header(true, 58, message.len()) } else { Vec::new() };
    let check = naive_checksum(&[&pseudo, &*message].concat()).to_be_bytes();
    message[2..4].copy_from_slice(&check);
}
