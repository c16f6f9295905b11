//! NewReno: slow start, congestion avoidance and the windows of fast recovery (RFC 5681, RFC 6582).

use super::Controller;

/// Largest window, in bytes: what a scaled 16-bit window can express.
const MAX_CWND: u32 = 1 << 30;

/// The state of the algorithm, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    acked: u32,
}

/// RFC 6928: the initial window is ten segments, but not more than 14,600 bytes unless two
/// segments are larger than that. On paths whose segments are tens of KB that would be two
/// segments; Linux takes ten whatever their size, and so do we.
fn initial_window(mss: u32) -> u32 {
    mss.saturating_mul(10)
}

impl NewReno {
    pub(crate) fn new(mss: u32) -> Self {
        Self { cwnd: initial_window(mss), ssthresh: u32::MAX, acked: 0 }
    }

    /// RFC 5681 (4): ssthresh = max (FlightSize / 2, 2*SMSS).
    fn halve(&mut self, in_flight: u32, mss: u32) {
        self.ssthresh = (in_flight / 2).max(mss.saturating_mul(2));
        self.acked = 0;
    }
}

impl Controller for NewReno {
    fn cwnd(&self) -> u32 {
        self.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    fn on_ack(&mut self, acked: u32, mss: u32, limited: bool) {
        if !limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            // RFC 5681 (2) with the byte counting of RFC 3465 (L = 2): a delayed acknowledgment
            // covers two segments.
            let grown = self.cwnd.saturating_add(acked.min(mss.saturating_mul(2)));
            self.cwnd = grown.min(MAX_CWND);
            return;
        }
        // RFC 5681 3.1: one segment more for each window that was acknowledged.
        self.acked = self.acked.saturating_add(acked);
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(mss).min(MAX_CWND);
        }
    }

    fn on_loss(&mut self, in_flight: u32, mss: u32) {
        self.halve(in_flight, mss);
        // RFC 5681 3.2 step 3: the three segments that left the network inflate the window.
        self.cwnd = self.ssthresh.saturating_add(mss.saturating_mul(3)).min(MAX_CWND);
    }

    fn on_duplicate(&mut self, mss: u32) {
        // RFC 5681 3.2 step 4.
        self.cwnd = self.cwnd.saturating_add(mss).min(MAX_CWND);
    }

    fn on_partial_ack(&mut self, acked: u32, mss: u32) {
        // RFC 6582 3.2 step 3: deflate by what was acknowledged, add back one segment.
        self.cwnd = self.cwnd.saturating_sub(acked);
        if acked >= mss {
            self.cwnd = self.cwnd.saturating_add(mss);
        }
        self.cwnd = self.cwnd.max(mss);
    }

    fn on_recovered(&mut self, in_flight: u32, mss: u32) {
        // RFC 6582 3.2 step 3, full acknowledgment, option (1): no burst after recovery.
        self.cwnd = self.ssthresh.min(in_flight.max(mss).saturating_add(mss));
    }

    fn on_timeout(&mut self, in_flight: u32, mss: u32, first: bool) {
        // RFC 5681 3.1: a segment retransmitted already leaves ssthresh alone.
        if first {
            self.halve(in_flight, mss);
        }
        self.cwnd = mss;
        self.acked = 0;
    }

    fn on_idle(&mut self, mss: u32) {
        // RFC 5681 4.1: RW = min(IW, cwnd).
        self.cwnd = self.cwnd.min(initial_window(mss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn slow_start_doubles_then_one_segment_a_window() {
        let mut c = NewReno::new(MSS);
        for _ in 0..5 {
            c.on_ack(2 * MSS, MSS, true);
        }
        assert_eq!(c.cwnd(), 20 * MSS);
        c.on_loss(20 * MSS, MSS);
        c.on_recovered(20 * MSS, MSS);
        assert_eq!((c.cwnd(), c.ssthresh()), (10 * MSS, 10 * MSS));
        for _ in 0..5 {
            c.on_ack(2 * MSS, MSS, true);
        }
        assert_eq!(c.cwnd(), 11 * MSS);
    }

    #[test]
    fn an_idle_application_does_not_grow_the_window() {
        let mut c = NewReno::new(MSS);
        c.on_ack(5 * MSS, MSS, false);
        assert_eq!(c.cwnd(), 10 * MSS);
    }

    #[test]
    fn fast_recovery_inflates_and_deflates() {
        let mut c = NewReno::new(MSS);
        c.on_loss(10 * MSS, MSS);
        assert_eq!((c.ssthresh(), c.cwnd()), (5 * MSS, 8 * MSS));
        c.on_duplicate(MSS);
        c.on_partial_ack(3 * MSS, MSS);
        assert_eq!(c.cwnd(), 7 * MSS);
        c.on_recovered(MSS, MSS);
        assert_eq!(c.cwnd(), 2 * MSS);
    }

    #[test]
    fn timeout_starts_from_one_segment_and_halves_once() {
        let mut c = NewReno::new(MSS);
        c.on_timeout(10 * MSS, MSS, true);
        c.on_timeout(MSS, MSS, false);
        assert_eq!((c.cwnd(), c.ssthresh()), (MSS, 5 * MSS));
    }

    #[test]
    fn nothing_overflows() {
        let mut c = NewReno::new(u32::MAX);
        c.on_ack(u32::MAX, u32::MAX, true);
        c.on_duplicate(u32::MAX);
        c.on_loss(u32::MAX, u32::MAX);
        c.on_partial_ack(u32::MAX, u32::MAX);
        c.on_recovered(u32::MAX, u32::MAX);
        assert!(c.cwnd() >= 1);
    }
}
