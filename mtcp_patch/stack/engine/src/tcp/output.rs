//! What leaves, and when: RFC 9293 3.8.6.2.1 (silly window avoidance, Nagle), RFC 5681.
//!
//! ```text
//!     SND.UNA         SND.NXT        SND.UNA + min(cwnd, SND.WND)     data_end
//!  ------|---------------|--------------------|---------------------------|- - -
//!        |<- in flight ->|<----- usable ----->|<-------- waits ---------->|FIN
//!        ^ again         ^ new
//! ```
//! Called by the shard's `transmit`, list by list; the order of the lists is the shard's business.
//! Nothing is recorded as sent before the device has taken it, and nothing is allocated.

use super::options::Offer;
use super::recovery::{self, CaState, Pending};
use super::sack_receiver::Blocks;
use super::state::State;
use super::tcb::Tcb;
use super::timer::{self, Timer};
use super::{account, ack, eor, skb, tlp, urgent, window};
use crate::limits::MAX_SEGMENTS_PER_TURN;
use crate::shard::{Env, Sink};
use crate::time::Instant;
use crate::wire::{Flags, Header, Options, Seq};

/// How a connection's turn on a transmit list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing more to send now.
    Done,
    /// There is more, but others come first.
    More,
    /// The device takes no more.
    Refused,
}

/// A segment that may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    seq: Seq,
    len: u32,
    fin: bool,
    /// New, and less than the most that fits into a segment.
    small: bool,
    /// Which of the sent segments it is; `None`: a new one.
    again: Option<usize>,
}

/// The hop limit of what we send (Linux: 64).
pub(crate) const HOP_LIMIT: u8 = 64;

#[inline(always)] // or it is copied on its way back: it is as large as what it describes
fn header(tcb: &mut Tcb, env: &mut Env, now: Instant, seq: Seq, flags: Flags) -> Header {
    let mut header = Header {
        link: tcb.link,
        src: tcb.local,
        dst: tcb.remote,
        seq,
        ack: tcb.rcv_nxt,
        flags: flags | tcb.ecn.stamp(0, false).0,
        wnd: window::advertise(tcb, &env.config),
        options: Options {
            timestamps: tcb.timestamps.option(now),
            sack: sack_blocks(tcb),
            ..Options::default()
        },
        urgent: 0,
        ecn: 0,
        // RFC 9293 3.9.1.9 (MUST-48, SHLD-21, SHLD-22), 3.9.2 (MUST-49).
        dscp: tcb.options.dscp,
        hop_limit: tcb.options.hop_limit.unwrap_or(HOP_LIMIT),
        ip_id: env.next_ip_id(),
    };
    urgent::stamp(tcb, &mut header);
    header
}

/// RFC 2018 4: in every segment that acknowledges while data is held out of order.
fn sack_blocks(tcb: &Tcb) -> Blocks {
    match &tcb.sack_receiver {
        Some(receiver) if tcb.sack_ok => receiver.blocks(&tcb.ranges, tcb.rcv_nxt),
        _ => Blocks::default(),
    }
}

/// What fits into the next segment, in bytes: SACK blocks take their room from the payload
/// (RFC 9293 3.7.1, MUST-16).
fn payload_limit(tcb: &Tcb) -> u32 {
    let sack = sack_blocks(tcb);
    if sack[0].is_none() {
        return tcb.mss;
    }
    let options = Options { sack, ..Options::default() };
    tcb.mss.saturating_sub(options.len() as u32).max(1)
}

