//! `select.poll()` over both kinds of descriptor.
//!
//! Owns the registered descriptors of one poll object, in the order of their registration. Called by
//! programs, `selectors.PollSelector`, `subprocess` and `socketserver`. As long as no virtual
//! descriptor is registered it is `poll(2)` itself; with one, the runtime waits for both kinds.
//! What never happens here: a virtual number reaching the kernel; two threads inside one object's
//! `poll()` (CPython forbids it, and its error is raised).

use crate::args::{self, Given, Timeout};
use crate::events::pair_list;
use crate::signals;
use mtcp_host::errno::Errno;
use mtcp_host::runtime::{is_virtual, PollFd, Runtime};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const DEFAULT_MASK: u16 = (libc::POLLIN | libc::POLLPRI | libc::POLLOUT) as u16;

/// What a poll object has registered. Locked only with the GIL held, never across a wait.
#[derive(Default)]
struct Interest {
    /// In order of registration; removed ones have `fd` -1 until the next `poll()`.
    fds: Vec<PollFd>,
    index: HashMap<i32, usize>,
    removed: usize,
    virtuals: usize,
}

impl Interest {
    fn set(&mut self, fd: i32, events: u16) {
        if let Some(entry) = self.index.get(&fd).and_then(|&i| self.fds.get_mut(i)) {
            entry.events = events.into();
            return;
        }
        self.index.insert(fd, self.fds.len());
        self.fds.push(PollFd { fd, events: events.into(), revents: 0 });
        self.virtuals += usize::from(is_virtual(fd));
    }

    fn remove(&mut self, fd: i32) -> bool {
        let Some(i) = self.index.remove(&fd) else { return false };
        if let Some(entry) = self.fds.get_mut(i) {
            entry.fd = -1;
        }
        self.removed += 1;
        self.virtuals -= usize::from(is_virtual(fd));
        true
    }

    /// Drops removed entries; the order of the others stays, as a dict's would.
    fn compact(&mut self) {
        if self.removed == 0 {
            return;
        }
        self.fds.retain(|entry| entry.fd >= 0);
        self.removed = 0;
        for (i, entry) in self.fds.iter().enumerate() {
            self.index.insert(entry.fd, i);
        }
    }
}

/// A poll object; made by `select.poll()`.
#[pyclass(name = "poll", module = "select", frozen)]
#[derive(Default)]
pub struct Poll {
    interest: Mutex<Interest>,
    /// The array that the last `poll()` worked on, kept for its memory.
    scratch: Mutex<Vec<PollFd>>,
    polling: AtomicBool,
}

