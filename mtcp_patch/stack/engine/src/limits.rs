//! Every maximum of the engine, in one place.
//!
//! What grows with the traffic (connections, buffers, queues, ranges) stops at a number of this
//! file, and a counter of [`crate::stats::Stats`] says how often it stopped.

use crate::tcp::congestion::INITIAL_WINDOW;
use crate::tcp::conn_options::Keepalive;
use crate::tcp::ecn::EcnMode;

/// Out-of-order ranges that any connection may keep; a further one is dropped and the peer resends it.
pub const MIN_REASSEMBLY_RANGES: usize = 64;

/// Bytes of its receive buffer that give a connection the right to one range more: half of the
/// segments of a window may be lost, while the account of what lies between costs 1 % of the buffer.
pub const BYTES_PER_REASSEMBLY_RANGE: usize = 1024;

/// Self-contained replies (RST, TIME-WAIT acknowledgments) waiting for one device.
pub const MAX_PENDING_REPLIES: usize = 4096;

/// Segments that one connection may have out, in number: small ones must not cost more memory for
/// their account than they have bytes.
pub const MAX_SENT_SEGMENTS: usize = 32_768;

/// Segments that overtake a lost one (RFC 5681 3.2), before the network was seen to reorder.
pub const DUPLICATE_THRESHOLD: u32 = 3;

/// The largest degree of reordering that is believed, in segments (Linux: `tcp_max_reordering`).
pub const MAX_REORDERING: u32 = 300;

/// Challenge acknowledgments a second for the whole shard (RFC 5961 section 7).
pub const MAX_CHALLENGE_ACKS_PER_SECOND: u32 = 1000;

/// Acknowledgments that leave at once when a connection begins (Linux: `TCP_MAX_QUICKACKS`).
pub const QUICK_ACKS: u8 = 16;

/// How long the counter of SYN cookies stands still, in microseconds (Linux: a minute).
pub const SYN_COOKIE_PERIOD_US: u64 = 60_000_000;

/// Values of that counter with which a cookie is taken: the one of now and the one before.
pub const SYN_COOKIE_PERIODS: u64 = 2;

/// SYNs and SYN-ACKs waiting for one device. While it takes none, connections may come and go.
pub const MAX_PENDING_CONTROL: usize = 65_536;

/// Segments that one connection may send before the next of the data list has its turn.
pub const MAX_SEGMENTS_PER_TURN: usize = 16;

/// Timers that one call runs; the rest are due at once again. A hundred thousand connections that
/// leave TIME-WAIT together must not hold up the packets of the others.
pub const MAX_TIMERS_PER_TURN: usize = 4096;

/// Listeners of one shard.
pub const MAX_LISTENERS: usize = 65_536;

/// The longest accept queue, whatever backlog was asked for (Linux: `net.core.somaxconn`).
pub const MAX_BACKLOG: usize = 4096;

/// Window scale shift that RFC 7323 section 2.3 permits at most.
pub const MAX_WINDOW_SCALE: u8 = 14;

/// The smallest buffer allocation, in bytes.
pub const MIN_BUFFER_BYTES: usize = 1024;

/// Buffers up to this size go back to the shard's pool the moment they run empty, in bytes.
pub const MAX_POOLED_BUFFER_BYTES: usize = 16 * 1024;

/// Memory that the pool of free buffers may hold, in bytes for each of its five sizes.
pub const MAX_POOL_BYTES_PER_SIZE: usize = 1024 * 1024;

/// What an empty buffer may hold even when the shard's memory is used up, in bytes: every
/// connection can make progress, however slowly.
pub const GUARANTEED_BUFFER_BYTES: usize = 4 * 1024;

/// The smallest payload limit that a peer or an ICMP message can force on us, in bytes.
/// (RFC 9293 3.7.1 lets the default be 536; smaller ones exist, tiny ones are attacks.)
pub const MIN_SEND_MSS: u32 = 48;

/// The smallest path MTU that an IPv4 router can force on us, in bytes (Linux: `min_pmtu`).
pub const MIN_PMTU_V4: u32 = 552;

/// The same for IPv6, which has no smaller links (RFC 8200 5).
pub const MIN_PMTU_V6: u32 = 1280;

/// How long a path MTU is believed, in microseconds (RFC 1191 6.3; Linux: `mtu_expires`).
pub const PMTU_EXPIRES_US: u64 = 600_000_000;

/// Retransmissions of full-size segments in vain after which smaller ones are tried (Linux:
/// `tcp_retries1`).
pub const BLACK_HOLE_TIMEOUTS: u8 = 3;

