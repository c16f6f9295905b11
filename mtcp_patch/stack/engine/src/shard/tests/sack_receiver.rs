//! RFC 2018 and RFC 2883, the receiving side.

use std::vec;

use super::*;

/// An accepted connection with a peer that takes blocks.
fn accepted(timestamps: bool) -> (Bench, ConnId) {
    let mut b = Bench::new();
    b.peer_options.sack_permitted = true;
    if timestamps {
        b.peer_options.timestamps = Some((1, 0));
        b.peer_later.timestamps = Some((1, 0));
    }
    let id = b.accept();
    (b, id)
}

/// The blocks of the only segment that leaves now, relative to the peer's initial number.
fn blocks(b: &mut Bench) -> Vec<(u32, u32)> {
    let sent = b.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let relative = |seq: Seq| seq.0.wrapping_sub(PEER_ISS);
    sent[0].options.sack.iter().flatten().map(|(l, r)| (relative(*l), relative(*r))).collect()
}

/// RFC 2018 2.
#[test]
fn sack_is_offered_and_granted_only_when_offered() {
    let permitted = |sent: Vec<Sent>| sent[0].options.sack_permitted;
    let mut b = Bench::new();
    b.connect();
    assert!(permitted(b.sent()));
    for offered in [true, false] {
        let mut b = Bench::new();
        b.peer_options.sack_permitted = offered;
        b.peer(S, 0, 0, b"");
        assert_eq!(permitted(b.sent()), offered);
    }
    let mut b = Bench::with(Config { sack: false, ..Config::default() }, 16);
    b.peer_options.sack_permitted = true;
    b.peer(S, 0, 0, b"");
    assert!(!permitted(b.sent()));
}

#[test]
fn a_peer_without_sack_sees_no_blocks() {
    let (mut b, _) = Bench::accepted();
    b.peer(A, 101, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), []);
    b.peer(A, 101, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), []);
    let (mut b, _) = Bench::connected();
    b.peer(A, 101, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), []);
}

/// RFC 2018 4 (a): the block of the segment that triggered the acknowledgment; (c): then those of
/// the last ones; at most four.
#[test]
fn the_most_recent_block_is_first_and_four_fit() {
    let (mut b, _) = accepted(false);
    for i in 1..=5u32 {
        b.peer(A, 1 + 200 * i, 1, &[1; 100]);
        let expected: Vec<_> =
            (1..=i).rev().take(4).map(|i| (1 + 200 * i, 101 + 200 * i)).collect();
        assert_eq!(blocks(&mut b), expected);
    }
    // A range that grows moves to the front, and one that joins two is one.
    b.peer(A, 701, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(601, 901), (1001, 1101), (401, 501)]);
    b.peer(A, 301, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(201, 501), (601, 901), (1001, 1101)]);
    b.peer(A, 1, 1, &[1; 200]);
    assert_eq!(blocks(&mut b), [(601, 901), (1001, 1101)]);
    b.peer(A, 501, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(1001, 1101)]);
    b.peer(A, 901, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), []);
}

/// RFC 2018 3: with timestamps three.
#[test]
fn three_blocks_fit_beside_timestamps() {
    let (mut b, _) = accepted(true);
    let mut last = vec![];
    for i in 1..=5u32 {
        b.peer(A, 1 + 200 * i, 1, &[1; 100]);
        last = blocks(&mut b);
    }
    assert_eq!(last, [(1001, 1101), (801, 901), (601, 701)]);
}

/// RFC 2018 4: data that leaves says it as well, and is shorter by it (RFC 9293 MUST-16).
#[test]
fn data_carries_blocks_and_makes_room_for_them() {
    let (mut b, id) = accepted(false);
    b.peer(A, 101, 1, &[1; 100]);
    b.send(id, &[7; 3 * MSS]).unwrap();
    let sent = b.sent();
    assert!(sent.iter().all(|s| s.options.sack[0].is_some()));
    // RFC 5681 4.2: the duplicate acknowledgment comes first, for it has no data.
    assert_eq!(sent.iter().map(|s| s.payload.len()).collect::<Vec<_>>(), [0, 988, 988, 988, 36]);
}

