//! The shard under attack: memory stays within the limits, counters tell, service goes on. Seeded,
//! in virtual time; what a stranger cannot cause is proven packet by packet in `rfc5961`, `icmp`,
//! `cookies` and `requests`.

use super::*;
use crate::limits::{MAX_PENDING_REPLIES, MIN_REASSEMBLY_RANGES};
use crate::random::SplitMix64;
use crate::stats::Refusal;

/// The driver's batch: so many frames come in before something leaves.
const BATCH: usize = 64;

/// A stranger: any address of 10/8 and any port.
fn stranger(random: &mut SplitMix64) -> SocketAddr {
    let [a, b, c, d, e, ..] = random.next_u64().to_be_bytes();
    SocketAddr::from(([10, a, b, c], u16::from_be_bytes([d, e]).max(1)))
}

/// An honest client comes, asks, is answered and goes.
fn serve(b: &mut Bench, port: u16) {
    (b.theirs, b.peer_wnd) = (SocketAddr::from(([192, 0, 2, 1], port)), 65_535);
    b.sent_unchecked();
    b.peer_unchecked(S, 0, 0, b"");
    assert_eq!(b.sent_unchecked()[0].flags, SA, "client {port}");
    b.peer_unchecked(A, 1, 1, b"");
    b.peer_unchecked(PA, 1, 1, b"question");
    let id = b.shard.accept(b.listener).unwrap();
    assert_eq!(b.recv(id).unwrap(), b"question");
    b.send(id, b"answer").unwrap();
    assert_eq!(b.sent_unchecked().last().unwrap().payload, b"answer");
    b.shard.abort(b.now, id);
    b.sent_unchecked();
    b.events();
}

/// What a peer that keeps nothing out of order expects after these segments.
fn received(next: u32, segments: &[Sent]) -> u32 {
    segments.iter().fold(next, |next, s| match s.seq <= next {
        true => next.max(s.seq + s.payload.len() as u32),
        false => next,
    })
}

/// `count` SYNs of strangers at a million a second, a client every 10,000.
fn syn_flood(b: &mut Bench, count: usize) {
    let mut random = SplitMix64(4987);
    let mut port = 1000;
    for i in 0..count {
        b.theirs = stranger(&mut random);
        b.peer_unchecked(S, random.next_u64() as u32, 0, b"");
        if i % BATCH == 0 {
            b.now = b.now + BATCH as u64;
            b.shard.handle_timers(b.now);
            b.sent_unchecked();
        }
        if i % 10_000 == 9_999 {
            port += 1;
            serve(b, port);
        }
    }
}

#[test]
fn a_syn_flood_is_answered_with_cookies_and_clients_are_served() {
    let mut b = Bench::new();
    syn_flood(&mut b, 100_000);
    let stats = b.shard.stats();
    let half_open = b.shard.listeners().next().unwrap().syn_queue;
    assert_eq!(half_open, Config::default().syn_queue);
    assert_eq!(b.shard.connections().count(), half_open);
    assert_eq!(stats.syncookies_sent, 100_010 - 4096);
    assert_eq!((stats.syncookies_received, stats.accepted), (10, 10));
    assert_eq!(stats.memory_bytes, 0);
    b.shard.check().unwrap();
    // It ends, and so do they.
    while !b.next_sent(100_000_000).1.is_empty() {}
    assert_eq!(b.shard.connections().count(), 0);
}

/// A million flows that nobody remembers: below ten seconds in a debug build.
#[test]
fn a_million_half_open_flows() {
    let mut b = Bench::new();
    syn_flood(&mut b, 1_000_000);
    assert_eq!(b.shard.connections().count(), 4096);
    assert!(b.shard.flows.memory_bytes() < 1 << 20, "{}", b.shard.flows.memory_bytes());
    assert_eq!(b.shard.stats().syncookies_received, 100);
    assert_eq!(b.shard.stats().memory_bytes, 0);
    b.shard.check().unwrap();
}

