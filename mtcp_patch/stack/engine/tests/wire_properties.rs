//! Laws of `engine::wire` over everything that proptest can think of.
//!
//! More cases: `PROPTEST_CASES=100000 cargo test -p mtcp-engine --release --test wire_properties`.

#![allow(clippy::panic, clippy::unwrap_used)] // a test may

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use mtcp_engine::device::{Caps, Medium, RxChecksum};
use mtcp_engine::wire::checksum::Sum;
use mtcp_engine::wire::{
    arp, ndp, parse, Drop, Flags, Header, Link, Options, Parsed, Segment, Seq,
};
use proptest::array::uniform6;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn caps(medium: Medium, rx_checksum: RxChecksum) -> Caps {
    Caps { medium, mtu: 65_535, rx_checksum, tx_checksum: true, hw_addr: OWN }
}

fn medium() -> impl Strategy<Value = Medium> {
    prop_oneof![Just(Medium::Ethernet), Just(Medium::Ip)]
}

fn rx_checksum() -> impl Strategy<Value = RxChecksum> {
    prop_oneof![
        Just(RxChecksum::Verify),
        Just(RxChecksum::AcceptPartial),
        Just(RxChecksum::Trusted)
    ]
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = (1..=223_u8, any::<[u8; 3]>(), any::<u16>())
        .prop_filter("127/8 stays inside the host", |(first, ..)| *first != 127)
        .prop_map(|(a, [b, c, d], port)| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)));
    let v6 = (0x2000..0xfeff_u16, any::<[u16; 7]>(), any::<u16>()).prop_map(|(a, rest, port)| {
        let [b, c, d, e, f, g, h] = rest;
        SocketAddr::from((Ipv6Addr::new(a, b, c, d, e, f, g, h), port))
    });
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
}

/// Options as a segment with these flags may carry them.
fn options(flags: Flags) -> impl Strategy<Value = Options> {
    let syn = flags.contains(Flags::SYN);
    let block = any::<(u32, u32)>().prop_map(|(left, right)| (Seq(left), Seq(right)));
    let parts = (
        option::of(any::<u16>()),
        option::of(0..=14_u8),
        any::<bool>(),
        option::of(any::<(u32, u32)>()),
        vec(block, 0..=4),
    );
    parts.prop_map(move |(mss, wscale, sack_permitted, timestamps, blocks)| {
        let mut options = Options { timestamps, ..Options::default() };
        if syn {
            options = Options { mss, wscale, sack_permitted, ..options };
        } else {
            // Beside timestamps there is room for three.
            let room = if timestamps.is_some() { 3 } else { 4 };
            for (to, from) in options.sack.iter_mut().zip(blocks.into_iter().take(room)) {
                *to = Some(from);
            }
        }
        options
    })
}

fn header() -> impl Strategy<Value = Header> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), 0..=3_u8, 1..=255_u8, any::<u16>());
    (addresses(), any::<u8>(), uniform6(any::<u8>()), numbers).prop_flat_map(
        |((src, dst), flags, hw, (seq, ack, wnd, ecn, hop_limit, ip_id))| {
            options(Flags(flags)).prop_map(move |options| Header {
                link: Link { src: hw, dst: OWN },
                src,
                dst,
                seq: Seq(seq),
                ack: Seq(ack),
                flags: Flags(flags),
                wnd,
                options,
                urgent: ip_id,
                ecn,
                dscp: hop_limit & 0xfc,
                hop_limit,
                ip_id,
            })
        },
    )
}

/// The frame, with `cut` of the payload in the first half of the ring.
fn emitted(header: &Header, caps: &Caps, payload: &[u8], cut: usize) -> Vec<u8> {
    let (first, second) = payload.split_at(cut.min(payload.len()));
    let mut frame = vec![0xa5; header.len(caps.medium) + payload.len()];
    header.emit(caps, [first, second], &mut frame);
    frame
}

fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

