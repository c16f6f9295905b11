//! The links to other patched processes, and when they are made, driven and given up. What a link is and
//! how two processes meet is `crate::peers`.
//!
//! All of it is under the runtime's lock. Births and deaths come by an epoll of the links' sockets, which
//! is one of the descriptors that whoever sleeps on the devices sleeps on, and which the TCP thread looks
//! at while the application runs (`service`). `way` is what `connect()` asks.

mod service;
mod way;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant as Clock};

use mtcp_engine::device::{Device, DeviceId};
use mtcp_engine::time::Instant;
use mtcp_engine::{ListenerId, Shard};

use super::{control, signals, Runtime};
use crate::errno::Errno;
use crate::peers::link::{self, Driven, Link, Scratch};
use crate::peers::registry::{Id, Registry, Served};
use crate::peers::rendezvous;
use crate::peers::shared;
use crate::runtime_fd::RuntimeFd;
use crate::sys;

/// The devices from here up are links; `Devices` numbers the real ones from 1.
const FIRST: u8 = 64;

/// The most links that a process can be allowed.
pub(super) const MAX_PEERS: usize = 128;

/// Events of the sockets that are looked at in one go.
const EVENTS: usize = 16;

/// How long a process that has not let us in is not asked again: its house is full.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Bells of one link that are taken in one go.
const BELLS: usize = 16;

/// An open link.
pub(super) struct Peer {
    pub device: DeviceId,
    pub link: Link,
    /// Its process, as the kernel says.
    pub pid: u32,
    /// For listings.
    pub name: String,
    /// Its name in the registry, when we dialled it.
    id: Option<Id>,
}

/// A link that is not open yet.
enum Coming {
    /// A client from which HELLO is to come.
    Guest(RuntimeFd),
    /// A server that we dialled, from which WELCOME is to come.
    Dialled {
        link: Link,
        id: Id,
        /// A `connect()` has waited for it in vain: no other one waits.
        slow: bool,
    },
}

impl Coming {
    fn socket(&self) -> &OwnedFd {
        match self {
            Self::Guest(socket) => socket,
            Self::Dialled { link, .. } => link.socket(),
        }
    }
}

/// Every link of this process.
pub(super) struct Peers {
    /// Links that there may be, open or not; 0: the process keeps to itself.
    limit: usize,
    /// Where the registry's directories are.
    base: PathBuf,
    registry: Option<Registry>,
    listener: Option<RuntimeFd>,
    own: Option<Id>,
    published: HashMap<ListenerId, Served>,
    /// Of the listener's socket and of those of all links.
    epoll: Option<RuntimeFd>,
    pub open: Vec<Peer>,
    coming: Vec<Coming>,
    /// Who has not let us in, and when.
    refused: HashMap<Id, Clock>,
    scratch: Scratch,
    /// The other sides know that somebody sleeps.
    armed: bool,
    /// Counts `connect()`s, to share them out where several processes serve an address.
    turn: usize,
    /// Links given up because of what the other side wrote.
    pub corrupt: u64,
}

impl Peers {
    /// No links; at most `limit`, with the registry below `control_dir`.
    pub fn new(limit: usize, control_dir: Option<String>) -> Self {
        Self {
            limit: limit.min(MAX_PEERS),
            base: control::directory(control_dir),
            registry: None,
            listener: None,
            own: None,
            published: HashMap::new(),
            epoll: None,
            open: Vec::new(),
            coming: Vec::new(),
            refused: HashMap::new(),
            scratch: link::scratch(),
            armed: false,
            turn: 0,
            corrupt: 0,
        }
    }

    /// How many links there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What is readable when a link wants to be looked at.
    pub fn fd(&self) -> Option<RawFd> {
        self.epoll.as_ref().map(|epoll| epoll.as_raw_fd())
    }

    /// The name of a link's device, for listings.
    pub fn name(&self, id: DeviceId) -> Option<&str> {
        self.open.iter().find(|peer| peer.device == id).map(|peer| peer.name.as_str())
    }

    /// Gives what has arrived to the shard, at most `budget` frames a link; how many there were.
    #[inline]
    pub fn receive(&mut self, shard: &mut Shard, now: Instant, budget: usize) -> usize {
        let scratch = &mut self.scratch;
        let mut frames = 0;
        for Peer { device, link, .. } in &mut self.open {
            let id = *device;
            let mut driven = Driven { link, scratch };
            frames += driven.receive(budget, &mut |frame| shard.handle_frame(now, id, frame));
        }
        frames
    }

    /// Lets the shard write what is to leave; how many frames that were.
    #[inline]
    pub fn transmit(&mut self, shard: &mut Shard, now: Instant) -> usize {
        let scratch = &mut self.scratch;
        let mut frames = 0;
        for Peer { device, link, .. } in &mut self.open {
            if shard.has_output(*device) {
                let mut driven = Driven { link, scratch };
                frames += shard.transmit(now, *device, &mut driven);
                driven.flush();
            }
        }
        frames
    }

    /// Whether any link has something to send.
    pub fn has_output(&self, shard: &Shard) -> bool {
        self.open.iter().any(|peer| shard.has_output(peer.device))
    }

