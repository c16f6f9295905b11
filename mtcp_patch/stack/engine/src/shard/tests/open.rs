use super::*;
use crate::event::ready;
use crate::stats::Refusal;

/// RFC 9293 MUST-14, SHLD-5.
#[test]
fn passive_open() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    let sent = b.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].brief(), (SA, 0, 1, 0));
    assert_eq!(sent[0].options.mss, Some(1460));
    // The peer offered no window scale, so neither do we (RFC 7323 2.2).
    assert_eq!(sent[0].options.wscale, None);
    assert_eq!(b.shard.accept(b.listener), Err(Error::WouldBlock));
    assert_eq!(b.events(), []);
    b.peer(A, 1, 1, b"");
    assert_eq!(b.events(), [Event::Listener(b.listener)]);
    let id = b.shard.accept(b.listener).unwrap();
    let info = b.shard.info(id).unwrap();
    assert_eq!((info.state, info.local, info.remote), (State::Established, b.ours, b.theirs));
    assert_eq!(b.shard.readiness(id), ready::OUT);
    assert_eq!(b.brief(), []);
}

#[test]
fn window_scale_is_agreed_when_both_offer_it() {
    let mut b = Bench::new();
    b.peer_options.wscale = Some(3);
    b.peer_wnd = 100;
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].options.wscale, Some(8));
    b.peer(A, 1, 1, b"");
    let id = b.shard.accept(b.listener).unwrap();
    b.send(id, &[0; 5000]).unwrap();
    // 100 << 3 bytes are allowed.
    assert_eq!(b.brief(), [(A, 1, 1, 800)]);
}

/// RFC 9293 MUST-14, SHLD-5.
#[test]
fn active_open() {
    let mut b = Bench::new();
    let id = b.connect();
    assert_eq!(b.shard.readiness(id), 0);
    assert_eq!(b.send(id, b"x"), Err(Error::WouldBlock));
    let sent = b.sent();
    assert_eq!(sent[0].brief(), (S, 0, 0, 0));
    assert_eq!((sent[0].options.mss, sent[0].options.wscale), (Some(1460), Some(8)));
    b.peer(SA, 0, 1, b"");
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id), ready::OUT);
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
}

/// RFC 9293 figure 8.
/// RFC 9293 MUST-10.
#[test]
fn simultaneous_open() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(S, 0, 0, b"");
    assert_eq!(b.state(id), State::SynReceived);
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
    b.peer(SA, 0, 1, b"");
    assert_eq!(b.state(id), State::Established);
    assert_eq!(b.events(), [Event::Conn(id)]);
    b.send(id, b"hello").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 1, 5)]);
}

#[test]
fn close_during_a_simultaneous_open_sends_the_fin_afterwards() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.shard.close(b.now, id);
    assert_eq!(b.state(id), State::SynReceived);
    b.peer(SA, 0, 1, b"");
    assert_eq!(b.brief(), [(FA, 1, 1, 0)]);
    assert_eq!(b.state(id), State::FinWait1);
}

/// RFC 9293 MUST-12.
#[test]
fn a_reset_refuses_the_connection_once() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(RA, 0, 1, b"");
    let bits = b.shard.readiness(id);
    assert_eq!(bits, ready::IN | ready::OUT | ready::ERR | ready::HUP | ready::RDHUP);
    assert_eq!(b.shard.take_error(id), Some(Error::ConnectionRefused));
    assert_eq!(b.shard.take_error(id), None);
    assert_eq!(b.recv(id), Ok(std::vec![]));
    assert_eq!(b.send(id, b"x"), Err(Error::BrokenPipe));
    b.shard.close(b.now, id);
    assert!(b.events().contains(&Event::Freed(id)));
    assert_eq!(b.shard.connections().count(), 0);
}