proptest! {
    #[test]
    fn emit_then_parse_is_identity(
        header in header(),
        medium in medium(),
        rx in rx_checksum(),
        payload in vec(any::<u8>(), 0..3000),
        cut in 0..3000_usize,
        padding in vec(any::<u8>(), 0..50),
    ) {
        let caps = caps(medium, rx);
        let mut frame = emitted(&header, &caps, &payload, cut);
        frame.extend(padding);
        let parsed = parse(&frame, &caps);
        let Ok(Parsed::Tcp(segment)) = parsed else { panic!("{parsed:?}") };
        let link = if medium == Medium::Ip { Link::default() } else { header.link };
        prop_assert_eq!(segment.link, link);
        prop_assert_eq!((segment.src, segment.dst), (header.src, header.dst));
        prop_assert_eq!((segment.seq, segment.ack), (header.seq, header.ack));
        prop_assert_eq!((segment.flags, segment.wnd), (header.flags, header.wnd));
        prop_assert_eq!(segment.options, header.options);
        prop_assert_eq!((segment.ecn, segment.urgent), (header.ecn, header.urgent));
        prop_assert_eq!(segment.payload, payload);
    }

    #[test]
    fn no_frame_is_taken_short(
        header in header(),
        medium in medium(),
        rx in rx_checksum(),
        payload in vec(any::<u8>(), 0..100),
    ) {
        let caps = caps(medium, rx);
        let frame = emitted(&header, &caps, &payload, 0);
        for len in 0..frame.len() {
            prop_assert_eq!(parse(&frame[..len], &caps), Err(Drop::Truncated), "{} bytes", len);
        }
    }

    #[test]
    fn a_flipped_bit_never_changes_what_the_checksums_cover(
        header in header(),
        payload in vec(any::<u8>(), 0..64),
        bit in any::<prop::sample::Index>(),
    ) {
        let caps = caps(Medium::Ip, RxChecksum::Verify);
        let frame = emitted(&header, &caps, &payload, 0);
        let Ok(Parsed::Tcp(before)) = parse(&frame, &caps) else { panic!() };
        let bit = bit.index(frame.len() * 8);
        let mut bent = frame.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        // The IPv6 header has no checksum of its own: traffic class, flow label and hop limit
        // are nobody's to protect. Everything else shows.
        if let Ok(after) = parse(&bent, &caps) {
            prop_assert!(header.dst.is_ipv6() && (bit / 8 < 4 || bit / 8 == 7), "bit {bit}");
            let Parsed::Tcp(after) = after else { panic!("{after:?}") };
            prop_assert_eq!(Segment { ecn: before.ecn, ..after }, before);
        }
    }

    #[test]
    fn anything_may_come(
        bytes in vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(0x45), Just(0x46), Just(0x60), any::<u8>()],
        next in prop_oneof![Just(6), Just(1), Just(58), Just(0), Just(43), Just(44), Just(60)],
        medium in medium(),
        rx in rx_checksum(),
    ) {
        let caps = caps(medium, rx);
        let _ = parse(&bytes, &caps);
        let _ = arp::Packet::parse(&bytes);
        let _ = ndp::Message::parse(&bytes);
        // Once more with a head that gets further.
        let mut bytes = bytes;
        let at = if medium == Medium::Ethernet { 14 } else { 0 };
        if let Some(packet) = bytes.get_mut(at..).filter(|packet| packet.len() >= 40) {
            let len = packet.len() as u16;
            packet[0] = version;
            if version >> 4 == 4 {
                packet[2..4].copy_from_slice(&len.to_be_bytes());
                packet[6..8].fill(0);
                packet[9] = next;
            } else {
                packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
                packet[6] = next;
            }
        }
        if at == 14 && bytes.len() > 14 {
            bytes[..6].copy_from_slice(&OWN);
            let kind = if bytes[14] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
            bytes[12..14].copy_from_slice(&kind);
        }
        let _ = parse(&bytes, &caps);
        let _ = ndp::Message::parse(&bytes);
    }

    #[test]
    fn the_checksum_is_the_naive_one(bytes in vec(any::<u8>(), 0..5000), start in 0..9_usize) {
        let piece = bytes.get(start..).unwrap_or_default();
        prop_assert_eq!(Sum::default().bytes(piece).finish(), naive_checksum(piece));
    }

    #[test]
    fn arp_round_trips(
        request in any::<bool>(),
        mut sender_hw in uniform6(any::<u8>()),
        target_hw in uniform6(any::<u8>()),
        sender in 0..0xe000_0000_u32,
        target in any::<u32>(),
    ) {
        sender_hw[0] &= 0xfe;
        let operation = if request { arp::Operation::Request } else { arp::Operation::Reply };
        let packet = arp::Packet {
            operation,
            sender_hw,
            sender_ip: sender.into(),
            target_hw,
            target_ip: target.into(),
        };
        let mut frame = [0; arp::FRAME_LEN];
        packet.emit(&mut frame);
        prop_assert_eq!(arp::Packet::parse(&frame), Ok(packet));
    }
}
