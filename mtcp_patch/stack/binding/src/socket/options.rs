//! `getsockopt` and `setsockopt`: Python's three shapes of a value. Which options exist is the
//! runtime's table.

use pyo3::ffi;
use std::ffi::c_char;

use super::args::{self, Buffer};
use super::call::{Answer, Call};
use crate::errors::Fail;
use crate::object::{self, none, Owned};

/// CPython's limit on `buflen`.
const MAX_VALUE_BYTES: usize = 1024;

/// `getsockopt(level, option[, buflen]) -> int | bytes`
pub(super) fn getsockopt(call: &Call) -> Answer {
    let [level, name, size] = call.positional(2)?;
    // SAFETY: the arguments of a call; the GIL is held.
    let (level, name, size) =
        unsafe { (args::int(level)?, args::int(name)?, args::int_or(size, 0)?) };
    let runtime = call.runtime();
    if size == 0 {
        let mut value = [0u8; 4];
        runtime.getsockopt(call.fd, level, name, &mut value)?;
        return Ok(object::int(i64::from(i32::from_ne_bytes(value)))?.into_ptr());
    }
    let mut value = [0u8; MAX_VALUE_BYTES];
    let room = usize::try_from(size).ok().and_then(|size| value.get_mut(..size));
    let room = room.ok_or(Fail::Arguments)?;
    let len = runtime.getsockopt(call.fd, level, name, room)?.min(room.len());
    // SAFETY: `len` bytes of `value` are there; the GIL is held.
    unsafe {
        let bytes =
            ffi::PyBytes_FromStringAndSize(value.as_ptr().cast::<c_char>(), len as ffi::Py_ssize_t);
        Ok(Owned::new(bytes)?.into_ptr())
    }
}

/// `setsockopt(level, option, value: int | buffer)` or `setsockopt(level, option, None, optlen)`
pub(super) fn setsockopt(call: &Call) -> Answer {
    let [level, name, value, size] = call.positional(3)?;
    // SAFETY: the arguments of a call; the GIL is held.
    unsafe {
        let (level, name) = (args::int(level)?, args::int(name)?);
        if value == ffi::Py_None() {
            // A null value: no option of ours takes one, and the kernel's TCP answers the same.
            let size = args::int(if size.is_null() { value } else { size })?;
            let fault = if (0..4).contains(&size) { libc::EINVAL } else { libc::EFAULT };
            return Err(Fail::errno(fault));
        }
        if !size.is_null() {
            return Err(Fail::Arguments);
        }
        if let Ok(number) = args::int(value) {
            call.runtime().setsockopt(call.fd, level, name, &number.to_ne_bytes())?;
        } else {
            let value = Buffer::readable(value)?;
            call.runtime().setsockopt(call.fd, level, name, value.as_slice())?;
        }
    }
    Ok(none())
}
