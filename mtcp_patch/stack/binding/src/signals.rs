//! Python's handlers and our sleeps: see `mtcp_host::interrupt`, whose pipe is handed to CPython
//! here, as the "wakeup fd" of `signal.set_wakeup_fd`.
//!
//! There is only one such descriptor. While the program has one of its own (asyncio with
//! `add_signal_handler`, trio), which it then polls itself, ours is not in place; `signals_shim`
//! puts it back when the program takes its own away, and never shows it.
//! Called with the GIL held. What never happens here: a change of a signal mask or of a handler.

use mtcp_host::errno::Errno;
use mtcp_host::interrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::args;

/// CPython's own `set_wakeup_fd`.
static SET_WAKEUP_FD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Whether to try, at the next sleep of the main thread, to be told of signals.
static STATE: AtomicU8 = AtomicU8::new(OFF);
/// Not installed, or it cannot be.
const OFF: u8 = 0;
/// The main thread has not slept in the stack yet.
const AT_THE_NEXT_SLEEP: u8 = 1;
/// The pipe is made; in place unless the program has a descriptor of its own there.
const ON: u8 = 2;

/// Call it before the last look at Python's flags ahead of a sleep.
#[inline]
pub fn before_last_look(py: Python<'_>) {
    match STATE.load(Relaxed) {
        ON if !interrupt::forget() => renew(py),
        AT_THE_NEXT_SLEEP => begin(py),
        _ => {}
    }
}

/// Puts ours in place, or -1; what was there.
fn set(py: Python<'_>, fd: i32) -> PyResult<i32> {
    let Some(original) = SET_WAKEUP_FD.get(py) else { return Ok(-1) };
    let options = PyDict::new(py);
    // A full pipe wakes as well as a written one.
    options.set_item("warn_on_full_buffer", false)?;
    original.bind(py).call((fd,), Some(&options))?.extract()
}

/// Another pipe, where the program has closed the old one behind our back.
#[cold]
fn renew(py: Python<'_>) {
    STATE.store(OFF, Relaxed);
    // It fails in no way but on another thread, and only the main thread finds the pipe gone.
    if take_back(py).is_ok() {
        begin(py);
    }
}

#[cold]
fn begin(py: Python<'_>) {
    // Python lets only the main thread set it, and runs handlers only there.
    // SAFETY: neither takes anything or can fail.
    if unsafe { libc::gettid() != libc::getpid() } {
        return;
    }
    STATE.store(OFF, Relaxed);
    // Without a descriptor to spare, or in an interpreter that has no signals, a signal that comes
    // just before a sleep waits for its end, as it does on the kernel's sockets.
    let Ok(ours) = interrupt::open() else { return };
    match set(py, ours) {
        Ok(-1) => STATE.store(ON, Relaxed),
        Ok(theirs) => {
            STATE.store(ON, Relaxed);
            // It was there before us: the program's descriptor stays the one.
            let _ = set(py, theirs);
        }
        Err(_) => interrupt::close(),
    }
}

/// wakeup_begin(set_wakeup_fd, /): from now on the stack's sleeps end by signals that came before them. The
/// argument is CPython's own function.
#[pyfunction]
#[pyo3(signature = (set_wakeup_fd, /))]
pub fn wakeup_begin(py: Python<'_>, set_wakeup_fd: Py<PyAny>) {
    // Set already when the stack is installed a second time: the same function again.
    let _ = SET_WAKEUP_FD.set(py, set_wakeup_fd);
    if STATE.load(Relaxed) == OFF {
        STATE.store(AT_THE_NEXT_SLEEP, Relaxed);
    }
}

/// wakeup_replaced(fd, before, /): the program has put `fd` where `before` was. What to tell it was there.
#[pyfunction]
#[pyo3(signature = (fd, before, /))]
pub fn wakeup_replaced(py: Python<'_>, fd: i32, before: i32) -> PyResult<i32> {
    let ours = interrupt::write_end();
    if let (Some(ours), -1) = (ours, fd) {
        set(py, ours)?;
    }
    Ok(if Some(before) == ours { -1 } else { before })
}

/// wakeup_end(): undoes `wakeup_begin`. On another thread than the main one it cannot, and leaves all as it is.
#[pyfunction]
pub fn wakeup_end(py: Python<'_>) {
    if STATE.load(Relaxed) == AT_THE_NEXT_SLEEP || take_back(py).is_ok() {
        STATE.store(OFF, Relaxed);
    }
}

/// In a forked child the pipe is the parent's: a signal here must not wake it there.
pub fn after_fork_child(py: Python<'_>) {
    if STATE.load(Relaxed) == ON {
        // It fails in no way that a child could mend: it is its main thread that forked.
        let _ = take_back(py);
        STATE.store(AT_THE_NEXT_SLEEP, Relaxed);
    }
}

fn take_back(py: Python<'_>) -> PyResult<()> {
    let Some(ours) = interrupt::write_end() else { return Ok(()) };
    let there = set(py, -1)?;
    if there != ours {
        set(py, there)?;
    }
    interrupt::close();
    Ok(())
}

/// Runs `f`, which sleeps in the runtime, without the GIL, after a last look for signals; one that
/// comes later ends the sleep with `EINTR`.
pub fn asleep<T: Send>(
    py: Python<'_>,
    f: impl FnOnce() -> Result<T, Errno> + Send,
) -> PyResult<Result<T, Errno>> {
    before_last_look(py);
    py.check_signals()?;
    Ok(args::without_gil(py, f))
}
