//! `select.select()` over both kinds of descriptor.
//!
//! Owns nothing between calls. With kernel descriptors only it is `select(2)`, FD_SETSIZE errors
//! included; with a virtual one it goes through the runtime's poll, which has no such limit.
//! Each object's `fileno()` is called exactly once, and may change the list it stands in.

use crate::args::{self, Timeout};
use crate::poll::wait_for;
use mtcp_host::errno::Errno;
use mtcp_host::runtime::{is_virtual, PollFd};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::time::Instant;

/// Linux's `POLLIN_SET`, `POLLOUT_SET` and `POLLEX_SET` (fs/select.c), less POLLNVAL, and what to
/// ask poll for in their place.
const READ: (u32, u32) = (
    libc::POLLIN as u32,
    (libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLIN | libc::POLLHUP | libc::POLLERR) as u32,
);
const WRITE: (u32, u32) = (
    libc::POLLOUT as u32,
    (libc::POLLWRBAND | libc::POLLWRNORM | libc::POLLOUT | libc::POLLERR) as u32,
);
const EXCEPT: (u32, u32) = (libc::POLLPRI as u32, libc::POLLPRI as u32);
const CLASSES: [(u32, u32); 3] = [READ, WRITE, EXCEPT];

/// One of the three arguments: its objects with their descriptors, in order.
type Wanted<'py> = Vec<(Bound<'py, PyAny>, i32)>;

/// Reads one argument. A list may shrink or grow while its items' `fileno()` run.
fn wanted<'py>(sequence: &Bound<'py, PyAny>) -> PyResult<Wanted<'py>> {
    let py = sequence.py();
    // SAFETY: a live object and a C string; a new reference or null with an exception set.
    let fast: Bound<'py, PyAny> = unsafe {
        let message = c"arguments 1-3 must be sequences";
        Bound::from_owned_ptr_or_err(py, ffi::PySequence_Fast(sequence.as_ptr(), message.as_ptr()))?
    };
    let mut out = Vec::new();
    if let Ok(list) = fast.cast::<PyList>() {
        let mut i = 0;
        while i < list.len() {
            let item = list.get_item(i)?;
            let fd = args::descriptor(&item)?;
            out.push((item, fd));
            i += 1;
        }
    } else {
        for item in fast.cast::<PyTuple>()?.iter() {
            let fd = args::descriptor(&item)?;
            out.push((item, fd));
        }
    }
    Ok(out)
}

