//! One direction of the emulated link, without a clock: what happens to each frame, and when.
//!
//! ```text
//! arrival -> queue (limited, in bytes) -> rate (stands still in a delay spike) -> wire: loss, delay -> release
//! ```
//! Every fault is drawn from the seed, with the same number of draws for each TCP frame: the n-th
//! frame meets the same luck in every run with that seed, whichever stack sent it. What is not TCP
//! (ARP, neighbour discovery) is delayed, never hurt.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use mtcp_engine::random::SplitMix64;

/// What the link does to its frames. Times in nanoseconds, probabilities from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Bits a second.
    pub rate: u64,
    /// Bytes that may wait for the rate; a frame beyond is lost, as in a router.
    pub queue_bytes: u64,
    /// Propagation, one way.
    pub delay: u64,
    /// Additional delay, evenly from 0 to this; it never changes the order.
    pub jitter: u64,
    /// TCP frames lost on the wire, after they have used the rate.
    pub loss: f64,
    /// TCP frames held back so that those behind overtake them ...
    pub reorder: f64,
    /// ... by a time evenly from 0 to this.
    pub reorder_by: u64,
    /// The link stands still now and then: the time between two such spikes, evenly from half of
    /// this to one and a half. 0: never.
    pub spike_every: u64,
    /// How long it stands still, evenly from two thirds of this to four thirds.
    pub spike_length: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub frames: u64,
    pub bytes: u64,
    pub lost: u64,
    pub queue_full: u64,
    pub held_back: u64,
    pub spikes: u64,
}

/// A frame under way, ordered by its release.
type Pending = Reverse<(u64, u64, Vec<u8>)>;

pub struct Line {
    profile: Profile,
    luck: SplitMix64,
    spikes: Spikes,
    /// (when its last bit leaves, bytes) of the frames that wait for the rate.
    queue: VecDeque<(u64, u64)>,
    queued_bytes: u64,
    /// When the rate has served everything that came so far.
    idle_from: u64,
    /// The latest release of a frame that was not held back.
    in_order: u64,
    count: u64,
    pending: BinaryHeap<Pending>,
    spare: Vec<Vec<u8>>,
    pub counters: Counters,
}

