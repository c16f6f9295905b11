//! CUBIC on a path without limits, against RFC 9438's own formulas in floating point.

use proptest::prelude::*;

use super::ack_at;
use crate::tcp::congestion::{Congestion, CongestionControl};
use crate::time::Instant;

/// RFC 9438 4.2 to 4.4, as written, once for each round trip of `rtt` seconds.
struct Model {
    cwnd: f64,
    w_max: f64,
    k: f64,
    w_est: f64,
    prior: f64,
    t: f64,
}

impl Model {
    fn after_loss(prior: f64) -> Self {
        // A window is a whole number of segments.
        let cwnd = (prior * 0.7).floor();
        let k = ((prior - cwnd) / 0.4).cbrt();
        Self { cwnd, w_max: prior, k, w_est: cwnd, prior, t: 0.0 }
    }

    fn round(&mut self, rtt: f64) {
        // Many small steps: cwnd grows by (target - cwnd) / cwnd for every segment.
        let steps = 32;
        for _ in 0..steps {
            let acked = self.cwnd / f64::from(steps);
            self.t += rtt / f64::from(steps);
            let alpha = if self.w_est >= self.prior { 1.0 } else { 3.0 * 0.3 / 1.7 };
            self.w_est += alpha * acked / self.cwnd;
            let target = 0.4 * (self.t + rtt - self.k).powi(3) + self.w_max;
            let target = target.clamp(self.cwnd, 1.5 * self.cwnd);
            self.cwnd += (target - self.cwnd) * acked / self.cwnd;
            self.cwnd = self.cwnd.max(self.w_est);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After a loss, at every round trip of the next 60: within five per cent and two segments.
    #[test]
    fn the_window_follows_rfc_9438(prior in 10u32..3_000, rtt_ms in 2u64..300) {
        let rtt_us = rtt_ms * 1_000;
        let mut now = Instant::from_micros(10_000_000);
        let mut c = Congestion::new(CongestionControl::Cubic);
        // A sample before the loss: the shortest round trip is known.
        c.on_ack(&ack_at(now, 1, Some(rtt_us)));
        c.set_cwnd(prior);
        c.reduce(now);
        c.set_cwnd(c.ssthresh());
        let mut model = Model::after_loss(f64::from(prior));
        for round in 0..60 {
            let acks = c.cwnd();
            for n in 0..acks {
                let at = now + rtt_us * u64::from(n) / u64::from(acks);
                c.on_ack(&ack_at(at, 1, Some(rtt_us)));
            }
            now = now + rtt_us;
            model.round(rtt_ms as f64 / 1e3);
            let (got, expected) = (f64::from(c.cwnd()), model.cwnd);
            let allowed = 2.0 + expected * 0.05;
            prop_assert!((got - expected).abs() <= allowed, "round {}: {} for {}", round, got, expected);
        }
    }
}

/// RFC 9438 4.9: a loss that was none leaves window, threshold and curve as they were.
#[test]
fn undo_brings_the_epoch_back() {
    let grow = |c: &mut Congestion, from_ms: u64, to_ms: u64| {
        for ms in from_ms..to_ms {
            c.on_ack(&ack_at(Instant::from_micros(ms * 1_000), 10, Some(50_000)));
        }
    };
    let mut c = Congestion::new(CongestionControl::Cubic);
    c.set_cwnd(200);
    c.reduce(Instant::default());
    c.set_cwnd(c.ssthresh());
    grow(&mut c, 1_000, 3_000);
    let mut undone = c;
    undone.reduce(Instant::from_micros(3_000_000));
    undone.set_cwnd(undone.ssthresh());
    undone.undo();
    // The threshold as Linux has it: at least what slow start could have taken again at once.
    assert_eq!((undone.cwnd(), undone.ssthresh()), (203, 151));
    assert_eq!(c.cwnd(), 203);
    grow(&mut c, 3_000, 9_000);
    grow(&mut undone, 3_000, 9_000);
    assert_eq!(undone.cwnd(), c.cwnd());
    assert!(c.cwnd() > 220, "{}", c.cwnd());
}

/// RFC 9438 4.3: where Reno is faster (short round trips, small windows), CUBIC is no slower.
#[test]
fn the_reno_friendly_region_is_no_slower_than_reno() {
    let after = |choice| {
        let mut c = Congestion::new(choice);
        c.set_cwnd(20);
        c.reduce(Instant::default());
        c.set_cwnd(10);
        for n in 0..4_000 {
            c.on_ack(&ack_at(Instant::from_micros(1_000_000 + n * 100), 1, Some(1_000)));
        }
        c.cwnd()
    };
    let (cubic, reno) = (after(CongestionControl::Cubic), after(CongestionControl::Reno));
    assert!(reno > 80 && cubic * 10 >= reno * 9, "{cubic} {reno}");
}

#[test]
fn names_are_those_of_linux() {
    for one in [CongestionControl::Cubic, CongestionControl::Reno] {
        assert_eq!(CongestionControl::from_name(one.name().as_bytes()), Some(one));
    }
    assert_eq!(CongestionControl::from_name(b"bbr"), None);
    assert_eq!(CongestionControl::default(), CongestionControl::Cubic);
}

/// A connection changes its algorithm with its windows as they are.
#[test]
fn another_algorithm_takes_the_windows_over() {
    let mut c = Congestion::new(CongestionControl::Reno);
    c.set_cwnd(40);
    c.reduce(Instant::default());
    c.set_cwnd(c.ssthresh());
    c.choose(CongestionControl::Cubic);
    assert_eq!((c.cwnd(), c.ssthresh()), (20, 20));
    c.reduce(Instant::default());
    assert_eq!(c.ssthresh(), 14);
}
