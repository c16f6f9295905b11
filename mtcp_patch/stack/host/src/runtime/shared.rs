//! Listeners on which other processes accept too: a pre-forking server's, a reloader's.
//!
//! Such a listener is the kernel's in every process. The first that waits for a connection or accepts
//! one, and comes by the devices, *takes it over*: it has a half of ours again, beside the kernel's,
//! and its port is shared (`xdp::steer`). The others, and this one, go on accepting the kernel's.
//!
//! What comes to us waits for this process alone, while a brother may be idle. So one new connection
//! is let in at a time, and only when the program looks for one and has none: while it is busy, all
//! go to the kernel, where whoever is free takes them. Nothing has to be told to anybody when the
//! process ends, however it does: the steering ends with it, and the kernel's half serves on.
//!
//! The processes that share a listener need one after another to open the devices, so one that has
//! handed over its last listener and has no connection lets go of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use mtcp_engine::ListenerId;

use super::desc::{Desc, Kind};
use super::endpoint::{unmapped, wildcard};
use super::state::Inner;
use super::vfd::{is_virtual, Vfd};
use super::wait::PollFd;
use super::Runtime;
use crate::errno::Errno;
use crate::xdp::XdpOptions;

/// New connections that are let in at a time.
const AT_A_TIME: u32 = 1;

/// How long to try for a device that another process has. One that gives it up is on its way when
/// this one begins.
const PATIENCE: Duration = Duration::from_millis(30);

/// The pause before the next try; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// What a description knows of a listener that other processes have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    /// Not to be tried before.
    next_try: Option<Clock>,
    /// The pause after the next failure; `None` before the first.
    pause: Option<Duration>,
    /// A new connection was let in, and this process has accepted none since.
    offered: bool,
}

impl Sharing {
    fn is_due(&self) -> bool {
        self.next_try.is_none_or(|at| at <= Clock::now())
    }

