use super::*;
use proptest::prelude::*;

/// A segment as a stranger would make it up, or as somebody who knows the numbers would.
#[derive(Clone, Debug)]
struct Made {
    flags: u8,
    /// Around the numbers that are in use, or anywhere.
    seq: u32,
    ack: u32,
    wnd: u16,
    len: usize,
    port: u16,
    wait_us: u64,
    act: u8,
}

fn made() -> impl Strategy<Value = Made> {
    let near = prop_oneof![
        4 => 0u32..5,
        2 => 0u32..70_000,
        1 => (0u32..3000).prop_map(|n| 0u32.wrapping_sub(n)),
        1 => any::<u32>(),
    ];
    let flags = prop_oneof![
        4 => Just(16u8),
        2 => Just(24u8),
        2 => Just(17u8),
        1 => Just(2u8),
        1 => Just(18u8),
        1 => Just(4u8),
        1 => Just(20u8),
        2 => any::<u8>(),
    ];
    let wnd = prop_oneof![Just(0u16), Just(65_535), any::<u16>()];
    let len = prop_oneof![3 => Just(0usize), 2 => 1usize..50, 1 => 1usize..1400];
    let wait = prop_oneof![3 => Just(0u64), 1 => 0u64..500_000, 1 => 0u64..100_000_000];
    (flags, near.clone(), near, wnd, len, 4000u16..4003, wait, 0u8..24).prop_map(
        |(flags, seq, ack, wnd, len, port, wait_us, act)| Made {
            flags,
            seq,
            ack,
            wnd,
            len,
            port,
            wait_us,
            act,
        },
    )
}

/// What the application does between segments.
fn act(b: &mut Bench, act: u8, held: &mut Vec<ConnId>) {
    if let Ok(id) = b.shard.accept(b.listener) {
        held.push(id);
    }
    let Some(&id) = held.last() else {
        if act == 0 {
            held.extend(b.try_connect());
        }
        return;
    };
    let now = b.now;
    match act {
        0..4 => drop(b.send(id, &[5; 3000])),
        4..8 => drop(b.recv(id)),
        8 => drop(b.shard.shutdown(now, id, false, true)),
        9 => drop(b.shard.shutdown(now, id, true, false)),
        10 => {
            b.shard.close(now, id);
            held.pop();
        }
        11 => {
            b.shard.abort(now, id);
            held.pop();
        }
        12 => held.rotate_left(1),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// No panic, no broken invariant (`check` after every segment), bounded output and memory,
    /// whatever arrives in whatever state.
    #[test]
    fn random_segments_in_every_state(
        start in 0u8..4,
        segments in prop::collection::vec(made(), 1..60),
    ) {
        let config = Config { max_memory_bytes: 256 << 10, ..Config::default() };
        let mut b = Bench::with(config, 2);
        let mut held = Vec::new();
        match start {
            0 => {}
            1 => held.push(b.connect()),
            _ => held.push(b.accept()),
        }
        for made in segments {
            b.theirs.set_port(made.port);
            b.peer_wnd = made.wnd;
            let mut payload = std::vec![7; made.len];
            payload.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
            b.peer(Flags(made.flags), made.seq, made.ack, &payload);
            act(&mut b, made.act, &mut held);
            prop_assert!(b.sent().len() < 500);
            if made.wait_us > 0 {
                b.advance_us(made.wait_us);
            }
            b.events();
            prop_assert!(b.shard.stats().memory_bytes <= (256 << 10) + 3 * 8192);
        }
        // Left alone and let go, everything ends.
        for id in held {
            b.shard.close(b.now, id);
        }
        for _ in 0..2000 {
            b.sent();
            let Some(next) = b.shard.next_timeout() else { break };
            b.now = b.now.max(next);
            b.shard.handle_timers(b.now);
            b.shard.check().unwrap();
            while let Ok(id) = b.shard.accept(b.listener) {
                b.shard.abort(b.now, id);
            }
        }
        prop_assert_eq!(b.shard.connections().count(), 0);
        prop_assert_eq!(b.shard.stats().memory_bytes, 0);
    }
}
