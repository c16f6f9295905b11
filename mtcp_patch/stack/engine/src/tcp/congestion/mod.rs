//! Congestion control: how much may be in flight.
//!
//! [`Congestion`] is what recovery drives: the [`Window`], which is the same for all, and one
//! algorithm, a [`Controller`], which is a file beside this one and a variant of [`Algorithm`]. An
//! algorithm never decides what is lost or when to send, only how the window grows and what is
//! left of it after a loss. Windows are counted in segments, as Linux does: acknowledgments that
//! are split into many small ones gain nothing. RFC 9293 3.8.2 (MUST-19) demands slow start and
//! congestion avoidance.

mod newreno;

pub(crate) use newreno::NewReno;

use crate::time::Instant;

/// Largest window, in segments: with the largest segment what a scaled 16-bit window can express.
const MAX_CWND: u32 = 1 << 20;

/// RFC 6928: the initial window is ten segments, but not more than 14,600 bytes unless two
/// segments are larger than that. On paths whose segments are tens of KB that would be two
/// segments; Linux takes ten whatever their size, and so do we.
pub(crate) const INITIAL_WINDOW: u32 = 10;

/// Slow start threshold before the first loss (Linux: `TCP_INFINITE_SSTHRESH`).
pub(crate) const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// The windows of a connection, in segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    cwnd: u32,
    ssthresh: u32,
    /// Segments acknowledged since the window last grew in congestion avoidance
    /// (Linux: `snd_cwnd_cnt`).
    cwnd_cnt: u32,
    /// The two before the last reduction, for its undoing.
    prior_cwnd: u32,
    prior_ssthresh: u32,
}

impl Window {
    fn new() -> Self {
        Self {
            cwnd: INITIAL_WINDOW,
            ssthresh: INFINITE_SSTHRESH,
            cwnd_cnt: 0,
            prior_cwnd: 0,
            prior_ssthresh: 0,
        }
    }

    /// The congestion window.
    pub(crate) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// The slow start threshold.
    #[allow(dead_code)] // CUBIC's
    pub(crate) fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// Sets the congestion window within its bounds.
    pub(crate) fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd.clamp(1, MAX_CWND);
    }

    /// Sets the slow start threshold (an algorithm that leaves slow start early).
    #[allow(dead_code)] // HyStart's
    pub(crate) fn set_ssthresh(&mut self, ssthresh: u32) {
        self.ssthresh = ssthresh.max(2);
    }

    /// RFC 5681 3.1: slow start is used below the threshold.
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// RFC 5681 (2): one segment more for every one acknowledged, up to the threshold. Returns the
    /// acknowledged segments that are left for congestion avoidance.
    pub(crate) fn slow_start(&mut self, acked: u32) -> u32 {
        let grown = self.cwnd.saturating_add(acked).min(self.ssthresh);
        let left = acked.saturating_sub(grown.saturating_sub(self.cwnd));
        self.set_cwnd(grown);
        left
    }

    /// One segment more for each `per` acknowledged (Linux: `tcp_cong_avoid_ai`).
    pub(crate) fn congestion_avoidance(&mut self, per: u32, acked: u32) {
        let per = per.max(1);
        if self.cwnd_cnt >= per {
            self.cwnd_cnt = 0;
            self.set_cwnd(self.cwnd.saturating_add(1));
        }
        self.cwnd_cnt = self.cwnd_cnt.saturating_add(acked);
        if self.cwnd_cnt >= per {
            let more = self.cwnd_cnt / per;
            self.cwnd_cnt %= per;
            self.set_cwnd(self.cwnd.saturating_add(more));
        }
    }
}

/// What an acknowledgment says to an algorithm.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)] // each algorithm reads what it needs
pub(crate) struct Ack {
    /// Segments that it acknowledged, wholly, cumulatively or selectively.
    pub(crate) acked: u32,
    /// Segments in flight before it.
    pub(crate) in_flight_before: u32,
    /// The round-trip time that it shows, in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Smoothed round-trip time, in microseconds; zero before the first measurement.
    pub(crate) srtt_us: u64,
    /// Smallest round-trip time, in microseconds; zero before the first measurement.
    pub(crate) min_rtt_us: u64,
    pub(crate) now: Instant,
    /// SND.UNA after it, and the end of what has been sent: rounds are counted by them (HyStart).
    pub(crate) snd_una: crate::wire::Seq,
    pub(crate) snd_max: crate::wire::Seq,
    /// The window, not the application, held the sender back.
    pub(crate) limited: bool,
}

