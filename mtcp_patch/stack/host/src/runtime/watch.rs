//! Changing interest sets: the runtime's epoll_ctl(2).

use std::os::fd::RawFd;

use super::desc::Watch;
use super::state::{Inner, Sleeper, TcpThread};
use super::vfd::Vfd;
use super::watcher::{Interest, Watcher};
use super::{Runtime, WatcherId};
use crate::errno::Errno;

const ENOENT: Errno = Errno(libc::ENOENT);

impl Inner {
    /// The kernel socket behind a description, where one must be polled besides.
    fn half(&self, index: usize) -> Option<RawFd> {
        let desc = self.descs.get(index).filter(|d| d.has_kernel_half())?;
        Some(self.port(desc).ok()?.fd())
    }

    /// An open interest set.
    #[inline]
    pub fn set(&self, w: WatcherId) -> Option<&Watcher> {
        self.watchers.get(w.index).filter(|x| x.serial == w.serial && !x.is_closed())
    }

    /// An open interest set, to be changed.
    #[inline]
    pub fn set_mut(&mut self, w: WatcherId) -> Option<&mut Watcher> {
        self.watchers.get_mut(w.index).filter(|x| x.serial == w.serial && !x.is_closed())
    }

    fn watch(&mut self, id: WatcherId, op: i32, vfd: Vfd, ev: u32, data: u64) -> Result<(), Errno> {
        let index = self.index(vfd)?;
        let present = self.set(id).ok_or(Errno(libc::EBADF))?.get(vfd).is_some();
        let w = id.index;
        match (op, present) {
            (libc::EPOLL_CTL_ADD, true) => return Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD, false) | (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, true) => {}
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, false) => return Err(ENOENT),
            _ => return Err(Errno(libc::EINVAL)),
        }
        if let (Some(fd), Some(watcher)) = (self.half(index), self.watchers.get_mut(w)) {
            watcher.kernel_half(op, fd, ev, vfd)?;
        }
        if op == libc::EPOLL_CTL_DEL {
            if let Some(watcher) = self.watchers.get_mut(w) {
                watcher.remove(vfd);
                watcher.settle();
            }
            if let Some(desc) = self.descs.get_mut(index) {
                desc.watches.retain(|x| !(x.watcher == w && x.vfd == vfd));
            }
            return Ok(());
        }
        if !present {
            if let Some(desc) = self.descs.get_mut(index) {
                desc.watches.push(Watch { watcher: w, vfd });
            }
        }
        let Some(watcher) = self.watchers.get_mut(w) else { return Err(ENOENT) };
        let queued = watcher.get(vfd).is_some_and(|e| e.queued);
        let entry = Interest { desc: index, events: ev, data, queued, disarmed: false };
        watcher.set(vfd, entry);
        if self.report(index, ev) != 0 {
            if let Some(watcher) = self.watchers.get_mut(w) {
                watcher.candidate(vfd);
            }
        }
        Ok(())
    }
}

