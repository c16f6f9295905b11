//! What `os` and `fcntl` do with a descriptor, for virtual ones.
//!
//! Called by `os_shim` (through `dispatch`) and by nothing else. Owns no state. Blocking follows the
//! description's O_NONBLOCK, as `read(2)` and `write(2)` on a socket do; Python's timeout belongs to
//! the socket object and plays no part here.
//! What never happens here: kernel descriptors, but for the file that `fd_sendfile` reads.

use crate::args::{self, Timeout};
use crate::poll::wait_for;
use mtcp_host::errno::Errno;
use mtcp_host::runtime::{PollFd, Runtime, Vfd};
use mtcp_host::runtime_fd;
use mtcp_host::sys::{self, IntRequest};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::RawFd;

/// One step of `fd_sendfile`: what is read from the file and handed to the stack at a time.
const SENDFILE_CHUNK: usize = 128 * 1024;
/// The most that one `fd_sendfile` call moves; callers loop, as `sendfile(2)` obliges them to.
const SENDFILE_MOST: usize = 4 * 1024 * 1024;

/// A caller's buffer, contiguous and readable, for as long as this lives.
struct Source(ffi::Py_buffer);

impl Source {
    fn new(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        // SAFETY: a live object and a buffer to fill; the GIL is held.
        let failed = unsafe { ffi::PyObject_GetBuffer(obj.as_ptr(), &mut view, ffi::PyBUF_SIMPLE) };
        if failed != 0 {
            return Err(args::raised(obj.py()));
        }
        Ok(Self(view))
    }

    fn bytes(&self) -> &[u8] {
        if self.0.len <= 0 || self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: PyBUF_SIMPLE promises `len` readable bytes until the release in `drop`.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), self.0.len as usize) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer; dropped with the GIL held, as it was made.
        unsafe { ffi::PyBuffer_Release(&mut self.0) }
    }
}

/// Waits until `vfd` is ready for `events`, unless the description is non-blocking: then EAGAIN.
fn wait_or_refuse(py: Python<'_>, vfd: Vfd, events: i16) -> PyResult<()> {
    match Runtime::global().nonblocking(vfd) {
        Err(e) => Err(args::os_error(py, e)),
        Ok(true) => Err(args::os_error(py, Errno(libc::EAGAIN))),
        Ok(false) => {
            let mut fds = [PollFd { fd: vfd, events: events as u16 as u32, revents: 0 }];
            wait_for(py, &mut fds, Timeout::Forever).map(|_| ())
        }
    }
}

/// What has been received, at most `max` bytes; EAGAIN when there is nothing yet.
pub fn received<'py>(
    py: Python<'py>,
    vfd: Vfd,
    max: usize,
) -> Result<PyResult<Bound<'py, PyBytes>>, Errno> {
    // Making bytes runs no Python code and cannot release the GIL.
    Runtime::global().recv_with(vfd, max, 0, |a, b| {
        PyBytes::new_with(py, a.len() + b.len(), |out| {
            let (head, tail) = out.split_at_mut(a.len());
            head.copy_from_slice(a);
            tail.copy_from_slice(b);
            Ok(())
        })
    })
}

/// os.read(fd, length, /): at most `length` bytes; empty at the end of the stream.
#[pyfunction]
#[pyo3(signature = (vfd, n, /))]
pub fn fd_read<'py>(py: Python<'py>, vfd: Vfd, n: isize) -> PyResult<Bound<'py, PyBytes>> {
    let max = usize::try_from(n).map_err(|_| args::os_error(py, Errno(libc::EINVAL)))?;
    loop {
        match received(py, vfd, max) {
            Ok(bytes) => return bytes,
            Err(Errno(libc::EAGAIN)) => wait_or_refuse(py, vfd, libc::POLLIN)?,
            Err(e) => return Err(args::os_error(py, e)),
        }
    }
}

