//! What a seed stands for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::link::{Shrink, Stretch, Weather};
use super::Random;
use crate::device::faults::Faults;
use crate::limits::Config;
use crate::tcp::ecn::EcnMode;

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
    /// Hosts that connect to the one server. More than one reach it through a switch, whose port to the
    /// server has the first of the two weathers: the bottleneck that they share.
    pub clients: usize,
    /// The luck of each client's own links to the switch and from it; empty without a switch.
    pub access: Vec<Faults>,
    /// Connections of all clients together.
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
    /// Whether the clients, and whether the server, negotiate explicit congestion notification.
    pub ecn: [EcnMode; 2],
    /// Whether applications choose Reno and corks as well.
    pub various: bool,
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
            // its peer would see a reset without a reason (seed 158). Nor must a burst in which every
            // frame of an hour is lost, for only frames end it (seed 326).
            orphan_retries: 30,
            data_retries: 30,
            // A client whose fifth SYN was answered has measured half a minute, and its data may come later than
            // the half-open connection would have been kept (seed 6587).
            syn_ack_retries: 12,
            // Seven SYNs in a burst that only frames end are no fault either (seed 13756).
            syn_retries: 12,
            ..Config::default()
        };
        if random.one_in(5) {
            config.max_memory_bytes = 256 << 10;
        }
        let two = Self {
            seed,
            mtu,
            faults,
            weather: weather(seed, mtu),
            clients: 1,
            access: Vec::new(),
            connections: 1 + random.below(5) as usize,
            max_bytes: random.pick(&[0, 100, 5_000, 200_000, 1_000_000]).unwrap_or(1),
            v6: mtu >= 1280 && random.one_in(2),
            config,
            timestamps: [(); 2].map(|()| !random.one_in(5)),
            sack: [(); 2].map(|()| !random.one_in(5)),
            ecn: [EcnMode::default(); 2],
            various: false,
        };
        two.with_variety(&mut Random::new(seed ^ 0x0c20_3d5a))
    }

    /// What came later, from a generator of its own: half of the seeds are what they were without.
    fn with_variety(mut self, random: &mut Random) -> Self {
        if random.one_in(2) {
            return self;
        }
        self.various = random.one_in(2);
        if random.one_in(2) {
            let modes = [EcnMode::On, EcnMode::On, EcnMode::Answer, EcnMode::Off];
            self.ecn = [(); 2].map(|()| random.pick(&modes).unwrap_or_default());
            let marks = random.one_in(2);
            self.weather.iter_mut().for_each(|weather| weather.marks = marks);
        }
        if random.one_in(2) {
            self.clients = 2 + random.below(5) as usize;
            self.access = (0..self.clients).map(|_| access(random)).collect();
            self.connections = self.clients * (1 + random.below(2) as usize);
            // The work of a run stays what it is with two hosts.
            self.max_bytes /= self.clients as u64;
            let [trunk, _] = &mut self.weather;
            let rates = [1_000_000, 10_000_000, 100_000_000];
            trunk.rate_bps = random.pick(&rates).unwrap_or(1_000_000);
        }
        self
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

/// A client's own link to a switch: a delay that is its own, and sometimes losses.
fn access(random: &mut Random) -> Faults {
    let loss = if random.one_in(4) { random.below(20_000) as u32 } else { 0 };
    let delay_us = 10 + random.below(20_000);
    Faults { loss, delay_us, ..Faults::default() }
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
