//! TIME-WAIT without a TCB: what is left of a connection that both sides and the application have
//! closed. It holds no buffer, only what is needed to acknowledge a repeated FIN and to judge a new
//! SYN (RFC 9293 3.10.7.4, RFC 6191).

use core::net::SocketAddr;

use super::tcb::Tcb;
use super::timestamps::Timestamps;
use super::{input, timer};
use crate::device::DeviceId;
use crate::event::ConnId;
use crate::shard::Env;
use crate::stats::Refusal;
use crate::time::Instant;
use crate::wire::{Flags, Header, Link, Options, Segment, Seq};

/// The remains of a connection.
#[derive(Debug)]
pub(crate) struct TimeWait {
    pub(crate) id: ConnId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) device: DeviceId,
    link: Link,
    pub(crate) snd_nxt: Seq,
    pub(crate) rcv_nxt: Seq,
    rcv_wnd: u16,
    timestamps: Timestamps,
    last_ack: Option<Instant>,
    dscp: u8,
    hop_limit: Option<u8>,
}

/// What a segment means to a connection in TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing more to do.
    Stay,
    /// The peer sent its FIN again: another 2 MSL.
    Restart,
    /// A reset, which means nothing here.
    Reset,
    /// A new incarnation of the connection begins.
    Reopen,
}

/// RFC 9293 3.10.7.4 for TIME-WAIT. The caller acknowledges if `ack` comes back true.
pub(crate) fn judge(
    rcv_nxt: Seq,
    rcv_wnd: u32,
    timestamps: &Timestamps,
    now: Instant,
    seg: &Segment<'_>,
) -> (Verdict, bool) {
    if seg.flags.contains(Flags::RST) {
        // RFC 1337 3 (F1): TIME-WAIT is there to outlive old duplicates, and a reset that answers one
        // of them must not end it. (Linux: `tcp_rfc1337`, which is off there.)
        return (Verdict::Reset, false);
    }
    // RFC 7323 5.3 (R1).
    if timestamps.is_old(now, &seg.options) {
        return (Verdict::Stay, true);
    }
    if seg.flags.contains(Flags::SYN) && !seg.flags.contains(Flags::ACK) {
        // RFC 9293 MAY-2: a SYN beyond everything of the old connection opens a new one.
        // RFC 6191 2, RFC 9293 SHLD-4: so does one with a later timestamp.
        let new = seg.seq.gt(rcv_nxt) || timestamps.is_newer_syn(&seg.options);
        return (if new { Verdict::Reopen } else { Verdict::Stay }, !new);
    }
    if seg.flags.contains(Flags::FIN) && (seg.seq + seg.len()).le(rcv_nxt) {
        return (Verdict::Restart, true);
    }
    let in_window = seg.seq.ge(rcv_nxt) && seg.seq.le(rcv_nxt + rcv_wnd);
    (Verdict::Stay, !in_window || seg.len() > 0)
}

/// Whether TIME-WAIT answers `seg` where it answers all: whatever has an acknowledgment, but for
/// resets and for the one bare acknowledgment that an honest peer sends here.
fn is_answered(snd_nxt: Seq, rcv_nxt: Seq, seg: &Segment<'_>) -> bool {
    let bare = seg.flags.0 & !Flags::PSH.0 == Flags::ACK.0 && seg.len() == 0;
    let expected = bare && seg.seq == rcv_nxt && seg.ack == snd_nxt;
    seg.flags.contains(Flags::ACK) && !seg.flags.contains(Flags::RST) && !expected
}

/// A segment arrives at a TCB in TIME-WAIT, which its application still holds, where all are
/// answered; `seg` opens nothing new.
pub(crate) fn answer(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    match judge(tcb.rcv_nxt, 0, &tcb.timestamps, now, seg).0 {
        Verdict::Reset => {
            // RFC 1337 3 (F1).
            env.stats.refuse(Refusal::TimeWaitReset);
            return;
        }
        Verdict::Restart => timer::enter_time_wait(tcb, env, now),
        Verdict::Stay | Verdict::Reopen => {}
    }
    if is_answered(tcb.snd_nxt, tcb.rcv_nxt, seg) {
        input::ack_now(tcb, env);
    }
}

impl TimeWait {
    /// What is left of `tcb`.
    pub(crate) fn new(tcb: &Tcb) -> Self {
        let scale = if tcb.wscale_ok { tcb.rcv_wscale } else { 0 };
        let window = super::window::at_the_end(tcb) >> scale;
        Self {
            id: tcb.id,
            local: tcb.local,
            remote: tcb.remote,
            device: tcb.device,
            link: tcb.link,
            snd_nxt: tcb.snd_nxt,
            rcv_nxt: tcb.rcv_nxt,
            rcv_wnd: window.min(65_535) as u16,
            timestamps: tcb.timestamps,
            last_ack: None,
            dscp: tcb.options.dscp,
            hop_limit: tcb.options.hop_limit,
        }
    }

    /// A segment arrives.
    pub(crate) fn segment_arrives(
        &mut self,
        env: &mut Env,
        now: Instant,
        seg: &Segment<'_>,
    ) -> Verdict {
        let (verdict, acknowledge) =
            judge(self.rcv_nxt, u32::from(self.rcv_wnd), &self.timestamps, now, seg);
        if env.config.time_wait_answers_all {
            if is_answered(self.snd_nxt, self.rcv_nxt, seg) {
                self.acknowledge_now(env, now);
            }
        } else if acknowledge {
            self.acknowledge(env, now);
        }
        verdict
    }

    fn acknowledge(&mut self, env: &mut Env, now: Instant) {
        let recent = |at: Instant| now.micros_since(at) < env.config.stray_ack_interval_us;
        if self.last_ack.is_some_and(recent) {
            env.stats.refuse(Refusal::ChallengeLimit);
            return;
        }
        self.last_ack = Some(now);
        self.acknowledge_now(env, now);
    }

    /// Queues the acknowledgment of everything.
    pub(crate) fn acknowledge_now(&self, env: &mut Env, now: Instant) {
        let header = Header {
            link: self.link,
            src: self.local,
            dst: self.remote,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: Flags::ACK,
            wnd: self.rcv_wnd,
            options: Options { timestamps: self.timestamps.option(now), ..Options::default() },
            urgent: 0,
            ecn: 0,
            dscp: self.dscp,
            hop_limit: self.hop_limit.unwrap_or(super::output::HOP_LIMIT),
            ip_id: env.next_ip_id(),
        };
        env.reply(self.device, header);
    }
}
