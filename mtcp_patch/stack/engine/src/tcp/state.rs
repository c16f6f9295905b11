//! The states of a connection and every transition between them: the diagram of RFC 9293 3.3.2 as
//! one table. Nothing else in the engine decides what state comes next.

/// A connection's state. LISTEN is not among them: a listener is another object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// A SYN is sent or about to be.
    SynSent,
    /// A SYN was received and ours is not acknowledged yet.
    SynReceived,
    /// Data may flow both ways.
    Established,
    /// We closed; our FIN is not acknowledged yet.
    FinWait1,
    /// We closed and the peer knows; its FIN is outstanding.
    FinWait2,
    /// The peer closed, we did not.
    CloseWait,
    /// Both closed at once; our FIN is not acknowledged yet.
    Closing,
    /// The peer closed, then we did; our FIN is not acknowledged yet.
    LastAck,
    /// Both closed and know it; old segments may still arrive.
    TimeWait,
    /// No connection any more.
    Closed,
}

/// What makes a state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A SYN without ACK arrived.
    RcvSyn,
    /// The peer acknowledged our SYN (in SYN-SENT: with a SYN of its own).
    SynAcked,
    /// The application ended its direction.
    Close,
    /// The peer's FIN is the next in order.
    RcvFin,
    /// The peer acknowledged our FIN.
    FinAcked,
    /// A reset, sent or received, a timeout, or the end of TIME-WAIT.
    Gone,
}

impl State {
    /// The state after `cause`; `None` where RFC 9293 knows no such transition.
    pub(crate) fn next(self, cause: Cause) -> Option<State> {
        use Cause::{Close, FinAcked, Gone, RcvFin, RcvSyn, SynAcked};
        use State::{
            CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived,
            SynSent, TimeWait,
        };
        Some(match (self, cause) {
            (SynSent, RcvSyn) => SynReceived,
            (SynSent | SynReceived, SynAcked) => Established,
            (SynSent, Close) => Closed,
            (SynReceived | Established, Close) => FinWait1,
            (CloseWait, Close) => LastAck,
            (Established, RcvFin) => CloseWait,
            (FinWait1, RcvFin) => Closing,
            (FinWait2, RcvFin) => TimeWait,
            (FinWait1, FinAcked) => FinWait2,
            (Closing, FinAcked) => TimeWait,
            (LastAck, FinAcked) => Closed,
            (_, Gone) => Closed,
            _ => return None,
        })
    }

    /// Both SYNs are acknowledged and the connection is not gone: data, FIN and RST follow the
    /// rules of RFC 9293 3.10.7.4.
    pub(crate) fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived | Self::Closed)
    }

    /// The peer may still send data.
    pub(crate) fn can_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// The application has ended its direction, and the FIN has been or will be sent.
    pub(crate) fn has_fin(self) -> bool {
        matches!(self, Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck)
    }

    /// The FIN has been or will be sent, and is not acknowledged.
    pub(crate) fn fin_outstanding(self) -> bool {
        matches!(self, Self::FinWait1 | Self::Closing | Self::LastAck)
    }

    /// The state as `ss` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECV",
            Self::Established => "ESTAB",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "CLOSE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 10] = [
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
        State::Closed,
    ];

    /// The diagram of RFC 9293 3.3.2, read off the page arrow by arrow.
    #[test]
    fn transitions_are_those_of_the_diagram() {
        use Cause::*;
        let diagram = [
            (State::SynSent, RcvSyn, State::SynReceived),
            (State::SynSent, SynAcked, State::Established),
            (State::SynSent, Close, State::Closed),
            (State::SynReceived, SynAcked, State::Established),
            (State::SynReceived, Close, State::FinWait1),
            (State::Established, Close, State::FinWait1),
            (State::Established, RcvFin, State::CloseWait),
            (State::FinWait1, FinAcked, State::FinWait2),
            (State::FinWait1, RcvFin, State::Closing),
            (State::FinWait2, RcvFin, State::TimeWait),
            (State::CloseWait, Close, State::LastAck),
            (State::Closing, FinAcked, State::TimeWait),
            (State::LastAck, FinAcked, State::Closed),
        ];
        for from in STATES {
            for cause in [RcvSyn, SynAcked, Close, RcvFin, FinAcked] {
                let expected =
                    diagram.iter().find(|(f, c, _)| (*f, *c) == (from, cause)).map(|d| d.2);
                assert_eq!(from.next(cause), expected, "{from:?} {cause:?}");
            }
            assert_eq!(from.next(Gone), Some(State::Closed));
        }
    }
}
