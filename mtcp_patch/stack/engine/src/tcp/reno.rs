//! Loss recovery with a peer that knows no SACK: duplicate acknowledgments stand for segments that
//! it holds (RFC 5681 3.2, RFC 6582), so that the same states serve both.

use super::ack::News;
use super::recovery::CaState;
use super::tcb::Tcb;
use crate::limits::MAX_REORDERING;

/// A duplicate acknowledgment: one more segment has arrived, it is not known which.
pub(crate) fn add_sack(tcb: &mut Tcb, news: &mut News) {
    let before = tcb.sent.sacked_out;
    tcb.sent.sacked_out = before.saturating_add(1);
    limit(tcb, 0);
    news.delivered += tcb.sent.sacked_out.saturating_sub(before);
}

/// `acked` segments were acknowledged cumulatively: the first filled the hole, the rest are some
/// of those that duplicates had stood for.
pub(crate) fn remove_sacks(tcb: &mut Tcb, acked: u32, news: &mut News) {
    if acked > 0 {
        news.delivered += acked.saturating_sub(tcb.sent.sacked_out).max(1);
        tcb.sent.sacked_out = tcb.sent.sacked_out.saturating_sub(acked - 1);
    }
    limit(tcb, acked);
}

/// At least one segment is missing, or there were no duplicates. More of them than that: the
/// network reorders, or doubles.
fn limit(tcb: &mut Tcb, acked: u32) {
    let packets_out = tcb.sent.packets_out();
    let holes = tcb.sent.lost_out().max(1).min(packets_out);
    if tcb.sent.left_out_with(holes) > packets_out {
        tcb.sent.sacked_out = packets_out - holes;
        let reordering = packets_out.saturating_add(acked).min(MAX_REORDERING);
        tcb.recovery.reordering = tcb.recovery.reordering.max(reordering);
        tcb.recovery.reord_seen = tcb.recovery.reord_seen.saturating_add(1);
    }
}

/// RFC 6582 3.2: the first segment is lost at the third duplicate, and at every partial
/// acknowledgment in recovery.
pub(crate) fn mark_lost(tcb: &mut Tcb, una_advanced: bool) {
    let enough =
        tcb.recovery.state < CaState::Recovery && tcb.sent.sacked_out >= tcb.recovery.reordering;
    if enough || (tcb.recovery.state == CaState::Recovery && una_advanced) {
        tcb.sent.mark_first_lost();
    }
}
