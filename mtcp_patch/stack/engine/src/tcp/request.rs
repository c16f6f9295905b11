//! A half-open connection: what is remembered of a SYN until its handshake is over (Linux: the
//! request socket). A TCB costs several times as much and is made when the peer has shown that it
//! receives what we send; until then this answers for it, and a flood of SYNs costs little.
//!
//! The answers are those of the TCB that will be: [`Request::embryo`] makes it, for one header.
//! Called by the shard's `passive`, which knows the listener.

use super::input;
use super::options::{Agreed, Offer};
use super::output;
use super::state::State;
use super::tcb::{ConnOptions, Origin, Owner, Tcb};
use super::timestamps::Timestamps;
use crate::device::DeviceId;
use crate::event::{ConnId, ListenerId};
use crate::shard::Env;
use crate::stats::Refusal;
use crate::time::Instant;
use crate::wire::{Flags, Header, Link, Options, Segment, Seq};
use core::net::SocketAddr;

/// The peer's SYN: its addresses, numbers and options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syn {
    pub(crate) link: Link,
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) seq: Seq,
    pub(crate) wnd: u16,
    pub(crate) flags: Flags,
    pub(crate) ecn: u8,
    pub(crate) mss: Option<u16>,
    pub(crate) wscale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(u32, u32)>,
}

impl Syn {
    /// What there is to remember of `seg`.
    pub(crate) fn of(seg: &Segment<'_>) -> Self {
        let Options { mss, wscale, sack_permitted, timestamps, .. } = seg.options;
        Self {
            link: seg.link,
            src: seg.src,
            dst: seg.dst,
            seq: seg.seq,
            wnd: seg.wnd,
            flags: seg.flags,
            ecn: seg.ecn,
            mss,
            wscale,
            sack_permitted,
            timestamps,
        }
    }

    /// The SYN again, without what it carried beyond its options.
    fn segment(&self) -> Segment<'static> {
        let Self { mss, wscale, sack_permitted, timestamps, .. } = *self;
        Segment {
            link: self.link,
            src: self.src,
            dst: self.dst,
            seq: self.seq,
            ack: Seq(0),
            flags: self.flags,
            wnd: self.wnd,
            urgent: 0,
            options: Options { mss, wscale, sack_permitted, timestamps, ..Options::default() },
            payload: &[],
            ecn: self.ecn,
        }
    }

    /// What it says about what we may send; `mtu` is our device's.
    pub(crate) fn agreed(&self, mtu: usize) -> Agreed {
        Agreed::from_syn(&self.segment().options, mtu, &self.dst)
    }

    /// The connection that this SYN asks of a listener with `inherit`, in SYN-RECEIVED.
    pub(crate) fn embryo(
        &self,
        env: &mut Env,
        now: Instant,
        place: Place,
        iss: Seq,
        inherit: ConnOptions,
    ) -> Tcb {
        let adv_mss = Offer::adv_mss(env.mtu(place.device), &self.dst, &inherit, &env.config);
        let origin = Origin {
            id: place.id,
            state: State::SynReceived,
            owner: Owner::AcceptQueue(place.listener),
            local: self.dst,
            remote: self.src,
            device: place.device,
            link: Link { src: self.link.dst, dst: self.link.src },
            options: inherit,
            iss,
            adv_mss,
            timestamp_offset: env.secrets.timestamp_offset(&self.dst, &self.src),
        };
        let mut tcb = Tcb::new(origin, &env.config, now);
        input::take_syn(&mut tcb, env, now, &self.segment());
        tcb
    }
}

/// Where a passive connection belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: ConnId,
    pub(crate) listener: ListenerId,
    pub(crate) device: DeviceId,
}

/// The half-open connection.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) place: Place,
    pub(crate) syn: Syn,
    pub(crate) iss: Seq,
    /// The window of our SYN-ACK.
    wnd: u16,
    /// When our SYN-ACK first left.
    sent_at: Option<Instant>,
    /// Repetitions of our SYN-ACK because of silence.
    pub(crate) retries: u8,
    /// When a segment that moved nothing was last answered.
    last_answer: Option<Instant>,
    /// On the control list of its device.
    pub(crate) queued: bool,
}

/// What a segment means to a half-open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Drop,
    /// The peer has not seen our SYN-ACK.
    Repeat,
    /// The peer should hear where we stand: an acknowledgment, within the limits of challenges.
    Challenge,
    /// It acknowledges what we never sent: a reset is the answer, and we wait on.
    Reset,
    /// The exact reset: back to LISTEN.
    Gone,
    /// The handshake is over.
    Complete,
}

impl Request {
    pub(crate) fn new(place: Place, syn: Syn, iss: Seq) -> Self {
        Self {
            place,
            syn,
            iss,
            wnd: u16::MAX,
            sent_at: None,
            retries: 0,
            last_answer: None,
            queued: false,
        }
    }

