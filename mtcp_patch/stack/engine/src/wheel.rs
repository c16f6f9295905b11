//! The timer wheel: one entry a connection, constant time whatever their number.
//!
//! A hierarchical wheel (Varghese and Lauck) of seven levels of 64 slots and ticks of 1,024 µs; a
//! bitmap a level says which slots are occupied. A connection keeps the deadlines of its several
//! timers itself and only their minimum is here, so moving a deadline later (every acknowledgment
//! does) costs nothing: the entry fires at the old time and is put where it belongs then.
//! Called by `tcp::timer` to schedule, by the shard to expire. Nothing fires early.

use alloc::vec::Vec;

use crate::time::Instant;

const TICK_SHIFT: u32 = 10;
const LEVELS: usize = 7;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const NONE: u32 = u32::MAX;
/// The farthest tick from now that is kept: half a turn of the highest level, 71 years.
const HORIZON: u64 = 1 << (SLOT_BITS * LEVELS as u32 - 1);

#[derive(Clone, Copy, Debug)]
struct Node {
    prev: u32,
    next: u32,
    /// Tick at which to fire.
    tick: u64,
    /// `level * SLOTS + slot`, or `u16::MAX` while not scheduled.
    place: u16,
}

const IDLE: Node = Node { prev: NONE, next: NONE, tick: 0, place: u16::MAX };

/// The wheel. Keys are small integers (indices of the connection table).
#[derive(Debug)]
pub(crate) struct Wheel {
    now_tick: u64,
    heads: [u32; LEVELS * SLOTS],
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
    scheduled: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            now_tick: 0,
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
            scheduled: 0,
        }
    }
}

