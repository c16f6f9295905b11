//! How large the receive buffer may grow: dynamic right-sizing (Linux `tcp_rcv_space_adjust`).
//!
//! Once a round trip it is asked how much the application read in it. A sender that is held back by
//! our window delivers one window a round trip, so a buffer of twice what was read lets slow start
//! double on; a reader that keeps less busy keeps what he has. `SO_RCVBUF` ends it. Called by the
//! application's reads; the window offered from it is `window`'s business.

use super::tcb::Tcb;
use crate::limits::Config;
use crate::time::Instant;

/// The running measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    since: Instant,
    /// Bytes that had been read in all when it began; wraps.
    read_before: u32,
    /// Most bytes that were read in one round trip (Linux: `rcvq_space.space`).
    most: u32,
}

impl Space {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, read_before: 0, most: 0 }
    }
}

/// The application has read.
pub(crate) fn adjust(tcb: &mut Tcb, config: &Config, now: Instant) {
    if tcb.options.recv_buffer_bytes.is_some() {
        return;
    }
    // That of our own segments, the handshake's at least: there is none better without timestamps.
    let rtt_us = tcb.rtt.srtt_us();
    if now.micros_since(tcb.space.since) < rtt_us {
        return;
    }
    let read = (tcb.bytes_in as u32).wrapping_sub(tcb.rx.len() as u32);
    let copied = read.wrapping_sub(tcb.space.read_before);
    tcb.space.since = now;
    tcb.space.read_before = read;
    let first = tcb.rcv_limit.min(10 * u32::from(tcb.adv_mss));
    let most = tcb.space.most.max(first).max(1);
    if copied <= most {
        return;
    }
    // Room for what slow start will send next, and for some segments while this one is judged; more
    // where it grew faster than that.
    let window = 2 * u64::from(copied) + 16 * u64::from(tcb.adv_mss);
    let grown = window * u64::from(copied - most) / u64::from(most);
    let max = config.recv_buffer_bytes as u64;
    let wanted = u32::try_from(window.saturating_add(2 * grown).min(max)).unwrap_or(u32::MAX);
    tcb.rcv_limit = tcb.rcv_limit.max(wanted);
    tcb.space.most = copied;
}
