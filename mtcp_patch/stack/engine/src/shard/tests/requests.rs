//! What reaches a half-open connection: RFC 9293 3.10.7.4 in SYN-RECEIVED.

use super::*;
use crate::stats::Refusal;

fn half_open() -> Bench {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b
}

fn syn_queue(b: &Bench) -> usize {
    b.shard.listeners().next().unwrap().syn_queue
}

#[test]
fn it_shows_as_syn_received() {
    let b = half_open();
    let (_, info) = b.shard.connections().next().unwrap();
    assert_eq!((info.state, info.local, info.remote), (State::SynReceived, b.ours, b.theirs));
}

/// Linux (`tcp_invalid_ratelimit`): one answer in half a second; the timer sees to the rest.
#[test]
fn repeated_syns_are_answered_now_and_then() {
    let mut b = half_open();
    for _ in 0..50 {
        b.peer(S, 0, 0, b"");
    }
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
    b.advance_us(500_000);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
    assert_eq!(b.shard.stats().refused(Refusal::ChallengeLimit), 49);
}

/// RFC 5961 3.2: only the exact number resets; another one in the window is challenged.
#[test]
fn only_the_exact_reset_returns_to_listen() {
    let mut b = half_open();
    b.peer(R, 70_000, 0, b"");
    b.peer(R, 0, 0, b"");
    assert_eq!(b.brief(), []);
    b.peer(R, 2, 0, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    assert_eq!(syn_queue(&b), 1);
    b.peer(R, 1, 0, b"");
    assert_eq!((b.brief(), syn_queue(&b)), (std::vec![], 0));
    let stats = b.shard.stats();
    assert_eq!((stats.resets_in, stats.refused(Refusal::InexactReset)), (1, 1));
    assert_eq!(b.shard.next_timeout(), None);
}

/// RFC 5961 4.2: a client that has forgotten answers the challenge with a reset, and begins anew.
#[test]
fn another_syn_is_challenged() {
    for seq in [7, 100_000, 0u32.wrapping_sub(100)] {
        let mut b = half_open();
        b.peer(S, seq, 0, b"");
        assert_eq!(b.brief(), [(A, 1, 1, 0)], "{seq}");
        b.peer(R, 1, 0, b"");
        b.peer(S, seq, 0, b"");
        assert_eq!((b.sent()[0].flags, syn_queue(&b)), (SA, 1));
    }
}

#[test]
fn data_beyond_the_window_is_answered_with_an_acknowledgment() {
    let mut b = half_open();
    b.peer(A, 70_000, 1, b"x");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    assert_eq!((syn_queue(&b), b.shard.accept_queue_len(b.listener)), (1, 0));
}

/// The ACK is lost and the first data comes late, in the second segment first.
#[test]
fn data_that_is_ahead_completes_the_handshake() {
    let mut b = half_open();
    b.peer(PA, 4, 1, b"def");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.peer(PA, 1, 1, b"abc");
    assert_eq!(b.recv(id).unwrap(), b"abcdef");
}

#[test]
fn what_has_no_ack_means_nothing() {
    let mut b = half_open();
    for flags in [Flags(0), Flags::FIN, Flags::PSH] {
        b.peer(flags, 1, 0, b"x");
    }
    assert_eq!((b.brief(), syn_queue(&b)), (std::vec![], 1));
}

/// RFC 7323 5.3 (R1).
#[test]
fn an_old_timestamp_is_answered_and_dropped() {
    let mut b = Bench::new();
    b.peer_options.timestamps = Some((500, 0));
    b.peer(S, 0, 0, b"");
    let (value, _) = b.sent()[0].options.timestamps.unwrap();
    b.peer_later.timestamps = Some((499, value));
    b.peer(A, 1, 1, b"");
    let sent = b.sent();
    assert_eq!((sent[0].brief(), sent[0].options.timestamps.unwrap().1), ((A, 1, 1, 0), 500));
    assert_eq!(b.shard.stats().refused(Refusal::OldTimestamp), 1);
    b.peer_later.timestamps = Some((500, value));
    b.peer(A, 1, 1, b"");
    assert_eq!(b.shard.accept_queue_len(b.listener), 1);
}

/// The peer opened at the same time and repeats its SYN with the ACK that we wait for.
#[test]
fn a_syn_ack_with_the_known_number_completes() {
    let mut b = half_open();
    b.peer(SA, 0, 1, b"");
    assert_eq!(b.shard.accept_queue_len(b.listener), 1);
}

/// The round-trip time of the handshake is measured, unless the SYN-ACK was repeated (Karn).
#[test]
fn the_handshake_is_measured() {
    let mut b = half_open();
    b.advance_us(30_000);
    b.peer(A, 1, 1, b"");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.shard.info(id).unwrap().srtt_us, 30_000);
    let mut b = half_open();
    let (us, _) = b.next_sent(2_000_000);
    assert!((1_000_000..1_100_000).contains(&us));
    b.advance_us(30_000);
    b.peer(A, 1, 1, b"");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.shard.info(id).unwrap().srtt_us, 0);
}
