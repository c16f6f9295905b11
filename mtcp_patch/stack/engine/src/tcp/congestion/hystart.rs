//! HyStart: leaving slow start before the first loss (RFC 9438 4.10), as Linux has it.
//!
//! Two signs, each looked for in every round trip: the acknowledgments of one flight arrive in a
//! train that is half as long as the path, so that the flight fills it; or every one of the first
//! samples of a round is clearly longer than the shortest that was ever seen, so that a queue
//! stands.

use super::{Ack, Window};
use crate::wire::Seq;

/// The window below which a train or a delay says nothing (Linux: `hystart_low_window`).
const LOW_WINDOW: u32 = 16;

/// Samples of a round before its delay counts (Linux: `HYSTART_MIN_SAMPLES`).
const MIN_SAMPLES: u8 = 8;

/// Acknowledgments farther apart than this are of two trains, in microseconds
/// (Linux: `hystart_ack_delta_us`).
const ACK_DELTA_US: u32 = 2_000;

/// The increase of the round-trip time that is a queue: an eighth of it within these bounds, in
/// microseconds (Linux: `HYSTART_DELAY_MIN`, `HYSTART_DELAY_MAX`).
const DELAY_MIN_US: u32 = 4_000;
const DELAY_MAX_US: u32 = 16_000;

/// Segments that may leave in one burst and so stretch a train without filling the path: four
/// offload units of 64 KiB (Linux: `hystart_ack_delay`), and most that they stretch it by.
const BURST: u64 = 180;
const MAX_BURST_US: u64 = 1_000;

/// One connection's watch over its slow start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HyStart {
    /// When the round began, in microseconds; wraps.
    round_start: u32,
    /// When the last acknowledgment of the train came, likewise.
    last_ack: u32,
    /// The end of what was sent when the round began.
    end_seq: Option<Seq>,
    /// Shortest round-trip time of the round, in microseconds.
    curr_rtt_us: u32,
    sample_cnt: u8,
    /// Slow start has ended for one of the two reasons.
    found: bool,
}

impl HyStart {
    /// A sample of `rtt_us` came with `ack`, the shortest ever being `delay_min_us`. True: slow
    /// start ends here.
    pub(super) fn ends_slow_start(
        &mut self,
        window: &Window,
        ack: &Ack,
        rtt_us: u32,
        delay_min_us: u32,
    ) -> bool {
        if window.cwnd() < LOW_WINDOW || !window.in_slow_start() || self.found {
            return false;
        }
        if self.end_seq.is_none_or(|end| ack.snd_una.gt(end)) {
            self.begin_round(ack);
        }
        self.found =
            self.is_train(window, ack, delay_min_us) || self.is_delayed(rtt_us, delay_min_us);
        self.found
    }

    fn begin_round(&mut self, ack: &Ack) {
        self.round_start = ack.now.micros as u32;
        self.last_ack = self.round_start;
        self.end_seq = Some(ack.snd_nxt);
        self.curr_rtt_us = u32::MAX;
        self.sample_cnt = 0;
    }

    fn is_train(&mut self, window: &Window, ack: &Ack, delay_min_us: u32) -> bool {
        let now = ack.now.micros as u32;
        if now.wrapping_sub(self.last_ack) > ACK_DELTA_US {
            return false;
        }
        self.last_ack = now;
        // At twice the window a round trip, which is slow start's pace.
        let burst = BURST * ack.srtt_us / (2 * u64::from(window.cwnd()));
        let path = u64::from(delay_min_us).saturating_add(burst.min(MAX_BURST_US));
        u64::from(now.wrapping_sub(self.round_start)) > path / 2
    }

    fn is_delayed(&mut self, rtt_us: u32, delay_min_us: u32) -> bool {
        self.curr_rtt_us = self.curr_rtt_us.min(rtt_us);
        if self.sample_cnt < MIN_SAMPLES {
            self.sample_cnt += 1;
            return false;
        }
        let queue = (delay_min_us / 8).clamp(DELAY_MIN_US, DELAY_MAX_US);
        self.curr_rtt_us > delay_min_us.saturating_add(queue)
    }
}
