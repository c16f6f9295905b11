//! RFC 3168: negotiation, marks on what we send, echo of what arrives, the window.

use super::*;
use crate::tcp::ecn::EcnMode;

const E: Flags = Flags::ECE;
const SEW: Flags = Flags(2 | 64 | 128);
const SAE: Flags = Flags(2 | 16 | 64);
const SAEW: Flags = Flags(2 | 16 | 64 | 128);
const ECT_0: u8 = 2;
const CE: u8 = 3;

fn with(ecn: EcnMode) -> Bench {
    Bench::with(Config { ecn, ..Config::default() }, 16)
}

/// An accepted connection with ECN.
fn accepted() -> (Bench, ConnId) {
    let mut b = with(EcnMode::Answer);
    b.peer(SEW, 0, 0, b"");
    assert_eq!(b.sent()[0].flags, SAE);
    b.peer(A, 1, 1, b"");
    let id = b.shard.accept(b.listener).unwrap();
    (b, id)
}

/// Codepoint, ECE and CWR of each.
fn marks(sent: &[Sent]) -> Vec<(u8, bool, bool)> {
    let has = |s: &Sent, flag| s.flags.contains(flag);
    sent.iter().map(|s| (s.ecn, has(s, Flags::ECE), has(s, Flags::CWR))).collect()
}

fn cwnd(b: &Bench, id: ConnId) -> u32 {
    b.shard.info(id).unwrap().cwnd_bytes / MSS as u32
}

/// RFC 3168 6.1.1, and Linux's `tcp_ecn`: 0 never, 1 always, 2 when asked.
#[test]
fn a_listener_answers_an_ecn_setup_syn_unless_switched_off() {
    for (mode, syn, ip_ecn, expected) in [
        (EcnMode::Answer, SEW, 0, SAE),
        (EcnMode::On, SEW, 0, SAE),
        (EcnMode::Off, SEW, 0, SA),
        (EcnMode::Answer, S, 0, SA),
        (EcnMode::Answer, Flags(2 | 64), 0, SA),
        (EcnMode::Answer, Flags(2 | 128), 0, SA),
        // Nobody may send a SYN that is ECN-capable.
        (EcnMode::Answer, SEW, ECT_0, SA),
    ] {
        let mut b = with(mode);
        b.peer_ecn = ip_ecn;
        b.peer(syn, 0, 0, b"");
        let sent = b.sent();
        assert_eq!((sent[0].flags, sent[0].ecn), (expected, 0), "{mode:?} {syn:?} {ip_ecn}");
    }
}

/// 6.1.1: a SYN offers, a SYN-ACK with ECE alone agrees.
#[test]
fn connecting_offers_when_told_to_and_believes_only_ece_alone() {
    for (mode, answer, syn, on) in [
        (EcnMode::On, SAE, SEW, true),
        (EcnMode::On, SA, SEW, false),
        (EcnMode::On, SAEW, SEW, false),
        (EcnMode::Answer, SAE, S, false),
        (EcnMode::Off, SAE, S, false),
    ] {
        let mut b = with(mode);
        let id = b.connect();
        let sent = b.sent();
        assert_eq!((sent[0].flags, sent[0].ecn), (syn, 0));
        b.peer(answer, 0, 1, b"");
        b.sent();
        b.send(id, &[1; MSS]).unwrap();
        assert_eq!(marks(&b.sent()), [(if on { ECT_0 } else { 0 }, false, false)], "{mode:?}");
    }
}

/// 6.1.1.1: a middlebox may have dropped the SYN for its flags.
#[test]
fn a_repeated_syn_offers_no_more() {
    let mut b = with(EcnMode::On);
    let id = b.connect();
    assert_eq!(b.sent()[0].flags, SEW);
    let (_, again) = b.next_sent(2_000_000);
    assert_eq!(again[0].flags, S);
    b.peer(SAE, 0, 1, b"");
    b.sent();
    b.send(id, &[1; MSS]).unwrap();
    assert_eq!(marks(&b.sent()), [(0, false, false)]);
}

/// Figure 8 of RFC 9293 with ECN: both ends offer, both agree.
#[test]
fn simultaneous_open_agrees() {
    let mut b = with(EcnMode::On);
    let id = b.connect();
    b.sent();
    b.peer(SEW, 0, 0, b"");
    assert_eq!(b.sent()[0].flags, SAE);
    b.peer(SAE, 0, 1, b"");
    b.sent();
    b.send(id, &[1; MSS]).unwrap();
    assert_eq!(marks(&b.sent()), [(ECT_0, false, false)]);
}

/// 6.1.4, 6.1.5: new data is ECN-capable; what is sent again, and pure acknowledgments, are not.
#[test]
fn only_new_data_is_ecn_capable() {
    let (mut b, id) = accepted();
    b.send(id, &[1; MSS]).unwrap();
    assert_eq!(marks(&b.sent()), [(ECT_0, false, false)]);
    let (_, again) = b.next_sent(2_000_000);
    assert_eq!(again[0].payload.len(), MSS);
    assert_eq!(marks(&again), [(0, false, false)]);
    b.peer(A, 1, 1 + MSS as u32, b"");
    b.peer(PA, 1, 1 + MSS as u32, b"hello");
    let (_, acks) = b.next_sent(100_000);
    assert_eq!((acks.len(), marks(&acks)), (1, std::vec![(0, false, false)]));
}