/// The same where the limits let a million be remembered: a request is all that each costs.
#[test]
#[ignore = "0.3 GB: cargo test -p mtcp-engine --release -- --ignored a_million"]
fn a_million_half_open_flows_that_are_remembered() {
    let limits = Config { syn_queue: 1_000_000, max_half_open: 1_000_000, ..Config::default() };
    let mut b = Bench::with(limits, 16);
    let mut random = SplitMix64(1);
    for i in 0..1_000_000 {
        b.theirs = stranger(&mut random);
        b.peer_unchecked(S, 0, 0, b"");
        if i % BATCH == 0 {
            b.sent_unchecked();
        }
    }
    b.sent_unchecked();
    let known = b.shard.connections().count();
    // Some strangers are the same.
    assert!((990_000..=1_000_000).contains(&known), "{known}");
    assert!(b.shard.flows.memory_bytes() < 64 << 20);
    serve(&mut b, 5000);
    b.shard.check().unwrap();
    while b.shard.next_timeout().is_some() {
        b.now = b.now.max(b.shard.next_timeout().unwrap());
        b.shard.handle_timers(b.now);
        b.sent_unchecked();
    }
    assert_eq!(b.shard.connections().count(), 0);
}

/// Segments of any kind for closed ports and for a listener: a reset each at most, none stored
/// beyond the limit while the device is slow.
#[test]
fn floods_of_strays_are_answered_by_resets_at_most() {
    for flags in [A, R, FA, PA, RA, SA] {
        for port in [80, 81] {
            let mut b = Bench::new();
            let mut random = SplitMix64(7);
            b.ours.set_port(port);
            for _ in 0..10_000 {
                b.theirs = stranger(&mut random);
                b.peer_unchecked(flags, random.next_u64() as u32, random.next_u64() as u32, b"x");
            }
            let sent = b.sent();
            let expected = if flags.contains(R) { 0 } else { MAX_PENDING_REPLIES };
            assert_eq!(sent.len(), expected, "{flags:?} {port}");
            assert!(sent.iter().all(|s| s.flags.contains(R)));
            let stats = b.shard.stats();
            assert_eq!(stats.refused(Refusal::NoConnection), 10_000);
            assert_eq!((b.shard.connections().count(), stats.memory_bytes), (0, 0));
            b.ours.set_port(80);
            serve(&mut b, 1);
        }
    }
}

/// ACKs that answer cookies which were never sent, while cookies are about.
#[test]
fn a_flood_of_made_up_cookies_opens_nothing() {
    let mut b = Bench::with(Config { syn_queue: 1, ..Config::default() }, 16);
    for port in 1..=2 {
        b.theirs.set_port(port);
        b.peer(S, 0, 0, b"");
    }
    let mut random = SplitMix64(3);
    for _ in 0..50_000 {
        b.theirs = stranger(&mut random);
        b.peer_unchecked(A, random.next_u64() as u32, random.next_u64() as u32, b"");
        b.sent_unchecked();
    }
    let stats = b.shard.stats();
    assert_eq!(
        (stats.syncookies_failed, stats.syncookies_received, stats.accepted),
        (50_000, 0, 0)
    );
    serve(&mut b, 9);
}

/// A stranger who knows the 4-tuple and guesses numbers: RST, FIN, SYN, data, at any place. (One
/// who hits RCV.NXT and a plausible acknowledgment would win: two guesses in 2^32 / window.)
#[test]
fn floods_of_guesses_do_not_end_a_connection() {
    let (mut b, id) = Bench::accepted();
    let mut random = SplitMix64(5961);
    let mut answers = 0;
    for i in 0..50_000u32 {
        let flags = [R, S, FA, PA, RA, SA, A][random.next_u64() as usize % 7];
        // Outside of the window that matters to each kind: exact numbers are not guessed here.
        let seq = 70_000 + (random.next_u64() as u32 % (u32::MAX - 200_000));
        b.peer_unchecked(flags, seq, random.next_u64() as u32, b"poison");
        answers += b.sent_unchecked().len();
        if i % 1000 == 0 {
            b.now = b.now + 1_000;
            b.shard.handle_timers(b.now);
        }
    }
    b.shard.check().unwrap();
    assert_eq!(b.state(id), State::Established);
    // Data out of window is answered at once (RFC 9293 3.10.7.4), the rest now and then.
    assert!(answers <= 50_000 * 4 / 7, "{answers}");
    assert!(b.shard.stats().memory_bytes <= 4096, "nothing of it is kept");
    b.peer(PA, 1, 1, b"genuine");
    assert_eq!(b.recv(id).unwrap(), b"genuine");
}

