//! Waiting: poll and select, blocked socket calls, and epoll-like watchers.
//!
//! A thread that must wait first drives the stack and polls a short, adaptive time. Then it
//! sleeps: the first one to sleep does so on the devices too, on everybody's behalf (the
//! *sleeper*), and drives when it wakes; others sleep on their own eventfd, which a driver
//! signals when their descriptor has news.

use std::time::{Duration, Instant as Clock};

use super::state::{Inner, Sleeper, TcpThread};
use super::vfd::{is_virtual, Vfd};
use super::watcher::{Watcher, ALWAYS, NVAL};
use super::{Runtime, WaitOutcome, WatcherId};
use crate::errno::Errno;
use crate::interrupt;
use crate::runtime::desc::Watch;
use crate::sys::{self, pollfd};

/// Waiters, each with an eventfd, that are kept for the next blocked calls.
const MAX_IDLE_WAITERS: usize = 4;

/// How often a thread that can have no eventfd looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A way into a sleep, for the way out of it.
struct Sleep {
    /// `None`: without end.
    timeout: Option<Duration>,
    /// On the devices too.
    driver: bool,
    /// The stack has work: no sleep, only a look at signals and at the kernel's descriptors, which
    /// must not starve under a flood.
    in_passing: bool,
}

/// One descriptor of a [`Runtime::poll_ready`] call, with poll(2)'s bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct PollFd {
    /// A kernel or a virtual descriptor.
    pub fd: i32,
    /// What is asked for.
    pub events: u32,
    /// What was found.
    pub revents: u32,
}

impl Inner {
    /// Looks at the virtual entries; the number that have something to report.
    fn scan(&self, fds: &mut [PollFd]) -> usize {
        let mut found = 0;
        for entry in fds.iter_mut().filter(|e| is_virtual(e.fd)) {
            entry.revents = match self.desc(entry.fd) {
                Ok(desc) => self.readiness(desc) & (entry.events | ALWAYS),
                Err(_) => NVAL,
            };
            found += usize::from(entry.revents != 0);
        }
        found
    }

    /// `scan` for the waiter `index`: what was closed under it is not what has the number now.
    fn scan_as(&self, index: usize, fds: &mut [PollFd]) -> usize {
        let mut found = self.scan(fds);
        let gone = self.watchers.get(index).map_or(&[][..], |w| w.gone.as_slice());
        for entry in fds.iter_mut().filter(|e| gone.contains(&e.fd)) {
            found += usize::from(entry.revents == 0);
            entry.revents = NVAL;
        }
        found
    }

    /// The kernel descriptors that must be polled for these entries: themselves, or the kernel
    /// half of a virtual one. Index in `fds`, descriptor, events.
    fn kernel_part(&self, fds: &[PollFd], out: &mut Vec<(usize, pollfd)>) {
        for (i, entry) in fds.iter().enumerate() {
            let fd = if is_virtual(entry.fd) {
                let Ok(desc) = self.desc(entry.fd) else { continue };
                if !desc.has_kernel_half() {
                    continue;
                }
                let Ok(port) = self.port(desc) else { continue };
                port.fd()
            } else {
                entry.fd
            };
            out.push((i, pollfd { fd, events: entry.events as u16 as i16, revents: 0 }));
        }
    }

    /// No entry has anything to do with the kernel.
    fn only_ours(&self, fds: &[PollFd]) -> bool {
        fds.iter()
            .all(|e| is_virtual(e.fd) && self.desc(e.fd).is_ok_and(|desc| !desc.has_kernel_half()))
    }

    /// Takes a watcher for a blocked call and registers it with the entries' descriptions.
    fn attach_waiter(&mut self, fds: &[PollFd]) -> Result<usize, Errno> {
        let index = match self.idle_waiters.pop() {
            Some(index) => index,
            None => {
                let mut w = Watcher::new(None)?;
                w.waiter = true;
                self.watchers.insert(w)
            }
        };
        for entry in fds.iter().filter(|e| is_virtual(e.fd)) {
            if let Ok(desc) = self.desc_mut(entry.fd) {
                desc.watches.push(Watch { watcher: index, vfd: entry.fd });
            }
        }
        Ok(index)
    }

