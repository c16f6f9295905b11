//! What the algorithms make of whole exchanges.

mod scripts;
mod windows;

use super::Ack;
use crate::time::Instant;
use crate::wire::Seq;

/// The acknowledgment of `acked` segments at `now`, in a window that was in use.
pub(super) fn ack_at(now: Instant, acked: u32, rtt_us: Option<u64>) -> Ack {
    Ack {
        acked,
        in_flight_before: acked,
        rtt_us,
        srtt_us: rtt_us.unwrap_or(0),
        min_rtt_us: 0,
        now,
        snd_una: Seq(0),
        snd_nxt: Seq(0),
        limited: true,
    }
}
