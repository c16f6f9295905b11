//! The four rings that an AF_XDP socket shares with the kernel, each with one producer and one
//! consumer (`Documentation/networking/af_xdp.rst`).
//!
//! We produce into the fill and transmit rings and consume from the receive and completion rings.
//! Nothing is visible to the kernel before `publish` or `release`. The other side's index is never
//! trusted beyond the size of the ring.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use super::umem::Mapping;

/// Where the parts of a ring stand in its mapping, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    /// The producer's index.
    pub producer: u64,
    /// The consumer's index.
    pub consumer: u64,
    /// The flags word.
    pub flags: u64,
    /// The first descriptor.
    pub descriptors: u64,
}

/// The mapped ring, with bounds proven once at construction.
struct Shared<T> {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    descriptors: usize,
    size: u32,
    _descriptor: PhantomData<T>,
}

impl<T: Copy> Shared<T> {
    fn new(mapping: Mapping, at: Offsets, size: u32) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let place = |offset: u64, bytes: usize, align: usize| {
            let offset = usize::try_from(offset).map_err(|_| invalid())?;
            let end = offset.checked_add(bytes).ok_or_else(invalid)?;
            let fits = end <= mapping.bytes() && offset % align == 0;
            fits.then_some(offset).ok_or_else(invalid)
        };
        if !size.is_power_of_two() {
            return Err(invalid());
        }
        let table = size_of::<T>() * size as usize;
        Ok(Self {
            producer: place(at.producer, 4, 4)?,
            consumer: place(at.consumer, 4, 4)?,
            flags: place(at.flags, 4, 4)?,
            descriptors: place(at.descriptors, table, align_of::<T>())?,
            mapping,
            size,
            _descriptor: PhantomData,
        })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `new` proved that four aligned bytes at `offset` are inside the mapping, which
        // lives as long as `self`; an atomic tolerates that the kernel writes them too.
        unsafe { AtomicU32::from_ptr(self.mapping.base().as_ptr().add(offset).cast()) }
    }

    fn slot(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        // SAFETY: `slot` < size, and `new` proved that `size` descriptors are inside the mapping.
        unsafe { self.mapping.base().as_ptr().add(self.descriptors + slot * size_of::<T>()).cast() }
    }

    /// Whether the kernel asks to be woken by a system call.
    fn need_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The side that fills a ring.
pub struct Producer<T> {
    ring: Shared<T>,
    /// Where the next descriptor goes; ahead of the published index by what is not visible yet.
    next: u32,
    published: u32,
    /// The other side's index when we looked last.
    consumer: u32,
}

impl<T: Copy> Producer<T> {
    /// Takes over an empty ring.
    pub fn new(mapping: Mapping, at: Offsets, size: u32) -> io::Result<Self> {
        let ring = Shared::new(mapping, at, size)?;
        let published = ring.word(ring.producer).load(Ordering::Relaxed);
        let consumer = ring.word(ring.consumer).load(Ordering::Acquire);
        Ok(Self { ring, next: published, published, consumer })
    }

    /// Writes a descriptor that `publish` will make visible; false when the ring is full.
    pub fn push(&mut self, descriptor: T) -> bool {
        if self.next.wrapping_sub(self.consumer) >= self.ring.size {
            self.consumer = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumer) >= self.ring.size {
                return false;
            }
        }
        // SAFETY: `slot` is inside the mapping; the consumer has passed this descriptor and does
        // not look at it before `publish`.
        unsafe { self.ring.slot(self.next).write_volatile(descriptor) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Makes what was pushed visible to the kernel.
    pub fn publish(&mut self) {
        if self.published != self.next {
            self.published = self.next;
            self.ring.word(self.ring.producer).store(self.next, Ordering::Release);
        }
    }

    /// Published descriptors that the kernel has not taken yet.
    pub fn waiting(&mut self) -> u32 {
        self.consumer = self.ring.word(self.ring.consumer).load(Ordering::Acquire);
        self.published.wrapping_sub(self.consumer).min(self.ring.size)
    }

    /// Whether the kernel asks for a system call to look at this ring.
    pub fn need_wakeup(&self) -> bool {
        self.ring.need_wakeup()
    }
}

/// The side that empties a ring.
pub struct Consumer<T> {
    ring: Shared<T>,
    next: u32,
    /// The other side's index when we looked last.
    producer: u32,
}

impl<T: Copy> Consumer<T> {
    /// Takes over a ring.
    pub fn new(mapping: Mapping, at: Offsets, size: u32) -> io::Result<Self> {
        let ring = Shared::new(mapping, at, size)?;
        let next = ring.word(ring.consumer).load(Ordering::Relaxed);
        Ok(Self { ring, next, producer: next })
    }

