//! The host side of the stack: devices, threads, waiting and descriptors. It knows no Python.

pub mod errno;
pub mod runtime;
