//! Test support: a runtime in virtual time, whose only device is a queue of frames in both hands of
//! the caller. Descriptors, ports, waiting and the engine are the ones that serve programs; what is
//! replaced is what a test must command: the clock, the wire and the TCP thread, which there is none
//! of. It needs no privilege and none of the machine's addresses.
//!
//! `tests/packetdrill` is the caller, by `binding::virtual_host`. Production code never comes here:
//! a process whose runtime already runs in real time is refused.
//!
//! Nothing happens by itself: the caller injects frames, takes what left, and moves the time from
//! timer to timer.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use mtcp_engine::device::{Caps, Device, DeviceId, Medium, RxChecksum};
use mtcp_engine::time::Instant;
use mtcp_engine::wire::Link;
use mtcp_engine::{Config, ConnInfo, Path};

use super::spin::Spin;
use super::state::{Clock, Inner};
use super::{Runtime, Settings, Shared, Vfd};
use crate::errno::Errno;

/// The device; `Devices` numbers the real ones from 1 upwards.
pub(super) const VIRTUAL: DeviceId = DeviceId(u8::MAX);

/// Frames kept in either direction: a script that nobody answers must not use up the memory.
const MAX_FRAMES: usize = 65_536;

/// Turns in which work may remain before the time moves on all the same. A turn is eight batches,
/// so only something that answers itself for ever gets here.
const MAX_TURNS: usize = 100_000;

/// A wire whose far end is the caller.
#[derive(Debug)]
pub struct VirtualLink {
    /// Addresses of this host; a connection that is not bound leaves from the first of its family.
    local: Vec<IpAddr>,
    /// Largest IP packet, in bytes.
    mtu: usize,
    inbound: VecDeque<Vec<u8>>,
    outbound: VecDeque<(Instant, Vec<u8>)>,
    /// It takes no frame: a full queue below us.
    refuses: bool,
    /// When what is transmitted leaves.
    pub(super) now: Instant,
}

impl VirtualLink {
    /// A wire between the caller and a host that has the addresses `local`; IP packets of at most
    /// `mtu` bytes without a link header.
    pub fn new(local: Vec<IpAddr>, mtu: usize) -> Self {
        let now = Instant::from_micros(0);
        let (inbound, outbound) = (VecDeque::new(), VecDeque::new());
        Self { local, mtu, inbound, outbound, refuses: false, now }
    }

    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        self.local.contains(&ip)
    }

    pub(super) fn source_for(&self, dst: IpAddr) -> Option<IpAddr> {
        self.local.iter().copied().find(|ip| ip.is_ipv4() == dst.is_ipv4())
    }

    pub(super) fn path(&self) -> Path {
        Path { device: VIRTUAL, caps: self.caps(), link: Link::default() }
    }
}

impl Device for VirtualLink {
    fn caps(&self) -> Caps {
        Caps {
            medium: Medium::Ip,
            mtu: self.mtu,
            rx_checksum: RxChecksum::Verify,
            tx_checksum: true,
            hw_addr: [0; 6],
        }
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let mut received = 0;
        while received < budget {
            let Some(frame) = self.inbound.pop_front() else { break };
            sink(&frame);
            received += 1;
        }
        received
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        if self.refuses || len > self.mtu || self.outbound.len() >= MAX_FRAMES {
            return false;
        }
        let mut frame = vec![0; len];
        fill(&mut frame);
        self.outbound.push_back((self.now, frame));
        true
    }

    fn flush(&mut self) {}
}

impl Inner {
    fn reset_virtual(&mut self, settings: &Settings, link: VirtualLink) -> Result<(), Errno> {
        let kick = self.kick();
        let mut fresh = Self::new(settings, kick)?;
        // An interest set of the former host never finds one of this host at its place.
        fresh.last_serial = self.last_serial;
        fresh.clock = Clock::Virtual(Instant::from_micros(0));
        fresh.shard.add_device(VIRTUAL, link.caps());
        fresh.devices.virtual_link = Some(link);
        *self = fresh;
        Ok(())
    }

    fn settle(&mut self) {
        for _ in 0..MAX_TURNS {
            if !self.turn() {
                return;
            }
        }
    }
}