#[test]
fn a_reset_that_acknowledges_nothing_of_ours_is_ignored() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(R, 0, 0, b"");
    b.peer(RA, 0, 0, b"");
    b.peer(RA, 0, 2, b"");
    assert_eq!((b.state(id), b.brief()), (State::SynSent, std::vec![]));
    // A wrong ACK is answered with a reset (RFC 9293 3.10.7.3).
    b.peer(A, 0, 77, b"");
    let sent = b.sent();
    assert_eq!((sent[0].flags, sent[0].seq), (R, 77));
    assert_eq!(b.state(id), State::SynSent);
}

/// RFC 9293 MUST-22, MUST-23.
#[test]
fn nobody_answers_and_connect_times_out() {
    let mut b = Bench::new();
    let id = b.connect();
    let mut gaps = std::vec![];
    b.sent();
    loop {
        let (us, sent) = b.next_sent(1_000_000_000);
        if sent.is_empty() {
            break;
        }
        assert_eq!(sent[0].brief(), (S, 0, 0, 0));
        gaps.push((us + 500_000) / 1_000_000);
    }
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32]);
    assert_eq!(b.shard.take_error(id), Some(Error::TimedOut));
}

#[test]
fn the_syn_ack_is_repeated_and_forgotten() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    // A repeated SYN has it again at once.
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
    let mut count = 0;
    while !b.next_sent(1_000_000_000).1.is_empty() {
        count += 1;
    }
    assert_eq!(count, 5);
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 0);
}

/// RFC 9293 3.10.7.1.
#[test]
fn a_closed_port_answers_with_a_reset() {
    let mut b = Bench::new();
    b.ours.set_port(81);
    b.peer(S, 0, 0, b"");
    let sent = b.sent();
    assert_eq!((sent[0].flags, sent[0].seq, sent[0].ack), (RA, 0, 1));
    b.peer(PA, 5, 50, b"abc");
    let sent = b.sent();
    assert_eq!((sent[0].flags, sent[0].seq), (R, 50));
    b.peer(FPA, 5, 50, b"abc");
    assert_eq!(b.sent().len(), 1);
    b.peer(R, 5, 0, b"");
    b.peer(RA, 5, 5, b"");
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.stats().refused(Refusal::NoConnection), 5);
    // A listener answers a stray ACK in the same way and ignores a SYN with FIN.
    b.ours.set_port(80);
    b.peer(A, 5, 60, b"");
    assert_eq!(b.sent()[0].flags, R);
    b.peer(Flags(3), 0, 0, b"");
    assert_eq!(b.brief(), []);
}

#[test]
fn a_bad_ack_in_syn_received_is_reset_and_the_connection_stays() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(A, 1, 7, b"");
    let sent = b.sent();
    assert_eq!((sent[0].flags, sent[0].seq), (R, 7));
    b.peer(A, 1, 1, b"");
    assert!(b.shard.accept(b.listener).is_ok());
}

#[test]
fn data_may_come_with_the_last_ack_of_the_handshake() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(FPA, 1, 1, b"request");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.recv(id).unwrap(), b"request");
    assert_eq!(b.recv(id).unwrap(), b"");
    assert_eq!(b.brief(), [(A, 1, 9, 0)]);
    assert_eq!(b.state(id), State::CloseWait);
}

/// RFC 6528: unpredictable from one connection to another, increasing for the same one.
/// RFC 9293 MUST-8, MUST-9, SHLD-1.
#[test]
fn initial_sequence_numbers() {
    let mut b = Bench::new();
    let mut seen = std::vec![];
    for port in 4000..4008 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
        b.sent();
        seen.push(b.iss);
    }
    seen.sort_unstable();
    assert!(seen.windows(2).all(|w| w[1] - w[0] > 1000), "{seen:?}");
    let first = b.iss;
    b.peer(R, 1, 0, b"");
    b.now = b.now + 1_000_000;
    b.peer(S, 0, 0, b"");
    b.sent();
    assert_eq!(b.iss.wrapping_sub(first), 250_000);
}