/// The MSS that is tried then, in bytes (RFC 4821 7.2: `eff_pmtu` 1024; Linux: `tcp_base_mss`).
pub const BLACK_HOLE_MSS: u32 = 1024;

/// The smallest receive buffer that an application can choose, in bytes (Linux: `SOCK_MIN_RCVBUF`).
pub const MIN_RECV_BUFFER_BYTES: u32 = 2304;

/// The shortest keepalive time and interval, in microseconds (Linux takes whole seconds from 1).
pub const MIN_KEEPALIVE_US: u64 = 1_000_000;

/// TIME-WAIT where bytes never leave the process, in microseconds: a queue in memory neither delays
/// nor repeats a segment, so the maximum segment lifetime is that of one batch. The port is free
/// again at once, as Linux allows on its loopback (`tcp_tw_reuse` = 2).
pub const LOCAL_TIME_WAIT_US: u64 = 1_000;

/// What a shard may use, and its timing. Sizes in bytes, times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest receive buffer of a connection, hence the largest window offered: the default holds
    /// what is in flight at 1 Gbit/s and 100 ms.
    pub recv_buffer_bytes: usize,
    /// Receive buffer limit of a new connection; it grows with what is read in a round trip.
    pub recv_buffer_initial_bytes: usize,
    /// Send buffer limit of a new connection; it follows the congestion window.
    pub send_buffer_initial_bytes: usize,
    /// Largest send buffer of a connection.
    pub send_buffer_bytes: usize,
    /// Connections of the shard, in every state together.
    pub max_connections: usize,
    /// Buffer memory of all connections together.
    pub max_memory_bytes: usize,
    /// Half-open connections of one listener; what comes then is answered with SYN cookies.
    pub syn_queue: usize,
    /// Half-open connections of all listeners together; the same.
    pub max_half_open: usize,
    /// Whether there are SYN cookies (RFC 4987 3.6; Linux: `tcp_syncookies`). Without them the oldest
    /// half-open connection gives way.
    pub syn_cookies: bool,
    /// Maximum segment lifetime; TIME-WAIT lasts twice as long (RFC 9293 3.4.2 says 2 min, Linux 30 s).
    pub msl_us: u64,
    /// Retransmission timeout before there is a measurement (RFC 6298 2.1).
    pub rto_initial_us: u64,
    /// Least retransmission timeout (RFC 6298 2.4 says 1 s; Linux 200 ms).
    pub rto_min_us: u64,
    /// What is added to every retransmission timeout but that of the first SYN, below 65 s (FreeBSD:
    /// `rexmit_slop`).
    pub rto_slop_us: u64,
    /// Largest retransmission timeout (RFC 6298 2.5).
    pub rto_max_us: u64,
    /// Whether timestamps are offered and taken (RFC 7323; Linux: `tcp_timestamps`).
    pub timestamps: bool,
    /// Whether selective acknowledgment is offered and taken (RFC 2018; Linux: `tcp_sack`).
    pub sack: bool,
    /// Whether what arrives twice is reported (RFC 2883; Linux: `tcp_dsack`).
    pub dsack: bool,
    /// Whether losses are found by time (RFC 8985; Linux: `tcp_recovery` = 1), or only by what was
    /// acknowledged selectively above them (RFC 6675).
    pub rack: bool,
    /// Whether a timeout may show to be spurious by what is acknowledged after it (RFC 5682; Linux:
    /// `tcp_frto`).
    pub frto: bool,
    /// Congestion window of a new connection, in segments (RFC 6928; Linux: a route's `initcwnd`).
    pub initial_cwnd: u32,
    /// Full segments that the window of our SYN holds at most (Linux: a route's `initrwnd`).
    pub initial_rwnd: u32,
    /// The largest MSS to offer, in bytes, where the MTU allows more (Linux: a route's `advmss`).
    pub adv_mss: u16,
    /// Whether explicit congestion notification is negotiated (RFC 3168; Linux: `tcp_ecn`).
    pub ecn: EcnMode,
    /// Whether a silent sender begins with a small window again (RFC 5681 4.1; Linux:
    /// `tcp_slow_start_after_idle`).
    pub slow_start_after_idle: bool,
    /// Whether a black hole for full-size segments is looked for when they vanish (RFC 4821; Linux:
    /// `tcp_mtu_probing` = 1).
    pub mtu_probing: bool,
    /// Whether a window scale is offered and taken (RFC 7323; Linux: `tcp_window_scaling`).
    pub window_scaling: bool,
    /// Whether the receive buffer is made a whole number of full segments once their size is agreed,
    /// so that a full window leaves no part of a segment (4.4BSD and its heirs). The size is that
    /// before options.
    pub recv_buffer_whole_segments: bool,
    /// Whether the right edge of the window moves in steps of a full segment or half the buffer (RFC
    /// 9293 3.8.6.2.2), or with every byte that is read: 4.4BSD and its heirs avoid silly windows
    /// only when they decide whether to send an update. Their window is then the room in the buffer,
    /// also where that is more than the field of a segment can say.
    pub window_steps: bool,
    /// Whether a window that is no multiple of the scale's unit is rounded up (RFC 7323 2.4, so that its
    /// right edge does not move left), or down (4.4BSD and its heirs, FreeBSD until 2019).
    pub window_rounds_up: bool,
    /// Whether TIME-WAIT shows what is left of the window that was advertised last, or the room in the
    /// buffer, where the two may differ: without `window_steps` (FreeBSD until 2017).
    pub time_wait_keeps_window: bool,
    /// Whether TIME-WAIT acknowledges all that reaches it but the acknowledgment that it expects, each
    /// time (4.4BSD and its heirs); or what RFC 9293 3.10.7.4 wants answered, and that twice a second
    /// at most, as on Linux.
    pub time_wait_answers_all: bool,
    /// Whether acknowledgments carry our FIN again for as long as it is not acknowledged: 4.4BSD and
    /// its heirs derive the flags of a segment from the state.
    pub acks_repeat_fin: bool,
    /// Whether the application hears the errors that it would from Linux, or those of RFC 9293
    /// 3.10.7.4 and of 4.4BSD: a reset is ECONNRESET in CLOSE-WAIT, too (Linux: EPIPE), and ICMP's
    /// "prohibited" means that the connection was refused.
    pub linux_errors: bool,
    /// Whether an ICMP error other than a path MTU may end an open (FreeBSD: `icmp_may_rst`).
    pub icmp_may_reset: bool,
    /// Whether only the exact sequence number resets (RFC 5961 3.2), or any in the window, as RFC
    /// 9293 3.10.7.4 has it without that (FreeBSD: `insecure_rst`).
    pub exact_reset: bool,
    /// Whether a SYN in the window is answered by a challenge (RFC 5961 4.2), or ends the connection
    /// with a reset, as RFC 9293 3.10.7.4 has it without that (FreeBSD: `insecure_syn`).
    pub challenge_syn: bool,
    /// Whether whatever has SYN and FIN together is dropped in silence, in any state (FreeBSD:
    /// `drop_synfin`). Otherwise only a listener does so, and connections challenge it.
    pub drop_syn_fin: bool,
    /// Whether a listener takes a SYN with FIN, without the FIN (FreeBSD without `drop_synfin`).
    pub listen_takes_syn_fin: bool,
    /// Acknowledgments that leave at once when a connection begins (Linux: `TCP_MAX_QUICKACKS`).
    pub quick_acks: u8,
    /// Segments of any size that wait for an acknowledgment at most; 0: bytes are counted, two full
    /// segments (RFC 5681 4.2 speaks of those, and 4.4BSD counts all).
    pub delayed_ack_segments: u8,
    /// Whether an acknowledgment of what was never sent is answered (RFC 9293 3.10.7.4), or dropped in
    /// silence as on Linux (`tcp_ack`: SKB_DROP_REASON_TCP_ACK_UNSENT_DATA).
    pub challenge_unsent_ack: bool,
    /// Whether tail loss probes are sent (RFC 8985 7; Linux: `tcp_early_retrans`).
    pub tail_loss_probe: bool,
    /// Bytes that may wait unsent before a connection is no longer writable, where the application says
    /// nothing (Linux: `net.ipv4.tcp_notsent_lowat`).
    pub notsent_lowat: Option<u32>,
    /// Whether a send buffer is counted by packets and their overhead, and grows, as on Linux; else by
    /// payload. See `tcp::skb`.
    pub send_buffer_by_packets: bool,
    /// Longest delay of an acknowledgment (RFC 9293 3.8.6.3: below 500 ms).
    pub delayed_ack_us: u64,
    /// Whether the acknowledgment of a FIN waits as that of data does, for an application that mostly
    /// closes now, too (Linux: `tcp_fin` enters pingpong mode), or leaves at once (4.4BSD).
    pub delayed_fin_ack: bool,
    /// Least time between two acknowledgments of empty segments outside the window, for one
    /// connection: two peers that disagree must not answer each other for ever (Linux:
    /// `tcp_invalid_ratelimit`).
    pub stray_ack_interval_us: u64,
    /// Longest time that a corked partial segment waits (Linux: 200 ms).
    pub cork_us: u64,
    /// Stay of an abandoned connection in FIN-WAIT-2 (Linux: `tcp_fin_timeout`).
    pub fin_wait_2_us: u64,
    /// Time after which an empty large buffer is given back.
    pub buffer_idle_us: u64,
    /// Retransmissions of a SYN before connect fails (Linux: `tcp_syn_retries`; RFC 9293 MUST-23).
    pub syn_retries: u8,
    /// Time after which connect fails, whatever the number of its SYNs; 0: only that counts (FreeBSD:
    /// `keepinit`).
    pub connect_timeout_us: u64,
    /// Retransmissions of a SYN that still ask for ECN (RFC 3168 6.1.1.1; FreeBSD: `ecn.maxretries`).
    pub ecn_syn_retries: u8,
    /// Retransmissions of a SYN that still carry options besides the MSS; a box on the path may drop
    /// what it does not know (FreeBSD: 2 with `rexmit_drop_options`).
    pub syn_option_retries: u8,
    /// Silence before an idle connection is probed, when the application wants it and names no other
    /// (Linux: `tcp_keepalive_time`; RFC 9293 3.8.4, MUST-28: two hours at least by default).
    pub keepalive_idle_us: u64,
    /// Time between two such probes (Linux: `tcp_keepalive_intvl`).
    pub keepalive_interval_us: u64,
    /// Unanswered probes that end the connection (Linux: `tcp_keepalive_probes`).
    pub keepalive_count: u8,
    /// Retransmissions of a SYN-ACK (Linux: `tcp_synack_retries`).
    pub syn_ack_retries: u8,
    /// Retransmissions of data before the connection fails (Linux: `tcp_retries2`).
    pub data_retries: u8,
    /// The same once the application has closed it (Linux: `tcp_orphan_retries`).
    pub orphan_retries: u8,
}

