//! SYN cookies (RFC 4987 3.6), end to end; their numbers are tested in `tcp::cookie`.

use super::*;
use crate::limits::SYN_COOKIE_PERIOD_US;

/// A shard whose listener has a full SYN queue.
fn flooded() -> Bench {
    let mut b = Bench::with(Config { syn_queue: 2, ..Config::default() }, 1);
    for port in 1..=2 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
        b.sent();
    }
    b.theirs.set_port(4000);
    b
}

fn counters(b: &Bench) -> (u64, u64, u64) {
    let stats = b.shard.stats();
    (stats.syncookies_sent, stats.syncookies_received, stats.syncookies_failed)
}

#[test]
fn a_full_syn_queue_answers_with_a_cookie_and_keeps_nothing() {
    let mut b = flooded();
    b.peer_options.wscale = Some(3);
    b.peer_options.sack_permitted = true;
    b.peer(S, 0, 0, b"");
    let sent = b.sent();
    assert_eq!(sent[0].brief(), (SA, 0, 1, 0));
    // Without timestamps there is no room for more than the MSS.
    assert_eq!(sent[0].options, Options { mss: Some(1460), ..Options::default() });
    assert_eq!(b.shard.connections().count(), 2);
    b.peer(A, 1, 1, b"");
    assert_eq!(counters(&b), (1, 1, 0));
    let id = b.shard.accept(b.listener).unwrap();
    let info = b.shard.info(id).unwrap();
    assert_eq!((info.state, info.local, info.remote), (State::Established, b.ours, b.theirs));
    // The peer's 1,000 is rounded down to a size that a cookie can name.
    assert_eq!(info.mss, 536);
    b.send(id, b"hello").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 1, 5)]);
    b.peer(PA, 1, 6, b"world");
    assert_eq!(b.recv(id).unwrap(), b"world");
}

#[test]
fn timestamps_carry_the_rest_of_the_syn() {
    for (wscale, sack_permitted) in
        [(Some(3), true), (Some(0), false), (Some(14), true), (None, true)]
    {
        let mut b = flooded();
        b.peer_options = Options {
            mss: Some(1460),
            wscale,
            sack_permitted,
            timestamps: Some((700, 0)),
            ..Options::default()
        };
        b.peer(S, 0, 0, b"");
        let first = b.sent().remove(0);
        assert_eq!(first.options.wscale.is_some(), wscale.is_some());
        let (value, echo) = first.options.timestamps.unwrap();
        assert_eq!(echo, 700);
        b.advance_us(90_000);
        b.peer_wnd = 2;
        b.peer_later.timestamps = Some((790, value));
        b.peer(A, 1, 1, b"");
        let id = b.shard.accept(b.listener).unwrap();
        assert_eq!(b.shard.info(id).unwrap().mss, 1448);
        b.send(id, &[1; 40_000]).unwrap();
        let sent = b.sent();
        // The window of 2 is scaled as the SYN said.
        let window = 2u32 << wscale.unwrap_or(0);
        let allowed = usize::try_from(window.min(1448)).unwrap();
        assert_eq!(sent[0].payload.len(), allowed, "{wscale:?}");
        let (later, echo) = sent[0].options.timestamps.unwrap();
        assert_eq!(echo, 790);
        assert!((1..256).contains(&later.wrapping_sub(value)), "our clock goes on");
    }
}

#[test]
fn the_first_data_may_come_instead_of_the_ack() {
    let mut b = flooded();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(FPA, 1, 1, b"request");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.recv(id).unwrap(), b"request");
    assert_eq!(b.recv(id).unwrap(), b"");
    assert_eq!(b.brief(), [(A, 1, 9, 0)]);
}

#[test]
fn a_cookie_is_taken_once() {
    let mut b = flooded();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(A, 1, 1, b"");
    b.peer(A, 1, 1, b"");
    assert_eq!((counters(&b), b.shard.accept_queue_len(b.listener)), ((1, 1, 0), 1));
}

