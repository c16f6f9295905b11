//! The devices of this process, and which of them leads to a given address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mtcp_engine::device::memory::Memory;
use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::wire::Link;
use mtcp_engine::{Path, Shard};

use super::peers::Peers;
use super::virtual_host::{VirtualLink, VIRTUAL};
use crate::xdp::{XdpDevice, XdpOptions};
use crate::{addrs, route};

/// The in-process loopback; always there.
pub(super) const MEMORY: DeviceId = DeviceId(0);

pub(super) struct Slot {
    pub id: DeviceId,
    pub name: String,
    pub device: XdpDevice,
}

/// Which stack carries a new connection.
pub(super) enum Way {
    /// Ours, from this source address.
    Ours(Path, IpAddr),
    /// The kernel's: no device of ours leads there.
    Kernel,
    /// Ours, as soon as the kernel has resolved the next hop, which it was asked to do.
    Unresolved,
}

/// Opens the devices of `wanted` (`xdp:lo` and the like), which may take seconds: call it without
/// the lock. Those that are there, and what is to be said of the others.
pub(super) fn open_all(wanted: &[String], how: &XdpOptions) -> (Vec<Slot>, Vec<String>) {
    let (mut slots, mut said) = (Vec::new(), Vec::new());
    for (i, name) in wanted.iter().enumerate() {
        let Some(ifname) = name.strip_prefix("xdp:") else { continue };
        match XdpDevice::open(ifname, how) {
            Ok(device) => {
                let id = DeviceId(u8::try_from(i + 1).unwrap_or(u8::MAX));
                slots.push(Slot { id, name: name.clone(), device });
            }
            Err(e) => said.push(e.to_string()),
        }
    }
    (slots, said)
}

/// Memory, and the XDP devices that could be opened.
pub(super) struct Devices {
    pub memory: Memory,
    /// The same between processes.
    pub peers: Peers,
    /// Of a [`virtual_host`](super::virtual_host), in place of all others.
    pub virtual_link: Option<VirtualLink>,
    pub xdp: Vec<Slot>,
    /// What was asked for by name, `xdp:lo` and the like.
    wanted: Vec<String>,
    opened: bool,
    /// A foreign event loop has been told the descriptors, and may look at them at any time.
    pub lent: bool,
    /// Why a wanted device is not there, and other things worth saying, for status and stderr.
    pub messages: Vec<String>,
    local: LocalAddrs,
}

/// The host's addresses, read again when older than a second.
struct LocalAddrs {
    read_at: Option<Instant>,
    list: Vec<IpAddr>,
}

impl LocalAddrs {
    fn contains(&mut self, ip: IpAddr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        if self.read_at.is_none_or(|t| t.elapsed() > Duration::from_secs(1)) {
            self.list = addrs::local_addresses().unwrap_or_default();
            self.read_at = Some(Instant::now());
        }
        self.list.contains(&ip)
    }
}

impl Devices {
    /// Only memory; the others are opened at the first need.
    pub fn new(wanted: Vec<String>, peers: Peers) -> Self {
        Self {
            memory: Memory::default(),
            peers,
            virtual_link: None,
            xdp: Vec::new(),
            wanted,
            opened: false,
            lent: false,
            messages: Vec::new(),
            local: LocalAddrs { read_at: None, list: Vec::new() },
        }
    }

    /// What `open_all` is to open; `None` when that was done.
    pub fn to_open(&self) -> Option<Vec<String>> {
        (!self.opened).then(|| self.wanted.clone())
    }

    /// Takes over what `open_all` gave.
    pub fn opened_all(&mut self, shard: &mut Shard, slots: Vec<Slot>, said: &[String]) {
        self.opened = true;
        for slot in &slots {
            shard.add_device(slot.id, slot.device.caps());
        }
        self.xdp = slots;
        self.messages.extend_from_slice(said);
    }

    /// Closes them; the next need opens them again, if nobody else has them then.
    pub fn retire(&mut self) {
        self.xdp.clear();
        self.opened = false;
    }

