//! The engine: everything between a frame and a readiness event, and nothing else.
//!
//! It is `no_std`, so a clock, a random source, a descriptor and a thread are not merely
//! forbidden by a lint: they cannot be named. Time and entropy are arguments.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod device;
pub mod flow;
pub mod time;
pub mod wire;
