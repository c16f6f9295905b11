//! One descriptor that is readable when any of several is: a nested epoll.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::runtime_fd::RuntimeFd;
use crate::sys;

/// An epoll that watches `fds` for input, level-triggered.
pub fn gather(fds: impl Iterator<Item = RawFd>) -> io::Result<RuntimeFd> {
    let epoll = sys::epoll_create()?;
    for fd in fds {
        let (add, events) = (libc::EPOLL_CTL_ADD, libc::EPOLLIN as u32);
        sys::epoll_ctl(epoll.as_raw_fd(), add, fd, events, fd as u64)?;
    }
    Ok(epoll)
}
