//! Ours against `etherparse` and `smoltcp::wire`: `cargo bench -p mtcp-engine --bench wire`.
//!
//! Each parser is asked for the same: addresses, ports, numbers, options and payload of a TCP
//! segment in an Ethernet frame, with every checksum verified. Then which of a list of bad frames
//! each takes. Figures are the best of the rounds: whatever else runs only adds.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark may

use mtcp_engine::device::{Caps, Medium, RxChecksum};
use mtcp_engine::wire::checksum::Sum;
use mtcp_engine::wire::{parse, Flags, Header, Link, Options, Parsed, Seq};
use std::hint::black_box;
use std::time::Instant;

/// Rounds of a measurement; one when `cargo test` only looks whether it runs.
fn rounds() -> usize {
    if std::env::args().any(|argument| argument == "--bench") {
        40
    } else {
        1
    }
}

const CAPS: Caps = Caps {
    medium: Medium::Ethernet,
    mtu: 65_535,
    rx_checksum: RxChecksum::Verify,
    tx_checksum: true,
    hw_addr: [2, 0, 0, 0, 0, 1],
};

fn main() {
    println!("parse, ns a frame               ours  smoltcp  etherparse");
    for (name, header, payload) in frames() {
        let frame = emitted(&header, &payload);
        assert!(ours(&frame) && with_smoltcp(&frame) && with_etherparse(&frame), "{name}");
        let times = [ours, with_smoltcp, with_etherparse].map(|parser| nanos(|| parser(&frame)));
        println!("{name:28} {:7.1} {:8.1} {:11.1}", times[0], times[1], times[2]);
    }
    println!("\nemit, ns a frame                ours  smoltcp  etherparse");
    for (name, header, payload) in frames() {
        let mut out = emitted(&header, &payload);
        let own = nanos(|| header.emit(&CAPS, [&payload, &[]], black_box(&mut out)));
        let other = nanos(|| emit_with_smoltcp(&header, &payload, black_box(&mut out)));
        let third = nanos(|| emit_with_etherparse(&header, &payload, black_box(&mut out)));
        println!("{name:28} {own:7.1} {other:8.1} {third:11.1}");
    }
    println!("\nchecksum, GB/s                  ours  smoltcp  etherparse");
    for len in [20, 64, 256, 1460, 8960, 65_535] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
        let own = nanos(|| Sum::default().bytes(black_box(&bytes)).finish());
        let other = nanos(|| {
            // Its sum is reached only through a packet type; this one sums all it is given.
            smoltcp::wire::Icmpv4Packet::new_unchecked(black_box(&bytes)).verify_checksum()
        });
        let third = nanos(|| {
            let sum = etherparse::checksum::Sum16BitWords::new();
            sum.add_slice(black_box(&bytes)).ones_complement()
        });
        let rate = |nanos: f64| len as f64 / nanos;
        println!("{len:6} bytes {:24.1} {:8.1} {:11.1}", rate(own), rate(other), rate(third));
    }
    println!("\nbad frames taken                ours  smoltcp  etherparse");
    for (name, frame) in bad_frames() {
        let verdict = |taken| if taken { "TAKEN" } else { "-" };
        println!(
            "{name:32} {:>4} {:>8} {:>11}",
            verdict(ours(&frame)),
            verdict(with_smoltcp(&frame)),
            verdict(with_etherparse(&frame))
        );
    }
}

/// The time of one call, in nanoseconds: the best of the rounds.
fn nanos<R>(mut call: impl FnMut() -> R) -> f64 {
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed().as_micros() < 50 * rounds() as u128 {
        black_box(call());
        calls += 1;
    }
    let round = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    (0..rounds()).map(round).fold(f64::INFINITY, f64::min)
}

/// The traffic of a server: handshake, acknowledgment, request, full segment, both families.
fn frames() -> Vec<(&'static str, Header, Vec<u8>)> {
    let data = Options { timestamps: Some((1, 2)), ..Options::default() };
    let syn = Options { mss: Some(1460), wscale: Some(7), sack_permitted: true, ..data };
    let block = Some((Seq(5), Seq(9)));
    let sack = Options { sack: [block, block, block, None], ..data };
    let v4 = ("10.0.0.1:80", "10.0.0.2:4000");
    let v6 = ("[fd00::1]:80", "[fd00::2]:4000");
    let header = |(src, dst): (&str, &str), flags, options| Header {
        link: Link { src: [2, 0, 0, 0, 0, 2], dst: CAPS.hw_addr },
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        seq: Seq(1000),
        ack: Seq(2000),
        flags,
        wnd: 512,
        options,
        urgent: 0,
        ecn: 0,
        dscp: 0,
        hop_limit: 64,
        ip_id: 1,
    };
    let push = Flags::ACK | Flags::PSH;
    vec![
        ("v4 SYN, all options", header(v4, Flags::SYN, syn), vec![]),
        ("v4 ACK, timestamps", header(v4, Flags::ACK, data), vec![]),
        ("v4 ACK, three SACK blocks", header(v4, Flags::ACK, sack), vec![]),
        ("v4 64 bytes", header(v4, push, data), vec![7; 64]),
        ("v4 1448 bytes", header(v4, push, data), vec![7; 1448]),
        ("v6 64 bytes", header(v6, push, data), vec![7; 64]),
        ("v6 1428 bytes", header(v6, push, data), vec![7; 1428]),
        ("v4 64000 bytes", header(v4, push, data), vec![7; 64_000]),
    ]
}

