//! `select.epoll` over both kinds of descriptor.
//!
//! Owns one real epoll and, from the first virtual descriptor on, one watcher of the runtime.
//! Called by programs, `selectors` and asyncio. Kernel descriptors go straight to `epoll_ctl`; the
//! real epoll's number is `fileno()`, so an epoll object nests in another one.
//!
//! Order within `poll()`: the kernel with timeout 0 if it is due, then the watcher's candidates (the
//! GIL held; this drives the stack), and only when neither has anything the wait, without the GIL.
//! When it is due, `pace` says.
//! What never happens here: a virtual number reaching the kernel; the GIL being taken inside the
//! runtime; an event of a closed virtual descriptor (the runtime forgets it in `close`).

use crate::args::{self, Given, Timeout};
use crate::events::pair_list;
use crate::pace::Pace;
use crate::shared::Shared;
use crate::signals;
use mtcp_host::errno::Errno;
use mtcp_host::runtime::{is_virtual, Runtime, Vfd, WatcherId, WATCHER_TOKEN};
use mtcp_host::sys::epoll_ctl;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

/// What CPython takes for `maxevents=-1`: FD_SETSIZE - 1.
const DEFAULT_EVENTS: usize = libc::FD_SETSIZE - 1;
/// One `poll()` never asks for more than this, whatever `maxevents` says: it bounds the buffer.
const MOST_EVENTS: usize = 65_536;
const DEFAULT_MASK: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT) as u32;

/// Buffers of one `poll()`, kept by the thread from one call to the next.
#[derive(Default)]
struct Buffers {
    watched: Vec<(Vfd, u32, u64)>,
    kernel: Vec<libc::epoll_event>,
}

impl Buffers {
    fn len(&self) -> usize {
        self.watched.len() + self.kernel.len()
    }

    /// `(descriptor, mask)`, the virtual ones first.
    fn events(&self) -> impl Iterator<Item = (i32, u32)> + '_ {
        let watched = self.watched.iter().map(|&(_, mask, data)| (data as i32, mask));
        watched.chain(self.kernel.iter().map(|e| (e.u64 as i32, e.events)))
    }
}

thread_local! {
    static BUFFERS: Cell<Buffers> = const {
        Cell::new(Buffers { watched: Vec::new(), kernel: Vec::new() })
    };
}

/// An epoll object; see `select.epoll`.
#[pyclass(name = "epoll", module = "select", frozen)]
pub struct Epoll {
    /// The real epoll; -1 once closed.
    epfd: AtomicI32,
    /// What it has in common with other objects over the same real epoll (`fromfd`).
    shared: Arc<Shared>,
    pace: Pace,
    /// A one-event answer is the kernel's to give next.
    kernel_turn: AtomicBool,
    /// `fileno()` was called: another wait object may contain this one.
    exported: AtomicBool,
}

fn closed_error() -> PyErr {
    PyValueError::new_err("I/O operation on closed epoll object")
}

/// `epoll_wait(2)`: at most `max` events into `buffer`, without the watcher's own token.
fn wait(
    epfd: RawFd,
    max: usize,
    timeout_ms: i32,
    buffer: &mut Vec<libc::epoll_event>,
) -> Result<(), Errno> {
    buffer.clear();
    buffer.reserve(max);
    // SAFETY: room for `max` events was reserved, and the kernel has filled the first `n`.
    unsafe {
        let n = libc::epoll_wait(epfd, buffer.as_mut_ptr(), max as i32, timeout_ms);
        if n < 0 {
            return Err(Errno::last());
        }
        buffer.set_len(n as usize);
    }
    Ok(())
}

/// Events that the kernel has now, up to `max`; the watcher's eventfd does not take a place.
fn collect_now(epfd: RawFd, max: usize, buffer: &mut Vec<libc::epoll_event>) -> Result<(), Errno> {
    wait(epfd, max, 0, buffer)?;
    let full = buffer.len() == max;
    buffer.retain(|e| e.u64 != WATCHER_TOKEN);
    if full && buffer.is_empty() {
        // Only the token fitted. epoll answers round robin, so the next one is somebody else's.
        wait(epfd, max, 0, buffer)?;
        buffer.retain(|e| e.u64 != WATCHER_TOKEN);
    }
    Ok(())
}

