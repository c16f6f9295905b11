//! The four rings that an AF_XDP socket shares with the kernel, each with one producer and one
//! consumer (`Documentation/networking/af_xdp.rst`).
//!
//! We produce into the fill and transmit rings and consume from the receive and completion rings.
//! Nothing is visible to the kernel before `publish` or `release`. The other side's index is never
//! trusted beyond the size of the ring. Where the words are is `mapped`'s business.

use crate::sync::{AtomicU32, Ordering};

/// In the flags word (linux/if_xdp.h).
const XDP_RING_NEED_WAKEUP: u32 = 1;

/// What both sides of a ring share.
pub trait Memory {
    /// What the ring is made of: plain numbers.
    type Descriptor: Copy;

    /// The producer's index.
    fn producer(&self) -> &AtomicU32;
    /// The consumer's index.
    fn consumer(&self) -> &AtomicU32;
    /// The flags word.
    fn flags(&self) -> &AtomicU32;
    /// Descriptors that it holds: a power of two.
    fn size(&self) -> u32;
    /// The descriptor at an index, which goes round at the size. For the consumer, once it was published
    /// and before it is released.
    fn read(&self, index: u32) -> Self::Descriptor;
    /// Writes one. For the producer, once it was released and before it is published.
    fn write(&self, index: u32, descriptor: Self::Descriptor);
}

/// The side that fills a ring.
pub struct Producer<M> {
    ring: M,
    /// Where the next descriptor goes; ahead of the published index by what is not visible yet.
    next: u32,
    published: u32,
    /// The other side's index when we looked last.
    consumer: u32,
}

impl<M: Memory> Producer<M> {
    /// Takes over an empty ring.
    pub fn new(ring: M) -> Self {
        let published = ring.producer().load(Ordering::Relaxed);
        let consumer = ring.consumer().load(Ordering::Acquire);
        Self { ring, next: published, published, consumer }
    }

    /// Writes a descriptor that `publish` will make visible; false when the ring is full.
    pub fn push(&mut self, descriptor: M::Descriptor) -> bool {
        if self.next.wrapping_sub(self.consumer) >= self.ring.size() {
            self.consumer = self.ring.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumer) >= self.ring.size() {
                return false;
            }
        }
        // The consumer has passed this descriptor and does not look at it before `publish`.
        self.ring.write(self.next, descriptor);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Makes what was pushed visible to the kernel.
    pub fn publish(&mut self) {
        if self.published != self.next {
            self.published = self.next;
            self.ring.producer().store(self.next, Ordering::Release);
        }
    }

    /// Published descriptors that the kernel has not taken yet.
    pub fn waiting(&mut self) -> u32 {
        self.consumer = self.ring.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(self.consumer).min(self.ring.size())
    }

    /// Whether the kernel asks for a system call to look at this ring.
    pub fn need_wakeup(&self) -> bool {
        self.ring.flags().load(Ordering::Relaxed) & XDP_RING_NEED_WAKEUP != 0
    }
}

/// The side that empties a ring.
pub struct Consumer<M> {
    ring: M,
    next: u32,
    /// The other side's index when we looked last.
    producer: u32,
}

impl<M: Memory> Consumer<M> {
    /// Takes over a ring.
    pub fn new(ring: M) -> Self {
        let next = ring.consumer().load(Ordering::Relaxed);
        Self { ring, next, producer: next }
    }

    /// How many descriptors are there to be read.
    pub fn available(&mut self) -> u32 {
        self.producer = self.ring.producer().load(Ordering::Acquire);
        self.producer.wrapping_sub(self.next).min(self.ring.size())
    }

    /// The descriptor `ahead` places after the next one; None when it is not there yet. Call
    /// `available` to look for new ones.
    pub fn peek(&self, ahead: u32) -> Option<M::Descriptor> {
        if ahead >= self.producer.wrapping_sub(self.next).min(self.ring.size()) {
            return None;
        }
        // The producer published it (acquired in `available`) and does not write it before `release`.
        Some(self.ring.read(self.next.wrapping_add(ahead)))
    }

