//! The in-process loopback: what a shard sends to this device, it receives from it.
//!
//! A bounded first-in first-out queue of IP packets in one buffer that is allocated once. The
//! bytes never leave the process, so checksums are neither made nor looked at. Frames become
//! receivable at `flush`, in the order of transmission; when the queue is full, `transmit` refuses
//! and the sender keeps its data: nothing is ever lost here.

use super::{Caps, Device, Medium, RxChecksum};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

/// The largest IPv4 packet.
const MTU: usize = 65_535;

/// Default size of the buffer: room for 64 of the largest packets. Untouched pages cost nothing.
const DEFAULT_BYTES: usize = 4 << 20;

/// Default limit of frames in the queue.
const DEFAULT_FRAMES: usize = 4096;

/// Where a frame lies in the buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    len: usize,
}

/// The loopback inside a process.
pub struct Memory {
    buffer: Box<[u8]>,
    /// Frames in order; never grows beyond the capacity it was made with.
    queue: VecDeque<Place>,
    max_frames: usize,
    /// How many of `queue` have been flushed.
    receivable: usize,
    refused: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES, DEFAULT_FRAMES)
    }
}

impl Memory {
    /// A loopback that holds at most `bytes` bytes in at most `frames` frames. Fewer bytes than
    /// one largest packet are rounded up to that.
    pub fn new(bytes: usize, frames: usize) -> Self {
        Self {
            buffer: vec![0; bytes.max(MTU)].into_boxed_slice(),
            queue: VecDeque::with_capacity(frames),
            max_frames: frames,
            receivable: 0,
            refused: 0,
        }
    }

    /// Frames that wait to be received, flushed or not.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How often `transmit` found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Finds `len` bytes in one piece. The frames in use are one run of the buffer, or two when
    /// they have gone round its end; a frame itself never does.
    fn room(&self, len: usize) -> Option<usize> {
        if self.queue.len() >= self.max_frames || len > MTU {
            return None;
        }
        let (Some(first), Some(last)) = (self.queue.front(), self.queue.back()) else {
            // Empty: begin at the same bytes again, they are in the cache.
            return Some(0);
        };
        let end = last.start + last.len;
        let (start, limit) = match () {
            () if last.start < first.start => (end, first.start),
            () if end + len <= self.buffer.len() => (end, self.buffer.len()),
            () => (0, first.start),
        };
        (start + len <= limit).then_some(start)
    }
}

impl Device for Memory {
    fn caps(&self) -> Caps {
        Caps {
            medium: Medium::Ip,
            mtu: MTU,
            rx_checksum: RxChecksum::Trusted,
            tx_checksum: false,
            hw_addr: [0; 6],
        }
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let mut received = 0;
        while received < budget && self.receivable > 0 {
            let Some(Place { start, len }) = self.queue.pop_front() else { break };
            self.receivable -= 1;
            received += 1;
            sink(self.buffer.get(start..start + len).unwrap_or_default());
        }
        received
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Some(start) = self.room(len) else {
            self.refused += 1;
            return false;
        };
        let Some(frame) = self.buffer.get_mut(start..start + len) else { return false };
        fill(frame);
        self.queue.push_back(Place { start, len });
        true
    }

    fn flush(&mut self) {
        self.receivable = self.queue.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, Memory, MTU};
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    fn send(device: &mut Memory, frame: &[u8]) -> bool {
        device.transmit(frame.len(), &mut |out| out.copy_from_slice(frame))
    }

    fn receive(device: &mut Memory, budget: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let count = device.receive(budget, &mut |frame| frames.push(frame.to_vec()));
        assert_eq!(count, frames.len());
        frames
    }

    #[test]
    fn frames_come_back_in_order_after_the_flush_only() {
        let mut device = Memory::default();
        assert!(send(&mut device, b"one") && send(&mut device, b"two"));
        assert!(receive(&mut device, 9).is_empty());
        device.flush();
        assert!(send(&mut device, b"three"));
        assert_eq!(receive(&mut device, 1), [b"one"]);
        assert_eq!(receive(&mut device, 9), [b"two"]);
        device.flush();
        assert_eq!(receive(&mut device, 9), [b"three"]);
    }

    #[test]
    fn a_full_queue_refuses_without_calling_fill_and_recovers() {
        let mut device = Memory::new(MTU, 2);
        assert!(send(&mut device, b"one") && send(&mut device, b"two"));
        assert!(!device.transmit(3, &mut |_| panic!("no room, nothing to fill")));
        assert_eq!(device.refused(), 1);
        device.flush();
        assert_eq!(receive(&mut device, 9).len(), 2);
        assert!(send(&mut device, &vec![7; MTU]));
        assert!(!send(&mut device, b"x"), "the bytes are used up");
        device.flush();
        assert_eq!(receive(&mut device, 9), [vec![7; MTU]]);
        assert!(!send(&mut device, &vec![7; MTU + 1]), "larger than the device carries");
    }

    #[test]
    fn agrees_with_a_plain_queue_however_the_buffer_goes_round() {
        let mut device = Memory::new(MTU, 64);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        let mut random = 88_172_645_463_325_252_u64;
        let (mut sent, mut refused) = (0, 0);
        for step in 0..20_000_u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random & 3 != 0 {
                let frame = vec![step as u8; (random >> 8) as usize % 9_000 + 1];
                if send(&mut device, &frame) {
                    model.push_back(frame);
                    sent += 1;
                } else {
                    refused += 1;
                }
            } else {
                device.flush();
                let budget = (random >> 8) as usize % 12;
                for frame in receive(&mut device, budget) {
                    assert_eq!(Some(frame), model.pop_front());
                }
            }
            assert_eq!(device.queued(), model.len());
        }
        assert!(sent > 1_000 && refused > 100, "sent {sent}, refused {refused}");
    }

    #[test]
    fn the_queue_of_places_never_grows() {
        let mut device = Memory::new(MTU, 8);
        let capacity = device.queue.capacity();
        for _ in 0..100 {
            while send(&mut device, b"frame") {}
            device.flush();
            receive(&mut device, usize::MAX);
        }
        assert_eq!(device.queue.capacity(), capacity);
    }
}
