//! The engine: everything between a frame and a readiness event, and nothing else.
//!
//! It is `no_std`, so a clock, a random source, a descriptor and a thread are not merely
//! forbidden by a lint: they cannot be named. Time and entropy are arguments.
//!
//! The path of a byte, one module a step:
//!
//! ```text
//!   device ─ frame ─> wire ─ segment ─> flow, listen ─> tcp ─> event ─> the driver (crate `host`)
//!            shard::handle_frame leads through all of it, shard::transmit back out
//! ```
//! [`shard`] is the door: start reading there. [`limits`] has every maximum, [`stats`] every
//! counter.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod buffer;
pub mod device;
pub mod event;
pub mod flow;
pub mod limits;
pub mod listen;
pub mod random;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slab;
pub mod stats;
mod tcp;
pub mod time;
mod wheel;
pub mod wire;

pub use event::{ConnId, Error, Event, ListenerId};
pub use limits::Config;
pub use listen::{ListenOptions, ListenerInfo};
pub use shard::{ConnInfo, ConnectOptions, Path, SendFlags, Shard, TcpInfo};
pub use stats::{Refusal, Stats};
pub use tcp::congestion::CongestionControl;
pub use tcp::conn_options::{ConnOptions, Keepalive};
pub use tcp::ecn::EcnMode;
pub use tcp::recovery::CaState;
pub use tcp::State;
