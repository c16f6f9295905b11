//! What the application chose changes what the peer sees: one test a socket option.

use super::*;
use crate::event::ready;
use crate::tcp::conn_options::Keepalive;

fn set(b: &mut Bench, id: ConnId, options: ConnOptions) {
    b.shard.set_options(b.now, id, options);
}

/// Lets the peer be silent; how often something was sent, and after how long it was over.
fn until_given_up(b: &mut Bench, id: ConnId) -> (usize, u64) {
    let begin = b.now;
    let mut times = 0;
    loop {
        // A slice at a time, because time passes to the end of it when nothing is sent.
        let (_, sent) = b.next_sent(10_000);
        if b.state(id) == State::Closed {
            assert_eq!(b.recv(id), Err(Error::TimedOut));
            return (times, b.now.micros_since(begin));
        }
        times += sent.len();
        assert!(times < 20, "for ever");
    }
}

/// RFC 5482 2; Linux `tcp_clamp_rto_to_user_timeout`: the last timer is cut to the time that is left.
/// RFC 9293 MUST-21.
#[test]
fn user_timeout_ends_retransmission_after_a_time_and_not_after_a_number() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { user_timeout_us: 3_000_000, ..ConnOptions::default() });
    b.send(id, b"x").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 1, 1)]);
    // At 0.2, 0.4, 0.8 and 1.6 s; over 3 s after the first of them (the handshake took no time).
    let (times, us) = until_given_up(&mut b, id);
    assert_eq!(times, 4);
    assert!((3_190_000..3_260_000).contains(&us), "{us}");
}

#[test]
fn user_timeout_counts_anew_after_an_acknowledgment() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { user_timeout_us: 3_000_000, ..ConnOptions::default() });
    b.send(id, b"x").unwrap();
    b.sent();
    for _ in 0..3 {
        b.next_sent(60_000_000);
    }
    b.peer(A, 1, 2, b"");
    b.send(id, b"y").unwrap();
    b.sent();
    assert!(until_given_up(&mut b, id).1 > 3_000_000);
}

/// tcp(7): "or buffered data may remain untransmitted (due to zero window size)", answered or not.
#[test]
fn user_timeout_ends_the_patience_with_a_closed_window() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { user_timeout_us: 3_000_000, ..ConnOptions::default() });
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.send(id, b"x").unwrap();
    let begin = b.now;
    while b.state(id) != State::Closed {
        if !b.next_sent(10_000).1.is_empty() {
            b.peer(A, 1, 1, b"");
        }
    }
    let us = b.now.micros_since(begin);
    assert!((3_190_000..3_500_000).contains(&us), "{us}");
}

/// tcp(7): it takes the place of `TCP_KEEPCNT`.
#[test]
fn user_timeout_ends_keepalive_probing() {
    let (mut b, id) = Bench::accepted();
    let keepalive = Keepalive { on: true, idle_us: 5_000_000, interval_us: 1_000_000, count: 1 };
    set(
        &mut b,
        id,
        ConnOptions { keepalive, user_timeout_us: 8_000_000, ..ConnOptions::default() },
    );
    let (times, us) = until_given_up(&mut b, id);
    assert_eq!(times, 3);
    assert!((7_990_000..8_100_000).contains(&us), "{us}");
}

#[test]
fn syncnt_bounds_the_repetitions_of_a_syn() {
    let mut b = Bench::new();
    let id = b.connect();
    set(&mut b, id, ConnOptions { syn_retries: Some(2), ..ConnOptions::default() });
    b.sent();
    let (times, us) = until_given_up(&mut b, id);
    assert_eq!(times, 2);
    assert!((7_000_000..7_100_000).contains(&us), "{us}");
}

/// Our FIN is acknowledged, the peer's does not come; how long the connection stays.
fn fin_wait_2(options: ConnOptions) -> (Bench, u64) {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, options);
    b.shard.close(b.now, id);
    assert_eq!(b.brief(), [(FA, 1, 1, 0)]);
    b.peer(A, 1, 2, b"");
    let begin = b.now;
    while b.shard.info(id).is_ok() {
        b.advance_us(100_000);
    }
    let us = b.now.micros_since(begin);
    (b, us)
}

#[test]
fn linger2_bounds_fin_wait_2() {
    let (_, us) = fin_wait_2(ConnOptions::default());
    assert!((60_000_000..60_200_000).contains(&us), "{us}");
    let two = ConnOptions { fin_wait_2_us: Some(2_000_000), ..ConnOptions::default() };
    let (mut b, us) = fin_wait_2(two);
    assert!((2_000_000..2_200_000).contains(&us), "{us}");
    b.peer(FA, 1, 2, b"");
    assert_eq!(b.brief(), [(R, 2, 0, 0)]);
    let none = ConnOptions { fin_wait_2_us: Some(0), ..ConnOptions::default() };
    assert_eq!(fin_wait_2(none).1, 0);
}

/// Linux `__tcp_close`: in FIN-WAIT-2 already, a negative `TCP_LINGER2` resets.
#[test]
fn linger2_below_zero_resets_in_fin_wait_2() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { fin_wait_2_us: Some(0), ..ConnOptions::default() });
    b.shard.shutdown(b.now, id, false, true).unwrap();
    b.sent();
    b.peer(A, 1, 2, b"");
    b.shard.close(b.now, id);
    assert_eq!(b.brief(), [(RA, 2, 1, 0)]);
}

