//! The C struct at the head of every `_socket.socket`, read and written in place.
//!
//! The struct is no API: `verify` proves the offsets on a real socket before any is used, and the
//! import fails otherwise. Who calls: every method of the native type, with the GIL held.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `_PyTime_t` of "wait for ever": -1 second, in nanoseconds.
pub(super) const TIMEOUT_NONE_NS: i64 = -1_000_000_000;

/// The first fields of CPython's `PySocketSockObject`, the same in 3.11, 3.12 and 3.13.
#[repr(C)]
pub(super) struct Head {
    ob_base: ffi::PyObject,
    /// The descriptor: the kernel's, ours (from 2^30), or -1 when closed.
    pub fd: i32,
    /// AF_*
    pub family: i32,
    /// SOCK_*, without SOCK_NONBLOCK and SOCK_CLOEXEC.
    pub kind: i32,
    /// IPPROTO_*, as given to the constructor.
    pub proto: i32,
    errorhandler: *const (),
    /// The socket's timeout: negative waits for ever, 0 never waits.
    pub timeout_ns: i64,
}

/// The whole struct from CPython 3.12 on.
#[repr(C)]
struct HeadWithState {
    head: Head,
    /// The module's state, which CPython's `__init__` fills in and its error paths go through.
    state: *const (),
}

/// The value of `HeadWithState::state`, an address, or 0 where there is no such field.
static STATE: AtomicUsize = AtomicUsize::new(0);

/// Fills in what CPython's own `__init__` would, besides the fields of `Head`.
///
/// # Safety
/// As `of`.
pub(super) unsafe fn fill_state(socket: *mut ffi::PyObject) {
    let state = STATE.load(Ordering::Relaxed);
    if state != 0 {
        // SAFETY: STATE is set only where the object is as large as HeadWithState.
        unsafe { (*socket.cast::<HeadWithState>()).state = state as *const () };
    }
}

/// The head of a socket object.
///
/// # Safety
/// `socket` is an instance of the native type (its method table sees to that), the offsets are
/// verified, and the GIL is held.
#[inline]
pub(super) unsafe fn of<'a>(socket: *mut ffi::PyObject) -> &'a Head {
    // SAFETY: as the caller promises.
    unsafe { &*socket.cast::<Head>() }
}

/// The head of a socket object, to be changed. The reference must not outlive the statement.
///
/// # Safety
/// As `of`.
#[inline]
pub(super) unsafe fn of_mut<'a>(socket: *mut ffi::PyObject) -> &'a mut Head {
    // SAFETY: as the caller promises.
    unsafe { &mut *socket.cast::<Head>() }
}

fn refuse(what: &str) -> PyErr {
    pyo3::exceptions::PyImportError::new_err(format!(
        "mtcp_patch does not know this Python's socket object ({what} is not where it is in \
         CPython 3.11 to 3.13); the kernel's sockets are left as they are"
    ))
}

/// Checks on a fresh kernel socket that each field of `Head` is what Python shows, by reading it
/// and by writing another value. `base` is the original `_socket.socket`.
pub(super) fn verify(base: &Bound<'_, PyType>) -> PyResult<()> {
    let basicsize: usize = base.getattr("__basicsize__")?.extract()?;
    let has_state = basicsize == size_of::<HeadWithState>();
    if !has_state && basicsize != size_of::<Head>() {
        return Err(refuse("its end"));
    }
    let socket = base.call1((libc::AF_UNIX, libc::SOCK_DGRAM, 0))?;
    let fd: i32 = socket.call_method0("fileno")?.extract()?;
    // SAFETY: the object is at least as large as Head; nothing else has a reference to it.
    let head = unsafe { of_mut(socket.as_ptr()) };
    let seen = (head.fd, head.family, head.kind, head.proto, head.timeout_ns);
    let default: Option<f64> =
        base.py().import("_socket")?.call_method0("getdefaulttimeout")?.extract()?;
    let timeout_ns = default.map_or(TIMEOUT_NONE_NS, |s| (s * 1e9).round() as i64);
    if seen != (fd, libc::AF_UNIX, libc::SOCK_DGRAM, 0, timeout_ns) {
        return Err(refuse("a field"));
    }
    (head.fd, head.family, head.kind, head.proto) = (1_234_567, 11, 12, 13);
    head.timeout_ns = 1_500_000_000;
    let shown = show(&socket);
    (head.fd, head.family, head.kind, head.proto, head.timeout_ns) = seen;
    if has_state {
        // SAFETY: the object is as large as HeadWithState.
        let state = unsafe { (*socket.as_ptr().cast::<HeadWithState>()).state };
        STATE.store(state as usize, Ordering::Relaxed);
    }
    socket.call_method0("close")?;
    if shown? != (1_234_567, 11, 12, 13, Some(1.5)) {
        return Err(refuse("a written field"));
    }
    Ok(())
}

type Shown = (i32, i32, i32, i32, Option<f64>);

fn show(socket: &Bound<'_, PyAny>) -> PyResult<Shown> {
    Ok((
        socket.call_method0("fileno")?.extract()?,
        socket.getattr("family")?.extract()?,
        socket.getattr("type")?.extract()?,
        socket.getattr("proto")?.extract()?,
        socket.call_method0("gettimeout")?.extract()?,
    ))
}
