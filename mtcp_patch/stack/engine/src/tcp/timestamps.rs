//! Timestamps: RFC 7323 3 (the option), 4 (round-trip times) and 5 (PAWS).
//!
//! `input` asks whether a segment is older than what was seen and notes what to echo; `output`
//! stamps all that leaves; `ack` takes measurements. A peer that did not offer the option in its
//! SYN sees nothing of this.

use crate::time::Instant;
use crate::wire::{Options, Seq};

/// Microseconds of one tick of our timestamp clock. RFC 7323 5.4: from 1 ms to 1 s a tick.
const TICK_US: u64 = 1_000;

/// RFC 7323 5.5: a TS.Recent that is older than 24 days says nothing: the peer's clock may have
/// gone around half its circle.
const RECENT_VALID_US: u64 = 24 * 24 * 3600 * 1_000_000;

/// Ticks by which a segment of an established connection may be older than TS.Recent and is still
/// taken (Linux: `TCP_PAWS_WINDOW`). RFC 7323 5.3 has none; but where the network reorders, what was
/// sent a moment before a repetition arrives after it, and must not be lost for that. Numbers do not
/// wrap in a tick.
pub(crate) const PAWS_WINDOW: u32 = 1;

/// The bits of a TSval that a SYN cookie uses.
const CARRIED: u32 = 63;

/// What one connection knows of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamps {
    /// Offered by us and not (yet) turned down by the peer.
    pub(crate) on: bool,
    /// What our clock shows at time 0: another number for every 4-tuple, so that nobody learns
    /// from one connection how long this process runs or what another connection says
    /// (RFC 7323 5.4 and 7). A later incarnation has the same, so its clock goes on (RFC 6191).
    offset: u32,
    /// TS.Recent.
    recent: u32,
    /// When TS.Recent was taken; `None` before the peer's SYN.
    recent_at: Option<Instant>,
}

impl Timestamps {
    pub(crate) fn new(on: bool, offset: u32) -> Self {
        Self { on, offset, ..Self::default() }
    }

    fn clock(&self, now: Instant) -> u32 {
        self.offset.wrapping_add((now.micros / TICK_US) as u32)
    }

    /// A TSval that carries `bits`, below 64, in place of the clock's low six: at most 64 ticks behind
    /// the clock and never ahead of it, so that what follows is not older.
    pub(crate) fn carry(&self, now: Instant, bits: u32) -> u32 {
        let ticks = (now.micros / TICK_US) as u32;
        let value = ticks & !CARRIED | bits & CARRIED;
        let value = if value > ticks { value.wrapping_sub(CARRIED + 1) } else { value };
        self.offset.wrapping_add(value)
    }

    /// What a TSval of [`Timestamps::carry`] carried; `offset` is that of its 4-tuple.
    pub(crate) fn carried(offset: u32, value: u32) -> u32 {
        value.wrapping_sub(offset) & CARRIED
    }

    /// TSval and TSecr of a segment that leaves now. RFC 7323 3.2: in every segment once
    /// negotiated; TSecr is zero before there is anything to echo.
    pub(crate) fn option(&self, now: Instant) -> Option<(u32, u32)> {
        self.on.then(|| (self.clock(now), self.recent))
    }

    /// The peer's SYN. RFC 7323 3.2: the option is used if both SYNs have it.
    pub(crate) fn on_syn(&mut self, now: Instant, options: &Options) {
        match options.timestamps {
            Some((value, _)) if self.on => {
                self.recent = value;
                self.recent_at = Some(now);
            }
            _ => self.on = false,
        }
    }

    /// RFC 7323 5.3 (R1): by how many of the peer's ticks SEG.TSval < TS.Recent, so that this is an
    /// old duplicate; 0: it is not, or TS.Recent is not valid. A segment without the option is taken,
    /// though 3.2 would have it dropped: there are boxes on the way that lose options, and Linux takes it.
    pub(crate) fn lag(&self, now: Instant, options: &Options) -> u32 {
        let (Some((value, _)), Some(at)) = (options.timestamps, self.recent_at) else { return 0 };
        if !self.on || now.micros_since(at) >= RECENT_VALID_US {
            return 0;
        }
        u32::try_from(Seq(self.recent) - Seq(value)).unwrap_or(0)
    }

    /// Whether (R1) drops the segment.
    pub(crate) fn is_old(&self, now: Instant, options: &Options) -> bool {
        self.lag(now, options) > 0
    }

    /// RFC 7323 5.3 (R3): an acceptable segment that starts at or before Last.ACK.sent is echoed,
    /// hence the earliest of those that one delayed acknowledgment covers (RFC 7323 4.3). TS.Recent
    /// never goes back.
    pub(crate) fn take(&mut self, now: Instant, options: &Options, seq: Seq, last_ack_sent: Seq) {
        let Some((value, _)) = options.timestamps else { return };
        if self.on && seq.le(last_ack_sent) && !self.is_old(now, options) {
            self.recent = value;
            self.recent_at = Some(now);
        }
    }