/// RFC 6528 3: the secret is the process's, so another process has other numbers for the same
/// 4-tuple at the same time, and so do their timestamps (RFC 7323 5.4) and cookies (RFC 4987 3.6).
#[test]
fn initial_sequence_numbers_depend_on_the_secret() {
    let syn_ack = |seed: u8, syn_queue| {
        let mut b = Bench::with(Config { syn_queue, ..Config::default() }, 16);
        b.shard = Shard::new(Config { syn_queue, ..Config::default() }, [seed; 32]);
        b.shard.add_device(DEVICE, caps());
        let inherit = ConnOptions::default();
        let options = ListenOptions { local: b.ours, v6only: false, backlog: 9, inherit };
        b.listener = b.shard.listen(options).unwrap();
        b.peer_options.timestamps = Some((1, 0));
        b.peer(S, 0, 0, b"");
        let options = b.sent()[0].options;
        assert_eq!(b.shard.stats().syncookies_sent, u64::from(syn_queue == 0));
        (b.iss, options.timestamps.unwrap().0)
    };
    for syn_queue in [16, 0] {
        let (first, second) = (syn_ack(1, syn_queue), syn_ack(2, syn_queue));
        assert_eq!(first, syn_ack(1, syn_queue));
        assert!(first.0 != second.0 && first.1 != second.1, "{first:?} {second:?}");
    }
}

/// A connection to itself: the simultaneous open with only one end (Linux allows it too).
#[test]
fn a_connection_to_itself() {
    let mut shard = Shard::new(Config::default(), [1; 32]);
    let mut device = crate::device::memory::Memory::default();
    shard.add_device(DEVICE, device.caps());
    let me: SocketAddr = "127.0.0.1:7".parse().unwrap();
    let path = Path { device: DEVICE, caps: device.caps(), link: Link::default() };
    let options = ConnOptions::default();
    let now = Instant::from_micros(5);
    let request = ConnectOptions { local: me, remote: me, path, options };
    let id = shard.connect(now, request).unwrap();
    let turn = |shard: &mut Shard, device: &mut crate::device::memory::Memory| {
        for _ in 0..5 {
            shard.transmit(now, DEVICE, device);
            device.flush();
            device.receive(99, &mut |frame| shard.handle_frame(now, DEVICE, frame));
            shard.check().unwrap();
        }
    };
    turn(&mut shard, &mut device);
    assert_eq!(shard.info(id).unwrap().state, State::Established);
    shard.send(now, id, b"echo").unwrap();
    turn(&mut shard, &mut device);
    assert_eq!(shard.recv_slices(id).unwrap().0, b"echo");
    shard.recv_consume(now, id, 4).unwrap();
    shard.close(now, id);
    turn(&mut shard, &mut device);
    shard.handle_timers(now + 10_000);
    assert_eq!(shard.connections().count(), 0);
}

/// Minutes in a debug build, seconds in release: what grows with the number of connections is
/// memory alone. (`examples/turn.rs` prints what a packet costs among them.)
#[test]
#[ignore = "0.6 GB: cargo test -p mtcp-engine --release -- --ignored a_million"]
fn a_million_connections() {
    let mut b = Bench::new();
    b.peer_options.wscale = Some(7);
    let mut first = None;
    let mut last = None;
    for i in 0..1_000_000u32 {
        b.theirs = SocketAddr::from(([10, 1, (i >> 8 & 15) as u8, i as u8], 1 + (i >> 12) as u16));
        b.peer_unchecked(S, 0, 0, b"");
        b.sent_unchecked();
        b.peer_unchecked(A, 1, 1, b"");
        let id = b.shard.accept(b.listener).unwrap();
        first = first.or(Some((id, b.theirs, b.iss)));
        last = Some((id, b.theirs, b.iss));
        b.events();
    }
    b.shard.handle_timers(b.now);
    assert_eq!(b.shard.connections().count(), 1_000_000);
    assert_eq!(b.shard.stats().memory_bytes, 0);
    for (id, theirs, iss) in [first.unwrap(), last.unwrap()] {
        (b.theirs, b.iss) = (theirs, iss);
        b.peer_unchecked(PA, 1, 1, b"question");
        assert_eq!(b.events(), [Event::Conn(id)]);
        b.send(id, b"answer").unwrap();
        assert_eq!(b.sent_unchecked()[0].brief(), (PA, 1, 9, 6));
    }
    b.shard.check().unwrap();
}

