//! Lengths and checksums of a bent packet made right again, so that the harm gets past them: for
//! tests and fuzz targets.

use super::checksum::Sum;
use super::protocol;

/// Makes the lengths and checksums of an IP packet right, as far as it has them.
pub fn repair(packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().map(|first| first >> 4) {
        Some(4) if len >= 20 => {
            packet[2..4].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            let header_len = (usize::from(packet[0] & 15) * 4).min(len);
            let (header, rest) = packet.split_at_mut(header_len);
            if header.len() < 20 {
                return;
            }
            header[10..12].fill(0);
            let check = Sum::default().bytes(header).finish();
            header[10..12].copy_from_slice(&check.to_be_bytes());
            repair_transport(header[9], &header[12..20], rest);
        }
        Some(6) if len >= 40 => {
            let (header, rest) = packet.split_at_mut(40);
            let rest_len = u16::try_from(rest.len()).unwrap_or(u16::MAX);
            header[4..6].copy_from_slice(&rest_len.to_be_bytes());
            let next = header[6];
            repair_transport(next, &header[8..40], rest);
        }
        _ => {}
    }
}

fn repair_transport(number: u8, addresses: &[u8], segment: &mut [u8]) {
    let (at, pseudo) = match number {
        protocol::TCP => (16, true),
        protocol::ICMPV6 => (2, true),
        protocol::ICMP => (2, false),
        _ => return,
    };
    let mut sum = Sum::default();
    if pseudo {
        sum = sum.pseudo_header(addresses, number, segment.len());
    }
    if let Some(field) = segment.get_mut(at..at + 2) {
        field.fill(0);
        let check = sum.bytes(segment).finish();
        segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
}
