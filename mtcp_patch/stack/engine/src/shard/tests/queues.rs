use super::*;
use crate::stats::Refusal;

/// As Linux: with a full accept queue the last ACK of a handshake is dropped, and so are SYNs.
#[test]
fn a_full_accept_queue_drops_handshakes() {
    let mut b = Bench::with(Config::default(), 1);
    for port in 1..=3 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
    }
    let numbers: Vec<u32> = (1..=3).map(|i| b.sent_at_most(1).len() as u32 * i).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let mut last = b.iss;
    for port in 1..=3 {
        b.theirs.set_port(port);
        // Each has its own initial number: a repeated SYN tells it.
        b.peer(S, 0, 0, b"");
        b.sent();
        last = b.iss;
        b.peer(A, 1, 1, b"");
    }
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.accept_queue_len(b.listener), 2);
    assert_eq!(b.shard.stats().refused(Refusal::AcceptQueueFull), 1);
    b.theirs.set_port(4);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.stats().refused(Refusal::AcceptQueueFull), 2);
    // The third gets in when there is room and the client repeats itself: here with its request.
    b.theirs.set_port(3);
    b.iss = last;
    b.shard.accept(b.listener).unwrap();
    b.peer(PA, 1, 1, b"request");
    assert_eq!(b.shard.accept_queue_len(b.listener), 2);
    b.shard.accept(b.listener).unwrap();
    let third = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.recv(third).unwrap(), b"request");
    assert_eq!(b.shard.accept(b.listener), Err(Error::WouldBlock));
    b.shard.set_backlog(b.listener, 10);
    assert_eq!(b.shard.listeners().next().unwrap().backlog, 10);
}

/// RFC 4987 3.4: the oldest gives way, without a word; who completes has left the queue.
#[test]
fn the_syn_queue_is_bounded_and_the_oldest_gives_way() {
    let mut b = Bench::with(Config { syn_queue: 2, syn_cookies: false, ..Config::default() }, 16);
    for port in 1..=3 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
        assert_eq!(b.sent().len(), 1, "SYN-ACK of {port}");
    }
    assert_eq!(b.shard.stats().refused(Refusal::SynQueueFull), 1);
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 2);
    // The first is forgotten, the last gets in.
    let last = b.iss;
    b.peer(A, 1, 1, b"");
    assert_eq!(b.shard.accept_queue_len(b.listener), 1);
    b.theirs.set_port(1);
    b.peer(A, 1, 1, b"");
    assert!(b.sent().iter().all(|s| s.brief().0.contains(Flags::RST)));
    assert_eq!(b.shard.accept_queue_len(b.listener), 1);
    assert_eq!(b.iss, last);
    b.theirs.set_port(2);
    b.peer(R, 1, 0, b"");
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 0);
}

#[test]
fn without_cookies_a_flood_of_syns_keeps_nobody_out_and_its_list_is_bounded() {
    let mut b = Bench::with(Config { syn_queue: 4, syn_cookies: false, ..Config::default() }, 16);
    for port in 1..=1000 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
    }
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 4);
    assert!(b.shard.listeners.iter().all(|(_, l)| l.half_open.len() <= 8));
    b.sent_at_most(2000);
    b.theirs.set_port(2000);
    b.accept();
}

/// RFC 9293 3.10.7.2, fourth: what has neither SYN, ACK nor RST is dropped.
#[test]
fn a_listener_drops_what_means_nothing() {
    let mut b = Bench::with(Config::default(), 16);
    for flags in [Flags(0), Flags::FIN, Flags::PSH, Flags::RST] {
        b.peer(flags, 7, 0, b"x");
    }
    assert_eq!(b.brief(), []);
}

#[test]
fn the_number_of_connections_is_bounded() {
    let mut b = Bench::with(Config { max_connections: 1, ..Config::default() }, 16);
    let id = b.accept();
    b.theirs.set_port(2);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.stats().refused(Refusal::ConnectionLimit), 1);
    let request = ConnectOptions {
        local: "10.0.0.2:5000".parse().unwrap(),
        remote: b.theirs,
        path: Path { device: DEVICE, caps: caps(), link: Link::default() },
        options: ConnOptions::default(),
    };
    assert_eq!(b.shard.connect(b.now, request), Err(Error::NoBuffers));
    b.shard.abort(b.now, id);
    assert!(b.shard.connect(b.now, request).is_ok());
}