#[test]
fn addresses_are_checked() {
    let mut b = Bench::new();
    let good = ConnectOptions {
        local: "10.0.0.2:5000".parse().unwrap(),
        remote: "10.0.0.1:80".parse().unwrap(),
        path: Path { device: DEVICE, caps: caps(), link: Link::default() },
        options: ConnOptions::default(),
    };
    for (local, remote) in [
        ("10.0.0.2:0", "10.0.0.1:80"),
        ("0.0.0.0:5000", "10.0.0.1:80"),
        ("10.0.0.2:5000", "10.0.0.1:0"),
        ("10.0.0.2:5000", "[::1]:80"),
    ] {
        let local = local.parse().unwrap();
        let remote = remote.parse().unwrap();
        let bad = ConnectOptions { local, remote, ..good };
        assert_eq!(b.shard.connect(b.now, bad), Err(Error::Invalid));
    }
    b.shard.connect(b.now, good).unwrap();
    assert_eq!(b.shard.connect(b.now, good), Err(Error::AddrInUse));
}

/// RFC 9293 MUST-41, MUST-43.
#[test]
fn listeners_are_found_by_address_then_wildcard_then_dual_stack() {
    let mut b = Bench::new();
    let listen = |b: &mut Bench, local: &str, v6only| {
        let local = local.parse().unwrap();
        let inherit = ConnOptions::default();
        b.shard.listen(ListenOptions { local, v6only, backlog: 1, inherit })
    };
    assert_eq!(listen(&mut b, "10.0.0.2:80", false), Err(Error::AddrInUse));
    assert_eq!(listen(&mut b, "10.0.0.2:0", false), Err(Error::Invalid));
    let dual = listen(&mut b, "[::]:80", false).unwrap();
    let find = |b: &Bench, dst: &str| b.shard.find_listener(dst.parse().unwrap());
    assert_eq!(find(&b, "10.0.0.2:80"), Some(b.listener));
    assert_eq!(find(&b, "10.0.0.3:80"), Some(dual));
    assert_eq!(find(&b, "[fd00::1]:80"), Some(dual));
    let any = listen(&mut b, "0.0.0.0:80", false).unwrap();
    assert_eq!(find(&b, "10.0.0.3:80"), Some(any));
    let only = listen(&mut b, "[::]:90", true).unwrap();
    assert_eq!(find(&b, "10.0.0.3:90"), None);
    assert_eq!(find(&b, "[fd00::1]:90"), Some(only));
    b.shard.close_listener(b.now, any);
    assert_eq!(find(&b, "10.0.0.3:80"), Some(dual));
    assert_eq!(b.shard.accept(any), Err(Error::BadId));
}

/// RFC 9293 3.10.7.3: text that comes with the SYN-ACK is taken, and acknowledged with it.
#[test]
fn text_in_a_syn_ack_is_taken() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(SA, 0, 1, b"hello");
    assert_eq!(b.brief(), [(A, 1, 6, 0)]);
    assert_eq!(b.recv(id).unwrap(), b"hello");
}

/// The same for its FIN.
#[test]
fn a_fin_in_a_syn_ack_is_taken() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(Flags(SA.0 | 1), 0, 1, b"all");
    assert_eq!((b.state(id), b.brief()), (State::CloseWait, std::vec![(A, 1, 5, 0)]));
    assert_eq!(b.recv(id).unwrap(), b"all");
}

/// RFC 5961 3.2: also where the handshake of a simultaneous open is not over.
#[test]
fn an_inexact_reset_in_syn_received_is_challenged() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
    b.peer(R, 100, 0, b"");
    assert_eq!((b.state(id), b.brief()), (State::SynReceived, std::vec![(A, 1, 1, 0)]));
}
