//! `Watcher`: the interest set that `gevent_shim` keeps for one gevent loop.
//!
//! Owns one watcher of the runtime and a real epoll, which is readable while virtual descriptors or
//! kernel sockets behind them are ready: the foreign loop sleeps in its own system call, on
//! `fileno()` and `device_fds()`. Order of one iteration of that loop:
//! `turn()`, `collect()`, then `sleep_begin()` just before its system call and `sleep_end()` after.
//! What never happens here: waiting.

use crate::args;
use crate::events::pair_list;
use crate::pace::Pace;
use mtcp_host::runtime::{Runtime, Vfd, WatcherId, WATCHER_TOKEN};
use mtcp_host::runtime_fd::RuntimeFd;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Mutex;

/// An interest set over virtual descriptors.
#[pyclass(module = "mtcp_patch.stack._native", frozen)]
pub struct Watcher {
    id: WatcherId,
    /// Of which of the process's runtimes, counted by forks.
    generation: u32,
    epfd: RuntimeFd,
    closed: AtomicBool,
    pace: Pace,
    /// Kept from one `collect` to the next; locked with the GIL held, never across a wait.
    found: Mutex<Vec<(Vfd, u32, u64)>>,
}

impl Watcher {
    fn id(&self) -> PyResult<WatcherId> {
        if self.closed.load(Relaxed) || self.generation != Runtime::generation() {
            return Err(PyValueError::new_err("I/O operation on closed watcher"));
        }
        Ok(self.id)
    }

    fn control(&self, py: Python<'_>, op: i32, vfd: Vfd, mask: u32) -> PyResult<()> {
        let id = self.id()?;
        Runtime::global().watch(id, op, vfd, mask, vfd as u64).map_err(|e| args::os_error(py, e))
    }

    /// Events of kernel sockets behind virtual descriptors, under the virtual numbers.
    fn add_kernel(&self, max: usize, found: &mut Vec<(Vfd, u32, u64)>) {
        // An error would be EBADF after a careless close by the program: then there are none.
        let events = mtcp_host::sys::epoll_now(self.epfd.as_raw_fd(), max).unwrap_or_default();
        let own = events.into_iter().filter(|&(_, data)| data != WATCHER_TOKEN);
        let before = found.len();
        found.extend(own.map(|(mask, data)| (data as Vfd, mask, data)));
        self.pace.answered(found.len() > before);
    }

    fn release(&self) {
        let own = self.generation == Runtime::generation();
        if !self.closed.swap(true, Relaxed) && own {
            Runtime::global().watcher_close(self.id);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.release();
    }
}

#[pymethods]
impl Watcher {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let runtime = Runtime::try_global().map_err(|e| args::os_error(py, e))?;
        let epfd = mtcp_host::sys::epoll_create().map_err(|e| args::os_error(py, e))?;
        let id = runtime.watcher(Some(epfd.as_raw_fd())).map_err(|e| args::os_error(py, e))?;
        // The wake-up for virtual descriptors, while the loop sleeps.
        runtime.watcher_join(id).map_err(|e| args::os_error(py, e))?;
        Ok(Self {
            id,
            generation: Runtime::generation(),
            epfd,
            closed: AtomicBool::new(false),
            pace: Pace::new(),
            found: Mutex::new(Vec::new()),
        })
    }

    /// Watch `vfd` for `mask` (epoll bits). FileExistsError if it is watched, EBADF if it is closed.
    fn add(&self, py: Python<'_>, vfd: Vfd, mask: u32) -> PyResult<()> {
        self.control(py, libc::EPOLL_CTL_ADD, vfd, mask)
    }

    /// Change the mask of a watched `vfd`; this also arms it again. FileNotFoundError if it is not.
    fn modify(&self, py: Python<'_>, vfd: Vfd, mask: u32) -> PyResult<()> {
        self.control(py, libc::EPOLL_CTL_MOD, vfd, mask)
    }

    /// Watch `vfd` no longer. FileNotFoundError if it is not watched.
    fn remove(&self, py: Python<'_>, vfd: Vfd) -> PyResult<()> {
        self.control(py, libc::EPOLL_CTL_DEL, vfd, 0)
    }

    /// Drive the stack and return at most `max` pairs `(vfd, mask)` that are ready. Never waits.
    fn collect(&self, py: Python<'_>, max: usize) -> PyResult<Py<PyAny>> {
        let id = self.id()?;
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.clear();
        let runtime = Runtime::global();
        let ready = runtime.watcher_ready(id, max, &mut found);
        if (ready == 0 || self.pace.is_due()) && runtime.watcher_halves(id) > 0 {
            self.add_kernel(max, &mut found);
        }
        pair_list(py, found.len(), found.iter().map(|&(_, mask, data)| (data as Vfd, mask)))
    }

    /// The descriptor that is readable while ready descriptors wait to be collected.
    fn fileno(&self) -> PyResult<i32> {
        self.id()?;
        Ok(self.epfd.as_raw_fd())
    }

    /// Drive the stack once: receive a batch, timers, transmit.
    fn turn(&self) {
        Runtime::global().turn();
    }

    /// The loop is about to sleep in its own system call.
    fn sleep_begin(&self) -> PyResult<()> {
        Runtime::global().foreign_sleep(self.id()?, true);
        Ok(())
    }

    /// The loop has woken.
    fn sleep_end(&self) -> PyResult<()> {
        Runtime::global().foreign_sleep(self.id()?, false);
        Ok(())
    }

    /// Descriptors of the devices, which the loop must watch besides `fileno()`.
    fn device_fds(&self) -> Vec<i32> {
        Runtime::global().device_fds()
    }

    /// Forget everything. Further use is a ValueError; closing twice is not.
    fn close(&self) {
        self.release();
    }
}
