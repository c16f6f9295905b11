//! What a connection remembers only to be asked about it (RFC 4898; Linux: `struct tcp_info`).
//!
//! Nothing decides by these numbers. `output` and `input` note segments here, one call each; the
//! shard's `info` reads. Counters wrap, as Linux's do. Times are the shard's.

use crate::time::Instant;

use super::tcb::Tcb;
use crate::wire::{Flags, Segment};

/// What kept a sender busy: Linux `enum tcp_chrono`. The order is that of their claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing waits and nothing is in flight.
    Idle,
    /// Data is on its way.
    Busy,
    /// The peer's window holds data back.
    RwndLimited,
    /// All is sent, the congestion window has room, and the writer was refused more buffer.
    SndbufLimited,
}

/// How long a sender was in each phase but the first, in microseconds.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Chronograph {
    phase: Phase,
    since: Instant,
    spent_us: [u64; 3],
}

impl Chronograph {
    fn new(now: Instant) -> Self {
        Self { phase: Phase::Idle, since: now, spent_us: [0; 3] }
    }

    fn slot(phase: Phase) -> Option<usize> {
        match phase {
            Phase::Idle => None,
            Phase::Busy => Some(0),
            Phase::RwndLimited => Some(1),
            Phase::SndbufLimited => Some(2),
        }
    }

    fn enter(&mut self, now: Instant, phase: Phase) {
        if phase == self.phase {
            return;
        }
        if let Some(us) = Self::slot(self.phase).and_then(|i| self.spent_us.get_mut(i)) {
            *us = us.saturating_add(now.micros_since(self.since));
        }
        self.phase = phase;
        self.since = now;
    }

    /// (busy, limited by the peer's window, limited by the send buffer); the first includes the
    /// others, as in Linux `tcp_get_info_chrono_stats`.
    pub(crate) fn read(&self, now: Instant) -> (u64, u64, u64) {
        let mut copy = *self;
        copy.enter(now, Phase::Idle);
        let [busy, rwnd, sndbuf] = copy.spent_us;
        (busy.saturating_add(rwnd).saturating_add(sndbuf), rwnd, sndbuf)
    }
}

/// The account of one connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)] // what every segment of data touches comes first
pub(crate) struct Account {
    /// Segments received, of any kind.
    pub(crate) segs_in: u32,
    /// Segments sent, repetitions included.
    pub(crate) segs_out: u32,
    /// Segments received with payload.
    pub(crate) data_segs_in: u32,
    /// Segments sent with payload.
    pub(crate) data_segs_out: u32,
    pub(crate) last_data_sent: Instant,
    pub(crate) last_data_recv: Instant,
    /// By how much SND.UNA has moved.
    pub(crate) bytes_acked: u64,
    pub(crate) chronograph: Chronograph,
    /// Payload sent again, in bytes.
    pub(crate) bytes_retrans: u64,
    /// Segments received beyond a gap.
    pub(crate) rcv_ooopack: u32,
}

impl Account {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            chronograph: Chronograph::new(now),
            segs_in: 0,
            segs_out: 0,
            data_segs_in: 0,
            data_segs_out: 0,
            rcv_ooopack: 0,
            bytes_retrans: 0,
            bytes_acked: 0,
            last_data_sent: now,
            last_data_recv: now,
        }
    }

    /// Both SYNs are through: the times start here, as in Linux (`tcp_finish_connect`).
    pub(crate) fn established(&mut self, now: Instant) {
        self.last_data_sent = now;
        self.last_data_recv = now;
    }

    /// A segment has reached the connection.
    pub(crate) fn received(&mut self, now: Instant, seg: &Segment<'_>) {
        self.segs_in = self.segs_in.wrapping_add(1);
        if !seg.payload.is_empty() && !seg.flags.contains(Flags::RST) {
            self.data_segs_in = self.data_segs_in.wrapping_add(1);
            self.last_data_recv = now;
        }
    }

    /// The device has taken a segment with `payload` bytes of data; `again`: not for the first time.
    pub(crate) fn sent(&mut self, now: Instant, payload: u32, again: bool) {
        self.segs_out = self.segs_out.wrapping_add(1);
        if payload > 0 {
            self.data_segs_out = self.data_segs_out.wrapping_add(1);
            self.last_data_sent = now;
        }
        if again {
            self.bytes_retrans = self.bytes_retrans.saturating_add(u64::from(payload));
        }
    }
}

/// Notes what the sender does from now on; to be called whenever that may have changed. `blocked`:
/// data waits that only the peer's window holds back.
pub(crate) fn phase(tcb: &mut Tcb, now: Instant, blocked: bool) {
    let phase = if tcb.tx.is_empty() {
        Phase::Idle
    } else if blocked {
        Phase::RwndLimited
    } else if tcb.unsent() == 0 && tcb.no_space.get() && !tcb.is_cwnd_limited() {
        Phase::SndbufLimited
    } else {
        Phase::Busy
    };
    tcb.account.chronograph.enter(now, phase);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_includes_the_reasons_and_goes_on_while_it_is_read() {
        let at = |us| Instant::from_micros(us);
        let mut chronograph = Chronograph::new(at(0));
        assert_eq!(chronograph.read(at(50)), (0, 0, 0));
        chronograph.enter(at(100), Phase::Busy);
        chronograph.enter(at(130), Phase::RwndLimited);
        assert_eq!(chronograph.read(at(150)), (50, 20, 0));
        chronograph.enter(at(150), Phase::SndbufLimited);
        chronograph.enter(at(160), Phase::Idle);
        assert_eq!(chronograph.read(at(900)), (60, 20, 10));
    }
}
