//! `xdp:IFACE`: the frames of a real interface that belong to us, and no others.
//!
//! An XDP program (`program`, assembled by `asm`, loaded by `steer` and `bpf`) redirects the TCP
//! segments for our addresses and ports into AF_XDP sockets (`socket`, on `ring`, `umem` and
//! `txpool`), one a receive queue; everything else goes on to the kernel. The driver of a shard calls `receive`,
//! `transmit`, `flush` and `steer`, from one thread at a time. Dropping the device detaches the
//! program and undoes the sysctls; when the process is killed the kernel detaches it, and the next
//! start undoes the sysctls. No packet is looked at here.
//!
//! After `fork` the child must drop its copy at once: the program stays attached as long as any
//! process holds the link's descriptor.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mtcp_engine::device::{Caps, Device, Medium, RxChecksum};

use crate::runtime_fd::RuntimeFd;
use crate::{addrs, sysctl};

pub mod asm;
mod bpf;
mod error;
mod gather;
mod interface;
mod mapped;
mod owner;
mod ports;
mod program;
mod ring;
mod socket;
mod steer;
mod txpool;
pub(crate) mod umem;

pub use error::OpenError;
pub use socket::Counters;
pub use steer::MAX_STEERED;

use interface::Interface;
use socket::Queue;
use steer::Steering;
use umem::CHUNK_BYTES;

/// Most queues that we serve of one interface.
const MAX_QUEUES: u32 = 64;
/// Fewest receive chunks of a queue when many share the memory.
const MIN_RX_CHUNKS: u32 = 256;
/// Fewest transmit chunks: three 64 KB frames.
const MIN_TX_CHUNKS: u32 = 64;
/// Ethernet II header.
const ETHERNET_BYTES: usize = 14;
/// Largest IPv4 packet.
const MAX_IP_BYTES: usize = 65_535;
/// How long to wait between two tries when the interface is busy.
const RETRY: Duration = Duration::from_millis(5);

/// How to open a device.
#[derive(Clone, Debug)]
pub struct XdpOptions {
    /// Receive chunks of 4 KiB over all queues; rounded to powers of two.
    pub rx_chunks: u32,
    /// Transmit chunks of 4 KiB; rounded to a power of two, at least 64.
    pub tx_chunks: u32,
    /// Whether to try native mode and zero-copy where the driver may have them.
    pub native: bool,
    /// How long to try again while another process has the interface: the kernel lets go of it a
    /// little after the process has ended.
    pub patience: Duration,
}

impl Default for XdpOptions {
    fn default() -> Self {
        Self {
            rx_chunks: 4096,
            tx_chunks: 2048,
            native: true,
            patience: Duration::from_millis(100),
        }
    }
}

/// An open interface.
pub struct XdpDevice {
    // Fields drop in order: first nothing is redirected any more, then the sockets close.
    _link: RuntimeFd,
    queues: Vec<Queue>,
    steering: Steering,
    readable: Option<RuntimeFd>,
    /// The queue that `receive` begins with, so that none starves.
    next_queue: usize,
    interface: Interface,
    caps: Caps,
    native: bool,
    zero_copy: bool,
    notes: Vec<String>,
    counters: Counters,
    _sysctls: Option<sysctl::Applied>,
}

