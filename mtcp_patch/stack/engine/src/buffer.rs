//! Buffers that grow on demand, and the account of the memory they use.
//!
//! A [`Ring`] holds nothing while it is empty and idle, doubles as bytes come, and is written by
//! position, so that out-of-order data lies in its final place at once. [`Memory`] belongs to the
//! shard: it counts, refuses beyond the limit, and keeps a small pool of free blocks, so that a
//! request and its reply cost no allocation. Called by the connections' input (write), the
//! application's calls (read, write) and output (read). Nothing here knows sequence numbers.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::limits::{
    GUARANTEED_BUFFER_BYTES, MAX_POOLED_BUFFER_BYTES, MAX_POOL_BYTES_PER_SIZE, MIN_BUFFER_BYTES,
};

/// Sizes of block that the pool keeps: 1, 2, 4, 8 and 16 KiB.
const POOL_SIZES: usize = (MAX_POOLED_BUFFER_BYTES / MIN_BUFFER_BYTES).ilog2() as usize + 1;

/// The buffer memory of a shard.
#[derive(Debug)]
pub(crate) struct Memory {
    used_bytes: usize,
    max_bytes: usize,
    pool: [Vec<Box<[u8]>>; POOL_SIZES],
}

impl Memory {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { used_bytes: 0, max_bytes, pool: [const { Vec::new() }; POOL_SIZES] }
    }

    /// Bytes in use by rings; the pool's free blocks are not among them.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    fn pool_class(bytes: usize) -> Option<usize> {
        let class = (bytes / MIN_BUFFER_BYTES).checked_ilog2()? as usize;
        (class < POOL_SIZES).then_some(class)
    }

    /// A block of `bytes` (a power of two) in exchange for one of `instead_of` bytes.
    fn take(&mut self, bytes: usize, instead_of: usize) -> Option<Box<[u8]>> {
        let after = self.used_bytes - instead_of + bytes;
        if after > self.max_bytes && bytes > GUARANTEED_BUFFER_BYTES {
            return None;
        }
        self.used_bytes += bytes;
        let pooled = Self::pool_class(bytes).and_then(|class| self.pool.get_mut(class)?.pop());
        Some(pooled.unwrap_or_else(|| vec![0; bytes].into_boxed_slice()))
    }

    fn give(&mut self, block: Box<[u8]>) {
        let bytes = block.len();
        self.used_bytes -= bytes;
        if let Some(list) = Self::pool_class(bytes).and_then(|class| self.pool.get_mut(class)) {
            if list.len() * bytes < MAX_POOL_BYTES_PER_SIZE {
                list.push(block);
            }
        }
    }
}

/// A byte queue over one block whose size is a power of two, or over none.
///
/// ```text
///              head                    head+len
///      ..........|######## readable ######|~~~ written ahead ~~~|......
/// ```
#[derive(Debug, Default)]
pub(crate) struct Ring {
    block: Option<Box<[u8]>>,
    head: u32,
    len: u32,
}