    /// RFC 9293 3.10.7.4 for SYN-RECEIVED, in its order. The open was passive (3.5, MUST-11): a reset
    /// ends it in silence.
    pub(crate) fn judge(&self, env: &mut Env, now: Instant, seg: &Segment<'_>) -> Verdict {
        let (mut seq, mut flags) = (seg.seq, seg.flags);
        if flags.contains(Flags::SYN) && seq == self.syn.seq {
            if !flags.intersects(Flags::ACK | Flags::RST | Flags::FIN) {
                return Verdict::Repeat;
            }
            seq += 1;
            flags = Flags(flags.0 & !Flags::SYN.0);
        }
        let reset = flags.contains(Flags::RST);
        let mut timestamps = Timestamps::new(env.config.timestamps, 0);
        timestamps.on_syn(now, &self.syn.segment().options);
        // RFC 7323 5.3 (R1).
        if !reset && timestamps.is_old(now, &seg.options) {
            env.stats.refuse(Refusal::OldTimestamp);
            return Verdict::Challenge;
        }
        let rcv_nxt = self.syn.seq + 1;
        let end = seg.seq + seg.len();
        let right = rcv_nxt + u32::from(self.wnd);
        // RFC 5961 3.2: a reset at the right edge is outside.
        let outside = if reset { seq.lt(rcv_nxt) || seq.ge(right) } else { seq.gt(right) };
        if end.lt(rcv_nxt) || outside {
            if reset {
                return Verdict::Drop;
            }
            env.stats.refuse(Refusal::OutsideWindow);
            return Verdict::Challenge;
        }
        if reset {
            // RFC 5961 3.2.
            if seq == rcv_nxt || !env.config.exact_reset {
                return Verdict::Gone;
            }
            env.stats.refuse(Refusal::InexactReset);
            return Verdict::Challenge;
        }
        // RFC 5961 4.2.
        if flags.contains(Flags::SYN) {
            let challenge = env.config.challenge_syn;
            return if challenge { Verdict::Challenge } else { Verdict::Gone };
        }
        match flags.contains(Flags::ACK) {
            false => Verdict::Drop,
            true if seg.ack == self.iss + 1 => Verdict::Complete,
            true => Verdict::Reset,
        }
    }

    /// Whether an answer to a repeated SYN is due: one in a while, as of everything that could be
    /// one half of a quarrel (Linux: `tcp_invalid_ratelimit`).
    pub(crate) fn may_repeat(&mut self, env: &mut Env, now: Instant) -> bool {
        env.may_answer(&mut self.last_answer, now)
    }

    /// Answers with an acknowledgment that says where we stand, if the limits allow one.
    pub(crate) fn challenge(&mut self, env: &mut Env, now: Instant, inherit: ConnOptions) {
        if !env.may_challenge(&mut self.last_answer, now) {
            return;
        }
        let mut tcb = self.embryo(env, now, inherit);
        let header = output::acknowledgment_header(&mut tcb, env, now);
        env.reply(self.place.device, header);
    }

    /// The connection as it stands once our SYN-ACK has left.
    pub(crate) fn embryo(&self, env: &mut Env, now: Instant, inherit: ConnOptions) -> Tcb {
        let mut tcb = self.syn.embryo(env, now, self.place, self.iss, inherit);
        output::syn_sent(&mut tcb);
        tcb.rcv_adv = tcb.rcv_nxt + u32::from(self.wnd);
        tcb.retries = self.retries;
        tcb.retransmits = u64::from(self.retries);
        tcb.timed = self.sent_at.filter(|_| self.retries == 0);
        tcb
    }

    /// Our SYN-ACK.
    pub(crate) fn syn_ack(&self, env: &mut Env, now: Instant, inherit: ConnOptions) -> Header {
        let mut tcb = self.syn.embryo(env, now, self.place, self.iss, inherit);
        output::syn_header(&mut tcb, env, now)
    }

    /// The device has taken `header`, our SYN-ACK.
    pub(crate) fn sent(&mut self, env: &mut Env, now: Instant, header: &Header) {
        if self.sent_at.is_some() {
            env.stats.retransmits += 1;
        }
        self.sent_at.get_or_insert(now);
        self.wnd = header.wnd;
    }

    /// The timeout of our SYN-ACK now, in microseconds (Linux: the initial one, doubled with each
    /// repetition).
    pub(crate) fn timeout_us(&self, env: &Env) -> u64 {
        let shift = u32::from(self.retries.min(16));
        env.config.rto_initial_us.saturating_mul(1 << shift).min(env.config.rto_max_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its entries in the flow table, the slab and the timer wheel a half-open connection
    /// costs below 300 bytes.
    #[test]
    fn a_half_open_connection_costs_a_third_of_a_tcb() {
        let bytes = core::mem::size_of::<Request>();
        assert!(bytes <= 176 && 3 * bytes <= core::mem::size_of::<Tcb>(), "{bytes}");
    }
}