fn emitted(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; header.len(CAPS.medium) + payload.len()];
    header.emit(&CAPS, [payload, &[]], &mut frame);
    frame
}

fn ours(frame: &[u8]) -> bool {
    let parsed = parse(black_box(frame), black_box(&CAPS));
    matches!(black_box(&parsed), Ok(Parsed::Tcp(_)))
}

fn with_smoltcp(frame: &[u8]) -> bool {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet,
        Ipv6Repr, TcpPacket, TcpRepr,
    };
    let sums = ChecksumCapabilities::default();
    let parse_frame = || -> smoltcp::wire::Result<bool> {
        let frame = EthernetFrame::new_checked(black_box(frame))?;
        let (src, dst, protocol, payload): (IpAddress, IpAddress, _, _) = match frame.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload())?;
                let repr = Ipv4Repr::parse(&packet, &sums)?;
                (repr.src_addr.into(), repr.dst_addr.into(), repr.next_header, packet.payload())
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload())?;
                let repr = Ipv6Repr::parse(&packet)?;
                (repr.src_addr.into(), repr.dst_addr.into(), repr.next_header, packet.payload())
            }
            _ => return Ok(false),
        };
        if protocol != IpProtocol::Tcp {
            return Ok(false);
        }
        let packet = TcpPacket::new_checked(payload)?;
        let repr = TcpRepr::parse(&packet, &src, &dst, &sums)?;
        black_box(&repr);
        Ok(true)
    };
    parse_frame().unwrap_or(false)
}

fn with_etherparse(frame: &[u8]) -> bool {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let Ok(sliced) = SlicedPacket::from_ethernet(black_box(frame)) else { return false };
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return false };
    let expected = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            if header.to_header().calc_header_checksum() != header.header_checksum() {
                return false;
            }
            tcp.calc_checksum_ipv4(header.source(), header.destination())
        }
        Some(NetSlice::Ipv6(ip)) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
        }
        _ => return false,
    };
    let options_are_fine = tcp.options_iterator().all(|option| black_box(option).is_ok());
    black_box((tcp.source_port(), tcp.sequence_number(), tcp.window_size(), tcp.payload()));
    options_are_fine && expected == Ok(tcp.checksum())
}

fn emit_with_smoltcp(header: &Header, payload: &[u8], out: &mut [u8]) {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet,
        Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
        TcpTimestampRepr,
    };
    let is_v4 = header.dst.is_ipv4();
    let sums = ChecksumCapabilities::default();
    let options = &header.options;
    let syn = header.flags.contains(Flags::SYN);
    let block = |n: usize| options.sack[n].map(|(left, right)| (left.0, right.0));
    let tcp = TcpRepr {
        src_port: header.src.port(),
        dst_port: header.dst.port(),
        control: if syn { TcpControl::Syn } else { TcpControl::Psh },
        seq_number: TcpSeqNumber(header.seq.0 as i32),
        ack_number: (!syn).then_some(TcpSeqNumber(header.ack.0 as i32)),
        window_len: header.wnd,
        window_scale: options.wscale,
        max_seg_size: options.mss,
        sack_permitted: options.sack_permitted,
        sack_ranges: [block(0), block(1), block(2)],
        timestamp: options.timestamps.map(|(val, ecr)| TcpTimestampRepr::new(val, ecr)),
        payload,
    };
    let mut frame = EthernetFrame::new_unchecked(out);
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(header.link.src),
        dst_addr: EthernetAddress(header.link.dst),
        ethertype: if is_v4 { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 },
    };
    ethernet.emit(&mut frame);
    let (next_header, payload_len, hop_limit) = (IpProtocol::Tcp, tcp.buffer_len(), 64);
    match (header.src, header.dst) {
        (std::net::SocketAddr::V4(src), std::net::SocketAddr::V4(dst)) => {
            let (src_addr, dst_addr) = (*src.ip(), *dst.ip());
            let ip = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet, &sums);
            let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
            tcp.emit(&mut segment, &src_addr.into(), &dst_addr.into(), &sums);
        }
        (std::net::SocketAddr::V6(src), std::net::SocketAddr::V6(dst)) => {
            let (src_addr, dst_addr) = (*src.ip(), *dst.ip());
            let ip = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet);
            let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
            tcp.emit(&mut segment, &src_addr.into(), &dst_addr.into(), &sums);
        }
        _ => {}
    }
}