    /// Asks to be woken. False: there are frames, do not sleep.
    fn arm(&mut self) -> bool {
        self.armed = true;
        let mut quiet = true;
        for peer in &mut self.open {
            quiet &= peer.link.arm();
        }
        quiet
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            for peer in &mut self.open {
                peer.link.disarm();
            }
        }
    }

    /// Makes a socket one of those that [`Peers::fd`] stands for.
    fn watch(&mut self, socket: RawFd) -> Result<(), Errno> {
        if self.epoll.is_none() {
            self.epoll = Some(sys::epoll_create()?);
        }
        let epoll = self.fd().ok_or(Errno(libc::EBADF))?;
        sys::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, libc::EPOLLIN as u32, socket as u64)
    }

    /// Ends a link's socket for both sides, also where a forked child still has it.
    fn end(&self, socket: &OwnedFd) {
        if let Some(epoll) = self.fd() {
            // ENOENT: it was never watched.
            let _ = sys::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, socket.as_raw_fd(), 0, 0);
        }
        // ENOTCONN: the other side has ended it.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }

    fn is_full(&self) -> bool {
        self.open.len() + self.coming.len() >= self.limit
    }

    fn free_device(&self) -> Option<DeviceId> {
        let mut ids = (FIRST..=u8::MAX).take(MAX_PEERS).map(DeviceId);
        ids.find(|id| self.open.iter().all(|peer| peer.device != *id))
    }

    /// The registry of this network namespace.
    fn registry(&mut self) -> Option<&mut Registry> {
        if self.limit == 0 {
            return None;
        }
        if self.registry.is_none() {
            let cookie = sys::netns_cookie().ok()?;
            self.registry = Some(Registry::new(self.base.join(format!("net-{cookie}"))));
        }
        self.registry.as_mut()
    }

    /// Says that this process serves an address.
    fn publish(&mut self, id: ListenerId, served: Served) -> std::io::Result<()> {
        if self.registry().is_none() {
            return Ok(());
        }
        if self.listener.is_none() {
            self.join()?;
        }
        if let Some(registry) = &self.registry {
            registry.publish(served)?;
            self.published.insert(id, served);
        }
        Ok(())
    }

    /// Takes that back.
    pub fn withdraw(&mut self, id: ListenerId) {
        let Some(served) = self.published.remove(&id) else { return };
        // Two listeners have one name when each is bound to a device of its own.
        if let Some(registry) = &self.registry {
            if !self.published.values().any(|other| *other == served) {
                registry.withdraw(served);
            }
        }
    }

    /// The process is about to fork: a child has the kernel's half of every listener and may accept
    /// there, so what comes from now on goes by the kernel, which both can hear.
    pub fn withdraw_all(&mut self) {
        let all: Vec<ListenerId> = self.published.keys().copied().collect();
        for id in all {
            self.withdraw(id);
        }
    }

    /// Opens the socket at which other processes call.
    fn join(&mut self) -> std::io::Result<()> {
        control::prepare(&self.base)?;
        let Some(registry) = self.registry() else { return Ok(()) };
        control::prepare(registry.path())?;
        let [a, b, c, d, ..] = sys::random_seed().map_err(std::io::Error::from)?;
        let id = Id { pid: std::process::id(), nonce: u32::from_le_bytes([a, b, c, d]) };
        let listener = rendezvous::listen(&registry.socket(id))?;
        registry.join(id);
        remove_the_dead(registry);
        self.watch(listener.as_raw_fd()).map_err(std::io::Error::from)?;
        self.own = Some(id);
        self.listener = Some(listener);
        say_goodbye_on_signals()
    }

    /// Lets in whoever calls.
    fn accept(&mut self) {
        while let Some(socket) = self.listener.as_deref().and_then(rendezvous::accept) {
            // Whoever finds no room goes by the kernel.
            if !self.is_full() && self.watch(socket.as_raw_fd()).is_ok() {
                self.coming.push(Coming::Guest(socket));
            }
        }
    }

    /// Calls at another process's socket. False: it is not there any more.
    fn dial(&mut self, id: Id) -> bool {
        let Some(registry) = &self.registry else { return true };
        let socket = match rendezvous::dial(&registry.socket(id)) {
            Ok(socket) => socket,
            Err(e) => return !rendezvous::is_gone(&e),
        };
        let Ok((memory, rings)) = shared::create() else { return true };
        if rendezvous::hello(&socket, &memory) && self.watch(socket.as_raw_fd()).is_ok() {
            let link = Link::new(socket, rings);
            self.coming.push(Coming::Dialled { link, id, slow: false });
        }
        true
    }

    /// In a forked child: the links are the parent's.
    pub fn leave_behind(&mut self) {
        *self = Self::new(0, None);
    }

    /// The process ends.
    pub fn close(&mut self) {
        if let Some(registry) = &mut self.registry {
            registry.leave();
        }
        self.listener = None;
        self.limit = 0;
        for peer in std::mem::take(&mut self.open) {
            self.end(peer.link.socket());
        }
        for coming in std::mem::take(&mut self.coming) {
            self.end(coming.socket());
        }
    }
}

/// Removes what processes that were killed have left. One that does not exist here may exist in another
/// process namespace: only its socket knows.
fn remove_the_dead(registry: &mut Registry) {
    for id in registry.everybody() {
        if sys::process_exists(id.pid) {
            continue;
        }
        if rendezvous::dial(&registry.socket(id)).is_err_and(|e| rendezvous::is_gone(&e)) {
            registry.forget(id);
        }
    }
}

/// With a link there is somebody to say goodbye to.
fn say_goodbye_on_signals() -> std::io::Result<()> {
    if Runtime::is_started() {
        signals::start().map_err(std::io::Error::from)?;
    }
    Ok(())
}
