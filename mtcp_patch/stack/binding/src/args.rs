//! What CPython's `selectmodule.c` and `posixmodule.c` do with arguments and errors, for the natives
//! that stand in for them: descriptors, masks, timeouts, errno.
//!
//! Called by `epoll`, `poll`, `select`, `watcher` and `fdfuncs`, with the GIL held. Nothing here
//! touches the runtime. The texts are CPython's own: programs and its test suite compare them.

use crate::gil;
use mtcp_host::errno::Errno;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// An argument that may be left out. Unlike an `Option`, None is a value like any other: where
/// CPython wants a number it is a TypeError.
pub enum Given<'py> {
    /// It was not given.
    Absent,
    /// It was.
    Value(Bound<'py, PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = std::convert::Infallible;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self::Value(obj.to_owned()))
    }
}

impl<'py> Given<'py> {
    /// `convert`ed, or the default.
    pub fn or<T>(
        &self,
        default: T,
        convert: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<T> {
        match self {
            Self::Absent => Ok(default),
            Self::Value(obj) => convert(obj),
        }
    }
}

/// How long a wait may last, as the caller gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timeout {
    /// `None` or negative: until something happens.
    Forever,
    /// Zero: look and return.
    Zero,
    /// At most this long.
    For(Duration),
}

impl Timeout {
    /// The moment at which the wait ends; `None` when it has no end.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Forever => None,
            Self::Zero => Some(Instant::now()),
            // A wait whose end the clock cannot express has no end.
            Self::For(d) => Instant::now().checked_add(d),
        }
    }

    /// What is left of it for a wait that began then.
    pub fn after(self, began: Instant) -> Self {
        match self {
            Self::For(d) => match d.saturating_sub(began.elapsed()) {
                Duration::ZERO => Self::Zero,
                left => Self::For(left),
            },
            other => other,
        }
    }

    fn from_ns(ns: i64) -> Self {
        match ns {
            0 => Self::Zero,
            1.. => Self::For(Duration::from_nanos(ns.unsigned_abs())),
            _ => Self::Forever,
        }
    }
}

