//! The receive buffer follows what is read in a round trip.

use super::*;

const ROUND_TRIP_US: u64 = 100_000;

/// A connection over 100 ms whose peer may use the whole window.
fn far_away() -> (Bench, ConnId) {
    let mut b = Bench::new();
    b.peer_options.wscale = Some(8);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].options.wscale, Some(8));
    b.advance_us(ROUND_TRIP_US);
    b.peer(A, 1, 1, b"");
    let id = b.shard.accept(b.listener).unwrap();
    (b, id)
}

/// The peer sends `bytes` in a round trip, all of which is read.
fn round(b: &mut Bench, id: ConnId, seq: &mut u32, bytes: u32) {
    let mut left = bytes;
    while left > 0 {
        let len = left.min(1400);
        b.peer_unchecked(A, *seq, 1, &std::vec![1; len as usize]);
        *seq = seq.wrapping_add(len);
        left -= len;
    }
    b.now = b.now + ROUND_TRIP_US;
    b.recv(id).unwrap();
    b.sent_unchecked();
}

fn window(b: &Bench, id: ConnId) -> u32 {
    b.shard.tcp_info(b.now, id).unwrap().rcv_wnd
}

/// 1 Gbit/s at 100 ms is 12.5 MB in flight.
#[test]
fn a_sender_that_fills_the_window_gets_one_for_a_gigabit_in_ten_round_trips() {
    let (mut b, id) = far_away();
    let mut seq = 1;
    for _ in 0..10 {
        let all = window(&b, id);
        round(&mut b, id, &mut seq, all);
    }
    assert!(window(&b, id) >= 12_500_000, "{}", window(&b, id));
}

#[test]
fn a_slow_stream_keeps_the_buffer_that_it_has() {
    let (mut b, id) = far_away();
    let before = b.shard.tcp_info(b.now, id).unwrap().recv_buffer_bytes;
    let mut seq = 1;
    for _ in 0..100 {
        round(&mut b, id, &mut seq, 10_000);
    }
    assert_eq!(b.shard.tcp_info(b.now, id).unwrap().recv_buffer_bytes, before);
}
