//! Owned references to Python objects for code that speaks to CPython's C API directly.
//!
//! Used by the native types, whose methods are called without PyO3 in between. Everything here
//! needs the GIL, except what is said to release it in `gil`.

use pyo3::ffi;
use std::ffi::{c_char, CStr};
use std::ptr;

use crate::errors::Fail;

/// A strong reference, given back when dropped. Never null.
pub struct Owned(*mut ffi::PyObject);

impl Owned {
    /// Takes over a new reference, as most of the C API returns it. Null means that an exception is set.
    ///
    /// # Safety
    /// `object` is null with an exception set, or a reference that the caller owns. The GIL is held.
    pub unsafe fn new(object: *mut ffi::PyObject) -> Result<Self, Fail> {
        if object.is_null() {
            Err(Fail::Raised)
        } else {
            Ok(Self(object))
        }
    }

    /// Borrows the pointer; it lives as long as `self`.
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0
    }

    /// Hands the reference over to the caller, as a method's result for example.
    pub fn into_ptr(self) -> *mut ffi::PyObject {
        let object = self.0;
        std::mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `self.0` is a reference that we own, and the GIL is held wherever an Owned lives.
        unsafe { ffi::Py_DECREF(self.0) }
    }
}

/// A new reference to None.
pub fn none() -> *mut ffi::PyObject {
    // SAFETY: None is immortal for our purposes; the GIL is held by every caller in this crate.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// A Python int.
pub fn int(value: i64) -> Result<Owned, Fail> {
    // SAFETY: the GIL is held.
    unsafe { Owned::new(ffi::PyLong_FromLongLong(value)) }
}

/// A Python int of a byte count.
pub fn size(value: usize) -> Result<Owned, Fail> {
    // SAFETY: the GIL is held.
    unsafe { Owned::new(ffi::PyLong_FromSize_t(value)) }
}

/// A Python str of ASCII text.
pub fn text(value: &str) -> Result<Owned, Fail> {
    // SAFETY: the pointer and the length belong to `value`; the GIL is held.
    unsafe {
        Owned::new(ffi::PyUnicode_FromStringAndSize(
            value.as_ptr().cast::<c_char>(),
            value.len() as ffi::Py_ssize_t,
        ))
    }
}

/// The bytes of the two halves of a ring, as one Python bytes object. Null (an exception is set) when
/// there is no memory. Runs no Python code, so it may be called under the runtime's lock.
#[inline]
pub fn bytes_of(first: &[u8], second: &[u8]) -> *mut ffi::PyObject {
    // SAFETY: the GIL is held. The source pointers are those of slices; the destination was made
    // with room for both.
    unsafe {
        if second.is_empty() {
            let len = first.len() as ffi::Py_ssize_t;
            return ffi::PyBytes_FromStringAndSize(first.as_ptr().cast::<c_char>(), len);
        }
        let len = first.len() + second.len();
        let bytes = ffi::PyBytes_FromStringAndSize(ptr::null(), len as ffi::Py_ssize_t);
        if !bytes.is_null() {
            let out = ffi::PyBytes_AsString(bytes).cast::<u8>();
            ptr::copy_nonoverlapping(first.as_ptr(), out, first.len());
            ptr::copy_nonoverlapping(second.as_ptr(), out.add(first.len()), second.len());
        }
        bytes
    }
}

/// A tuple of the given objects.
pub fn tuple<const N: usize>(items: [Owned; N]) -> Result<Owned, Fail> {
    // SAFETY: the GIL is held; PyTuple_SetItem takes over each reference, also when it fails.
    unsafe {
        let tuple = Owned::new(ffi::PyTuple_New(N as ffi::Py_ssize_t))?;
        for (i, item) in items.into_iter().enumerate() {
            if ffi::PyTuple_SetItem(tuple.as_ptr(), i as ffi::Py_ssize_t, item.into_ptr()) != 0 {
                return Err(Fail::Raised);
            }
        }
        Ok(tuple)
    }
}

/// `getattr(object, name)`.
///
/// # Safety
/// `object` is a live object and the GIL is held.
pub unsafe fn attribute(object: *mut ffi::PyObject, name: &CStr) -> Result<Owned, Fail> {
    // SAFETY: as the caller promises.
    unsafe { Owned::new(ffi::PyObject_GetAttrString(object, name.as_ptr())) }
}
