//! `__init__`, `close`, `settimeout`, `setblocking` and the finalizer.
//!
//! Here it is decided which sockets are the stack's: AF_INET and AF_INET6 streams over TCP. All
//! others are the kernel's from the start.

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{is_virtual, Runtime, Vfd};
use pyo3::ffi;
use std::ffi::{c_int, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use super::args;
use super::call::{panicked, Answer, Call, Object};
use super::head::{self, TIMEOUT_NONE_NS};
use super::kernel;
use super::table::Method;
use crate::errors::{self, Fail};
use crate::gil;
use crate::object::{self, none, Owned};

const TYPE_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
/// `__init__`'s "not given".
const ABSENT: i32 = -1;

const PY_3_12: std::ffi::c_ulong = 0x030c_0000;

/// What `__init__` was given.
struct Wanted {
    family: i32,
    kind: i32,
    proto: i32,
    /// A virtual descriptor to take over.
    fd: Option<Vfd>,
}

/// The `tp_init` slot: `socket(family=-1, type=-1, proto=-1, fileno=None)`.
pub(super) unsafe extern "C" fn init(socket: Object, args: Object, kwargs: Object) -> c_int {
    // SAFETY: CPython calls the slot with an instance of the type, a tuple, and a dict or null.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
        match wanted(args, kwargs) {
            Some(wanted) => adopt(socket, &wanted).map(|()| 0),
            // Also wrong arguments: the original words the error.
            None => Ok(kernel::init(socket, args, kwargs)),
        }
    }));
    match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(fail)) => {
            // SAFETY: the GIL is held.
            unsafe { errors::raise(fail) };
            -1
        }
        Err(_) => {
            // SAFETY: the GIL is held.
            unsafe { panicked(c"__init__") };
            -1
        }
    }
}

/// The arguments, if they ask for a socket of the stack.
unsafe fn wanted(args: Object, kwargs: Object) -> Option<Wanted> {
    const NAMES: [&CStr; 4] = [c"family", c"type", c"proto", c"fileno"];
    let mut given = [ptr::null_mut(); 4];
    // SAFETY: a tuple, and a dict or null; the references are borrowed from them.
    let fd = unsafe {
        let count = ffi::PyTuple_Size(args);
        let mut named = if kwargs.is_null() { 0 } else { ffi::PyDict_Size(kwargs) };
        if count > 4 {
            return None;
        }
        for (i, (slot, name)) in given.iter_mut().zip(NAMES).enumerate() {
            if (i as isize) < count {
                *slot = ffi::PyTuple_GetItem(args, i as ffi::Py_ssize_t);
            } else if named > 0 {
                *slot = ffi::PyDict_GetItemString(kwargs, name.as_ptr());
                named -= ffi::Py_ssize_t::from(!slot.is_null());
            }
        }
        if named != 0 {
            return None;
        }
        given[3]
    };
    // SAFETY: borrowed references, or null; the GIL is held.
    unsafe {
        let family = args::int_or(given[0], ABSENT).ok()?;
        let kind = args::int_or(given[1], ABSENT).ok()?;
        let proto = args::int_or(given[2], ABSENT).ok()?;
        if !fd.is_null() && fd != ffi::Py_None() {
            let fd = args::int(fd).ok().filter(|&fd| is_virtual(fd))?;
            return Some(Wanted { family, kind, proto, fd: Some(fd) });
        }
        let ours = matches!(family, ABSENT | libc::AF_INET | libc::AF_INET6)
            && (kind == ABSENT || kind & !TYPE_FLAGS == libc::SOCK_STREAM)
            && matches!(proto, ABSENT | 0 | libc::IPPROTO_TCP);
        ours.then_some(Wanted { family, kind, proto, fd: None })
    }
}

/// Makes `socket` stand for a virtual descriptor: a new one, or the one given.
unsafe fn adopt(socket: Object, wanted: &Wanted) -> Result<(), Fail> {
    let or = |value: i32, default: i32| if value == ABSENT { default } else { value };
    // SAFETY: `socket` is a live object.
    let itself = unsafe { Owned::new(ffi::Py_NewRef(socket))? };
    let event = [
        itself,
        object::int(i64::from(wanted.family))?,
        object::int(i64::from(wanted.kind))?,
        object::int(i64::from(wanted.proto))?,
    ];
    kernel::audit("socket.__new__", event)?;
    let kind = or(wanted.kind, libc::SOCK_STREAM);
    let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
    let timeout_ns = if nonblocking { 0 } else { kernel::default_timeout_ns()? };
    let runtime = Runtime::try_global()?;
    let (fd, family, proto) = match wanted.fd {
        Some(fd) => {
            let family = runtime.family(fd)?;
            (fd, or(wanted.family, family), or(wanted.proto, libc::IPPROTO_TCP))
        }
        None => {
            let family = or(wanted.family, libc::AF_INET);
            let proto = or(wanted.proto, 0);
            (runtime.socket(family, proto)?, family, proto)
        }
    };
    // SAFETY: `socket` is an instance of the native type.
    unsafe {
        let head = head::of_mut(socket);
        (head.fd, head.family, head.kind, head.proto) = (fd, family, kind & !TYPE_FLAGS, proto);
        head.timeout_ns = timeout_ns;
        head::fill_state(socket);
    }
    if timeout_ns >= 0 {
        runtime.set_nonblocking(fd, true)?;
    }
    Ok(())
}