    /// How many descriptors are there to be read.
    pub fn available(&mut self) -> u32 {
        self.producer = self.ring.word(self.ring.producer).load(Ordering::Acquire);
        self.producer.wrapping_sub(self.next).min(self.ring.size)
    }

    /// The descriptor `ahead` places after the next one; None when it is not there yet. Call
    /// `available` to look for new ones.
    pub fn peek(&self, ahead: u32) -> Option<T> {
        if ahead >= self.producer.wrapping_sub(self.next).min(self.ring.size) {
            return None;
        }
        // SAFETY: inside the mapping, and the producer published it (acquired in `available`) and
        // does not write it again before `release`.
        Some(unsafe { self.ring.slot(self.next.wrapping_add(ahead)).read_volatile() })
    }

    /// Gives the first `count` descriptors back to the kernel.
    pub fn release(&mut self, count: u32) {
        if count != 0 {
            let there = self.producer.wrapping_sub(self.next).min(self.ring.size);
            self.next = self.next.wrapping_add(count.min(there));
            self.ring.word(self.ring.consumer).store(self.next, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

    /// A producer and a consumer of the same ring, as we and the kernel are.
    fn pair(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        // SAFETY: a plain memfd; the descriptor is closed below.
        let fd = unsafe { libc::memfd_create(c"ring".as_ptr(), 0) };
        assert!(fd >= 0);
        // SAFETY: `fd` is ours.
        assert_eq!(unsafe { libc::ftruncate(fd, 4096) }, 0);
        let (ours, theirs) =
            (Mapping::shared(fd, 4096, 0).unwrap(), Mapping::shared(fd, 4096, 0).unwrap());
        for word in [0, 64] {
            // SAFETY: inside the mapping and aligned.
            unsafe { ours.base().as_ptr().add(word).cast::<u32>().write(start) };
        }
        // SAFETY: `fd` is ours; the mappings keep the memory.
        unsafe { libc::close(fd) };
        (Producer::new(ours, AT, size).unwrap(), Consumer::new(theirs, AT, size).unwrap())
    }

    #[test]
    fn nothing_is_seen_before_publish_and_order_holds_over_the_wrap_of_the_index() {
        let (mut p, mut c) = pair(4, u32::MAX - 2);
        for round in 0..5u64 {
            for i in 0..4 {
                assert!(p.push(round * 10 + i));
            }
            assert!(!p.push(99), "full");
            assert_eq!(c.available(), 0);
            p.publish();
            assert_eq!((p.waiting(), c.available()), (4, 4));
            assert_eq!(
                (c.peek(0), c.peek(3), c.peek(4)),
                (Some(round * 10), Some(round * 10 + 3), None)
            );
            c.release(3);
            assert_eq!((p.waiting(), c.peek(0)), (1, Some(round * 10 + 3)));
            c.release(1);
            assert_eq!(c.peek(0), None);
        }
    }

    #[test]
    fn a_mad_producer_cannot_make_us_read_past_the_ring() {
        let (p, mut c) = pair(4, 0);
        p.ring.word(p.ring.producer).store(1_000_000, Ordering::Release);
        assert_eq!(c.available(), 4);
        assert_eq!(c.peek(4), None);
        c.release(400);
        assert_eq!(c.next, 4);
    }

    #[test]
    fn a_layout_outside_the_mapping_is_refused() {
        for at in [
            Offsets { descriptors: 4096 - 24, ..AT },
            Offsets { producer: u64::MAX, ..AT },
            Offsets { flags: 4094, ..AT },
            Offsets { descriptors: 196, ..AT },
        ] {
            let mapping = Mapping::anonymous(4096).unwrap();
            assert!(Producer::<u64>::new(mapping, at, 4).is_err(), "{at:?}");
        }
        assert!(Consumer::<u64>::new(Mapping::anonymous(4096).unwrap(), AT, 3).is_err());
    }
}