impl Wheel {
    /// Number of scheduled keys.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.scheduled
    }

    /// Makes `key` fire at `at` (rounded up to a tick) instead of whatever it was scheduled for.
    pub(crate) fn schedule(&mut self, key: u32, at: Instant) {
        self.cancel(key);
        if self.nodes.len() <= key as usize {
            self.nodes.resize(key as usize + 1, IDLE);
        }
        let tick = at.micros.div_ceil(1 << TICK_SHIFT);
        self.link(key, tick.clamp(self.now_tick, self.now_tick + HORIZON));
        self.scheduled += 1;
    }

    /// Forgets `key`.
    pub(crate) fn cancel(&mut self, key: u32) {
        if self.unlink(key) {
            self.scheduled -= 1;
        }
    }

    fn node(&mut self, key: u32) -> Option<&mut Node> {
        self.nodes.get_mut(key as usize)
    }

    fn link(&mut self, key: u32, tick: u64) {
        // The level is that of the highest digit (base 64) in which the tick differs from now: its
        // slot is reached before any lower digit matters.
        let distance = (tick ^ self.now_tick) | 1;
        let level = ((distance.ilog2() / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let place = level * SLOTS + slot;
        let Some(head) = self.heads.get_mut(place) else { return };
        let next = core::mem::replace(head, key);
        if let Some(bits) = self.occupied.get_mut(level) {
            *bits |= 1 << slot;
        }
        if let Some(node) = self.node(next) {
            node.prev = key;
        }
        if let Some(node) = self.node(key) {
            *node = Node { prev: NONE, next, tick, place: place as u16 };
        }
    }

    fn unlink(&mut self, key: u32) -> bool {
        let Some(node) = self.node(key) else { return false };
        if node.place == u16::MAX {
            return false;
        }
        let Node { prev, next, place, .. } = core::mem::replace(node, IDLE);
        if let Some(node) = self.node(next) {
            node.prev = prev;
        }
        if let Some(node) = self.node(prev) {
            node.next = next;
        } else if let Some(head) = self.heads.get_mut(place as usize) {
            *head = next;
            if next == NONE {
                if let Some(bits) = self.occupied.get_mut(place as usize / SLOTS) {
                    *bits &= !(1 << (place as usize % SLOTS));
                }
            }
        }
        true
    }

    /// The lowest level with an entry, and the first tick of its first occupied slot.
    fn first(&self) -> Option<(usize, usize, u64)> {
        for (level, bits) in self.occupied.iter().enumerate() {
            if *bits == 0 {
                continue;
            }
            let shift = SLOT_BITS * level as u32;
            let position = (self.now_tick >> shift) as u32 % SLOTS as u32;
            // Slots behind the position belong to the next turn of this level; an entry is never
            // put there, except on the last level, where the horizon wraps.
            let ahead = bits.rotate_right(position).trailing_zeros();
            let slot = (position + ahead) as usize % SLOTS;
            let start = ((self.now_tick >> shift) + u64::from(ahead)) << shift;
            return Some((level, slot, start.max(self.now_tick)));
        }
        None
    }

    /// When [`Wheel::pop_expired`] should be called next: never later than the first deadline,
    /// possibly earlier (at most once a level) for a distant one.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.first().map(|(_, _, tick)| Instant::from_micros(tick << TICK_SHIFT))
    }

    /// Takes out one key whose time has come by `now`.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<u32> {
        let target = now.micros >> TICK_SHIFT;
        loop {
            let Some((level, slot, start)) = self.first() else {
                self.now_tick = self.now_tick.max(target);
                return None;
            };
            if start > target {
                self.now_tick = self.now_tick.max(target);
                return None;
            }
            self.now_tick = start;
            let place = level * SLOTS + slot;
            if level == 0 {
                let key = *self.heads.get(place)?;
                self.cancel(key);
                return Some(key);
            }
            self.cascade(place);
        }
    }

    /// Distributes a slot whose time has come over the levels below: all of it, since any of its
    /// entries may be the next.
    fn cascade(&mut self, place: usize) {
        while let Some(&key) = self.heads.get(place).filter(|key| **key != NONE) {
            let Some(tick) = self.node(key).map(|node| node.tick) else { return };
            self.unlink(key);
            self.link(key, tick);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut wheel = Wheel::default();
        wheel.schedule(1, at(40));
        wheel.schedule(2, at(7_200_000));
        wheel.schedule(3, at(200));
        assert_eq!(wheel.pop_expired(at(39)), None);
        assert_eq!(wheel.pop_expired(at(42)), Some(1));
        assert_eq!(wheel.pop_expired(at(42)), None);
        wheel.schedule(3, at(100));
        assert_eq!(wheel.pop_expired(at(99)), None);
        assert_eq!(wheel.pop_expired(at(102)), Some(3));
        assert_eq!(wheel.pop_expired(at(7_199_999)), None);
        assert_eq!(wheel.pop_expired(at(7_200_002)), Some(2));
        assert_eq!(wheel.len(), 0);
        assert_eq!(wheel.next_timeout(), None);
    }

    #[test]
    fn a_distant_deadline_wakes_at_most_once_a_level() {
        let mut wheel = Wheel::default();
        wheel.pop_expired(at(123_456));
        wheel.schedule(0, at(123_456 + 7_200_000));
        let mut wakeups = 0;
        while let Some(next) = wheel.next_timeout() {
            wakeups += 1;
            assert!(next <= at(123_456 + 7_200_002));
            wheel.pop_expired(next);
        }
        assert!(wakeups <= LEVELS, "{wakeups}");
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(ops in prop::collection::vec(
            (0u32..40, 0u64..5_000_000_000, 0u64..400_000_000, any::<bool>()), 1..200)) {
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0u64;
            for (key, delay, step, cancel) in ops {
                if cancel {
                    wheel.cancel(key);
                    model.remove(&key);
                } else {
                    wheel.schedule(key, Instant::from_micros(now + delay));
                    model.insert(key, (now + delay).div_ceil(1 << TICK_SHIFT));
                }
                now += step;
                let next = wheel.next_timeout();
                let earliest = model.values().min().map(|t| t << TICK_SHIFT);
                prop_assert_eq!(next.is_some(), earliest.is_some());
                prop_assert!(next.map(|n| n.micros) <= earliest.map(|e| e.max(now)), "{:?} {:?} {}", next, earliest, now);
                let mut fired = std::vec::Vec::new();
                while let Some(key) = wheel.pop_expired(Instant::from_micros(now)) {
                    fired.push(key);
                }
                fired.sort_unstable();
                let due: std::vec::Vec<u32> = model.iter()
                    .filter(|(_, t)| **t <= now >> TICK_SHIFT).map(|(k, _)| *k).collect();
                model.retain(|_, t| *t > now >> TICK_SHIFT);
                prop_assert_eq!(fired, due);
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
