//! Building `[(fd, mask), ...]`, the answer of every `poll()`.
//!
//! This is the hottest allocation of a `selectors` server, so the pairs of the commonest answer, a
//! virtual descriptor that is readable, are made once and handed out again: tuples and ints are
//! immutable, and an identical int object also makes the caller's dict look-up cheaper.

use crate::args;
use mtcp_host::runtime::{Vfd, VFD_BASE};
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::Mutex;

/// Virtual descriptors whose pair is kept; about 100 bytes each, once used.
const KEPT_PAIRS: usize = 16_384;
const EPOLLIN: u32 = libc::EPOLLIN as u32;

/// Kept pairs `(VFD_BASE + i, EPOLLIN)`, by `i`. Locked only with the GIL held and never across a
/// call that may release it.
static PAIRS: Mutex<Vec<Option<Py<PyAny>>>> = Mutex::new(Vec::new());

/// A new reference to the tuple `(fd, mask)`; null with an exception set.
///
/// # Safety
/// The GIL is held.
unsafe fn new_pair(fd: i32, mask: u32) -> *mut ffi::PyObject {
    // SAFETY: by the caller. PyTuple_SetItem takes the references over, also when it fails, and
    // accepts a null item only in a tuple that is dropped at once.
    unsafe {
        let number = ffi::PyLong_FromLong(fd.into());
        let bits = ffi::PyLong_FromLong(mask.into());
        let pair = ffi::PyTuple_New(2);
        if number.is_null() || bits.is_null() || pair.is_null() {
            ffi::Py_XDECREF(number);
            ffi::Py_XDECREF(bits);
            ffi::Py_XDECREF(pair);
            return std::ptr::null_mut();
        }
        ffi::PyTuple_SetItem(pair, 0, number);
        ffi::PyTuple_SetItem(pair, 1, bits);
        pair
    }
}

/// A new reference to `(vfd, EPOLLIN)`, kept for the next time; null with an exception set.
fn readable_pair(
    py: Python<'_>,
    kept: &mut Vec<Option<Py<PyAny>>>,
    vfd: Vfd,
) -> *mut ffi::PyObject {
    let index = (vfd - VFD_BASE) as usize;
    if let Some(Some(pair)) = kept.get(index) {
        return pair.clone_ref(py).into_ptr();
    }
    // SAFETY: `py` proves that the GIL is held.
    let pair = unsafe { new_pair(vfd, EPOLLIN) };
    if pair.is_null() || index >= KEPT_PAIRS {
        return pair;
    }
    if kept.len() <= index {
        kept.resize_with(index + 1, || None);
    }
    if let Some(slot) = kept.get_mut(index) {
        // SAFETY: a live tuple of which we add a reference; the GIL is held.
        *slot = Some(unsafe { Py::from_borrowed_ptr(py, pair) });
    }
    pair
}

/// The list of `(descriptor, mask)` pairs for `events`, of which there are exactly `len`.
pub fn pair_list(
    py: Python<'_>,
    len: usize,
    events: impl Iterator<Item = (i32, u32)>,
) -> PyResult<Py<PyAny>> {
    // SAFETY: the GIL is held; a list of `len` empty slots, each filled below before anyone sees it.
    let list = unsafe { ffi::PyList_New(len as ffi::Py_ssize_t) };
    if list.is_null() {
        return Err(args::raised(py));
    }
    // SAFETY: a new reference that we own.
    let owned: Py<PyAny> = unsafe { Py::from_owned_ptr(py, list) };
    let mut kept = PAIRS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (slot, (fd, mask)) in events.take(len).enumerate() {
        let pair = if mask == EPOLLIN && fd >= VFD_BASE {
            readable_pair(py, &mut kept, fd)
        } else {
            // SAFETY: the GIL is held.
            unsafe { new_pair(fd, mask) }
        };
        if pair.is_null() {
            return Err(args::raised(py));
        }
        // SAFETY: `slot` < `len`, the list is ours alone; the reference is taken over.
        unsafe { ffi::PyList_SetItem(list, slot as ffi::Py_ssize_t, pair) };
    }
    Ok(owned)
}