/// os.write(fd, data, /): the number of bytes taken. Blocking: all of them.
#[pyfunction]
#[pyo3(signature = (vfd, data, /))]
pub fn fd_write(py: Python<'_>, vfd: Vfd, data: &Bound<'_, PyAny>) -> PyResult<usize> {
    let source = Source::new(data)?;
    let bytes = source.bytes();
    let mut sent = 0;
    loop {
        let rest = bytes.get(sent..).unwrap_or_default();
        match Runtime::global().send(vfd, rest, 0) {
            Ok(n) => sent += n,
            Err(Errno(libc::EAGAIN)) => {}
            Err(_) if sent > 0 => return Ok(sent),
            Err(e) => return Err(args::os_error(py, e)),
        }
        if sent >= bytes.len() {
            return Ok(sent);
        }
        if let Err(e) = wait_or_refuse(py, vfd, libc::POLLOUT) {
            return if sent > 0 { Ok(sent) } else { Err(e) };
        }
    }
}

/// os.close(fd)
#[pyfunction]
pub fn fd_close(py: Python<'_>, fd: Vfd) -> PyResult<()> {
    let lingering = Runtime::global().close(fd).map_err(|e| args::os_error(py, e))?;
    if let Some(lingering) = lingering {
        args::without_gil(py, || Runtime::global().linger(lingering));
    }
    Ok(())
}

/// fd_give_to_kernel(vfd, /)
///
/// Makes the socket the kernel's for good; the kernel descriptor behind it.
#[pyfunction]
#[pyo3(signature = (vfd, /))]
pub fn fd_give_to_kernel(py: Python<'_>, vfd: Vfd) -> PyResult<RawFd> {
    Runtime::global().give_to_kernel(vfd).map_err(|e| args::os_error(py, e))
}

/// fd_adopt(fd, at=None, /)
///
/// Takes over a kernel TCP socket; the virtual descriptor that it has from now on.
#[pyfunction]
#[pyo3(signature = (fd, at=None, /))]
pub fn fd_adopt(py: Python<'_>, fd: RawFd, at: Option<Vfd>) -> PyResult<Vfd> {
    let runtime = Runtime::try_global().map_err(|e| args::os_error(py, e))?;
    let copy = sys::dup_from(fd, 0).map_err(|e| args::os_error(py, e))?;
    let vfd = runtime.adopt(copy, at).map_err(|e| args::os_error(py, e))?;
    sys::close_raw(fd);
    Ok(vfd)
}

/// runtime_fds(low, high): the kernel descriptors of the runtime in that range, ascending. They are none of the program's.
#[pyfunction]
#[pyo3(signature = (low, high, /))]
pub fn runtime_fds(low: RawFd, high: RawFd) -> Vec<RawFd> {
    runtime_fd::within(low, high)
}

/// os.dup(fd, /): another virtual descriptor of the same connection.
#[pyfunction]
#[pyo3(signature = (vfd, /))]
pub fn fd_dup(py: Python<'_>, vfd: Vfd) -> PyResult<Vfd> {
    Runtime::global().dup(vfd).map_err(|e| args::os_error(py, e))
}

/// os.dup2(vfd, vfd2) of two different virtual numbers; the new one is inheritable.
#[pyfunction]
#[pyo3(signature = (vfd, vfd2, /))]
pub fn fd_dup2(py: Python<'_>, vfd: Vfd, vfd2: Vfd) -> PyResult<()> {
    let lingering = Runtime::global().dup2(vfd, vfd2).map_err(|e| args::os_error(py, e))?;
    if let Some(lingering) = lingering {
        args::without_gil(py, || Runtime::global().linger(lingering));
    }
    Ok(())
}

/// Whether `vfd` is an open virtual descriptor.
#[pyfunction]
pub fn fd_is_open(vfd: Vfd) -> bool {
    Runtime::global().is_open(vfd)
}

/// os.set_blocking(vfd, blocking): the description's O_NONBLOCK.
#[pyfunction]
pub fn fd_set_blocking(py: Python<'_>, vfd: Vfd, blocking: bool) -> PyResult<()> {
    Runtime::global().set_nonblocking(vfd, !blocking).map_err(|e| args::os_error(py, e))
}

/// os.get_blocking(vfd)
#[pyfunction]
pub fn fd_get_blocking(py: Python<'_>, vfd: Vfd) -> PyResult<bool> {
    Runtime::global().nonblocking(vfd).map(|on| !on).map_err(|e| args::os_error(py, e))
}

