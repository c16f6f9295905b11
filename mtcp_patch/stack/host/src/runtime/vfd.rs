//! The table of virtual descriptors: numbers from 2^30 up, the lowest free one first as POSIX has
//! it, so that no number is ever equal to a kernel descriptor.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A virtual descriptor.
pub type Vfd = i32;

/// The first virtual descriptor. The kernel's `fs.nr_open` cannot reach it.
pub const VFD_BASE: i32 = 1 << 30;

/// Whether a descriptor number is one of ours (open or not).
#[inline]
pub fn is_virtual(fd: i32) -> bool {
    fd >= VFD_BASE
}

/// An open number.
#[derive(Clone, Copy)]
struct Slot {
    desc: usize,
    /// As FD_CLOEXEC, a property of the number. Only remembered: none survives exec.
    inheritable: bool,
}

impl Slot {
    fn new(desc: usize) -> Self {
        Self { desc, inheritable: false }
    }
}

/// Virtual descriptor → index of its open file description.
#[derive(Default)]
pub(super) struct VfdTable {
    slots: Vec<Option<Slot>>,
    /// Every free slot, and some that were opened by number since: those are passed over.
    free: BinaryHeap<Reverse<usize>>,
}

impl VfdTable {
    /// Opens the lowest free number on a description; `None` when `max` are open already.
    pub fn insert(&mut self, desc: usize, max: usize) -> Option<Vfd> {
        let index = match self.lowest_free() {
            Some(index) => index,
            None if self.slots.len() < max => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        *self.slots.get_mut(index)? = Some(Slot::new(desc));
        Some(VFD_BASE + index as i32)
    }

    fn lowest_free(&mut self) -> Option<usize> {
        while let Some(Reverse(index)) = self.free.pop() {
            if self.slots.get(index).is_some_and(Option::is_none) {
                return Some(index);
            }
        }
        None
    }

    /// Opens a given number, which must not be open: for dup2(2), and for what a child inherits.
    pub fn insert_at(&mut self, vfd: Vfd, desc: usize) {
        let Some(index) = Self::index(vfd) else { return };
        while self.slots.len() <= index {
            if self.slots.len() != index {
                self.free.push(Reverse(self.slots.len()));
            }
            self.slots.push(None);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Slot::new(desc));
        }
    }

    /// The description behind an open number.
    #[inline]
    pub fn get(&self, vfd: Vfd) -> Option<usize> {
        self.slots.get(Self::index(vfd)?)?.as_ref().map(|slot| slot.desc)
    }

    /// Closes a number and returns its description.
    pub fn remove(&mut self, vfd: Vfd) -> Option<usize> {
        let index = Self::index(vfd)?;
        let desc = self.slots.get_mut(index)?.take()?.desc;
        self.free.push(Reverse(index));
        Some(desc)
    }

    /// The inheritable flag of an open number.
    pub fn inheritable(&mut self, vfd: Vfd) -> Option<&mut bool> {
        self.slots.get_mut(Self::index(vfd)?)?.as_mut().map(|slot| &mut slot.inheritable)
    }

    /// The open numbers that are inheritable, ascending.
    pub fn inheritables(&self) -> impl Iterator<Item = Vfd> + '_ {
        let flags = self.slots.iter().enumerate();
        flags.filter(|(_, s)| s.is_some_and(|s| s.inheritable)).map(|(i, _)| VFD_BASE + i as i32)
    }

    /// The open numbers, ascending, with their descriptions.
    pub fn iter(&self) -> impl Iterator<Item = (Vfd, usize)> + '_ {
        self.slots.iter().enumerate().filter_map(|(i, s)| s.map(|s| (VFD_BASE + i as i32, s.desc)))
    }

    #[inline]
    fn index(vfd: Vfd) -> Option<usize> {
        usize::try_from(vfd.checked_sub(VFD_BASE)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_first() {
        let mut t = VfdTable::default();
        let a = t.insert(7, 8).unwrap();
        let b = t.insert(8, 8).unwrap();
        let c = t.insert(9, 8).unwrap();
        assert_eq!((a, b, c), (VFD_BASE, VFD_BASE + 1, VFD_BASE + 2));
        assert_eq!(t.remove(b), Some(8));
        assert_eq!(t.remove(a), Some(7));
        assert_eq!(t.remove(a), None);
        assert_eq!(t.insert(1, 8), Some(a));
        assert_eq!(t.insert(2, 8), Some(b));
        assert_eq!(t.get(c), Some(9));
        *t.inheritable(c).unwrap() = true;
        assert_eq!(t.inheritables().collect::<Vec<_>>(), [c]);
    }

    #[test]
    fn a_full_table_refuses_and_strangers_are_not_found() {
        let mut t = VfdTable::default();
        assert!(t.insert(0, 1).is_some());
        assert_eq!(t.insert(1, 1), None);
        for odd in [-1, 0, 3, VFD_BASE - 1, VFD_BASE + 5, i32::MAX, i32::MIN] {
            assert_eq!(t.get(odd), None);
        }
    }

    #[test]
    fn inherited_numbers_keep_their_place() {
        let mut t = VfdTable::default();
        t.insert_at(VFD_BASE + 2, 5);
        assert_eq!(t.get(VFD_BASE + 2), Some(5));
        assert_eq!(t.insert(6, 9), Some(VFD_BASE));
        assert_eq!(t.insert(7, 9), Some(VFD_BASE + 1));
        assert_eq!(t.insert(8, 9), Some(VFD_BASE + 3));
    }

    #[test]
    fn a_number_that_was_asked_for_is_not_given_again() {
        let mut t = VfdTable::default();
        let (a, b) = (t.insert(7, 8).unwrap(), t.insert(8, 8).unwrap());
        t.remove(a);
        t.insert_at(a, 9);
        assert_eq!(t.insert(6, 8), Some(b + 1));
        t.remove(a);
        assert_eq!(t.insert(5, 8), Some(a));
        assert_eq!((t.get(a), t.insert(4, 8)), (Some(5), Some(b + 2)));
    }
}