/// A congestion control algorithm.
pub(crate) trait Controller {
    /// An acknowledgment came outside recovery, or in it after undo: the window may grow.
    fn on_ack(&mut self, window: &mut Window, ack: &Ack);
    /// There was a loss (or ECN's echo): what the slow start threshold shall be. Called once a
    /// reduction, before the window is touched.
    fn ssthresh_on_loss(&mut self, window: &Window, now: Instant) -> u32;
    /// The retransmission timer expired; `ssthresh_on_loss` was called before if this is the first
    /// time for this data. Forgets what was known of the path's rhythm.
    fn on_timeout(&mut self);
    /// The loss was none: the window that should have been (Linux: `undo_cwnd`).
    #[allow(dead_code)] // until recovery knows how to tell
    fn undo(&mut self, window: &Window) -> u32 {
        window.cwnd.max(window.prior_cwnd)
    }
    /// The sender begins again after a silence, or had less to send than the window allowed.
    fn on_idle(&mut self, now: Instant);
}

/// The algorithms there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Algorithm {
    /// RFC 5681.
    NewReno(NewReno),
}

impl Algorithm {
    fn get_mut(&mut self) -> &mut dyn Controller {
        match self {
            Self::NewReno(controller) => controller,
        }
    }
}

/// The congestion control of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congestion {
    window: Window,
    algorithm: Algorithm,
}

impl Congestion {
    /// The default algorithm and the initial window.
    pub(crate) fn new() -> Self {
        Self { window: Window::new(), algorithm: Algorithm::NewReno(NewReno) }
    }

    /// The congestion window, in segments.
    pub(crate) fn cwnd(&self) -> u32 {
        self.window.cwnd
    }

    /// The slow start threshold, in segments.
    pub(crate) fn ssthresh(&self) -> u32 {
        self.window.ssthresh
    }

    /// Recovery (proportional rate reduction) moves the window.
    pub(crate) fn set_cwnd(&mut self, cwnd: u32) {
        self.window.set_cwnd(cwnd);
    }

    /// Whether the window still grows exponentially.
    pub(crate) fn in_slow_start(&self) -> bool {
        self.window.in_slow_start()
    }

    /// The windows before the last reduction: congestion window, slow start threshold.
    #[cfg(test)]
    pub(crate) fn prior(&self) -> (u32, u32) {
        (self.window.prior_cwnd, self.window.prior_ssthresh)
    }

    /// The window may grow.
    pub(crate) fn on_ack(&mut self, ack: &Ack) {
        self.algorithm.get_mut().on_ack(&mut self.window, ack);
    }

    /// A reduction begins: remembers the windows and sets the threshold; the congestion window is
    /// left to recovery, which comes down to the threshold in its own time.
    pub(crate) fn reduce(&mut self, now: Instant) {
        self.window.prior_cwnd = self.window.cwnd;
        // Linux, `tcp_current_ssthresh`: what slow start would reach again at once.
        let current = self.window.ssthresh.max(self.window.cwnd / 4 * 3);
        self.window.prior_ssthresh =
            if self.in_slow_start() { self.window.ssthresh } else { current };
        let ssthresh = self.algorithm.get_mut().ssthresh_on_loss(&self.window, now);
        self.window.ssthresh = ssthresh.max(2);
        self.window.cwnd_cnt = 0;
    }

    /// RFC 5681 3.1: after a timeout the loss window is one segment; `in_flight` are still out
    /// there, so that this is one more than they.
    pub(crate) fn on_timeout(&mut self, in_flight: u32) {
        self.algorithm.get_mut().on_timeout();
        self.window.cwnd_cnt = 0;
        self.set_cwnd(in_flight.saturating_add(1));
    }

    /// The last reduction had no reason (RFC 4015 3.2).
    #[allow(dead_code)] // until recovery knows how to tell
    pub(crate) fn undo(&mut self) {
        let cwnd = self.algorithm.get_mut().undo(&self.window);
        self.set_cwnd(cwnd);
        self.window.ssthresh = self.window.ssthresh.max(self.window.prior_ssthresh);
    }

    /// RFC 5681 4.1: after a silence of a whole timeout the window says nothing about the path: RW =
    /// min(IW, cwnd).
    pub(crate) fn on_idle(&mut self, now: Instant) {
        self.set_cwnd(self.cwnd().min(INITIAL_WINDOW));
        self.algorithm.get_mut().on_idle(now);
    }
}
