//! A device that mistreats what it is asked to send: the network's bad luck, from a seed.
//!
//! Wraps any other device. Frames accepted for transmission are lost, doubled, damaged, delayed or
//! held back so that later ones overtake them; `advance` hands those whose time has come to the
//! device inside. The same seed, frames and times give the same faults. Reception is untouched:
//! put one on each side. Buffers are reused: once it has seen its traffic, it allocates nothing.

use super::{Caps, Device, RxChecksum};
use crate::random::SplitMix64;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A probability in parts of a million.
pub type PartsPerMillion = u32;

const MILLION: u64 = 1_000_000;

/// How bad the luck is; the default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames that vanish.
    pub loss: PartsPerMillion,
    /// Frames that arrive twice.
    pub duplicate: PartsPerMillion,
    /// Frames one bit of which is flipped.
    pub corrupt: PartsPerMillion,
    /// Frames held back by `reorder_us`, so that those behind overtake them.
    pub reorder: PartsPerMillion,
    /// How long those are held back, in microseconds.
    pub reorder_us: u64,
    /// Delay of every frame, in microseconds.
    pub delay_us: u64,
    /// Additional delay, evenly distributed from 0 to this, in microseconds.
    pub jitter_us: u64,
    /// How many frames are under way at most; further ones are lost, as in a full router queue.
    /// 0 means [`DEFAULT_CAPACITY`].
    pub capacity: usize,
}

/// Frames under way when `Faults::capacity` is 0.
pub const DEFAULT_CAPACITY: usize = 4096;

/// How often each fault was inflicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken from the sender.
    pub offered: u64,
    /// Frames handed to the device inside, copies included.
    pub delivered: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames lost because too many were under way.
    pub overflowed: u64,
    /// Frames doubled.
    pub duplicated: u64,
    /// Frames damaged.
    pub corrupted: u64,
    /// Frames held back.
    pub reordered: u64,
}

struct Pending {
    due: Instant,
    frame: Vec<u8>,
}

/// A faulty line in front of `inner`.
pub struct Faulty<D> {
    inner: D,
    faults: Faults,
    random: Random,
    now: Instant,
    /// In the order of `due`; equal times in the order of transmission.
    pending: VecDeque<Pending>,
    /// Buffers for frames to come.
    spare: Vec<Vec<u8>>,
    counters: Counters,
}

