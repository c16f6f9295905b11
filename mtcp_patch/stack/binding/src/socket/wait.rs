//! Blocking calls: try, and when the stack has nothing, drive it with the GIL held, then wait
//! without it.
//!
//! PEP 475: a signal's Python handler runs at once; when it returns, the wait goes on with the
//! deadline it had. The runtime never blocks in a call but `poll_wait`, which is made here only.

use mtcp_host::errno::Errno;
use mtcp_host::runtime::PollFd;
use pyo3::Python;
use std::time::{Duration, Instant};

use super::call::Call;
use super::head;
use crate::errors::Fail;
use crate::gil;
use crate::signals;

pub(super) const POLLIN: u32 = libc::POLLIN as u32;
pub(super) const POLLOUT: u32 = libc::POLLOUT as u32;

/// How long a call may wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Non-blocking: EAGAIN at once.
    Never,
    /// `settimeout(seconds)`: until then.
    Until(Instant),
    /// A blocking socket with SO_RCVTIMEO or SO_SNDTIMEO: until then, and then EAGAIN.
    Blocking(Instant),
    /// A blocking socket.
    Forever,
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Worth another try.
    Ready,
    /// A signal arrived; its Python handler has not run yet.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
    /// The socket may not wait.
    MayNot,
}

/// The wait of one call: its deadline is fixed when the call first has to wait.
pub(super) struct Wait<'a> {
    call: &'a Call,
    patience: Patience,
}

impl<'a> Wait<'a> {
    /// `dont_wait`: MSG_DONTWAIT was given. As in CPython it rules over a blocking socket but not
    /// over a timeout, whose poll() comes before the call that has the flag.
    pub fn new(call: &'a Call, events: u32, dont_wait: bool) -> Result<Self, Fail> {
        // SAFETY: the socket is of the native type and the GIL is held, as for every Call.
        let timeout_ns = unsafe { head::of(call.socket) }.timeout_ns;
        let patience = match timeout_ns {
            0 => Patience::Never,
            1.. => {
                let timeout = Duration::from_nanos(timeout_ns.unsigned_abs());
                Instant::now().checked_add(timeout).map_or(Patience::Forever, Patience::Until)
            }
            // O_NONBLOCK set on the description by os.set_blocking or fcntl, behind Python's back.
            _ if dont_wait || call.runtime().nonblocking(call.fd)? => Patience::Never,
            _ => blocking(call, events)?,
        };
        Ok(Self { call, patience })
    }

    /// Whether the call blocks until it is done (no timeout of Python's, blocking descriptor).
    pub fn is_blocking(&self) -> bool {
        matches!(self.patience, Patience::Forever | Patience::Blocking(_))
    }

    /// Whether the deadline has passed.
    pub fn is_over(&self) -> bool {
        matches!(self.patience, Patience::Until(at) | Patience::Blocking(at) if Instant::now() >= at)
    }

    /// Waits for `events` on the call's descriptor. `Fail::Raised`: a signal's handler raised.
    #[cold]
    pub fn pause(&self, events: u32) -> Result<Woken, Fail> {
        let runtime = self.call.runtime();
        let deadline = match self.patience {
            // The runtime has given the stack a turn before it said EAGAIN.
            Patience::Never => return Ok(Woken::MayNot),
            Patience::Until(at) | Patience::Blocking(at) => Some(at),
            Patience::Forever => None,
        };
        let mut fds = [PollFd { fd: self.call.fd, events, revents: 0 }];
        while runtime.poll_ready(&mut fds) == 0 {
            if self.is_over() {
                // socket(7): as if the socket had been non-blocking.
                let kernels = matches!(self.patience, Patience::Blocking(_));
                return Ok(if kernels { Woken::MayNot } else { Woken::TimedOut });
            }
            // SAFETY: as for every call of a method, the GIL is held.
            signals::before_last_look(unsafe { Python::assume_attached() });
            // A signal that came while we polled; a later one ends the sleep.
            self.call.run_handlers()?;
            // SAFETY: the GIL is held, and the closure touches no Python object.
            let woken = unsafe { gil::released(|| runtime.poll_wait(&mut fds, deadline)) };
            self.call.check_open()?;
            match woken {
                Ok(0) => {}
                Ok(_) => break,
                Err(Errno(libc::EINTR)) => return Ok(Woken::Interrupted),
                Err(e) => return Err(Fail::Errno(e)),
            }
        }
        if fds[0].revents & libc::POLLNVAL as u32 != 0 {
            // Closed by another thread meanwhile.
            return Err(Fail::errno(libc::EBADF));
        }
        Ok(Woken::Ready)
    }

    /// `pause` for a call that has done nothing yet: handlers run, errors are raised.
    pub fn pause_or_fail(&self, events: u32) -> Result<(), Fail> {
        match self.pause(events)? {
            Woken::Ready => Ok(()),
            Woken::Interrupted => self.call.run_handlers(),
            Woken::TimedOut => Err(Fail::TimedOut),
            Woken::MayNot => Err(Fail::errno(libc::EAGAIN)),
        }
    }
}

/// The patience of a blocking socket: that of SO_RCVTIMEO or SO_SNDTIMEO.
fn blocking(call: &Call, events: u32) -> Result<Patience, Errno> {
    let (receive, send) = call.runtime().timeouts(call.fd)?;
    let timeout = if events == POLLOUT { send } else { receive };
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    Ok(until.map_or(Patience::Forever, Patience::Blocking))
}

/// Repeats `attempt` until it is something other than EAGAIN, waiting in between.
#[inline]
pub(super) fn retry<T>(
    call: &Call,
    events: u32,
    dont_wait: bool,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Fail> {
    match attempt() {
        Err(Errno(libc::EAGAIN)) => {}
        other => return other.map_err(Fail::Errno),
    }
    let wait = Wait::new(call, events, dont_wait)?;
    loop {
        wait.pause_or_fail(events)?;
        match attempt() {
            Err(Errno(libc::EAGAIN)) => {}
            other => return other.map_err(Fail::Errno),
        }
    }
}