impl Epoll {
    fn wrap(epfd: RawFd, shared: Arc<Shared>) -> Self {
        Self {
            epfd: AtomicI32::new(epfd),
            shared,
            pace: Pace::new(),
            kernel_turn: AtomicBool::new(true),
            exported: AtomicBool::new(false),
        }
    }

    fn open_fd(&self) -> PyResult<RawFd> {
        match self.epfd.load(Relaxed) {
            fd if fd >= 0 => Ok(fd),
            _ => Err(closed_error()),
        }
    }

    fn watcher_or_new(&self, py: Python<'_>, epfd: RawFd) -> PyResult<WatcherId> {
        if let Some(w) = self.shared.watcher.get() {
            return Ok(w);
        }
        let w = self
            .shared
            .watcher
            .get_or_make(|| Runtime::try_global()?.watcher(Some(epfd)))
            .map_err(|e| args::os_error(py, e))?;
        if self.exported.load(Relaxed) || self.shared.kernel_waits.load(Relaxed) > 0 {
            Runtime::global().watcher_fd(w);
        }
        Ok(w)
    }

    fn change(&self, py: Python<'_>, op: i32, fd: i32, mask: u32) -> PyResult<()> {
        let epfd = self.open_fd()?;
        if !is_virtual(fd) {
            epoll_ctl(epfd, op, fd, mask, fd as u64).map_err(|e| args::os_error(py, e))?;
            if op == libc::EPOLL_CTL_ADD {
                self.shared.kernel_fds.fetch_add(1, Relaxed);
                self.pace.answered(true);
            } else if op == libc::EPOLL_CTL_DEL {
                let less = |n: usize| Some(n.saturating_sub(1));
                let _ = self.shared.kernel_fds.fetch_update(Relaxed, Relaxed, less);
            }
            return Ok(());
        }
        let runtime = Runtime::global();
        let done = if op == libc::EPOLL_CTL_ADD {
            runtime.watch(self.watcher_or_new(py, epfd)?, op, fd, mask, fd as u64)
        } else {
            match self.shared.watcher.get() {
                Some(w) => runtime.watch(w, op, fd, mask, fd as u64),
                None if runtime.is_open(fd) => Err(Errno(libc::ENOENT)),
                None => Err(Errno(libc::EBADF)),
            }
        };
        done.map_err(|e| args::os_error(py, e))
    }

    /// Only kernel descriptors so far: `epoll_wait` as CPython does it (PEP 475). Nothing at all
    /// when another thread has brought in the first virtual descriptor meanwhile.
    fn poll_kernel(
        &self,
        py: Python<'_>,
        epfd: RawFd,
        timeout: Timeout,
        max: usize,
        buffer: &mut Vec<libc::epoll_event>,
    ) -> PyResult<()> {
        let deadline = timeout.deadline();
        loop {
            let ms = if timeout == Timeout::Zero { 0 } else { args::millis_until(deadline) };
            self.shared.kernel_waits.fetch_add(1, Relaxed);
            let waited = args::without_gil(py, || wait(epfd, max, ms, buffer));
            self.shared.kernel_waits.fetch_sub(1, Relaxed);
            match waited {
                Err(Errno(libc::EINTR)) => py.check_signals()?,
                Err(e) => return Err(args::os_error(py, e)),
                Ok(()) => {
                    buffer.retain(|e| e.u64 != WATCHER_TOKEN);
                    return Ok(());
                }
            }
            if deadline.is_some_and(|end| Instant::now() >= end) {
                buffer.clear();
                return Ok(());
            }
        }
    }

    /// Whether the kernel is to be asked in this turn, though virtual descriptors are ready.
    fn kernel_is_due(&self, watcher: WatcherId) -> bool {
        if !self.pace.is_due() {
            return false;
        }
        self.shared.kernel_fds.load(Relaxed) > 0 || Runtime::global().watcher_halves(watcher) > 0
    }

    /// How much of an answer of `max` events the kernel may take. An answer of one is given to
    /// either side by turns.
    fn kernel_room(&self, max: usize) -> usize {
        match max {
            1 => usize::from(self.kernel_turn.fetch_xor(true, Relaxed)),
            _ => max.div_ceil(2),
        }
    }

