//! The receiving side of selective acknowledgment: RFC 2018 4 and RFC 2883 4.
//!
//! Which bytes are held is known by `reassembly`. Here is only which of its ranges were touched
//! last, as a sequence number inside each, and what arrived twice. Fed by `input`, read by `output`
//! when an acknowledgment leaves.

use super::reassembly::Ranges;
use crate::wire::Seq;

/// What goes into the option: left edge, and right edge (the number after the last).
pub(crate) type Blocks = [Option<(Seq, Seq)>; 4];

/// What to report first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SackReceiver {
    /// A number inside each of the ranges that changed last, the latest first. Ranges merge and
    /// end; what is stale finds no range any more.
    recent: [Option<Seq>; 4],
    /// What arrived a second time and has not been reported.
    duplicate: Option<(Seq, Seq)>,
}

impl SackReceiver {
    /// A segment beyond RCV.NXT has arrived whose first byte was `seq`.
    pub(crate) fn on_out_of_order(&mut self, ranges: &Ranges, rcv_nxt: Seq, seq: Seq) {
        let mut kept = [Some(seq), None, None, None];
        let place = |seq: Seq| ranges.containing(u32::try_from(seq - rcv_nxt).unwrap_or(0));
        // What is stale must not push out what is held.
        let others = self.recent.iter().flatten().filter(|other| {
            let other = place(**other);
            other.is_some() && other != place(seq)
        });
        for (to, from) in kept.iter_mut().skip(1).zip(others) {
            *to = Some(*from);
        }
        self.recent = kept;
    }

    /// `from`..`to` has arrived before. RFC 2883 4: of a segment that repeats several ranges the
    /// first is reported.
    pub(crate) fn on_duplicate(&mut self, from: Seq, to: Seq) {
        if from.lt(to) && self.duplicate.is_none() {
            self.duplicate = Some((from, to));
        }
    }

    /// The acknowledgment has left. RFC 2883 4 (1): a duplicate is reported once.
    pub(crate) fn on_sent(&mut self) {
        self.duplicate = None;
    }

    /// The blocks of an acknowledgment that leaves now. RFC 2883 4: the duplicate first. RFC 2018 4
    /// (a): then the range that the segment which triggered it is in; (c) then the others, latest
    /// first. How many fit is the emitter's business.
    pub(crate) fn blocks(&self, ranges: &Ranges, rcv_nxt: Seq) -> Blocks {
        let mut blocks = [None; 4];
        if self.duplicate.is_none() && ranges.is_empty() {
            return blocks;
        }
        let held = self.recent.iter().flatten().filter_map(|seq| {
            let offset = u32::try_from(*seq - rcv_nxt).ok()?;
            let (start, end) = ranges.containing(offset)?;
            Some((rcv_nxt + start, rcv_nxt + end))
        });
        let mut count = 0;
        for block in self.duplicate.into_iter().chain(held) {
            // Two that have grown together are one. A duplicate may lie in a range and is no part
            // of this.
            let earlier = blocks.iter().take(count).skip(usize::from(self.duplicate.is_some()));
            if earlier.flatten().any(|other| *other == block) {
                continue;
            }
            let Some(slot) = blocks.get_mut(count) else { break };
            *slot = Some(block);
            count += 1;
        }
        blocks
    }
}