/// The SYN of a connection in SYN-SENT, the SYN-ACK of one in SYN-RECEIVED.
pub(crate) fn syn_header(tcb: &mut Tcb, env: &mut Env, now: Instant) -> Header {
    let active = tcb.state == State::SynSent;
    let flags = if active { Flags::SYN } else { Flags::SYN | Flags::ACK };
    let flags = flags | tcb.ecn.syn_flags(active);
    let window = window::advertise_in_syn(tcb, &env.config);
    // RFC 7323 2.2: a SYN-ACK carries the option only when the SYN did.
    let wscale = tcb.wscale_ok.then_some(tcb.rcv_wscale);
    let plain = active && tcb.retries > env.config.syn_option_retries;
    let options = Offer {
        mss: tcb.adv_mss,
        wscale: wscale.filter(|_| !plain),
        sack: tcb.sack_ok && !plain,
        timestamps: tcb.timestamps.option(now).filter(|_| !plain),
    }
    .syn_options();
    let seq = tcb.iss;
    let mut header = header(tcb, env, now, seq, flags);
    header.wnd = window;
    header.options = options;
    if active {
        header.ack = Seq(0);
    }
    header
}

/// Our SYN has left.
pub(crate) fn syn_sent(tcb: &mut Tcb) {
    tcb.snd_nxt = tcb.iss + 1;
    tcb.rcv_wup = tcb.rcv_nxt;
}

/// The acknowledgment of everything that has arrived.
pub(crate) fn acknowledgment_header(tcb: &mut Tcb, env: &mut Env, now: Instant) -> Header {
    let fin_is_out = tcb.state.fin_outstanding() && tcb.snd_nxt.gt(tcb.data_end());
    if env.config.acks_repeat_fin && fin_is_out {
        let seq = tcb.snd_nxt - 1;
        return header(tcb, env, now, seq, Flags::ACK | Flags::FIN);
    }
    bare_acknowledgment(tcb, env, now)
}

/// The same, and nothing else.
pub(crate) fn bare_acknowledgment(tcb: &mut Tcb, env: &mut Env, now: Instant) -> Header {
    let seq = tcb.snd_nxt;
    header(tcb, env, now, seq, Flags::ACK)
}

/// Sends the SYN, or the SYN-ACK of a simultaneous open, that stands on the control list.
pub(crate) fn control(tcb: &mut Tcb, env: &mut Env, now: Instant, sink: &mut Sink<'_>) -> Turn {
    if !matches!(tcb.state, State::SynSent | State::SynReceived) {
        return Turn::Done;
    }
    let header = syn_header(tcb, env, now);
    if !sink.put(env, &header, [&[], &[]]) {
        return Turn::Refused;
    }
    let again = tcb.snd_nxt.gt(tcb.iss);
    tcb.account.sent(now, 0, again);
    if again {
        env.stats.retransmits += 1;
        tcb.retransmits += 1;
        tcb.timed = None;
    } else {
        tcb.timed = Some(now);
    }
    syn_sent(tcb);
    tcb.last_sent = now;
    let rto = tcb.rtt.rto_us(env.config.rto_max_us);
    timer::start_if_idle(tcb, env, Timer::Retransmit, now + rto);
    Turn::Done
}

/// Sends the pure acknowledgment or the probe that stands on the acknowledgment list.
pub(crate) fn acknowledgment(
    tcb: &mut Tcb,
    env: &mut Env,
    now: Instant,
    sink: &mut Sink<'_>,
) -> Turn {
    // In SYN-RECEIVED a challenge may be due (RFC 5961 3.2, 4.2).
    if matches!(tcb.state, State::SynSent | State::Closed) {
        return Turn::Done;
    }
    if tcb.probe_due {
        // One sequence number before SND.UNA: whoever receives it must answer (RFC 9293 3.8.4, SHLD-12).
        let seq = tcb.snd_una - 1;
        let header = header(tcb, env, now, seq, Flags::ACK);
        if !sink.put(env, &header, [&[], &[]]) {
            return Turn::Refused;
        }
        tcb.account.sent(now, 0, false);
        tcb.probe_due = false;
        acknowledged(tcb);
    }
    if tcb.ack_due {
        let header = acknowledgment_header(tcb, env, now);
        if !sink.put(env, &header, [&[], &[]]) {
            return Turn::Refused;
        }
        acknowledged_alone(tcb, now);
    }
    Turn::Done
}

