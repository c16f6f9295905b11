//! One connection, as RFC 9293 describes it.
//!
//! ```text
//!   handle_frame ──> input ──> (recovery, congestion, window, reassembly) ──> Tcb
//!   handle_timers ─> timer ─┘                                                  │
//!   transmit <────── output <──────────────────────────────────────────────────┘
//! ```
//! Every function takes the [`tcb::Tcb`] it works on and the [`crate::shard::Env`] of its shard;
//! none looks at another connection.

pub(crate) mod account;
pub(crate) mod ack;
pub(crate) mod congestion;
pub(crate) mod conn_options;
pub(crate) mod cookie;
pub(crate) mod duplicate_ack;
pub(crate) mod ecn;
pub(crate) mod eor;
pub(crate) mod input;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod plain_ack;
pub(crate) mod pmtu;
pub(crate) mod prr;
pub(crate) mod rack;
pub(crate) mod reassembly;
pub(crate) mod recovery;
pub(crate) mod reno;
pub(crate) mod request;
pub(crate) mod rtt;
pub(crate) mod sack_receiver;
pub(crate) mod sack_sender;
pub(crate) mod sent;
pub(crate) mod skb;
pub(crate) mod space;
pub(crate) mod state;
pub(crate) mod tcb;
pub(crate) mod time_wait;
pub(crate) mod timer;
pub(crate) mod timestamps;
pub(crate) mod tlp;
pub(crate) mod undo;
pub(crate) mod urgent;
pub(crate) mod window;

pub use state::State;
