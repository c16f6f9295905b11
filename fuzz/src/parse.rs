//! Every door of the parser: Ethernet and bare IP, each kind of checksum trust, ARP, NDP, ICMP.
//!
//! The first byte chooses the device, the rest is the frame. Random bytes seldom have a right
//! checksum, so a bit of the first byte says that the lengths and checksums are repaired first:
//! the harm gets past them.

use mtcp_engine::device::{Caps, Medium, RxChecksum};
use mtcp_engine::wire::repair::repair;
use mtcp_engine::wire::{arp, ndp, parse, Flags, IcmpKind, Options, Parsed, Segment};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Reads `data` as a frame in every way there is.
pub fn run(data: &[u8]) {
    let Some((&choice, frame)) = data.split_first() else { return };
    let medium = if choice & 1 == 0 { Medium::Ip } else { Medium::Ethernet };
    let rx = [RxChecksum::Verify, RxChecksum::AcceptPartial, RxChecksum::Trusted];
    let rx_checksum = rx.get(usize::from(choice >> 1 & 3)).copied().unwrap_or(RxChecksum::Trusted);
    let caps = Caps { medium, mtu: 1500, rx_checksum, tx_checksum: true, hw_addr: OWN };
    let mut frame = frame.to_vec();
    if choice & 8 != 0 {
        let at = if medium == Medium::Ethernet { 14 } else { 0 };
        repair(frame.get_mut(at..).unwrap_or_default());
    }
    arp_round_trip(&frame);
    ndp_round_trip(&frame);
    match parse(&frame, &caps) {
        Ok(Parsed::Tcp(segment)) => check_segment(&segment, &frame),
        Ok(Parsed::Icmp(error)) => {
            assert_eq!(error.local.is_ipv4(), error.remote.is_ipv4());
            let _ = error.is_hard();
            if let IcmpKind::FragNeeded { mtu } = error.kind {
                assert!(error.local.is_ipv6() || mtu <= 0xffff, "16 bits hold no more: {mtu}");
            }
        }
        Err(reason) => assert!(!reason.name().is_empty()),
    }
}

/// What `parse` promises of all that it lets pass.
fn check_segment(segment: &Segment<'_>, frame: &[u8]) {
    assert_eq!(segment.src.is_ipv4(), segment.dst.is_ipv4());
    assert!(segment.payload.len() + 40 <= frame.len());
    for address in [segment.src.ip(), segment.dst.ip()] {
        assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
    }
    check_options(&segment.options, segment.flags);
}

/// What holds of the options of any segment that was let pass.
pub(crate) fn check_options(options: &Options, flags: Flags) {
    assert!(options.wscale.is_none_or(|shift| shift <= 14), "RFC 7323 2.3: {options:?}");
    assert!(options.len() <= 40 && options.len() % 4 == 0, "{options:?}");
    if flags.contains(Flags::SYN) {
        assert!(options.sack.iter().all(Option::is_none), "{options:?}");
    } else {
        let of_a_syn = options.mss.is_some() || options.wscale.is_some() || options.sack_permitted;
        assert!(!of_a_syn, "{options:?}");
    }
}

fn arp_round_trip(frame: &[u8]) {
    let Ok(packet) = arp::Packet::parse(frame) else { return };
    let _ = packet.answer(OWN, packet.target_ip);
    let mut out = [0; arp::FRAME_LEN];
    packet.emit(&mut out);
    assert_eq!(arp::Packet::parse(&out), Ok(packet));
}

fn ndp_round_trip(frame: &[u8]) {
    let Ok(message) = ndp::Message::parse(frame) else { return };
    // A host has no such address.
    if message.target.is_unspecified() || message.target.is_loopback() {
        return;
    }
    let Some(answer) = message.answer(OWN, message.target) else { return };
    let mut out = [0; ndp::FRAME_LEN];
    answer.emit(OWN, message.hw.unwrap_or_default(), &mut out);
    assert_eq!(ndp::Message::parse(&out).map(|read| read.target), Ok(answer.target));
}