impl XdpDevice {
    /// Opens all queues of `ifname` and attaches the steering program, which steers nothing yet.
    /// Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF.
    pub fn open(ifname: &str, options: &XdpOptions) -> Result<Self, OpenError> {
        let fail = |step| move |e| OpenError::from_step(ifname, step, e);
        let interface = Interface::read(ifname).map_err(fail("read the interface"))?;
        let mut notes = Vec::new();
        if !interface.up {
            notes.push(format!("{ifname} is down: nothing moves before it is up"));
        }
        let count = interface.queues.min(MAX_QUEUES);
        if count < interface.queues {
            notes.push(format!(
                "{} queues, {count} served: TCP of ours that arrives by the others is refused",
                interface.queues
            ));
        }
        let deadline = Instant::now() + options.patience;
        let steering = Steering::load(count).map_err(fail("load the XDP program"))?;
        if !steering.has_frags() {
            notes.push("no multi-buffer XDP in this kernel: large frames are lost".to_owned());
        }
        let (link, native) = attach(&steering, &interface, options, deadline, &mut notes)?;
        let opened = open_queues(&interface, count, options, native, deadline, &mut notes)?;
        for (index, queue) in opened.queues.iter().enumerate() {
            let step = "enter the socket into the map";
            steering.set_socket(index as u32, queue.fd()).map_err(fail(step))?;
        }
        if let Some(queue) = opened.queues.first() {
            tune_transmit(queue, &mut notes);
        }
        let readable = match opened.queues.len() {
            1 => None,
            _ => {
                let fds = opened.queues.iter().map(Queue::fd);
                Some(gather::gather(fds).map_err(fail("watch the queues"))?)
            }
        };
        // Only now, so that a failure before has changed nothing.
        let sysctls = if interface.loopback {
            let step = "set accept_local and route_localnet";
            Some(sysctl::apply_for(ifname).map_err(fail(step))?)
        } else {
            None
        };
        Ok(Self {
            _link: link,
            caps: caps_of(&interface, opened.flags),
            zero_copy: opened.flags & libc::XDP_ZEROCOPY != 0,
            queues: opened.queues,
            steering,
            readable,
            next_queue: 0,
            interface,
            native,
            notes,
            counters: Counters::default(),
            _sysctls: sysctls,
        })
    }

    /// Readable when frames wait, over all queues.
    pub fn fd(&self) -> RawFd {
        match (&self.readable, self.queues.first()) {
            (Some(epoll), _) => epoll.as_raw_fd(),
            (None, Some(queue)) => queue.fd(),
            (None, None) => -1,
        }
    }

    /// The interface's index.
    pub fn ifindex(&self) -> u32 {
        self.interface.ifindex
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// "native" or "generic", with "zero-copy" where it is.
    pub fn mode(&self) -> &'static str {
        match (self.native, self.zero_copy) {
            (true, true) => "native zero-copy",
            (true, false) => "native",
            (false, _) => "generic",
        }
    }

    /// What the kernel or the driver refused and we do without.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many receive queues are served.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Starts or stops the steering of an address and port of ours, counted: what was started
    /// twice must be stopped twice. An unspecified address stands for every address of its family
    /// (a dual-stack listener steers both families): on `lo` a wildcard entry; elsewhere the
    /// addresses that the host has at this moment, so that forwarded traffic is never caught.
    /// An IPv4-mapped IPv6 address counts as IPv4. ENOENT when stopping what was not started,
    /// E2BIG when [`MAX_STEERED`] are there already.
    pub fn steer(&mut self, local: SocketAddr, on: bool) -> io::Result<()> {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.counters.syscalls += 1;
        if !local.ip().is_unspecified() || self.interface.loopback {
            return self.steering.steer(local, on);
        }
        let own = if on { arriving_addresses()? } else { Vec::new() };
        self.steering.steer_expanded(local, on, own.into_iter())
    }

    /// Starts to steer an address and port on which the kernel serves connections too: those that it
    /// has stay with it, and new ones come to us as [`XdpDevice::take`] says. Stopped by
    /// [`XdpDevice::steer`]. EADDRINUSE for what is steered already, E2BIG for too many.
    pub fn share(&mut self, local: SocketAddr) -> io::Result<()> {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.counters.syscalls += 2;
        if !local.ip().is_unspecified() || self.interface.loopback {
            return self.steering.share(local);
        }
        self.steering.share_expanded(local, arriving_addresses()?.into_iter())
    }

    /// The same of what is steered to us alone: our connections stay with us.
    pub fn share_steered(&mut self, local: SocketAddr) -> io::Result<()> {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.counters.syscalls += 2;
        self.steering.share_steered(local)
    }

    /// How many new connections to a shared address and port come to us from now on; the kernel gets
    /// those beyond. ENOENT for what is not shared.
    pub fn take(&mut self, local: SocketAddr, connections: u32) -> io::Result<()> {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.counters.syscalls += 1;
        self.steering.take(local, connections)
    }

    /// System calls made so far to move frames and to steer.
    pub fn syscalls(&self) -> u64 {
        self.counters.syscalls
    }