impl Config {
    /// What a socket begins with.
    pub fn keepalive(&self) -> Keepalive {
        Keepalive {
            on: false,
            idle_us: self.keepalive_idle_us,
            interval_us: self.keepalive_interval_us,
            count: self.keepalive_count,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            recv_buffer_bytes: 15 * 1024 * 1024,
            recv_buffer_initial_bytes: 128 * 1024,
            send_buffer_initial_bytes: 256 * 1024,
            send_buffer_bytes: 16 * 1024 * 1024,
            max_connections: 1_048_576,
            max_memory_bytes: 1024 * 1024 * 1024,
            syn_queue: 4096,
            max_half_open: 65_536,
            syn_cookies: true,
            msl_us: 30_000_000,
            rto_initial_us: 1_000_000,
            rto_min_us: 200_000,
            rto_slop_us: 0,
            rto_max_us: 120_000_000,
            timestamps: true,
            sack: true,
            dsack: true,
            rack: true,
            frto: true,
            initial_cwnd: INITIAL_WINDOW,
            initial_rwnd: u32::MAX,
            adv_mss: u16::MAX,
            ecn: EcnMode::Answer,
            slow_start_after_idle: true,
            mtu_probing: true,
            window_scaling: true,
            recv_buffer_whole_segments: false,
            window_steps: true,
            window_rounds_up: true,
            time_wait_keeps_window: false,
            time_wait_answers_all: false,
            acks_repeat_fin: false,
            linux_errors: true,
            icmp_may_reset: true,
            exact_reset: true,
            challenge_syn: true,
            drop_syn_fin: false,
            listen_takes_syn_fin: false,
            quick_acks: QUICK_ACKS,
            challenge_unsent_ack: true,
            tail_loss_probe: true,
            notsent_lowat: None,
            send_buffer_by_packets: false,
            delayed_ack_segments: 0,
            delayed_ack_us: 40_000,
            delayed_fin_ack: true,
            stray_ack_interval_us: 500_000,
            cork_us: 200_000,
            fin_wait_2_us: 60_000_000,
            buffer_idle_us: 1_000_000,
            syn_retries: 6,
            connect_timeout_us: 0,
            ecn_syn_retries: 0,
            syn_option_retries: u8::MAX,
            keepalive_idle_us: 7_200_000_000,
            keepalive_interval_us: 75_000_000,
            keepalive_count: 9,
            syn_ack_retries: 5,
            data_retries: 15,
            orphan_retries: 8,
        }
    }
}