    /// The round-trip time that an acknowledgment of new data carries, in microseconds, to within
    /// a tick (RFC 7323 4.1). `None`: it carries none, or one from before this connection.
    pub(crate) fn sample_us(&self, now: Instant, options: &Options) -> Option<u64> {
        let (_, echo) = options.timestamps.filter(|(_, echo)| self.on && *echo != 0)?;
        let ticks = u32::try_from(Seq(self.clock(now)) - Seq(echo)).ok()?;
        Some(u64::from(ticks) * TICK_US)
    }

    /// Whether an acknowledgment answers a segment that was stamped before `at` (RFC 3522 3.2).
    pub(crate) fn echoes_before(&self, at: Instant, options: &Options) -> bool {
        let before = |(_, echo): (u32, u32)| echo != 0 && Seq(echo).lt(Seq(self.clock(at)));
        self.on && options.timestamps.is_some_and(before)
    }

    /// Whether a SYN that meets TIME-WAIT is newer than the old connection (RFC 6191 2).
    pub(crate) fn is_newer_syn(&self, options: &Options) -> bool {
        let newer = |(value, _): (u32, u32)| Seq(value).gt(Seq(self.recent));
        self.on && options.timestamps.is_some_and(newer)
    }
}

/// Ticks in `us`, for a clock of 1.2 kHz, the fastest that Linux reckons with (`tcp_tsval_replay`).
pub(crate) fn ticks(us: u64) -> u32 {
    u32::try_from(us.saturating_mul(12) / (10 * TICK_US)).unwrap_or(u32::MAX)
}

/// Whether a sample of the timestamp clock says anything that `srtt_us` does not: it is exact to a
/// tick only, and on a fast path the tick is much longer than the round trip.
pub(crate) fn is_news(sample_us: u64, srtt_us: u64) -> bool {
    srtt_us == 0 || sample_us.abs_diff(srtt_us) > TICK_US
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(value: u32, echo: u32) -> Options {
        Options { timestamps: Some((value, echo)), ..Options::default() }
    }

    #[test]
    fn a_syn_without_the_option_turns_it_off() {
        let now = Instant::from_micros(5_000_000);
        let mut t = Timestamps::new(true, 7);
        assert_eq!(t.option(now), Some((5_007, 0)));
        t.on_syn(now, &stamped(100, 0));
        assert_eq!(t.option(now), Some((5_007, 100)));
        t.on_syn(now, &Options::default());
        assert_eq!((t.option(now), t.is_old(now, &stamped(1, 1))), (None, false));
    }

    #[test]
    fn old_is_less_on_the_circle_and_not_after_24_days() {
        let now = Instant::from_micros(1);
        let mut t = Timestamps::new(true, 0);
        t.on_syn(now, &stamped(5, 0));
        for (value, old) in [(5, false), (6, false), (4, true), (u32::MAX, true), (1 << 30, false)]
        {
            assert_eq!(t.is_old(now, &stamped(value, 0)), old, "{value}");
            assert!(t.lag(now, &stamped(value, 0)) < 10);
        }
        assert!(!t.is_old(now, &Options::default()));
        assert!(!t.is_old(now + RECENT_VALID_US, &stamped(4, 0)));
    }

    #[test]
    fn only_a_segment_at_the_last_acknowledgment_is_echoed() {
        let now = Instant::from_micros(1_000);
        let mut t = Timestamps::new(true, 0);
        t.on_syn(now, &stamped(5, 0));
        t.take(now, &stamped(9, 0), Seq(101), Seq(100));
        assert_eq!(t.option(now), Some((1, 5)));
        t.take(now, &stamped(8, 0), Seq(100), Seq(100));
        assert_eq!(t.option(now), Some((1, 8)));
        t.take(now, &stamped(7, 0), Seq(100), Seq(100));
        assert_eq!(t.option(now), Some((1, 8)), "TS.Recent never goes back");
    }

    #[test]
    fn carried_bits_come_back_and_the_clock_never_runs_ahead() {
        for ticks in [0u32, 1, 63, 64, 100, 1 << 31, u32::MAX] {
            let now = Instant::from_micros(u64::from(ticks) * TICK_US);
            for (offset, bits) in [(0, 0), (7, 63), (u32::MAX, 20)] {
                let t = Timestamps::new(true, offset);
                let value = t.carry(now, bits);
                assert_eq!(Timestamps::carried(offset, value), bits);
                let behind = t.clock(now).wrapping_sub(value);
                assert!(behind < 64, "{ticks} {offset} {bits}: {behind}");
            }
        }
    }

    #[test]
    fn samples_of_the_future_or_of_nothing_are_none() {
        let now = Instant::from_micros(50_000);
        let t = Timestamps::new(true, u32::MAX - 10);
        assert_eq!(t.sample_us(now, &stamped(0, 19)), Some(20_000));
        assert_eq!(t.sample_us(now, &stamped(0, 40)), None);
        assert_eq!(t.sample_us(now, &stamped(0, 0)), None);
        assert!(is_news(20_000, 18_000) && !is_news(20_000, 19_500) && is_news(1, 0));
    }
}
