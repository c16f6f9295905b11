//! Congestion control: how much may be in flight.
//!
//! [`Congestion`] is what recovery drives: the [`Window`], which is the same for all, and one
//! algorithm, a [`Controller`], which is a file beside this one and a variant of [`Algorithm`]. An
//! algorithm never decides what is lost or when to send, only how the window grows and what is
//! left of it after a loss. Windows are counted in segments, as Linux does: acknowledgments that
//! are split into many small ones gain nothing. RFC 9293 3.8.2 (MUST-19) demands slow start and
//! congestion avoidance.

mod cubic;
mod hystart;
mod newreno;
mod usage;

use cubic::Cubic;
use newreno::NewReno;
use usage::Usage;

use crate::time::Instant;
use crate::wire::Seq;

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

    /// Sets the congestion window within its bounds.
    pub(crate) fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd.clamp(1, MAX_CWND);
    }

    /// Sets the slow start threshold (an algorithm that leaves slow start early).
    pub(crate) fn set_ssthresh(&mut self, ssthresh: u32) {
        self.ssthresh = ssthresh.max(2);
    }

    /// RFC 5681 3.1: slow start is used below the threshold.
    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// The threshold below which slow start may take the present window again at once, were it lost
    /// (Linux: `tcp_current_ssthresh`).
    fn current_ssthresh(&self) -> u32 {
        self.ssthresh.max((self.cwnd >> 1) + (self.cwnd >> 2))
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
    pub(crate) snd_una: Seq,
    pub(crate) snd_nxt: Seq,
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
    fn undo(&mut self, window: &Window) -> u32 {
        window.cwnd.max(window.prior_cwnd)
    }
    /// The sender begins again with nothing in flight; it last sent `since` then.
    fn on_idle(&mut self, now: Instant, since: Instant);
}

/// The algorithms that an application may choose from (`TCP_CONGESTION`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

impl CongestionControl {
    /// Linux's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
        }
    }

    /// The algorithm that Linux calls `name`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Cubic, Self::Reno].into_iter().find(|one| one.name().as_bytes() == name)
    }
}

/// An algorithm and its state.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Cubic(Cubic),
    NewReno(NewReno),
}

impl Algorithm {
    fn new(choice: CongestionControl) -> Self {
        match choice {
            CongestionControl::Cubic => Self::Cubic(Cubic::default()),
            CongestionControl::Reno => Self::NewReno(NewReno),
        }
    }

    fn get_mut(&mut self) -> &mut dyn Controller {
        match self {
            Self::Cubic(controller) => controller,
            Self::NewReno(controller) => controller,
        }
    }
}

/// The congestion control of one connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Congestion {
    window: Window,
    usage: Usage,
    algorithm: Algorithm,
}

impl Congestion {
    /// The initial window, to be moved by `choice`.
    pub(crate) fn new(choice: CongestionControl) -> Self {
        let algorithm = Algorithm::new(choice);
        Self { window: Window::new(), usage: Usage::new(), algorithm }
    }

    /// Another algorithm takes over the windows as they are (Linux:
    /// `tcp_reinit_congestion_control`).
    pub(crate) fn choose(&mut self, choice: CongestionControl) {
        self.algorithm = Algorithm::new(choice);
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
        self.window.prior_ssthresh = if self.in_slow_start() {
            self.window.ssthresh
        } else {
            self.window.current_ssthresh()
        };
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

    /// The next undo leaves the windows as they are: another reduction has begun within this one.
    pub(crate) fn forget_prior(&mut self) {
        self.window.prior_cwnd = 0;
        self.window.prior_ssthresh = 0;
    }

    /// The last reduction had no reason (RFC 4015 3.2).
    pub(crate) fn undo(&mut self) {
        let cwnd = self.algorithm.get_mut().undo(&self.window);
        self.set_cwnd(cwnd);
        self.window.ssthresh = self.window.ssthresh.max(self.window.prior_ssthresh);
    }

    /// Nothing more can be sent now: `out` segments are in flight, the next number to send is
    /// `snd_nxt`, and `sent` says whether something new has left.
    pub(crate) fn on_sent(&mut self, sent: bool, out: u32, snd_una: Seq, snd_nxt: Seq) {
        self.usage.on_sent(sent, out, self.window.cwnd, snd_una, snd_nxt);
    }

    /// Whether the window, not the application or the peer, holds the sender back, so that it may
    /// grow (Linux: `tcp_is_cwnd_limited`).
    pub(crate) fn is_limited(&self) -> bool {
        self.usage.is_limited(&self.window)
    }

    /// Sending begins again with nothing in flight; the last data left at `since`.
    pub(crate) fn on_transmit_start(&mut self, now: Instant, since: Instant) {
        self.algorithm.get_mut().on_idle(now, since);
    }

    /// RFC 5681 4.1: what was measured before a silence of a whole timeout says little about the
    /// path. As Linux has it (`tcp_cwnd_restart`), the window is halved for each timeout of the
    /// silence, down to the restart window, RW = min(IW, cwnd), and the threshold remembers it.
    pub(crate) fn restart(&mut self, idle_us: u64, rto_us: u64, initial: u32) {
        self.window.ssthresh = self.window.current_ssthresh();
        let restart = self.window.cwnd.min(initial);
        let mut cwnd = self.window.cwnd;
        let mut left = idle_us.saturating_sub(rto_us);
        while left > 0 && cwnd > restart {
            cwnd /= 2;
            left = left.saturating_sub(rto_us);
        }
        self.window.set_cwnd(cwnd.max(restart));
    }
}

#[cfg(test)]
mod tests;