impl<D: Device> Faulty<D> {
    /// Wraps `inner`; `seed` decides every accident.
    pub fn new(inner: D, faults: Faults, seed: u64) -> Self {
        Self {
            inner,
            faults,
            random: Random(SplitMix64(seed)),
            now: Instant::default(),
            pending: VecDeque::new(),
            spare: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Sets the time and hands the device inside what is due; a frame that it refuses, and all
    /// behind it, waits for the next call.
    pub fn advance(&mut self, now: Instant) {
        self.now = now;
        while self.pending.front().is_some_and(|first| first.due <= now) {
            let Some(Pending { due, frame }) = self.pending.pop_front() else { break };
            if !self.inner.transmit(frame.len(), &mut |out| out.copy_from_slice(&frame)) {
                self.pending.push_front(Pending { due, frame });
                break;
            }
            self.counters.delivered += 1;
            self.spare.push(frame);
        }
        self.inner.flush();
    }

    /// When the next frame is due, if any is under way.
    pub fn next_due(&self) -> Option<Instant> {
        self.pending.front().map(|first| first.due)
    }

    /// Changes the luck from here on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The device inside.
    pub fn inner(&mut self) -> &mut D {
        &mut self.inner
    }

    fn capacity(&self) -> usize {
        if self.faults.capacity == 0 {
            DEFAULT_CAPACITY
        } else {
            self.faults.capacity
        }
    }

    /// Sends `frame` on its way, or loses it.
    fn depart(&mut self, mut frame: Vec<u8>) {
        if self.random.happens(self.faults.loss) {
            self.counters.lost += 1;
            self.spare.push(frame);
            return;
        }
        if self.pending.len() >= self.capacity() {
            self.counters.overflowed += 1;
            self.spare.push(frame);
            return;
        }
        if self.random.happens(self.faults.corrupt) {
            self.counters.corrupted += 1;
            let bit = self.random.below(frame.len() as u64 * 8);
            if let Some(byte) = frame.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let mut due = self.now + self.faults.delay_us;
        if self.faults.jitter_us > 0 {
            due = due + self.random.below(self.faults.jitter_us.saturating_add(1));
        }
        if self.random.happens(self.faults.reorder) {
            self.counters.reordered += 1;
            due = due + self.faults.reorder_us;
        }
        let at = self.pending.partition_point(|other| other.due <= due);
        self.pending.insert(at, Pending { due, frame });
    }
}

impl<D: Device> Device for Faulty<D> {
    /// Those of the device inside, but a line that damages frames promises no checksum.
    fn caps(&self) -> Caps {
        Caps { rx_checksum: RxChecksum::Verify, tx_checksum: true, ..self.inner.caps() }
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        self.inner.receive(budget, sink)
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.resize(len, 0);
        fill(&mut frame);
        self.counters.offered += 1;
        if self.random.happens(self.faults.duplicate) {
            self.counters.duplicated += 1;
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clone_from(&frame);
            self.depart(copy);
        }
        self.depart(frame);
        true
    }

    fn flush(&mut self) {
        self.advance(self.now);
    }
}

/// The injector's luck.
struct Random(SplitMix64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`; 0 when `limit` is 0.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// One draw, whatever the odds: changing one fault's odds leaves the others' luck as it was.
    fn happens(&mut self, odds: PartsPerMillion) -> bool {
        self.below(MILLION) < u64::from(odds)
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Device, Faults, Faulty};
    use crate::device::memory::Memory;
    use crate::time::Instant;
    use std::vec::Vec;

    /// Sends `count` numbered frames a millisecond apart; returns those that arrived, with times.
    fn run(faults: Faults, seed: u64, count: u32) -> (Vec<(u64, Vec<u8>)>, Counters) {
        let mut device = Faulty::new(Memory::default(), faults, seed);
        let mut arrived = Vec::new();
        let mut collect = |device: &mut Faulty<Memory>, now: Instant| {
            device.advance(now);
            device.receive(usize::MAX, &mut |frame| arrived.push((now.micros, frame.to_vec())));
        };
        for number in 0..count {
            let now = Instant::from_micros(u64::from(number) * 1_000);
            while let Some(due) = device.next_due().filter(|due| *due < now) {
                collect(&mut device, due);
            }
            collect(&mut device, now);
            device.transmit(4, &mut |out| out.copy_from_slice(&number.to_be_bytes()));
            device.flush();
        }
        while let Some(due) = device.next_due() {
            collect(&mut device, due);
        }
        collect(&mut device, Instant::from_micros(u64::MAX));
        (arrived, device.counters())
    }

    fn numbers(arrived: &[(u64, Vec<u8>)]) -> Vec<u32> {
        let number = |frame: &Vec<u8>| u32::from_be_bytes(frame.as_slice().try_into().unwrap());
        arrived.iter().map(|(_, frame)| number(frame)).collect()
    }

    #[test]
    fn without_faults_everything_arrives_at_once_in_order() {
        let (arrived, counters) = run(Faults::default(), 1, 100);
        assert_eq!(numbers(&arrived), (0..100).collect::<Vec<_>>());
        assert_eq!((counters.offered, counters.delivered), (100, 100));
    }

    #[test]
    fn the_seed_decides() {
        let faults = Faults {
            loss: 100_000,
            duplicate: 100_000,
            corrupt: 100_000,
            reorder: 100_000,
            reorder_us: 5_000,
            delay_us: 300,
            jitter_us: 2_000,
            capacity: 0,
        };
        let (arrived, counters) = run(faults, 7, 2_000);
        assert_eq!((arrived.clone(), counters), run(faults, 7, 2_000));
        assert_ne!(arrived, run(faults, 8, 2_000).0);
        let Counters { lost, duplicated, corrupted, reordered, .. } = counters;
        for count in [lost, duplicated, corrupted, reordered] {
            assert!((140..280).contains(&count), "{counters:?}");
        }
        assert_eq!(counters.delivered, counters.offered + duplicated - lost);
        assert_eq!(counters.delivered, arrived.len() as u64);
    }

    #[test]
    fn delay_holds_every_frame_and_jitter_bounds_it() {
        let faults = Faults { delay_us: 700, jitter_us: 100, ..Faults::default() };
        let (arrived, _) = run(faults, 3, 200);
        for (number, (time, _)) in numbers(&arrived).into_iter().zip(&arrived) {
            let late = time - u64::from(number) * 1_000;
            assert!((700..=800).contains(&late), "frame {number} was {late} us late");
        }
    }

    #[test]
    fn reordering_changes_the_order_and_loses_nothing() {
        let faults = Faults { reorder: 200_000, reorder_us: 2_500, ..Faults::default() };
        let (arrived, _) = run(faults, 4, 500);
        let mut order = numbers(&arrived);
        assert!(order.windows(2).any(|pair| pair[0] > pair[1]));
        order.sort_unstable();
        assert_eq!(order, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn corruption_flips_one_bit() {
        let (arrived, _) = run(Faults { corrupt: 1_000_000, ..Faults::default() }, 5, 100);
        for (sent, got) in numbers(&arrived).into_iter().enumerate() {
            assert_eq!((sent as u32 ^ got).count_ones(), 1);
        }
    }

    #[test]
    fn a_full_line_loses_the_rest() {
        let faults = Faults { delay_us: 1_000_000_000, capacity: 10, ..Faults::default() };
        let (arrived, counters) = run(faults, 6, 25);
        assert_eq!((arrived.len(), counters.overflowed), (10, 15));
    }

    #[test]
    fn what_the_device_inside_refuses_waits_in_order() {
        let mut device = Faulty::new(Memory::new(0, 1), Faults::default(), 1);
        for number in 0..3_u8 {
            assert!(device.transmit(1, &mut |out| out.fill(number)));
        }
        for number in 0..3_u8 {
            device.flush();
            assert_eq!(device.receive(9, &mut |frame| assert_eq!(frame, [number])), 1);
        }
        assert_eq!(device.next_due(), None);
    }

    #[test]
    fn buffers_are_reused() {
        let mut device = Faulty::new(Memory::default(), Faults::default(), 1);
        for _ in 0..100 {
            for _ in 0..5 {
                device.transmit(100, &mut |out| out.fill(1));
            }
            device.flush();
            device.receive(9, &mut |_| {});
        }
        assert_eq!(device.spare.len(), 5);
    }
}