    fn failed(&mut self) {
        let pause = self.pause.map_or(FIRST_PAUSE, |p| (p * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.next_try = Clock::now().checked_add(pause);
    }
}

impl Desc {
    /// Whether the listener is to be taken over now.
    fn is_due(&self) -> bool {
        self.kind == Kind::Kernel
            && self.pinned.is_none()
            && self.shared.is_some_and(|sharing| sharing.is_due())
    }
}

impl Inner {
    /// Whether other processes accept on the listener too.
    pub fn is_shared(&self, id: ListenerId) -> bool {
        let desc = self.by_listener.get(&id).and_then(|&index| self.descs.get(index));
        desc.is_some_and(|d| d.shared.is_some())
    }

    /// Whether a descriptor's listener is to be taken over before somebody waits for it.
    #[inline]
    pub fn is_due(&self, vfd: Vfd) -> bool {
        self.desc(vfd).is_ok_and(Desc::is_due)
    }

    /// The first of `fds` that is to be taken over.
    pub fn due_among(&self, fds: &[PollFd]) -> Option<Vfd> {
        fds.iter().map(|entry| entry.fd).find(|&fd| is_virtual(fd) && self.is_due(fd))
    }

    /// Whether connections of ours wait for accept, or are on their way there.
    pub fn is_waited_for(&self, id: ListenerId) -> bool {
        let info = self.shard.listeners().find(|l| l.id == id);
        info.is_some_and(|l| l.accept_queue + l.syn_queue > 0)
    }

    /// Other processes will have a listener of ours on whose connections nobody has looked yet: new
    /// ones are the kernel's, for whoever accepts.
    pub fn share_listener(&mut self, index: usize) {
        let Some(desc) = self.descs.get_mut(index) else { return };
        desc.shared = Some(Sharing::default());
        if let Kind::Listener(id) = desc.kind {
            self.devices.peers.withdraw(id);
        }
        let Some(desc) = self.descs.get(index) else { return };
        let port = desc.port.and_then(|p| self.ports.get(p));
        let steered = port.map(|p| p.steered.clone()).unwrap_or_default();
        for (device, local) in steered {
            self.devices.share_steered(device, local);
        }
    }

    fn listens_in_kernel(&self, vfd: Vfd) -> bool {
        let port = self.desc(vfd).and_then(|desc| self.port(desc));
        port.is_ok_and(|port| port.socket.is_listener().unwrap_or(false))
    }

    /// Our half of a listener that is the kernel's, with its port shared.
    fn take_over(&mut self, vfd: Vfd) -> Result<(), Errno> {
        let index = self.index(vfd)?;
        let desc = self.desc(vfd)?;
        let (family, inherit) = (desc.family, desc.conn_options(desc.family == libc::AF_INET));
        let port = self.port(desc)?;
        let local = unmapped(&port.local()?);
        let v6only = family == libc::AF_INET6 && port.socket.only_v6().unwrap_or(true);
        let id = self.listen_engine(local, v6only, 0, inherit)?;
        self.by_listener.insert(id, index);
        let mut steered = self.devices.share_all(local);
        if local.is_ipv6() && local.ip().is_unspecified() && !v6only {
            let v4 = SocketAddr::new(wildcard(libc::AF_INET), local.port());
            steered.extend(self.devices.share_all(v4));
        }
        if steered.is_empty() {
            self.end_listener(id);
            return Err(Errno(libc::EADDRINUSE));
        }
        let port = self.descs.get(index).and_then(|d| d.port);
        if let Some(port) = port.and_then(|p| self.ports.get_mut(p)) {
            port.steered.extend(steered);
        }
        if let Some(desc) = self.descs.get_mut(index) {
            desc.kind = Kind::Listener(id);
            desc.served = false;
        }
        self.let_in(index, AT_A_TIME);
        Ok(())
    }

    /// The program looks for a connection: one may come to a shared listener that has none, and none
    /// on its way.
    pub fn look_for_connection(&mut self, index: usize) {
        let Some(desc) = self.descs.get(index) else { return };
        let Kind::Listener(id) = desc.kind else { return };
        if desc.shared.is_none() {
            return;
        }
        if !self.is_waited_for(id) {
            self.let_in(index, AT_A_TIME);
        }
    }

    /// The program has a connection, and may be busy from now on: none may come to any shared
    /// listener until it looks again.
    pub fn has_connection(&mut self) {
        let offering = |d: &Desc| d.shared.is_some_and(|sharing| sharing.offered);
        while let Some(index) = self
            .by_listener
            .values()
            .copied()
            .find(|&index| self.descs.get(index).is_some_and(offering))
        {
            self.let_in(index, 0);
        }
    }

    /// The same for all that somebody is about to wait for.
    pub fn look_for_connections(&mut self, fds: &[PollFd]) {
        for entry in fds.iter().filter(|entry| is_virtual(entry.fd)) {
            if let Ok(index) = self.index(entry.fd) {
                self.look_for_connection(index);
            }
        }
    }

    /// How many new connections come to a shared listener from now on.
    fn let_in(&mut self, index: usize, connections: u32) {
        let Some(desc) = self.descs.get_mut(index) else { return };
        if let Some(sharing) = &mut desc.shared {
            sharing.offered = connections > 0;
        }
        let port = desc.port;
        self.let_in_by(port, connections);
    }

    /// The same by its port.
    pub fn let_in_by(&mut self, port: Option<usize>, connections: u32) {
        let Some(port) = port.and_then(|p| self.ports.get(p)) else { return };
        for &(device, local) in &port.steered {
            self.devices.take(device, local, connections);
        }
    }

    /// Lets go of the devices if nothing of ours needs them, for the process that took the listener.
    pub fn retire_devices(&mut self) {
        let idle = self.by_conn.is_empty()
            && self.by_listener.is_empty()
            && self.orphans.is_empty()
            && self.ports.iter().all(|(_, port)| port.steered.is_empty());
        if !idle || self.devices.lent || self.devices.xdp.is_empty() {
            return;
        }
        self.devices.retire();
        // Whoever sleeps on them holds them.
        if let Some(sleeper) = self.sleeper {
            if let Some(w) = self.watchers.get_mut(sleeper.watcher) {
                w.signal();
            }
        }
        self.wake_tcp_thread();
    }
}

impl Runtime {
    /// Somebody is about to wait for connections of `vfd`, or to accept one: if it is a listener that
    /// others have too, and this process can have the devices, it takes it over.
    /// Call it without the lock.
    #[cold]
    pub(super) fn take_over(&self, vfd: Vfd) {
        if !self.lock_detached().listens_in_kernel(vfd) {
            return; // connected, or only bound so far
        }
        let quick = XdpOptions { patience: PATIENCE, ..XdpOptions::default() };
        let open = self.open_quietly(&quick);
        let mut inner = self.lock_detached();
        if !inner.is_due(vfd) {
            return;
        }
        let taken = if open { inner.take_over(vfd) } else { Err(Errno(libc::EBUSY)) };
        if let Ok(desc) = inner.desc_mut(vfd) {
            if let Some(sharing) = &mut desc.shared {
                if taken.is_err() {
                    sharing.failed();
                } else {
                    (sharing.next_try, sharing.pause) = (None, None);
                }
            }
        }
        self.ensure_driver(inner);
    }
}