    fn detach_waiter(&mut self, index: usize, descs: &[usize]) {
        for &d in descs {
            if let Some(desc) = self.descs.get_mut(d) {
                desc.watches.retain(|w| w.watcher != index);
            }
        }
        if let Some(w) = self.watchers.get_mut(index) {
            w.gone.clear();
            w.settle();
        }
        if self.idle_waiters.len() < MAX_IDLE_WAITERS {
            self.idle_waiters.push(index);
        } else {
            self.watchers.try_remove(index);
        }
    }

    /// Prepares to sleep as the watcher `index`: becomes the sleeper if there is none. Fills
    /// `fds` with what to sleep on. `busy`: the stack has work.
    fn enter_sleep(
        &mut self,
        index: usize,
        deadline: Option<Clock>,
        busy: bool,
        fds: &mut Vec<pollfd>,
    ) -> Sleep {
        let driver = self.sleeper.is_none() && self.layout.application_drives();
        if busy || (driver && self.peers_before_sleep()) {
            return Sleep { timeout: Some(Duration::ZERO), driver: false, in_passing: true };
        }
        if let Some(w) = self.watchers.get_mut(index) {
            w.asleep();
            fds.push(sys::readable(w.fd()));
        }
        let mut timeout = deadline.map(|d| d.saturating_duration_since(Clock::now()));
        if driver {
            let until = self.shard.next_timeout();
            self.sleeper = Some(Sleeper { watcher: index, until, foreign: false });
            fds.extend(self.devices.fds().map(sys::readable));
            if let Some(due) = until.map(|at| self.until(at)) {
                timeout = Some(timeout.map_or(due, |t| t.min(due)));
            }
        }
        Sleep { timeout, driver, in_passing: false }
    }

    /// Undoes `enter_sleep`. Wakes the TCP thread when nobody sleeps on the devices any more and it
    /// does not look by itself.
    fn leave_sleep(&mut self, index: usize, sleep: &Sleep) {
        if sleep.in_passing {
            return;
        }
        if self.watchers.get_mut(index).is_some_and(Watcher::awake) {
            self.watchers.try_remove(index);
        }
        if !sleep.driver {
            return;
        }
        self.sleeper = None;
        if self.tcp_thread != TcpThread::Driving {
            self.peers_after_sleep();
        }
        if self.tcp_thread == TcpThread::Dormant {
            self.wake_tcp_thread();
        }
    }

    /// Collects at most `max` events of a watcher into `out`.
    fn collect(&mut self, id: WatcherId, max: usize, out: &mut Vec<(Vfd, u32, u64)>) -> usize {
        let Some(looks) = self.set(id).map(|w| w.ready.len()) else { return 0 };
        let index = id.index;
        let mut found = 0;
        for _ in 0..looks {
            if found == max {
                break;
            }
            let Some(w) = self.watchers.get_mut(index) else { break };
            let Some(vfd) = w.ready.pop_front() else { break };
            let Some(entry) = w.get_mut(vfd) else { continue };
            entry.queued = false;
            let (desc, events, data) = (entry.desc, entry.events, entry.data);
            if entry.disarmed {
                continue;
            }
            let mask = self.report(desc, events);
            if mask == 0 {
                self.look_for_connection(desc);
                continue;
            }
            out.push((vfd, mask, data));
            found += 1;
            if let Some(w) = self.watchers.get_mut(index) {
                w.reported(vfd);
            }
        }
        if let Some(w) = self.watchers.get_mut(index) {
            w.settle();
        }
        found
    }
}

impl Runtime {
    /// Drives the stack, then looks at all entries (poll(2) with timeout 0). The number of entries
    /// with `revents`. Call it with the GIL.
    pub fn poll_look(&self, fds: &mut [PollFd]) -> usize {
        let mut kernel = Vec::new();
        let found = {
            let mut inner = self.lock();
            inner.app_turn();
            inner.kernel_part(fds, &mut kernel);
            inner.scan(fds)
        };
        if kernel.is_empty() {
            return found;
        }
        poll_kernel(fds, &mut kernel, Some(Duration::ZERO)).unwrap_or(found)
    }