/// `close()`: the descriptor is given up even when an error is reported.
pub(super) fn close(call: &Call) -> Answer {
    let [] = call.positional(0)?;
    // SAFETY: the socket of a call is of the native type; the GIL is held.
    unsafe { head::of_mut(call.socket).fd = -1 };
    match call.runtime().close(call.fd) {
        // As in CPython: the peer may have reset the connection before.
        Ok(None) | Err(Errno(libc::ECONNRESET)) => Ok(none()),
        Ok(Some(lingering)) => {
            // SAFETY: the GIL is held, and the closure touches no Python object.
            unsafe { gil::released(|| call.runtime().linger(lingering)) };
            Ok(none())
        }
        // Closed already, by the end of the process.
        Err(Errno(libc::EBADF)) if call.runtime().is_ending() => Ok(none()),
        Err(e) => Err(Fail::Errno(e)),
    }
}

/// `settimeout(None | seconds)`
pub(super) fn settimeout(call: &Call) -> Answer {
    let [timeout] = call.positional(1)?;
    // SAFETY: the argument of a call; the GIL is held.
    set_timeout_ns(call, unsafe { timeout_ns(call, timeout)? })
}

/// `setblocking(flag)`: an int until Python 3.11, any object by its truth from 3.12.
pub(super) fn setblocking(call: &Call) -> Answer {
    let [flag] = call.positional(1)?;
    // SAFETY: the argument of a call; the GIL is held.
    let blocking = unsafe {
        if ffi::Py_Version >= PY_3_12 {
            ffi::PyObject_IsTrue(flag)
        } else {
            i32::from(args::ssize(flag)? != 0)
        }
    };
    match blocking {
        -1 => Err(Fail::Raised),
        0 => set_timeout_ns(call, 0),
        _ => set_timeout_ns(call, TIMEOUT_NONE_NS),
    }
}

/// A timeout puts the description into non-blocking mode, as CPython's does.
fn set_timeout_ns(call: &Call, timeout_ns: i64) -> Answer {
    // SAFETY: the socket of a call is of the native type; the GIL is held.
    unsafe { head::of_mut(call.socket).timeout_ns = timeout_ns };
    call.runtime().set_nonblocking(call.fd, timeout_ns >= 0)?;
    Ok(none())
}

/// Nanoseconds of a timeout, rounded up; refused are negative and not-a-number. More than poll(2)
/// can wait (2^31 milliseconds) is refused by some versions of CPython: this one is asked.
unsafe fn timeout_ns(call: &Call, timeout: Object) -> Result<i64, Fail> {
    const MAX_S: f64 = i32::MAX as f64 / 1000.0;
    // SAFETY: a live object; the GIL is held.
    let seconds = unsafe {
        if timeout == ffi::Py_None() {
            return Ok(TIMEOUT_NONE_NS);
        }
        if ffi::PyFloat_Check(timeout) != 0 {
            ffi::PyFloat_AsDouble(timeout)
        } else {
            args::ssize(timeout)? as f64
        }
    };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(Fail::Arguments);
    }
    // SAFETY: the socket and the argument of a call; the GIL is held.
    let taken = seconds <= MAX_S
        || unsafe {
            kernel::accepts(Method::SetTimeout, call.socket, &timeout, 1, ptr::null_mut())
        };
    if taken {
        Ok((seconds * 1e9).ceil() as i64)
    } else {
        Err(Fail::Raised)
    }
}

/// The `tp_finalize` slot: an unclosed socket is closed with a ResourceWarning.
pub(super) unsafe extern "C" fn finalize(socket: Object) {
    // SAFETY: CPython calls the slot with an instance of the type, with the GIL held.
    unsafe {
        if !is_virtual(head::of(socket).fd) {
            kernel::finalize(socket);
            return;
        }
        let (mut kind, mut value, mut trace) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut trace);
        if ffi::PyErr_ResourceWarning(socket, 1, c"unclosed %R".as_ptr(), socket) != 0 {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_Warning) != 0 {
                ffi::PyErr_WriteUnraisable(socket);
            }
            ffi::PyErr_Clear();
        }
        // Only now, so that whoever shows the warning may still ask the socket.
        let head = head::of_mut(socket);
        let fd = std::mem::replace(&mut head.fd, -1);
        if is_virtual(fd) {
            let _ = catch_unwind(AssertUnwindSafe(|| Runtime::global().close(fd)));
        }
        ffi::PyErr_Restore(kind, value, trace);
    }
}
