//! The host side of the stack: devices, threads, waiting and descriptors. It knows no Python.

pub mod addrs;
pub mod errno;
pub mod interrupt;
mod netlink;
pub mod route;
pub mod runtime;
pub mod runtime_fd;
pub mod sys;
pub mod sysctl;
pub mod turnstile;
pub mod xdp;
