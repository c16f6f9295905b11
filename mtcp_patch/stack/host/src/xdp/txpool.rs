//! Which transmit chunks are free.
//!
//! Owned by a `Queue`. A frame takes a run of neighbouring chunks, so that it can be written in
//! place; runs are taken in a circle and come back when the kernel has completed every chunk of
//! the oldest one. When nothing is under way the circle starts again at its first chunk, which
//! keeps a quiet connection on memory that the cache knows.

/// State of the chunks.
pub struct TxPool {
    /// True from `take` until the kernel completed the chunk.
    busy: Vec<bool>,
    /// The next chunk to take.
    head: u32,
    /// Chunks between the oldest one under way and `head`, gaps included.
    used: u32,
}

impl TxPool {
    /// All of `chunks` free.
    pub fn new(chunks: u32) -> Self {
        Self { busy: vec![false; chunks as usize], head: 0, used: 0 }
    }

    fn size(&self) -> u32 {
        self.busy.len() as u32
    }

    /// Takes `count` neighbouring chunks; the first one's index, or None when there is no such run.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let size = self.size();
        if self.used == 0 {
            self.head = 0;
        }
        // A run does not wrap: skip the chunks before the end when it would.
        let gap = if self.head + count > size { size - self.head } else { 0 };
        if count == 0 || count > size || self.used + gap + count > size {
            return None;
        }
        let first = if gap == 0 { self.head } else { 0 };
        for chunk in self.busy.iter_mut().skip(first as usize).take(count as usize) {
            *chunk = true;
        }
        self.used += gap + count;
        self.head = (first + count) % size;
        Some(first)
    }

    /// The kernel is done with `chunk`; false when it was not under way.
    pub fn complete(&mut self, chunk: u32) -> bool {
        match self.busy.get_mut(chunk as usize) {
            Some(busy) if *busy => *busy = false,
            _ => return false,
        }
        self.advance();
        true
    }

    /// Moves the tail over what is complete.
    fn advance(&mut self) {
        let size = self.size();
        while self.used > 0 {
            let tail = (self.head + size - self.used) % size;
            if self.busy.get(tail as usize).copied().unwrap_or(false) {
                break;
            }
            self.used -= 1;
        }
    }

    /// Chunks that the kernel has not completed.
    pub fn under_way(&self) -> u32 {
        self.used
    }

    /// Forgets everything under way; returns how many chunks that were.
    pub fn forget(&mut self) -> u32 {
        let lost = self.busy.iter().filter(|busy| **busy).count() as u32;
        self.busy.fill(false);
        self.used = 0;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_contiguous_and_return_in_any_order() {
        let mut pool = TxPool::new(8);
        assert_eq!(pool.take(3), Some(0));
        assert_eq!(pool.take(3), Some(3));
        assert_eq!(pool.take(3), None, "two are left");
        assert_eq!(pool.take(2), Some(6));
        for chunk in [6, 7, 3, 4, 5] {
            assert!(pool.complete(chunk));
            assert_eq!(pool.under_way(), 8, "the oldest run is still out");
        }
        for chunk in [2, 0, 1] {
            assert!(pool.complete(chunk));
        }
        assert_eq!(pool.under_way(), 0);
        assert_eq!(pool.take(1), Some(0), "starts again at the first");
    }

    #[test]
    fn a_run_skips_the_end_instead_of_wrapping() {
        let mut pool = TxPool::new(8);
        assert_eq!(pool.take(6), Some(0));
        for chunk in 0..5 {
            pool.complete(chunk);
        }
        assert_eq!(pool.take(4), Some(0), "6 and 7 are a gap");
        assert_eq!(pool.under_way(), 1 + 2 + 4);
        assert_eq!(pool.take(2), None);
        pool.complete(5);
        assert_eq!(pool.under_way(), 4, "the gap went with the run before it");
        assert_eq!(pool.take(2), Some(4));
    }

    #[test]
    fn completions_that_lie_change_nothing() {
        let mut pool = TxPool::new(4);
        assert!(!pool.complete(0));
        assert!(!pool.complete(4));
        assert_eq!(pool.take(5), None);
        assert_eq!(pool.take(0), None);
        assert_eq!(pool.take(4), Some(0));
        assert!(pool.complete(0));
        assert!(!pool.complete(0));
        assert_eq!((pool.forget(), pool.under_way()), (3, 0));
    }
}
