//! An acknowledgment for each segment that is out of order: RFC 5681 4.2, RFC 2018 4.
//!
//! Segments in order of one batch may share an acknowledgment. One that arrives beyond a gap, fills
//! a part of one or repeats what is there tells the sender something by itself: duplicates are
//! counted, and an option holds four ranges at most. Such an acknowledgment is written down when
//! its segment arrives and leaves with the shard's replies, before everything else. Called by
//! `input`.

use super::tcb::Tcb;
use super::{input, output};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::Seq;

/// Whether a segment with text at `seq` is answered apart from those before it.
pub(crate) fn is_owed(tcb: &Tcb, seq: Seq) -> bool {
    seq != tcb.rcv_nxt || !tcb.ranges.is_empty()
}

/// Sends the acknowledgment that segments before this one are waiting for.
pub(crate) fn flush(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if tcb.ack_due {
        send(tcb, env, now);
    }
}

/// Acknowledges what has arrived so far. When too many replies wait for the device, it is one for
/// the whole batch.
pub(crate) fn send(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let header = output::acknowledgment_header(tcb, env, now);
    if env.reply(tcb.device, header) {
        output::acknowledged_alone(tcb, now);
    } else {
        input::ack_now(tcb, env);
    }
}