impl Runtime {
    /// A new interest set. `epfd` is a real epoll, owned by the caller for as long as the set
    /// lives, in which kernel sockets behind virtual descriptors are registered with the virtual
    /// number as their data.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    pub fn watcher(&self, epfd: Option<RawFd>) -> Result<WatcherId, Errno> {
        let mut watcher = Watcher::new(epfd)?;
        let mut inner = self.lock();
        inner.last_serial = inner.last_serial.wrapping_add(1);
        watcher.serial = inner.last_serial;
        let serial = watcher.serial;
        Ok(WatcherId { index: inner.watchers.insert(watcher), serial })
    }

    /// Adds, changes or removes a virtual descriptor: `op` is EPOLL_CTL_ADD, MOD or DEL, `events`
    /// epoll's bits with EPOLLET and EPOLLONESHOT.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EBADF, EINVAL as epoll_ctl(2).
    pub fn watch(
        &self,
        w: WatcherId,
        op: i32,
        vfd: Vfd,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let mut inner = self.lock();
        if op == libc::EPOLL_CTL_ADD && inner.is_due(vfd) {
            drop(inner);
            self.take_over(vfd);
            inner = self.lock();
        }
        inner.watch(w, op, vfd, events, data)
    }

    /// The set's eventfd, for somebody else's poll: from now on it is readable exactly while
    /// candidates wait. It is also registered in the set's epoll, under [`super::WATCHER_TOKEN`].
    pub fn watcher_fd(&self, w: WatcherId) -> RawFd {
        let mut inner = self.lock();
        let Some(watcher) = inner.set_mut(w) else { return -1 };
        if watcher.export() {
            // A full epoll (ENOSPC) costs the nested wake-up, not this set's own; without an epoll
            // (EINVAL) there is none to nest.
            let _ = watcher.join_epoll();
        }
        watcher.settle();
        watcher.fd()
    }

    /// Puts the set's wake-up into its epoll for a foreign event loop, which sleeps on that epoll
    /// and says so ([`Runtime::foreign_sleep`]): only then are candidates signalled, so that a
    /// loop that finds enough to do pays no system call for them.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watcher_join(&self, w: WatcherId) -> Result<(), Errno> {
        let inner = self.lock();
        inner.set(w).ok_or(Errno(libc::EBADF))?.join_epoll()
    }

    /// How many kernel sockets behind the set's descriptors its epoll must be asked for.
    pub fn watcher_halves(&self, w: WatcherId) -> usize {
        self.lock().set(w).map_or(0, |w| w.halves.len())
    }

    /// Ends an interest set; a thread that waits on it gets EBADF.
    pub fn watcher_close(&self, w: WatcherId) {
        let mut inner = self.lock();
        let Some(watcher) = inner.set_mut(w) else { return };
        let descs: Vec<usize> = watcher.vfds().map(|(_, e)| e.desc).collect();
        if watcher.close() {
            inner.watchers.try_remove(w.index);
        }
        for d in descs {
            if let Some(desc) = inner.descs.get_mut(d) {
                desc.watches.retain(|x| x.watcher != w.index);
            }
        }
        if inner.sleeper.is_some_and(|s| s.foreign && s.watcher == w.index) {
            // Its loop will not come back to say that it has woken.
            inner.sleeper = None;
            self.ensure_driver(inner);
        }
    }

    /// What a foreign event loop must poll for reading besides the set's eventfd.
    pub fn device_fds(&self) -> Vec<RawFd> {
        let mut inner = self.lock();
        if !inner.layout.application_drives() {
            return Vec::new();
        }
        let fds: Vec<RawFd> = inner.devices.fds().collect();
        inner.devices.lent |= !fds.is_empty();
        fds
    }

    /// Drives the stack once. True when work remains.
    pub fn turn(&self) -> bool {
        self.lock().app_turn()
    }

    /// A foreign event loop is about to sleep on the devices and on the set's eventfd (`begin`),
    /// or has woken. While it sleeps the stack's timers are the TCP thread's.
    pub fn foreign_sleep(&self, w: WatcherId, begin: bool) {
        let mut inner = self.lock();
        let Some(watcher) = inner.set_mut(w) else { return };
        watcher.foreign_sleep(begin);
        if begin {
            if inner.sleeper.is_some() || !inner.layout.application_drives() {
                return;
            }
            inner.sleeper = Some(Sleeper { watcher: w.index, until: None, foreign: true });
            if inner.peers_before_sleep() {
                if let Some(watcher) = inner.set_mut(w) {
                    watcher.signal();
                }
            }
            let due = inner.shard.next_timeout();
            let armed = inner.tcp_until;
            if due.is_some_and(|d| armed.is_none_or(|a| d < a)) {
                self.ensure_driver(inner);
            }
        } else if inner.sleeper.is_some_and(|s| s.foreign && s.watcher == w.index) {
            inner.sleeper = None;
            if inner.tcp_thread != TcpThread::Driving {
                inner.peers_after_sleep();
            }
            if inner.tcp_thread == TcpThread::Dormant {
                self.ensure_driver(inner);
            }
        }
    }
}
