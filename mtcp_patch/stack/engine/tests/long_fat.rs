//! One bulk transfer over a path with a rate, a delay and a drop-tail queue, in virtual time: how
//! much of the rate the receiving application gets.

#![allow(clippy::unwrap_used)] // outside of #[test] functions clippy.toml's exception does not reach

use std::collections::VecDeque;

use mtcp_engine::device::{Caps, Device, DeviceId, Medium, RxChecksum};
use mtcp_engine::wire::Link;
use mtcp_engine::{
    Config, CongestionControl, ConnId, ConnOptions, ConnectOptions, ListenOptions, Path, Shard,
};

use mtcp_engine::time::Instant;

const DEVICE: DeviceId = DeviceId(0);

fn caps() -> Caps {
    Caps {
        medium: Medium::Ip,
        mtu: 1500,
        rx_checksum: RxChecksum::Verify,
        tx_checksum: true,
        hw_addr: [0; 6],
    }
}

/// One direction of the path.
struct Pipe {
    /// Nanoseconds for a byte, times 1000.
    ps_per_byte: u64,
    delay_ns: u64,
    queue_bytes: u64,
    now_ns: u64,
    /// When the last byte of the queue will have left.
    busy_until_ns: u64,
    frames: VecDeque<(u64, Vec<u8>)>,
    dropped: u64,
}

impl Pipe {
    fn new(mbit: u64, delay_ms: u64, queue_bytes: u64) -> Self {
        Self {
            ps_per_byte: 8_000_000 / mbit,
            delay_ns: delay_ms * 1_000_000,
            queue_bytes,
            now_ns: 0,
            busy_until_ns: 0,
            frames: VecDeque::new(),
            dropped: 0,
        }
    }

    fn next_due_us(&self) -> Option<u64> {
        self.frames.front().map(|(due, _)| due.div_ceil(1000))
    }
}

impl Device for Pipe {
    fn caps(&self) -> Caps {
        caps()
    }

    fn receive(&mut self, max: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let mut n = 0;
        while n < max && self.frames.front().is_some_and(|(due, _)| *due <= self.now_ns) {
            let Some((_, frame)) = self.frames.pop_front() else { break };
            sink(&frame);
            n += 1;
        }
        n
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let start = self.busy_until_ns.max(self.now_ns);
        if (start - self.now_ns) * 1000 > self.queue_bytes * self.ps_per_byte {
            self.dropped += 1;
            return true;
        }
        self.busy_until_ns = start + len as u64 * self.ps_per_byte / 1000;
        let mut frame = vec![0; len];
        fill(&mut frame);
        self.frames.push_back((self.busy_until_ns + self.delay_ns, frame));
        true
    }

    fn flush(&mut self) {}
}

/// A transfer and the path that it takes.
struct Transfer {
    mbit: u64,
    rtt_ms: u64,
    /// Of the bandwidth-delay product, in per cent.
    queue: u64,
    seconds: u64,
    choice: CongestionControl,
    config: Config,
}

/// Goodput in the second half of the time as a share of what the rate allows, frames dropped, and
/// segments sent again.
fn run(p: &Transfer) -> (f64, u64, u64) {
    let bdp = p.mbit * 125 * p.rtt_ms;
    let mut pipes =
        [0, 1].map(|_| Pipe::new(p.mbit, p.rtt_ms / 2, (bdp * p.queue / 100).max(30_000)));
    let mut shards = [1, 2].map(|salt| {
        let mut shard = Shard::new(p.config.clone(), [salt; 32]);
        shard.add_device(DEVICE, caps());
        shard
    });
    let (client, server) = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
    let options = ConnOptions { congestion: p.choice, ..ConnOptions::default() };
    let mut now = Instant::from_micros(1_000);
    let listener = ListenOptions { local: server, v6only: false, backlog: 1, inherit: options };
    let listener = shards[1].listen(listener).unwrap();
    let path = Path { device: DEVICE, caps: caps(), link: Link::default() };
    let sender =
        shards[0].connect(now, ConnectOptions { local: client, remote: server, path, options });
    let sender = sender.unwrap();
    let mut receiver: Option<ConnId> = None;
    let data = vec![0x5a; 1 << 20];
    let (end, half) = (p.seconds * 1_000_000, p.seconds * 500_000);
    let (mut got, mut got_at_half) = (0u64, None);
    while now.micros < end {
        for pipe in &mut pipes {
            pipe.now_ns = now.micros * 1000;
        }
        for side in 0..2 {
            let (shard, pipe) = (&mut shards[side], &mut pipes[1 - side]);
            pipe.receive(usize::MAX, &mut |frame| shard.handle_frame(now, DEVICE, frame));
            shard.handle_timers(now);
        }
        while let Ok(taken) = shards[0].send(now, sender, &data) {
            assert!(taken > 0);
        }
        assert_eq!(shards[0].take_error(sender), None);
        receiver = receiver.or_else(|| shards[1].accept(listener).ok());
        if let Some(id) = receiver {
            while let Ok((a, b)) = shards[1].recv_slices(id) {
                let n = a.len() + b.len();
                got += n as u64;
                shards[1].recv_consume(now, id, n).unwrap();
            }
        }
        for side in 0..2 {
            shards[side].transmit(now, DEVICE, &mut pipes[side]);
        }
        if now.micros >= half && got_at_half.is_none() {
            got_at_half = Some((now.micros, got));
        }
        let times = pipes.iter().filter_map(Pipe::next_due_us);
        let timers = shards.iter().filter_map(|s| s.next_timeout().map(|t| t.micros));
        let next = times.chain(timers).min().unwrap_or(end);
        now = Instant::from_micros(next.max(now.micros + 1));
    }
    let (since, before) = got_at_half.unwrap();
    // 1448 of 1500 bytes are payload.
    let possible = (now.micros - since) as f64 * p.mbit as f64 / 8.0 * 1448.0 / 1500.0;
    let info = shards[0].info(sender).unwrap();
    let share = (got - before) as f64 / possible;
    println!(
        "{:?} {} Mbit/s, {} ms, queue {} %: {share:.3} of the rate, {} dropped, {} repeated, cwnd {} of {bdp}",
        p.choice, p.mbit, p.rtt_ms, p.queue, pipes[0].dropped, info.retransmits, info.cwnd_bytes,
    );
    (share, pipes[0].dropped, info.retransmits)
}

fn wide() -> Config {
    let bytes = 64 << 20;
    Config { recv_buffer_bytes: bytes, send_buffer_bytes: bytes, ..Config::default() }
}

#[test]
fn cubic_fills_100_mbit_at_10_ms() {
    let path = Transfer {
        mbit: 100,
        rtt_ms: 10,
        queue: 100,
        seconds: 6,
        choice: CongestionControl::Cubic,
        config: Config::default(),
    };
    let (share, ..) = run(&path);
    assert!(share >= 0.9, "{share}");
}

#[test]
#[ignore = "a million packets: cargo test -p mtcp-engine --release --test long_fat -- --ignored"]
fn cubic_fills_1_gbit_at_100_ms() {
    for (config, least) in [(wide(), 0.9), (Config::default(), 0.3)] {
        // The default buffers hold a third of what this path does.
        let path = Transfer {
            mbit: 1000,
            rtt_ms: 100,
            queue: 100,
            seconds: 20,
            choice: CongestionControl::Cubic,
            config,
        };
        let (share, dropped, repeated) = run(&path);
        assert!(share >= least, "{share}");
        // RFC 2018: what has arrived is not sent again.
        assert!(repeated <= dropped + dropped / 10, "{repeated} for {dropped}");
    }
}
