//! RFC 8985 6: loss by time. The path takes 100 ms; segment 0 is acknowledged.

use super::*;
use crate::tcp::recovery::CaState;

/// RFC 8985 6.2: with fewer than three segments beyond a hole, a quarter of a round trip decides.
#[test]
fn a_hole_is_lost_when_the_reordering_window_has_passed() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(2, 3)]);
    assert!(!b.segments().contains(&1));
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent[0].seq, 1 + MSS as u32);
    assert!((25_000..32_000).contains(&us), "{us}");
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
    assert_eq!(b.shard.stats().timeouts, 0);
}

/// RFC 8985 6.2 step 5: a repetition that was lost as well is found by what was sent after it.
#[test]
fn a_lost_repetition_is_sent_again() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(2, 6)]);
    assert_eq!(b.segments()[0], 1);
    // One round trip later something arrives that was sent after the repetition, but not that.
    b.advance_us(1_000);
    b.sack(1, &[(2, 11)]);
    let later = b.segments();
    assert!(!later.is_empty() && !later.contains(&1), "{later:?}");
    b.advance_us(102_000);
    b.sack(1, &[(later[0], later[0] + 1), (2, 11)]);
    assert!(b.segments().contains(&1));
    assert!(b.tcp_info(id).total_retrans >= 2);
    assert_eq!(b.shard.stats().timeouts, 0);
}

/// RFC 8985 6.2 step 4: once the network was seen to reorder, three duplicates prove nothing.
#[test]
fn reordering_seen_is_not_taken_for_loss() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(2, 4)]);
    b.segments();
    // The late one arrives: reordering by two.
    b.sack(4, &[]);
    assert_eq!((b.tcp_info(id).reord_seen, b.tcp_info(id).ca_state), (1, CaState::Open));
    b.segments();
    b.sack(4, &[(5, 10)]);
    assert!(!b.segments().contains(&4));
    assert_eq!(b.tcp_info(id).lost_segs, 0);
    b.advance_us(5_000);
    b.sack(10, &[]);
    b.segments();
    let info = b.tcp_info(id);
    assert_eq!((info.total_retrans, info.ca_state), (0, CaState::Open));
    assert_eq!(info.reordering, 6);
    assert!(info.snd_ssthresh > 1_000_000, "no reduction: {}", info.snd_ssthresh);
}

/// RFC 8985 6.2 step 3: what one acknowledgment covers cumulatively and what it says of later numbers
/// arrived in order (a delayed acknowledgment, then a hole).
#[test]
fn a_stretched_acknowledgment_is_no_reordering() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(2, &[(3, 4)]);
    assert_eq!(b.tcp_info(id).reord_seen, 0);
    b.sack(2, &[(3, 6)]);
    assert_eq!(b.segments()[0], 2, "three segments beyond the hole are enough");
}

/// The same for two blocks that are new together, because an acknowledgment was lost: the newest
/// stands first (RFC 2018 4).
#[test]
fn two_new_blocks_are_no_reordering() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(5, 7), (2, 4)]);
    assert_eq!(b.tcp_info(id).reord_seen, 0);
    assert_eq!(b.segments()[0], 1, "three segments beyond the hole are enough");
}

/// RFC 8985 6.2 step 4: a repetition without need widens the window.
#[test]
fn a_duplicate_report_widens_the_window() {
    let wait = |duplicates: bool| {
        let (mut b, id) = Bench::in_flight(true);
        b.sack(1, &[(2, 4)]);
        b.segments();
        b.sack(4, &[]);
        b.segments();
        // A late one again, later than the window: spurious recovery.
        b.sack(4, &[(5, 6)]);
        b.segments();
        let (_, sent) = b.next_sent(60_000);
        assert_eq!(sent[0].seq / MSS as u32, 4);
        // The original arrives after all.
        b.advance_us(3_000);
        let high = 4 + b.tcp_info(id).unacked_segs;
        b.sack(high, if duplicates { &[(4, 5)] } else { &[] });
        assert!(b.segments().len() >= 2);
        b.advance_us(100_000);
        b.sack(high, &[(high + 1, high + 2)]);
        b.segments();
        let (us, sent) = b.next_sent(300_000);
        assert_eq!(sent[0].seq / MSS as u32, high);
        us
    };
    let (narrow, wide) = (wait(false), wait(true));
    assert!(wide > narrow + 15_000, "{narrow} {wide}");
}