#[test]
fn buffer_memory_is_bounded_and_everybody_makes_progress() {
    let config = Config { max_memory_bytes: 16 << 10, ..Config::default() };
    let mut b = Bench::with(config, 16);
    let first = b.accept();
    let mut seq = 1;
    for _ in 0..30 {
        b.peer(A, seq, 1, &[1; 1000]);
        seq = b.next_sent(100_000).1.last().map_or(seq, |s| s.ack);
    }
    assert!(b.shard.stats().memory_bytes <= 16 << 10);
    assert!(b.shard.stats().refused(Refusal::MemoryLimit) > 0);
    b.theirs.set_port(2);
    let second = b.accept();
    assert_eq!(b.send(second, &[1; 10_000]), Ok(4096));
    b.peer(PA, 1, 1, b"small");
    assert_eq!(b.recv(second).unwrap(), b"small");
    assert_eq!(b.recv(first).unwrap().len(), 16_384);
    assert_eq!(b.send(second, &[1; 10_000]), Ok(10_000));
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(A, 1, 1, b"");
    b.theirs.set_port(2);
    b.peer(S, 0, 0, b"");
    b.sent();
    b.shard.close_listener(b.now, b.listener);
    assert_eq!(b.sent()[0].flags, RA);
    // The half-open one learns of it at its next segment.
    b.peer(A, 1, 1, b"");
    assert_eq!(b.sent()[0].flags, R);
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.events(), []);
    assert_eq!(b.shard.next_timeout(), None);
}

#[test]
fn half_open_connections_of_a_closed_listener_vanish() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.shard.close_listener(b.now, b.listener);
    b.advance_us(2_000_000);
    assert_eq!(b.shard.connections().count(), 0);
}

#[test]
fn a_reset_in_the_accept_queue_is_seen_after_accept() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(PA, 1, 1, b"last words");
    b.peer(R, 11, 0, b"");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.recv(id).unwrap(), b"last words");
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
}

#[test]
fn replies_are_bounded() {
    let mut b = Bench::new();
    b.ours.set_port(81);
    for _ in 0..5000 {
        b.peer(A, 1, 1, b"");
    }
    assert_eq!(b.sent().len(), 4096);
    assert_eq!(b.shard.stats().refused(Refusal::ReplyLimit), 904);
}

#[test]
fn what_a_stuck_device_does_not_take_is_bounded() {
    let mut b = Bench::new();
    for i in 0..70_000u32 {
        b.theirs = SocketAddr::from(([10, 9, (i >> 8) as u8, i as u8], 1000));
        b.peer_unchecked(S, 0, 0, b"");
        b.peer_unchecked(R, 1, 0, b"");
    }
    assert_eq!(b.shard.stats().refused(Refusal::ConnectionLimit), 70_000 - 65_536);
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.brief(), []);
    b.theirs = SocketAddr::from(([10, 9, 0, 0], 1000));
    b.accept();
}

#[test]
fn ranges_out_of_order_are_bounded() {
    let (mut b, _) = Bench::accepted();
    for i in 0..200 {
        b.peer(A, 10 + 10 * i, 1, b"x");
    }
    assert_eq!(b.shard.stats().refused(Refusal::ReassemblyLimit), 200 - 64);
}

#[test]
fn frames_of_unknown_devices_and_malformed_ones_are_counted() {
    let mut b = Bench::new();
    b.shard.handle_frame(b.now, DeviceId(77), &[0x45; 40]);
    b.shard.handle_frame(b.now, DEVICE, &[]);
    b.shard.handle_frame(b.now, DEVICE, &[0x45; 40]);
    assert_eq!(b.shard.stats().refused(Refusal::UnknownDevice), 1);
    let dropped: u64 = b.shard.stats().drops().map(|(_, n)| n).sum();
    assert_eq!(dropped, 3);
}
