//! Native stand-ins for functions that take a descriptor: `os.read`, `os.close`, `fcntl.fcntl` ...
//!
//! `os_shim` makes one for each function that it replaces. A call looks at the descriptor and goes
//! on, arguments untouched, to the original or to the function for virtual descriptors. A Python
//! wrapper would cost a kernel `os.read` 80 ns, wrapt's 600; this costs about 10.
//! What never happens here: a decision about what a virtual descriptor can do.

use crate::args;
use mtcp_host::runtime::VFD_BASE;
use mtcp_host::runtime_fd;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void, CString};

extern "C" {
    /// In the stable ABI since 3.12; 3.11 exports it with the same signature.
    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        kwnames: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// The two targets of a stand-in: the state of the module object that is its self.
///
/// A module and not a tuple, because pickle, inspect and repr take a builtin whose self is a module
/// for a function of that module, which is what the originals are.
#[repr(C)]
struct Targets {
    original: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
}

struct Definition(UnsafeCell<ffi::PyModuleDef>);
// SAFETY: only CPython changes it, with the GIL held.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(UnsafeCell::new(ffi::PyModuleDef {
    m_base: ffi::PyModuleDef_HEAD_INIT,
    m_name: c"mtcp_patch.dispatch".as_ptr(),
    m_doc: std::ptr::null(),
    m_size: size_of::<Targets>() as ffi::Py_ssize_t,
    m_methods: std::ptr::null_mut(),
    m_slots: std::ptr::null_mut(),
    m_traverse: None,
    m_clear: None,
    m_free: Some(free_targets),
}));

unsafe extern "C" fn free_targets(module: *mut c_void) {
    // SAFETY: called by CPython with one of our modules, whose state it made, zeroed at first.
    unsafe {
        let state = ffi::PyModule_GetState(module.cast()).cast::<Targets>();
        if !state.is_null() {
            ffi::Py_XDECREF((*state).original);
            ffi::Py_XDECREF((*state).other);
        }
    }
}

/// A module object that holds both targets.
fn targets<'py>(
    original: &Bound<'py, PyAny>,
    other: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = original.py();
    // SAFETY: the GIL is held; the definition lives for ever, and the state has its size.
    unsafe {
        let module = ffi::PyModule_Create2(DEFINITION.0.get(), ffi::PYTHON_ABI_VERSION);
        let module = Bound::from_owned_ptr_or_err(py, module)?;
        let state = ffi::PyModule_GetState(module.as_ptr()).cast::<Targets>();
        if state.is_null() {
            return Err(args::raised(py));
        }
        (*state).original = original.clone().into_ptr();
        (*state).other = other.clone().into_ptr();
        Ok(module)
    }
}

/// The number that the int `obj` is, -1 for what no descriptor can be.
///
/// # Safety
/// A live object; the GIL is held.
unsafe fn number(obj: *mut ffi::PyObject) -> c_int {
    let mut overflow: c_int = 0;
    // SAFETY: by the caller; an int cannot fail to convert, a too large one gives -1.
    unsafe {
        if ffi::PyLong_Check(obj) == 0 {
            return -1;
        }
        let number = ffi::PyLong_AsLongAndOverflow(obj, &mut overflow);
        number.try_into().unwrap_or(-1)
    }
}

/// The int `obj` is a virtual descriptor's number.
///
/// # Safety
/// A live object; the GIL is held.
unsafe fn is_virtual_int(obj: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller.
    unsafe { number(obj) >= VFD_BASE }
}

/// The int `obj` is a virtual descriptor's number, or one that the runtime has from the kernel.
///
/// # Safety
/// A live object; the GIL is held.
unsafe fn is_kept_int(obj: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller.
    let number = unsafe { number(obj) };
    number >= VFD_BASE || runtime_fd::contains(number)
}

/// `obj.fileno()` is virtual; an error is left to the original function to raise.
///
/// # Safety
/// A live object; the GIL is held.
unsafe fn has_virtual_fileno(obj: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller.
    unsafe {
        if ffi::PyLong_Check(obj) != 0 {
            return is_virtual_int(obj);
        }
        let fd = ffi::PyObject_AsFileDescriptor(obj);
        if fd < 0 {
            ffi::PyErr_Clear();
        }
        fd >= VFD_BASE
    }
}

/// What decides about a call.
#[derive(Clone, Copy)]
enum Looks {
    /// The first argument, an int.
    First,
    /// The first argument, an int or an object with `fileno()`.
    FirstOrFileno,
    /// The first, an int; the runtime's kernel descriptors count as virtual, that they cannot be
    /// closed.
    Close,
    /// The first two; in the second place, where a number is overwritten, the runtime's kernel
    /// descriptors count as virtual.
    Two,
}

