//! RFC 2018 and RFC 2883, the receiving side.

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
    let mut last = std::vec![];
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
    assert_eq!(sent.iter().map(|s| s.payload.len()).collect::<Vec<_>>(), [988, 988, 988, 36]);
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
