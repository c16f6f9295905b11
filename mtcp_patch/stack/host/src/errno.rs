//! The one place where the stack's errors become the kernel's numbers.

use std::fmt;

/// A Linux error number (`errno.h`), as `OSError.errno` carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The calling thread's last error, after a failed libc call.
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {})", self.0, std::io::Error::from_raw_os_error(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> Self {
        Self::from_raw_os_error(e.0)
    }
}

impl From<mtcp_engine::Error> for Errno {
    fn from(e: mtcp_engine::Error) -> Self {
        use mtcp_engine::Error;
        Self(match e {
            Error::WouldBlock => libc::EAGAIN,
            Error::InProgress => libc::EINPROGRESS,
            Error::NotConnected => libc::ENOTCONN,
            Error::AlreadyConnected => libc::EISCONN,
            Error::ConnectionRefused => libc::ECONNREFUSED,
            Error::ConnectionReset => libc::ECONNRESET,
            Error::ConnectionAborted => libc::ECONNABORTED,
            Error::BrokenPipe => libc::EPIPE,
            Error::TimedOut => libc::ETIMEDOUT,
            Error::HostUnreachable => libc::EHOSTUNREACH,
            Error::NetUnreachable => libc::ENETUNREACH,
            Error::AddrInUse => libc::EADDRINUSE,
            Error::Invalid => libc::EINVAL,
            Error::NoBuffers => libc::ENOBUFS,
            Error::BadId => libc::EBADF,
        })
    }
}
