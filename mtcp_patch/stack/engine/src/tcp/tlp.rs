//! Tail loss probe: RFC 8985 7. When acknowledgments stop, one segment is sent, new or the last
//! one again, so that a loss at the tail is found by RACK and not by the retransmission timer.

use super::ack::News;
use super::recovery::{self, CaState, Pending};
use super::tcb::{list, Tcb};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::Seq;

/// Least allowance of a probe or reordering timeout, in microseconds: two ticks of Linux's clock.
pub(crate) const TIMEOUT_MIN_US: u64 = 2_000;

/// RFC 8985 7.1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tlp {
    /// SND.NXT after the probe (TLP.end_seq); `None`: no episode.
    end: Option<Seq>,
    /// The probe was a repetition (TLP.is_retrans).
    is_retrans: bool,
    /// The probe is to leave now.
    pub(crate) due: bool,
}

impl Tlp {
    /// Whether `end` is that of a probe which was a repetition.
    pub(crate) fn is_probe_end(&self, end: Seq) -> bool {
        self.is_retrans && self.end == Some(end)
    }

    /// No probe is out, and none is due.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_none() && !self.due
    }

    /// The episode is over.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// The probe has left.
    pub(crate) fn on_sent(&mut self, snd_nxt: Seq, is_retrans: bool) {
        *self = Self { end: Some(snd_nxt), is_retrans, due: false };
    }
}

/// RFC 8985 7.2: starts the probe timer in place of the retransmission timer. False: not now.
/// `rto_us`: until the retransmission timeout.
pub(crate) fn schedule(tcb: &mut Tcb, env: &mut Env, now: Instant, rto_us: u64) -> bool {
    let may = matches!(tcb.recovery.state, CaState::Open | CaState::Cwr);
    if !may
        || !env.config.tail_loss_probe
        || !tcb.sack_ok
        || tcb.sent.is_empty()
        || tcb.recovery.tlp.end.is_some()
    {
        return false;
    }
    let srtt_us = tcb.rtt.srtt_us();
    if srtt_us == 0 {
        return false;
    }
    // PTO = 2 * SRTT, and with one segment out the time that its acknowledgment may be delayed.
    let allowance =
        if tcb.sent.packets_out() == 1 { env.config.rto_min_us } else { TIMEOUT_MIN_US };
    let pto = 2 * srtt_us + allowance;
    recovery::start_timer(tcb, env, Pending::LossProbe, now + pto.min(rto_us));
    true
}

/// RFC 8985 7.3: the probe timer expired.
pub(crate) fn on_timer(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if !tcb.sent.is_empty() && tcb.recovery.tlp.end.is_none() {
        tcb.recovery.tlp.due = true;
        env.enqueue(tcb, list::DATA);
    }
    recovery::rearm_rto(tcb, env, now);
}

/// RFC 8985 7.4: the end of an episode, and whether the probe repaired a loss.
pub(crate) fn on_ack(tcb: &mut Tcb, now: Instant, ack: Seq, news: &News) {
    let Some(end) = tcb.recovery.tlp.end else { return };
    if ack.lt(end) {
        return;
    }
    let tlp = &mut tcb.recovery.tlp;
    if !tlp.is_retrans || news.dsack_of_probe {
        // New data arrived, or the probe was a duplicate: nothing was lost.
        tlp.end();
    } else if ack.gt(end) {
        // The probe filled a hole: a loss, and it is congestion (RFC 8985 7.4.2).
        tlp.end();
        recovery::reduce_at_once(tcb, now);
    } else if news.is_duplicate {
        // Both copies have been acknowledged, by a peer without DSACK.
        tlp.end();
    }
}