/// # Safety
/// As CPython calls a METH_FASTCALL | METH_KEYWORDS function whose self is from [`targets`].
unsafe fn call(
    looks: Looks,
    module: *mut ffi::PyObject,
    argv: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: `argv` holds `nargs` positional arguments and then one for each name of `kwnames`;
    // the module's state lives as long as the function.
    unsafe {
        let names = if kwnames.is_null() { 0 } else { ffi::PyTuple_Size(kwnames).max(0) };
        // A descriptor given by keyword is the first of those there are, as a rule.
        let given = (nargs + names) as usize;
        let is_virtual = match looks {
            Looks::First if nargs > 0 => is_virtual_int(*argv),
            Looks::FirstOrFileno => given > 0 && has_virtual_fileno(*argv),
            Looks::First => (0..given).any(|i| is_virtual_int(*argv.add(i))),
            Looks::Close => given > 0 && is_kept_int(*argv),
            Looks::Two => {
                given > 0 && is_virtual_int(*argv) || given > 1 && is_kept_int(*argv.add(1))
            }
        };
        let state = ffi::PyModule_GetState(module).cast::<Targets>();
        let target = if is_virtual { (*state).other } else { (*state).original };
        PyObject_Vectorcall(target, argv, nargs as usize, kwnames)
    }
}

macro_rules! entry {
    ($name:ident, $looks:expr) => {
        unsafe extern "C" fn $name(
            module: *mut ffi::PyObject,
            argv: *const *mut ffi::PyObject,
            nargs: ffi::Py_ssize_t,
            kwnames: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: called by CPython as METH_FASTCALL | METH_KEYWORDS.
            unsafe { call($looks, module, argv, nargs, kwnames) }
        }
    };
}
entry!(by_first, Looks::First);
entry!(by_first_or_fileno, Looks::FirstOrFileno);
entry!(to_close, Looks::Close);
entry!(by_two, Looks::Two);

/// The entry of `call_before`.
unsafe extern "C" fn both(
    module: *mut ffi::PyObject,
    argv: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as METH_FASTCALL | METH_KEYWORDS; the module's state lives as long
    // as the function.
    unsafe {
        let state = ffi::PyModule_GetState(module).cast::<Targets>();
        let first = PyObject_Vectorcall((*state).other, argv, nargs as usize, kwnames);
        if first.is_null() {
            return first;
        }
        ffi::Py_DECREF(first);
        PyObject_Vectorcall((*state).original, argv, nargs as usize, kwnames)
    }
}

fn c_string(text: String) -> PyResult<CString> {
    CString::new(text).map_err(|_| PyValueError::new_err("embedded null character"))
}

/// A builtin that calls `virtual_` for virtual descriptors and `original` for all others.
///
/// It has the name, signature and doc of `original`. `looks` is "first" (an int), "fileno" (an int
/// or an object with fileno()), "close" (an int that would be closed) or "two" (either of the first
/// two ints, the second of which would be overwritten).
#[pyfunction]
pub fn fd_dispatch(
    original: &Bound<'_, PyAny>,
    virtual_: &Bound<'_, PyAny>,
    looks: &str,
) -> PyResult<Py<PyAny>> {
    let entry = match looks {
        "first" => by_first,
        "fileno" => by_first_or_fileno,
        "close" => to_close,
        "two" => by_two,
        other => return Err(PyValueError::new_err(format!("unknown looks: {other}"))),
    };
    stand_in(original, virtual_, entry)
}

/// A builtin that calls `first` and then `original`, both with the same arguments. An error of
/// `first` is raised instead of the call.
///
/// It has the name, signature and doc of `original`, and leaves no frame in a traceback of its.
#[pyfunction]
pub fn call_before(original: &Bound<'_, PyAny>, first: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    stand_in(original, first, both)
}

/// A builtin over `entry` that looks like `original` and has both functions behind it.
fn stand_in(
    original: &Bound<'_, PyAny>,
    other: &Bound<'_, PyAny>,
    entry: ffi::PyCFunctionFastWithKeywords,
) -> PyResult<Py<PyAny>> {
    let py = original.py();
    let name: String = original.getattr("__name__")?.extract()?;
    let text = |attribute: &str| -> String {
        original.getattr(attribute).and_then(|v| v.extract()).unwrap_or_default()
    };
    let signature = text("__text_signature__");
    let doc = text("__doc__");
    let doc = if signature.is_empty() { doc } else { format!("{name}{signature}\n--\n\n{doc}") };
    // A builtin needs its definition for ever, and the original may go before it does: leaked, a
    // few hundred bytes for each replaced function.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c_string(name)?.into_raw(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: c_string(doc)?.into_raw(),
    }));
    let targets = targets(original, other)?;
    let module = original.getattr("__module__")?;
    // SAFETY: the definition lives for ever; the function takes its own references to the others.
    let function = unsafe { ffi::PyCFunction_NewEx(definition, targets.as_ptr(), module.as_ptr()) };
    if function.is_null() {
        return Err(args::raised(py));
    }
    // SAFETY: a new reference that we own.
    Ok(unsafe { Py::from_owned_ptr(py, function) })
}
