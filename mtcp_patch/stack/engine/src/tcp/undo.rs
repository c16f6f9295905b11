//! Was a loss one? What is kept to find out: the Eifel detection of RFC 3522 by timestamps, and
//! duplicates reported by the peer (RFC 3708). The response is RFC 4015's, in `recovery`.

use super::timestamps::Timestamps;
use crate::time::Instant;
use crate::wire::{Options, Seq};

/// The evidence about the last reduction of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Undo {
    /// SND.UNA when the window was reduced; `None`: nothing to take back.
    marker: Option<Seq>,
    /// Repetitions since then which no DSACK has covered; `None`: none was sent yet.
    retrans: Option<u32>,
    /// When the first repetition left.
    stamp: Option<Instant>,
}

impl Undo {
    /// The window is reduced while `retrans_out` repetitions are out.
    pub(crate) fn begin(&mut self, snd_una: Seq, retrans_out: u32) {
        self.marker = Some(snd_una);
        self.retrans = (retrans_out > 0).then_some(retrans_out);
    }

    /// Nothing can be taken back any more.
    pub(crate) fn end(&mut self) {
        self.marker = None;
        self.retrans = None;
    }

    /// No repetition is out: the next is the first.
    pub(crate) fn clear_stamp(&mut self) {
        self.stamp = None;
    }

    /// A segment is sent again.
    pub(crate) fn on_repeated(&mut self, now: Instant) {
        self.stamp = self.stamp.or(Some(now));
        self.retrans = Some(self.retrans.unwrap_or(0).saturating_add(1));
    }

    /// Whether numbers that end at `end` were sent again after the reduction.
    pub(crate) fn is_since(&self, end: Seq) -> bool {
        self.marker.is_some_and(|marker| end.gt(marker))
    }

    /// `segments` arrived twice.
    pub(crate) fn on_duplicate(&mut self, segments: u32) {
        self.retrans = self.retrans.map(|left| left.saturating_sub(segments));
    }

    /// Whether there is something to take back.
    pub(crate) fn is_open(&self) -> bool {
        self.marker.is_some()
    }

    /// RFC 3708 3: every repetition has arrived as a duplicate.
    pub(crate) fn all_were_duplicates(&self) -> bool {
        self.marker.is_some() && self.retrans == Some(0)
    }

    /// RFC 3522 3.2 step (4): the acknowledgment answers a segment that was sent before the first
    /// repetition, so the original had arrived; as it has when nothing was repeated.
    pub(crate) fn original_arrived(&self, timestamps: &Timestamps, options: &Options) -> bool {
        let original = match self.stamp {
            Some(stamp) => timestamps.echoes_before(stamp, options),
            None => self.retrans.is_none(),
        };
        self.marker.is_some() && original
    }
}
