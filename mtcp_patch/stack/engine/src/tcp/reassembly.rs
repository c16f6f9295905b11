//! Which bytes beyond RCV.NXT have arrived.
//!
//! The bytes themselves lie in the receive ring already, at their final place; here are only the
//! ranges, as offsets from RCV.NXT, sorted, disjoint, not touching, and as many as [`most`] says.
//! Called by `input`.

use alloc::vec::Vec;

use crate::limits::{BYTES_PER_REASSEMBLY_RANGE, MIN_REASSEMBLY_RANGES};

/// The out-of-order ranges of one connection. Holds no memory while there are none.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// (start, end) offsets from RCV.NXT; start > 0.
    list: Vec<(u32, u32)>,
}

/// How many ranges there may be in a ring that reaches to `end`, an offset from RCV.NXT.
fn most(end: u32) -> usize {
    MIN_REASSEMBLY_RANGES.max(end as usize / BYTES_PER_REASSEMBLY_RANGE)
}

impl Ranges {
    /// Whether nothing lies beyond RCV.NXT.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The end of the last range: how far the ring has been written.
    pub(crate) fn end(&self) -> u32 {
        self.list.last().map_or(0, |r| r.1)
    }

    /// Whether [`Ranges::insert`] would take start..end.
    pub(crate) fn has_room(&self, start: u32, end: u32) -> bool {
        self.list.len() < most(self.end().max(end))
            || self.list.iter().any(|r| start <= r.1 && end >= r.0)
    }

    /// The range that has `offset` in it.
    pub(crate) fn containing(&self, offset: u32) -> Option<(u32, u32)> {
        let at = self.list.partition_point(|r| r.1 <= offset);
        self.list.get(at).copied().filter(|r| r.0 <= offset)
    }

    /// The first part of start..end that has arrived already.
    pub(crate) fn overlap(&self, start: u32, end: u32) -> Option<(u32, u32)> {
        let at = self.list.partition_point(|r| r.1 <= start);
        let range = self.list.get(at).filter(|r| r.0 < end)?;
        Some((range.0.max(start), range.1.min(end)))
    }

    /// Notes that start..end has arrived. False: there are too many ranges, it was not noted.
    pub(crate) fn insert(&mut self, start: u32, end: u32) -> bool {
        if start >= end {
            return true;
        }
        // Most segments extend the last range or follow it.
        let from = self.list.partition_point(|r| r.1 < start);
        let to = self.list.partition_point(|r| r.0 <= end);
        let merged = self.list.get(from..to).unwrap_or(&[]);
        match (merged.first(), merged.last()) {
            (Some(first), Some(last)) => {
                let range = (start.min(first.0), end.max(last.1));
                self.list.drain(from + 1..to);
                if let Some(slot) = self.list.get_mut(from) {
                    *slot = range;
                }
                true
            }
            _ if self.list.len() >= most(self.end().max(end)) => false,
            _ => {
                self.list.insert(from, (start, end));
                true
            }
        }
    }

    /// RCV.NXT is about to move by `bytes` because those arrived in order. Returns by how much it
    /// moves in all: ranges that `bytes` reaches are in order now.
    pub(crate) fn advance(&mut self, bytes: u32) -> u32 {
        let mut total = bytes;
        let mut reached = 0;
        for range in &self.list {
            if range.0 > total {
                break;
            }
            total = total.max(range.1);
            reached += 1;
        }
        self.list.drain(..reached);
        for range in &mut self.list {
            range.0 -= total;
            range.1 -= total;
        }
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        total
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.list = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn merges_neighbours_and_bounds_their_number() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(10, 20) && ranges.insert(30, 40) && ranges.insert(20, 30));
        assert_eq!(ranges.list, [(10, 40)]);
        assert_eq!(ranges.advance(10), 40);
        assert!(ranges.is_empty());
        for i in 0..MIN_REASSEMBLY_RANGES as u32 {
            assert!(ranges.insert(10 + 4 * i, 12 + 4 * i));
        }
        assert!(!ranges.has_room(60_000, 60_001) && !ranges.insert(60_000, 60_001));
        assert!(ranges.has_room(12, 13) && ranges.insert(12, 13));
        // A buffer that is larger than that holds more: here 100.
        for i in 0..36 {
            assert!(ranges.insert(102_400 - 4 * i, 102_402 - 4 * i));
        }
        assert!(!ranges.has_room(60_000, 60_001) && !ranges.insert(60_000, 60_001));
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap(ops in prop::collection::vec((1u32..300, 1u32..60, any::<bool>()), 1..80)) {
            let mut ranges = Ranges::default();
            let mut model = std::vec![false; 1000];
            for (start, len, in_order) in ops {
                if in_order {
                    let mut expected = len as usize;
                    while model[expected] {
                        expected += 1;
                    }
                    prop_assert_eq!(ranges.advance(len), expected as u32);
                    model.drain(..expected);
                    model.resize(1000, false);
                } else if ranges.insert(start, start + len) {
                    model[start as usize..(start + len) as usize].fill(true);
                }
                let mut seen = std::vec![false; 1000];
                let mut last = 0;
                for (s, e) in &ranges.list {
                    prop_assert!(*s > last && e > s);
                    last = *e;
                    seen[*s as usize..*e as usize].fill(true);
                }
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(ranges.end(), last);
                for offset in 0..400u32 {
                    let held = ranges.containing(offset);
                    prop_assert_eq!(held.is_some(), model[offset as usize]);
                    let overlap = ranges.overlap(offset, offset + 20);
                    let first = (offset..offset + 20).find(|at| model[*at as usize]);
                    prop_assert_eq!(overlap.map(|r| r.0), first);
                }
                prop_assert!(ranges.list.len() <= MIN_REASSEMBLY_RANGES);
            }
        }
    }
}
