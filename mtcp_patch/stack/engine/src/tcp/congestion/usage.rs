//! How far the congestion window was in use: one that the sender did not fill was not tested, and
//! must not grow (RFC 7661; Linux: `tcp_cwnd_validate`).

use super::Window;
use crate::wire::Seq;

/// What was in flight in the present window's worth of data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// The window held the sender back (Linux: `is_cwnd_limited`).
    limited: bool,
    /// Most segments in flight (Linux: `max_packets_out`).
    max_out: u32,
    /// The acknowledgment that ends this window's worth (Linux: `cwnd_usage_seq`).
    end: Seq,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self { limited: false, max_out: 0, end: Seq(0) }
    }

    /// Sending has paused with `out` segments in flight; `sent`: some of them are new.
    pub(super) fn on_sent(&mut self, sent: bool, out: u32, cwnd: u32, snd_una: Seq, snd_nxt: Seq) {
        let limited = out >= cwnd;
        if !sent && !limited {
            return;
        }
        let over = self.max_out == 0 || snd_una.ge(self.end);
        if over || limited || (!self.limited && out > self.max_out) {
            *self = Self { limited, max_out: out, end: snd_nxt };
        }
    }

    /// In slow start half of the window in use is enough: it doubles in a round trip, and the
    /// application may, too.
    pub(super) fn is_limited(&self, window: &Window) -> bool {
        self.limited || (window.in_slow_start() && window.cwnd < self.max_out.saturating_mul(2))
    }
}