/// Milliseconds for `poll(2)` and `epoll_wait(2)` until `deadline`, rounded up; -1 without one.
pub fn millis_until(deadline: Option<Instant>) -> i32 {
    let Some(end) = deadline else { return -1 };
    let left = end.saturating_duration_since(Instant::now());
    i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// Runs `f`, which may sleep, without the GIL.
///
/// Not `Python::detach`: under Python before 3.14 a daemon thread that sleeps there when the
/// interpreter ends would unwind through it and abort the process (see `gil`).
pub fn without_gil<T: Send>(_py: Python<'_>, f: impl FnOnce() -> T + Send) -> T {
    // SAFETY: `_py` proves that the GIL is held, and what is `Send` holds no Python object.
    unsafe { gil::released(f) }
}

/// The `OSError` (of the right subclass) that CPython raises for a failed system call.
#[cold]
pub fn os_error(py: Python<'_>, errno: Errno) -> PyErr {
    // SAFETY: errno is thread-local, the GIL is held, and PyErr_SetFromErrno sets an exception.
    unsafe {
        *libc::__errno_location() = errno.0;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
    PyErr::take(py).unwrap_or_else(|| PyOSError::new_err(errno.0))
}

/// A descriptor number from an int or an object with `fileno()`, as `PyObject_AsFileDescriptor`.
#[inline]
pub fn descriptor(obj: &Bound<'_, PyAny>) -> PyResult<i32> {
    // SAFETY: a live object, the GIL is held; -1 comes with an exception set.
    let fd = unsafe { ffi::PyObject_AsFileDescriptor(obj.as_ptr()) };
    if fd < 0 {
        return Err(raised(obj.py()));
    }
    Ok(fd)
}

/// The exception that a C API call has just set.
#[cold]
pub fn raised(py: Python<'_>) -> PyErr {
    PyErr::fetch(py)
}

/// A C `int`; errors as `PyArg_Parse("i")` has them.
pub fn c_int(obj: &Bound<'_, PyAny>) -> PyResult<i32> {
    let value = c_long(obj)?;
    i32::try_from(value)
        .map_err(|_| PyOverflowError::new_err("Python int too large to convert to C int"))
}

/// A C `long`.
pub fn c_long(obj: &Bound<'_, PyAny>) -> PyResult<i64> {
    // SAFETY: a live object, the GIL is held.
    let value = unsafe { ffi::PyLong_AsLong(obj.as_ptr()) };
    if value == -1 {
        if let Some(e) = PyErr::take(obj.py()) {
            return Err(e);
        }
    }
    Ok(value)
}

/// An epoll event mask: any int, of which the low 32 bits count (`unsigned_int(bitwise=True)`).
pub fn epoll_mask(obj: &Bound<'_, PyAny>) -> PyResult<u32> {
    // SAFETY: a live object, the GIL is held.
    let value = unsafe { ffi::PyLong_AsUnsignedLongMask(obj.as_ptr()) };
    if value == u64::MAX {
        if let Some(e) = PyErr::take(obj.py()) {
            return Err(e);
        }
    }
    Ok(value as u32)
}

/// A `poll` event mask: `unsigned short`, errors as `_PyLong_UnsignedShort_Converter` has them.
pub fn poll_mask(obj: &Bound<'_, PyAny>) -> PyResult<u16> {
    // SAFETY: a live object, the GIL is held.
    if unsafe { ffi::PyLong_Check(obj.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err("an integer is required"));
    }
    if obj.lt(0)? {
        return Err(PyValueError::new_err("value must be positive"));
    }
    // SAFETY: as above.
    let value = unsafe { ffi::PyLong_AsUnsignedLong(obj.as_ptr()) };
    if value == u64::MAX {
        if let Some(e) = PyErr::take(obj.py()) {
            return Err(e);
        }
    }
    u16::try_from(value)
        .map_err(|_| PyOverflowError::new_err("Python int too large for C unsigned short"))
}

/// `unit_ns` nanoseconds times a number, rounded away from zero (`_PyTime_ROUND_TIMEOUT`).
fn time_ns(obj: &Bound<'_, PyAny>, unit_ns: i64) -> PyResult<i64> {
    // SAFETY: a live object, the GIL is held.
    if unsafe { ffi::PyFloat_Check(obj.as_ptr()) } != 0 {
        // SAFETY: it is a float.
        let value = unsafe { ffi::PyFloat_AsDouble(obj.as_ptr()) };
        if value.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        let ns = value * unit_ns as f64;
        let ns = if ns >= 0.0 { ns.ceil() } else { ns.floor() };
        // 2^63 is exact as a double; i64::MAX is not.
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ns) {
            return Err(PyOverflowError::new_err("timestamp out of range for platform time_t"));
        }
        return Ok(ns as i64);
    }
    let too_large = || PyOverflowError::new_err("timestamp too large to convert to C _PyTime_t");
    // SAFETY: a live object, the GIL is held.
    let value = unsafe { ffi::PyLong_AsLongLong(obj.as_ptr()) };
    if value == -1 {
        if let Some(e) = PyErr::take(obj.py()) {
            let overflow = e.is_instance_of::<PyOverflowError>(obj.py());
            return Err(if overflow { too_large() } else { e });
        }
    }
    value.checked_mul(unit_ns).ok_or_else(too_large)
}

fn timeout_of(obj: &Bound<'_, PyAny>, unit_ns: i64, type_error: &'static str) -> PyResult<i64> {
    time_ns(obj, unit_ns).map_err(|e| {
        if e.is_instance_of::<PyTypeError>(obj.py()) {
            PyTypeError::new_err(type_error)
        } else {
            e
        }
    })
}

/// The timeout of `epoll.poll` (seconds, `unit_ns` 10^9) and `poll.poll` (milliseconds, 10^6).
pub fn poll_timeout(obj: Option<&Bound<'_, PyAny>>, unit_ns: i64) -> PyResult<Timeout> {
    let Some(obj) = obj.filter(|o| !o.is_none()) else { return Ok(Timeout::Forever) };
    let ns = timeout_of(obj, unit_ns, "timeout must be an integer or None")?;
    // The C code hands whole milliseconds to the kernel, as an int.
    let ms = ns / 1_000_000 + i64::from(ns % 1_000_000 > 0);
    if i32::try_from(ms).is_err() {
        return Err(PyOverflowError::new_err("timeout is too large"));
    }
    Ok(Timeout::from_ns(ns))
}

/// The timeout of `select.select`, in seconds.
pub fn select_timeout(obj: Option<&Bound<'_, PyAny>>) -> PyResult<Timeout> {
    let Some(obj) = obj.filter(|o| !o.is_none()) else { return Ok(Timeout::Forever) };
    let ns = timeout_of(obj, 1_000_000_000, "timeout must be a float or None")?;
    if ns < 0 {
        return Err(PyValueError::new_err("timeout must be non-negative"));
    }
    Ok(Timeout::from_ns(ns))
}