#[test]
fn an_old_or_a_made_up_cookie_is_a_stray_ack() {
    let mut b = flooded();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(A, 1, 100, b"");
    assert_eq!(b.sent()[0].flags, R);
    assert_eq!(counters(&b), (1, 0, 1));
    b.next_sent(0);
    b.now = b.now + 2 * SYN_COOKIE_PERIOD_US;
    b.peer(A, 1, 1, b"");
    assert_eq!(b.sent()[0].flags, R);
    // Nobody has sent one for a while, so nobody is asked.
    assert_eq!((counters(&b), b.shard.accept_queue_len(b.listener)), ((1, 0, 1), 0));
}

/// Without a flood an ACK is not even looked at: guessing needs a flood.
#[test]
fn a_listener_that_sends_no_cookies_takes_none() {
    let mut b = flooded();
    b.peer(S, 0, 0, b"");
    b.sent();
    let (ours, options) = (b.ours, ConnOptions::default());
    b.shard.close_listener(b.now, b.listener);
    let options = ListenOptions { local: ours, v6only: false, backlog: 1, inherit: options };
    b.listener = b.shard.listen(options).unwrap();
    b.peer(A, 1, 1, b"");
    assert_eq!(b.sent()[0].flags, R);
    assert_eq!(counters(&b), (1, 0, 0));
}

#[test]
fn a_full_accept_queue_has_the_cookie_wait() {
    let mut b = flooded();
    let mut isns = std::vec![];
    for port in 10..13 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
        b.sent();
        isns.push(b.iss);
    }
    for (port, iss) in (10..13).zip(isns) {
        b.theirs.set_port(port);
        b.iss = iss;
        b.peer(A, 1, 1, b"");
    }
    // The backlog of one lets two in; the third hears nothing, and tries again with its data.
    assert_eq!((b.shard.accept_queue_len(b.listener), b.brief()), (2, std::vec![]));
    b.shard.accept(b.listener).unwrap();
    b.peer(PA, 1, 1, b"x");
    assert_eq!(b.shard.accept_queue_len(b.listener), 2);
    assert_eq!(b.shard.connections().count(), 5);
}

#[test]
fn the_half_open_connections_of_all_listeners_are_bounded_together() {
    let mut b = Bench::with(Config { max_half_open: 3, ..Config::default() }, 16);
    let other: SocketAddr = "10.0.0.2:81".parse().unwrap();
    let inherit = ConnOptions::default();
    b.shard.listen(ListenOptions { local: other, v6only: false, backlog: 9, inherit }).unwrap();
    for port in 1..=6 {
        b.theirs.set_port(port);
        b.ours.set_port(80 + port % 2);
        b.peer(S, 0, 0, b"");
    }
    assert_eq!(b.sent().len(), 6);
    assert_eq!(b.shard.connections().count(), 3);
    assert_eq!(counters(&b), (3, 0, 0));
    // Those that time out make room.
    b.next_sent(1);
    while !b.next_sent(100_000_000).1.is_empty() {}
    assert_eq!(b.shard.connections().count(), 0);
    b.peer(S, 0, 0, b"");
    assert_eq!((b.shard.connections().count(), counters(&b)), (1, (3, 0, 0)));
}

/// Who was in TIME-WAIT needs a number beyond the old ones, which a cookie cannot promise.
#[test]
fn a_syn_that_meets_time_wait_needs_no_cookie() {
    let mut b = Bench::with(Config { syn_queue: 1, ..Config::default() }, 16);
    let id = b.accept();
    let old = b.iss;
    b.shard.close(b.now, id);
    b.sent();
    b.peer(FA, 1, 2, b"");
    b.sent();
    assert_eq!(b.state(id), State::TimeWait);
    let theirs = b.theirs;
    b.theirs.set_port(1);
    b.peer(S, 0, 0, b"");
    b.sent();
    b.theirs = theirs;
    b.peer(S, 100, 0, b"");
    b.sent();
    assert_eq!(counters(&b), (0, 0, 0));
    assert!(Seq(b.iss).gt(Seq(old) + 2));
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 2);
}