/// os.set_inheritable(fd, inheritable, /)
#[pyfunction]
#[pyo3(signature = (vfd, inheritable, /))]
pub fn fd_set_inheritable(py: Python<'_>, vfd: Vfd, inheritable: bool) -> PyResult<()> {
    Runtime::global().set_inheritable(vfd, inheritable).map_err(|e| args::os_error(py, e))
}

/// os.get_inheritable(fd, /)
#[pyfunction]
#[pyo3(signature = (vfd, /))]
pub fn fd_get_inheritable(py: Python<'_>, vfd: Vfd) -> PyResult<bool> {
    Runtime::global().inheritable(vfd).map_err(|e| args::os_error(py, e))
}

/// ioctl(2) for the requests that ask for one int: FIONREAD, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK.
#[pyfunction]
pub fn fd_ioctl_int(py: Python<'_>, vfd: Vfd, request: u32) -> PyResult<i32> {
    let request = IntRequest::of(request).ok_or(Errno(libc::ENOTTY));
    request.and_then(|r| Runtime::global().ioctl_int(vfd, r)).map_err(|e| args::os_error(py, e))
}

/// `pread(2)` into `buffer`, again after a signal.
fn read_at(fd: RawFd, buffer: &mut [u8], offset: libc::off_t) -> Result<usize, Errno> {
    loop {
        // SAFETY: the buffer has the length given.
        let n = unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
        match usize::try_from(n) {
            Ok(n) => return Ok(n),
            Err(_) => match Errno::last() {
                Errno(libc::EINTR) => {}
                e => return Err(e),
            },
        }
    }
}

/// Moves up to `count` bytes (bounded) from the file to the stack, until the send buffer is full or
/// the file ends. Reads the disk: without the GIL.
fn move_file(vfd: Vfd, fd: RawFd, offset: i64, count: usize) -> Result<usize, Errno> {
    let count = count.min(SENDFILE_MOST);
    let mut buffer = vec![0_u8; count.min(SENDFILE_CHUNK)];
    let mut moved = 0;
    while moved < count {
        let want = buffer.len().min(count - moved);
        let Some(space) = buffer.get_mut(..want) else { break };
        let n = match read_at(fd, space, offset + moved as i64) {
            // A pipe or a socket as the source: sendfile(2) has no mmap for it either.
            Err(Errno(libc::ESPIPE)) => return Err(Errno(libc::EINVAL)),
            Err(e) if moved == 0 => return Err(e),
            Err(_) | Ok(0) => break,
            Ok(n) => n,
        };
        match Runtime::global().send(vfd, buffer.get(..n).unwrap_or_default(), 0) {
            Ok(sent) => {
                moved += sent;
                if sent < n {
                    break;
                }
            }
            Err(e) if moved == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(moved)
}

/// os.sendfile(out_fd, in_fd, offset, count): bytes moved, 0 at the end of the file.
///
/// `offset` None reads at, and advances, the file's own position.
#[pyfunction]
pub fn fd_sendfile(
    py: Python<'_>,
    out_fd: Vfd,
    in_fd: RawFd,
    offset: Option<i64>,
    count: usize,
) -> PyResult<usize> {
    let vfd = out_fd;
    if !Runtime::global().is_open(vfd) {
        return Err(args::os_error(py, Errno(libc::EBADF)));
    }
    let start = match offset {
        Some(at) => at,
        // SAFETY: no pointers.
        None => unsafe { libc::lseek(in_fd, 0, libc::SEEK_CUR) },
    };
    if start < 0 {
        let failed = if offset.is_some() { Errno(libc::EINVAL) } else { Errno::last() };
        let spipe = failed == Errno(libc::ESPIPE);
        return Err(args::os_error(py, if spipe { Errno(libc::EINVAL) } else { failed }));
    }
    loop {
        match args::without_gil(py, || move_file(vfd, in_fd, start, count)) {
            Ok(moved) => {
                if offset.is_none() {
                    // SAFETY: no pointers. It was seekable a moment ago.
                    unsafe { libc::lseek(in_fd, start + moved as i64, libc::SEEK_SET) };
                }
                return Ok(moved);
            }
            Err(Errno(libc::EAGAIN)) => wait_or_refuse(py, vfd, libc::POLLOUT)?,
            Err(e) => return Err(args::os_error(py, e)),
        }
    }
}