/// RFC 9293 3.8.6.1: as long as probes are answered an application may wait; but nobody waits for
/// the memory of one that is gone.
#[test]
fn a_zero_window_for_ever_costs_the_memory_of_nobody() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.send(id, &[1; 50_000]).unwrap();
    let hold = |b: &mut Bench, us: u64| {
        let until = b.now + us;
        let mut probes = 0;
        while b.now < until && b.shard.connections().count() > 0 {
            let left = until.micros_since(b.now);
            if !b.next_sent(left).1.is_empty() {
                probes += 1;
                b.peer(A, 1, 1, b"");
            }
        }
        probes
    };
    // A day: at most one probe in two minutes after the first few.
    let probes = hold(&mut b, 86_400_000_000);
    assert!((700..800).contains(&probes), "{probes}");
    assert_eq!(b.state(id), State::Established);
    b.shard.close(b.now, id);
    hold(&mut b, 3_600_000_000);
    assert_eq!((b.shard.connections().count(), b.shard.stats().memory_bytes), (0, 0));
}

/// A reader who takes a segment every minute gets all of it.
#[test]
fn a_slow_reader_is_not_punished() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 1000;
    b.peer(A, 1, 1, b"");
    b.send(id, &[1; 60_000]).unwrap();
    let mut next = 1;
    while next < 60_001 {
        let (_, sent) = b.next_sent(60_000_000);
        next = received(next, &sent);
        // Full: every probe is answered, the window opens after a minute.
        b.peer_wnd = 0;
        b.peer(A, 1, next, b"");
        let until = b.now + 60_000_000;
        while b.now < until {
            let left = until.micros_since(b.now);
            if !b.next_sent(left).1.is_empty() {
                b.peer(A, 1, next, b"");
            }
        }
        b.peer_wnd = 1000;
        b.peer(A, 1, next, b"");
    }
    assert_eq!(b.state(id), State::Established);
    assert_eq!(b.shard.info(id).unwrap().unacked_bytes, 0);
}

/// A window of one byte: RFC 9293 3.8.6.2.1 sends little, and seldom; the buffer is bounded.
#[test]
fn a_tiny_window_makes_no_flood_of_tiny_segments() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 1;
    b.peer(A, 1, 1, b"");
    while b.send(id, &[1; 65_536]).is_ok() {}
    let most = Config::default().send_buffer_bytes as u64;
    assert!(b.shard.stats().memory_bytes <= most);
    let begin = b.now;
    let (mut next, mut segments) = (1u32, 0);
    while b.now.micros_since(begin) < 600_000_000 {
        let (_, sent) = b.next_sent(600_000_000);
        segments += sent.len();
        next = sent.iter().map(|s| s.seq + s.payload.len() as u32).fold(next, u32::max);
        b.peer(A, 1, next, b"");
    }
    assert!(next > 1, "it moves");
    assert!(segments < 5_000, "{segments} in ten minutes");
}