/// Returns a polling object.
///
/// This object supports registering and unregistering file descriptors, and then polling them for
/// I/O events.
#[pyfunction]
#[pyo3(name = "poll")]
pub fn poll_object() -> Poll {
    Poll::default()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `poll(2)` over `fds`, results into their `revents`. Sleeps: without the GIL.
fn poll_kernel(fds: &mut [PollFd], timeout_ms: i32) -> Result<usize, Errno> {
    let mut raw: Vec<libc::pollfd> = fds
        .iter()
        .map(|f| libc::pollfd { fd: f.fd, events: f.events as i16, revents: 0 })
        .collect();
    // SAFETY: `raw` lives for the call and has the length given.
    let n = unsafe { libc::poll(raw.as_mut_ptr(), raw.len() as libc::nfds_t, timeout_ms) };
    if n < 0 {
        return Err(Errno::last());
    }
    for (f, r) in fds.iter_mut().zip(&raw) {
        f.revents = u32::from(r.revents as u16);
    }
    Ok(n as usize)
}

/// Waits for `fds` of both kinds. The GIL is held on entry, and released only to sleep.
pub fn wait_for(py: Python<'_>, fds: &mut [PollFd], timeout: Timeout) -> PyResult<usize> {
    let runtime = Runtime::global();
    if timeout == Timeout::Zero {
        return Ok(runtime.poll_look(fds));
    }
    let ready = runtime.poll_ready(fds);
    if ready > 0 {
        return Ok(ready);
    }
    let deadline = timeout.deadline();
    loop {
        match signals::asleep(py, || runtime.poll_wait(fds, deadline))? {
            Err(Errno(libc::EINTR)) => py.check_signals()?,
            Err(e) => return Err(args::os_error(py, e)),
            Ok(0) if deadline.is_none_or(|end| Instant::now() < end) => {}
            Ok(n) => return Ok(n),
        }
    }
}

/// Waits for `fds`, all of them the kernel's (PEP 475).
fn wait_for_kernel(py: Python<'_>, fds: &mut [PollFd], timeout: Timeout) -> PyResult<usize> {
    let deadline = timeout.deadline();
    loop {
        let ms = if timeout == Timeout::Zero { 0 } else { args::millis_until(deadline) };
        match args::without_gil(py, || poll_kernel(fds, ms)) {
            Err(Errno(libc::EINTR)) => py.check_signals()?,
            Err(e) => return Err(args::os_error(py, e)),
            Ok(n) => return Ok(n),
        }
        if deadline.is_some_and(|end| Instant::now() >= end) {
            return Ok(0);
        }
    }
}

impl Poll {
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Py<PyAny>> {
        let mut fds = std::mem::take(&mut *locked(&self.scratch));
        let virtuals = {
            let mut interest = locked(&self.interest);
            interest.compact();
            fds.clone_from(&interest.fds);
            interest.virtuals
        };
        let ready = if virtuals == 0 {
            wait_for_kernel(py, &mut fds, timeout)
        } else {
            wait_for(py, &mut fds, timeout)
        };
        let list = ready.and_then(|_| {
            let fired = || fds.iter().filter(|f| f.revents != 0).map(|f| (f.fd, f.revents));
            pair_list(py, fired().count(), fired())
        });
        *locked(&self.scratch) = fds;
        list
    }
}

#[pymethods]
impl Poll {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Err(PyTypeError::new_err("cannot create 'select.poll' instances"))
    }

    /// Register a file descriptor with the polling object.
    #[pyo3(signature = (fd, eventmask=Given::Absent, /), text_signature = "($self, fd, eventmask=7, /)")]
    fn register(&self, fd: &Bound<'_, PyAny>, eventmask: Given<'_>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        let events = eventmask.or(DEFAULT_MASK, args::poll_mask)?;
        locked(&self.interest).set(number, events);
        Ok(())
    }

    /// Modify an already registered file descriptor.
    #[pyo3(signature = (fd, eventmask, /))]
    fn modify(&self, fd: &Bound<'_, PyAny>, eventmask: &Bound<'_, PyAny>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        let events = args::poll_mask(eventmask)?;
        let mut interest = locked(&self.interest);
        if !interest.index.contains_key(&number) {
            return Err(args::os_error(fd.py(), Errno(libc::ENOENT)));
        }
        interest.set(number, events);
        Ok(())
    }

    /// Remove a file descriptor being tracked by the polling object.
    #[pyo3(signature = (fd, /))]
    fn unregister(&self, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        if locked(&self.interest).remove(number) {
            return Ok(());
        }
        Err(PyKeyError::new_err(number))
    }

    /// Polls the set of registered file descriptors.
    ///
    /// timeout: the maximum time to wait in milliseconds, or None (or a negative value) to wait
    /// indefinitely. Returns a list of (fd, events) 2-tuples.
    #[pyo3(signature = (timeout=None, /))]
    fn poll(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let timeout = args::poll_timeout(timeout, 1_000_000)?;
        if self.polling.swap(true, Relaxed) {
            return Err(PyRuntimeError::new_err("concurrent poll() invocation"));
        }
        let list = self.wait(py, timeout);
        self.polling.store(false, Relaxed);
        list
    }
}
