//! `MSG_EOR`: where a write ends, a segment ends (Linux: `TCP_SKB_CB(skb)->eor`).
//!
//! A mark is the sequence number after the last byte of such a write. `shard::api` sets them, `output`
//! cuts new segments at them, and they go once they are acknowledged. A connection that never says
//! `MSG_EOR` has none. RFC 9293 3.9.1.2 has no such call: TCP keeps no records, and a path may join
//! what we keep apart.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::skb::{self, Packets};
use super::tcb::Tcb;
use crate::limits::MAX_SENT_SEGMENTS;
use crate::wire::Seq;

/// The marks beyond SND.UNA, in order, and the packets between them where those are counted.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    ends: VecDeque<Seq>,
    pub(super) packets: Option<Packets>,
}

impl Marks {
    /// The first mark after `seq`.
    fn after(&self, seq: Seq) -> Option<Seq> {
        self.ends.get(self.ends.partition_point(|mark| mark.le(seq))).copied()
    }

    fn is_at(&self, seq: Seq) -> bool {
        self.ends.get(self.ends.partition_point(|mark| mark.lt(seq))) == Some(&seq)
    }
}

/// A write with the flag has been taken whole.
pub(crate) fn written(tcb: &mut Tcb) {
    let end = tcb.data_end();
    let ends = &mut tcb.eor.get_or_insert_with(Box::default).ends;
    if ends.back() != Some(&end) {
        ends.push_back(end);
    }
}

/// Whether no further mark is remembered: the writer waits, as for room.
pub(crate) fn is_full(tcb: &Tcb) -> bool {
    tcb.eor.as_ref().is_some_and(|marks| marks.ends.len() >= MAX_SENT_SEGMENTS)
}

/// How many of `unsent` bytes from SND.NXT on may share segments.
pub(crate) fn unsent(tcb: &Tcb, unsent: u32) -> u32 {
    let mark = tcb.eor.as_ref().and_then(|marks| marks.after(tcb.snd_nxt));
    mark.map_or(unsent, |mark| u32::try_from(mark - tcb.snd_nxt).unwrap_or(0).min(unsent))
}

/// Whether such a write ends at `end`.
pub(crate) fn is_end(tcb: &Tcb, end: Seq) -> bool {
    tcb.eor.as_ref().is_some_and(|marks| marks.is_at(end))
}

/// SND.UNA has moved.
pub(crate) fn acknowledged(tcb: &mut Tcb) {
    let Some(marks) = &mut tcb.eor else { return };
    let gone = marks.ends.partition_point(|mark| mark.le(tcb.snd_una));
    marks.ends.drain(..gone);
    if marks.packets.is_some() {
        skb::acknowledged(tcb);
    } else if marks.ends.is_empty() {
        tcb.eor = None;
    }
}
