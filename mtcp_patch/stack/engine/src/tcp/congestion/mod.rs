//! Congestion control: how much may be in flight.
//!
//! [`Controller`] is the interface that recovery drives; an algorithm is a file beside this one and
//! a variant of [`Congestion`]. It never decides what is lost or when to send: only the window.

mod newreno;

pub(crate) use newreno::NewReno;

/// A congestion control algorithm. Bytes throughout.
pub(crate) trait Controller {
    /// The congestion window.
    fn cwnd(&self) -> u32;
    /// The slow start threshold.
    fn ssthresh(&self) -> u32;
    /// `acked` new bytes were acknowledged outside recovery; `limited` says that the window, not
    /// the application, held the sender back.
    fn on_ack(&mut self, acked: u32, mss: u32, limited: bool);
    /// Loss was found by duplicate acknowledgments while `in_flight` bytes were outstanding.
    fn on_loss(&mut self, in_flight: u32, mss: u32);
    /// A further duplicate acknowledgment in recovery: a segment has left the network.
    fn on_duplicate(&mut self, mss: u32);
    /// A partial acknowledgment of `acked` bytes in recovery.
    fn on_partial_ack(&mut self, acked: u32, mss: u32);
    /// Recovery is over; `in_flight` bytes are outstanding.
    fn on_recovered(&mut self, in_flight: u32, mss: u32);
    /// The retransmission timer expired, for the first time for this data if `first`.
    fn on_timeout(&mut self, in_flight: u32, mss: u32, first: bool);
    /// The sender was idle for longer than the retransmission timeout.
    fn on_idle(&mut self, mss: u32);
}

/// The algorithms there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Congestion {
    /// RFC 5681 with RFC 6582.
    NewReno(NewReno),
}

impl Congestion {
    /// The default algorithm for a payload limit of `mss`.
    pub(crate) fn new(mss: u32) -> Self {
        Self::NewReno(NewReno::new(mss))
    }

    /// The algorithm.
    pub(crate) fn get(&self) -> &impl Controller {
        let Self::NewReno(controller) = self;
        controller
    }

    /// The algorithm.
    pub(crate) fn get_mut(&mut self) -> &mut impl Controller {
        let Self::NewReno(controller) = self;
        controller
    }
}