    /// The names of the devices that carry frames now.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.xdp.iter().map(|s| s.name.as_str())
    }

    /// The name of a device, for listings.
    pub fn name(&self, id: DeviceId) -> &str {
        match id {
            MEMORY => return "memory",
            VIRTUAL => return "virtual",
            _ => {}
        }
        let xdp = self.xdp.iter().find(|s| s.id == id).map(|s| s.name.as_str());
        xdp.or_else(|| self.peers.name(id)).unwrap_or("?")
    }

    /// The descriptors that become readable when frames wait.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.xdp.iter().map(|s| s.device.fd()).chain(self.peers.fd())
    }

    /// System calls made for packet I/O so far.
    pub fn syscalls(&self) -> u64 {
        self.xdp.iter().map(|s| s.device.syscalls()).sum()
    }

    /// Whether an address is the host's own.
    pub fn is_local(&mut self, ip: IpAddr) -> bool {
        if let Some(link) = &self.virtual_link {
            return ip.is_loopback() || link.has_address(ip);
        }
        self.local.contains(ip)
    }

    /// The source address that the kernel would choose for a connection to an address of this host.
    pub fn source_on_host(&self, dst: IpAddr) -> IpAddr {
        if self.virtual_link.is_some() {
            return dst;
        }
        match dst {
            // All of 127/8 is in the local table with one preferred source.
            IpAddr::V4(ip) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_loopback() => dst,
            // A secondary address is answered from the primary one.
            _ => route::lookup(dst, None).map_or(dst, |route| route.src),
        }
    }

    /// The in-process path.
    pub fn memory_path(&self) -> Path {
        Path { device: MEMORY, caps: self.memory.caps(), link: Link::default() }
    }

    /// The device that the kernel's routing leads to, with the source address that it would
    /// choose. Never waits.
    pub fn route(&mut self, dst: IpAddr, src: Option<IpAddr>) -> Way {
        if let Some(link) = &self.virtual_link {
            return match src.or_else(|| link.source_for(dst)) {
                Some(src) => Way::Ours(link.path(), src),
                None => Way::Kernel,
            };
        }
        if self.xdp.is_empty() {
            return Way::Kernel;
        }
        let Ok(route) = route::lookup(dst, src) else { return Way::Kernel };
        let by_ifindex = |s: &&Slot| s.device.ifindex() == route.ifindex;
        let Some(slot) = self.xdp.iter().find(by_ifindex) else { return Way::Kernel };
        let caps = slot.device.caps();
        let link = if caps.hw_addr == [0; 6] {
            Link::default()
        } else {
            match route::neighbour(route.ifindex, route.gateway.unwrap_or(dst)) {
                Ok(Some(mac)) => Link { src: caps.hw_addr, dst: mac },
                Ok(None) => return Way::Unresolved,
                Err(_) => return Way::Kernel,
            }
        };
        Way::Ours(Path { device: slot.id, caps, link }, src.unwrap_or(route.src))
    }

    /// Steers what arrives for a listener's address on every device, or takes it back.
    pub fn steer_all(&mut self, local: SocketAddr) -> Vec<(DeviceId, SocketAddr)> {
        let ids: Vec<DeviceId> = self.xdp.iter().map(|s| s.id).collect();
        ids.into_iter().filter(|&id| self.steer(id, local)).map(|id| (id, local)).collect()
    }

    /// Begins to share a listener's address with the kernel on every device where that can be done.
    pub fn share_all(&mut self, local: SocketAddr) -> Vec<(DeviceId, SocketAddr)> {
        let mut shared = Vec::new();
        for slot in &mut self.xdp {
            match slot.device.share(local) {
                Ok(()) => shared.push((slot.id, local)),
                Err(e) => self.messages.push(format!("{}: cannot share {local}: {e}", slot.name)),
            }
        }
        shared
    }

    /// The same of an address that is steered.
    pub fn share_steered(&mut self, id: DeviceId, local: SocketAddr) {
        let Some(slot) = self.xdp.iter_mut().find(|s| s.id == id) else { return };
        if let Err(e) = slot.device.share_steered(local) {
            self.messages.push(format!("{}: cannot share {local}: {e}", slot.name));
        }
    }

    /// How many new connections to a shared address come to us from now on.
    pub fn take(&mut self, id: DeviceId, local: SocketAddr, connections: u32) {
        let Some(slot) = self.xdp.iter_mut().find(|s| s.id == id) else { return };
        if let Err(e) = slot.device.take(local, connections) {
            self.messages.push(format!("{}: {local}: {e}", slot.name));
        }
    }

    /// Steers one address on one device; false when the kernel refused, which is reported.
    pub fn steer(&mut self, id: DeviceId, local: SocketAddr) -> bool {
        let Some(slot) = self.xdp.iter_mut().find(|s| s.id == id) else { return false };
        match slot.device.steer(local, true) {
            Ok(()) => true,
            Err(e) => {
                self.messages.push(format!("{}: cannot steer {local}: {e}", slot.name));
                false
            }
        }
    }

    /// Takes back what `steer` did.
    pub fn unsteer(&mut self, id: DeviceId, local: SocketAddr) {
        let Some(slot) = self.xdp.iter_mut().find(|s| s.id == id) else { return };
        if let Err(e) = slot.device.steer(local, false) {
            self.messages.push(format!("{}: cannot release {local}: {e}", slot.name));
        }
    }
}
