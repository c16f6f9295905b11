//! A link: the rings to and from one other process, which the engine sees as a device.

use std::os::fd::OwnedFd;

use mtcp_engine::device::{Caps, Device, Medium, RxChecksum};

use super::rendezvous;
use super::ring::Corrupt;
use super::shared::Rings;
use crate::runtime_fd::RuntimeFd;

/// The largest IP packet of a link.
const MTU: usize = 65_535;

/// Room for one frame, in memory of our own.
pub(crate) type Scratch = Box<[u8]>;

/// Room for one frame.
pub(crate) fn scratch() -> Scratch {
    // Without touching it: most processes have no links.
    vec![0; MTU].into_boxed_slice()
}

/// The properties of every link. Bytes in memory are not damaged on the way, and a checksum would not
/// keep anybody from lying.
pub(crate) const CAPS: Caps = Caps {
    medium: Medium::Ip,
    mtu: MTU,
    rx_checksum: RxChecksum::Trusted,
    tx_checksum: false,
    hw_addr: [0; 6],
};

/// What passed over a link so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub frames_in: u64,
    pub frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// How often the other side was woken.
    pub bells_rung: u64,
    /// How often it woke us.
    pub bells_heard: u64,
}

/// One link.
pub(crate) struct Link {
    socket: RuntimeFd,
    rings: Rings,
    /// The other side broke the rings' protocol.
    corrupt: bool,
    pub(crate) counters: Counters,
}

impl Link {
    /// A link over rings that both sides have.
    pub(crate) fn new(socket: RuntimeFd, rings: Rings) -> Self {
        Self { socket, rings, corrupt: false, counters: Counters::default() }
    }

    /// By which the other side wakes us, and whose end is the other side's.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether the other side has written what it cannot have: to be dropped.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    /// We are about to sleep. False: there are frames, do not.
    pub(crate) fn arm(&mut self) -> bool {
        let quiet = self.rings.1.arm();
        self.believe(quiet).unwrap_or(false)
    }

    /// We have woken.
    pub(crate) fn disarm(&mut self) {
        if self.rings.1.disarm() && rendezvous::receive(&self.socket).is_ok() {
            self.counters.bells_heard += 1;
        }
    }

    fn believe<T>(&mut self, claim: Result<T, Corrupt>) -> Option<T> {
        self.corrupt |= claim.is_err();
        claim.ok()
    }
}

/// A link while it is driven.
pub(crate) struct Driven<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) scratch: &'a mut Scratch,
}

impl Device for Driven<'_> {
    fn caps(&self) -> Caps {
        CAPS
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let Self { link, scratch } = self;
        if link.corrupt {
            return 0;
        }
        let found = link.rings.1.look();
        if link.believe(found) != Some(true) {
            return 0;
        }
        let mut received = 0;
        while received < budget {
            let popped = link.rings.1.pop(scratch);
            let Some(len) = link.believe(popped).flatten() else { break };
            received += 1;
            link.counters.bytes_in += len as u64;
            sink(scratch.get(..len).unwrap_or_default());
        }
        link.counters.frames_in += received as u64;
        link.rings.1.release();
        received
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Self { link, scratch } = self;
        let Some(frame) = scratch.get_mut(..len).filter(|_| !link.corrupt) else { return false };
        let room = link.rings.0.make_room(len);
        if link.believe(room) != Some(true) {
            return false;
        }
        fill(frame);
        link.rings.0.push(frame);
        link.counters.frames_out += 1;
        link.counters.bytes_out += len as u64;
        true
    }

    fn flush(&mut self) {
        if self.link.rings.0.publish() {
            self.link.counters.bells_rung += 1;
            rendezvous::ring(&self.link.socket);
        }
    }
}