/// RFC 2883 4.1: the duplicate first, once.
#[test]
fn a_full_duplicate_below_rcv_nxt_is_reported_once() {
    let (mut b, _) = accepted(false);
    b.peer(A, 1, 1, &[1; 200]);
    assert_eq!(blocks(&mut b), []);
    b.peer(A, 101, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(101, 201)]);
    // Wholly outside of the window, too.
    b.peer(A, 1, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(1, 101)]);
    b.peer(A, 301, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(301, 401)]);
}

/// RFC 2883 4.1.2: a duplicate in a held range, and after it the range.
#[test]
fn a_duplicate_of_a_held_range_is_followed_by_the_range() {
    let (mut b, _) = accepted(false);
    b.peer(A, 101, 1, &[1; 300]);
    b.peer(A, 601, 1, &[1; 100]);
    b.sent();
    b.peer(A, 201, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(201, 301), (101, 401), (601, 701)]);
}

/// RFC 2883 4.2: partial duplicates.
#[test]
fn the_old_part_of_a_segment_is_reported() {
    let (mut b, _) = accepted(false);
    b.peer(A, 1, 1, &[1; 200]);
    b.sent();
    b.peer(A, 101, 1, &[1; 200]);
    assert_eq!(blocks(&mut b), [(101, 201)]);
    b.peer(A, 501, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(501, 601)]);
    b.peer(A, 451, 1, &[1; 100]);
    assert_eq!(blocks(&mut b), [(501, 551), (451, 601)]);
    // What fills the hole may reach into what is held.
    b.peer(A, 301, 1, &[1; 200]);
    assert_eq!(blocks(&mut b), [(451, 501)]);
}

/// RFC 2883 4: of two duplicates in one segment the lower one. Found by the comparison with Linux.
#[test]
fn of_two_duplicates_in_one_segment_the_lower_is_reported() {
    let (mut b, _) = accepted(false);
    b.peer(A, 1, 1, &[1; 10]);
    b.sent();
    b.peer(A, 21, 1, &[1; 5]);
    assert_eq!(blocks(&mut b), [(21, 26)]);
    b.peer(A, 6, 1, &[1; 30]);
    assert_eq!(blocks(&mut b), [(6, 11)]);
}

/// Ranges that have become part of the stream leave their places to those that are held. Found by
/// the comparison with Linux.
#[test]
fn what_is_held_is_reported_though_other_ranges_came_and_went() {
    let (mut b, _) = accepted(true);
    b.peer(A, 5001, 1, &[1; 10]);
    for seq in [11, 31, 51] {
        b.peer(A, seq, 1, &[1; 10]);
    }
    b.peer(A, 1, 1, &[1; 60]);
    b.sent();
    b.peer(A, 3001, 1, &[1; 10]);
    assert_eq!(blocks(&mut b), [(3001, 3011), (5001, 5011)]);
    b.peer(A, 4001, 1, &[1; 10]);
    assert_eq!(blocks(&mut b), [(4001, 4011), (3001, 3011), (5001, 5011)]);
}

/// The acknowledgment and the blocks of everything that leaves now, numbers relative to the peer's
/// initial one.
fn acknowledgments(b: &mut Bench) -> Vec<(u32, Vec<(u32, u32)>)> {
    let relative = |seq: Seq| seq.0.wrapping_sub(PEER_ISS);
    let blocks = |s: &Sent| {
        s.options.sack.iter().flatten().map(|(l, r)| (relative(*l), relative(*r))).collect()
    };
    b.sent().iter().map(|s| (s.ack, blocks(s))).collect()
}