impl Ring {
    /// Readable bytes.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.block.as_ref().map_or(0, |b| b.len())
    }

    /// Bytes from the head on that can be written whatever the memory limit says.
    pub(crate) fn granted(&self) -> usize {
        self.capacity().max(GUARANTEED_BUFFER_BYTES)
    }

    /// Makes room for `bytes` from the head on. False: the memory limit forbids it.
    fn reserve(&mut self, memory: &mut Memory, bytes: usize) -> bool {
        let old_capacity = self.capacity();
        if bytes <= old_capacity {
            return true;
        }
        let capacity = bytes.next_power_of_two().max(MIN_BUFFER_BYTES);
        let Some(mut block) = memory.take(capacity, old_capacity) else { return false };
        if let Some(old) = self.block.take() {
            // All of it, not `len` bytes: what was written ahead must survive as well.
            let (back, front) = old.split_at(self.head as usize);
            if let Some(to) = block.get_mut(..front.len()) {
                to.copy_from_slice(front);
            }
            if let Some(to) = block.get_mut(front.len()..old_capacity) {
                to.copy_from_slice(back);
            }
            memory.give(old);
        }
        self.block = Some(block);
        self.head = 0;
        true
    }

    /// The two parts of `len` bytes from `offset` after the head, which must lie inside the block.
    fn parts(&self, offset: usize, len: usize) -> ((usize, usize), usize) {
        let capacity = self.capacity();
        if capacity == 0 {
            return ((0, 0), 0);
        }
        let start = (self.head as usize + offset) & (capacity - 1);
        let first = len.min(capacity - start);
        ((start, start + first), len - first)
    }

    /// Writes `data` at `offset` after the head without making it readable. False: no memory.
    pub(crate) fn write_at(&mut self, memory: &mut Memory, offset: usize, data: &[u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        if !self.reserve(memory, offset + data.len()) {
            return false;
        }
        let ((start, end), rest) = self.parts(offset, data.len());
        let Some(block) = self.block.as_mut() else { return false };
        let (first, second) = data.split_at(end - start);
        if let Some(to) = block.get_mut(start..end) {
            to.copy_from_slice(first);
        }
        if let Some(to) = block.get_mut(..rest) {
            to.copy_from_slice(second);
        }
        true
    }

    /// Makes `bytes` more readable; they must have been written by [`Ring::write_at`].
    pub(crate) fn extend(&mut self, bytes: usize) {
        debug_assert!(self.len() + bytes <= self.capacity(), "extended past what was written");
        self.len += bytes as u32;
    }

    /// Appends as much of `data` as memory allows and returns how much that was.
    pub(crate) fn append(&mut self, memory: &mut Memory, data: &[u8]) -> usize {
        let mut data = data;
        if !self.write_at(memory, self.len(), data) {
            // The block cannot grow; what it still has is ours, and an empty ring gets a little.
            let free = self.granted().saturating_sub(self.len());
            data = data.get(..free).unwrap_or(data);
            if !self.write_at(memory, self.len(), data) {
                return 0;
            }
        }
        self.extend(data.len());
        data.len()
    }

    /// Everything readable, in the two halves of the ring.
    #[cfg(test)]
    pub(crate) fn slices(&self) -> (&[u8], &[u8]) {
        let [a, b] = self.range(0, self.len());
        (a, b)
    }

    /// `len` readable bytes from `offset` on (less when there are less).
    pub(crate) fn range(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        let ((start, end), rest) = self.parts(offset, len);
        match &self.block {
            Some(block) => [block.get(start..end).unwrap_or(&[]), block.get(..rest).unwrap_or(&[])],
            None => [&[], &[]],
        }
    }

    /// Forgets the first `bytes` readable bytes. `keep` says that bytes written ahead must stay.
    pub(crate) fn consume(&mut self, memory: &mut Memory, bytes: usize, keep: bool) {
        let bytes = bytes.min(self.len());
        let capacity = self.capacity();
        if capacity == 0 {
            return;
        }
        self.head = ((self.head as usize + bytes) & (capacity - 1)) as u32;
        self.len -= bytes as u32;
        if self.is_empty() && !keep {
            self.head = 0;
            if capacity <= MAX_POOLED_BUFFER_BYTES {
                self.release(memory);
            }
        }
    }

    /// Gives the memory back, with whatever is in it.
    pub(crate) fn release(&mut self, memory: &mut Memory) {
        if let Some(block) = self.block.take() {
            memory.give(block);
        }
        self.head = 0;
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn holds_no_memory_while_empty() {
        let mut memory = Memory::new(1 << 20);
        let mut ring = Ring::default();
        assert_eq!(ring.append(&mut memory, b"hello"), 5);
        assert_eq!(memory.used_bytes(), MIN_BUFFER_BYTES);
        ring.consume(&mut memory, 5, false);
        assert_eq!((memory.used_bytes(), ring.capacity()), (0, 0));
    }

    #[test]
    fn a_large_block_stays_until_released() {
        let mut memory = Memory::new(1 << 20);
        let mut ring = Ring::default();
        ring.append(&mut memory, &[7; 100_000]);
        ring.consume(&mut memory, 100_000, false);
        assert_eq!(ring.capacity(), 131_072);
        ring.release(&mut memory);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn the_limit_refuses_but_an_empty_ring_gets_a_little() {
        let mut memory = Memory::new(8 * 1024);
        let mut a = Ring::default();
        assert_eq!(a.append(&mut memory, &[1; 8192]), 8192);
        assert_eq!(a.append(&mut memory, &[1; 8192]), 0);
        let mut b = Ring::default();
        assert_eq!(b.append(&mut memory, &[2; 8192]), GUARANTEED_BUFFER_BYTES);
        assert_eq!(b.append(&mut memory, &[2; 8192]), 0);
        assert!(memory.used_bytes() <= 8192 + GUARANTEED_BUFFER_BYTES);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Append(Vec<u8>),
        Ahead(usize, Vec<u8>),
        Consume(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3000).prop_map(Op::Append),
            (0usize..5000, prop::collection::vec(any::<u8>(), 1..500))
                .prop_map(|(o, d)| Op::Ahead(o, d)),
            (0usize..4000).prop_map(Op::Consume),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(ops in prop::collection::vec(op(), 1..60)) {
            let mut memory = Memory::new(1 << 24);
            let mut ring = Ring::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Append(data) => {
                        prop_assert_eq!(ring.append(&mut memory, &data), data.len());
                        model.extend(data);
                    }
                    Op::Ahead(gap, data) => {
                        // Written ahead, then the gap filled and all of it made readable.
                        let at = ring.len() + gap;
                        prop_assert!(ring.write_at(&mut memory, at, &data));
                        prop_assert!(ring.write_at(&mut memory, ring.len(), &vec![9; gap]));
                        ring.extend(gap + data.len());
                        model.extend(std::iter::repeat_n(9, gap).chain(data));
                    }
                    Op::Consume(n) => {
                        ring.consume(&mut memory, n, false);
                        model.drain(..n.min(model.len()));
                    }
                }
                let (a, b) = ring.slices();
                prop_assert!(a.iter().chain(b).eq(model.iter()));
                prop_assert_eq!(memory.used_bytes(), ring.capacity());
            }
            ring.release(&mut memory);
            prop_assert_eq!(memory.used_bytes(), 0);
        }
    }
}
