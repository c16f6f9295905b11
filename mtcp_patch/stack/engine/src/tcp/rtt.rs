//! Round-trip time and retransmission timeout: RFC 6298, which RFC 9293 3.8.1 (MUST-18) demands, with
//! its exponential back-off (MUST-19).
//!
//! Fed by `ack` with samples of segments that were sent once only (Karn's algorithm) or that carry
//! a timestamp, backed off by `timer`. Times in microseconds.

/// Clock granularity G of RFC 6298: one tick of the timer wheel.
const GRANULARITY_US: u32 = 1024;

/// The estimator of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    srtt_us: u32,
    rttvar_us: u32,
    rto_us: u32,
    /// Smallest sample, for receive buffer sizing and diagnosis.
    min_us: u32,
    measured: bool,
    backoff: u8,
    /// See `Config::rto_slop_us`; in milliseconds.
    slop_ms: u16,
}

impl Rtt {
    pub(crate) fn new(rto_initial_us: u64, slop_us: u64) -> Self {
        // (2.1) Until a round-trip time has been measured, RTO <- 1 second.
        let rto_us = saturate(rto_initial_us);
        let slop_ms = u16::try_from(slop_us / 1000).unwrap_or(u16::MAX);
        let (measured, min_us) = (false, u32::MAX);
        Self { srtt_us: 0, rttvar_us: 0, rto_us, min_us, measured, backoff: 0, slop_ms }
    }

    /// Takes a measurement. `min_us` and `max_us` bound the timeout.
    pub(crate) fn sample(&mut self, rtt_us: u64, min_us: u64, max_us: u64) {
        self.sample_one_of(1, rtt_us, min_us, max_us);
    }

    /// Takes one of about `expected` measurements of one round trip: RFC 7323 4.2, alpha' =
    /// alpha / ExpectedSamples and beta' likewise, so that the history is as long as with one.
    pub(crate) fn sample_one_of(&mut self, expected: u32, rtt_us: u64, min_us: u64, max_us: u64) {
        let expected = expected.max(1);
        let r = saturate(rtt_us).max(1);
        self.min_us = self.min_us.min(r);
        if self.measured {
            // (2.3) RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT <- 7/8 SRTT + 1/8 R'.
            let error = self.srtt_us.abs_diff(r);
            if expected == 1 {
                // The usual case by itself, so that it divides by constants: four divisions a
                // packet show.
                self.rttvar_us = blend(self.rttvar_us, error, 4);
                self.srtt_us = blend(self.srtt_us, r, 8);
            } else {
                self.rttvar_us = blend(self.rttvar_us, error, expected.saturating_mul(4));
                self.srtt_us = blend(self.srtt_us, r, expected.saturating_mul(8));
            }
        } else {
            // (2.2) SRTT <- R, RTTVAR <- R/2.
            self.srtt_us = r;
            self.rttvar_us = r / 2;
            self.measured = true;
        }
        let spread = (u64::from(self.rttvar_us) * 4).max(u64::from(GRANULARITY_US));
        // The floor bounds the variance part, as in Linux: a delayed acknowledgment of the peer
        // must not be taken for a loss on a fast path.
        let rto = u64::from(self.srtt_us) + spread.max(min_us);
        self.rto_us = saturate(rto.min(max_us));
        self.backoff = 0;
    }

    /// The timeout now, exponential backoff included.
    pub(crate) fn rto_us(&self, max_us: u64) -> u64 {
        let slop_us =
            if self.measured || self.backoff > 0 { u64::from(self.slop_ms) * 1000 } else { 0 };
        ((u64::from(self.rto_us) << self.backoff.min(16)) + slop_us).min(max_us)
    }

    /// (5.5) The host MUST set RTO <- RTO * 2 ("back off the timer").
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Ends the backoff: an acknowledgment of new data came.
    pub(crate) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// (5.7) A SYN was retransmitted: the timeout for data starts at 3 seconds.
    pub(crate) fn after_lost_syn(&mut self) {
        if !self.measured {
            self.rto_us = self.rto_us.max(3_000_000);
        }
        self.backoff = 0;
    }

    /// The mean deviation; zero before the first measurement.
    pub(crate) fn rttvar_us(&self) -> u64 {
        u64::from(self.rttvar_us)
    }

    /// The smallest measurement so far; `None` before the first.
    pub(crate) fn min_us(&self) -> Option<u64> {
        self.measured.then_some(u64::from(self.min_us))
    }

    /// Doublings of the timeout since the last measurement.
    pub(crate) fn backoff(&self) -> u8 {
        self.backoff
    }

    /// The smoothed round-trip time; zero before the first measurement.
    pub(crate) fn srtt_us(&self) -> u64 {
        u64::from(self.srtt_us)
    }
}

/// Moves `old` by one `share`-th of its distance to `new`.
#[inline]
fn blend(old: u32, new: u32, share: u32) -> u32 {
    old - old / share + new / share
}

fn saturate(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 200_000;
    const MAX: u64 = 120_000_000;

    /// RFC 9293 MUST-18, MUST-19.
    #[test]
    fn starts_at_one_second_and_backs_off() {
        let mut rtt = Rtt::new(1_000_000, 0);
        let mut seen = std::vec::Vec::new();
        for _ in 0..9 {
            seen.push(rtt.rto_us(MAX) / 1_000_000);
            rtt.back_off();
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        rtt.after_lost_syn();
        assert_eq!(rtt.rto_us(MAX), 3_000_000);
    }

    /// RFC 9293 MUST-18.
    #[test]
    fn first_sample_and_smoothing() {
        let mut rtt = Rtt::new(1_000_000, 0);
        rtt.sample(400_000, MIN, MAX);
        assert_eq!((rtt.srtt_us(), rtt.rto_us(MAX)), (400_000, 400_000 + 4 * 200_000));
        rtt.sample(400_000, MIN, MAX);
        assert_eq!(rtt.rto_us(MAX), 400_000 + 4 * 150_000);
        for _ in 0..100 {
            rtt.sample(400_000, MIN, MAX);
        }
        assert_eq!(rtt.rto_us(MAX), 400_000 + MIN);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut rtt = Rtt::new(u64::MAX, 0);
        rtt.sample(0, MIN, MAX);
        rtt.sample(u64::MAX, MIN, MAX);
        for _ in 0..300 {
            rtt.back_off();
        }
        assert!(rtt.rto_us(MAX) <= MAX);
    }
}
