//! Loss: when something is taken for lost, and what is sent again (RFC 5681 3.2, RFC 6582).
//!
//! Fast retransmit is one flag, `resend`: output sends the segment at SND.UNA again. After a
//! timeout SND.NXT goes back to SND.UNA and slow start repeats from there. Windows are the
//! business of `congestion`.

use super::congestion::Ack;
use super::tcb::{list, Tcb};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::Seq;

/// Duplicate acknowledgments that mean a loss (RFC 5681 3.2).
const DUPLICATE_THRESHOLD: u8 = 3;

/// What a connection knows about losses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    duplicates: u8,
    /// Segments that may be in flight beyond the congestion window in fast recovery: as many as
    /// duplicates say have left the network.
    inflation: u32,
    /// In fast recovery.
    fast: bool,
    /// SND.MAX when recovery or the last timeout began.
    recover: Seq,
    /// The segment at SND.UNA is to be sent again, now.
    pub(crate) resend: bool,
}

impl Recovery {
    pub(crate) fn new(iss: Seq) -> Self {
        Self { duplicates: 0, inflation: 0, fast: false, recover: iss, resend: false }
    }

    /// Segments beyond the congestion window that may leave: those that the first two duplicates
    /// allow (RFC 3042), or those of fast recovery.
    pub(crate) fn extra(&self) -> u32 {
        if self.fast || self.duplicates >= DUPLICATE_THRESHOLD {
            self.inflation
        } else {
            u32::from(self.duplicates)
        }
    }
}

/// A duplicate acknowledgment came.
pub(crate) fn on_duplicate_ack(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if tcb.recovery.fast {
        // RFC 5681 3.2 step 4.
        tcb.recovery.inflation = tcb.recovery.inflation.saturating_add(1);
    } else {
        tcb.recovery.duplicates = tcb.recovery.duplicates.saturating_add(1);
        // RFC 6582 3.2 step 2: not for what was sent before the last recovery or timeout.
        if tcb.recovery.duplicates == DUPLICATE_THRESHOLD && tcb.snd_una.gt(tcb.recovery.recover) {
            tcb.recovery.fast = true;
            tcb.recovery.recover = tcb.snd_max;
            tcb.recovery.resend = true;
            // RFC 5681 3.2 step 3.
            tcb.recovery.inflation = u32::from(DUPLICATE_THRESHOLD);
            tcb.congestion.reduce(now);
            tcb.congestion.set_cwnd(tcb.congestion.ssthresh());
            env.stats.fast_retransmits += 1;
        }
    }
    env.enqueue(tcb, list::DATA);
}

/// `acked` new bytes were acknowledged; SND.UNA has moved. `flight` bytes were out before.
pub(crate) fn on_new_ack(
    tcb: &mut Tcb,
    now: Instant,
    acked: u32,
    flight: u32,
    rtt_us: Option<u64>,
) {
    let mss = tcb.mss.max(1);
    let segments = acked.div_ceil(mss);
    tcb.recovery.duplicates = 0;
    if !tcb.recovery.fast {
        let flight = flight.div_ceil(mss);
        let ack = Ack {
            acked: segments,
            in_flight_before: flight,
            rtt_us,
            srtt_us: tcb.rtt.srtt_us(),
            min_rtt_us: 0,
            now,
            snd_una: tcb.snd_una,
            snd_max: tcb.snd_max,
            limited: tcb.congestion.is_limited(),
        };
        tcb.congestion.on_ack(&ack);
        // Keeps `recover` within half the sequence space of SND.UNA on a connection without loss.
        if tcb.recovery.recover.lt(tcb.snd_una) {
            tcb.recovery.recover = tcb.snd_una - 1;
        }
    } else if tcb.snd_una.ge(tcb.recovery.recover) {
        tcb.recovery.fast = false;
        tcb.recovery.resend = false;
        tcb.recovery.inflation = 0;
        // RFC 6582 3.2 step 3, full acknowledgment, option (1): no burst after recovery.
        let flight = tcb.in_flight().div_ceil(mss).max(1).saturating_add(1);
        tcb.congestion.set_cwnd(tcb.congestion.ssthresh().min(flight));
    } else {
        // A partial acknowledgment: the next segment is lost as well.
        tcb.recovery.resend = true;
        let deflated = tcb.recovery.inflation.saturating_add(1).saturating_sub(segments);
        tcb.recovery.inflation = deflated;
    }
}

/// The retransmission timer expired: everything is sent again from SND.UNA, in slow start.
pub(crate) fn on_timeout(tcb: &mut Tcb, now: Instant) {
    // RFC 5681 3.1: a segment retransmitted already leaves ssthresh alone.
    if tcb.retries == 0 {
        tcb.congestion.reduce(now);
    }
    tcb.congestion.on_timeout(0);
    tcb.recovery =
        Recovery { duplicates: 0, inflation: 0, fast: false, recover: tcb.snd_max, resend: false };
    tcb.snd_nxt = tcb.snd_una;
    tcb.timed = None;
}

/// The path takes only smaller segments (RFC 1191 6.5): what is in flight is sent again at once,
/// and the congestion window stays.
pub(crate) fn resend_all(tcb: &mut Tcb) {
    tcb.snd_nxt = tcb.snd_una;
    tcb.timed = None;
}
