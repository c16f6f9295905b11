//! The segments that are out: one entry each, in the order of their numbers (Linux's retransmit
//! queue).
//!
//! `output` enters and repeats them, `ack` takes off what is acknowledged, `sack_sender` and `rack`
//! mark them. The counts that the marks add up to are kept beside the list and give what is in
//! flight (RFC 6675 "pipe"). Repetitions keep the boundaries of the first time.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::sack_sender::Seen;
use crate::limits::MAX_SENT_SEGMENTS;
use crate::time::Instant;
use crate::wire::Seq;

/// Bits of [`SentSegment::marks`].
pub(crate) mod mark {
    /// The peer holds it (RFC 2018).
    pub(crate) const SACKED: u8 = 1;
    /// Its last transmission, or the first if RETRANS is set as well, is taken for lost.
    pub(crate) const LOST: u8 = 2;
    /// A repetition of it is out and not taken for lost.
    pub(crate) const RETRANS: u8 = 4;
    /// It was sent more than once.
    pub(crate) const EVER_RETRANS: u8 = 8;
}

/// One segment that was sent: SYNs apart, FINs included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SentSegment {
    pub(crate) seq: Seq,
    /// One past its last number.
    pub(crate) end: Seq,
    /// When it was sent last.
    pub(crate) sent_at: Instant,
    marks: u8,
}

impl SentSegment {
    /// Whether any of `marks` is set.
    pub(crate) fn has(&self, marks: u8) -> bool {
        self.marks & marks != 0
    }
}

/// Whether a segment with these marks is to be sent again.
fn waits(marks: u8) -> bool {
    marks & (mark::LOST | mark::RETRANS) == mark::LOST
}

/// The list and its counts, in segments.
///
/// The first segment lies here and not in the list, which has no memory while there is no other: a
/// connection with one request out at a time touches this alone.
#[derive(Debug, Default)]
#[repr(C)] // the usual case of one segment in the first cache line
pub(crate) struct Sent {
    /// How many segments there are.
    len: u32,
    /// How many are SACKED; without SACK, how many duplicate acknowledgments say so.
    pub(crate) sacked_out: u32,
    lost_out: u32,
    retrans_out: u32,
    /// LOST and not RETRANS: to be sent again.
    waiting: u32,
    /// Losses found so far, repetitions included; wraps.
    pub(crate) lost: u32,
    /// Means nothing while `len` is 0.
    first: SentSegment,
    /// Those after the first, once there were any. In a box, since most connections have none and the
    /// head of a queue is four words.
    #[allow(clippy::box_collection)]
    rest: Option<Box<VecDeque<SentSegment>>>,
    /// Nothing before this waits.
    resume: Seq,
    /// The end of the highest SACKED one; means nothing while there is none.
    highest_sack: Seq,
    /// The blocks of the last acknowledgment, where there were any.
    pub(crate) seen: Option<Box<Seen>>,
}

impl Sent {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is one segment only, sent once, of which nothing is known.
    pub(crate) fn is_one_unmarked(&self) -> bool {
        self.len == 1 && self.first.marks == 0 && self.sacked_out == 0 && self.seen.is_none()
    }

    /// Whether a further segment would be more than [`MAX_SENT_SEGMENTS`].
    pub(crate) fn is_full(&self) -> bool {
        self.len as usize >= MAX_SENT_SEGMENTS
    }

    pub(crate) fn packets_out(&self) -> u32 {
        self.len
    }

    pub(crate) fn lost_out(&self) -> u32 {
        self.lost_out
    }

    pub(crate) fn retrans_out(&self) -> u32 {
        self.retrans_out
    }

    /// Segments that have left the network, one way or the other.
    pub(crate) fn left_out(&self) -> u32 {
        self.left_out_with(self.lost_out)
    }

    /// The same if `lost` segments were lost.
    pub(crate) fn left_out_with(&self, lost: u32) -> u32 {
        self.sacked_out.saturating_add(lost)
    }

    /// Segments in the network (RFC 6675 4, SetPipe).
    pub(crate) fn in_flight(&self) -> u32 {
        self.packets_out().saturating_sub(self.left_out()).saturating_add(self.retrans_out)
    }

    /// One past the highest number that the peer holds beyond SND.UNA.
    pub(crate) fn highest_sack(&self) -> Option<Seq> {
        (self.sacked_out > 0).then_some(self.highest_sack)
    }