/// `select(2)` needs every number below FD_SETSIZE, and CPython refuses longer lists too.
fn check_sizes(lists: &[Wanted<'_>; 3]) -> PyResult<()> {
    for list in lists {
        if list.iter().any(|&(_, fd)| fd as usize >= libc::FD_SETSIZE) {
            return Err(PyValueError::new_err("filedescriptor out of range in select()"));
        }
        if list.len() > libc::FD_SETSIZE {
            return Err(PyValueError::new_err("too many file descriptors in select()"));
        }
    }
    Ok(())
}

fn fill(sets: &mut [libc::fd_set; 3], lists: [&[i32]; 3]) -> i32 {
    let mut highest = -1;
    for (set, list) in sets.iter_mut().zip(lists) {
        // SAFETY: the numbers are below FD_SETSIZE (`check_sizes`).
        unsafe {
            libc::FD_ZERO(set);
            for &fd in list {
                libc::FD_SET(fd, set);
                highest = highest.max(fd);
            }
        }
    }
    highest + 1
}

/// One `select(2)`. Sleeps: without the GIL.
fn select_once(
    numbers: [&[i32]; 3],
    sets: &mut [libc::fd_set; 3],
    timeout: Timeout,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    let count = fill(sets, numbers);
    let left = match timeout {
        Timeout::Zero => Some(std::time::Duration::ZERO),
        _ => deadline.map(|end| end.saturating_duration_since(Instant::now())),
    };
    let mut time = left.map(|d| libc::timeval {
        tv_sec: d.as_secs().min(i64::MAX as u64 / 2) as libc::time_t,
        tv_usec: d.subsec_nanos().div_ceil(1000).min(999_999).into(),
    });
    let time = time.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let [r, w, x] = sets;
    // SAFETY: three fd_sets and a timeval (or null) that live for the call.
    match unsafe { libc::select(count, r, w, x, time) } {
        n if n >= 0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

fn select_kernel(
    py: Python<'_>,
    lists: &[Wanted<'_>; 3],
    timeout: Timeout,
) -> PyResult<[Vec<bool>; 3]> {
    check_sizes(lists)?;
    let numbers = lists.each_ref().map(|l| l.iter().map(|&(_, fd)| fd).collect::<Vec<i32>>());
    let views = [numbers[0].as_slice(), numbers[1].as_slice(), numbers[2].as_slice()];
    // SAFETY: an fd_set is plain bits, all zero is the empty set.
    let mut sets: [libc::fd_set; 3] = unsafe { std::mem::zeroed() };
    let deadline = timeout.deadline();
    loop {
        match args::without_gil(py, || select_once(views, &mut sets, timeout, deadline)) {
            Ok(()) => break,
            Err(Errno(libc::EINTR)) => py.check_signals()?,
            Err(e) => return Err(args::os_error(py, e)),
        }
        if deadline.is_some_and(|end| Instant::now() >= end) {
            return Ok([Vec::new(), Vec::new(), Vec::new()]);
        }
    }
    let mut answer = [Vec::new(), Vec::new(), Vec::new()];
    for ((out, set), list) in answer.iter_mut().zip(&sets).zip(views) {
        // SAFETY: the numbers are below FD_SETSIZE.
        out.extend(list.iter().map(|&fd| unsafe { libc::FD_ISSET(fd, set) }));
    }
    Ok(answer)
}

/// The way over the runtime: one poll entry for each item of each list.
fn select_mixed(
    py: Python<'_>,
    lists: &[Wanted<'_>; 3],
    timeout: Timeout,
) -> PyResult<[Vec<bool>; 3]> {
    let mut answer = lists.each_ref().map(|l| vec![false; l.len()]);
    let mut fds = Vec::new();
    let mut owners = Vec::new();
    for (class, (list, (ask, _))) in lists.iter().zip(CLASSES).enumerate() {
        for (i, &(_, fd)) in list.iter().enumerate() {
            fds.push(PollFd { fd, events: ask, revents: 0 });
            owners.push((class, i));
        }
    }
    let deadline = timeout.deadline();
    let mut timeout = timeout;
    loop {
        wait_for(py, &mut fds, timeout)?;
        let mut any = false;
        for (f, &(class, i)) in fds.iter().zip(&owners) {
            if f.revents & libc::POLLNVAL as u32 != 0 {
                return Err(args::os_error(py, Errno(libc::EBADF)));
            }
            let counts = CLASSES.get(class).is_some_and(|(_, mask)| f.revents & mask != 0);
            if let Some(slot) = answer.get_mut(class).and_then(|a| a.get_mut(i)) {
                *slot = counts;
            }
            any |= counts;
        }
        if any || timeout == Timeout::Zero {
            return Ok(answer);
        }
        // poll reports a hang-up unasked; select does not count it for writing. Such an entry
        // would end every wait at once.
        let mut keep = fds.iter().map(|f| f.revents == 0).collect::<Vec<_>>().into_iter();
        owners.retain(|_| keep.next().unwrap_or(true));
        fds.retain(|f| f.revents == 0);
        if let Some(end) = deadline {
            let left = end.saturating_duration_since(Instant::now());
            timeout = if left.is_zero() { return Ok(answer) } else { Timeout::For(left) };
        }
    }
}

/// select(rlist, wlist, xlist[, timeout]) -> (rlist, wlist, xlist)
///
/// Wait until one or more file descriptors are ready for some kind of I/O. The first three
/// arguments are iterables of file descriptors to be waited for; timeout is in seconds, None waits
/// for ever. Returns three lists, subsets of the first three arguments.
#[pyfunction]
#[pyo3(signature = (*args), text_signature = "(rlist, wlist, xlist, timeout=None, /)")]
pub fn select<'py>(args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    let py = args.py();
    let n = args.len();
    if n < 3 {
        let text = format!("select expected at least 3 arguments, got {n}");
        return Err(PyTypeError::new_err(text));
    }
    if n > 4 {
        let text = format!("select expected at most 4 arguments, got {n}");
        return Err(PyTypeError::new_err(text));
    }
    let timeout = args::select_timeout(args.get_item(3).ok().as_ref())?;
    let lists =
        [wanted(&args.get_item(0)?)?, wanted(&args.get_item(1)?)?, wanted(&args.get_item(2)?)?];
    let mixed = lists.iter().flatten().any(|&(_, fd)| is_virtual(fd));
    let ready = if mixed {
        select_mixed(py, &lists, timeout)?
    } else {
        select_kernel(py, &lists, timeout)?
    };
    let results = lists.iter().zip(&ready).map(|(list, flags)| {
        let chosen = list.iter().zip(flags).filter(|(_, &f)| f).map(|((object, _), _)| object);
        PyList::new(py, chosen.collect::<Vec<_>>())
    });
    PyTuple::new(py, results.collect::<PyResult<Vec<_>>>()?)
}
