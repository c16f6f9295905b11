//! RACK: what was sent before something that has arrived, by more than the network reorders, is
//! lost (RFC 8985 6).
//!
//! `ack` and `sack_sender` tell what has arrived; [`detect_loss`] marks what is lost, repetitions
//! as well. With few holes and no reordering seen, three segments are enough (RFC 6675), as in
//! Linux.

use super::recovery::CaState;
use super::rtt::Rtt;
use super::sent::{mark, SentSegment};
use super::tcb::Tcb;
use crate::time::Instant;
use crate::wire::Seq;

/// RFC 8985 6.2 step 4: recoveries for which a wider window is kept.
const PERSIST: u8 = 16;

/// RFC 8985 5.2, in microseconds and segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rack {
    /// When the latest of the segments that have arrived was sent, its end, and its round trip.
    xmit_at: Instant,
    end: Seq,
    rtt_us: u64,
    /// The reordering window, in quarters of the smallest round trip.
    steps: u8,
    persist: u8,
    dsack_seen: bool,
    /// Something has arrived since the last look.
    advanced: bool,
    /// When the window was widened last.
    widened_at: Instant,
}

/// RFC 8985 6.2: of two that left together the one with the higher number is the later.
fn sent_after(a: Instant, a_end: Seq, b: Instant, b_end: Seq) -> bool {
    a > b || (a == b && a_end.gt(b_end))
}

impl Rack {
    pub(crate) fn new(iss: Seq) -> Self {
        Self {
            xmit_at: Instant::default(),
            end: iss,
            rtt_us: 0,
            steps: 1,
            persist: 0,
            dsack_seen: false,
            advanced: false,
            widened_at: Instant::default(),
        }
    }

    /// RFC 8985 6.2 steps 1 and 2: `segment` has arrived.
    pub(crate) fn advance(&mut self, segment: &SentSegment, now: Instant, rtt: &Rtt) {
        let rtt_us = now.micros_since(segment.sent_at);
        if segment.has(mark::EVER_RETRANS) && rtt_us < rtt.min_us().unwrap_or(0) {
            // That was the answer to an earlier transmission.
            return;
        }
        self.advanced = true;
        self.rtt_us = rtt_us;
        if sent_after(segment.sent_at, segment.end, self.xmit_at, self.end) {
            self.xmit_at = segment.sent_at;
            self.end = segment.end;
        }
    }

    /// A repetition was not needed: the window was too narrow.
    pub(crate) fn on_duplicate(&mut self) {
        self.dsack_seen = true;
    }

    /// Takes another look although nothing new has arrived.
    pub(crate) fn look_again(&mut self) {
        self.advanced = true;
    }

    /// RFC 8985 6.2 step 4: wider by a quarter of a round trip when a repetition was not needed, at
    /// most once a round trip.
    pub(crate) fn update_window(&mut self, now: Instant, srtt_us: u64) {
        if !self.dsack_seen {
            if self.persist == 0 {
                self.steps = 1;
            }
            return;
        }
        self.dsack_seen = false;
        if now.micros_since(self.widened_at) < srtt_us {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        self.widened_at = now;
        self.persist = PERSIST;
    }

    /// A recovery ended without a sign that it was spurious.
    pub(crate) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
    }

    fn is_later_than(&self, segment: &SentSegment) -> bool {
        sent_after(self.xmit_at, self.end, segment.sent_at, segment.end)
    }
}

/// RFC 8985 6.2 step 4: how much later than its successors a segment may arrive, in microseconds.
fn reordering_window_us(tcb: &Tcb) -> u64 {
    let recovery = &tcb.recovery;
    if recovery.reord_seen == 0 {
        let many = tcb.sent.sacked_out >= recovery.reordering;
        if recovery.state >= CaState::Recovery || many {
            return 0;
        }
    }
    let quarter = tcb.rtt.min_us().unwrap_or(0) / 4;
    (quarter * u64::from(recovery.rack.steps)).min(tcb.rtt.srtt_us())
}

/// RFC 8985 6.3: whether `segment` was sent less than a round trip ago, so that a timeout says
/// nothing about it.
pub(crate) fn is_recent(rack: &Rack, segment: &SentSegment, now: Instant) -> bool {
    now.micros_since(segment.sent_at) < rack.rtt_us
}

/// RFC 8985 6.2 step 5: marks what is lost. Returns after how many microseconds to look again.
pub(crate) fn detect_loss(tcb: &mut Tcb, now: Instant) -> Option<u64> {
    if !core::mem::replace(&mut tcb.recovery.rack.advanced, false) {
        return None;
    }
    let allowed = tcb.recovery.rack.rtt_us.saturating_add(reordering_window_us(tcb));
    let mut wait = 0;
    let mut index = 0;
    while let Some(segment) = tcb.sent.get(index) {
        let later = tcb.recovery.rack.is_later_than(segment);
        if !later && !segment.has(mark::EVER_RETRANS) {
            // What was sent once left in the order of its numbers: the rest is later still.
            break;
        }
        let settled =
            segment.has(mark::SACKED) || (segment.has(mark::LOST) && !segment.has(mark::RETRANS));
        if later && !settled {
            match allowed.saturating_sub(now.micros_since(segment.sent_at)) {
                0 => tcb.sent.mark_lost(index),
                us => wait = wait.max(us),
            }
        }
        index += 1;
    }
    (wait > 0).then_some(wait)
}

/// RFC 6675 4, `IsLost`, where RACK is off: what `DupThresh` segments above it have overtaken. A
/// repetition counts as arrived until the timeout says otherwise.
pub(crate) fn mark_overtaken(tcb: &mut Tcb) {
    let threshold = tcb.recovery.reordering;
    let mut above = tcb.sent.sacked_out;
    let mut index = 0;
    while above >= threshold {
        let Some(segment) = tcb.sent.get(index) else { break };
        if segment.has(mark::SACKED) {
            above -= 1;
        } else if !segment.has(mark::LOST) && !segment.has(mark::EVER_RETRANS) {
            tcb.sent.mark_lost(index);
        }
        index += 1;
    }
}