    /// Up to `room` events of the kernel, without waiting.
    fn add_kernel(
        &self,
        py: Python<'_>,
        epfd: RawFd,
        room: usize,
        buffer: &mut Vec<libc::epoll_event>,
    ) -> PyResult<()> {
        buffer.clear();
        if room == 0 {
            return Ok(());
        }
        match collect_now(epfd, room, buffer) {
            // A zero-timeout wait does not sleep; a signal's handler runs when we return.
            Ok(()) | Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(args::os_error(py, e)),
        }
        self.pace.answered(!buffer.is_empty());
        Ok(())
    }

    /// Virtual descriptors and kernel ones together.
    fn poll_both(
        &self,
        py: Python<'_>,
        epfd: RawFd,
        watcher: WatcherId,
        timeout: Timeout,
        max: usize,
        buffers: &mut Buffers,
    ) -> PyResult<()> {
        let runtime = Runtime::global();
        let Buffers { watched, kernel } = buffers;
        watched.clear();
        kernel.clear();
        if self.kernel_is_due(watcher) {
            // Before the virtual ones, which may well fill the whole answer every time.
            self.add_kernel(py, epfd, self.kernel_room(max), kernel)?;
        }
        let room = max.saturating_sub(kernel.len());
        if timeout != Timeout::Zero && kernel.is_empty() {
            runtime.watcher_spin(watcher, room, watched);
        } else if room > 0 {
            runtime.watcher_ready(watcher, room, watched);
        }
        if !watched.is_empty() || !kernel.is_empty() {
            return Ok(());
        }
        if timeout == Timeout::Zero {
            return self.add_kernel(py, epfd, max, kernel);
        }
        let deadline = timeout.deadline();
        loop {
            let outcome =
                signals::asleep(py, || runtime.watcher_wait(watcher, max, watched, deadline))?;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(Errno(libc::EINTR)) => {
                    py.check_signals()?;
                    // A handler may have closed this very object.
                    self.open_fd()?;
                    continue;
                }
                Err(e) => return Err(args::os_error(py, e)),
            };
            if outcome.kernel {
                self.add_kernel(py, epfd, max.saturating_sub(watched.len()), kernel)?;
            }
            let over = || deadline.is_some_and(|end| Instant::now() >= end);
            if !watched.is_empty() || !kernel.is_empty() || over() {
                return Ok(());
            }
        }
    }

    /// One wait; what is ready is in `buffers` afterwards.
    fn wait(
        &self,
        py: Python<'_>,
        epfd: RawFd,
        timeout: Timeout,
        max: usize,
        buffers: &mut Buffers,
    ) -> PyResult<()> {
        match self.shared.watcher.get() {
            None => {
                buffers.watched.clear();
                let began = Instant::now();
                self.poll_kernel(py, epfd, timeout, max, &mut buffers.kernel)?;
                match self.shared.watcher.get() {
                    Some(w) if buffers.kernel.is_empty() => {
                        self.poll_both(py, epfd, w, timeout.after(began), max, buffers)
                    }
                    _ => Ok(()),
                }
            }
            Some(w) => self.poll_both(py, epfd, w, timeout, max, buffers),
        }
    }

    /// Waits, and makes of the number of events and of each `(descriptor, mask)` what the caller
    /// wants. `build` runs no Python code that waits.
    pub fn poll_into<T>(
        &self,
        py: Python<'_>,
        timeout: Timeout,
        max: usize,
        build: impl FnOnce(usize, &mut dyn Iterator<Item = (i32, u32)>) -> PyResult<T>,
    ) -> PyResult<T> {
        let epfd = self.open_fd()?;
        let mut buffers = BUFFERS.take();
        let done = self.wait(py, epfd, timeout, max.min(MOST_EVENTS), &mut buffers);
        let result = done.and_then(|()| build(buffers.len(), &mut buffers.events()));
        BUFFERS.set(buffers);
        result
    }

    fn release(&self) -> Result<(), Errno> {
        let epfd = self.epfd.swap(-1, Relaxed);
        if epfd < 0 {
            return Ok(());
        }
        self.shared.close(epfd);
        // SAFETY: the number was ours, and nobody finds it any more.
        match unsafe { libc::close(epfd) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // As in CPython, an error of this close has nobody to go to.
        let _ = self.release();
    }
}