impl Runtime {
    /// Makes the process's runtime a virtual host at time 0, in place of an earlier virtual host,
    /// whose descriptors are all closed thereby.
    ///
    /// # Errors
    /// EBUSY when the process's runtime runs in real time; those of eventfd(2) and getrandom(2).
    pub fn start_virtual(settings: Settings, link: VirtualLink) -> Result<&'static Self, Errno> {
        let settings = Settings { devices: Vec::new(), memory_peers: 0, ..settings };
        if Self::is_started() {
            let runtime = Self::global();
            let mut inner = runtime.lock();
            if inner.devices.virtual_link.is_none() {
                return Err(Errno(libc::EBUSY));
            }
            inner.reset_virtual(&settings, link)?;
            drop(inner);
            return Ok(runtime);
        }
        let shared: Arc<Shared> = Shared::new(&settings)?;
        let runtime = Self { shared, spin: Spin::new(true), settings, control: None };
        let settings = runtime.settings.clone();
        runtime.lock().reset_virtual(&settings, link)?;
        Ok(Self::install(runtime))
    }

    /// Whether the wire takes no frame from now on.
    ///
    /// # Errors
    /// ENODEV when the runtime is not virtual.
    pub fn virtual_refuse(&self, refuses: bool) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner.settle();
        inner.devices.virtual_link.as_mut().ok_or(Errno(libc::ENODEV))?.refuses = refuses;
        inner.settle();
        Ok(())
    }

    /// Gives frames, IP packets, to the virtual host in one batch, and lets it act on them.
    ///
    /// # Errors
    /// ENODEV when the runtime is not virtual; ENOBUFS when too many frames wait.
    pub fn virtual_inject(&self, frames: Vec<Vec<u8>>) -> Result<(), Errno> {
        let mut inner = self.lock();
        let link = inner.devices.virtual_link.as_mut().ok_or(Errno(libc::ENODEV))?;
        if link.inbound.len() + frames.len() > MAX_FRAMES {
            return Err(Errno(libc::ENOBUFS));
        }
        link.inbound.extend(frames);
        inner.settle();
        Ok(())
    }

    /// Gives the virtual host other settings of the engine: a sysctl changes while it runs.
    ///
    /// # Errors
    /// ENODEV when the runtime is not virtual.
    pub fn virtual_configure(&self, config: Config) -> Result<(), Errno> {
        let mut inner = self.lock();
        if inner.devices.virtual_link.is_none() {
            return Err(Errno(libc::ENODEV));
        }
        inner.shard.configure(config);
        Ok(())
    }

    /// What left since the last call, each with its virtual time in microseconds.
    ///
    /// # Errors
    /// ENODEV when the runtime is not virtual.
    pub fn virtual_take(&self) -> Result<Vec<(u64, Vec<u8>)>, Errno> {
        let mut inner = self.lock();
        inner.settle();
        let link = inner.devices.virtual_link.as_mut().ok_or(Errno(libc::ENODEV))?;
        Ok(link.outbound.drain(..).map(|(at, frame)| (at.micros, frame)).collect())
    }

    /// The virtual time in microseconds.
    pub fn virtual_now(&self) -> u64 {
        self.lock().now().micros
    }

    /// The virtual time of the engine's next timer in microseconds, while there is one.
    pub fn virtual_next_timer(&self) -> Option<u64> {
        self.lock().shard.next_timeout().map(|due| due.micros)
    }

    /// Moves the time to `until_us`, from timer to timer: each runs at its own time, none later
    /// than that. A time in the past is the present one.
    ///
    /// # Errors
    /// ENODEV when the runtime is not virtual.
    pub fn virtual_advance(&self, until_us: u64) -> Result<(), Errno> {
        let mut inner = self.lock();
        if inner.devices.virtual_link.is_none() {
            return Err(Errno(libc::ENODEV));
        }
        inner.settle();
        let until = Instant::from_micros(until_us);
        while let Some(due) = inner.shard.next_timeout().filter(|&due| due <= until) {
            let now = inner.now().max(due);
            inner.clock = Clock::Virtual(now);
            inner.settle();
            // A timer that the wheel keeps for the end of its tick.
            if inner.shard.next_timeout().is_some_and(|next| next <= now) {
                let later = Instant::from_micros(now.micros.saturating_add(1));
                inner.clock = Clock::Virtual(later);
            }
        }
        let now = inner.now().max(until);
        inner.clock = Clock::Virtual(now);
        inner.settle();
        Ok(())
    }

    /// Whether an option that only the kernel has keeps a descriptor with the kernel's stack.
    ///
    /// # Errors
    /// EBADF.
    pub fn is_pinned(&self, vfd: Vfd) -> Result<bool, Errno> {
        self.lock().desc(vfd).map(|desc| desc.pinned.is_some())
    }

    /// What the engine knows of a descriptor's connection; `None` when it has none.
    ///
    /// # Errors
    /// EBADF.
    pub fn conn_info(&self, vfd: Vfd) -> Result<Option<ConnInfo>, Errno> {
        let inner = self.lock();
        let id = inner.desc(vfd)?.conn();
        Ok(id.and_then(|id| inner.shard.info(id).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Patience;
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));

    #[test]
    fn a_syn_leaves_and_is_repeated_in_virtual_time_without_addresses_or_threads() {
        let settings = Settings { devices: Vec::new(), memory_peers: 0, ..Settings::default() };
        let shared = Shared::new(&settings).unwrap();
        let runtime = Runtime { shared, spin: Spin::new(true), settings, control: None };
        let settings = runtime.settings.clone();
        let link = VirtualLink::new(vec![LOCAL], 1500);
        runtime.lock().reset_virtual(&settings, link).unwrap();
        let vfd = runtime.socket(libc::AF_INET, 0).unwrap();
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 8080));
        assert_eq!(runtime.connect(vfd, &peer, Patience::Never), Err(Errno(libc::EINPROGRESS)));
        assert_eq!(runtime.virtual_take().unwrap().len(), 1);
        assert!(runtime.virtual_next_timer().is_some());
        runtime.virtual_advance(999_999).unwrap();
        assert!(runtime.virtual_take().unwrap().is_empty());
        runtime.virtual_advance(1_500_000).unwrap();
        let again = runtime.virtual_take().unwrap();
        // A tick of the timer wheel is 1,024 us.
        assert!(matches!(again.as_slice(), [(at, _)] if (1_000_000..1_002_048).contains(at)));
        assert_eq!(runtime.virtual_now(), 1_500_000);
    }
}