/// A segment without text acknowledges everything that has arrived.
pub(crate) fn acknowledged_alone(tcb: &mut Tcb, now: Instant) {
    tcb.account.sent(now, 0, false);
    tcb.quick_acks = tcb.quick_acks.saturating_sub(1);
    acknowledged(tcb);
}

/// Everything that has arrived is acknowledged by what has just left.
fn acknowledged(tcb: &mut Tcb) {
    tcb.ack_due = false;
    tcb.unacked_segments = 0;
    if let Some(receiver) = &mut tcb.sack_receiver {
        receiver.on_sent();
    }
    tcb.rcv_wup = tcb.rcv_nxt;
    timer::stop(tcb, Timer::DelayedAck);
}

/// One turn of a connection on the data list.
pub(crate) fn data(tcb: &mut Tcb, env: &mut Env, now: Instant, sink: &mut Sink<'_>) -> Turn {
    if !tcb.state.is_synchronized() || tcb.state == State::TimeWait {
        return Turn::Done;
    }
    timer::restart_after_idle(tcb, env, now);
    let before = tcb.snd_nxt;
    let mut turn = Turn::More;
    for _ in 0..MAX_SEGMENTS_PER_TURN {
        let Some(plan) = plan(tcb) else {
            turn = Turn::Done;
            break;
        };
        if !send(tcb, env, now, sink, plan) {
            turn = Turn::Refused;
            break;
        }
    }
    if tcb.snd_nxt != before {
        skb::sent(tcb);
        let rto_at = tcb.timers.deadline(Timer::Retransmit);
        let rto_us = rto_at.map_or(u64::MAX, |at| at.micros_since(now));
        tlp::schedule(tcb, env, now, rto_us);
    }
    let (sent, out) = (tcb.snd_nxt != before, tcb.sent.packets_out());
    tcb.congestion.on_sent(sent, out, tcb.snd_una, tcb.snd_nxt);
    if turn == Turn::Done {
        wait_for_room(tcb, env, now);
        account::phase(tcb, now, is_rwnd_limited(tcb));
        // With packets counted, what leaves decides whether the buffer grows (Linux `tcp_data_snd_check`).
        if tcb.notsent_lowat(&env.config).is_some() || env.config.send_buffer_by_packets {
            ack::wake_writer(tcb, env);
        }
    }
    turn
}

/// The next segment that the rules let go: as large as possible (RFC 9293 3.9.1.2, SHLD-28).
fn plan(tcb: &mut Tcb) -> Option<Plan> {
    if !tcb.recovery.tlp.due && !tcb.sent.is_waiting() && !has_new(tcb) {
        // The usual end of a turn.
        return None;
    }
    if tcb.recovery.tlp.due {
        // RFC 8985 7.3: new data, or else the last segment again, whatever the congestion window.
        let new = plan_new(tcb);
        let last = (tcb.sent.packets_out() as usize).checked_sub(1);
        let probe = new.or_else(|| plan_again(tcb, last?));
        if probe.is_none() {
            tcb.recovery.tlp.due = false;
        }
        return probe;
    }
    // RFC 3042: what a duplicate or a SACK block says has left the network makes room at once.
    let room = !tcb.is_cwnd_limited();
    if room && !tcb.recovery.new_first {
        if let Some(plan) = tcb.sent.next_waiting().and_then(|index| plan_again(tcb, index)) {
            return Some(plan);
        }
    }
    // A FIN does not wait for the congestion window, as in Linux.
    plan_new(tcb).filter(|plan| room || plan.fin)
}

