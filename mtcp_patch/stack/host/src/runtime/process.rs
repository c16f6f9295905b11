//! The life of the process: opening devices at the first need, the end, and fork.

use std::sync::PoisonError;
use std::time::{Duration, Instant as Clock};

use super::desc::{owes_fin, Desc, Kind};
use super::devices;
use super::port::Port;
use super::shared::Sharing;
use super::state::{Inner, TcpThread};
use super::vfd::Vfd;
use super::Runtime;
use crate::errno::Errno;
use crate::sys::{self, pollfd};
use crate::xdp::XdpOptions;

/// How long the end waits for the peers to acknowledge FINs when all data is acknowledged.
const FIN_LINGER: Duration = Duration::from_millis(500);

/// A descriptor that a child has from its parent.
pub(super) struct Inherited {
    pub vfd: Vfd,
    /// FD_CLOEXEC is not set.
    pub inheritable: bool,
    pub desc: Desc,
    pub port: Option<Port>,
}

impl Runtime {
    /// Opens the devices at the first need; what could not be opened is said once on stderr.
    /// Without the lock: it may take seconds.
    pub(super) fn open_devices_once(&self) {
        let Some(said) = self.open_if_needed() else { return };
        if !said.is_empty() {
            eprintln!(
                "mtcp_patch: {}; in-process connections use our stack, all others the kernel",
                said.join("; ")
            );
        }
        if self.settings.verbose > 0 {
            for name in self.lock().devices.names() {
                eprintln!("mtcp_patch: {name} is open");
            }
        }
        // What was listening before there were devices is not steered: listen() opens them first.
    }

    /// Opens the devices now, for `--require` and `--info`.
    ///
    /// # Errors
    /// What could not be opened and why, one text.
    pub fn open_devices(&self) -> Result<(), String> {
        match self.open_if_needed() {
            Some(said) if !said.is_empty() => Err(said.join("; ")),
            _ => Ok(()),
        }
    }

    /// Opens the devices if that was not done yet; what could not be opened and is to be said.
    /// Whoever needs them meanwhile waits here, and the state stays free for everybody else.
    fn open_if_needed(&self) -> Option<Vec<String>> {
        self.lock().devices.to_open()?;
        let _one_at_a_time = self.shared.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.lock().devices.to_open()?;
        let (slots, said) = devices::open_all(&wanted, &XdpOptions::default());
        self.opened(slots, &said);
        Some(said)
    }

    /// Opens the devices if that was not done yet, and says nothing: what cannot be had is left for
    /// the next need. Whether there are any.
    pub(super) fn open_quietly(&self, how: &XdpOptions) -> bool {
        let _one_at_a_time = self.shared.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = self.lock_detached().devices.to_open() else {
            return self.lock_detached().devices.names().next().is_some();
        };
        let (slots, said) = devices::open_all(&wanted, how);
        if slots.is_empty() {
            return false;
        }
        self.opened(slots, &said);
        true
    }

    fn opened(&self, slots: Vec<devices::Slot>, said: &[String]) {
        // With a device there is something to give back when a signal ends the process.
        let goodbye = if !slots.is_empty() && Runtime::is_started() {
            super::signals::start().err()
        } else {
            None
        };
        let mut guard = self.lock_detached();
        let inner = &mut *guard;
        inner.devices.opened_all(&mut inner.shard, slots, said);
        if let Some(e) = goodbye {
            inner.devices.messages.push(format!("SIGTERM will end this process at once: {e}"));
        }
    }

    /// The process ends: every connection is closed as the kernel would close it, and what was
    /// sent is given the configured time to be acknowledged. Then devices, ports and sysctls are
    /// given back. Call it without the GIL; harmless when called again.
    pub fn shutdown_process(&self) {
        // Set before: a second call on another thread waits with the rest.
        let _ = self.shared.ending.set(std::thread::current().id());
        self.close_all();
        self.drain();
        let mut inner = self.lock();
        inner.stopping = true;
        let devices = std::mem::take(&mut inner.devices.xdp);
        inner.devices.peers.close();
        drop(inner);
        self.kick();
        if let Some(control) = &self.control {
            // Already gone is as good.
            let _ = std::fs::remove_file(&control.path);
        }
        // Detaches the steering program and gives the sysctls back.
        drop(devices);
    }

    /// Whether the process is being ended, whichever thread does it.
    pub fn is_ending(&self) -> bool {
        self.shared.ending.get().is_some()
    }

    /// Does not return when another thread is ending the process. A thread that the end finds in
    /// a wait sleeps on, as it would in the kernel: woken, it would run into EBADF and print so
    /// while the interpreter goes down. Call it without locks and without the GIL.
    pub fn sleep_on_if_ending(&self) {
        let current = std::thread::current().id();
        while self.shared.ending.get().is_some_and(|ending| *ending != current) {
            std::thread::park();
        }
    }

    fn close_all(&self) {
        let mut inner = self.lock();
        let open: Vec<Vfd> = inner.vfds.iter().map(|(vfd, _)| vfd).collect();
        for vfd in open {
            // Each is open; the loop holds the lock.
            let _ = inner.close(vfd);
        }
        inner.flush_events();
    }