/// RFC 5681 4.2, RFC 2018 4: a batch with more holes than an option has room for leaves none out.
#[test]
fn each_segment_beyond_a_gap_is_acknowledged_by_itself() {
    let (mut b, _) = accepted(false);
    for i in 1..=6u32 {
        b.peer(A, 1 + 200 * i, 1, &[1; 100]);
    }
    let sent = acknowledgments(&mut b);
    assert_eq!(sent.len(), 6);
    for (i, (ack, blocks)) in (1..).zip(&sent) {
        assert_eq!((*ack, blocks[0]), (1, (1 + 200 * i, 101 + 200 * i)));
    }
    let told = |left: u32| sent.iter().any(|(_, blocks)| blocks.iter().any(|b| b.0 == left));
    assert!((1..=6).all(|i| told(1 + 200 * i)));
}

/// RFC 5681 4.2: a segment that fills a gap, or a part of it, is acknowledged at once, too; those
/// in order share one.
#[test]
fn each_segment_that_fills_a_gap_is_acknowledged_by_itself() {
    let (mut b, _) = accepted(false);
    // In order, beyond a gap, then the gap in two parts, then in order again.
    for (seq, len) in [(1, 100), (101, 100), (401, 100), (201, 100), (301, 100), (501, 100)] {
        b.peer(A, seq, 1, &vec![1; len]);
    }
    let expected = [(201, vec![]), (201, vec![(401, 501)]), (301, vec![(401, 501)]), (601, vec![])];
    assert_eq!(acknowledgments(&mut b), expected);
}

/// RFC 2883 4: every duplicate of a batch is reported.
#[test]
fn each_duplicate_is_reported_by_itself() {
    let (mut b, _) = accepted(false);
    b.peer(A, 1, 1, &[1; 300]);
    b.sent();
    // Outside of the window, at its edge, and partly new.
    for (seq, len) in [(1, 100), (201, 100), (251, 100)] {
        b.peer(A, seq, 1, &vec![1; len]);
    }
    let expected = [(301, vec![(1, 101)]), (301, vec![(201, 301)]), (351, vec![(251, 301)])];
    assert_eq!(acknowledgments(&mut b), expected);
}

/// RFC 7323 4.3: a duplicate acknowledgment echoes the last segment that advanced the window, though
/// the one that fills the gap has arrived before it left.
#[test]
fn a_duplicate_acknowledgment_echoes_what_was_there_before_the_gap_was_filled() {
    let (mut b, _) = accepted(true);
    for (seq, stamp) in [(101, 20), (1, 30)] {
        b.peer_later.timestamps = Some((stamp, 0));
        b.peer(A, seq, 1, &[1; 100]);
    }
    let echoes: Vec<_> = b.sent().iter().map(|s| s.options.timestamps.unwrap().1).collect();
    assert_eq!(echoes, [1, 30]);
}

/// When too many replies wait, the batch is acknowledged together, and nothing is lost.
#[test]
fn a_full_queue_of_replies_leaves_one_acknowledgment() {
    let (mut b, _) = accepted(false);
    let most = crate::limits::MAX_PENDING_REPLIES as u32;
    for i in 0..most + 10 {
        b.peer_unchecked(A, 3 + 2 * (i % 60), 1, b"x");
    }
    let sent = b.sent();
    assert_eq!(sent.len() as u32, most + 1);
}

/// RFC 9293 3.10.7.4 (SHLD-31): where every second segment of a large window was lost, the rest is
/// kept, so that nothing is asked for twice.
#[test]
fn every_second_segment_of_a_large_window_is_kept() {
    let config = Config { recv_buffer_initial_bytes: 4 << 20, ..Config::default() };
    let mut b = Bench::with(config, 16);
    b.peer_options.sack_permitted = true;
    b.peer_options.wscale = Some(7);
    let id = b.accept();
    let segments: Vec<u32> = (0..2000).collect();
    let arrive = |b: &mut Bench, rest: u32| {
        for i in segments.iter().filter(|i| **i % 2 == rest) {
            b.peer_unchecked(A, 1 + i * MSS as u32, 1, &[1; MSS]);
        }
        b.sent();
    };
    arrive(&mut b, 1);
    assert_eq!(b.shard.stats().refused(crate::stats::Refusal::ReassemblyLimit), 0);
    arrive(&mut b, 0);
    assert_eq!(b.recv(id).unwrap().len(), 2000 * MSS);
}
