//! SO_LINGER with a time: `close()` blocks until the peer has acknowledged what was sent, and our FIN.

use std::time::{Duration, Instant as Clock};

use mtcp_engine::ConnId;

use super::desc::{owes_fin, Desc, Kind};
use super::Runtime;
use crate::sys::{self, pollfd};

/// The longest sleep. Another thread may have driven the devices meanwhile, and wakes nobody who
/// has no descriptor any more.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A connection that was closed and is to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Lingering {
    id: ConnId,
    until: Clock,
}

impl Lingering {
    /// What the close of `desc` waits for.
    pub(super) fn of(desc: &Desc) -> Option<Self> {
        let seconds = desc.linger.filter(|seconds| *seconds > 0)?;
        let Kind::Conn { id, .. } = desc.kind else { return None };
        let until = Clock::now().checked_add(Duration::from_secs(u64::from(seconds)))?;
        Some(Self { id, until })
    }
}

impl Runtime {
    /// Waits for the end of a connection that [`Runtime::close`] gave (socket(7), SO_LINGER): until
    /// the peer has acknowledged our FIN, the time is over, or a signal comes. Call it without the
    /// GIL.
    pub fn linger(&self, lingering: Lingering) {
        let mut fds: Vec<pollfd> = Vec::new();
        loop {
            fds.clear();
            let sleep = {
                let mut inner = self.lock();
                let busy = inner.turn();
                let left = lingering.until.saturating_duration_since(Clock::now());
                // Linux `sk_stream_closing`; gone altogether is over as well.
                let open = inner.shard.info(lingering.id).is_ok_and(|info| owes_fin(info.state));
                if !open || left.is_zero() {
                    return;
                }
                fds.extend(inner.devices.fds().map(sys::readable));
                let due = inner.shard.next_timeout().map(|at| inner.until(at));
                let sleep = due.map_or(left, |due| due.min(left)).min(LOOK_EVERY);
                if busy {
                    Duration::ZERO
                } else {
                    sleep
                }
            };
            if sys::ppoll(&mut fds, Some(sleep)).is_err() {
                return;
            }
        }
    }
}
