//! Building `[(fd, mask), ...]`, the answer of every `poll()`.
//!
//! This is the hottest allocation of a `selectors` server, so the pairs of the commonest answer, a
//! virtual descriptor that is readable, are made once and handed out again: tuples and ints are
//! immutable, and an identical int object also makes the caller's dict look-up cheaper.

use crate::args;
use mtcp_host::runtime::VFD_BASE;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Virtual descriptors whose objects are kept; about 100 bytes each, once used.
const KEPT: usize = 16_384;
const EPOLLIN: u32 = libc::EPOLLIN as u32;

/// What is kept for one virtual descriptor.
struct Objects {
    number: Py<PyAny>,
    /// `(number, EPOLLIN)`
    readable: Py<PyAny>,
}

/// Objects of `VFD_BASE + i`, by `i`. Locked only with the GIL held and never across a call that
/// may release it.
pub struct Kept(Vec<Option<Objects>>);

static KEPT_OBJECTS: Mutex<Kept> = Mutex::new(Kept(Vec::new()));

/// The kept objects, for the time of one answer.
pub fn kept() -> MutexGuard<'static, Kept> {
    KEPT_OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// The objects of a virtual descriptor; `None` if its number is not kept.
    #[inline]
    fn get(&mut self, py: Python<'_>, vfd: i32) -> PyResult<Option<&Objects>> {
        let Some(index) = vfd.checked_sub(VFD_BASE).and_then(|i| usize::try_from(i).ok()) else {
            return Ok(None);
        };
        if index >= KEPT {
            return Ok(None);
        }
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let Some(slot) = self.0.get_mut(index) else { return Ok(None) };
        if slot.is_none() {
            // SAFETY: the GIL is held; new references that we own, or null with an exception.
            let (number, readable) = unsafe {
                let number = Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLong(vfd.into()))?;
                let pair = Bound::from_owned_ptr_or_err(py, new_pair(vfd, EPOLLIN))?;
                (number.unbind(), pair.unbind())
            };
            *slot = Some(Objects { number, readable });
        }
        Ok(slot.as_ref())
    }

    /// The int object of a descriptor, the same one each time for virtual descriptors.
    #[inline]
    pub fn number<'py>(&mut self, py: Python<'py>, fd: i32) -> PyResult<Bound<'py, PyAny>> {
        if let Some(objects) = self.get(py, fd)? {
            return Ok(objects.number.bind(py).clone());
        }
        // SAFETY: the GIL is held; a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLong(fd.into())) }
    }
}

/// A new reference to the tuple `(fd, mask)`; null with an exception set.
///
/// # Safety
/// The GIL is held.
unsafe fn new_pair(fd: i32, mask: u32) -> *mut ffi::PyObject {
    // SAFETY: by the caller. PyTuple_SetItem takes the references over.
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

/// A new reference to `(fd, mask)`.
fn pair(py: Python<'_>, kept: &mut Kept, fd: i32, mask: u32) -> PyResult<*mut ffi::PyObject> {
    if mask == EPOLLIN {
        if let Some(objects) = kept.get(py, fd)? {
            return Ok(objects.readable.bind(py).clone().into_ptr());
        }
    }
    // SAFETY: the GIL is held.
    let pair = unsafe { new_pair(fd, mask) };
    if pair.is_null() {
        return Err(args::raised(py));
    }
    Ok(pair)
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
    let owned = unsafe { Bound::from_owned_ptr(py, list) };
    let mut kept = kept();
    for (slot, (fd, mask)) in events.take(len).enumerate() {
        let pair = pair(py, &mut kept, fd, mask)?;
        // SAFETY: `slot` < `len`, the list is ours alone; the reference is taken over.
        unsafe { ffi::PyList_SetItem(list, slot as ffi::Py_ssize_t, pair) };
    }
    Ok(owned.unbind())
}
