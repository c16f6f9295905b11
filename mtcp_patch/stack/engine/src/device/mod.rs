//! The one interface between the engine and whatever carries frames.
//!
//! A device is driven, never called back from elsewhere: the driver of a shard receives a batch,
//! lets the shard write its transmissions, and flushes once.

pub mod capture;
pub mod faults;
pub mod memory;

/// Which of several devices of a shard a frame came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u8);

/// What stands at the head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An Ethernet II header.
    Ethernet,
    /// An IP header at once, as on the in-process loopback.
    Ip,
}

/// What the device promises about the checksums of the frames it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing: verify every frame.
    Verify,
    /// Linux `lo` and veth hand over `CHECKSUM_PARTIAL` frames whose TCP checksum field holds the
    /// folded pseudo-header sum only: accept that value or a correct checksum, nothing else.
    AcceptPartial,
    /// The bytes never left this process: do not look.
    Trusted,
}

/// The properties of a device that decide how the engine builds frames for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// What stands at the head of a frame.
    pub medium: Medium,
    /// The largest IP packet to send, in bytes, headers included.
    pub mtu: usize,
    /// How far received checksums may be believed.
    pub rx_checksum: RxChecksum,
    /// Whether the engine must fill in the checksums of what it sends.
    pub tx_checksum: bool,
    /// Our own hardware address; zero on `lo` and on media without one.
    pub hw_addr: [u8; 6],
}

/// A source and sink of frames.
pub trait Device {
    /// The device's properties; constant while it is open.
    fn caps(&self) -> Caps;

    /// Hands at most `budget` received frames to `sink`, in order, and returns how many.
    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize;

    /// Reserves a frame of `len` bytes and lets `fill` write all of it (its former content is
    /// arbitrary). Returns false, without calling `fill`, when there is no room or `len` is more
    /// than the device carries: the caller keeps what it wanted to send and tries after the next
    /// `flush`.
    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool;

    /// Ends the batch: everything that `transmit` accepted leaves now.
    fn flush(&mut self);
}
