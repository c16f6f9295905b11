//! A ring of frames between two processes, one of which fills it and the other empties it.
//!
//! ```text
//!   index → consumer             producer
//!     … free │ len frame │ len frame │ free …         a frame lies in one piece: before the end of
//!            └── taken next          └── pushed next   the bytes the producer skips to their beginning
//! ```
//! Nothing is visible to the other side before [`Producer::publish`] or [`Consumer::release`].
//!
//! The other side is a stranger. Each side goes by an index of its own that nobody else can write, takes
//! the other's for a claim that must be possible, and copies a frame out before it looks at it. What is
//! impossible is [`Corrupt`]: then the ring is not used again.
//!
//! The consumer says that it is about to sleep ([`Consumer::arm`]) and looks once more; the producer
//! publishes and looks whether the consumer sleeps. A fence on either side lets at least one of them see
//! the other, so no frame is slept through; `make loom` tries it.

use crate::sync::{fence, AtomicU32, Ordering};

/// Where a frame may begin: one cache line apart, so that a new frame never lies in the line that the
/// other side reads.
pub(crate) const ALIGN: u32 = 64;

/// Bytes before a frame that hold its length.
const HEADER: u32 = 8;

/// In place of a length: the rest of the bytes is not used, the next frame is at the beginning.
const SKIP: u32 = u32::MAX;

/// When a ring is empty and this many bytes from its beginning, the next frame goes to the beginning:
/// two sides that keep up with each other stay within the first-level cache.
const REWIND: u32 = 16 * 1024;

/// The other side has written what it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// What both sides of a ring share.
pub(crate) trait Shared {
    /// The index up to which there are frames, in bytes; written by the producer.
    fn producer(&self) -> &AtomicU32;
    /// The index up to which they were taken, in bytes; written by the consumer.
    fn consumer(&self) -> &AtomicU32;
    /// 1: the consumer sleeps and is to be woken.
    fn asleep(&self) -> &AtomicU32;
    /// Length of the part that holds frames: a power of two.
    fn bytes(&self) -> u32;
    /// Copies from `at`, a multiple of eight. What is outside is not touched.
    fn read(&self, at: u32, into: &mut [u8]);
    /// Copies to `at`, a multiple of eight. What is outside is not touched.
    fn write(&self, at: u32, from: &[u8]);
}

/// Bytes that a frame of `len` bytes takes in a ring.
fn occupied(len: u32) -> u32 {
    (len + HEADER).next_multiple_of(ALIGN)
}

/// The side that fills a ring.
pub(crate) struct Producer<S> {
    ring: S,
    /// Where the next frame goes.
    next: u32,
    published: u32,
    /// The other side's index when we looked last, as far as it was possible.
    consumer: u32,
}

impl<S: Shared> Producer<S> {
    /// Takes over a new ring.
    pub(crate) fn new(ring: S) -> Self {
        Self { ring, next: 0, published: 0, consumer: 0 }
    }

    fn look(&mut self) -> Result<(), Corrupt> {
        let consumer = self.ring.consumer().load(Ordering::Acquire);
        let taken = consumer.wrapping_sub(self.consumer);
        if taken > self.published.wrapping_sub(self.consumer) {
            return Err(Corrupt);
        }
        self.consumer = consumer;
        Ok(())
    }

    fn is_free(&self, bytes: u32) -> bool {
        self.ring.bytes() - self.next.wrapping_sub(self.consumer) >= bytes
    }

    fn skip(&mut self) {
        let offset = self.next & (self.ring.bytes() - 1);
        self.ring.write(offset, &header(SKIP));
        self.next = self.next.wrapping_add(self.ring.bytes() - offset);
    }

    /// Whether a frame of `len` bytes, one at least, has room now. [`Producer::push`] comes next.
    pub(crate) fn make_room(&mut self, len: usize) -> Result<bool, Corrupt> {
        let size = self.ring.bytes();
        let Ok(len @ 1..) = u32::try_from(len) else { return Ok(false) };
        if len > size - HEADER {
            return Ok(false);
        }
        let need = occupied(len);
        let offset = self.next & (size - 1);
        if offset >= REWIND && self.next == self.published {
            self.look()?;
            if self.consumer == self.next && need <= offset {
                self.skip();
                return Ok(true);
            }
        }
        let over_the_end = if offset + need > size { size - offset } else { 0 };
        if !self.is_free(over_the_end + need) {
            self.look()?;
            if !self.is_free(over_the_end + need) {
                return Ok(false);
            }
        }
        if over_the_end > 0 {
            self.skip();
        }
        Ok(true)
    }

