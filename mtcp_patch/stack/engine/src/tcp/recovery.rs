//! Loss: when something is taken for lost, and what is sent again (RFC 5681 3.2, RFC 6582).
//!
//! Fast retransmit is one flag, `resend`: output sends the segment at SND.UNA again. After a
//! timeout SND.NXT goes back to SND.UNA and slow start repeats from there. Windows are the
//! business of `congestion`.

use super::congestion::Controller;
use super::tcb::{list, Tcb};
use crate::shard::Env;
use crate::wire::Seq;

/// Duplicate acknowledgments that mean a loss (RFC 5681 3.2).
const DUPLICATE_THRESHOLD: u8 = 3;

/// What a connection knows about losses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    duplicates: u8,
    /// In fast recovery.
    fast: bool,
    /// SND.MAX when recovery or the last timeout began.
    recover: Seq,
    /// The segment at SND.UNA is to be sent again, now.
    pub(crate) resend: bool,
}

impl Recovery {
    pub(crate) fn new(iss: Seq) -> Self {
        Self { duplicates: 0, fast: false, recover: iss, resend: false }
    }

    /// Segments beyond the congestion window that the first two duplicates allow (RFC 3042).
    pub(crate) fn limited_transmit(&self) -> u32 {
        if self.fast || self.duplicates >= DUPLICATE_THRESHOLD {
            0
        } else {
            u32::from(self.duplicates)
        }
    }
}

/// A duplicate acknowledgment came.
pub(crate) fn on_duplicate_ack(tcb: &mut Tcb, env: &mut Env) {
    let mss = tcb.mss;
    if tcb.recovery.fast {
        tcb.congestion.get_mut().on_duplicate(mss);
    } else {
        tcb.recovery.duplicates = tcb.recovery.duplicates.saturating_add(1);
        // RFC 6582 3.2 step 2: not for what was sent before the last recovery or timeout.
        if tcb.recovery.duplicates == DUPLICATE_THRESHOLD && tcb.snd_una.gt(tcb.recovery.recover) {
            tcb.recovery.fast = true;
            tcb.recovery.recover = tcb.snd_max;
            tcb.recovery.resend = true;
            let in_flight = tcb.in_flight();
            tcb.congestion.get_mut().on_loss(in_flight, mss);
            env.stats.fast_retransmits += 1;
        }
    }
    env.enqueue(tcb, list::DATA);
}

/// `acked` new bytes were acknowledged; SND.UNA has moved. `limited`: the congestion window had
/// been in use.
pub(crate) fn on_new_ack(tcb: &mut Tcb, acked: u32, limited: bool) {
    let mss = tcb.mss;
    tcb.recovery.duplicates = 0;
    if !tcb.recovery.fast {
        tcb.congestion.get_mut().on_ack(acked, mss, limited);
        // Keeps `recover` within half the sequence space of SND.UNA on a connection without loss.
        if tcb.recovery.recover.lt(tcb.snd_una) {
            tcb.recovery.recover = tcb.snd_una - 1;
        }
    } else if tcb.snd_una.ge(tcb.recovery.recover) {
        tcb.recovery.fast = false;
        tcb.recovery.resend = false;
        let in_flight = tcb.in_flight();
        tcb.congestion.get_mut().on_recovered(in_flight, mss);
    } else {
        // A partial acknowledgment: the next segment is lost as well.
        tcb.recovery.resend = true;
        tcb.congestion.get_mut().on_partial_ack(acked, mss);
    }
}

/// The retransmission timer expired: everything is sent again from SND.UNA, in slow start.
pub(crate) fn on_timeout(tcb: &mut Tcb) {
    let (in_flight, mss) = (tcb.in_flight(), tcb.mss);
    tcb.congestion.get_mut().on_timeout(in_flight, mss, tcb.retries == 0);
    tcb.recovery = Recovery { duplicates: 0, fast: false, recover: tcb.snd_max, resend: false };
    tcb.snd_nxt = tcb.snd_una;
    tcb.timed = None;
}

/// The path takes only smaller segments (RFC 1191 6.5): what is in flight is sent again at once,
/// and the congestion window stays.
pub(crate) fn resend_all(tcb: &mut Tcb) {
    tcb.snd_nxt = tcb.snd_una;
    tcb.timed = None;
}