    /// What went wrong so far, as we saw it.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the kernel dropped before our receive rings, by reason, over all queues.
    pub fn kernel_drops(&self) -> [(&'static str, u64); 3] {
        let mut drops =
            [("xdp_rx_dropped", 0), ("xdp_rx_ring_full", 0), ("xdp_fill_ring_empty", 0)];
        for statistics in self.queues.iter().filter_map(|queue| queue.kernel_drops().ok()) {
            let [dropped, full, empty] = &mut drops;
            dropped.1 += statistics.rx_dropped;
            full.1 += statistics.rx_ring_full;
            empty.1 += statistics.rx_fill_ring_empty_descs;
        }
        drops
    }
}

impl Device for XdpDevice {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let count = self.queues.len();
        let mut received = 0;
        for _ in 0..count {
            if received >= budget {
                break;
            }
            if let Some(queue) = self.queues.get_mut(self.next_queue) {
                received += queue.receive(budget - received, &mut self.counters, sink);
            }
            self.next_queue = (self.next_queue + 1) % count;
        }
        received
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        if len > self.caps.mtu + ETHERNET_BYTES {
            return false;
        }
        self.queues.first_mut().is_some_and(|q| q.transmit(len, &mut self.counters, fill))
    }

    fn flush(&mut self) {
        if let Some(queue) = self.queues.first_mut() {
            queue.flush(&mut self.counters);
        }
    }
}

/// The host's addresses without the loopback ones, which never arrive by a wire.
fn arriving_addresses() -> io::Result<Vec<IpAddr>> {
    let own = addrs::local_addresses()?;
    Ok(own.into_iter().filter(|a| !a.is_loopback()).collect())
}

fn caps_of(interface: &Interface, flags: u16) -> Caps {
    let carried =
        if flags & libc::XDP_USE_SG != 0 { MAX_IP_BYTES } else { CHUNK_BYTES - ETHERNET_BYTES };
    let partial = interface.loopback || interface.driver == "veth";
    Caps {
        medium: Medium::Ethernet,
        mtu: interface.mtu.min(carried),
        rx_checksum: if partial { RxChecksum::AcceptPartial } else { RxChecksum::Verify },
        tx_checksum: true,
        hw_addr: interface.hw_addr,
    }
}

fn tx_chunks(options: &XdpOptions) -> u32 {
    options.tx_chunks.clamp(MIN_TX_CHUNKS, 1 << 20).next_power_of_two()
}

fn busy(interface: &Interface) -> OpenError {
    OpenError::Busy { ifname: interface.name.clone(), owner: owner::find(interface.ifindex) }
}