fn emit_with_etherparse(header: &Header, payload: &[u8], out: &mut [u8]) {
    use etherparse::{PacketBuilder, TcpOptionElement as Element};
    let options = &header.options;
    let mut elements = [const { Element::Noop }; 12];
    let mut count = 0;
    let mut add = |element| {
        elements[count] = element;
        count += 1;
    };
    if let Some(mss) = options.mss {
        add(Element::MaximumSegmentSize(mss));
    }
    if let Some(shift) = options.wscale {
        add(Element::WindowScale(shift));
    }
    if options.sack_permitted {
        add(Element::SelectiveAcknowledgementPermitted);
    }
    if let Some((value, echo)) = options.timestamps {
        add(Element::Timestamp(value, echo));
    }
    if let [Some(first), rest @ .., _] = options.sack {
        let pair = |(left, right): (Seq, Seq)| (left.0, right.0);
        let rest = [rest[0].map(pair), rest[1].map(pair), None];
        add(Element::SelectiveAcknowledgement(pair(first), rest));
    }
    let ethernet = PacketBuilder::ethernet2(header.link.src, header.link.dst);
    let ip = match (header.src, header.dst) {
        (std::net::SocketAddr::V4(src), std::net::SocketAddr::V4(dst)) => {
            ethernet.ipv4(src.ip().octets(), dst.ip().octets(), 64)
        }
        (std::net::SocketAddr::V6(src), std::net::SocketAddr::V6(dst)) => {
            ethernet.ipv6(src.ip().octets(), dst.ip().octets(), 64)
        }
        _ => return,
    };
    let tcp = ip.tcp(header.src.port(), header.dst.port(), header.seq.0, header.wnd);
    let tcp = if header.flags.contains(Flags::SYN) { tcp.syn() } else { tcp.ack(header.ack.0) };
    let _ = black_box(tcp.options(&elements[..count]).unwrap().write_to_slice(out, payload));
}

/// Frames that a TCP must not see.
fn bad_frames() -> Vec<(&'static str, Vec<u8>)> {
    let (_, header, payload) = frames().swap_remove(3);
    let (_, header_v6, _) = frames().swap_remove(5);
    let good = emitted(&header, &payload);
    let good_v6 = emitted(&header_v6, &payload);
    let bent = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        edit(&mut frame);
        repair(&mut frame);
        frame
    };
    let flipped = |at: usize| {
        let mut frame = good.clone();
        frame[at] ^= 1;
        frame
    };
    vec![
        ("IP checksum wrong", flipped(22)),
        ("TCP checksum wrong", flipped(100)),
        ("cut off", good[..90].to_vec()),
        ("first fragment", bent(&|frame| frame[20] = 0x20)),
        ("later fragment", bent(&|frame| frame[21] = 8)),
        ("from a multicast address", bent(&|frame| frame[26] = 224)),
        ("from 127.0.0.1 off a network", bent(&|frame| frame[26] = 127)),
        ("to the broadcast address", bent(&|frame| frame[30..34].fill(255))),
        ("to another station", bent(&|frame| frame[0] = 6)),
        (
            "source route",
            bent(&|frame| {
                frame.splice(34..34, [131, 3, 4, 0]);
                frame[14] = 0x46;
            }),
        ),
        ("TCP option of length 0", bent(&|frame| frame[55..57].copy_from_slice(&[99, 0]))),
        ("TCP option overruns", bent(&|frame| frame[55..57].copy_from_slice(&[99, 40]))),
        ("TCP offset too small", bent(&|frame| frame[46] = 0x40)),
        ("TCP offset too large", {
            let mut frame = bent(&|frame| frame.truncate(66));
            frame[46] = 0xf0;
            repair(&mut frame);
            frame
        }),
        ("v4-mapped address in IPv6", {
            let mut frame = good_v6.clone();
            frame[22..38].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]);
            repair(&mut frame);
            frame
        }),
    ]
}

/// Makes the lengths and checksums of a frame with a TCP segment right.
fn repair(frame: &mut [u8]) {
    let packet = &mut frame[14..];
    let len = packet.len();
    let (header_len, addresses) = if packet[0] >> 4 == 4 {
        let header_len = usize::from(packet[0] & 15) * 4;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[10..12].fill(0);
        let check = Sum::default().bytes(&packet[..header_len]).finish();
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        (header_len, packet[12..20].to_vec())
    } else {
        (40, packet[8..40].to_vec())
    };
    let segment = &mut packet[header_len..];
    segment[16..18].fill(0);
    let sum = Sum::default().pseudo_header(&addresses, 6, segment.len());
    let check = sum.bytes(segment).finish();
    segment[16..18].copy_from_slice(&check.to_be_bytes());
}
