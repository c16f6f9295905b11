//! A hundred thousand frames from someone who means harm: valid ones, bent where it hurts.
//!
//! Nothing may panic; whatever passes must keep the promises of `parse`. Every frame is made from
//! the seed, and the message of a failure names it: `HOSTILE_SEED=n cargo test --test wire_hostile`.

#![allow(clippy::panic, clippy::unwrap_used)] // a test may

use mtcp_engine::device::{Caps, Medium, RxChecksum};
use mtcp_engine::random::SplitMix64;
use mtcp_engine::wire::repair::repair;
use mtcp_engine::wire::{arp, ndp, parse, Drop, Flags, Header, Link, Options, Parsed, Seq};
use std::panic::{catch_unwind, AssertUnwindSafe};

const ITERATIONS: u64 = 100_000;
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Numbers at which length arithmetic goes wrong.
const EDGES: [u8; 12] = [0, 1, 2, 4, 5, 8, 19, 40, 0x7f, 0x80, 0xfe, 0xff];

struct Random(SplitMix64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

fn header(random: &mut Random, v6: bool) -> Header {
    let (src, dst) =
        if v6 { ("[fd00::1]:80", "[fd00::2]:99") } else { ("10.0.0.1:80", "10.0.0.2:9") };
    let mut options = Options::default();
    let flags = Flags(random.next() as u8);
    if random.one_in(2) {
        options.timestamps = Some((1, 2));
    }
    if random.one_in(2) {
        options.mss = Some(1460);
        options.wscale = Some(7);
        options.sack_permitted = true;
    } else {
        options.sack = [Some((Seq(1), Seq(2))), None, Some((Seq(5), Seq(9))), None];
    }
    Header {
        link: Link { src: [2; 6], dst: OWN },
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        seq: Seq(random.next() as u32),
        ack: Seq(7),
        flags,
        wnd: 100,
        options,
        urgent: 0,
        ecn: 0,
        dscp: 0,
        hop_limit: 64,
        ip_id: 1,
    }
}

/// A TCP packet, or an ICMP error about one, or one behind extension headers or IP options.
fn packet(random: &mut Random, v6: bool) -> Vec<u8> {
    let caps = caps(Medium::Ip, RxChecksum::Verify);
    let header = header(random, v6);
    let payload = vec![random.next() as u8; random.below(80)];
    let mut packet = vec![0; header.len(Medium::Ip) + payload.len()];
    header.emit(&caps, [&payload, &[]], &mut packet);
    let ip_len = if v6 { 40 } else { 20 };
    match random.below(4) {
        0 => packet,
        1 => {
            let kind = if v6 { 1 + random.below(4) } else { [3, 11, 12][random.below(3)] };
            let mut outer = packet[..ip_len].to_vec();
            outer[if v6 { 6 } else { 9 }] = if v6 { 58 } else { 1 };
            outer.extend([kind as u8, random.below(6) as u8, 0, 0, 0, 0, 5, 0]);
            outer.extend(&packet);
            outer
        }
        _ if v6 => {
            let mut next = 6;
            let mut chain = packet.split_off(40);
            for _ in 0..random.below(4) {
                let mut extension = vec![next, 0, 1, 4, 0, 0, 0, 0];
                next = [0, 43, 44, 60][random.below(4)];
                if next == 43 || next == 44 {
                    extension[2..].fill(0);
                }
                extension.extend(chain);
                chain = extension;
            }
            packet[6] = next;
            packet.extend(chain);
            packet
        }
        _ => {
            let words = random.below(11);
            let rest = packet.split_off(20);
            packet[0] = 0x45 + words as u8;
            packet.extend((0..words * 4).map(|_| EDGES[random.below(EDGES.len())]));
            packet.extend(rest);
            packet
        }
    }
}

/// Bends one to four things.
fn mutate(random: &mut Random, packet: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let len = packet.len();
        let at = random.below(len);
        match random.below(6) {
            0 => packet.truncate(at),
            1 => packet.insert(at, random.next() as u8),
            2 if len > 0 => packet[at] ^= 1 << random.below(8),
            3 if len > 0 => packet[at] = EDGES[random.below(EDGES.len())],
            4 => drop(packet.drain(at..(at + random.below(9)).min(len))),
            _ => packet.extend_from_within(at..),
        }
    }
}

fn caps(medium: Medium, rx_checksum: RxChecksum) -> Caps {
    Caps { medium, mtu: 1500, rx_checksum, tx_checksum: true, hw_addr: OWN }
}

/// What `parse` promises about all that it lets pass.
fn check_promises(parsed: &Parsed<'_>, frame: &[u8]) {
    let Parsed::Tcp(segment) = parsed else { return };
    assert_eq!(segment.src.is_ipv4(), segment.dst.is_ipv4());
    assert!(segment.payload.len() + 40 <= frame.len());
    let options = &segment.options;
    assert!(options.wscale.is_none_or(|shift| shift <= 14));
    assert!(options.len() <= 40);
    if segment.flags.contains(Flags::SYN) {
        assert!(options.sack.iter().all(Option::is_none));
    } else {
        assert!(options.mss.is_none() && options.wscale.is_none() && !options.sack_permitted);
    }
    for address in [segment.src.ip(), segment.dst.ip()] {
        assert!(!address.is_unspecified() && !address.is_multicast());
    }
}

#[test]
fn nothing_passes_that_should_not_and_nothing_panics() {
    let first = std::env::var("HOSTILE_SEED").ok().map(|seed| seed.parse().unwrap());
    let (start, count) = first.map_or((0, ITERATIONS), |seed: u64| (seed, 1));
    let mut dropped = [0_u64; Drop::COUNT];
    let (mut segments, mut errors) = (0, 0);
    for seed in start..start + count {
        let mut random = Random(SplitMix64(seed));
        let v6 = random.one_in(2);
        let mut frame = packet(&mut random, v6);
        mutate(&mut random, &mut frame);
        if !random.one_in(4) {
            repair(&mut frame);
        }
        let ethernet = random.one_in(4);
        if ethernet {
            let kind = if v6 { [0x86, 0xdd] } else { [8, 0] };
            frame.splice(0..0, [&OWN[..], &[2; 6], &kind].concat());
        }
        let medium = if ethernet { Medium::Ethernet } else { Medium::Ip };
        let rx = [RxChecksum::Verify, RxChecksum::AcceptPartial, RxChecksum::Trusted];
        let caps = caps(medium, rx[random.below(3)]);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _ = arp::Packet::parse(&frame);
            let _ = ndp::Message::parse(&frame);
            let parsed = parse(&frame, &caps);
            if let Ok(parsed) = &parsed {
                check_promises(parsed, &frame);
            }
            parsed
        }));
        match outcome {
            Ok(Ok(Parsed::Tcp(_))) => segments += 1,
            Ok(Ok(Parsed::Icmp(_))) => errors += 1,
            Ok(Err(reason)) => dropped[reason.index()] += 1,
            Err(_) => panic!("HOSTILE_SEED={seed}, {caps:?}: {frame:02x?}"),
        }
    }
    if first.is_none() {
        // The generator earns its name only if every check is reached, and some harm gets past.
        assert!(segments > 5_000 && errors > 1_000, "{segments} segments, {errors} errors");
        for reason in Drop::ALL {
            let unreachable = [Drop::NotIp, Drop::OtherHost, Drop::LinkBroadcast].contains(reason);
            let hits = dropped[reason.index()];
            assert!(unreachable || hits > 20, "{} was hit {hits} times", reason.name());
        }
    }
}
