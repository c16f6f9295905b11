//! What the stack itself costs: `cargo bench -p mtcp-engine --bench turn`.
//!
//! A client and a server in one shard over the in-process loopback: a 64-byte request and reply
//! (both ends, every layer from `send` to `recv`; CPU time), bulk in one direction, and opening and closing.

use std::net::SocketAddr;
use std::time::Instant as Clock;

use mtcp_engine::device::memory::Memory;
use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::time::Instant;
use mtcp_engine::wire::Link;
use mtcp_engine::{
    Config, ConnId, ConnOptions, ConnectOptions, ListenOptions, ListenerId, Path, Shard,
};

const DEVICE: DeviceId = DeviceId(0);

/// CPU time of this process: other work on the machine does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("three numbers")
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("numbers");
    pages * 4096
}

struct Host {
    shard: Shard,
    device: Memory,
    started: Clock,
    /// The time of this turn.
    now: Instant,
    /// Time goes on by 50 µs a turn, whatever the clock says: counts are then repeatable, also
    /// where everything is fifty times slower (valgrind).
    virtual_time: bool,
    server: SocketAddr,
    listener: ListenerId,
    next_port: u16,
    next_host: u8,
}

impl Host {
    fn new() -> Self {
        let mut shard = Shard::new(Config::default(), [7; 32]);
        let device = Memory::default();
        shard.add_device(DEVICE, device.caps());
        let server: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = shard
            .listen(ListenOptions {
                local: server,
                v6only: false,
                backlog: 4096,
                inherit: ConnOptions { nodelay: true, ..ConnOptions::default() },
            })
            .expect("a free port");
        Self {
            shard,
            device,
            started: Clock::now(),
            now: Instant::default(),
            virtual_time: false,
            server,
            listener,
            next_port: 1024,
            next_host: 0,
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    /// One turn of the driver.
    fn turn(&mut self) -> usize {
        self.now = if self.virtual_time {
            self.now + 50
        } else {
            Instant::from_micros(self.started.elapsed().as_micros() as u64)
        };
        let now = self.now;
        let shard = &mut self.shard;
        let frames = self.device.receive(256, &mut |frame| shard.handle_frame(now, DEVICE, frame));
        shard.handle_timers(now);
        let sent = shard.transmit(now, DEVICE, &mut self.device);
        self.device.flush();
        while self.shard.poll_event().is_some() {}
        frames + sent
    }

    fn connect(&mut self) -> ConnId {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        if self.next_port == 1024 {
            self.next_host = self.next_host.wrapping_add(1);
        }
        let local = SocketAddr::from(([127, 0, 1, self.next_host], self.next_port));
        let path = Path { device: DEVICE, caps: self.device.caps(), link: Link::default() };
        let options = ConnOptions { nodelay: true, ..ConnOptions::default() };
        let now = self.now();
        let request = ConnectOptions { local, remote: self.server, path, options };
        self.shard.connect(now, request).expect("a free port")
    }

    fn pair(&mut self) -> (ConnId, ConnId) {
        let client = self.connect();
        loop {
            self.turn();
            if let Ok(server) = self.shard.accept(self.listener) {
                return (client, server);
            }
        }
    }

    fn read_all(&mut self, id: ConnId) -> usize {
        let n = match self.shard.recv_slices(id) {
            Ok((a, b)) => std::hint::black_box(a.len() + b.len()),
            Err(_) => 0,
        };
        if n > 0 {
            let now = self.now();
            self.shard.recv_consume(now, id, n).expect("open");
        }
        n
    }
}

fn echo(pairs: usize, rounds: usize, idle: usize, virtual_time: bool) {
    let mut host = Host { virtual_time, ..Host::new() };
    let before = resident_bytes();
    for _ in 0..idle {
        host.pair();
    }
    if idle > 0 {
        let each = (resident_bytes() - before) / (2 * idle);
        println!("{} idle connections: {each} bytes each", 2 * idle);
    }
    let pairs: Vec<_> = (0..pairs).map(|_| host.pair()).collect();
    let message = [42u8; 64];
    let begin = cpu_ns();
    for _ in 0..rounds {
        let now = host.now();
        for (client, _) in &pairs {
            host.shard.send(now, *client, &message).expect("room");
        }
        while host.turn() > 0 {}
        for (_, server) in &pairs {
            assert_eq!(host.read_all(*server), 64);
            host.shard.send(now, *server, &message).expect("room");
        }
        while host.turn() > 0 {}
        for (client, _) in &pairs {
            assert_eq!(host.read_all(*client), 64);
        }
    }
    let each = (cpu_ns() - begin) as usize / (rounds * pairs.len());
    let packets = host.shard.stats().packets_out as usize / (rounds * pairs.len());
    println!("echo, {:>6} connections: {each} ns a round trip, {packets} packets", pairs.len());
}

fn bulk(total: usize) {
    let mut host = Host::new();
    let (client, server) = host.pair();
    let chunk = vec![1u8; 256 << 10];
    let begin = cpu_ns();
    let (mut sent, mut received) = (0, 0);
    while received < total {
        let now = host.now();
        while sent < total {
            match host.shard.send(now, client, &chunk) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        host.turn();
        received += host.read_all(server);
    }
    let seconds = (cpu_ns() - begin) as f64 / 1e9;
    let stats = host.shard.stats();
    println!(
        "bulk: {:.2} GB/s, {} packets, {} retransmits",
        total as f64 / seconds / 1e9,
        stats.packets_out,
        stats.retransmits
    );
}

fn open_close(count: usize) {
    let mut host = Host::new();
    let begin = cpu_ns();
    for _ in 0..count {
        let (client, server) = host.pair();
        let now = host.now();
        host.shard.close(now, client);
        host.turn();
        host.shard.close(now, server);
        while host.turn() > 0 {}
    }
    println!("open and close: {} ns", (cpu_ns() - begin) as usize / count);
}

fn main() {
    // With `-- N [TOTAL]`: only the echo of that many connections, for a profiler; with TOTAL round
    // trips in virtual time, to count instructions or cache misses.
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    if let Some(pairs) = numbers.next() {
        let total = numbers.next();
        return echo(pairs, total.unwrap_or(5_000_000) / pairs, 0, total.is_some());
    }
    for pairs in [1, 64, 1024, 10_000] {
        echo(pairs, 2_000_000 / pairs, 0, false);
    }
    // Half a million pairs that do nothing: the cost of a packet must not change.
    echo(64, 20_000, 500_000, false);
    bulk(8 << 30);
    open_close(50_000);
}
