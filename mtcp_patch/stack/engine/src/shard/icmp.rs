//! ICMP errors about our segments: RFC 1122 4.2.3.9 as RFC 5927 restricts it. Anybody can send one.

use super::{Shard, Slot};
use crate::event::Error;
use crate::limits::Config;
use crate::stats::Refusal;
use crate::tcp::pmtu;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{IcmpError, IcmpKind};

impl Shard {
    /// RFC 9293 3.9.2.2 (MUST-54), RFC 1122 4.2.3.9: an ICMP error about one of our segments.
    pub(super) fn handle_icmp(&mut self, now: Instant, error: &IcmpError) {
        let found = self.flows.get(error.local, error.remote);
        let id = match found.and_then(|index| self.conns.at(index)) {
            Some(Slot::Conn(tcb)) => {
                // RFC 5927 4.1: it must speak of something that is in flight.
                if error.seq.lt(tcb.snd_una) || error.seq.ge(tcb.snd_nxt) {
                    self.env.stats.refuse(Refusal::IcmpOutsideWindow);
                    return;
                }
                match error.kind {
                    IcmpKind::FragNeeded { mtu } => {
                        pmtu::too_big(tcb, &mut self.env, now, mtu, error.seq);
                    }
                    // RFC 1122 4.2.3.9, RFC 9293 SHLD-26: a hard error aborts; while connecting, Linux
                    // takes the others the same way.
                    _ if tcb.state == State::SynSent && ends_open(error, &self.env.config) => {
                        let error = reason(error, self.env.config.linux_errors);
                        tcb.fail(&mut self.env, error);
                    }
                    // RFC 5927 6, RFC 9293 3.9.2.2 (MUST-47, MUST-56, SHLD-25): in every other state each
                    // such error is a soft one. It tells the application why, if the peer stays silent
                    // until the end (RFC 1122 4.2.3.9; Linux: `sk_err_soft`).
                    _ => tcb.soft_error = Some(reason(error, self.env.config.linux_errors)),
                }
                tcb.id
            }
            Some(Slot::Request(request)) => {
                if error.seq != request.iss {
                    self.env.stats.refuse(Refusal::IcmpOutsideWindow);
                } else if ends_half_open(error) {
                    // Linux `tcp_req_err`: it is forgotten in silence.
                    let id = request.place.id;
                    self.free(id);
                }
                return;
            }
            Some(Slot::TimeWait(_)) | None => return,
        };
        self.settle(id, now);
    }
}

/// What the application hears.
fn reason(error: &IcmpError, as_linux: bool) -> Error {
    match error.kind {
        // 4.4BSD: all that speaks of a prohibition, or of a protocol that is not known.
        IcmpKind::Unreachable { code: 9 | 10 | 13 } if !as_linux && error.local.is_ipv4() => {
            Error::ConnectionRefused
        }
        IcmpKind::ParameterProblem { code: 1 } if !as_linux && error.local.is_ipv6() => {
            Error::ConnectionRefused
        }
        IcmpKind::Unreachable { .. } if error.is_hard() => Error::ConnectionRefused,
        // RFC 1122 3.2.2.1: network unreachable, unknown, prohibited, not for this service.
        IcmpKind::Unreachable { code: 0 } => Error::NetUnreachable,
        IcmpKind::Unreachable { code: 6 | 9 | 11 } if error.local.is_ipv4() => {
            Error::NetUnreachable
        }
        _ => Error::HostUnreachable,
    }
}

/// Whether an open ends with it: RFC 1122 4.2.3.9 wants that of the hard errors alone; Linux does it
/// for all.
fn ends_open(error: &IcmpError, config: &Config) -> bool {
    let hard = reason(error, config.linux_errors) == Error::ConnectionRefused;
    let in_transit = matches!(error.kind, IcmpKind::TimeExceeded { code: 0 });
    config.icmp_may_reset && (config.linux_errors || hard || in_transit)
}

/// What makes a listener forget a half-open connection: it cannot be reached (Linux `tcp_v4_err`).
fn ends_half_open(error: &IcmpError) -> bool {
    match error.kind {
        IcmpKind::Unreachable { code } if error.local.is_ipv4() => code <= 1,
        IcmpKind::Unreachable { code } => code == 0 || code == 3,
        IcmpKind::TimeExceeded { .. } | IcmpKind::ParameterProblem { .. } => true,
        IcmpKind::FragNeeded { .. } => false,
    }
}