#[pymethods]
impl Epoll {
    /// select.epoll(sizehint=-1, flags=0)
    #[new]
    #[pyo3(signature = (sizehint=Given::Absent, flags=Given::Absent), text_signature = "(sizehint=-1, flags=0)")]
    fn new(py: Python<'_>, sizehint: Given<'_>, flags: Given<'_>) -> PyResult<Self> {
        let sizehint = sizehint.or(-1, args::c_int)?;
        let flags = flags.or(0, args::c_int)?;
        if sizehint != -1 && sizehint <= 0 {
            return Err(PyValueError::new_err("negative sizehint"));
        }
        if flags != 0 && flags != libc::EPOLL_CLOEXEC {
            return Err(PyOSError::new_err("invalid flags"));
        }
        // SAFETY: no pointers.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            fd if fd >= 0 => Ok(Self::wrap(fd, Shared::of_new(fd))),
            _ => Err(args::os_error(py, Errno::last())),
        }
    }

    /// Create an epoll object from a given control fd.
    #[staticmethod]
    fn fromfd(fd: &Bound<'_, PyAny>) -> PyResult<Self> {
        match args::c_int(fd)? {
            // CPython's own meaning of -1 here: a new one.
            -1 => Self::new(fd.py(), Given::Absent, Given::Absent),
            number => Ok(Self::wrap(number, Shared::of_known(number))),
        }
    }

    /// Close the epoll control file descriptor. Further operations on the epoll object will raise
    /// an exception.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.release().map_err(|e| args::os_error(py, e))
    }

    /// True if the epoll handler is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.epfd.load(Relaxed) < 0
    }

    /// Return the epoll control file descriptor.
    fn fileno(&self) -> PyResult<RawFd> {
        let epfd = self.open_fd()?;
        // Somebody else may poll it: from now on the watcher's wake-up is kept in it.
        self.exported.store(true, Relaxed);
        if let Some(w) = self.shared.watcher.get() {
            Runtime::global().watcher_fd(w);
        }
        Ok(epfd)
    }

    /// Registers a new fd or raises an OSError if the fd is already registered.
    #[pyo3(signature = (fd, eventmask=Given::Absent), text_signature = "($self, fd, eventmask=7)")]
    fn register(&self, fd: &Bound<'_, PyAny>, eventmask: Given<'_>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        let mask = eventmask.or(DEFAULT_MASK, args::epoll_mask)?;
        self.change(fd.py(), libc::EPOLL_CTL_ADD, number, mask)
    }

    /// Modify event mask for a registered file descriptor.
    fn modify(&self, fd: &Bound<'_, PyAny>, eventmask: &Bound<'_, PyAny>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        let mask = args::epoll_mask(eventmask)?;
        self.change(fd.py(), libc::EPOLL_CTL_MOD, number, mask)
    }

    /// Remove a registered file descriptor from the epoll object.
    fn unregister(&self, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        let number = args::descriptor(fd)?;
        self.change(fd.py(), libc::EPOLL_CTL_DEL, number, 0)
    }

    /// Wait for events on the epoll file descriptor.
    ///
    /// timeout: the maximum time to wait in seconds (as float); None or -1 wait indefinitely.
    /// maxevents: the maximum number of events returned; -1 means no limit.
    /// Returns a list of (fd, events) 2-tuples.
    #[pyo3(signature = (timeout=None, maxevents=Given::Absent), text_signature = "($self, timeout=None, maxevents=-1)")]
    fn poll(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        maxevents: Given<'_>,
    ) -> PyResult<Py<PyAny>> {
        self.open_fd()?;
        let timeout = args::poll_timeout(timeout, 1_000_000_000)?;
        let max = match maxevents.or(-1, args::c_int)? {
            -1 => DEFAULT_EVENTS,
            n if n < 1 => {
                let text = format!("maxevents must be greater than 0, got {n}");
                return Err(PyValueError::new_err(text));
            }
            n => (n as usize).min(MOST_EVENTS),
        };
        self.poll_into(py, timeout, max, |len, events| pair_list(py, len, events))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.open_fd()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}
