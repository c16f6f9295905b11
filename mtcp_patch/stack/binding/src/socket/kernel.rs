//! CPython's own `_socket.socket`: what runs for kernel descriptors, unchanged, and what words the
//! error when a caller's arguments are wrong.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::sync::OnceLock;

use super::table::{Method, METHODS};
use crate::errors::Fail;
use crate::object::{self, Owned};

type Object = *mut ffi::PyObject;

/// More arguments than any method takes; a call with more goes by the heap.
const FEW: usize = 8;

mod raw {
    use pyo3::ffi::{PyObject, Py_ssize_t};
    // Exported by CPython 3.11 and part of the stable ABI since 3.12, which pyo3-ffi goes by.
    extern "C" {
        pub fn PyObject_Vectorcall(
            callable: *mut PyObject,
            args: *const *mut PyObject,
            nargsf: usize,
            kwnames: *mut PyObject,
        ) -> *mut PyObject;
        pub fn PyTuple_Size(tuple: *mut PyObject) -> Py_ssize_t;
    }
}

/// What is looked up once, when the type is made. The references are never given back: the native
/// type lives as long as the process.
pub(super) struct Originals {
    methods: [Object; METHODS.len()],
    init: ffi::initproc,
    finalize: Option<ffi::destructor>,
    audit: Object,
    default_timeout: Object,
    gaierror: Object,
}

// SAFETY: the pointers are immutable and are only used with the GIL held.
unsafe impl Send for Originals {}
// SAFETY: as above.
unsafe impl Sync for Originals {}

static ORIGINALS: OnceLock<Originals> = OnceLock::new();

/// Looks the originals up in the base type's own dictionary.
pub(super) fn remember(base: &Bound<'_, PyType>) -> PyResult<()> {
    let module = base.py().import("_socket")?;
    let dict = base.getattr("__dict__")?;
    let mut methods = [std::ptr::null_mut(); METHODS.len()];
    for (slot, method) in methods.iter_mut().zip(METHODS) {
        *slot = dict.get_item(method.name.to_str()?)?.unbind().into_ptr();
    }
    // SAFETY: `base` is a type object; the slots have the C types that CPython documents for them.
    let (init, finalize) = unsafe {
        let base = base.as_ptr().cast::<ffi::PyTypeObject>();
        let init = ffi::PyType_GetSlot(base, ffi::Py_tp_init);
        let finalize = ffi::PyType_GetSlot(base, ffi::Py_tp_finalize);
        (
            std::mem::transmute::<*mut std::ffi::c_void, Option<ffi::initproc>>(init),
            std::mem::transmute::<*mut std::ffi::c_void, Option<ffi::destructor>>(finalize),
        )
    };
    let init = init.ok_or_else(|| {
        pyo3::exceptions::PyImportError::new_err("_socket.socket has no __init__ of its own")
    })?;
    let originals = Originals {
        methods,
        init,
        finalize,
        audit: base.py().import("sys")?.getattr("audit")?.unbind().into_ptr(),
        default_timeout: module.getattr("getdefaulttimeout")?.unbind().into_ptr(),
        gaierror: module.getattr("gaierror")?.unbind().into_ptr(),
    };
    // Already set when the type is made a second time: from the same base, so the same values.
    let _ = ORIGINALS.set(originals);
    Ok(())
}

/// Set before the native type exists, so before any caller of this.
#[inline]
fn originals() -> Result<&'static Originals, Fail> {
    ORIGINALS.get().ok_or(Fail::Errno(mtcp_host::errno::Errno(libc::ENOSYS)))
}

/// Calls the original method with exactly these arguments.
///
/// # Safety
/// `args` has `nargs` positional arguments and one for each name in `kwnames` (null or a tuple);
/// the GIL is held.
pub(super) unsafe fn call(
    method: Method,
    socket: Object,
    args: *const Object,
    nargs: usize,
    kwnames: Object,
) -> Object {
    let Ok(originals) = originals() else { return std::ptr::null_mut() };
    let original = originals.methods[method as usize];
    // SAFETY: as the caller promises; the copy has room for self and all arguments.
    unsafe {
        let named = if kwnames.is_null() { 0 } else { raw::PyTuple_Size(kwnames).max(0) as usize };
        let total = nargs + named;
        if total < FEW {
            let mut all = [socket; FEW];
            if total > 0 {
                std::ptr::copy_nonoverlapping(args, all.as_mut_ptr().add(1), total);
            }
            return raw::PyObject_Vectorcall(original, all.as_ptr(), nargs + 1, kwnames);
        }
        let mut all = Vec::with_capacity(total + 1);
        all.push(socket);
        all.extend_from_slice(std::slice::from_raw_parts(args, total));
        raw::PyObject_Vectorcall(original, all.as_ptr(), nargs + 1, kwnames)
    }
}

