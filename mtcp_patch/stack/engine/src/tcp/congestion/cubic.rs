//! CUBIC: RFC 9438.
//!
//! ```text
//!   cwnd                                   * W_cubic(t) = C (t - K)^3 + W_max
//!    |                                    *
//!  W_max - - - - - - - - *  *  *  *  *  * - - - -
//!    |             *     :
//!    |       *           :  concave before K, convex after it
//!  beta W_max *          :
//!    +--------|----------|--------------------> t
//!           t_epoch    t_epoch + K
//! ```
//! Integers only, with the scales that Linux uses: C and beta are 1024ths, time is counted in
//! 1024ths of a second, windows in segments. Whole segments of the curve are what the window
//! follows, so that both stacks grow alike.

use super::hystart::HyStart;
use super::{Ack, Controller, Window};
use crate::time::Instant;

/// beta_cubic = 0.7 (4.6), and C = 0.4 (4.1), in 1024ths.
const BETA: u32 = 717;
const C: u64 = 410;
const SCALE: u32 = 1024;

/// Acknowledged segments for one of W_est, in eighths of the window: 1 / alpha_cubic of Figure 4,
/// where alpha_cubic = 3 (1 - beta) / (1 + beta).
const RENO_EIGHTHS: u32 = 15;

/// The farthest distance from K that is computed with, in 1024ths of a second: the curve has left
/// every possible window behind.
const MAX_OFFSET: u64 = 1 << 18;

/// Segments acknowledged for one more while nothing is known of the path: nothing has been lost, so
/// W_max is only where slow start ended (Linux: the initial growth is too conservative).
const UNKNOWN_PATH: u32 = 20;

/// The curve is looked at again when the window has changed, or after this time or a round trip.
/// Microseconds (Linux: HZ / 32, whatever the path).
const UPDATE_US: u64 = 31_250;

/// Samples this soon after a loss show the queue that caused it, in microseconds.
const AFTER_LOSS_US: u64 = 1_000_000;

const NOT_YET: Instant = Instant::from_micros(u64::MAX);

/// What a reduction changes and its undoing brings back (4.9.2).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Epoch {
    /// When congestion avoidance began after the last reduction; [`NOT_YET`] before.
    start: Instant,
    /// W_max; zero before the first loss and after a timeout.
    w_max: u32,
    /// The window just before the last reduction.
    cwnd_prior: u32,
    /// The level at which the curve is flat.
    origin: u32,
    /// K in 1024ths of a second.
    k: u32,
    w_est: u32,
    /// Acknowledged segments that W_est has not yet grown by.
    ack_cnt: u32,
}

/// The state of the algorithm.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)] // what a connection that needs no more than its initial window touches comes first
pub(crate) struct Cubic {
    /// Shortest round-trip time, in microseconds; zero before the first sample.
    delay_min_us: u32,
    /// Acknowledged segments for one more in the window, as last computed, when and at which window.
    cnt: u32,
    epoch: Epoch,
    last_cwnd: u32,
    hystart: HyStart,
    last_time: Instant,
    /// The epoch before the last reduction.
    prior: Epoch,
}

impl Cubic {
    fn sample(&mut self, window: &mut Window, ack: &Ack, rtt_us: u64) {
        if ack.now.micros_since(self.epoch.start) < AFTER_LOSS_US && self.epoch.has_begun() {
            return;
        }
        let rtt_us = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
        if self.delay_min_us == 0 || self.delay_min_us > rtt_us {
            self.delay_min_us = rtt_us;
        }
        if self.hystart.ends_slow_start(window, ack, rtt_us, self.delay_min_us) {
            window.set_ssthresh(window.cwnd());
        }
    }