/// Attaches the program, natively where that may work; whether it is native.
fn attach(
    steering: &Steering,
    interface: &Interface,
    options: &XdpOptions,
    deadline: Instant,
    notes: &mut Vec<String>,
) -> Result<(RuntimeFd, bool), OpenError> {
    // Loopback has no native mode.
    let mut native = options.native && !interface.loopback;
    loop {
        let mode = if native { bpf::XDP_MODE_NATIVE } else { bpf::XDP_MODE_GENERIC };
        let error = match steering.attach(interface.ifindex, mode) {
            Ok(link) => return Ok((link, native)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            // EEXIST: a program is there in the other mode.
            Some(libc::EBUSY | libc::EEXIST) if Instant::now() < deadline => {
                std::thread::sleep(RETRY);
            }
            Some(libc::EBUSY | libc::EEXIST) => return Err(busy(interface)),
            Some(libc::EPERM | libc::ENODEV) => {
                return Err(OpenError::from_step(&interface.name, "attach the XDP program", error))
            }
            _ if native => {
                notes.push(format!("native XDP refused, generic instead: {error}"));
                native = false;
            }
            _ => {
                return Err(OpenError::from_step(&interface.name, "attach the XDP program", error))
            }
        }
    }
}

/// What makes one system call carry a whole batch; none of it is indispensable.
fn tune_transmit(queue: &Queue, notes: &mut Vec<String>) {
    if let Err(e) = queue.raise_tx_budget() {
        notes.push(format!("transmit budget stays at 32 frames a system call: {e}"));
    }
    if let Err(e) = queue.raise_send_buffer() {
        notes.push(format!("send buffer stays at the system's default: {e}"));
    }
}

struct Opened {
    queues: Vec<Queue>,
    flags: u16,
}

/// The ways to bind a socket, best first, each with what the previous one had that it has not.
fn bind_flags(zero_copy: bool) -> Vec<(u16, &'static str)> {
    let (wakeup, sg) = (libc::XDP_USE_NEED_WAKEUP, libc::XDP_USE_SG);
    let mut ways = Vec::new();
    if zero_copy {
        ways.push((libc::XDP_ZEROCOPY | wakeup | sg, ""));
        ways.push((libc::XDP_ZEROCOPY | wakeup, "zero-copy of multi-buffer frames"));
    }
    ways.push((libc::XDP_COPY | wakeup | sg, "zero-copy"));
    ways.push((libc::XDP_COPY | wakeup, "multi-buffer frames: large uploads will stall"));
    ways.push((libc::XDP_COPY, "wake-up on need"));
    ways
}

/// Opens and binds the sockets of queues 0 … count-1, all in the same way.
fn open_queues(
    interface: &Interface,
    count: u32,
    options: &XdpOptions,
    native: bool,
    deadline: Instant,
    notes: &mut Vec<String>,
) -> Result<Opened, OpenError> {
    let sockets = allocate(count, options, notes)
        .map_err(|e| OpenError::from_step(&interface.name, "set up an AF_XDP socket", e))?;
    // veth has no zero-copy, and asking costs its queues a restart.
    let mut ways = bind_flags(native && interface.driver != "veth");
    let mut queues = Vec::new();
    for (index, mut queue) in (0..).zip(sockets) {
        let (way, flags) = bind(&mut queue, interface, index, &ways, deadline)?;
        for (_, without) in ways.iter().take(way + 1).skip(1) {
            notes.push(format!("without {without}"));
        }
        ways = vec![(flags, "")];
        queues.push(queue);
    }
    Ok(Opened { queues, flags: ways.first().map_or(0, |(flags, _)| *flags) })
}

/// The sockets with their memory, of which only the first transmits. Without CAP_IPC_LOCK the
/// memory counts against RLIMIT_MEMLOCK: then they get what there is.
fn allocate(count: u32, options: &XdpOptions, notes: &mut Vec<String>) -> io::Result<Vec<Queue>> {
    let full = (options.rx_chunks / count).clamp(MIN_RX_CHUNKS, 1 << 20).next_power_of_two();
    let (mut rx_chunks, mut tx_chunks) = (full, tx_chunks(options));
    loop {
        let sockets: io::Result<Vec<Queue>> = (0..count)
            .map(|index| Queue::new(rx_chunks, if index == 0 { tx_chunks } else { 0 }))
            .collect();
        let exhausted = match &sockets {
            Err(e) => e.raw_os_error() == Some(libc::ENOBUFS),
            Ok(_) => false,
        };
        if !exhausted || rx_chunks <= MIN_RX_CHUNKS {
            if sockets.is_ok() && rx_chunks != full {
                notes.push(format!(
                    "{rx_chunks} receive buffers a queue instead of {full}: RLIMIT_MEMLOCK;                      `ulimit -l unlimited` gives all"
                ));
            }
            return sockets;
        }
        rx_chunks /= 2;
        tx_chunks = (tx_chunks / 2).max(MIN_TX_CHUNKS);
    }
}

/// Binds one socket in the first way that works; which one that was.
fn bind(
    queue: &mut Queue,
    interface: &Interface,
    index: u32,
    ways: &[(u16, &'static str)],
    deadline: Instant,
) -> Result<(usize, u16), OpenError> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for (way, (flags, _)) in ways.iter().enumerate() {
        loop {
            match queue.bind(interface.ifindex, index, *flags) {
                Ok(()) => return Ok((way, *flags)),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                    if Instant::now() >= deadline {
                        return Err(busy(interface));
                    }
                    std::thread::sleep(RETRY);
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    refused = e;
                    break;
                }
                Err(e) => {
                    return Err(OpenError::from_step(&interface.name, "bind an AF_XDP socket", e))
                }
            }
        }
    }
    Err(OpenError::from_step(&interface.name, "bind an AF_XDP socket", refused))
}
