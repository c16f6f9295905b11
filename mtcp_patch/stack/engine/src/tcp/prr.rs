//! Proportional rate reduction: the window during recovery (RFC 6937 3, with RFC 9937's choice of
//! the bound).

/// The state of one reduction, in segments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prr {
    /// Delivered since it began.
    delivered: u32,
    /// Sent since it began.
    out: u32,
    /// The window when it began (RecoverFS).
    prior_cwnd: u32,
}

impl Prr {
    /// A reduction from `cwnd` begins.
    pub(crate) fn begin(cwnd: u32) -> Self {
        Self { delivered: 0, out: 0, prior_cwnd: cwnd.max(1) }
    }

    /// A segment was sent.
    pub(crate) fn on_sent(&mut self) {
        self.out = self.out.saturating_add(1);
    }

    /// The window after an acknowledgment that delivered `delivered` segments, with `in_flight` out.
    /// `safe`: it advanced SND.UNA and showed no new loss (RFC 9937 6.2, SafeACK).
    pub(crate) fn window(
        &mut self,
        ssthresh: u32,
        in_flight: u32,
        delivered: u32,
        safe: bool,
    ) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let mut count = if in_flight > ssthresh {
            // Proportional: CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out.
            let share = u64::from(self.delivered) * u64::from(ssthresh);
            let share = share.div_ceil(u64::from(self.prior_cwnd.max(1)));
            u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            // PRR-CRB, or PRR-SSRB while all goes well.
            let limit = self.delivered.saturating_sub(self.out).max(delivered);
            limit.saturating_add(u32::from(safe)).min(ssthresh - in_flight)
        };
        if self.out == 0 {
            // The first repetition leaves at once.
            count = count.max(1);
        }
        in_flight.saturating_add(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6937 3.1's first example: half of the window, one segment for two delivered.
    #[test]
    fn comes_down_in_proportion() {
        let mut prr = Prr::begin(20);
        let (mut in_flight, mut sent) = (18, 0);
        for _ in 0..16 {
            in_flight -= 1;
            let window = prr.window(10, in_flight, 1, false);
            while in_flight < window {
                prr.on_sent();
                in_flight += 1;
                sent += 1;
            }
        }
        assert_eq!((sent, in_flight), (8, 10));
    }

    /// RFC 9937 6.2: up to the threshold by slow start, when acknowledgments are good.
    #[test]
    fn fills_up_after_heavy_loss() {
        for (safe, expected) in [(false, 4), (true, 5)] {
            let mut prr = Prr::begin(20);
            prr.on_sent();
            assert_eq!(prr.window(10, 3, 1, safe), expected);
        }
        let mut prr = Prr::begin(20);
        assert_eq!(prr.window(10, 12, 0, false), 13, "the first one always");
        let mut prr = Prr::begin(u32::MAX);
        assert!(prr.window(u32::MAX, 0, u32::MAX, true) > 0);
    }
}