/// Raises what CPython raises for arguments that a method does not take.
///
/// # Safety
/// As `call`.
pub(super) unsafe fn explain(
    method: Method,
    socket: Object,
    args: *const Object,
    nargs: usize,
    kwnames: Object,
) -> Object {
    // SAFETY: as the caller promises.
    unsafe {
        if accepts(method, socket, args, nargs, kwnames) {
            let name = super::table::entry(method).name;
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"%s(): invalid arguments for a user-level TCP socket".as_ptr(),
                name.as_ptr(),
            );
        }
        std::ptr::null_mut()
    }
}

/// Whether CPython's method finds nothing wrong with the arguments. If it does, its exception is set.
///
/// The original checks its arguments before it touches the descriptor, and then ends in EBADF: no
/// descriptor of the kernel's is as high as 2^30.
///
/// # Safety
/// As `call`.
pub(super) unsafe fn accepts(
    method: Method,
    socket: Object,
    args: *const Object,
    nargs: usize,
    kwnames: Object,
) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let result = call(method, socket, args, nargs, kwnames);
        if result.is_null() && !is_ebadf() {
            return false;
        }
        ffi::Py_XDECREF(result);
        ffi::PyErr_Clear();
        true
    }
}

/// Whether the exception that is set is OSError(EBADF). It stays set.
unsafe fn is_ebadf() -> bool {
    // SAFETY: the GIL is held and an exception is set; the references are given back to Restore.
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_OSError) == 0 {
            return false;
        }
        let (mut kind, mut value, mut trace) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut trace);
        ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
        let number = object::attribute(value, c"errno").map_or(-1, |n| {
            let number = ffi::PyLong_AsLong(n.as_ptr());
            ffi::PyErr_Clear();
            number
        });
        ffi::PyErr_Restore(kind, value, trace);
        number == i64::from(libc::EBADF)
    }
}

/// The original `__init__`.
///
/// # Safety
/// The arguments of a `tp_init` slot; the GIL is held.
pub(super) unsafe fn init(socket: Object, args: Object, kwargs: Object) -> i32 {
    match originals() {
        // SAFETY: as the caller promises.
        Ok(originals) => unsafe { (originals.init)(socket, args, kwargs) },
        Err(_) => -1,
    }
}

/// The original finalizer (closes with a ResourceWarning).
///
/// # Safety
/// The argument of a `tp_finalize` slot; the GIL is held.
pub(super) unsafe fn finalize(socket: Object) {
    if let Ok(Some(finalize)) = originals().map(|o| o.finalize) {
        // SAFETY: as the caller promises.
        unsafe { finalize(socket) }
    }
}

/// `sys.audit(event, *args)`. Fails when a hook raises.
pub(crate) fn audit<const N: usize>(event: &str, args: [Owned; N]) -> Result<(), Fail> {
    let event = object::text(event)?;
    let audit = originals()?.audit;
    // SAFETY: the GIL is held; the array holds the event and N arguments, each kept alive by its Owned.
    unsafe {
        let mut all = [event.as_ptr(); FEW];
        for (slot, arg) in all.iter_mut().skip(1).zip(&args) {
            *slot = arg.as_ptr();
        }
        let result = raw::PyObject_Vectorcall(audit, all.as_ptr(), N + 1, std::ptr::null_mut());
        Owned::new(result).map(drop)
    }
}

/// `socket.getdefaulttimeout()` in nanoseconds, negative for none.
pub(super) fn default_timeout_ns() -> Result<i64, Fail> {
    // SAFETY: the GIL is held.
    unsafe {
        let value = Owned::new(ffi::PyObject_CallNoArgs(originals()?.default_timeout))?;
        if value.as_ptr() == ffi::Py_None() {
            return Ok(super::head::TIMEOUT_NONE_NS);
        }
        let seconds = ffi::PyFloat_AsDouble(value.as_ptr());
        if !ffi::PyErr_Occurred().is_null() {
            return Err(Fail::Raised);
        }
        Ok((seconds * 1e9).ceil() as i64)
    }
}

/// Raises `socket.gaierror(code, text)`.
pub(crate) fn raise_gaierror(code: i32) -> Fail {
    let Ok(originals) = originals() else { return Fail::errno(libc::EIO) };
    // SAFETY: the GIL is held; gai_strerror gives a static NUL-terminated text for any number.
    unsafe {
        let text = libc::gai_strerror(code);
        let args = ffi::Py_BuildValue(c"(is)".as_ptr(), code, text);
        if !args.is_null() {
            ffi::PyErr_SetObject(originals.gaierror, args);
            ffi::Py_DECREF(args);
        }
    }
    Fail::Raised
}
