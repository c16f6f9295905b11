//! From CPython's calling convention to a method body and back: dispatch by descriptor, unpacking
//! of arguments, errors, panics.

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{is_virtual, Runtime, Vfd};
use pyo3::ffi;
use std::ffi::CStr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use super::table::Method;
use super::{head, kernel};
use crate::errors::{self, Fail};
use crate::gil;

pub(super) type Object = *mut ffi::PyObject;

/// What a method body gives: a new reference.
pub(super) type Answer = Result<Object, Fail>;

/// One call of a method on a socket with a virtual descriptor.
pub(super) struct Call {
    /// The socket object; kept alive by the caller.
    pub socket: Object,
    /// Its descriptor at the time of the call. When another thread or a signal's handler closes the
    /// object during a wait, the number may soon be another socket's: see `check_open`.
    pub fd: Vfd,
    args: *const Object,
    nargs: usize,
    kwnames: Object,
}

impl Call {
    /// The stack.
    #[inline]
    pub fn runtime(&self) -> &'static Runtime {
        Runtime::global()
    }

    /// To be called after everything that may have run other Python code: the number still means
    /// this socket.
    pub fn check_open(&self) -> Result<(), Fail> {
        // SAFETY: the socket of a call is of the native type; the GIL is held.
        if unsafe { head::of(self.socket) }.fd == self.fd {
            Ok(())
        } else {
            Err(Fail::errno(libc::EBADF))
        }
    }

    /// Runs the Python handlers of signals that came.
    pub fn run_handlers(&self) -> Result<(), Fail> {
        // SAFETY: the GIL is held.
        unsafe { errors::check_signals()? };
        self.check_open()
    }

    /// Between `min` and `N` positional arguments and no others; null for one that is not given.
    #[inline]
    pub fn positional<const N: usize>(&self, min: usize) -> Result<[Object; N], Fail> {
        if self.nargs < min || self.nargs > N || !self.kwnames.is_null() {
            return Err(Fail::Arguments);
        }
        let mut out = [ptr::null_mut(); N];
        for (i, slot) in out.iter_mut().enumerate().take(self.nargs) {
            // SAFETY: `args` has `nargs` objects.
            *slot = unsafe { *self.args.add(i) };
        }
        Ok(out)
    }

    /// The same for arguments that may also be given by name.
    #[inline]
    pub fn keywords<const N: usize>(
        &self,
        names: [&CStr; N],
        min: usize,
    ) -> Result<[Object; N], Fail> {
        if self.kwnames.is_null() {
            return self.positional(min);
        }
        let mut out = [ptr::null_mut(); N];
        if self.nargs > N {
            return Err(Fail::Arguments);
        }
        // SAFETY: `args` has `nargs` objects and then one for each name in the tuple `kwnames`.
        unsafe {
            for (i, slot) in out.iter_mut().enumerate().take(self.nargs) {
                *slot = *self.args.add(i);
            }
            for i in 0..ffi::PyTuple_Size(self.kwnames) {
                let given = ffi::PyTuple_GetItem(self.kwnames, i);
                let is =
                    |name: &&CStr| ffi::PyUnicode_CompareWithASCIIString(given, name.as_ptr()) == 0;
                let at = names.iter().position(is).ok_or(Fail::Arguments)?;
                match out.get_mut(at) {
                    Some(slot) if slot.is_null() => *slot = *self.args.add(self.nargs + i as usize),
                    _ => return Err(Fail::Arguments),
                }
            }
        }
        if out.iter().take(min).any(|arg| arg.is_null()) {
            return Err(Fail::Arguments);
        }
        Ok(out)
    }
}

/// Runs `body` for a virtual descriptor, or CPython's own method for any other (also -1: closed).
///
/// # Safety
/// The arguments that CPython gives to a METH_FASTCALL method of the native type.
#[inline(always)]
pub(super) unsafe fn enter(
    method: Method,
    socket: Object,
    args: *const Object,
    nargs: ffi::Py_ssize_t,
    kwnames: Object,
    body: impl FnOnce(&Call) -> Answer,
) -> Object {
    let nargs = nargs.max(0) as usize;
    // SAFETY: `socket` is an instance of the native type.
    let fd = unsafe { head::of(socket) }.fd;
    if !is_virtual(fd) {
        // SAFETY: the arguments are passed on as they came.
        return unsafe { kernel::call(method, socket, args, nargs, kwnames) };
    }
    let call = Call { socket, fd, args, nargs, kwnames };
    match catch_unwind(AssertUnwindSafe(|| body(&call))) {
        Ok(Ok(object)) => object,
        // SAFETY: the GIL is held and the arguments are unchanged.
        Ok(Err(fail)) => unsafe { failed(method, &call, fail) },
        // SAFETY: the GIL is held.
        Err(_) => unsafe { panicked(super::table::entry(method).name) },
    }
}

#[cold]
unsafe fn failed(method: Method, call: &Call, fail: Fail) -> Object {
    // SAFETY: the GIL is held; the arguments are those of the call.
    unsafe {
        if matches!(fail, Fail::Errno(Errno(libc::EBADF))) && call.runtime().is_ending() {
            // The end of the process has closed it: see `Runtime::sleep_on_if_ending`.
            gil::released(|| call.runtime().sleep_on_if_ending());
        }
        if let Fail::Arguments = fail {
            return kernel::explain(method, call.socket, call.args, call.nargs, call.kwnames);
        }
        errors::raise(fail);
    }
    ptr::null_mut()
}

/// A bug of ours: the panic hook has printed where; Python gets an exception, never an abort.
#[cold]
pub(super) unsafe fn panicked(name: &CStr) -> Object {
    // SAFETY: the GIL is held; the format takes one NUL-terminated string.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_RuntimeError,
            c"mtcp_patch: internal error in socket.%s(); please report it".as_ptr(),
            name.as_ptr(),
        );
    }
    ptr::null_mut()
}
