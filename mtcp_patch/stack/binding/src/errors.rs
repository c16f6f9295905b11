//! How a native method fails, and the one place where that becomes a Python exception.

use mtcp_host::errno::Errno;
use pyo3::ffi;
use std::ffi::CString;

/// Why a method of a native type has no result.
#[derive(Debug)]
pub enum Fail {
    /// A Python exception is set already.
    Raised,
    /// The arguments are not what the method takes. The caller asks CPython's own method for the
    /// exception, so that type and text are those of the running version.
    Arguments,
    /// An error number: OSError, or the subclass that stands for it.
    Errno(Errno),
    /// An error number with a text of ours, for what the kernel could do and we cannot.
    Unsupported(&'static str),
    /// The socket's timeout has passed.
    TimedOut,
}

impl From<Errno> for Fail {
    fn from(e: Errno) -> Self {
        Self::Errno(e)
    }
}

impl Fail {
    /// The error of a libc number.
    pub fn errno(number: i32) -> Self {
        Self::Errno(Errno(number))
    }
}

/// Sets the Python exception that `fail` stands for.
///
/// # Safety
/// The GIL is held.
pub unsafe fn raise(fail: Fail) {
    // SAFETY: the GIL is held; the texts are NUL-terminated literals.
    unsafe {
        match fail {
            Fail::Raised => {}
            Fail::Errno(Errno(number)) => raise_errno(number),
            Fail::TimedOut => {
                ffi::PyErr_SetString(ffi::PyExc_TimeoutError, c"timed out".as_ptr());
            }
            Fail::Unsupported(text) => raise_os_error(libc::EOPNOTSUPP, text),
            Fail::Arguments => {
                ffi::PyErr_SetString(ffi::PyExc_TypeError, c"invalid arguments".as_ptr());
            }
        }
    }
}

/// `OSError(number, strerror(number))`, as every method of `_socket.socket` raises it.
unsafe fn raise_errno(number: i32) {
    // SAFETY: errno is this thread's own; the GIL is held.
    unsafe {
        *libc::__errno_location() = number;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
}

/// `OSError(number, text)`.
unsafe fn raise_os_error(number: i32, text: &str) {
    let Ok(text) = CString::new(text) else { return };
    // SAFETY: the GIL is held; the format takes an int and a NUL-terminated string. Py_BuildValue
    // returns null with an exception set when it fails, which is an exception as well.
    unsafe {
        let args = ffi::Py_BuildValue(c"(is)".as_ptr(), number, text.as_ptr());
        if !args.is_null() {
            ffi::PyErr_SetObject(ffi::PyExc_OSError, args);
            ffi::Py_DECREF(args);
        }
    }
}

/// Runs the Python handlers of signals that have arrived. Fails when one raises (Ctrl-C).
///
/// # Safety
/// The GIL is held.
pub unsafe fn check_signals() -> Result<(), Fail> {
    // SAFETY: the GIL is held.
    if unsafe { ffi::PyErr_CheckSignals() } == 0 {
        Ok(())
    } else {
        Err(Fail::Raised)
    }
}