/// Segment `index` once more, whole if the MSS and the window still allow that.
fn plan_again(tcb: &mut Tcb, index: usize) -> Option<Plan> {
    let segment = *tcb.sent.get(index)?;
    let window = u32::try_from(tcb.window_end() - segment.seq).unwrap_or(0);
    if window == 0 && segment.seq != tcb.snd_una {
        return None;
    }
    // RFC 9293 3.8.6 (MUST-34, SHLD-15, SHLD-16): one segment of what had been sent goes out even
    // when the peer has shrunk its window below that.
    let most = if window == 0 { tcb.mss } else { tcb.mss.min(window) };
    let len = u32::try_from(segment.end.min(tcb.data_end()) - segment.seq).unwrap_or(0);
    if len > most {
        if !tcb.sent.split(index, most) {
            return None;
        }
        return Some(Plan {
            seq: segment.seq,
            len: most,
            fin: false,
            small: false,
            again: Some(index),
        });
    }
    let fin = segment.end.gt(tcb.data_end());
    Some(Plan { seq: segment.seq, len, fin, small: false, again: Some(index) })
}

/// Whether there is data, or a FIN, that was never sent.
fn has_new(tcb: &Tcb) -> bool {
    tcb.unsent() > 0 || is_fin_unsent(tcb)
}

fn is_fin_unsent(tcb: &Tcb) -> bool {
    tcb.state.fin_outstanding() && tcb.snd_nxt.le(tcb.data_end())
}

/// The next new segment that the peer's window and the rules against small ones let go.
fn plan_new(tcb: &Tcb) -> Option<Plan> {
    let all = tcb.unsent();
    let fin_unsent = is_fin_unsent(tcb);
    if (all == 0 && !fin_unsent) || tcb.sent.is_full() {
        return None;
    }
    let unsent = if tcb.eor.is_some() { eor::unsent(tcb, all) } else { all };
    let mss = payload_limit(tcb);
    let usable = u32::try_from(tcb.window_end() - tcb.snd_nxt).unwrap_or(0);
    let len = unsent.min(mss).min(usable);
    let fin = fin_unsent && len == all;
    if len == 0 && !fin {
        return None;
    }
    let go = len == mss
        || fin
        || (len > 0 && (tcb.push || tcb.recovery.tlp.due))
        || if len == all {
            // The rest of the data: Nagle (RFC 9293 3.7.4, SHLD-7, MUST-17).
            !is_corked(tcb) && (tcb.options.nodelay || !small_in_flight(tcb))
        } else if len == unsent {
            // `MSG_EOR` ends a segment here; nothing can join it (Linux `tcp_write_xmit`: Nagle is for the last).
            true
        } else {
            // RFC 9293 3.8.6.2.1 (MUST-38): cut by the window, only half of the largest one seen is worth a segment.
            len >= tcb.max_snd_wnd / 2
        };
    go.then_some(Plan { seq: tcb.snd_nxt, len, fin, small: len < mss, again: None })
}

/// Whether the application holds a partial segment back (`TCP_CORK`, `MSG_MORE`).
fn is_corked(tcb: &Tcb) -> bool {
    tcb.options.cork || tcb.more
}

/// Minshall's variant of Nagle's rule, as Linux has it: only another small segment in flight
/// holds a small one back.
fn small_in_flight(tcb: &Tcb) -> bool {
    tcb.snd_sml.gt(tcb.snd_una) && tcb.snd_sml.le(tcb.snd_nxt)
}