    /// Drives until the closed connections are through, or their time is up.
    fn drain(&self) {
        let start = Clock::now();
        let data_until = start + Duration::from_millis(self.settings.exit_linger_ms);
        let fin_until = start + FIN_LINGER;
        let mut fds: Vec<pollfd> = Vec::new();
        loop {
            fds.clear();
            let timeout = {
                let mut inner = self.lock();
                let busy = inner.turn() || inner.peers_before_sleep();
                let (data, fin) = inner.unfinished();
                let now = Clock::now();
                let until = if data { data_until } else { fin_until.min(data_until) };
                if !(data || fin) || now >= until {
                    return;
                }
                fds.extend(inner.devices.fds().map(sys::readable));
                let due = inner.shard.next_timeout().map(|t| inner.until(t));
                let left = until - now;
                if busy {
                    Duration::ZERO
                } else {
                    due.map_or(left, |d| d.min(left))
                }
            };
            // EINTR: a handler of Python's runs later; the bound above still holds.
            let _ = sys::ppoll(&mut fds, Some(timeout));
        }
    }

    /// The process is about to fork: listeners that have served nobody go to the kernel, where the
    /// child can accept too (a pre-forking server). Other threads that hold the caller's own lock
    /// are kept out by that, and those that do not stay out until [`Runtime::after_fork_parent`], so
    /// that nobody is in the state whom the child would miss (see `sync::gate`).
    pub fn before_fork(&self) {
        let mut inner = self.shared.inner.before_fork();
        inner.hand_over_listeners();
        inner.devices.peers.withdraw_all();
    }

    /// In the parent after [`Runtime::before_fork`], also when the fork failed.
    pub fn after_fork_parent(&self) {
        self.shared.inner.after_fork();
    }

    /// In a child after fork: the parent's connections stay the parent's, its listeners go on as
    /// kernel sockets under their old numbers, and the stack starts anew at the first need.
    ///
    /// # Errors
    /// Those of [`Runtime::new`].
    pub fn after_fork_child(&self) -> Result<(), Errno> {
        // Should the lock be held by a thread that does not exist here, in spite of `before_fork`,
        // its state is unusable.
        crate::turnstile::replace();
        super::spin::forget_contenders();
        if let Some(control) = &self.control {
            control.leave_behind();
        }
        let inherited = self.shared.inner.inherited().map(|mut inner| inner.leave_behind());
        // Only at the first need: most children go on to exec, after closing every descriptor that
        // they do not know, which would take the new stack's away.
        Self::forget_global(self.settings.clone(), inherited.unwrap_or_default());
        Ok(())
    }
}

impl Inner {
    /// Whether closed connections still have data, or only FINs, to be acknowledged.
    fn unfinished(&self) -> (bool, bool) {
        self.shard.connections().fold((false, false), |(data, fin), (_, c)| {
            (data || c.unacked_bytes > 0, fin || owes_fin(c.state))
        })
    }

    /// Takes out of a parent's state what the child keeps: the descriptors and their kernel
    /// sockets. The devices' descriptors are closed here; those of the parent stay open.
    fn leave_behind(&mut self) -> Vec<Inherited> {
        self.devices.xdp.clear();
        self.devices.peers.leave_behind();
        let numbers: Vec<(Vfd, usize)> = self.vfds.iter().collect();
        let mut kept = Vec::new();
        for (vfd, index) in numbers {
            let Some(old) = self.descs.get(index) else { continue };
            let port = old.port.and_then(|p| self.ports.get(p));
            let port = if old.owns_port { port.and_then(|p| p.inherit().ok()) } else { None };
            let kind = match old.kind {
                Kind::Listener(_) | Kind::Kernel => Kind::Kernel,
                Kind::Fresh => Kind::Fresh,
                Kind::Deaf => Kind::Deaf,
                Kind::Conn { .. } | Kind::Inherited => Kind::Inherited,
            };
            let mut desc = Desc::new(old.family, kind, None, port.is_some());
            desc.nonblocking = old.nonblocking;
            desc.options = old.options;
            (desc.header_v4, desc.header_v6) = (old.header_v4, old.header_v6);
            (desc.recv_timeout, desc.send_timeout) = (old.recv_timeout, old.send_timeout);
            (desc.linger, desc.inq) = (old.linger, old.inq);
            desc.pinned = old.pinned;
            // What the program made the kernel's (`give_to_kernel`) is so for good.
            if matches!(old.kind, Kind::Listener(_)) || old.shared.is_some() {
                desc.shared = Some(Sharing::default());
            }
            let inheritable = self.vfds.inheritable(vfd).is_some_and(|on| *on);
            kept.push(Inherited { vfd, inheritable, desc, port });
        }
        self.tcp_thread = TcpThread::Ticking;
        kept
    }

    pub(super) fn adopt(&mut self, vfd: Vfd, mut desc: Desc, port: Option<Port>) {
        desc.port = port.map(|p| self.ports.insert(p));
        let index = self.descs.insert(desc);
        self.vfds.insert_at(vfd, index);
    }
}
