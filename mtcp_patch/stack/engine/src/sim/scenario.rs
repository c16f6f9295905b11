//! What a seed stands for.

use alloc::format;
use alloc::string::String;

use super::link::{Shrink, Stretch, Weather};
use super::Random;
use crate::device::faults::Faults;
use crate::limits::Config;

/// What a seed stands for.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Largest packet of both links, in bytes.
    pub mtu: usize,
    /// The luck of both links.
    pub faults: Faults,
    /// What each link does over time, the client's first.
    pub weather: [Weather; 2],
    /// Connections.
    pub connections: usize,
    /// Most bytes that an application sends on one connection.
    pub max_bytes: u64,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Both stacks' limits.
    pub config: Config,
    /// Whether each of them knows selective acknowledgment.
    pub sack: [bool; 2],
    /// Whether each of them knows timestamps.
    pub timestamps: [bool; 2],
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mtu = random.pick(&[576, 1280, 1500, 1500, 9000, 65_535]).unwrap_or(1500);
        let rough = !random.one_in(4);
        let odds =
            |random: &mut Random, most: u64| if rough { random.below(most) as u32 } else { 0 };
        let delay = random.pick(&[100, 1_000, 50_000]).unwrap_or(1);
        let faults = Faults {
            loss: odds(&mut random, 80_000),
            duplicate: odds(&mut random, 50_000),
            corrupt: odds(&mut random, 20_000),
            reorder: odds(&mut random, 100_000),
            reorder_us: random.below(20_000),
            delay_us: 10 + random.below(delay),
            jitter_us: if rough { random.below(3_000) } else { 0 },
            capacity: if random.one_in(3) { 20 + random.below(60) as usize } else { 0 },
        };
        let recv = random.pick(&[4 << 10, 64 << 10, 1 << 20, 6 << 20]).unwrap_or(1 << 20);
        let send = random.pick(&[2 << 10, 64 << 10, 4 << 20]).unwrap_or(1 << 20);
        let mut config = Config {
            recv_buffer_bytes: recv,
            recv_buffer_initial_bytes: recv.min(64 << 10),
            send_buffer_bytes: send,
            send_buffer_initial_bytes: send.min(64 << 10),
            // An outage and a few losses more must not end a connection whose application has closed:
            // its peer would see a reset without a reason (seed 158).
            orphan_retries: 30,
            ..Config::default()
        };
        if random.one_in(5) {
            config.max_memory_bytes = 256 << 10;
        }
        Self {
            seed,
            mtu,
            faults,
            weather: weather(seed, mtu),
            connections: 1 + random.below(5) as usize,
            max_bytes: random.pick(&[0, 100, 5_000, 200_000, 1_000_000]).unwrap_or(1),
            v6: mtu >= 1280 && random.one_in(2),
            config,
            timestamps: [(); 2].map(|()| !random.one_in(5)),
            sack: [(); 2].map(|()| !random.one_in(5)),
        }
    }

    /// Whether a link goes down for good: connections that it carries may time out.
    pub fn dies(&self) -> bool {
        self.weather.iter().any(|w| w.down.is_some_and(|down| down.until_us == u64::MAX))
    }

    /// The command that runs it again.
    pub fn replay(&self) -> String {
        format!("make sim SEED={}", self.seed)
    }
}

/// What both links do over time. From a generator of its own, so that a scenario's other decisions
/// stay as they were when something is added here.
fn weather(seed: u64, mtu: usize) -> [Weather; 2] {
    let mut random = Random::new(seed ^ 0x77ea_73e4);
    let rate_bps = random.pick(&[0, 0, 1_000_000, 10_000_000, 100_000_000]).unwrap_or(0);
    let queue_bytes = 3_000 + random.below(200_000);
    let dies = random.one_in(40);
    let both = [(); 2].map(|()| {
        let mut weather = Weather { rate_bps, queue_bytes, ..Weather::default() };
        if random.one_in(4) {
            weather.burst =
                Some((1 + random.below(20_000) as u32, 50_000 + random.below(500_000) as u32));
            weather.burst_loss = 200_000 + random.below(800_000) as u32;
        }
        let from_us = random.below(3_000_000);
        if random.one_in(4) {
            let until_us = from_us + random.below(2_000_000);
            weather.spike = Some((Stretch { from_us, until_us }, random.below(3_000_000)));
        }
        if random.one_in(8) {
            let until_us = from_us + random.below(20_000_000);
            weather.down = Some(Stretch { from_us, until_us });
        }
        if random.one_in(6) && mtu > 1280 {
            let mtu = 1280 + random.below(mtu as u64 - 1280) as usize;
            weather.shrink = Some(Shrink { at_us: from_us, mtu, told: random.one_in(2) });
        }
        weather
    });
    if !dies {
        return both;
    }
    let down = Some(Stretch { from_us: random.below(2_000_000), until_us: u64::MAX });
    both.map(|weather| Weather { down, ..weather })
}
