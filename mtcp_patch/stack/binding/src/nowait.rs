//! Receiving, sending and waiting apart from one another, for `ssl_shim`, which drives OpenSSL
//! between them. Only descriptors of ours; nothing but `fd_wait` waits, whatever the socket's
//! timeout or O_NONBLOCK.

use crate::args::{self, Timeout};
use crate::fdfuncs::received;
use crate::poll::wait_for;
use mtcp_host::errno::Errno;
use mtcp_host::runtime::{PollFd, Runtime, Vfd};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::Duration;

/// fd_recv_nowait(vfd, n, /): at most `n` bytes, empty at the end of the stream, None when there
/// is nothing yet.
#[pyfunction]
#[pyo3(signature = (vfd, n, /))]
pub fn fd_recv_nowait<'py>(
    py: Python<'py>,
    vfd: Vfd,
    n: usize,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    match received(py, vfd, n) {
        Ok(bytes) => bytes.map(Some),
        Err(Errno(libc::EAGAIN)) => Ok(None),
        Err(e) => Err(args::os_error(py, e)),
    }
}

/// fd_send_nowait(vfd, data, /): how many bytes were taken, 0 when there is no room.
#[pyfunction]
#[pyo3(signature = (vfd, data, /))]
pub fn fd_send_nowait(py: Python<'_>, vfd: Vfd, data: &[u8]) -> PyResult<usize> {
    match Runtime::global().send(vfd, data, 0) {
        Ok(n) => Ok(n),
        Err(Errno(libc::EAGAIN)) => Ok(0),
        Err(e) => Err(args::os_error(py, e)),
    }
}

/// fd_send_room(vfd, /): bytes that a send would take now.
#[pyfunction]
#[pyo3(signature = (vfd, /))]
pub fn fd_send_room(py: Python<'_>, vfd: Vfd) -> PyResult<usize> {
    Runtime::global().send_room(vfd).map_err(|e| args::os_error(py, e))
}

/// fd_wait(vfd, events, timeout, /): whether one of poll's `events` came within `timeout` seconds
/// (None: however long it takes). Signal handlers run meanwhile (PEP 475).
#[pyfunction]
#[pyo3(signature = (vfd, events, timeout, /))]
pub fn fd_wait(py: Python<'_>, vfd: Vfd, events: u32, timeout: Option<f64>) -> PyResult<bool> {
    let timeout = match timeout {
        None => Timeout::Forever,
        Some(s) => Duration::try_from_secs_f64(s).map_or(Timeout::Zero, Timeout::For),
    };
    let mut fds = [PollFd { fd: vfd, events, revents: 0 }];
    Ok(wait_for(py, &mut fds, timeout)? > 0)
}