fn send(tcb: &mut Tcb, env: &mut Env, now: Instant, sink: &mut Sink<'_>, plan: Plan) -> bool {
    let offset = u32::try_from(plan.seq - tcb.snd_una).unwrap_or(0) as usize;
    let last = offset + plan.len as usize == tcb.tx.len();
    let mut flags = Flags::ACK;
    if plan.fin {
        flags |= Flags::FIN;
    }
    let end = plan.seq + plan.len;
    let pushed = (last && !tcb.unpushed) || eor::is_end(tcb, end) || skb::is_pushed(tcb, end);
    if pushed && plan.len > 0 {
        // RFC 9293 3.9.1.2 (MUST-61, SHLD-27): PSH on the last segment of what the application
        // wrote.
        flags |= Flags::PSH;
    }
    let (marks, ecn) = tcb.ecn.stamp(plan.len, plan.again.is_some());
    let mut header = header(tcb, env, now, plan.seq, flags | marks);
    header.ecn = ecn;
    let whole =
        plan.again.is_none() || header.options.sack[0].is_none() || plan.len <= payload_limit(tcb);
    if !whole {
        // A repetition keeps its size; the blocks leave with the next acknowledgment.
        header.options.sack = Blocks::default();
    }
    if !sink.put(env, &header, tcb.tx.range(offset, plan.len as usize)) {
        return false;
    }
    tcb.ecn.on_sent(header.flags);
    let end = plan.seq + plan.len + u32::from(plan.fin);
    if plan.again.is_none() && tcb.sent.is_empty() {
        tcb.congestion.on_transmit_start(now, tcb.last_sent);
    }
    tcb.account.sent(now, plan.len, plan.again.is_some());
    if tcb.recovery.in_reduction() {
        tcb.recovery.prr.on_sent();
    }
    match plan.again {
        Some(index) => repeated(tcb, env, now, index),
        None => sent_new(tcb, env, now, plan, end),
    }
    if tcb.recovery.tlp.due {
        tcb.recovery.tlp.on_sent(tcb.snd_nxt, plan.again.is_some());
    }
    if last {
        timer::stop(tcb, Timer::Cork);
    }
    if plan.len > 0 && is_answer(tcb, env, now) {
        // Answers carry acknowledgments: from here on they may wait for one (Linux: pingpong).
        tcb.quick_acks = 0;
        tcb.answers = true;
    }
    if whole {
        acknowledged(tcb);
    }
    tcb.last_sent = now;
    true
}

/// Whether data that leaves now answers data that has arrived: no later than its acknowledgment may
/// be (Linux `tcp_event_data_sent`).
fn is_answer(tcb: &Tcb, env: &Env, now: Instant) -> bool {
    tcb.bytes_in > 0 && now.micros_since(tcb.account.last_data_recv) < env.config.delayed_ack_us
}

/// A new segment has left.
fn sent_new(tcb: &mut Tcb, env: &mut Env, now: Instant, plan: Plan, end: Seq) {
    tcb.bytes_out += u64::from(plan.len);
    tcb.sent.push(plan.seq, end, now);
    if plan.small {
        tcb.snd_sml = end;
        tcb.push = false;
    }
    tcb.snd_nxt = end;
    let probing = tcb.recovery.pending == Pending::LossProbe;
    if tcb.persist || probing || !tcb.timers.is_running(Timer::Retransmit) {
        // RFC 6298 (5.1).
        recovery::rearm_rto(tcb, env, now);
    }
}

/// Segment `index` has left again.
fn repeated(tcb: &mut Tcb, env: &mut Env, now: Instant, index: usize) {
    env.stats.retransmits += 1;
    tcb.retransmits += 1;
    tcb.sent.mark_repeated(index, now);
    tcb.recovery.undo.on_repeated(now);
    if index == 0 && tcb.recovery.state == CaState::Recovery {
        // Linux, `tcp_xmit_retransmit_queue`: the first one gets its whole time again.
        recovery::rearm_rto(tcb, env, now);
    }
}

/// Whether the peer's window, and nothing else, holds data back.
fn is_rwnd_limited(tcb: &Tcb) -> bool {
    let room = tcb.snd_wnd.saturating_sub(tcb.in_flight());
    tcb.unsent() > 0 && !tcb.is_cwnd_limited() && room < tcb.mss
}

/// Nothing may leave now, but data waits: sees to it that something happens later.
fn wait_for_room(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let unsent = tcb.unsent();
    if unsent == 0 || tcb.in_flight() > 0 {
        return;
    }
    if is_corked(tcb) && tcb.snd_wnd >= unsent {
        timer::start_if_idle(tcb, env, Timer::Cork, now + env.config.cork_us);
    } else {
        timer::start_persist(tcb, env, now);
    }
}
