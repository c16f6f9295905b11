//! `selectors.EpollSelector.select` in one native call: wait, look the keys up, build the list.
//!
//! The Python method costs a loop of its own for each event, about as much as a whole request costs
//! the stack; asyncio and most selector servers go through it. Called as a method of
//! `EpollSelector`; a subclass that overrides `select` or `_key_from_fd`, or replaced `_selector` by
//! something else, gets the original method. What never happens here: a change of what it returns.

use crate::args::{self, Timeout};
use crate::epoll::Epoll;
use crate::events::kept;
use pyo3::exceptions::PyInterruptedError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::time::Duration;

const EPOLLIN: u32 = libc::EPOLLIN as u32;
const EPOLLOUT: u32 = libc::EPOLLOUT as u32;
/// `selectors.EVENT_READ` and `EVENT_WRITE`.
const READ: i64 = 1;
const WRITE: i64 = 2;

/// What the replaced method needs, for as long as the process lives.
struct Originals {
    select: Py<PyAny>,
    /// Gone in CPython 3.13, whose `select` looks into `_fd_to_key` itself.
    key_from_fd: Option<Py<PyAny>>,
}

static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();

struct Names {
    selector: Py<PyString>,
    fd_to_key: Py<PyString>,
    key_from_fd: Py<PyString>,
    events: Py<PyString>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

fn names(py: Python<'_>) -> &'static Names {
    NAMES.get_or_init(py, || Names {
        selector: PyString::intern(py, "_selector").unbind(),
        fd_to_key: PyString::intern(py, "_fd_to_key").unbind(),
        key_from_fd: PyString::intern(py, "_key_from_fd").unbind(),
        events: PyString::intern(py, "events").unbind(),
    })
}

/// The timeout as `EpollSelector.select` takes it; `None` for what is no plain number.
fn timeout_of(timeout: Option<&Bound<'_, PyAny>>) -> Option<Timeout> {
    let Some(obj) = timeout.filter(|o| !o.is_none()) else { return Some(Timeout::Forever) };
    // SAFETY: a live object, the GIL is held; both conversions are of exact types and cannot run
    // code; an int too large for a double gives -1.0 with an exception, cleared here.
    let seconds = unsafe {
        if ffi::PyFloat_CheckExact(obj.as_ptr()) != 0 {
            ffi::PyFloat_AsDouble(obj.as_ptr())
        } else if ffi::PyLong_CheckExact(obj.as_ptr()) != 0 {
            ffi::PyLong_AsDouble(obj.as_ptr())
        } else {
            return None;
        }
    };
    if PyErr::take(obj.py()).is_some() {
        return None;
    }
    if seconds <= 0.0 {
        return Some(Timeout::Zero);
    }
    // Whole milliseconds, rounded up, at most what epoll takes. Not a number: the original raises.
    let ms = (seconds * 1e3).ceil();
    (ms <= f64::from(i32::MAX)).then(|| Timeout::For(Duration::from_millis(ms as u64)))
}

/// `key.events`, where a key is as a rule the named tuple `(fileobj, fd, events, data)`.
fn events_of(key: &Bound<'_, PyAny>, names: &Names) -> PyResult<i64> {
    match key.cast::<PyTuple>() {
        Ok(tuple) if tuple.len() == 4 => {
            // SAFETY: a tuple of four; a borrowed reference, which the key keeps alive.
            args::c_long(&unsafe {
                let item = ffi::PyTuple_GetItem(tuple.as_ptr(), 2);
                Bound::from_borrowed_ptr(key.py(), item)
            })
        }
        _ => args::c_long(&key.getattr(&names.events)?),
    }
}

/// A new reference to `(key, events)`.
fn ready_pair<'py>(
    key: &Bound<'py, PyAny>,
    mask: u32,
    names: &Names,
) -> PyResult<Bound<'py, PyAny>> {
    let written = if mask & !EPOLLIN != 0 { WRITE } else { 0 };
    let read = if mask & !EPOLLOUT != 0 { READ } else { 0 };
    let events = (written | read) & events_of(key, names)?;
    // SAFETY: the GIL is held; a tuple of two that is filled before anybody sees it.
    unsafe {
        let pair = Bound::from_owned_ptr_or_err(key.py(), ffi::PyTuple_New(2))?;
        let bits = Bound::from_owned_ptr_or_err(key.py(), ffi::PyLong_FromLong(events))?;
        ffi::PyTuple_SetItem(pair.as_ptr(), 0, key.clone().into_ptr());
        ffi::PyTuple_SetItem(pair.as_ptr(), 1, bits.into_ptr());
        Ok(pair)
    }
}

