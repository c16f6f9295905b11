//! Interest sets. Every epoll object, blocked thread and foreign event loop has one of its own:
//! shared ones lose wake-ups, because whoever is woken first eats the event of the other.
//!
//! A watcher's `ready` queue holds candidates: descriptors about which something may have
//! changed. Whether they are ready is asked of the description when they are collected, so a
//! stale candidate costs a look and never a wrong answer.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};

use super::spin::Contending;
use super::vfd::{Vfd, VFD_BASE};
use super::WATCHER_TOKEN;
use crate::errno::Errno;
use crate::runtime_fd::RuntimeFd;
use crate::sync::bell::{Bell, Wake};
use crate::sys;

/// poll(2) and epoll(7) share these values.
pub(super) const IN: u32 = libc::EPOLLIN as u32;
pub(super) const OUT: u32 = libc::EPOLLOUT as u32;
pub(super) const ERR: u32 = libc::EPOLLERR as u32;
pub(super) const HUP: u32 = libc::EPOLLHUP as u32;
pub(super) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub(super) const NVAL: u32 = libc::POLLNVAL as u32;
pub(super) const ET: u32 = libc::EPOLLET as u32;
pub(super) const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
/// Reported whether or not they were asked for.
pub(super) const ALWAYS: u32 = ERR | HUP;
/// The bits that stand for readiness, of the bits that a caller may pass.
pub(super) const READINESS: u32 = 0xffff | RDHUP;

/// What one descriptor's entry in a watcher asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interest {
    pub desc: usize,
    pub events: u32,
    pub data: u64,
    /// Already in `ready`.
    pub queued: bool,
    /// One-shot and reported: silent until modified.
    pub disarmed: bool,
}

/// An interest set with its candidates and its wake-up.
pub(super) struct Watcher {
    /// A real epoll in which kernel halves of virtual descriptors are registered.
    pub epfd: Option<RawFd>,
    bell: Bell<RuntimeFd>,
    interest: Vec<Option<Interest>>,
    pub len: usize,
    pub ready: VecDeque<Vfd>,
    /// Tells this set from an earlier one at the same place in the slab.
    pub serial: u32,
    /// Serves one blocked call, which looks at its few descriptors itself: any news wakes it, and
    /// no interest is kept.
    pub waiter: bool,
    /// Of a `waiter`: descriptors that were closed while it waited. Their numbers may belong to
    /// somebody else by now.
    pub gone: Vec<Vfd>,
    /// Kernel sockets behind virtual descriptors that are registered in `epfd`.
    /// Each with its own number where a duplicate has the socket's.
    pub halves: HashMap<Vfd, Option<RuntimeFd>>,
    /// Counts this set's sleeper among those who want to run, from its wake-up on.
    contending: Option<Contending>,
}

impl Wake for RuntimeFd {
    fn raise(&self) {
        sys::eventfd_signal(self);
    }

    fn lower(&self) {
        sys::eventfd_drain(self);
    }
}

impl Watcher {
    /// An empty set.
    pub fn new(epfd: Option<RawFd>) -> Result<Self, Errno> {
        Ok(Self {
            epfd,
            bell: Bell::new(sys::eventfd()?),
            interest: Vec::new(),
            len: 0,
            ready: VecDeque::new(),
            serial: 0,
            waiter: false,
            gone: Vec::new(),
            halves: HashMap::new(),
            contending: None,
        })
    }

