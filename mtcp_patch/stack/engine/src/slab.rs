//! A table of objects under generational indices.
//!
//! An index is reused, its generation is not (until it wraps after 2^32 reuses of one index), so an
//! id that outlived its object finds nothing. Constant time; no scan anywhere.

use alloc::vec::Vec;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: usize,
}

impl<T> Slab<T> {
    /// A table of at most `max` objects.
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), max: max.min(u32::MAX as usize - 1) }
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts the object that `make` builds from its (index, generation) into the table.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32, u32) -> T) -> Option<(u32, u32)> {
        if self.len() >= self.max {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, value: None });
                self.slots.len() as u32 - 1
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.value = Some(make(index, slot.generation));
        Some((index, slot.generation))
    }

    /// The object under this index, whatever its generation.
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The same, to look at.
    pub(crate) fn at_ref(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// The object, if it is still this generation.
    pub(crate) fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        (slot.generation == generation).then_some(slot.value.as_ref()).flatten()
    }

    /// The object, if it is still this generation.
    pub(crate) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        (slot.generation == generation).then_some(slot.value.as_mut()).flatten()
    }

    /// Takes the object out.
    pub(crate) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// All objects with their (index, generation).
    pub(crate) fn iter(&self) -> impl Iterator<Item = ((u32, u32), &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.value.as_ref().map(|value| ((index as u32, slot.generation), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut slab = Slab::new(2);
        let (i, g) = slab.insert(|_, _| 'a').unwrap();
        slab.insert(|_, _| 'b').unwrap();
        assert!(slab.insert(|_, _| 'c').is_none());
        assert_eq!(slab.remove(i, g), Some('a'));
        let (j, h) = slab.insert(|_, _| 'd').unwrap();
        assert_eq!(j, i);
        assert_ne!(h, g);
        assert_eq!((slab.get(i, g), slab.get(j, h)), (None, Some(&'d')));
        assert_eq!(slab.remove(i, g), None);
        assert_eq!(slab.len(), 2);
    }
}
