//! The engine by itself, many flows in one shard over the in-process device: what a packet costs when
//! most flows are idle, and when all take part, and what an idle connection occupies.

use std::io::Write;
use std::net::SocketAddr;

use mtcp_engine::device::memory::Memory;
use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::time::Instant;
use mtcp_engine::wire::Link;
use mtcp_engine::{
    Config, ConnId, ConnOptions, ConnectOptions, ListenOptions, ListenerId, Path, Shard,
};
use serde_json::json;

use crate::arguments::Arguments;
use crate::report::cpu_seconds;

const DEVICE: DeviceId = DeviceId(0);
const MESSAGE: [u8; 64] = [42; 64];
/// Pairs that talk in one round.
const AT_A_TIME: usize = 64;
/// Rounds of a measurement, and before it.
const ROUNDS: usize = 4000;

struct Shards {
    shard: Shard,
    device: Memory,
    /// Microseconds; a turn takes 50, whatever the clock says, so that timers are the same each time.
    now: Instant,
    listener: ListenerId,
    server: SocketAddr,
    opened: u32,
}

fn failed(e: mtcp_engine::Error) -> String {
    format!("the engine: {e:?}")
}

impl Shards {
    fn new(connections: usize) -> Result<Self, String> {
        let config = Config { max_connections: connections + 1024, ..Config::default() };
        let mut shard = Shard::new(config, [7; 32]);
        let device = Memory::default();
        shard.add_device(DEVICE, device.caps());
        let server = SocketAddr::from(([127, 0, 0, 1], 80));
        let inherit = ConnOptions { nodelay: true, ..ConnOptions::default() };
        let options = ListenOptions { local: server, v6only: false, backlog: 4096, inherit };
        let listener = shard.listen(options).map_err(failed)?;
        Ok(Self { shard, device, now: Instant::default(), listener, server, opened: 0 })
    }

    fn turn(&mut self) -> usize {
        self.now = self.now + 50;
        let now = self.now;
        let shard = &mut self.shard;
        let frames = self.device.receive(256, &mut |frame| shard.handle_frame(now, DEVICE, frame));
        shard.handle_timers(now);
        let sent = shard.transmit(now, DEVICE, &mut self.device);
        self.device.flush();
        while self.shard.poll_event().is_some() {}
        frames + sent
    }

    /// Both ends of a connection.
    fn pair(&mut self) -> Result<(ConnId, ConnId), String> {
        let [_, b, c, _] = (self.opened / 60_000).to_be_bytes();
        let host = [127, 1 + b, c, (self.opened / 60_000 % 256) as u8];
        let local = SocketAddr::from((host, 1024 + (self.opened % 60_000) as u16));
        self.opened += 1;
        let path = Path { device: DEVICE, caps: self.device.caps(), link: Link::default() };
        let options = ConnOptions { nodelay: true, ..ConnOptions::default() };
        let request = ConnectOptions { local, remote: self.server, path, options };
        let client = self.shard.connect(self.now, request).map_err(failed)?;
        loop {
            if self.turn() == 0 {
                return Err("a connection was not made".to_owned());
            }
            if let Ok(server) = self.shard.accept(self.listener) {
                while self.turn() > 0 {}
                return Ok((client, server));
            }
        }
    }

    fn say(&mut self, from: &[ConnId], to: &[ConnId]) -> Result<(), String> {
        for &id in from {
            self.shard.send(self.now, id, &MESSAGE).map_err(failed)?;
        }
        while self.turn() > 0 {}
        for &id in to {
            let n = self.shard.recv_slices(id).map(|(a, b)| a.len() + b.len()).map_err(failed)?;
            if n != MESSAGE.len() {
                return Err(format!("{n} bytes came"));
            }
            self.shard.recv_consume(self.now, id, n).map_err(failed)?;
        }
        Ok(())
    }

    /// Nanoseconds of CPU a packet, when `pairs` talk in turn, some at a time.
    fn packet_ns(&mut self, pairs: &[(ConnId, ConnId)]) -> Result<f64, String> {
        let groups: Vec<(Vec<_>, Vec<_>)> =
            pairs.chunks(AT_A_TIME).map(|group| group.iter().copied().unzip()).collect();
        let rounds = ROUNDS.max(groups.len());
        let mut turns = groups.iter().cycle();
        let mut best = f64::INFINITY;
        // The first time is the warm-up; of the others the least disturbed counts.
        for repeat in 0..4 {
            let (cpu, packets) = (cpu_seconds(), self.shard.stats().packets_out);
            for (clients, servers) in turns.by_ref().take(rounds) {
                self.say(clients, servers)?;
                self.say(servers, clients)?;
            }
            let ns = (cpu_seconds() - cpu) * 1e9;
            let packets = (self.shard.stats().packets_out - packets).max(1);
            if repeat > 0 {
                best = best.min(ns / packets as f64);
            }
        }
        Ok(best)
    }
}

fn resident_bytes() -> Result<usize, String> {
    let text = std::fs::read_to_string("/proc/self/statm").map_err(|e| e.to_string())?;
    let pages: Option<usize> = text.split(' ').nth(1).and_then(|n| n.parse().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| "/proc/self/statm".to_owned())
}

/// `--flows`: both ends of `flows / 2` connections. One line of JSON.
///
/// # Errors
/// The engine's.
pub fn run(given: &Arguments) -> Result<(), String> {
    let flows: usize = given.number("flows", 1000)?;
    let mut all = Shards::new(flows)?;
    let before = resident_bytes()?;
    let pairs = (0..flows / 2).map(|_| all.pair()).collect::<Result<Vec<_>, _>>()?;
    let each = resident_bytes()?.saturating_sub(before) as f64 / flows as f64;
    let some = pairs.get(..AT_A_TIME.min(pairs.len())).unwrap_or_default();
    let line = json!({
        "flows": flows,
        "bytes_each": each,
        "busy_few_ns": all.packet_ns(some)?,
        "busy_all_ns": all.packet_ns(&pairs)?,
    });
    writeln!(std::io::stdout(), "{line}").map_err(|e| e.to_string())
}