    /// Acknowledged segments for which the window of `cwnd` grows by one.
    fn update(&mut self, cwnd: u32, acked: u32, now: Instant) -> u32 {
        self.epoch.ack_cnt = self.epoch.ack_cnt.saturating_add(acked);
        let age = now.micros_since(self.last_time);
        let fresh = age <= UPDATE_US.min(u64::from(self.delay_min_us));
        if fresh && self.last_cwnd == cwnd && self.epoch.has_begun() {
            return self.cnt;
        }
        self.last_cwnd = cwnd;
        self.last_time = now;
        if !self.epoch.has_begun() {
            self.epoch.begin(cwnd, acked, now);
        }
        // 4.2: where the curve will be one round trip from now.
        let ahead = now.micros_since(self.epoch.start).saturating_add(u64::from(self.delay_min_us));
        let target = self.epoch.w_cubic(ahead);
        let mut cnt = match target.checked_sub(cwnd) {
            Some(0) | None => cwnd.saturating_mul(100),
            Some(missing) => cwnd / missing,
        };
        if self.epoch.w_max == 0 {
            cnt = cnt.min(UNKNOWN_PATH);
        }
        // 4.3: the Reno-friendly region, where Reno's window would be the larger one.
        if let Some(missing) = self.epoch.reno(cwnd).checked_sub(cwnd).filter(|m| *m > 0) {
            cnt = cnt.min(cwnd / missing);
        }
        // 4.2: the target is at most 1.5 cwnd.
        self.cnt = cnt.max(2);
        self.cnt
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self { w_max: 0, cwnd_prior: 0, origin: 0, k: 0, start: NOT_YET, w_est: 0, ack_cnt: 0 }
    }
}

impl Epoch {
    fn has_begun(&self) -> bool {
        self.start != NOT_YET
    }

    /// 4.2: the first acknowledgment in congestion avoidance after a reduction.
    fn begin(&mut self, cwnd: u32, acked: u32, now: Instant) {
        self.start = now;
        self.ack_cnt = acked;
        self.w_est = cwnd;
        self.origin = self.w_max.max(cwnd);
        // K = cubic_root((W_max - cwnd_epoch) / C); zero beyond W_max, and after a timeout (4.8).
        let missing = u64::from(self.w_max.saturating_sub(cwnd));
        self.k = cube_root((missing << 40) / C);
    }

    /// W_cubic `us` microseconds after the epoch began (4.2, Figure 1).
    fn w_cubic(&self, us: u64) -> u32 {
        let t = us.min(1 << 40) * u64::from(SCALE) / 1_000_000;
        let k = u64::from(self.k);
        let offset = t.abs_diff(k).min(MAX_OFFSET);
        let delta = (C * offset * offset * offset) >> 40;
        let delta = u32::try_from(delta).unwrap_or(u32::MAX);
        if t < k {
            self.origin.saturating_sub(delta)
        } else {
            self.origin.saturating_add(delta)
        }
    }

    /// W_est (4.3, Figure 4), brought up to date. Past the window of the last loss CUBIC takes as
    /// much as Reno: alpha_cubic = 1.
    fn reno(&mut self, cwnd: u32) -> u32 {
        let eighths = if self.w_est >= self.cwnd_prior { 8 } else { RENO_EIGHTHS };
        let per = (cwnd.saturating_mul(eighths) / 8).max(1);
        let more = self.ack_cnt.saturating_sub(1) / per;
        self.ack_cnt -= more * per;
        self.w_est = self.w_est.saturating_add(more);
        self.w_est
    }
}

/// The integer cube root of `x`, which is below 2^63.
fn cube_root(x: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let candidate = root | 1 << bit;
        if candidate * candidate * candidate <= x {
            root = candidate;
        }
    }
    root as u32
}

impl Controller for Cubic {
    fn on_ack(&mut self, window: &mut Window, ack: &Ack) {
        if let Some(rtt_us) = ack.rtt_us {
            self.sample(window, ack, rtt_us);
        }
        // 5.8: a window that was not used was not tested.
        if !ack.limited {
            return;
        }
        let mut acked = ack.acked;
        if window.in_slow_start() {
            acked = window.slow_start(acked);
        }
        if acked > 0 {
            let cnt = self.update(window.cwnd(), acked, ack.now);
            window.congestion_avoidance(cnt, acked);
        }
    }

    /// 4.6, with the fast convergence of 4.7: who loses before it has reached its last W_max gives
    /// way to a newcomer.
    fn ssthresh_on_loss(&mut self, window: &Window, _now: Instant) -> u32 {
        let cwnd = window.cwnd();
        self.prior = self.epoch;
        self.epoch.start = NOT_YET;
        self.epoch.cwnd_prior = cwnd;
        self.epoch.w_max =
            if cwnd < self.epoch.w_max { scaled(cwnd, (SCALE + BETA) / 2) } else { cwnd };
        scaled(cwnd, BETA).max(2)
    }

    /// 4.8: K = 0 and W_max = cwnd in the first congestion avoidance after a timeout.
    fn on_timeout(&mut self) {
        let epoch = Epoch { cwnd_prior: self.epoch.cwnd_prior, ..Epoch::default() };
        *self = Self { epoch, prior: self.prior, ..Self::default() };
    }

