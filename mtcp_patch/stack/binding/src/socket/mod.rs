//! The native socket type: a subclass of `_socket.socket` with the same memory layout, which
//! becomes the base of `socket.socket` (see `mtcp_patch/socket_shim.py`).
//!
//! Reading order: `table` (every method) → `call` (dispatch by descriptor) → `receive`, `send`,
//! `connect`, `options`, `lifetime` (bodies) → `wait` (blocking) → `head` and `kernel` (what is
//! CPython's). The virtual descriptor stands in the C struct's `sock_fd`; for any other descriptor
//! CPython's own method runs unchanged. The fast path keeps the GIL; only `wait` releases it.
//! Nothing here knows a packet, and no Python code runs under the runtime's lock.

pub(crate) mod args;
mod call;
mod connect;
mod head;
mod kernel;
mod lifetime;
mod options;
mod receive;
mod send;
mod table;
mod wait;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::ffi::{c_uint, c_void, CStr, CString};

pub(crate) use kernel::{audit, raise_gaierror};

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The native socket type on `base`, which must be the original `_socket.socket`.
///
/// One type a process: a second call with the same base gives it again. ImportError when the base
/// has not the memory layout of CPython 3.11 to 3.13.
#[pyfunction]
pub fn make_socket_type(py: Python<'_>, base: &Bound<'_, PyType>) -> PyResult<Py<PyType>> {
    if let Some(made) = TYPE.get(py) {
        if made.bind(py).getattr("__base__")?.is(base) {
            return Ok(made.clone_ref(py));
        }
        return Err(PyImportError::new_err("the native socket type has another base already"));
    }
    if base.name()? != "socket" || base.module()? != "_socket" {
        return Err(PyImportError::new_err(format!("{base} is not CPython's _socket.socket")));
    }
    head::verify(base)?;
    kernel::remember(base)?;
    let made = create(base)?;
    Ok(TYPE.get_or_init(py, || made.unbind()).clone_ref(py))
}

const DOC: &CStr = c"The base of socket.socket under mtcp_patch: AF_INET and AF_INET6 streams are \
user-level TCP connections, every other socket is the kernel's.";

/// Builds the heap type. Its tables live as long as the process, as CPython keeps pointers to them.
fn create<'py>(base: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let py = base.py();
    let mut methods = Vec::with_capacity(table::METHODS.len() + 1);
    for entry in table::METHODS {
        methods.push(ffi::PyMethodDef {
            ml_name: entry.name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry.function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: docstring(base, entry.name)?.into_raw(),
        });
    }
    methods.push(ffi::PyMethodDef::zeroed());
    let methods = Box::leak(methods.into_boxed_slice());
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let init: ffi::initproc = lifetime::init;
    let finalize: ffi::destructor = lifetime::finalize;
    let slots = Box::leak(Box::new([
        slot(ffi::Py_tp_doc, DOC.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(0, std::ptr::null_mut()),
    ]));
    let spec = Box::leak(Box::new(ffi::PyType_Spec {
        name: c"_socket.socket".as_ptr(),
        // 0 inherits: the layouts must be equal for `socket.socket.__bases__` to be assigned.
        basicsize: 0,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | IMMUTABLETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    }));
    // SAFETY: the spec, its slots and methods are leaked; `base` is a type; the GIL is held.
    let made = unsafe {
        let object = ffi::PyType_FromSpecWithBases(spec, base.as_ptr());
        Bound::from_owned_ptr_or_err(py, object)?
    };
    Ok(made.cast_into::<PyType>()?)
}

/// Attributes cannot be set on it, as on the original (CPython 3.10, `Py_TPFLAGS_IMMUTABLETYPE`).
const IMMUTABLETYPE: std::ffi::c_ulong = 1 << 8;

/// The original method's docstring, with its signature where it has one.
fn docstring(base: &Bound<'_, PyType>, name: &CStr) -> PyResult<CString> {
    let name = name.to_str()?;
    let method = base.getattr("__dict__")?.get_item(name)?;
    let doc: Option<String> = method.getattr("__doc__")?.extract()?;
    let signature: Option<String> = method.getattr("__text_signature__")?.extract()?;
    let doc = doc.unwrap_or_default();
    let text = match signature {
        Some(signature) => format!("{name}{signature}\n--\n\n{doc}"),
        None => doc,
    };
    Ok(CString::new(text)?)
}