    /// Gives the first `count` descriptors back to the kernel.
    pub fn release(&mut self, count: u32) {
        if count != 0 {
            let there = self.producer.wrapping_sub(self.next).min(self.ring.size());
            self.next = self.next.wrapping_add(count.min(there));
            self.ring.consumer().store(self.next, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::mapped::{Mapped, Offsets};
    use super::super::umem::Mapping;
    use super::*;

    const AT: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, descriptors: 192 };

    /// A producer and a consumer of the same ring, as we and the kernel are.
    fn pair(size: u32, start: u32) -> (Producer<Mapped<u64>>, Consumer<Mapped<u64>>) {
        let (ours, theirs) = Mapping::twins(4096).unwrap();
        let (ours, theirs) =
            (Mapped::new(ours, AT, size).unwrap(), Mapped::new(theirs, AT, size).unwrap());
        ours.producer().store(start, Ordering::Relaxed);
        ours.consumer().store(start, Ordering::Relaxed);
        (Producer::new(ours), Consumer::new(theirs))
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

    /// The mapped memory itself, with a thread on each side; Miri looks for the race.
    #[test]
    fn two_threads_pass_descriptors_through_the_mapping() {
        const COUNT: u64 = if cfg!(miri) { 40 } else { 100_000 };
        let (mut p, mut c) = pair(4, u32::MAX - 20);
        let kernel = std::thread::spawn(move || {
            let mut next = 0;
            while next < COUNT {
                let n = c.available();
                for ahead in 0..n {
                    assert_eq!(c.peek(ahead), Some(next));
                    next += 1;
                }
                c.release(n);
                std::thread::yield_now();
            }
        });
        for descriptor in 0..COUNT {
            while !p.push(descriptor) {
                std::thread::yield_now();
            }
            p.publish();
        }
        kernel.join().unwrap();
    }

    #[test]
    fn a_mad_producer_cannot_make_us_read_past_the_ring() {
        let (p, mut c) = pair(4, 0);
        p.ring.producer().store(1_000_000, Ordering::Release);
        assert_eq!(c.available(), 4);
        assert_eq!(c.peek(4), None);
        c.release(400);
        assert_eq!(c.next, 4);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// Loom's own memory: it knows of every access to a slot that is not ordered after the other side's.
    struct Modelled {
        words: [AtomicU32; 3],
        slots: [UnsafeCell<u64>; 2],
    }

    // SAFETY: that nobody touches a slot while the other does is what loom checks.
    unsafe impl Sync for Modelled {}

    impl Modelled {
        /// An empty ring, its indices about to wrap.
        fn new() -> Arc<Self> {
            let start = u32::MAX - 1;
            let words = [start, start, 0].map(AtomicU32::new);
            Arc::new(Self { words, slots: [UnsafeCell::new(0), UnsafeCell::new(0)] })
        }
    }

    impl Memory for Arc<Modelled> {
        type Descriptor = u64;

        fn producer(&self) -> &AtomicU32 {
            &self.words[0]
        }

        fn consumer(&self) -> &AtomicU32 {
            &self.words[1]
        }

        fn flags(&self) -> &AtomicU32 {
            &self.words[2]
        }

        fn size(&self) -> u32 {
            2
        }

        fn read(&self, index: u32) -> u64 {
            // SAFETY: as above.
            self.slots[index as usize % 2].with(|slot| unsafe { *slot })
        }

        fn write(&self, index: u32, descriptor: u64) {
            // SAFETY: as above.
            self.slots[index as usize % 2].with_mut(|slot| unsafe { *slot = descriptor });
        }
    }

    #[test]
    fn every_descriptor_passes_once_whole_and_in_order() {
        loom::model(|| {
            let ring = Modelled::new();
            let mut producer = Producer::new(Arc::clone(&ring));
            let mut consumer = Consumer::new(ring);
            let kernel = thread::spawn(move || {
                let mut taken = Vec::new();
                while taken.len() < 3 {
                    match consumer.available() {
                        0 => thread::yield_now(),
                        n => {
                            taken.extend((0..n).filter_map(|ahead| consumer.peek(ahead)));
                            consumer.release(n);
                        }
                    }
                }
                taken
            });
            for descriptor in 1..=3 {
                while !producer.push(descriptor) {
                    thread::yield_now();
                }
                producer.publish();
            }
            assert_eq!(kernel.join().unwrap(), [1, 2, 3]);
        });
    }
}
