//! Reno: slow start and congestion avoidance (RFC 5681 3.1). Its fast recovery is `recovery`'s.

use super::{Ack, Controller, Window};
use crate::time::Instant;

/// The algorithm; all its state is the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewReno;

impl Controller for NewReno {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        // RFC 7661: a window that was not used was not tested.
        if !ack.limited {
            return;
        }
        let mut acked = ack.acked;
        if window.in_slow_start() {
            acked = window.slow_start(acked);
        }
        if acked > 0 {
            // RFC 5681 3.1: one segment more for each window that was acknowledged.
            window.congestion_avoidance(window.cwnd(), acked);
        }
    }

    fn ssthresh_on_loss(&mut self, window: &Window, _now: Instant) -> u32 {
        // RFC 5681 (4): ssthresh = max (FlightSize / 2, 2*SMSS), of the window, as Linux has it.
        (window.cwnd() / 2).max(2)
    }

    fn on_timeout(&mut self) {}

    fn on_idle(&mut self, _now: Instant, _since: Instant) {}
}

#[cfg(test)]
mod tests {
    use crate::tcp::congestion::tests::ack_at;
    use crate::tcp::congestion::{Ack, Congestion, CongestionControl};
    use crate::time::Instant;

    const NOW: Instant = Instant::from_micros(1);

    fn ack(acked: u32, limited: bool) -> Ack {
        Ack { limited, ..ack_at(NOW, acked, None) }
    }

    /// RFC 9293 MUST-19.
    #[test]
    fn slow_start_doubles_then_one_segment_a_window() {
        let mut c = Congestion::new(CongestionControl::Reno);
        for _ in 0..5 {
            c.on_ack(&ack(2, true));
        }
        assert_eq!(c.cwnd(), 20);
        c.reduce(NOW);
        c.set_cwnd(c.ssthresh());
        assert_eq!((c.cwnd(), c.ssthresh()), (10, 10));
        for _ in 0..5 {
            c.on_ack(&ack(2, true));
        }
        assert_eq!(c.cwnd(), 11);
    }

    #[test]
    fn an_idle_application_does_not_grow_the_window() {
        let mut c = Congestion::new(CongestionControl::Reno);
        c.on_ack(&ack(5, false));
        assert_eq!(c.cwnd(), 10);
    }

    #[test]
    fn a_timeout_starts_from_one_segment_and_undo_takes_it_back() {
        let mut c = Congestion::new(CongestionControl::Reno);
        c.reduce(NOW);
        c.on_timeout(0);
        assert_eq!((c.cwnd(), c.ssthresh()), (1, 5));
        c.undo();
        assert_eq!((c.cwnd(), c.prior().0), (10, 10));
        assert!(c.in_slow_start());
    }

    #[test]
    fn nothing_overflows() {
        let mut c = Congestion::new(CongestionControl::Reno);
        for _ in 0..3 {
            c.on_ack(&ack(u32::MAX, true));
            c.set_cwnd(u32::MAX);
            c.reduce(NOW);
            c.on_ack(&ack(u32::MAX, true));
            c.on_timeout(u32::MAX);
        }
        assert!(c.cwnd() >= 1);
    }
}