impl Line {
    /// `seed` decides the luck of the frames, `spike_seed` when the spikes come: an outage meets
    /// both directions at once.
    pub fn new(profile: Profile, seed: u64, spike_seed: u64, now: u64) -> Self {
        Self {
            profile,
            luck: SplitMix64(seed),
            spikes: Spikes::new(&profile, spike_seed, now),
            queue: VecDeque::new(),
            queued_bytes: 0,
            idle_from: now,
            in_order: now,
            count: 0,
            pending: BinaryHeap::new(),
            spare: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a frame that arrived at `now`.
    pub fn offer(&mut self, now: u64, frame: &[u8]) {
        let bytes = frame.len() as u64;
        self.counters.frames += 1;
        self.counters.bytes += bytes;
        let luck = if is_tcp(frame) { Luck::draw(&mut self.luck) } else { Luck::GOOD };
        while self.queue.front().is_some_and(|&(left, _)| left <= now) {
            self.queued_bytes -= self.queue.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        if self.queued_bytes + bytes > self.profile.queue_bytes {
            self.counters.queue_full += 1;
            return;
        }
        let start = self.spikes.after(now.max(self.idle_from), &mut self.counters.spikes);
        let left = start + bytes * 8 * 1_000_000_000 / self.profile.rate.max(1);
        self.idle_from = left;
        self.queue.push_back((left, bytes));
        self.queued_bytes += bytes;
        if luck.loss < self.profile.loss {
            self.counters.lost += 1;
            return;
        }
        let arrives = left + self.profile.delay + share(self.profile.jitter, luck.jitter);
        let release = if luck.reorder < self.profile.reorder {
            self.counters.held_back += 1;
            arrives + share(self.profile.reorder_by, luck.extra)
        } else {
            self.in_order = self.in_order.max(arrives);
            self.in_order
        };
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.count += 1;
        self.pending.push(Reverse((release, self.count, copy)));
    }

    /// When the next frame is to be released.
    pub fn next(&self) -> Option<u64> {
        self.pending.peek().map(|Reverse((release, ..))| *release)
    }

    /// Hands over the frames whose time has come, each with how late it is.
    pub fn release(&mut self, now: u64, mut give: impl FnMut(&[u8], u64)) {
        while self.next().is_some_and(|release| release <= now) {
            let Some(Reverse((release, _, frame))) = self.pending.pop() else { break };
            give(&frame, now - release);
            self.spare.push(frame);
        }
    }
}

/// What the seed says about one frame, each evenly from 0 to 1.
struct Luck {
    loss: f64,
    jitter: f64,
    reorder: f64,
    extra: f64,
}

impl Luck {
    /// Of frames that are not hurt.
    const GOOD: Self = Self { loss: 1.0, jitter: 0.0, reorder: 1.0, extra: 0.0 };

    fn draw(random: &mut SplitMix64) -> Self {
        let [loss, jitter, reorder, extra] = std::array::from_fn(|_| unit(random));
        Self { loss, jitter, reorder, extra }
    }
}

/// The delay spikes: from when to when the link stands still.
struct Spikes {
    random: SplitMix64,
    every: u64,
    length: u64,
    from: u64,
    to: u64,
    counted: bool,
}

impl Spikes {
    fn new(profile: &Profile, seed: u64, now: u64) -> Self {
        let (every, length) = (profile.spike_every, profile.spike_length);
        let mut spikes =
            Self { random: SplitMix64(seed), every, length, from: now, to: now, counted: true };
        spikes.plan();
        spikes
    }

    fn plan(&mut self) {
        self.from = self.to + self.every / 2 + share(self.every, unit(&mut self.random));
        let length = self.length * 2 / 3 + share(self.length * 2 / 3, unit(&mut self.random));
        self.to = self.from + length;
        self.counted = false;
    }

    /// The first time from `start` on at which the link moves. Spikes that met no frame do not
    /// count.
    fn after(&mut self, start: u64, count: &mut u64) -> u64 {
        if self.every == 0 {
            return start;
        }
        while self.to <= start {
            self.plan();
        }
        if start < self.from {
            return start;
        }
        *count += u64::from(!self.counted);
        self.counted = true;
        self.to
    }
}

fn unit(random: &mut SplitMix64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn share(of: u64, unit: f64) -> u64 {
    (of as f64 * unit) as u64
}

/// Whether faults may hit the frame: TCP over IPv4 or IPv6 without extension headers.
pub fn is_tcp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&6),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PERFECT: Profile = Profile {
        rate: 8_000_000, // a byte each microsecond
        queue_bytes: 1 << 30,
        delay: 5 * MS,
        jitter: 0,
        loss: 0.0,
        reorder: 0.0,
        reorder_by: 0,
        spike_every: 0,
        spike_length: 0,
    };

    fn tcp(number: u16) -> Vec<u8> {
        let mut frame = vec![0; 1000];
        frame[12] = 8;
        frame[23] = 6;
        frame[40..42].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// (number, release in ns) of `count` frames that are offered one each millisecond.
    fn run(profile: Profile, seed: u64, count: u16) -> (Vec<(u16, u64)>, Counters) {
        let mut line = Line::new(profile, seed, 9, 0);
        for number in 0..count {
            line.offer(u64::from(number) * MS, &tcp(number));
        }
        let mut got = Vec::new();
        while let Some(now) = line.next() {
            line.release(now, |frame, late| {
                assert_eq!(late, 0);
                got.push((u16::from_be_bytes([frame[40], frame[41]]), now));
            });
        }
        (got, line.counters)
    }

    #[test]
    fn a_perfect_line_adds_the_rate_and_the_delay() {
        let (got, _) = run(PERFECT, 1, 3);
        assert_eq!(got, [(0, 6 * MS), (1, 7 * MS), (2, 8 * MS)]);
    }

    #[test]
    fn the_rate_is_kept_and_a_full_queue_loses() {
        let profile = Profile { rate: 4_000_000, queue_bytes: 10_000, ..PERFECT };
        let (got, counters) = run(profile, 1, 100);
        assert_eq!(got.len() as u64 + counters.queue_full, 100);
        assert!((38..=42).contains(&counters.queue_full), "{counters:?}");
        assert!(got.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 2 * MS));
    }

    #[test]
    fn loss_is_the_asked_share_and_the_same_for_the_same_seed() {
        let profile = Profile { loss: 0.05, ..PERFECT };
        let (got, counters) = run(profile, 7, 20_000);
        assert!((800..=1200).contains(&counters.lost), "{counters:?}");
        assert_eq!(got, run(profile, 7, 20_000).0);
        assert_ne!(got, run(profile, 8, 20_000).0);
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_jitter_alone_keeps_the_order() {
        let sorted = |got: &[(u16, u64)]| got.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let jitter = Profile { jitter: 5 * MS, ..PERFECT };
        assert!(sorted(&run(jitter, 3, 1000).0));
        let reorder = Profile { reorder: 0.05, reorder_by: 10 * MS, ..PERFECT };
        let (got, counters) = run(reorder, 3, 1000);
        assert!(!sorted(&got));
        assert_eq!(got.len(), 1000);
        assert!((30..=70).contains(&counters.held_back), "{counters:?}");
    }

    #[test]
    fn a_spike_stops_the_link_and_loses_nothing() {
        let profile = Profile { spike_every: 1000 * MS, spike_length: 300 * MS, ..PERFECT };
        let (got, counters) = run(profile, 3, 10_000);
        assert_eq!(got.len(), 10_000);
        assert!((6..=10).contains(&counters.spikes), "{counters:?}");
        let gaps = got.windows(2).filter(|pair| pair[1].1 - pair[0].1 >= 200 * MS).count();
        assert_eq!(gaps as u64, counters.spikes);
    }

    #[test]
    fn what_is_not_tcp_is_never_hurt() {
        let mut line = Line::new(Profile { loss: 1.0, ..PERFECT }, 1, 1, 0);
        line.offer(0, &[0; 60]);
        line.offer(0, &tcp(1));
        assert_eq!(line.counters.lost, 1);
        assert_eq!(line.next(), Some(5 * MS + 60_000));
    }
}