    /// 4.9.2: after a spurious event everything is as it was.
    fn undo(&mut self, window: &Window) -> u32 {
        self.epoch = self.prior;
        window.cwnd.max(window.prior_cwnd)
    }

    /// Silence is no time of the epoch, or the window would leap when it ends
    /// (Linux: `cubictcp_cwnd_event`).
    fn on_idle(&mut self, now: Instant, since: Instant) {
        if self.epoch.has_begun() {
            self.epoch.start = (self.epoch.start + now.micros_since(since)).min(now);
        }
    }
}

/// `window` times `by` / 1024.
fn scaled(window: u32, by: u32) -> u32 {
    u32::try_from(u64::from(window) * u64::from(by) / u64::from(SCALE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_cube_root_is_exact(x in 0u64..1 << 62) {
            let root = u128::from(cube_root(x));
            prop_assert!(root.pow(3) <= u128::from(x) && u128::from(x) < (root + 1).pow(3));
        }

        /// RFC 9438 4.2, Figures 1 and 2, in floating point: K to a thousandth of a second, the
        /// curve to what the rounding of C (0.4004), K and one segment makes of it.
        #[test]
        fn the_curve_is_the_one_of_rfc_9438(
            w_max in 0u32..200_000,
            cwnd in 2u32..200_000,
            us in 0u64..60_000_000,
        ) {
            let mut epoch = Epoch { w_max, ..Epoch::default() };
            epoch.begin(cwnd, 1, Instant::from_micros(5));
            let origin = f64::from(w_max.max(cwnd));
            let k = ((origin - f64::from(cwnd)) / 0.4).cbrt();
            prop_assert!((f64::from(epoch.k) / 1024.0 - k).abs() < 0.002 + k / 1000.0);
            let t = us as f64 / 1e6;
            let expected = (0.4 * (t - k).powi(3) + origin).max(0.0);
            let slope = 1.2 * (t - k).powi(2);
            let allowed = 1.5 + slope * (0.003 + k / 1000.0) + (expected - origin).abs() / 500.0;
            let got = f64::from(epoch.w_cubic(us));
            prop_assert!((got - expected).abs() <= allowed, "{} for {}", got, expected);
        }

        #[test]
        fn nothing_overflows(
            steps in prop::collection::vec((0u8..6, any::<u32>(), any::<u64>()), 1..80),
        ) {
            let mut window = Window::new();
            let mut cubic = Cubic::default();
            for (what, number, time) in steps {
                let now = Instant::from_micros(time);
                let ack = super::super::tests::ack_at(now, number, Some(u64::from(number)));
                match what {
                    0 | 1 => cubic.on_ack(&mut window, &ack),
                    2 => window.set_ssthresh(cubic.ssthresh_on_loss(&window, now)),
                    3 => cubic.on_timeout(),
                    4 => window.set_cwnd(number),
                    _ => cubic.on_idle(now, Instant::from_micros(u64::from(number))),
                }
                prop_assert!(window.cwnd() >= 1);
            }
        }
    }

    /// 4.3: the estimate grows by alpha_cubic = 0.53 segments a window until the window of the last
    /// loss, then by one.
    #[test]
    fn reno_friendly_estimate_follows_figure_4() {
        let mut epoch = Epoch { w_max: 100, cwnd_prior: 100, ..Epoch::default() };
        epoch.begin(70, 0, Instant::default());
        let (mut exact, mut rounds) = (70.0f64, 0);
        while exact < 130.0 {
            let alpha = if exact < 100.0 { 3.0 * 0.3 / 1.7 } else { 1.0 };
            epoch.ack_cnt += 70;
            exact += alpha;
            rounds += 1;
            assert!((f64::from(epoch.reno(70)) - exact).abs() < 2.0, "{rounds}: {exact}");
        }
        assert_eq!(rounds, 87);
    }

    #[test]
    fn fast_convergence_lowers_w_max_of_who_lost_early() {
        let mut window = Window::new();
        let mut cubic = Cubic::default();
        window.set_cwnd(100);
        assert_eq!(cubic.ssthresh_on_loss(&window, Instant::default()), 70);
        assert_eq!(cubic.epoch.w_max, 100);
        window.set_cwnd(80);
        assert_eq!(cubic.ssthresh_on_loss(&window, Instant::default()), 56);
        assert_eq!(cubic.epoch.w_max, 80 * 870 / 1024);
        window.set_cwnd(90);
        cubic.ssthresh_on_loss(&window, Instant::default());
        assert_eq!(cubic.epoch.w_max, 90);
    }
}