    /// As [`Runtime::poll_look`]; when nothing is ready, and all entries are on our stack, it keeps
    /// looking for a short, adaptive time.
    pub fn poll_ready(&self, fds: &mut [PollFd]) -> usize {
        let found = self.poll_look(fds);
        if found > 0 || !self.lock().only_ours(fds) {
            return found;
        }
        self.spin.run(|| {
            let mut inner = self.lock();
            inner.app_turn();
            inner.scan(fds)
        })
    }

    /// Sleeps until an entry is ready or `deadline` passes (0). Call it without the GIL.
    ///
    /// # Errors
    /// EINTR after a signal handler ran.
    pub fn poll_wait(&self, fds: &mut [PollFd], deadline: Option<Clock>) -> Result<usize, Errno> {
        let mut descs: Vec<usize> = Vec::new();
        let index = {
            let mut inner = self.lock_detached();
            if let Some(vfd) = inner.due_among(fds) {
                drop(inner);
                self.take_over(vfd);
                inner = self.lock_detached();
            }
            descs.extend(fds.iter().filter_map(|e| inner.index(e.fd).ok()));
            inner.attach_waiter(fds)
        };
        let index = match index {
            Ok(index) => index,
            Err(Errno(libc::EMFILE | libc::ENFILE)) => {
                return self.poll_wait_looking(fds, deadline)
            }
            Err(e) => return Err(e),
        };
        let result = self.poll_wait_attached(index, fds, deadline);
        self.lock_detached().detach_waiter(index, &descs);
        self.sleep_on_if_ending();
        result
    }

    /// `poll_wait` for want of a descriptor for the wake-up: looks again and again.
    fn poll_wait_looking(
        &self,
        fds: &mut [PollFd],
        deadline: Option<Clock>,
    ) -> Result<usize, Errno> {
        let mut kernel = Vec::new();
        loop {
            kernel.clear();
            let found = {
                let mut inner = self.lock_detached();
                inner.app_turn();
                inner.kernel_part(fds, &mut kernel);
                inner.scan(fds)
            };
            let left = deadline.map(|d| d.saturating_duration_since(Clock::now()));
            let pause = if found > 0 { Duration::ZERO } else { LOOK_EVERY };
            let pause = left.map_or(pause, |left| left.min(pause));
            let found = poll_kernel(fds, &mut kernel, Some(pause));
            self.sleep_on_if_ending();
            let found = found?;
            if found > 0 || left.is_some_and(|left| left.is_zero()) {
                return Ok(found);
            }
        }
    }

    fn poll_wait_attached(
        &self,
        index: usize,
        fds: &mut [PollFd],
        deadline: Option<Clock>,
    ) -> Result<usize, Errno> {
        let mut kernel = Vec::new();
        let mut sleep_fds: Vec<pollfd> = Vec::new();
        loop {
            kernel.clear();
            sleep_fds.clear();
            let sleep = {
                let mut inner = self.lock_detached();
                let busy = inner.app_turn();
                let found = inner.scan_as(index, fds);
                inner.kernel_part(fds, &mut kernel);
                if found > 0 {
                    drop(inner);
                    return poll_kernel(fds, &mut kernel, Some(Duration::ZERO));
                }
                inner.look_for_connections(fds);
                inner.enter_sleep(index, deadline, busy, &mut sleep_fds)
            };
            let own = sleep_fds.len();
            sleep_fds.extend(kernel.iter().map(|(_, p)| *p));
            let slept = interrupt::ppoll(&mut sleep_fds, sleep.timeout);
            for ((_, k), s) in kernel.iter_mut().zip(sleep_fds.iter().skip(own)) {
                k.revents = s.revents;
            }
            self.lock_detached().leave_sleep(index, &sleep);
            slept?;
            let found = merge_kernel(fds, &kernel);
            if found > 0 {
                return Ok(found);
            }
            if deadline.is_some_and(|d| Clock::now() >= d) {
                let mut inner = self.lock_detached();
                inner.app_turn();
                return Ok(inner.scan_as(index, fds));
            }
        }
    }