    /// Writes a frame that [`Producer::publish`] will make visible, where [`Producer::make_room`] has
    /// made room for it.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        let offset = self.next & (self.ring.bytes() - 1);
        let len = frame.len() as u32;
        self.ring.write(offset, &header(len));
        self.ring.write(offset + HEADER, frame);
        self.next = self.next.wrapping_add(occupied(len));
    }

    /// Makes what was pushed visible. True: the consumer sleeps and is to be woken, by us alone.
    pub(crate) fn publish(&mut self) -> bool {
        if self.published == self.next {
            return false;
        }
        self.published = self.next;
        self.ring.producer().store(self.next, Ordering::Release);
        // With that of `arm`: either the consumer sees the frames, or we see that it sleeps.
        fence(Ordering::SeqCst);
        self.ring.asleep().load(Ordering::Relaxed) != 0
            && self.ring.asleep().swap(0, Ordering::Relaxed) != 0
    }
}

/// The side that empties a ring.
pub(crate) struct Consumer<S> {
    ring: S,
    next: u32,
    released: u32,
    /// The other side's index when we looked last.
    producer: u32,
    armed: bool,
}

impl<S: Shared> Consumer<S> {
    /// Takes over a new ring.
    pub(crate) fn new(ring: S) -> Self {
        Self { ring, next: 0, released: 0, producer: 0, armed: false }
    }

    /// Looks for new frames. Whether there are any.
    pub(crate) fn look(&mut self) -> Result<bool, Corrupt> {
        let producer = self.ring.producer().load(Ordering::Acquire);
        let ahead = producer.wrapping_sub(self.next);
        if ahead > self.ring.bytes() || ahead % ALIGN != 0 {
            return Err(Corrupt);
        }
        self.producer = producer;
        Ok(ahead != 0)
    }

    /// Copies the next of the frames that were there at the last [`Consumer::look`] to the beginning of
    /// `into`; its length. One that `into` has no room for is corrupt.
    pub(crate) fn pop(&mut self, into: &mut [u8]) -> Result<Option<usize>, Corrupt> {
        let size = self.ring.bytes();
        loop {
            let ahead = self.producer.wrapping_sub(self.next);
            if ahead == 0 {
                return Ok(None);
            }
            let offset = self.next & (size - 1);
            let to_the_end = size - offset;
            let len = self.length_at(offset);
            if len == SKIP {
                if to_the_end > ahead {
                    return Err(Corrupt);
                }
                self.next = self.next.wrapping_add(to_the_end);
                continue;
            }
            // Before the sum, which could overflow.
            if len == 0 || len > size - HEADER {
                return Err(Corrupt);
            }
            let need = occupied(len);
            let Some(frame) = into.get_mut(..len as usize) else { return Err(Corrupt) };
            if need > ahead || need > to_the_end {
                return Err(Corrupt);
            }
            self.ring.read(offset + HEADER, frame);
            self.next = self.next.wrapping_add(need);
            return Ok(Some(len as usize));
        }
    }

    fn length_at(&self, offset: u32) -> u32 {
        let mut header = [0; HEADER as usize];
        self.ring.read(offset, &mut header);
        u32::from_le_bytes([header[0], header[1], header[2], header[3]])
    }

    /// Gives the room of what was popped back to the producer.
    pub(crate) fn release(&mut self) {
        if self.released != self.next {
            self.released = self.next;
            self.ring.consumer().store(self.next, Ordering::Release);
        }
    }

    /// We are about to sleep. False: there are frames, do not.
    pub(crate) fn arm(&mut self) -> Result<bool, Corrupt> {
        self.armed = true;
        self.ring.asleep().swap(1, Ordering::Relaxed);
        // See `Producer::publish`.
        fence(Ordering::SeqCst);
        self.look().map(|found| !found)
    }

    /// We have woken. True: the other side has woken us or is about to.
    pub(crate) fn disarm(&mut self) -> bool {
        std::mem::take(&mut self.armed) && self.ring.asleep().swap(0, Ordering::Relaxed) == 0
    }
}

