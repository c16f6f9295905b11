//! Explicit congestion notification: RFC 3168, which RFC 9293 3.8.2 (SHLD-8) asks for, with what Linux settles where it leaves a choice.
//!
//! ```text
//!   sender                  router                  receiver
//!   data, ECT(0)  ────────> CE  ──────────────────> demand_cwr
//!   reduction     <──────── ECE on every segment ── until CWR
//!   data, CWR     ────────────────────────────────> quiet again
//! ```
//! `input` and `output` ask; the reduction itself is `recovery`'s, in its state CWR.

use crate::wire::{Flags, Segment};

/// ECT(0), which is what a sender should use (RFC 3168 5), and CE.
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// The flags of an ECN-setup SYN (RFC 3168 6.1.1); an ECN-setup SYN-ACK has ECE alone.
const SETUP: Flags = Flags(Flags::ECE.0 | Flags::CWR.0);

/// Whether ECN is negotiated (Linux: `tcp_ecn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnMode {
    /// Never (0).
    Off,
    /// When connecting and when asked (1).
    On,
    /// Only when the peer asks (2).
    #[default]
    Answer,
}

/// What a connection knows of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ecn {
    /// Both sides can do it; while our SYN is out: it offers it.
    on: bool,
    /// CE was seen, and CWR not since (Linux: `TCP_ECN_DEMAND_CWR`).
    demand_cwr: bool,
    /// The window was reduced and the peer does not know (Linux: `TCP_ECN_QUEUE_CWR`).
    queue_cwr: bool,
    /// Data came with ECT or CE (Linux: `TCP_ECN_SEEN`).
    seen: bool,
}

impl Ecn {
    /// Before an active open.
    pub(crate) fn new(mode: EcnMode) -> Self {
        Self { on: mode == EcnMode::On, ..Self::default() }
    }

    /// Whether both sides can do it.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// Whether the peer, and the path from it, have shown that they do.
    pub(crate) fn is_seen(self) -> bool {
        self.seen
    }

    /// The flags that a SYN adds, and a SYN-ACK.
    pub(crate) fn syn_flags(self, active: bool) -> Flags {
        match (self.on, active) {
            (false, _) => Flags(0),
            (true, true) => SETUP,
            (true, false) => Flags::ECE,
        }
    }

    /// Our SYN was lost. RFC 3168 6.1.1.1: perhaps because of what it asked for, so it asks no more.
    pub(crate) fn on_lost_syn(&mut self) {
        self.on = false;
    }

    /// A SYN came, or, to an active open, the answer to ours. RFC 3168 6.1.1: nobody sends a SYN with
    /// ECT or CE; who does has not understood. A SYN-ACK with both flags only reflects ours.
    pub(crate) fn on_syn(&mut self, mode: EcnMode, active: bool, seg: &Segment<'_>) {
        let offers = seg.flags.contains(SETUP) && seg.ecn == 0;
        if seg.flags.contains(Flags::ACK) {
            self.on &= seg.flags.contains(Flags::ECE) && !seg.flags.contains(Flags::CWR);
        } else if active {
            self.on &= offers;
        } else {
            self.on = mode != EcnMode::Off && offers;
        }
    }

    /// The window was reduced, for whatever reason: the next new data says so (6.1.2).
    pub(crate) fn on_reduction(&mut self) {
        self.queue_cwr = self.on;
    }

    /// Flags and codepoint of a segment with `len` bytes of payload. 6.1.4, 6.1.5, 6.1.6: pure
    /// acknowledgments, repetitions and window probes are sent without ECT.
    pub(crate) fn stamp(self, len: u32, again: bool) -> (Flags, u8) {
        let mut flags = Flags(0);
        if !self.on {
            return (flags, 0);
        }
        if self.demand_cwr {
            flags |= Flags::ECE;
        }
        if len == 0 || again {
            return (flags, 0);
        }
        if self.queue_cwr {
            flags |= Flags::CWR;
        }
        (flags, ECT_0)
    }

    /// The device has taken a segment with these flags.
    pub(crate) fn on_sent(&mut self, flags: Flags) {
        if flags.contains(Flags::CWR) {
            self.queue_cwr = false;
        }
    }

    /// Data that is in the window came. True: it is acknowledged at once, for the sender's window
    /// may be down to one segment (6.1.3).
    pub(crate) fn on_data(&mut self, seg: &Segment<'_>) -> bool {
        if !self.on {
            return false;
        }
        self.seen |= seg.ecn != 0;
        let reduced = seg.flags.contains(Flags::CWR);
        if reduced {
            self.demand_cwr = false;
        }
        let marked = seg.ecn == CE;
        let first = marked && !self.demand_cwr;
        self.demand_cwr |= marked;
        first || reduced
    }

    /// 6.1.2: whether `seg` says that the network marked what we sent.
    pub(crate) fn is_echo(self, seg: &Segment<'_>) -> bool {
        self.on && seg.flags.contains(Flags::ECE) && !seg.flags.contains(Flags::SYN)
    }
}
