//! RFC 7323: the option, round-trip times and PAWS.

use super::*;
use crate::stats::Refusal;

/// An accepted connection with a peer whose clock shows `value`.
fn accepted(value: u32) -> (Bench, ConnId) {
    let mut b = Bench::new();
    b.peer_options.timestamps = Some((value, 0));
    b.peer_later.timestamps = Some((value, 0));
    let id = b.accept();
    (b, id)
}

fn stamps(sent: &[Sent]) -> Vec<(u32, u32)> {
    sent.iter().filter_map(|s| s.options.timestamps).collect()
}

/// RFC 7323 3.2.
#[test]
fn a_syn_offers_timestamps_and_a_syn_ack_echoes_them() {
    let mut b = Bench::new();
    b.peer_options.timestamps = Some((77, 0));
    b.peer(S, 0, 0, b"");
    assert_eq!(stamps(&b.sent())[0].1, 77);
    let mut b = Bench::new();
    b.connect();
    let offer = stamps(&b.sent())[0];
    assert_eq!(offer.1, 0);
    b.peer_options.timestamps = Some((500, offer.0));
    b.peer(SA, 0, 1, b"");
    assert_eq!(stamps(&b.sent()), [(offer.0, 500)]);
}

#[test]
fn a_peer_without_timestamps_sees_none() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; MSS]).unwrap();
    let sent = b.sent();
    assert_eq!((stamps(&sent), sent[0].payload.len()), (std::vec![], MSS));
    let (mut b, id) = Bench::connected();
    b.send(id, &[1; MSS]).unwrap();
    assert_eq!(stamps(&b.sent()), []);
    let mut b = Bench::with(Config { timestamps: false, ..Config::default() }, 16);
    b.peer_options.timestamps = Some((1, 0));
    b.peer(S, 0, 0, b"");
    assert_eq!(stamps(&b.sent()), []);
}

/// RFC 7323 3.2: every segment; RFC 9293 3.7.1 (MUST-16): the MSS counts the option.
#[test]
fn every_segment_is_stamped_and_shorter_by_the_option() {
    let (mut b, id) = accepted(10);
    b.send(id, &[1; 2 * (MSS - 12)]).unwrap();
    let first = b.sent();
    assert_eq!(first.iter().map(|s| s.payload.len()).collect::<Vec<_>>(), [988, 988]);
    let (us, again) = b.next_sent(1_000_000);
    let (then, now) = (stamps(&first)[0].0, stamps(&again)[0].0);
    assert_eq!(u64::from(now.wrapping_sub(then)), us / 1000);
    b.shard.abort(b.now, id);
    let reset = b.sent();
    assert_eq!((reset[0].flags, stamps(&reset)), (RA, std::vec![(now, 10)]));
}

/// RFC 7323 5.4: no two 4-tuples have the same clock.
#[test]
fn connections_have_clocks_of_their_own() {
    let mut b = Bench::new();
    b.peer_options.timestamps = Some((1, 0));
    let mut seen = std::collections::HashSet::new();
    for port in 5000..5020 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
        seen.insert(stamps(&b.sent())[0].0);
    }
    assert_eq!(seen.len(), 20);
}

/// RFC 7323 4.3: the earliest segment that a delayed acknowledgment covers; (R3): none beyond it.
#[test]
fn the_echo_is_of_the_segment_that_moved_the_window() {
    let (mut b, id) = accepted(10);
    b.send(id, b"x").unwrap();
    b.sent();
    b.peer_later.timestamps = Some((20, 0));
    b.peer(A, 1, 2, &[1; 900]);
    b.peer_later.timestamps = Some((30, 0));
    b.peer(A, 901, 2, &[1; 900]);
    assert_eq!(stamps(&b.sent())[0].1, 20);
    b.peer_later.timestamps = Some((40, 0));
    b.peer(A, 2701, 2, &[1; 900]);
    assert_eq!(stamps(&b.sent())[0].1, 20, "out of order");
    b.peer_later.timestamps = Some((50, 0));
    b.peer(A, 1801, 2, &[1; 900]);
    assert_eq!(stamps(&b.sent())[0].1, 50, "the hole is filled");
}

/// RFC 7323 5.3 (R1).
#[test]
fn an_old_segment_is_answered_and_dropped() {
    let (mut b, id) = accepted(1000);
    b.peer_later.timestamps = Some((998, 0));
    b.peer(PA, 1, 1, b"from another life");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
    assert_eq!(b.shard.stats().refused(Refusal::OldTimestamp), 1);
    // A reset is judged by its number alone.
    b.peer(R, 1, 0, b"");
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
}