fn header(len: u32) -> [u8; HEADER as usize] {
    u64::from(len).to_le_bytes()
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// Room for two of the smallest frames. Loom knows of every access to a line that is not ordered
    /// after the other side's.
    struct Modelled {
        words: [AtomicU32; 3],
        lines: [UnsafeCell<[u8; ALIGN as usize]>; 2],
    }

    // SAFETY: that nobody touches a line while the other does is what loom checks.
    unsafe impl Sync for Modelled {}

    impl Modelled {
        fn new() -> Arc<Self> {
            let lines = [[0; ALIGN as usize]; 2].map(UnsafeCell::new);
            Arc::new(Self { words: [0, 0, 0].map(AtomicU32::new), lines })
        }
    }

    impl Shared for Arc<Modelled> {
        fn producer(&self) -> &AtomicU32 {
            &self.words[0]
        }

        fn consumer(&self) -> &AtomicU32 {
            &self.words[1]
        }

        fn asleep(&self) -> &AtomicU32 {
            &self.words[2]
        }

        fn bytes(&self) -> u32 {
            2 * ALIGN
        }

        fn read(&self, at: u32, into: &mut [u8]) {
            let from = (at % ALIGN) as usize;
            // SAFETY: as above.
            let line = self.lines[(at / ALIGN) as usize].with(|line| unsafe { *line });
            into.copy_from_slice(&line[from..from + into.len()]);
        }

        fn write(&self, at: u32, from: &[u8]) {
            let to = (at % ALIGN) as usize;
            self.lines[(at / ALIGN) as usize].with_mut(|line| {
                // SAFETY: as above.
                let line = unsafe { &mut *line };
                line[to..to + from.len()].copy_from_slice(from);
            });
        }
    }

    /// Bells that were rung and not heard.
    type Bell = Arc<(Mutex<u32>, Condvar)>;

    fn ring(bell: &Bell) {
        *bell.0.lock().unwrap() += 1;
        bell.1.notify_one();
    }

    fn hear(bell: &Bell) {
        let mut rung = bell.0.lock().unwrap();
        while *rung == 0 {
            rung = bell.1.wait(rung).unwrap();
        }
        *rung -= 1;
    }

    fn send(producer: &mut Producer<Arc<Modelled>>, frame: u8) {
        while !producer.make_room(1).unwrap() {
            thread::yield_now();
        }
        producer.push(&[frame]);
    }

    fn take(consumer: &mut Consumer<Arc<Modelled>>, into: &mut Vec<u8>) {
        let mut frame = [0; 8];
        consumer.look().unwrap();
        while consumer.pop(&mut frame).unwrap().is_some() {
            into.push(frame[0]);
        }
        consumer.release();
    }

    #[test]
    fn every_frame_passes_once_whole_and_in_order() {
        loom::model(|| {
            let ring = Modelled::new();
            let mut consumer = Consumer::new(Arc::clone(&ring));
            let other = thread::spawn(move || {
                let mut taken = Vec::new();
                while taken.len() < 3 {
                    take(&mut consumer, &mut taken);
                    thread::yield_now();
                }
                taken
            });
            let mut producer = Producer::new(ring);
            for frame in 1..=3 {
                send(&mut producer, frame);
                producer.publish();
            }
            assert_eq!(other.join().unwrap(), [1, 2, 3]);
        });
    }

    /// Loom reports the deadlock that a frame slept through would be.
    #[test]
    fn whoever_sleeps_is_woken_for_what_comes() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let (ring_of_frames, bell) = (Modelled::new(), Bell::default());
            let mut consumer = Consumer::new(Arc::clone(&ring_of_frames));
            let heard = Arc::clone(&bell);
            let other = thread::spawn(move || {
                let mut taken = Vec::new();
                while taken.len() < 2 {
                    take(&mut consumer, &mut taken);
                    if taken.len() == 2 {
                        break;
                    }
                    let sleeps = consumer.arm().unwrap();
                    if sleeps {
                        hear(&heard);
                    }
                    let woken = consumer.disarm();
                    assert!(woken || !sleeps);
                    if woken && !sleeps {
                        hear(&heard);
                    }
                }
                taken
            });
            let mut producer = Producer::new(ring_of_frames);
            for frame in 1..=2 {
                send(&mut producer, frame);
                if producer.publish() {
                    ring(&bell);
                }
            }
            assert_eq!(other.join().unwrap(), [1, 2]);
            assert_eq!(*bell.0.lock().unwrap(), 0, "a bell too many");
        });
    }
}
