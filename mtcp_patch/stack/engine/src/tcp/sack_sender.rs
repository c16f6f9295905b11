//! The sending side of selective acknowledgment: RFC 2018 5, RFC 2883 5, and what it shows of
//! reordering.
//!
//! Called by `ack` for a segment with blocks, before the cumulative acknowledgment takes segments
//! off the list. A block marks the segments that lie wholly in it.

use super::ack::News;
use super::sent::mark;
use super::tcb::Tcb;
use crate::time::Instant;
use crate::wire::{Segment, Seq};

/// The blocks of the last acknowledgment: only what is new in the next one is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen([Option<(Seq, Seq)>; 4]);

/// Takes the blocks of `seg`. `prior_una`: SND.UNA before it.
pub(crate) fn take_blocks(
    tcb: &mut Tcb,
    now: Instant,
    seg: &Segment<'_>,
    prior_una: Seq,
    news: &mut News,
) {
    let blocks = seg.options.sack;
    let [first, second, ..] = blocks;
    let Some(first) = first else {
        if let Some(seen) = &mut tcb.sent.seen {
            **seen = Seen::default();
        }
        return;
    };
    let duplicate = is_duplicate(first, second, seg.ack);
    if duplicate {
        take_duplicate(tcb, first, prior_una, news);
    }
    let mut kept = Seen::default();
    let from = usize::from(duplicate);
    for (slot, block) in kept.0.iter_mut().zip(blocks.into_iter().skip(from).flatten()) {
        *slot = Some(block).filter(|block| is_valid(tcb, *block));
    }
    // The newest stands first (RFC 2018 4). In the order of the numbers, for what one acknowledgment
    // says of two blocks, the one before it being lost, is no reordering.
    let una = tcb.snd_una;
    kept.0.sort_unstable_by_key(|block| block.map_or(i32::MAX, |(left, _)| left - una));
    for block in kept.0.into_iter().flatten() {
        take_block(tcb, now, block, news);
    }
    tcb.sent.seen.get_or_insert_default().0 = kept.0;
}

/// RFC 2883 4: a first block below the cumulative acknowledgment, or inside the second.
fn is_duplicate(first: (Seq, Seq), second: Option<(Seq, Seq)>, ack: Seq) -> bool {
    first.0.lt(ack) || second.is_some_and(|outer| first.0.ge(outer.0) && first.1.le(outer.1))
}

/// RFC 2018 5 and RFC 5961's spirit: only what is outstanding can be acknowledged selectively.
fn is_valid(tcb: &Tcb, (left, right): (Seq, Seq)) -> bool {
    left.lt(right) && left.ge(tcb.snd_una) && right.le(tcb.snd_nxt)
}

/// The part of a block that the last acknowledgment did not have.
fn fresh(seen: &Seen, (mut left, mut right): (Seq, Seq)) -> (Seq, Seq) {
    for (from, to) in seen.0.iter().flatten() {
        if from.le(left) && to.gt(left) {
            left = to.min(right);
        } else if from.lt(right) && to.ge(right) {
            right = from.max(left);
        }
    }
    (left, right)
}

fn take_block(tcb: &mut Tcb, now: Instant, block: (Seq, Seq), news: &mut News) {
    let seen = tcb.sent.seen.as_deref().copied().unwrap_or_default();
    let (left, right) = fresh(&seen, block);
    if left.ge(right) {
        return;
    }
    let mut index = tcb.sent.index_after(left);
    while let Some(segment) = tcb.sent.get(index).copied() {
        if segment.seq.ge(right) {
            break;
        }
        // Of all of the block: a segment may lie across the border of old and new.
        let inside = segment.seq.ge(block.0) && segment.end.le(block.1);
        if inside && !segment.has(mark::SACKED) {
            tcb.recovery.rack.advance(&segment, now, &tcb.rtt);
            if !segment.has(mark::EVER_RETRANS) {
                // Only what was sent once tells in which order the network delivers.
                if tcb.sent.highest_sack().is_some_and(|highest| segment.seq.lt(highest)) {
                    news.note_reordered(segment.seq);
                }
                news.original |= segment.end.le(tcb.recovery.high_seq);
                news.sack_rtt_us = Some(now.micros_since(segment.sent_at));
            }
            tcb.sent.mark_sacked(index);
            news.delivered += 1;
            news.sacked = true;
        }
        index += 1;
    }
}

/// RFC 2883 5: something arrived twice. If it is what was repeated, the repetition had no reason.
fn take_duplicate(tcb: &mut Tcb, (left, right): (Seq, Seq), prior_una: Seq, news: &mut News) {
    // As far back as anything that may still be on its way.
    let oldest = prior_una - tcb.max_snd_wnd.min(1 << 30);
    if left.ge(right) || right.gt(tcb.snd_nxt) || left.lt(oldest) {
        return;
    }
    let recovery = &mut tcb.recovery;
    let bytes = u32::try_from(right - left).unwrap_or(0);
    let segments = bytes.div_ceil(tcb.mss.max(1)).max(1);
    recovery.dsack_dups = recovery.dsack_dups.saturating_add(segments);
    if u64::from(segments) > tcb.retransmits {
        // The network doubles segments.
        return;
    }
    news.dsack = true;
    if recovery.tlp.is_probe_end(right) {
        news.dsack_of_probe = true;
    } else if recovery.reord_seen > 0 {
        recovery.rack.on_duplicate();
    }
    if recovery.undo.is_since(right) {
        recovery.undo.on_duplicate(segments);
    }
    if left.ge(tcb.snd_una) {
        let mut index = tcb.sent.index_after(left);
        while tcb.sent.get(index).is_some_and(|s| s.end.le(right)) {
            tcb.sent.mark_arrived_twice(index);
            index += 1;
        }
    }
}
