//! Everything that the runtime's lock guards: the shard, its devices, the descriptors and who
//! waits for them. One driver at a time holds it, so nothing inside needs a lock of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use mtcp_engine::time::Instant;
use mtcp_engine::Shard;
use mtcp_engine::{ConnId, Event, ListenerId};
use slab::Slab;

use super::by_conn::ByConn;
use super::desc::{Desc, Kind, Watch};
use super::devices::Devices;
use super::peers::Peers;
use super::port::Port;
use super::settings::Settings;
use super::vfd::{Vfd, VfdTable};
use super::watcher::{Watcher, ALWAYS, ERR, HUP, IN, OUT};
use crate::errno::Errno;
use crate::layout::Layout;
use crate::runtime_fd::RuntimeFd;
use crate::sys;

/// An application thread that sleeps on the devices on everybody's behalf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleeper {
    /// Whose eventfd wakes it early.
    pub watcher: usize,
    /// When it will wake by itself, in the engine's time; `None`: not before something happens.
    pub until: Option<Instant>,
    /// A foreign event loop, which knows nothing of the engine's timers.
    pub foreign: bool,
}

/// What the TCP thread does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpThread {
    /// Looks every millisecond whether the application still drives.
    Ticking,
    /// Sleeps until it is kicked: an application thread sleeps on the devices, or nothing is open.
    Dormant,
    /// Sleeps on the devices itself, because the application does not drive.
    Driving,
}

/// Where the engine's time comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// The time since the runtime was built, which was then: nanoseconds of CLOCK_MONOTONIC.
    Real(u64),
    /// What a [`virtual_host`](super::virtual_host) says.
    Virtual(Instant),
}

pub(super) struct Inner {
    pub shard: Shard,
    pub devices: Devices,
    pub vfds: VfdTable,
    pub descs: Slab<Desc>,
    pub ports: Slab<Port>,
    pub watchers: Slab<Watcher>,
    pub idle_waiters: Vec<usize>,
    /// The serial number of the interest set made last.
    pub last_serial: u32,
    pub by_conn: ByConn,
    pub by_listener: HashMap<ListenerId, usize>,
    /// Connections that the application closed, and the port that each still occupies.
    pub orphans: HashMap<ConnId, usize>,
    /// Those of them that hold a kernel socket of their own, oldest first.
    pub reserving: VecDeque<ConnId>,
    pub sleeper: Option<Sleeper>,
    pub tcp_thread: TcpThread,
    /// When the TCP thread will wake by itself, in the engine's time, where it minds the timers.
    pub tcp_until: Option<Instant>,
    /// Wakes the TCP thread.
    kick: Arc<RuntimeFd>,
    /// Who drives.
    pub layout: Layout,
    /// Turns driven by application threads. The TCP thread looks at it without the lock.
    pub app_turns: Arc<AtomicU64>,
    /// Raised when the TCP thread shall end.
    pub stopping: bool,
    pub clock: Clock,
    /// The time of the last batch.
    pub turned_at: Instant,
}

impl Inner {
    /// An empty state; devices are opened later.
    pub fn new(settings: &Settings, kick: Arc<RuntimeFd>) -> Result<Self, Errno> {
        let seed = sys::random_seed()?;
        let peers = Peers::new(settings.memory_peers, settings.control_dir.clone());
        let devices = Devices::new(settings.devices.clone(), peers);
        let mut shard = Shard::new(settings.engine.clone(), seed);
        shard.add_device(super::devices::MEMORY, devices.memory_path().caps);
        Ok(Self {
            shard,
            devices,
            vfds: VfdTable::default(),
            descs: Slab::new(),
            ports: Slab::new(),
            watchers: Slab::new(),
            idle_waiters: Vec::new(),
            last_serial: 0,
            by_conn: ByConn::default(),
            by_listener: HashMap::new(),
            orphans: HashMap::new(),
            reserving: VecDeque::new(),
            sleeper: None,
            tcp_thread: TcpThread::Ticking,
            tcp_until: None,
            kick,
            layout: settings.layout,
            app_turns: Arc::default(),
            stopping: false,
            clock: Clock::Real(sys::monotonic_ns()),
            turned_at: Instant::from_micros(0),
        })
    }

    /// The engine's time.
    #[inline]
    pub fn now(&self) -> Instant {
        match self.clock {
            Clock::Real(origin) => Instant::from_micros((sys::monotonic_ns() - origin) / 1000),
            Clock::Virtual(now) => now,
        }
    }

    /// The engine's time for what a call of the application only notes: at most one tick of the
    /// kernel late (4 ms, the resolution of Linux's own notes of this kind), never before the last
    /// turn, and read in a fifth of the time.
    #[inline]
    pub fn lately(&self) -> Instant {
        match self.clock {
            Clock::Real(origin) => {
                let coarse_ns = sys::monotonic_coarse_ns().saturating_sub(origin);
                Instant::from_micros(coarse_ns / 1000).max(self.turned_at)
            }
            Clock::Virtual(now) => now,
        }
    }