/// 6.1.3: ECE on every acknowledgment until CWR, the first at once.
/// RFC 9293 SHLD-8.
#[test]
fn congestion_experienced_is_echoed_until_cwr() {
    let (mut b, id) = accepted();
    let mut seq = 1;
    let mut data = |b: &mut Bench, flags, ecn| {
        b.peer_ecn = ecn;
        b.peer(flags, seq, 1, &[7; 100]);
        seq += 100;
        b.peer_ecn = 0;
    };
    data(&mut b, A, ECT_0);
    assert_eq!(marks(&b.sent()), [(0, false, false)]);
    data(&mut b, A, CE);
    assert_eq!(marks(&b.sent()), [(0, true, false)]);
    data(&mut b, A, ECT_0);
    b.send(id, b"answer").unwrap();
    assert_eq!(marks(&b.sent()), [(ECT_0, true, false)]);
    // CWR ends it, and is acknowledged at once although acknowledgments may wait by now.
    data(&mut b, A | Flags::CWR, ECT_0);
    assert_eq!(marks(&b.sent()), [(0, false, false)]);
    // A mark on the very segment with CWR is a new one.
    data(&mut b, A, CE);
    assert_eq!(marks(&b.sent()), [(0, true, false)]);
    data(&mut b, A | Flags::CWR, CE);
    assert_eq!(marks(&b.sent()), [(0, true, false)]);
}

/// What arrived before says nothing new about the path.
#[test]
fn old_data_with_ce_is_not_echoed() {
    let (mut b, _) = accepted();
    b.peer(A, 1, 1, &[7; 100]);
    b.sent();
    b.peer_ecn = CE;
    b.peer(A, 1, 1, &[7; 100]);
    assert_eq!(marks(&b.sent()), [(0, false, false)]);
}

/// Without ECN neither codepoint nor flags mean anything.
#[test]
fn without_agreement_nothing_is_echoed_or_obeyed() {
    let (mut b, id) = Bench::accepted();
    b.peer_ecn = CE;
    b.peer(A, 1, 1, &[7; 100]);
    assert_eq!(marks(&b.sent()), [(0, false, false)]);
    b.send(id, &[1; 4 * MSS]).unwrap();
    b.sent();
    b.peer(A | E, 101, 1 + MSS as u32, b"");
    assert!(cwnd(&b, id) >= 10);
}

/// 6.1.2: the window comes down as after a loss, once for what is in flight, and CWR says so on the
/// next new data only. Nothing is sent again.
#[test]
fn an_echo_reduces_the_window_once_a_round_trip() {
    let (mut b, id) = accepted();
    b.send(id, &[1; 10 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 10);
    let at = |segments: u32| 1 + segments * MSS as u32;
    b.send(id, &[1; 20 * MSS]).unwrap();
    let mut new = Vec::new();
    for n in 1..=9 {
        b.peer(A | E, 1, at(n), b"");
        new.extend(b.sent());
    }
    // CUBIC: 0.7 of ten, in proportion to what is acknowledged (RFC 6937).
    assert_eq!(cwnd(&b, id), 7);
    assert!(new.iter().all(|s| s.seq >= at(10)), "sent again");
    assert_eq!(new.len(), 6);
    let all = marks(&new);
    assert_eq!(all[0], (ECT_0, false, true));
    assert!(all[1..].iter().all(|m| *m == (ECT_0, false, false)), "{all:?}");
    // The rest of that flight ends the reduction; an echo of the next flight is another.
    b.peer(A, 1, at(11), b"");
    b.sent();
    assert_eq!(cwnd(&b, id), 7);
    b.peer(A | E, 1, at(12), b"");
    for n in 13..=17 {
        b.peer(A | E, 1, at(n), b"");
        b.sent();
    }
    assert!(cwnd(&b, id) <= 5, "{}", cwnd(&b, id));
}

/// With less in flight than the threshold the window is what is in flight and what the good
/// acknowledgment lets go (RFC 9937 6.2: slow start reduction bound). google's
/// cwnd-moderation-ecn-enter-cwr-no-moderation-700 is of a Linux that took the conservative bound
/// here, and has one less.
#[test]
fn an_echo_moderates_the_window_by_what_is_in_flight() {
    let (mut b, id) = accepted();
    b.send(id, &[1; 4 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 4);
    b.peer(A | E, 1, 1 + MSS as u32, b"");
    assert_eq!(cwnd(&b, id), 3 + 2);
}

/// An acknowledgment that is older than the last one says nothing new.
#[test]
fn an_old_echo_is_not_obeyed() {
    let (mut b, id) = accepted();
    b.send(id, &[1; 10 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 10);
    b.peer(A, 1, 1 + 2 * MSS as u32, b"");
    let before = cwnd(&b, id);
    b.peer(A | E, 1, 1 + MSS as u32, b"");
    assert_eq!(cwnd(&b, id), before);
}

/// 6.1.2: whatever reduces the window is told.
#[test]
fn a_timeout_is_told_by_cwr_on_the_next_new_data() {
    let (mut b, id) = accepted();
    b.send(id, &[1; MSS]).unwrap();
    b.sent();
    let (_, again) = b.next_sent(2_000_000);
    assert_eq!(marks(&again), [(0, false, false)]);
    b.peer(A, 1, 1 + MSS as u32, b"");
    b.send(id, &[1; 2 * MSS]).unwrap();
    let sent = marks(&b.sent());
    assert_eq!(sent, [(ECT_0, false, true), (ECT_0, false, false)]);
}
