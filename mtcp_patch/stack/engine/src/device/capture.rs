//! A device that writes what passes through it as a pcap file.
//!
//! Wraps any other device. The bytes of the file go to a closure, in order; what it does with them
//! (a descriptor, a vector, a socket) is its own business. Frames are recorded as they are received
//! and as they are accepted for transmission, with the time that was last given.

use super::{Caps, Device, Medium};
use crate::time::Instant;

/// The file's magic number for microseconds; readers learn the byte order from it.
const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_ETHERNET: u32 = 1;
const LINKTYPE_RAW: u32 = 101;
/// Longer frames are cut: the largest that any device of ours hands over is shorter.
const SNAP_LEN: usize = 262_144;

/// A recording of everything that `inner` receives and sends.
pub struct Capture<D, S> {
    inner: D,
    sink: S,
    now: Instant,
}

impl<D: Device, S: FnMut(&[u8])> Capture<D, S> {
    /// Wraps `inner` and writes the file's header to `sink`.
    pub fn new(inner: D, mut sink: S) -> Self {
        let network = match inner.caps().medium {
            Medium::Ethernet => LINKTYPE_ETHERNET,
            Medium::Ip => LINKTYPE_RAW,
        };
        let mut header = [0; 24];
        let fields = [MAGIC, 2 | 4 << 16, 0, 0, SNAP_LEN as u32, network];
        put(&mut header, &fields);
        sink(&header);
        Self { inner, sink, now: Instant::default() }
    }

    /// Sets the time of the records that follow.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// The device inside.
    pub fn inner(&mut self) -> &mut D {
        &mut self.inner
    }
}

/// Writes 32-bit fields in little-endian order.
fn put(out: &mut [u8], fields: &[u32]) {
    for (to, field) in out.chunks_exact_mut(4).zip(fields) {
        to.copy_from_slice(&field.to_le_bytes());
    }
}

#[allow(clippy::cast_possible_truncation)] // the format has 32 bits for each
fn record(sink: &mut impl FnMut(&[u8]), now: Instant, frame: &[u8]) {
    let kept = frame.get(..SNAP_LEN).unwrap_or(frame);
    let mut header = [0; 16];
    let seconds = (now.micros / 1_000_000) as u32;
    let micros = (now.micros % 1_000_000) as u32;
    put(&mut header, &[seconds, micros, kept.len() as u32, frame.len() as u32]);
    sink(&header);
    sink(kept);
}

impl<D: Device, S: FnMut(&[u8])> Device for Capture<D, S> {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let Self { inner, sink: file, now } = self;
        inner.receive(budget, &mut |frame| {
            record(file, *now, frame);
            sink(frame);
        })
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Self { inner, sink: file, now } = self;
        inner.transmit(len, &mut |frame| {
            fill(frame);
            record(file, *now, frame);
        })
    }

    fn flush(&mut self) {
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::Capture;
    use crate::device::memory::Memory;
    use crate::device::Device;
    use crate::time::Instant;
    use std::vec::Vec;

    #[test]
    fn the_file_is_what_libpcap_documents() {
        let mut file: Vec<u8> = Vec::new();
        let mut device = Capture::new(Memory::new(0, 1), |bytes: &[u8]| file.extend(bytes));
        device.set_now(Instant::from_micros(3_000_007));
        assert!(device.transmit(3, &mut |out| out.copy_from_slice(b"abc")));
        assert!(!device.transmit(3, &mut |_| {}), "what is refused is not recorded");
        device.flush();
        device.set_now(Instant::from_micros(4_000_000));
        assert_eq!(device.receive(9, &mut |frame| assert_eq!(frame, b"abc")), 1);
        drop(device);
        let mut expected: Vec<u8> = Vec::new();
        expected.extend(b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0");
        expected.extend(b"\x03\0\0\0\x07\0\0\0\x03\0\0\0\x03\0\0\0abc");
        expected.extend(b"\x04\0\0\0\0\0\0\0\x03\0\0\0\x03\0\0\0abc");
        assert_eq!(file, expected);
    }
}