fn ready_list<'py>(
    fd_to_key: &Bound<'py, PyDict>,
    events: &mut dyn Iterator<Item = (i32, u32)>,
    names: &Names,
) -> PyResult<Bound<'py, PyAny>> {
    let py = fd_to_key.py();
    // SAFETY: the GIL is held; a new list.
    let list = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(0))? };
    for (fd, mask) in events {
        let number = kept().number(py, fd)?;
        // SAFETY: the GIL is held. A borrowed reference, or null with or without an exception;
        // ints hash and compare without running code.
        let key = unsafe {
            let key = ffi::PyDict_GetItemWithError(fd_to_key.as_ptr(), number.as_ptr());
            match Bound::from_borrowed_ptr_or_opt(py, key) {
                Some(key) => key,
                None => match PyErr::take(py) {
                    Some(e) => return Err(e),
                    None => continue,
                },
            }
        };
        let pair = ready_pair(&key, mask, names)?;
        // SAFETY: a list and a live object.
        if unsafe { ffi::PyList_Append(list.as_ptr(), pair.as_ptr()) } != 0 {
            return Err(args::raised(py));
        }
    }
    Ok(list)
}

/// The fast way; `None` when only the original method will do.
fn fast_select<'py>(
    this: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
    originals: &Originals,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = this.py();
    let names = names(py);
    let Some(timeout) = timeout_of(timeout) else { return Ok(None) };
    if let Some(original) = &originals.key_from_fd {
        if !this.get_type().getattr(&names.key_from_fd)?.is(original) {
            return Ok(None);
        }
    }
    let selector = this.getattr(&names.selector)?;
    let fd_to_key = this.getattr(&names.fd_to_key)?;
    let (Ok(epoll), Ok(fd_to_key)) =
        (selector.cast_exact::<Epoll>(), fd_to_key.cast_exact::<PyDict>())
    else {
        return Ok(None);
    };
    let max = fd_to_key.len().max(1);
    let list =
        epoll.get().poll_into(py, timeout, max, |_, events| ready_list(fd_to_key, events, names));
    match list {
        // The method's own `except InterruptedError: return ready`.
        Err(e) if e.is_instance_of::<PyInterruptedError>(py) => {
            // SAFETY: the GIL is held; a new list.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(0)).map(Some) }
        }
        other => other.map(Some),
    }
}

fn select<'py>(
    this: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let Some(originals) = ORIGINALS.get(py) else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err("EpollSelector is not patched"));
    };
    if let Some(list) = fast_select(this, timeout, originals)? {
        return Ok(list);
    }
    originals.select.bind(py).call1((this, timeout))
}

/// `select(self, timeout=None)` as CPython calls it.
unsafe extern "C" fn entry(
    this: *mut ffi::PyObject,
    argv: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as METH_FASTCALL | METH_KEYWORDS with the GIL held: `argv` holds
    // `nargs` arguments, then one for each name.
    unsafe {
        let py = Python::assume_attached();
        let names = if kwnames.is_null() { 0 } else { ffi::PyTuple_Size(kwnames).max(0) };
        let known = names == 0
            || (names == 1
                && ffi::PyUnicode_CompareWithASCIIString(
                    ffi::PyTuple_GetItem(kwnames, 0),
                    c"timeout".as_ptr(),
                ) == 0);
        if nargs + names > 1 || !known {
            let text = c"EpollSelector.select() takes one argument, 'timeout'";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, text.as_ptr());
            return std::ptr::null_mut();
        }
        let this = Bound::from_borrowed_ptr(py, this);
        let timeout = (nargs + names == 1).then(|| Bound::from_borrowed_ptr(py, *argv));
        match select(&this, timeout.as_ref()) {
            Ok(list) => list.into_ptr(),
            Err(e) => {
                e.restore(py);
                std::ptr::null_mut()
            }
        }
    }
}

/// A method for `EpollSelector` in place of its `select`, which it calls when it must.
///
/// One for each process: the originals of the first call stay.
#[pyfunction]
pub fn epoll_select<'py>(class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let originals = Originals {
        select: class.getattr("select")?.unbind(),
        key_from_fd: class.getattr("_key_from_fd").ok().map(Bound::unbind),
    };
    // Set already when the stack is installed a second time: the same functions again.
    let _ = ORIGINALS.set(py, originals);
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"select".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: c"select($self, /, timeout=None)\n--\n\nPerform the actual selection.".as_ptr(),
    }));
    // SAFETY: a type (checked by the cast), and a definition that lives for ever.
    unsafe {
        let class = class.cast::<pyo3::types::PyType>()?;
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)
    }
}
