//! The devices of this process, and which of them leads to a given address.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mtcp_engine::device::memory::Memory;
use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::wire::Link;
use mtcp_engine::{Path, Shard};

use crate::xdp::{XdpDevice, XdpOptions};
use crate::{addrs, route};

/// The in-process loopback; always there.
pub(super) const MEMORY: DeviceId = DeviceId(0);

/// How long a `connect()` waits for the kernel to resolve a neighbour before it goes by the
/// kernel's own stack. Milliseconds.
const NEIGHBOUR_WAIT: Duration = Duration::from_millis(20);

pub(super) struct Slot {
    pub id: DeviceId,
    pub name: String,
    pub device: XdpDevice,
}

/// Memory, and the XDP devices that could be opened.
pub(super) struct Devices {
    pub memory: Memory,
    pub xdp: Vec<Slot>,
    /// What was asked for by name, `xdp:lo` and the like.
    wanted: Vec<String>,
    opened: bool,
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
    pub fn new(wanted: Vec<String>) -> Self {
        Self {
            memory: Memory::default(),
            xdp: Vec::new(),
            wanted,
            opened: false,
            messages: Vec::new(),
            local: LocalAddrs { read_at: None, list: Vec::new() },
        }
    }

    /// Opens what was asked for, once. The returned messages are new: each is to be said once.
    pub fn open(&mut self, shard: &mut Shard) -> Vec<String> {
        if std::mem::replace(&mut self.opened, true) {
            return Vec::new();
        }
        let mut said = Vec::new();
        for (i, name) in self.wanted.clone().iter().enumerate() {
            let Some(ifname) = name.strip_prefix("xdp:") else { continue };
            match XdpDevice::open(ifname, &XdpOptions::default()) {
                Ok(device) => {
                    let id = DeviceId(u8::try_from(i + 1).unwrap_or(u8::MAX));
                    shard.add_device(id, device.caps());
                    self.xdp.push(Slot { id, name: name.clone(), device });
                }
                Err(e) => said.push(e.to_string()),
            }
        }
        self.messages.extend(said.iter().cloned());
        said
    }

    /// Whether `open` was called.
    pub fn opened(&self) -> bool {
        self.opened
    }

    /// The names of the devices that carry frames now.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.xdp.iter().map(|s| s.name.as_str())
    }

    /// The name of a device, for listings.
    pub fn name(&self, id: DeviceId) -> &str {
        if id == MEMORY {
            return "memory";
        }
        self.xdp.iter().find(|s| s.id == id).map_or("?", |s| s.name.as_str())
    }

    /// The descriptors that become readable when frames wait.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.xdp.iter().map(|s| s.device.fd())
    }

    /// System calls made for packet I/O so far.
    pub fn syscalls(&self) -> u64 {
        self.xdp.iter().map(|s| s.device.syscalls()).sum()
    }

    /// Whether an address is the host's own.
    pub fn is_local(&mut self, ip: IpAddr) -> bool {
        self.local.contains(ip)
    }

    /// The in-process path.
    pub fn memory_path(&self) -> Path {
        Path { device: MEMORY, caps: self.memory.caps(), link: Link::default() }
    }

    /// The device that the kernel's routing leads to, with the source address that it would
    /// choose; `None` when the kernel's stack must carry this connection.
    pub fn route(&mut self, dst: IpAddr, src: Option<IpAddr>) -> Option<(Path, IpAddr)> {
        if self.xdp.is_empty() {
            return None;
        }
        let route = route::lookup(dst, src).ok()?;
        let slot = self.xdp.iter().find(|s| s.device.ifindex() == route.ifindex)?;
        let caps = slot.device.caps();
        let link = if caps.hw_addr == [0; 6] {
            Link::default()
        } else {
            let hop = route.gateway.unwrap_or(dst);
            Link { src: caps.hw_addr, dst: resolve(route.ifindex, hop)? }
        };
        Some((Path { device: slot.id, caps, link }, src.unwrap_or(route.src)))
    }

    /// Steers what arrives for a listener's address on every device, or takes it back.
    pub fn steer_all(&mut self, local: SocketAddr) -> Vec<(DeviceId, SocketAddr)> {
        let ids: Vec<DeviceId> = self.xdp.iter().map(|s| s.id).collect();
        ids.into_iter().filter(|&id| self.steer(id, local)).map(|id| (id, local)).collect()
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

fn resolve(ifindex: u32, hop: IpAddr) -> Option<[u8; 6]> {
    let deadline = Instant::now() + NEIGHBOUR_WAIT;
    loop {
        if let Some(mac) = route::neighbour(ifindex, hop).ok()? {
            return Some(mac);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