/// Thousands of acknowledgments with blocks that are nested, upside down, old or of the future:
/// they cost no memory, cause no flood, and the transfer goes on.
#[test]
fn sack_bombs_do_no_harm() {
    let mut b = Bench::new();
    b.peer_options.sack_permitted = true;
    b.peer_options.wscale = Some(10);
    b.peer_wnd = 60_000;
    let id = b.accept();
    let mut random = SplitMix64(2018);
    let total = 400_000u32;
    b.send(id, &std::vec![1; 250_000]).unwrap();
    let (mut queued, mut next, mut sent) = (250_000, 1u32, 0usize);
    let take = |b: &mut Bench, next: &mut u32| {
        let segments = b.sent_unchecked();
        *next = received(*next, &segments);
        segments.len()
    };
    for _ in 0..20_000 {
        let block = |random: &mut SplitMix64| {
            let word = random.next_u64();
            let near = (word as u32) % (total + 20_000);
            let left = if word >> 63 == 0 { near } else { (word >> 20) as u32 };
            let length = ((word >> 32) as u32) % 3000;
            let left = Seq(b.iss.wrapping_add(left));
            Some((left, if word >> 62 & 1 == 0 { left + length } else { left - length }))
        };
        b.peer_later.sack = core::array::from_fn(|_| block(&mut random));
        b.peer_unchecked(A, 1, 1, b"");
        sent += b.sent_unchecked().len();
    }
    b.shard.check().unwrap();
    assert_eq!(b.state(id), State::Established);
    // Each acknowledgment lets at most one segment go, once what is left has been sent.
    assert!(sent <= 20_000, "{sent}");
    assert!(b.shard.stats().memory_bytes <= Config::default().send_buffer_bytes as u64);
    // A peer that has come to its senses gets everything.
    b.peer_later.sack = [None; 4];
    let mut turns = 0;
    while next < total + 1 {
        turns += 1;
        assert!(turns < 20_000, "stuck at {next}");
        if take(&mut b, &mut next) == 0 {
            let (_, segments) = b.next_sent(130_000_000);
            next = received(next, &segments);
        }
        b.peer(A, 1, next, b"");
        if let Ok(n) = b.send(id, &std::vec![1; (total - queued) as usize]) {
            queued += n as u32;
        }
    }
}

/// Segments that overlap in every way, and lie about what they repeat: the stream has its length,
/// and what was delivered does not change.
#[test]
fn overlapping_segments_make_one_stream() {
    for seed in 0..50 {
        let (mut b, id) = Bench::accepted();
        let mut random = SplitMix64(seed);
        let mut got = Vec::new();
        for _ in 0..400 {
            let word = random.next_u64();
            let at = (word as u32) % 6000;
            let lie = word >> 60 == 0;
            let payload: Vec<u8> = (at..at + 1 + (word >> 32) as u32 % 700)
                .map(|i| if lie { 255 } else { (i % 251) as u8 })
                .collect();
            b.peer(PA, 1 + at, 1, &payload);
            b.sent_unchecked();
            assert!(b.shard.stats().memory_bytes <= 16 << 10);
            got.extend(b.recv(id).unwrap_or_default());
        }
        for at in (0..8000).step_by(500) {
            let payload: Vec<u8> = (at..at + 500).map(|i| (i % 251) as u8).collect();
            b.peer(PA, 1 + at, 1, &payload);
            got.extend(b.recv(id).unwrap_or_default());
        }
        assert_eq!(got.len(), 8000, "seed {seed}");
        let wrong =
            got.iter().enumerate().filter(|(i, byte)| **byte != (i % 251) as u8 && **byte != 255);
        assert_eq!(wrong.count(), 0, "seed {seed}");
    }
}

/// One byte at the far end of the window reserves the window; all together stay within the limit,
/// and a client that behaves is served.
#[test]
fn single_bytes_far_out_of_order_are_bounded() {
    let limit = 4 << 20;
    let mut b = Bench::with(Config { max_memory_bytes: limit, ..Config::default() }, 1000);
    let mut held = Vec::new();
    for port in 1..=400 {
        b.theirs.set_port(port);
        let id = b.accept();
        for i in 0..100 {
            b.peer_unchecked(A, 60_000 - 20 * i, 1, b"x");
        }
        b.sent_unchecked();
        held.push(id);
    }
    let stats = b.shard.stats();
    // What each connection may always have is beyond the limit.
    assert!(stats.memory_bytes <= limit as u64 + 400 * 8192, "{}", stats.memory_bytes);
    assert!(stats.refused(Refusal::MemoryLimit) > 0);
    let kept = MIN_REASSEMBLY_RANGES as u64;
    assert!(stats.refused(Refusal::ReassemblyLimit) >= 100 - kept, "of the first at least");
    serve(&mut b, 7);
    for id in held {
        b.shard.abort(b.now, id);
    }
    assert_eq!(b.shard.stats().memory_bytes, 0);
}