/// RFC 7323 5.3 (R1), as Linux has it: the repetition of the first segment arrives before what was
/// sent a tick earlier.
#[test]
fn what_left_in_the_tick_before_a_repetition_is_taken() {
    let (mut b, id) = accepted(1000);
    for (value, seq, text) in [(1001, 1, b"one"), (1000, 4, b"two"), (999, 7, b"old")] {
        b.peer_later.timestamps = Some((value, 0));
        b.peer(PA, seq, 1, text);
        assert_eq!(stamps(&b.sent())[0].1, 1001, "TS.Recent never goes back");
    }
    assert_eq!(b.recv(id).unwrap(), b"onetwo");
    assert_eq!(b.shard.stats().refused(Refusal::OldTimestamp), 1);
}

/// RFC 7323 5.3 (R1), as Linux has it (`tcp_disordered_ack`): the blocks of an acknowledgment that a
/// later one has overtaken are heard, its window is not, and one of another life is neither.
#[test]
fn an_overtaken_duplicate_acknowledgment_is_heard() {
    let mut b = Bench::new();
    let timestamps = Some((1000, 0));
    b.peer_options = Options { timestamps, sack_permitted: true, ..b.peer_options };
    b.peer_later.timestamps = timestamps;
    let id = b.accept();
    b.send(id, &[7; 5 * (MSS - 12)]).unwrap();
    b.sent();
    b.advance_us(100_000);
    let ack = |b: &mut Bench, value: u32, segment: Option<u32>| {
        let seq = |segment: u32| Seq(b.iss.wrapping_add(1 + segment * (MSS as u32 - 12)));
        b.peer_later.timestamps = Some((value, 0));
        b.peer_later.sack[0] = segment.map(|segment| (seq(segment), seq(segment + 1)));
        b.peer(A, 1, 1, b"");
        b.tcp_info(id).sacked_segs
    };
    b.peer_wnd = 4000;
    assert_eq!(ack(&mut b, 2000, Some(2)), 1);
    b.peer_wnd = 3000;
    assert_eq!(ack(&mut b, 1900, Some(1)), 2);
    assert_eq!(b.tcp_info(id).snd_wnd, 4000);
    assert_eq!(ack(&mut b, 1000, Some(4)), 2);
    assert_eq!(b.shard.stats().refused(Refusal::OldTimestamp), 1);
}

#[test]
fn the_peers_clock_may_wrap_and_a_segment_may_lack_the_option() {
    let (mut b, id) = accepted(u32::MAX - 1);
    b.peer_later.timestamps = Some((3, 0));
    b.peer(PA, 1, 1, b"wrapped ");
    b.peer_later.timestamps = None;
    b.peer(PA, 9, 1, b"bare");
    assert_eq!(b.recv(id).unwrap(), b"wrapped bare");
}

/// RFC 7323 5.5.
#[test]
fn after_24_days_of_silence_nothing_is_old() {
    let (mut b, id) = accepted(1000);
    b.now = b.now + 25 * 24 * 3600 * 1_000_000;
    b.peer_later.timestamps = Some((1, 0));
    b.peer(PA, 1, 1, b"hello again");
    assert_eq!(b.recv(id).unwrap(), b"hello again");
}

/// RFC 7323 4.1: the echo tells which copy of a segment is acknowledged, where Karn must not guess.
#[test]
fn a_repeated_segment_is_measured_by_its_echo() {
    let (mut b, id) = accepted(10);
    b.advance_us(30_000);
    b.send(id, b"x").unwrap();
    b.sent();
    let (_, again) = b.next_sent(10_000_000);
    let second = stamps(&again)[0].0;
    b.advance_us(50_000);
    b.peer_later.timestamps = Some((11, second));
    b.peer(A, 1, 2, b"");
    let first_sample = b.shard.info(id).unwrap();
    // The handshake took no time; one eighth of 50 ms.
    assert!((6_000..7_000).contains(&first_sample.srtt_us), "{first_sample:?}");
    // What the peer invents is bounded.
    b.send(id, b"y").unwrap();
    b.sent();
    b.next_sent(10_000_000);
    b.peer_later.timestamps = Some((11, second.wrapping_sub(1 << 30)));
    b.peer(A, 1, 3, b"");
    assert!(b.shard.info(id).unwrap().rto_us <= 120_000_000);
}

/// RFC 6191 2.
/// RFC 9293 SHLD-4.
#[test]
fn a_syn_with_a_later_timestamp_reopens_time_wait() {
    for (value, reopens) in [(2000, true), (999, false)] {
        let (mut b, id) = accepted(1000);
        b.shard.close(b.now, id);
        b.sent();
        b.peer(FA, 1, 2, b"");
        b.sent();
        b.peer_options.timestamps = Some((value, 0));
        // Below what the old connection received last.
        b.peer(S, 0u32.wrapping_sub(9), 0, b"");
        assert_eq!(b.sent()[0].flags.contains(S), reopens, "{value}");
    }
}
