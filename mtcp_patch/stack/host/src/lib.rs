//! The host side of the stack: devices, threads, waiting and descriptors. It knows no Python.
//!
//! Under `--cfg loom` it is only what `make loom` tries out: see `sync`.

#![cfg_attr(loom, allow(dead_code))]

#[cfg(not(loom))]
pub mod addrs;
#[cfg(not(loom))]
pub mod errno;
#[cfg(not(loom))]
pub mod interrupt;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
mod netlink;
#[cfg(not(loom))]
mod peers;
#[cfg(not(loom))]
pub mod route;
#[cfg(not(loom))]
pub mod runtime;
#[cfg(not(loom))]
pub mod runtime_fd;
#[cfg(not(loom))]
mod stack_thread;
mod sync;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod sysctl;
#[cfg(not(loom))]
pub mod turnstile;
#[cfg(not(loom))]
pub mod xdp;

#[cfg(loom)]
#[path = "xdp/ring.rs"]
mod ring;

#[cfg(loom)]
#[path = "peers/ring.rs"]
mod frame_ring;