    /// Registers the wake-up in the set's own epoll, under [`WATCHER_TOKEN`].
    pub fn join_epoll(&self) -> Result<(), Errno> {
        let epfd = self.epfd.ok_or(Errno(libc::EINVAL))?;
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, self.fd(), IN, WATCHER_TOKEN)
    }

    /// The wake-up's descriptor.
    pub fn fd(&self) -> RawFd {
        self.bell.event.as_raw_fd()
    }

    fn index(vfd: Vfd) -> usize {
        usize::try_from(vfd - VFD_BASE).unwrap_or(usize::MAX)
    }

    /// The entry of a descriptor.
    #[inline]
    pub fn get(&self, vfd: Vfd) -> Option<&Interest> {
        self.interest.get(Self::index(vfd))?.as_ref()
    }

    /// The entry of a descriptor, to be changed.
    #[inline]
    pub fn get_mut(&mut self, vfd: Vfd) -> Option<&mut Interest> {
        self.interest.get_mut(Self::index(vfd))?.as_mut()
    }

    /// Adds or replaces an entry. `vfd` must be open, which bounds the vector by the table's size.
    pub fn set(&mut self, vfd: Vfd, interest: Interest) {
        let index = Self::index(vfd);
        if self.interest.len() <= index {
            self.interest.resize(index + 1, None);
        }
        if let Some(slot) = self.interest.get_mut(index) {
            if slot.is_none() {
                self.len += 1;
            }
            *slot = Some(interest);
        }
    }

    /// Forgets a descriptor; its place in `ready` is dropped when it is next looked at.
    pub fn remove(&mut self, vfd: Vfd) -> Option<Interest> {
        self.halves.remove(&vfd);
        let old = self.interest.get_mut(Self::index(vfd))?.take();
        if old.is_some() {
            self.len -= 1;
            self.ready.retain(|&v| v != vfd);
        }
        old
    }

    /// The registered descriptors.
    pub fn vfds(&self) -> impl Iterator<Item = (Vfd, &Interest)> + '_ {
        self.interest
            .iter()
            .enumerate()
            .filter_map(|(i, e)| e.as_ref().map(|e| (VFD_BASE + i as i32, e)))
    }

    /// Something may have changed for `vfd`: look at it at the next collection.
    #[inline]
    pub fn candidate(&mut self, vfd: Vfd) {
        if self.waiter {
            if self.bell.is_slept_on() {
                self.signal();
            }
            return;
        }
        let Some(entry) = self.get_mut(vfd) else { return };
        if entry.disarmed || entry.queued {
            return;
        }
        entry.queued = true;
        self.ready.push_back(vfd);
        let rang = self.bell.news();
        self.count_contender(rang);
    }

    /// Registers, changes or removes a kernel socket behind `vfd` in the set's epoll. A duplicated
    /// descriptor has the same kernel socket, which the epoll takes once only under one number, so
    /// the second one is registered by a number of its own, as it is in the kernel.
    pub fn kernel_half(&mut self, op: i32, fd: RawFd, events: u32, vfd: Vfd) -> Result<(), Errno> {
        let Some(epfd) = self.epfd else { return Ok(()) };
        let events = events & READINESS | events & (ONESHOT | ET);
        if op == libc::EPOLL_CTL_ADD {
            if self.halves.contains_key(&vfd) {
                return Ok(());
            }
            let own = match sys::epoll_ctl(epfd, op, fd, events, vfd as u64) {
                Ok(()) => None,
                Err(Errno(libc::EEXIST)) => {
                    let own = sys::dup(fd)?;
                    sys::epoll_ctl(epfd, op, own.as_raw_fd(), events, vfd as u64)?;
                    Some(own)
                }
                Err(e) => return Err(e),
            };
            self.halves.insert(vfd, own);
            return Ok(());
        }
        let Some(own) = self.halves.get(&vfd) else { return Ok(()) };
        let fd = own.as_ref().map_or(fd, |own| own.as_raw_fd());
        let done = sys::epoll_ctl(epfd, op, fd, events, vfd as u64);
        if op == libc::EPOLL_CTL_DEL {
            self.halves.remove(&vfd);
        }
        match done {
            // The kernel forgot it by itself.
            Err(Errno(libc::ENOENT)) => Ok(()),
            other => other,
        }
    }

    /// Makes the eventfd readable; one system call for any number of candidates.
    pub fn signal(&mut self) {
        let rang = self.bell.ring();
        self.count_contender(rang);
    }

    fn count_contender(&mut self, rang: bool) {
        if rang && self.bell.is_slept_on() {
            self.contending = Some(Contending::begin());
        }
    }

    /// Whether the set has ended while threads slept on it; it stays until the last one has woken.
    pub fn is_closed(&self) -> bool {
        self.bell.is_closed()
    }

    /// Somebody else polls the eventfd from now on. False when somebody did.
    pub fn export(&mut self) -> bool {
        self.bell.export()
    }

    /// A thread is about to sleep on this set.
    pub fn asleep(&mut self) {
        self.bell.asleep();
    }

    /// A thread that slept on this set has left its sleep. True when the set was closed meanwhile
    /// and this was the last one.
    pub fn awake(&mut self) -> bool {
        self.contending = None;
        self.bell.awake();
        self.settle();
        self.bell.is_over()
    }

    /// A foreign event loop is about to sleep on this set, or has woken.
    pub fn foreign_sleep(&mut self, begin: bool) {
        self.bell.foreign_sleep(begin);
        self.settle();
    }

    /// Ends the set: it reports nothing any more, and whoever sleeps on it wakes. True when it can
    /// go at once; else the last sleeper removes it, so that its eventfd and its place in the slab
    /// are nobody else's while they sleep.
    pub fn close(&mut self) -> bool {
        self.interest.clear();
        self.halves.clear();
        self.ready.clear();
        self.len = 0;
        self.bell.close();
        self.signal();
        self.bell.is_over()
    }

    /// Brings the eventfd into line with the candidates after a collection or a sleep.
    pub fn settle(&mut self) {
        let rang = self.bell.settle(!self.ready.is_empty());
        self.count_contender(rang);
    }
}

impl Watcher {
    /// An event of `vfd` was handed out: one-shot falls silent, edge-triggered waits for news,
    /// level-triggered goes to the end of the queue to be looked at again.
    pub fn reported(&mut self, vfd: Vfd) {
        let Some(entry) = self.get_mut(vfd) else { return };
        if entry.events & ONESHOT != 0 {
            entry.disarmed = true;
        } else if entry.events & ET == 0 {
            entry.queued = true;
            self.ready.push_back(vfd);
        }
    }
}
