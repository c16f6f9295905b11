//! A packet costs no allocation once the connection has seen its traffic.
#![allow(clippy::unwrap_used)] // outside of #[test] functions clippy.toml's exception does not reach

use std::net::SocketAddr;

use mtcp_engine::device::memory::Memory;
use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::time::Instant;
use mtcp_engine::wire::Link;
use mtcp_engine::{Config, ConnId, ConnOptions, ConnectOptions, ListenOptions, Path, Shard};

const DEVICE: DeviceId = DeviceId(0);

struct Pair {
    shard: Shard,
    device: Memory,
    now: Instant,
    client: ConnId,
    server: ConnId,
}

impl Pair {
    fn new() -> Self {
        let mut shard = Shard::new(Config::default(), [3; 32]);
        let mut device = Memory::default();
        shard.add_device(DEVICE, device.caps());
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let listen = ListenOptions {
            local: address(80),
            v6only: false,
            backlog: 8,
            inherit: ConnOptions::default(),
        };
        let listener = shard.listen(listen).unwrap();
        let path = Path { device: DEVICE, caps: device.caps(), link: Link::default() };
        let now = Instant::from_micros(1_000_000);
        let connect = ConnectOptions {
            local: address(5000),
            remote: address(80),
            path,
            options: ConnOptions::default(),
        };
        let client = shard.connect(now, connect).unwrap();
        for _ in 0..4 {
            turn(&mut shard, &mut device, now);
        }
        let server = shard.accept(listener).unwrap();
        Self { shard, device, now, client, server }
    }

    fn turn(&mut self) {
        self.now = self.now + 700;
        turn(&mut self.shard, &mut self.device, self.now);
    }

    /// Sends what there is room for; reads what has come. Returns the bytes read.
    fn push(&mut self, from: ConnId, to: ConnId, data: &[u8]) -> usize {
        // A full buffer is no failure here.
        let _ = self.shard.send(self.now, from, data);
        self.turn();
        self.turn();
        let Ok((a, b)) = self.shard.recv_slices(to) else { return 0 };
        let len = a.len() + b.len();
        self.shard.recv_consume(self.now, to, len).unwrap();
        len
    }
}

fn turn(shard: &mut Shard, device: &mut Memory, now: Instant) {
    device.receive(256, &mut |frame| shard.handle_frame(now, DEVICE, frame));
    shard.handle_timers(now);
    shard.transmit(now, DEVICE, device);
    device.flush();
    while shard.poll_event().is_some() {}
}

/// Runs `work` until it has settled, then counts the allocations of as much again.
fn allocations(mut work: impl FnMut()) -> u64 {
    for _ in 0..2000 {
        work();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..2000 {
            work();
        }
    });
    counted.count_total
}

#[test]
fn request_and_reply() {
    let mut pair = Pair::new();
    let (client, server) = (pair.client, pair.server);
    let count = allocations(|| {
        assert_eq!(pair.push(client, server, &[1; 64]), 64);
        assert_eq!(pair.push(server, client, &[2; 64]), 64);
    });
    assert_eq!(count, 0);
}

#[test]
fn bulk() {
    let mut pair = Pair::new();
    let (client, server) = (pair.client, pair.server);
    let data = vec![1; 300_000];
    let mut total = 0;
    let count = allocations(|| total += pair.push(client, server, &data));
    assert!(total > 100_000_000, "{total}");
    assert_eq!(count, 0);
}

#[test]
fn malformed_frames() {
    let mut pair = Pair::new();
    let frame = vec![0x45; 40];
    let count = allocations(|| {
        pair.shard.handle_frame(pair.now, DEVICE, &frame);
        pair.turn();
    });
    assert_eq!(count, 0);
}
