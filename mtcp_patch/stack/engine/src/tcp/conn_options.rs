//! What an application may choose for a connection: the socket options that the engine honours.
//!
//! Each is obeyed where its idea lives (`window`, `timer`, `output` …); here is only what they are.
//! The host checks values as the kernel does, so whatever stands here makes sense.

use super::congestion::CongestionControl;
use crate::limits::MIN_SEND_MSS;

/// TCP keepalive (RFC 9293 3.8.4): off unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether idle connections are probed.
    pub on: bool,
    /// Silence before the first probe, in microseconds (`TCP_KEEPIDLE`).
    pub idle_us: u64,
    /// Time between probes, in microseconds (`TCP_KEEPINTVL`).
    pub interval_us: u64,
    /// Unanswered probes after which the connection is given up (`TCP_KEEPCNT`).
    pub count: u8,
}

// RFC 9293 3.8.4: off unless asked for (MUST-25), after two hours (MUST-28) unless set (MUST-27).
impl Default for Keepalive {
    fn default() -> Self {
        // RFC 9293 3.8.4 (MUST-28): no less than two hours.
        Self { on: false, idle_us: 7_200_000_000, interval_us: 75_000_000, count: 9 }
    }
}

/// What an application may choose for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)] // what reading, writing and sending look at comes first
pub struct ConnOptions {
    /// Send small segments at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Send only full segments until this is taken away (`TCP_CORK`).
    pub cork: bool,
    /// Urgent data stays in its place in the stream (`SO_OOBINLINE`).
    pub oob_inline: bool,
    /// The DSCP bits of what we send, in their place in the TOS byte (`IP_TOS`, `IPV6_TCLASS`).
    pub dscp: u8,
    /// Hop limit of what we send (`IP_TTL`, `IPV6_UNICAST_HOPS`).
    pub hop_limit: Option<u8>,
    /// Receive buffer in bytes instead of automatic sizing (`SO_RCVBUF`).
    pub recv_buffer_bytes: Option<u32>,
    /// Send buffer in bytes instead of automatic sizing (`SO_SNDBUF`).
    pub send_buffer_bytes: Option<u32>,
    /// Writable only while fewer unsent bytes than this wait (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: Option<u32>,
    /// Largest receive window to offer, in bytes (`TCP_WINDOW_CLAMP`).
    pub window_clamp: Option<u32>,
    /// Readable only with this many bytes; 0 is 1 (`SO_RCVLOWAT`).
    pub recv_lowat: u32,
    /// Probing of idle connections.
    pub keepalive: Keepalive,
    /// Upper limit of the payload of a segment, both ways (`TCP_MAXSEG`); takes effect before connect.
    pub maxseg: Option<u16>,
    /// What moves the congestion window (`TCP_CONGESTION`).
    pub congestion: CongestionControl,
    /// How long the peer may leave data unacknowledged or its window closed, in microseconds, once
    /// the first repetition has left; 0 for the configured number of repetitions
    /// (`TCP_USER_TIMEOUT`; RFC 5482, the local half).
    pub user_timeout_us: u64,
    /// How long a connection that the application has closed stays in FIN-WAIT-2, in microseconds;
    /// `Some(0)`: not at all (`TCP_LINGER2`).
    pub fin_wait_2_us: Option<u64>,
    /// Repetitions of a SYN before connect fails (`TCP_SYNCNT`).
    pub syn_retries: Option<u8>,
    /// Whether to begin by acknowledging at once, or by expecting answers to carry acknowledgments;
    /// see [`crate::Shard::set_quickack`] for later (`TCP_QUICKACK`).
    pub quickack: Option<bool>,
}

impl ConnOptions {
    /// The application's limit for the payload of a segment, in bytes.
    pub(crate) fn max_segment(&self) -> u16 {
        self.maxseg.unwrap_or(u16::MAX).max(MIN_SEND_MSS as u16)
    }
}