    /// Drives the stack and collects what the watcher's descriptors have to report. Call it with
    /// the GIL; it never sleeps.
    pub fn watcher_ready(&self, w: WatcherId, max: usize, out: &mut Vec<(Vfd, u32, u64)>) -> usize {
        let mut inner = self.lock();
        inner.app_turn();
        inner.collect(w, max, out)
    }

    /// As [`Runtime::watcher_ready`], and polls for the short, adaptive time before it gives up.
    pub fn watcher_spin(&self, w: WatcherId, max: usize, out: &mut Vec<(Vfd, u32, u64)>) -> usize {
        self.spin.run(|| self.watcher_ready(w, max, out))
    }

    /// Sleeps until the watcher has something to report, its epoll has kernel events, or
    /// `deadline` passes. Call it without the GIL.
    ///
    /// # Errors
    /// EINTR after a signal handler ran; EBADF for a closed watcher.
    pub fn watcher_wait(
        &self,
        w: WatcherId,
        max: usize,
        out: &mut Vec<(Vfd, u32, u64)>,
        deadline: Option<Clock>,
    ) -> Result<WaitOutcome, Errno> {
        let result = self.watcher_wait_open(w, max, out, deadline);
        self.sleep_on_if_ending();
        result
    }

    fn watcher_wait_open(
        &self,
        w: WatcherId,
        max: usize,
        out: &mut Vec<(Vfd, u32, u64)>,
        deadline: Option<Clock>,
    ) -> Result<WaitOutcome, Errno> {
        let mut sleep_fds: Vec<pollfd> = Vec::new();
        loop {
            sleep_fds.clear();
            let (sleep, epfd) = {
                let mut inner = self.lock_detached();
                let busy = inner.app_turn();
                let events = inner.collect(w, max, out);
                if events > 0 {
                    return Ok(WaitOutcome { events, kernel: false });
                }
                let epfd = inner.set(w).ok_or(Errno(libc::EBADF))?.epfd;
                (inner.enter_sleep(w.index, deadline, busy, &mut sleep_fds), epfd)
            };
            // Last, so that its answer is found without counting the devices.
            sleep_fds.push(sys::readable(epfd.unwrap_or(-1)));
            let slept = interrupt::ppoll(&mut sleep_fds, sleep.timeout);
            self.lock_detached().leave_sleep(w.index, &sleep);
            slept?;
            let kernel = sleep_fds.last().is_some_and(|p| p.revents != 0);
            let late = deadline.is_some_and(|d| Clock::now() >= d);
            if kernel || late {
                let mut inner = self.lock_detached();
                inner.app_turn();
                let events = inner.collect(w, max, out);
                return Ok(WaitOutcome { events, kernel });
            }
        }
    }
}

/// poll(2) on the kernel part, merged into the entries; counts all entries that report.
fn poll_kernel(
    fds: &mut [PollFd],
    kernel: &mut [(usize, pollfd)],
    timeout: Option<Duration>,
) -> Result<usize, Errno> {
    if !kernel.is_empty() || timeout != Some(Duration::ZERO) {
        let mut raw: Vec<pollfd> = kernel.iter().map(|(_, p)| *p).collect();
        if timeout == Some(Duration::ZERO) {
            sys::ppoll(&mut raw, timeout)?;
        } else {
            interrupt::ppoll(&mut raw, timeout)?;
        }
        for ((_, k), r) in kernel.iter_mut().zip(&raw) {
            k.revents = r.revents;
        }
    }
    Ok(merge_kernel(fds, kernel))
}

fn merge_kernel(fds: &mut [PollFd], kernel: &[(usize, pollfd)]) -> usize {
    for (i, p) in kernel {
        if let Some(entry) = fds.get_mut(*i) {
            let found = u32::from(p.revents as u16);
            entry.revents = if is_virtual(entry.fd) { entry.revents | found } else { found };
        }
    }
    fds.iter().filter(|e| e.revents != 0).count()
}
