use super::*;
use crate::tcp::conn_options::Keepalive;

fn keepalive(b: &mut Bench, id: ConnId) {
    let keepalive = Keepalive { on: true, idle_us: 10_000_000, interval_us: 2_000_000, count: 3 };
    b.shard.set_options(b.now, id, ConnOptions { keepalive, ..ConnOptions::default() });
}

/// RFC 9293 MUST-24, MUST-26, MUST-27, MUST-29, SHLD-12.
#[test]
fn keepalive_probes_an_idle_peer_and_gives_up() {
    let (mut b, id) = Bench::accepted();
    keepalive(&mut b, id);
    let (us, sent) = b.next_sent(60_000_000);
    assert!((10_000_000..10_100_000).contains(&us), "{us}");
    assert_eq!(sent[0].brief(), (A, 0, 1, 0));
    // An answer starts the idle time anew.
    b.peer(A, 1, 1, b"");
    let (us, _) = b.next_sent(60_000_000);
    assert!((10_000_000..10_100_000).contains(&us), "{us}");
    for _ in 0..2 {
        let (us, sent) = b.next_sent(60_000_000);
        assert!((2_000_000..2_100_000).contains(&us), "{us}");
        assert_eq!(sent[0].brief(), (A, 0, 1, 0));
    }
    let (_, sent) = b.next_sent(60_000_000);
    assert_eq!(sent[0].brief(), (RA, 1, 1, 0));
    assert_eq!(b.recv(id), Err(Error::TimedOut));
}

/// RFC 9293 MUST-24.
#[test]
fn keepalive_can_be_switched_off() {
    let (mut b, id) = Bench::accepted();
    keepalive(&mut b, id);
    b.shard.set_options(b.now, id, ConnOptions::default());
    assert_eq!(b.next_sent(100_000_000).1, []);
}

#[test]
fn a_keepalive_of_the_peer_is_answered() {
    let (mut b, _) = Bench::accepted();
    b.peer(A, 0, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
}

/// RFC 9293 MUST-25.
#[test]
fn an_idle_connection_wakes_nobody() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"x");
    b.recv(id).unwrap();
    b.send(id, b"y").unwrap();
    b.sent();
    b.peer(A, 2, 2, b"");
    b.next_sent(10_000_000);
    assert_eq!(b.shard.next_timeout(), None);
    assert_eq!(b.shard.stats().memory_bytes, 0);
}

#[test]
fn large_buffers_are_given_back_when_they_stay_empty() {
    let (mut b, id) = Bench::accepted();
    let mut seq = 1;
    for _ in 0..40 {
        b.peer(A, seq, 1, &[1; 1400]);
        seq += 1400;
    }
    b.recv(id).unwrap();
    assert!(b.shard.stats().memory_bytes >= 56_000);
    b.next_sent(100_000);
    assert!(b.shard.stats().memory_bytes >= 56_000);
    b.next_sent(2_000_000);
    assert_eq!(b.shard.stats().memory_bytes, 0);
}

#[test]
fn an_idle_sender_starts_again_with_the_initial_window() {
    let (mut b, id) = Bench::accepted();
    let mut ack = 1;
    for _ in 0..10 {
        b.send(id, &[1; 30 * MSS]).unwrap();
        let sent: usize = b.sent().iter().map(|s| s.payload.len()).sum();
        ack += sent as u32;
        b.advance_us(10_000);
        b.peer(A, 1, ack, b"");
    }
    assert!(b.shard.info(id).unwrap().cwnd_bytes > 10 * MSS as u32);
    while b.shard.info(id).unwrap().unacked_bytes > 0 {
        let sent: usize = b.sent().iter().map(|s| s.payload.len()).sum();
        ack += sent as u32;
        b.peer(A, 1, ack, b"");
    }
    b.advance_us(20_000_000);
    b.send(id, &[1; 30 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 10);
}

#[test]
fn a_crowd_of_timers_is_spread_over_turns() {
    let mut b = Bench::with(Config { syn_queue: 10_000, ..Config::default() }, 16);
    for i in 0..5000u32 {
        b.theirs = SocketAddr::from(([10, 9, (i >> 8) as u8, i as u8], 1000));
        b.peer_unchecked(S, 0, 0, b"");
    }
    assert_eq!(b.sent().len(), 5000);
    b.now = b.now + 2_000_000;
    b.shard.handle_timers(b.now);
    assert_eq!(b.sent().len(), 4096);
    assert!(b.shard.next_timeout().unwrap() <= b.now);
    b.shard.handle_timers(b.now);
    assert_eq!(b.sent().len(), 904);
    assert!(b.shard.next_timeout().unwrap() > b.now);
}

/// RFC 6298 (5.7), RFC 5681 3.1, as Linux reads them: the timeout is 3 s where nothing was measured,
/// and it takes two repetitions to leave one segment.
#[test]
fn a_lost_syn_makes_a_cautious_beginning() {
    for (lost, segments) in [(1, 5), (2, 1)] {
        let mut b = Bench::new();
        let id = b.connect();
        b.sent();
        for _ in 0..lost {
            b.next_sent(3_000_000);
        }
        b.peer(SA, 0, 1, b"");
        b.sent();
        b.send(id, &[1; 5 * MSS]).unwrap();
        assert_eq!(b.sent().len(), segments, "{lost} lost");
        assert_eq!(b.shard.info(id).unwrap().rto_us, 3_000_000);
    }
}

/// Linux: the timestamp says which SYN was answered, so there is a measurement after all.
#[test]
fn timestamps_measure_a_repeated_syn() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    let (_, again) = b.next_sent(3_000_000);
    b.advance_us(40_000);
    b.peer_options.timestamps = Some((1, again[0].options.timestamps.unwrap().0));
    b.peer(SA, 0, 1, b"");
    let info = b.shard.info(id).unwrap();
    assert!((39_000..=41_000).contains(&info.srtt_us), "{}", info.srtt_us);
    assert!(info.rto_us < 1_000_000);
}
