//! The memory of a link: two rings of frames in one memfd, which both processes have mapped.
//!
//! ```text
//!     0     ring 0: producer │ consumer, asleep     ring 1: the same      one page
//!     4096  bytes of ring 0
//!           bytes of ring 1
//! ```
//! Whoever made it fills ring 0 and empties ring 1; the other does the opposite. Every access is an
//! atomic one: the other process may write anywhere at any time, whatever the rings' protocol says.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use rustix::fs::{self, MemfdFlags, SealFlags};

use super::ring::{Consumer, Producer, Shared};
use crate::sync::{AtomicU32, Ordering};
use crate::xdp::umem::Mapping;

/// The page before the frames.
const WORDS: usize = 4096;
/// From the words of ring 0 to those of ring 1, and from the producer's to the consumer's: two cache
/// lines, because processors fetch them in pairs.
const APART: usize = 128;

/// Bytes of each of the two rings of a link that we make. Pages that were never used cost nothing.
pub(crate) const RING_BYTES: u32 = 1 << 20;
/// The least and the most that we take from another process; the least holds the largest frame.
const TAKEN: std::ops::RangeInclusive<u32> = 128 << 10..=16 << 20;

/// What makes it safe to map another process's memory: it can never become shorter under us.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// One ring, as both sides see it.
pub(crate) struct Ring {
    mapping: Arc<Mapping>,
    words: usize,
    frames: usize,
    bytes: u32,
}

/// Both directions of a link.
pub(crate) type Rings = (Producer<Ring>, Consumer<Ring>);

fn length(ring_bytes: u32) -> usize {
    WORDS + 2 * ring_bytes as usize
}

/// New rings, and the memory to be given to the other process.
pub(crate) fn create() -> io::Result<(OwnedFd, Rings)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = fs::memfd_create("mtcp_patch", flags)?;
    fs::ftruncate(&memory, length(RING_BYTES) as u64)?;
    fs::fcntl_add_seals(&memory, SEALS)?;
    let [first, second] = map(&memory, RING_BYTES)?;
    Ok((memory, (Producer::new(first), Consumer::new(second))))
}

/// The rings that another process has made, each of `ring_bytes`, as it says.
///
/// # Errors
/// `InvalidInput` when that is not so, or when the memory could be taken away again.
pub(crate) fn open(memory: &OwnedFd, ring_bytes: u32) -> io::Result<Rings> {
    let sealed = fs::fcntl_get_seals(memory)?.contains(SEALS);
    let usable = ring_bytes.is_power_of_two() && TAKEN.contains(&ring_bytes);
    let size = fs::fstat(memory)?.st_size;
    if !sealed || !usable || u64::try_from(size) != Ok(length(ring_bytes) as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let [first, second] = map(memory, ring_bytes)?;
    Ok((Producer::new(second), Consumer::new(first)))
}

fn map(memory: &OwnedFd, bytes: u32) -> io::Result<[Ring; 2]> {
    let mapping = Arc::new(Mapping::shared_on_demand(memory.as_raw_fd(), length(bytes))?);
    Ok([0, 1].map(|n| Ring {
        mapping: Arc::clone(&mapping),
        words: n * 2 * APART,
        frames: WORDS + n * bytes as usize,
        bytes,
    }))
}

impl Ring {
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is less than 4 * APART and a multiple of four, the mapping is a page at least
        // and lives as long as `self`; an atomic tolerates what the other process writes.
        unsafe { AtomicU32::from_ptr(self.mapping.base().as_ptr().add(at).cast()) }
    }

    /// The frames' part from `at` on, which is a multiple of eight; empty when that is outside.
    fn frames(&self, at: u32) -> &[AtomicU64] {
        let at = at.min(self.bytes) as usize / 8;
        let len = self.bytes as usize / 8 - at;
        // SAFETY: `map` made the mapping `frames` + `bytes` long at least, `at` + `len` words are
        // `bytes`, and `frames` is a multiple of a page; atomics tolerate what the other process writes.
        unsafe {
            let first = self.mapping.base().as_ptr().add(self.frames).cast::<AtomicU64>();
            std::slice::from_raw_parts(first.add(at), len)
        }
    }
}

impl Shared for Ring {
    fn producer(&self) -> &AtomicU32 {
        self.word(self.words)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.words + APART)
    }

    fn asleep(&self) -> &AtomicU32 {
        self.word(self.words + APART + 4)
    }

    fn bytes(&self) -> u32 {
        self.bytes
    }

    fn read(&self, at: u32, into: &mut [u8]) {
        let mut words = self.frames(at).iter();
        let mut whole = into.chunks_exact_mut(8);
        for (out, word) in whole.by_ref().zip(words.by_ref()) {
            out.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let rest = whole.into_remainder();
        if let (1.., Some(word)) = (rest.len(), words.next()) {
            let word = word.load(Ordering::Relaxed).to_ne_bytes();
            for (out, byte) in rest.iter_mut().zip(word) {
                *out = byte;
            }
        }
    }

    fn write(&self, at: u32, from: &[u8]) {
        let words = self.frames(at).iter();
        for (part, word) in from.chunks(8).zip(words) {
            let mut bytes = [0; 8];
            for (byte, &from) in bytes.iter_mut().zip(part) {
                *byte = from;
            }
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    }
}