/// Linux `__sk_stream_memory_free` and `sk_stream_is_writeable`.
#[test]
fn notsent_lowat_bounds_what_waits_beyond_the_windows() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { notsent_lowat: Some(4_000), ..ConnOptions::default() });
    // Ten segments of the initial window, and the mark.
    assert_eq!(b.send(id, &[1; 59_000]), Ok(14_000));
    assert_eq!(b.sent().len(), 10);
    assert_eq!(b.send(id, b"x"), Err(Error::WouldBlock));
    assert_eq!(b.shard.readiness(id) & ready::OUT, 0);
    b.events();
    // Four segments leave, none waits.
    b.peer(A, 1, 2_001, b"");
    assert_eq!(b.sent().len(), 4);
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id) & ready::OUT, ready::OUT);
}

#[test]
fn rcvlowat_keeps_a_reader_asleep_until_there_is_enough() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { recv_lowat: 3, ..ConnOptions::default() });
    b.peer(PA, 1, 1, b"ab");
    assert_eq!(b.shard.readiness(id) & ready::IN, 0);
    b.peer(PA, 3, 1, b"c");
    assert_eq!(b.shard.readiness(id) & ready::IN, ready::IN);
    assert_eq!(b.recv(id).unwrap(), b"abc");
    b.peer(PA, 4, 1, b"d");
    assert_eq!(b.shard.readiness(id) & ready::IN, 0);
    // The end of the stream is worth waking for.
    b.peer(FA, 5, 1, b"");
    assert_eq!(b.shard.readiness(id) & ready::IN, ready::IN);
}

/// A window that is shut brings no more: whoever waited for more would wait for ever.
#[test]
fn rcvlowat_gives_way_to_a_full_buffer() {
    let (mut b, id) = Bench::accepted();
    let options = ConnOptions {
        recv_buffer_bytes: Some(3_000),
        recv_lowat: 100_000,
        ..ConnOptions::default()
    };
    set(&mut b, id, options);
    // What had been offered before may still come.
    let mut seq = 1;
    while b.shard.readiness(id) & ready::IN == 0 {
        b.peer_unchecked(A, seq, 1, &[1; MSS]);
        seq += MSS as u32;
        assert!(seq < 200_000, "never readable");
    }
}

#[test]
fn window_clamp_bounds_the_window_and_the_scale() {
    let mut b = Bench::new();
    let id = b.connect();
    set(&mut b, id, ConnOptions { window_clamp: Some(2_000), ..ConnOptions::default() });
    assert_eq!(b.sent()[0].wnd, 2_000);
}

#[test]
fn the_scale_covers_a_chosen_buffer_only() {
    let with = |options| {
        let mut b = Bench::new();
        b.ours.set_port(5000);
        let request = ConnectOptions {
            local: b.ours,
            remote: b.theirs,
            path: Path { device: DEVICE, caps: caps(), link: Link::default() },
            options,
        };
        b.shard.connect(b.now, request).unwrap();
        b.sent()[0].options.wscale
    };
    let clamp = |bytes| ConnOptions { window_clamp: Some(bytes), ..ConnOptions::default() };
    assert_eq!((with(clamp(65_535)), with(clamp(65_536))), (Some(0), Some(1)));
    let buffer = ConnOptions { recv_buffer_bytes: Some(8_000), ..ConnOptions::default() };
    assert_eq!(with(buffer), Some(0));
}

#[test]
fn quickack_acknowledges_at_once_what_was_delayed() {
    let (mut b, id) = Bench::answering();
    b.peer(PA, 2, 2, b"a");
    assert_eq!((b.brief(), b.shard.is_quickack(id)), (std::vec![], false));
    b.shard.set_quickack(id, true);
    assert_eq!((b.brief(), b.shard.is_quickack(id)), (std::vec![(A, 2, 3, 0)], true));
    b.peer(PA, 3, 2, b"b");
    assert_eq!(b.brief(), [(A, 2, 4, 0)]);
    b.shard.set_quickack(id, false);
    b.peer(PA, 4, 2, b"c");
    assert_eq!((b.brief(), b.shard.is_quickack(id)), (std::vec![], false));
}

/// RFC 2474 3 and RFC 9293 3.9.1.9 (MUST-48, MUST-49, SHLD-21, SHLD-22): DSCP and TTL are the application's.
#[test]
fn tos_and_ttl_stand_in_every_header() {
    let (mut b, id) = Bench::accepted();
    set(&mut b, id, ConnOptions { dscp: 0xb8, hop_limit: Some(7), ..ConnOptions::default() });
    b.send(id, b"x").unwrap();
    b.peer(PA, 1, 1, b"y");
    let mut outbox = Outbox { frames: Vec::new(), room: 9 };
    b.shard.transmit(b.now, DEVICE, &mut outbox);
    b.shard.abort(b.now, id);
    b.shard.transmit(b.now, DEVICE, &mut outbox);
    assert_eq!(outbox.frames.len(), 2);
    for frame in outbox.frames {
        assert_eq!((frame[1], frame[8]), (0xb8, 7));
    }
}
