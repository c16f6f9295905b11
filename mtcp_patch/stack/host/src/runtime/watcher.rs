//! Interest sets. Every epoll object, blocked thread and foreign event loop has one of its own:
//! shared ones lose wake-ups, because whoever is woken first eats the event of the other.
//!
//! A watcher's `ready` queue holds candidates: descriptors about which something may have
//! changed. Whether they are ready is asked of the description when they are collected, so a
//! stale candidate costs a look and never a wrong answer.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::spin::Contending;
use super::vfd::{Vfd, VFD_BASE};
use crate::errno::Errno;
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
    pub eventfd: OwnedFd,
    interest: Vec<Option<Interest>>,
    pub len: usize,
    pub ready: VecDeque<Vfd>,
    /// A thread sleeps on `eventfd` now.
    pub sleeping: bool,
    /// Somebody else polls `eventfd` (a nested epoll, a foreign loop): keep it readable exactly
    /// while candidates wait.
    pub exported: bool,
    /// Serves one blocked call, which looks at its few descriptors itself: any news wakes it, and
    /// no interest is kept.
    pub waiter: bool,
    /// Kernel sockets behind virtual descriptors that are registered in `epfd`.
    pub halves: usize,
    /// Counts this set's sleeper among those who want to run, from its wake-up on.
    contending: Option<Contending>,
    signaled: bool,
}

impl Watcher {
    /// An empty set.
    pub fn new(epfd: Option<RawFd>) -> Result<Self, Errno> {
        Ok(Self {
            epfd,
            eventfd: sys::eventfd()?,
            interest: Vec::new(),
            len: 0,
            ready: VecDeque::new(),
            sleeping: false,
            exported: false,
            waiter: false,
            halves: 0,
            contending: None,
            signaled: false,
        })
    }

    /// The wake-up's descriptor.
    pub fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
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
            if self.sleeping {
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
        if self.sleeping || self.exported {
            self.signal();
        }
    }

    /// Registers, changes or removes a kernel socket behind `vfd` in the set's epoll. A socket that
    /// a duplicate brought in already, or that the kernel forgot by itself, is no error.
    pub fn kernel_half(&mut self, op: i32, fd: RawFd, events: u32, vfd: Vfd) -> Result<(), Errno> {
        let Some(epfd) = self.epfd else { return Ok(()) };
        match sys::epoll_ctl(epfd, op, fd, events & READINESS | events & (ONESHOT | ET), vfd as u64)
        {
            Ok(()) if op == libc::EPOLL_CTL_ADD => self.halves += 1,
            Ok(()) if op == libc::EPOLL_CTL_DEL => self.halves = self.halves.saturating_sub(1),
            Ok(()) | Err(Errno(libc::EEXIST | libc::ENOENT)) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Makes the eventfd readable; one system call for any number of candidates.
    pub fn signal(&mut self) {
        if !self.signaled {
            self.signaled = true;
            if self.sleeping {
                self.contending = Some(Contending::begin());
            }
            sys::eventfd_signal(&self.eventfd);
        }
    }

    /// The thread that slept on this set has left its sleep.
    pub fn awake(&mut self) {
        self.sleeping = false;
        self.contending = None;
        self.settle();
    }

    /// Brings the eventfd into line with the candidates after a collection or a sleep.
    pub fn settle(&mut self) {
        if (self.exported || self.sleeping) && !self.ready.is_empty() {
            self.signal();
        } else if self.signaled {
            self.signaled = false;
            sys::eventfd_drain(&self.eventfd);
        }
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