    pub(crate) fn front(&self) -> Option<&SentSegment> {
        (self.len > 0).then_some(&self.first)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&SentSegment> {
        match index.checked_sub(1) {
            None => self.front(),
            Some(after) => self.rest.as_ref()?.get(after),
        }
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut SentSegment> {
        match index.checked_sub(1) {
            None => (self.len > 0).then_some(&mut self.first),
            Some(after) => self.rest.as_mut()?.get_mut(after),
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut SentSegment> {
        let first = (self.len > 0).then_some(&mut self.first);
        first.into_iter().chain(self.rest.iter_mut().flat_map(|rest| rest.iter_mut()))
    }

    /// Where the first segment stands that ends after `seq`.
    pub(crate) fn index_after(&self, seq: Seq) -> usize {
        match self.front() {
            Some(first) if first.end.le(seq) => {
                1 + self.rest.as_ref().map_or(0, |rest| rest.partition_point(|s| s.end.le(seq)))
            }
            _ => 0,
        }
    }

    /// A new segment was sent.
    pub(crate) fn push(&mut self, seq: Seq, end: Seq, now: Instant) {
        let segment = SentSegment { seq, end, sent_at: now, marks: 0 };
        if self.len == 0 {
            self.first = segment;
        } else {
            self.rest.get_or_insert_default().push_back(segment);
        }
        self.len += 1;
    }

    /// Takes the first segment off if `una` acknowledges all of it; shortens it if a part.
    /// `sack`: SACKED marks are what `sacked_out` counts.
    pub(crate) fn pop_acked(&mut self, una: Seq, sack: bool) -> Option<SentSegment> {
        if self.len == 0 {
            return None;
        }
        let first = self.first;
        if first.end.gt(una) {
            self.first.seq = first.seq.max(una);
            return None;
        }
        self.len -= 1;
        if self.len > 0 {
            self.move_up();
        }
        if first.marks != 0 {
            self.uncount(first.marks, sack);
        }
        Some(first)
    }

    /// The second becomes the first.
    #[inline(never)] // what one segment at a time never needs
    fn move_up(&mut self) {
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front()).unwrap_or_default();
    }

    fn uncount(&mut self, marks: u8, sack: bool) {
        if sack && marks & mark::SACKED != 0 {
            self.sacked_out = self.sacked_out.saturating_sub(1);
        }
        if marks & mark::LOST != 0 {
            self.lost_out = self.lost_out.saturating_sub(1);
        }
        if waits(marks) {
            self.waiting = self.waiting.saturating_sub(1);
        }
        if marks & mark::RETRANS != 0 {
            self.retrans_out = self.retrans_out.saturating_sub(1);
        }
    }

    /// The peer holds segment `index`. A repetition that was not needed stays in flight.
    pub(crate) fn mark_sacked(&mut self, index: usize) {
        let Some(segment) = self.get_mut(index) else { return };
        if segment.marks & mark::SACKED != 0 {
            return;
        }
        let old = segment.marks;
        let gone = if old & mark::LOST != 0 { mark::LOST | mark::RETRANS } else { 0 };
        segment.marks = (old & !gone) | mark::SACKED;
        let end = segment.end;
        self.uncount(old & gone, true);
        self.highest_sack = if self.sacked_out == 0 { end } else { self.highest_sack.max(end) };
        self.sacked_out += 1;
    }

    /// The last transmission of segment `index` is lost.
    pub(crate) fn mark_lost(&mut self, index: usize) {
        let Some(segment) = self.get_mut(index) else { return };
        let old = segment.marks;
        if old & mark::SACKED != 0 || waits(old) {
            return;
        }
        segment.marks = (old | mark::LOST) & !mark::RETRANS;
        let seq = segment.seq;
        self.lost_out += u32::from(old & mark::LOST == 0);
        self.retrans_out -= u32::from(old & mark::RETRANS != 0).min(self.retrans_out);
        self.resume = if self.waiting == 0 { seq } else { self.resume.min(seq) };
        self.waiting += 1;
        self.lost = self.lost.wrapping_add(1);
    }

    /// The first segment is lost, if none knows it yet.
    pub(crate) fn mark_first_lost(&mut self) {
        if self.front().is_some_and(|first| !first.has(mark::LOST)) {
            self.mark_lost(0);
        }
    }

    /// A duplicate of segment `index` has arrived (RFC 2883): no repetition is in flight.
    pub(crate) fn mark_arrived_twice(&mut self, index: usize) {
        let Some(segment) = self.get_mut(index) else { return };
        let marks = segment.marks;
        if marks & (mark::SACKED | mark::RETRANS) == mark::SACKED | mark::RETRANS {
            segment.marks = marks & !mark::RETRANS;
            self.uncount(mark::RETRANS, true);
        }
    }

    /// Segment `index` was sent again.
    pub(crate) fn mark_repeated(&mut self, index: usize, now: Instant) {
        let Some(segment) = self.get_mut(index) else { return };
        let old = segment.marks;
        segment.marks = old | mark::RETRANS | mark::EVER_RETRANS;
        segment.sent_at = now;
        let (seq, end) = (segment.seq, segment.end);
        if old & mark::RETRANS == 0 {
            self.retrans_out += 1;
            if old & mark::LOST != 0 {
                self.waiting = self.waiting.saturating_sub(1);
                // A probe repeats the last segment while earlier ones may wait.
                if seq.le(self.resume) {
                    self.resume = end;
                }
            }
        }
    }

    /// Whether a segment is to be sent again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The next segment that is to be sent again; the way to it is not gone twice.
    pub(crate) fn next_waiting(&mut self) -> Option<usize> {
        let index = self.find_waiting()?;
        self.resume = self.get(index)?.seq;
        Some(index)
    }

    fn find_waiting(&self) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let from = self.index_after(self.resume);
        (from..self.len as usize).find(|index| self.get(*index).is_some_and(|s| waits(s.marks)))
    }

    /// Nothing is lost after all.
    pub(crate) fn forget_losses(&mut self) {
        for segment in self.iter_mut() {
            segment.marks &= !mark::LOST;
        }
        self.lost_out = 0;
        self.waiting = 0;
    }

    /// RFC 2018 8: the peer may have dropped what it said that it holds.
    pub(crate) fn forget_sacks(&mut self) {
        for segment in self.iter_mut() {
            segment.marks &= !mark::SACKED;
        }
        self.seen = None;
        self.sacked_out = 0;
    }

    /// Cuts segment `index` after `len` numbers. False: there are too many segments.
    pub(crate) fn split(&mut self, index: usize, len: u32) -> bool {
        if self.is_full() {
            return false;
        }
        let Some(segment) = self.get_mut(index) else { return false };
        let middle = segment.seq + len;
        if middle.ge(segment.end) || len == 0 {
            return true;
        }
        let second = SentSegment { seq: middle, ..*segment };
        segment.end = middle;
        let marks = second.marks;
        self.rest.get_or_insert_default().insert(index, second);
        self.len += 1;
        self.sacked_out += u32::from(marks & mark::SACKED != 0);
        self.lost_out += u32::from(marks & mark::LOST != 0);
        self.retrans_out += u32::from(marks & mark::RETRANS != 0);
        self.waiting += u32::from(waits(marks));
        true
    }

    /// Forgets all segments; the memory with them.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    /// Whether the counts are those of the marks.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check(&self, una: Seq, max: Seq, sack: bool) -> bool {
        let all = || (0..self.len as usize).filter_map(|index| self.get(index));
        let count = |test: &dyn Fn(u8) -> bool| all().filter(|s| test(s.marks)).count() as u32;
        let mut at = una;
        let whole = all().all(|s| {
            let fits = s.seq == at && s.end.gt(s.seq);
            at = s.end;
            fits
        });
        whole
            && self.rest.as_ref().map_or(0, |rest| rest.len()) + 1 == self.len.max(1) as usize
            && (self.is_empty() || at == max)
            && count(&|m| m & mark::LOST != 0) == self.lost_out
            && count(&|m| m & mark::RETRANS != 0) == self.retrans_out
            && count(&waits) == self.waiting
            && (!sack || count(&|m| m & mark::SACKED != 0) == self.sacked_out)
            && (self.waiting == 0) == self.find_waiting().is_none()
            && all().all(|s| !(s.has(mark::SACKED) && s.has(mark::LOST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Sent {
        let mut sent = Sent::default();
        for n in 0..3u32 {
            sent.push(Seq(n * 10), Seq(n * 10 + 10), Instant::default());
        }
        sent
    }

    #[test]
    fn what_waits_is_found_after_a_later_segment_was_sent_again() {
        let mut sent = three();
        for index in 0..3 {
            sent.mark_lost(index);
        }
        sent.mark_repeated(2, Instant::default());
        assert_eq!(sent.next_waiting(), Some(0));
        assert!(sent.check(Seq(0), Seq(30), true));
    }

    #[test]
    fn what_was_sent_again_is_not_looked_at_again() {
        let mut sent = three();
        for index in 0..3 {
            sent.mark_lost(index);
        }
        for index in 0..3 {
            assert_eq!(sent.next_waiting(), Some(index));
            sent.mark_repeated(index, Instant::default());
            assert_eq!(sent.resume, Seq(index as u32 * 10 + 10));
        }
        assert_eq!(sent.next_waiting(), None);
    }
}
