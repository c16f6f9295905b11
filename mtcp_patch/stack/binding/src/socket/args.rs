//! Python arguments as Rust values.
//!
//! Whatever is refused here gives `Fail::Arguments` with no exception set: the caller then asks
//! CPython's own method, which words the error.

use pyo3::ffi;
use std::slice;

use crate::errors::Fail;

type Object = *mut ffi::PyObject;

/// Forgets the exception of a conversion that did not work.
fn refused() -> Fail {
    // SAFETY: the GIL is held by whoever converts arguments.
    unsafe { ffi::PyErr_Clear() };
    Fail::Arguments
}

/// A `Py_ssize_t`, as format "n" takes it: an int or anything with `__index__`.
///
/// # Safety
/// `object` is a live object and the GIL is held.
#[inline]
pub unsafe fn ssize(object: Object) -> Result<isize, Fail> {
    // SAFETY: as the caller promises.
    unsafe {
        let value = ffi::PyLong_AsSsize_t(object);
        if value != -1 || ffi::PyErr_Occurred().is_null() {
            return Ok(value);
        }
        ffi::PyErr_Clear();
        let index = ffi::PyNumber_Index(object);
        if index.is_null() {
            return Err(refused());
        }
        let value = ffi::PyLong_AsSsize_t(index);
        ffi::Py_DECREF(index);
        if value == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(refused());
        }
        Ok(value)
    }
}

/// A C int, as format "i" takes it.
///
/// # Safety
/// `object` is a live object and the GIL is held.
#[inline]
pub unsafe fn int(object: Object) -> Result<i32, Fail> {
    // SAFETY: as the caller promises.
    unsafe {
        let value = ffi::PyLong_AsLong(object);
        if value == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(refused());
        }
        i32::try_from(value).map_err(|_| Fail::Arguments)
    }
}

/// A C int, or `default` when the argument was not given.
///
/// # Safety
/// `object` is null or a live object, and the GIL is held.
#[inline]
pub unsafe fn int_or(object: Object, default: i32) -> Result<i32, Fail> {
    if object.is_null() {
        return Ok(default);
    }
    // SAFETY: as the caller promises.
    unsafe { int(object) }
}

/// An unsigned C int without a range check, as format "I" takes it.
///
/// # Safety
/// `object` is a live object and the GIL is held.
pub unsafe fn uint_mask(object: Object) -> Result<u32, Fail> {
    // SAFETY: as the caller promises.
    unsafe {
        let value = ffi::PyLong_AsUnsignedLongMask(object);
        if value == u64::MAX && !ffi::PyErr_Occurred().is_null() {
            return Err(refused());
        }
        Ok(value as u32)
    }
}

/// The memory of a bytes-like object, held until dropped.
pub struct Buffer {
    view: ffi::Py_buffer,
    /// Of a bytes object no view is taken: it cannot change, and its caller keeps it alive.
    held: bool,
}

impl Buffer {
    /// For reading (format "y*").
    ///
    /// # Safety
    /// `object` is a live object that outlives the buffer, and the GIL is held.
    #[inline]
    pub unsafe fn readable(object: Object) -> Result<Self, Fail> {
        // SAFETY: as the caller promises.
        unsafe {
            if ffi::PyBytes_CheckExact(object) != 0 {
                let mut view = ffi::Py_buffer::new();
                view.buf = ffi::PyBytes_AsString(object).cast();
                view.len = ffi::PyBytes_Size(object);
                return Ok(Self { view, held: false });
            }
            Self::take(object, ffi::PyBUF_SIMPLE)
        }
    }

    /// For writing (format "w*").
    ///
    /// # Safety
    /// `object` is a live object, and the GIL is held.
    #[inline]
    pub unsafe fn writable(object: Object) -> Result<Self, Fail> {
        // SAFETY: as the caller promises.
        unsafe { Self::take(object, ffi::PyBUF_WRITABLE) }
    }

    #[inline]
    unsafe fn take(object: Object, flags: i32) -> Result<Self, Fail> {
        let mut view = ffi::Py_buffer::new();
        // SAFETY: as the caller promises; `view` is released in drop().
        if unsafe { ffi::PyObject_GetBuffer(object, &mut view, flags) } != 0 {
            return Err(refused());
        }
        Ok(Self { view, held: true })
    }

    /// Bytes in the buffer.
    #[inline]
    pub fn len(&self) -> usize {
        self.view.len.max(0) as usize
    }

    /// The bytes. Another thread may write into the same bytearray meanwhile, as with any
    /// extension module; the length cannot change while the view is held.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: the exporter guarantees `len` contiguous bytes at `buf` while the view is held.
        unsafe { slice::from_raw_parts(self.view.buf.cast::<u8>(), self.len()) }
    }

    /// The bytes, to write into. Only of a buffer made by `writable`.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.len() == 0 || self.view.readonly != 0 || !self.held {
            return &mut [];
        }
        // SAFETY: as in as_slice(), and the exporter has granted PyBUF_WRITABLE.
        unsafe { slice::from_raw_parts_mut(self.view.buf.cast::<u8>(), self.len()) }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.held {
            // SAFETY: the view was filled by PyObject_GetBuffer; the GIL is held.
            unsafe { ffi::PyBuffer_Release(&mut self.view) };
        }
    }
}

/// The items of any iterable, each held.
///
/// # Safety
/// `object` is a live object and the GIL is held.
pub unsafe fn sequence(object: Object) -> Result<crate::object::Owned, Fail> {
    // SAFETY: as the caller promises. PySequence_Tuple takes any iterable and gives a new tuple.
    unsafe { crate::object::Owned::new(ffi::PySequence_Tuple(object)).map_err(|_| refused()) }
}

/// The items of a tuple made by `sequence`, borrowed from it.
pub fn items(tuple: &crate::object::Owned) -> impl Iterator<Item = Object> + '_ {
    // SAFETY: `tuple` is a tuple, and every index is below its size.
    unsafe {
        let len = ffi::PyTuple_Size(tuple.as_ptr());
        (0..len).map(move |i| ffi::PyTuple_GetItem(tuple.as_ptr(), i))
    }
}
