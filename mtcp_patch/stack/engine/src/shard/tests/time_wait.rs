//! RFC 1337 (resets), RFC 6191 (new incarnations) and RFC 9293 3.10.7.4 in TIME-WAIT.

use super::*;
use crate::stats::Refusal;

/// A connection in TIME-WAIT; RCV.NXT is 2, relative. `held`: the application still has it.
fn time_wait(peer_options: Options, later: Options, held: bool) -> (Bench, ConnId) {
    let mut b = Bench::new();
    b.peer_options = peer_options;
    b.peer_later = later;
    let id = b.accept();
    if held {
        b.shard.shutdown(b.now, id, false, true).unwrap();
    } else {
        b.shard.close(b.now, id);
    }
    b.sent();
    b.peer(FA, 1, 2, b"");
    b.sent();
    assert_eq!(b.state(id), State::TimeWait);
    (b, id)
}

fn stamped(value: u32) -> Options {
    Options { mss: Some(1000), timestamps: Some((value, 0)), ..Options::default() }
}

/// RFC 1337 3 (F1): whether it is exact or not, whether the application still looks or not.
#[test]
fn a_reset_does_not_end_time_wait() {
    for held in [false, true] {
        let (mut b, id) = time_wait(Options::default(), Options::default(), held);
        for seq in [1, 2, 3] {
            b.peer(R, seq, 0, b"");
            b.peer(RA, seq, 2, b"");
        }
        assert_eq!(b.state(id), State::TimeWait);
        assert!(b.shard.stats().refused(Refusal::TimeWaitReset) >= 2, "held: {held}");
        while !b.next_sent(70_000_000).1.is_empty() {}
        assert_eq!(b.state(id), State::Closed);
    }
}

/// The hazard of RFC 1337 2: an old duplicate is answered, the peer resets, and all stays shut.
#[test]
fn time_wait_is_not_assassinated() {
    let (mut b, id) = time_wait(Options::default(), Options::default(), false);
    b.peer(PA, 0u32.wrapping_sub(50), 1, b"old duplicate");
    assert_eq!(b.brief(), [(A, 2, 2, 0)]);
    b.peer(R, 2, 0, b"");
    assert_eq!(b.state(id), State::TimeWait);
}

/// RFC 6191 2, its table: whether a SYN with this number and timestamp opens a new connection. The
/// old one ended at number 2 and timestamp 500.
#[test]
fn new_incarnations_are_told_from_old_syns() {
    let table = [
        // Later timestamp: whatever the number.
        (Some(501), 100, true),
        (Some(501), 0u32.wrapping_sub(100), true),
        // The same timestamp: by the number.
        (Some(500), 100, true),
        (Some(500), 1, false),
        // Earlier: PAWS, whatever the number.
        (Some(499), 100, false),
        (Some(499), 1, false),
        // None: by the number.
        (None, 100, true),
        (None, 1, false),
    ];
    for (timestamp, seq, opens) in table {
        for held in [false, true] {
            let (mut b, _) = time_wait(stamped(500), stamped(500), held);
            let old = b.iss;
            b.now = b.now + 1_000_000;
            b.peer_options = timestamp.map_or(Options::default(), stamped);
            b.peer(S, seq, 0, b"");
            let sent = b.sent();
            let expected = if opens { SA } else { A };
            assert_eq!(sent[0].flags, expected, "{timestamp:?} {seq} {held}");
            if opens {
                // RFC 9293 MAY-2, RFC 6528 3: beyond the old numbers.
                assert!(Seq(b.iss).gt(Seq(old) + 2));
            }
        }
    }
}

#[test]
fn without_timestamps_the_number_decides() {
    for (seq, opens) in [(3, true), (2, false), (1, false)] {
        let (mut b, _) = time_wait(Options::default(), Options::default(), false);
        b.peer(S, seq, 0, b"");
        assert_eq!(b.sent()[0].flags, if opens { SA } else { A }, "{seq}");
    }
}

/// A flood of old segments is answered now and then.
#[test]
fn answers_are_limited() {
    let (mut b, _) = time_wait(Options::default(), Options::default(), false);
    for _ in 0..1000 {
        b.peer_unchecked(PA, 0, 1, b"x");
        b.peer_unchecked(S, 1, 0, b"");
        b.peer_unchecked(FA, 1, 2, b"");
    }
    assert_eq!(b.sent().len(), 1);
    b.advance_us(500_000);
    b.peer(FA, 1, 2, b"");
    assert_eq!(b.brief(), [(A, 2, 2, 0)]);
}