    /// How long from now until an engine time.
    pub fn until(&self, at: Instant) -> std::time::Duration {
        std::time::Duration::from_micros(at.micros_since(self.now()))
    }

    /// Whether somebody wakes for the engine's next timer without being told.
    pub fn timers_are_watched(&self) -> bool {
        if self.tcp_thread == TcpThread::Ticking {
            return true;
        }
        let Some(due) = self.shard.next_timeout() else { return true };
        let in_time = |until: Option<Instant>| until.is_some_and(|u| u <= due);
        in_time(self.tcp_until)
            || self.sleeper.is_some_and(|sleeper| !sleeper.foreign && in_time(sleeper.until))
    }

    /// What wakes the TCP thread.
    pub fn kick(&self) -> Arc<RuntimeFd> {
        Arc::clone(&self.kick)
    }

    /// Makes the TCP thread look every millisecond.
    pub fn wake_tcp_thread(&mut self) {
        if self.tcp_thread != TcpThread::Ticking {
            // At once, so that the next call does not wake it again.
            self.tcp_thread = TcpThread::Ticking;
            sys::eventfd_signal(&self.kick);
        }
    }

    /// The index of an open descriptor's description.
    #[inline]
    pub fn index(&self, vfd: Vfd) -> Result<usize, Errno> {
        self.vfds.get(vfd).ok_or(Errno(libc::EBADF))
    }

    /// An open descriptor's description.
    #[inline]
    pub fn desc(&self, vfd: Vfd) -> Result<&Desc, Errno> {
        self.descs.get(self.index(vfd)?).ok_or(Errno(libc::EBADF))
    }

    /// An open descriptor's description, to be changed.
    #[inline]
    pub fn desc_mut(&mut self, vfd: Vfd) -> Result<&mut Desc, Errno> {
        let index = self.index(vfd)?;
        self.descs.get_mut(index).ok_or(Errno(libc::EBADF))
    }

    /// The kernel socket of a description.
    pub fn port(&self, desc: &Desc) -> Result<&Port, Errno> {
        desc.port.and_then(|p| self.ports.get(p)).ok_or(Errno(libc::EBADF))
    }

    /// One more holder of a port.
    pub fn hold_port(&mut self, port: Option<usize>) {
        if let Some(p) = port.and_then(|p| self.ports.get_mut(p)) {
            p.refs += 1;
        }
    }

    /// One holder fewer; the last one gives the port back to the kernel.
    pub fn release_port(&mut self, port: Option<usize>) {
        let Some(index) = port else { return };
        let Some(p) = self.ports.get_mut(index) else { return };
        p.refs -= 1;
        if p.refs == 0 {
            self.unsteer_port(port);
            self.ports.remove(index);
        }
    }

    /// poll(2) bits of a description on our stack. The kernel half is asked separately.
    #[inline]
    pub fn readiness(&self, desc: &Desc) -> u32 {
        match desc.kind {
            Kind::Conn { id, .. } => self.shard.readiness(id),
            Kind::Listener(id) => u32::from(self.shard.accept_queue_len(id) > 0) * IN,
            Kind::Kernel => 0,
            Kind::Fresh => OUT | HUP,
            Kind::Deaf => IN | HUP,
            Kind::Inherited => IN | OUT | ERR | HUP,
        }
    }

    /// What a watcher's entry has to report now, 0 for nothing.
    #[inline]
    pub fn report(&self, desc: usize, events: u32) -> u32 {
        self.descs.get(desc).map_or(0, |d| self.readiness(d) & (events | ALWAYS))
    }

    /// Tells everybody who watches a description that something may have changed.
    pub fn notify(&mut self, desc: usize) {
        let Some(d) = self.descs.get(desc) else { return };
        for &Watch { watcher, vfd } in &d.watches {
            if let Some(w) = self.watchers.get_mut(watcher) {
                w.candidate(vfd);
            }
        }
    }

    /// Passes the engine's events on to the watchers, once a batch.
    pub fn flush_events(&mut self) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Conn(id) => {
                    if let Some(desc) = self.by_conn.get(id) {
                        self.notify(desc);
                    }
                }
                Event::Listener(id) => {
                    if let Some(&desc) = self.by_listener.get(&id) {
                        self.notify(desc);
                    }
                }
                Event::Freed(id) => {
                    if let Some(port) = self.orphans.remove(&id) {
                        self.release_port(Some(port));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_notes_is_between_the_last_turn_and_now() {
        let kick = Arc::new(sys::eventfd().unwrap());
        let mut inner = Inner::new(&Settings::default(), kick).unwrap();
        for _ in 0..1_000 {
            assert!(inner.lately() <= inner.now());
            inner.turned_at = inner.now();
            assert!(inner.lately() >= inner.turned_at);
        }
        inner.clock = Clock::Virtual(Instant::from_micros(7));
        assert_eq!(inner.lately(), Instant::from_micros(7));
    }
}
