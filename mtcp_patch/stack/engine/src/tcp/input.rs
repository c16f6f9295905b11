//! A segment arrives at a connection: RFC 9293 3.10.7, in its order.
//!
//! Called by the shard with a segment that `wire` has parsed and the flow table has matched. The
//! shard looks at the state afterwards and moves the connection to an accept queue, to TIME-WAIT's
//! compact form or out of its tables.

use super::congestion::Congestion;
use super::options::Agreed;
use super::state::{Cause, State};
use super::tcb::{list, Owner, Tcb};
use super::timer::{self, Timer};
use super::timestamps::{self, PAWS_WINDOW};
use super::{ack, duplicate_ack, skb, urgent, window};
use crate::event::Error;
use crate::shard::Env;
use crate::stats::Refusal;
use crate::time::Instant;
use crate::wire::{Flags, Segment, Seq};

/// Works `seg` into the connection.
pub(crate) fn segment_arrives(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    tcb.account.received(now, seg);
    match tcb.state {
        State::SynSent => in_syn_sent(tcb, env, now, seg),
        State::Closed => env.reply_reset(tcb.device, seg),
        _ => in_synchronized(tcb, env, now, seg),
    }
}

/// RFC 9293 3.10.7.3.
fn in_syn_sent(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    let acks = seg.flags.contains(Flags::ACK);
    let reset = seg.flags.contains(Flags::RST);
    if acks && (seg.ack.le(tcb.iss) || seg.ack.gt(tcb.snd_nxt)) {
        if !reset {
            env.reply_reset(tcb.device, seg);
        }
        return;
    }
    if reset {
        if acks {
            env.stats.resets_in += 1;
            tcb.fail(env, Error::ConnectionRefused);
        }
        return;
    }
    if !seg.flags.contains(Flags::SYN) {
        return;
    }
    take_syn(tcb, env, now, seg);
    if acks {
        tcb.snd_una = seg.ack;
        // Linux counts the SYN of an active open here, and not that of a passive one.
        tcb.account.bytes_acked = 1;
        established(tcb, env, now, seg);
        ack_now(tcb, env);
        // RFC 9293 3.10.7.3: other controls and text are processed from the sixth step on.
        let text = !seg.payload.is_empty() || seg.flags.contains(Flags::FIN);
        if text && tcb.state.can_receive() {
            // The peer has had the window of our SYN.
            window::advertise_in_syn(tcb, &env.config);
            after_ack(tcb, env, now, seg.seq + 1, seg, seg.flags.contains(Flags::FIN));
        }
    } else {
        // Simultaneous open (RFC 9293 figure 8, MUST-10): SEG.SYN is acknowledged together with ours.
        tcb.change(Cause::RcvSyn);
        tcb.retries = 0;
        env.enqueue(tcb, list::CONTROL);
    }
}

/// Notes the peer's initial sequence number, window and options.
pub(crate) fn take_syn(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    tcb.irs = seg.seq;
    tcb.rcv_nxt = seg.seq + 1;
    tcb.rcv_wup = tcb.rcv_nxt;
    tcb.rcv_adv = tcb.rcv_nxt;
    tcb.last_received = now;
    let mtu = env.mtu(tcb.device);
    let agreed = Agreed::from_syn(&seg.options, mtu, &tcb.local);
    tcb.timestamps.on_syn(now, &seg.options);
    tcb.ecn.on_syn(env.config.ecn, tcb.state == State::SynSent, seg);
    // RFC 2018 2: blocks go only to who said that they may.
    tcb.sack_ok &= seg.options.sack_permitted;
    tcb.mss = tcb.less_options(agreed.mss.min(u32::from(tcb.options.max_segment())));
    // RFC 7323 1.3: both SYNs must have it.
    tcb.wscale_ok &= agreed.wscale.is_some();
    tcb.snd_wscale = agreed.wscale.filter(|_| tcb.wscale_ok).unwrap_or(0);
    // RFC 7323 2.2: the window of a SYN is never scaled. RFC 9293 MUST-1: 32 bits, unsigned.
    tcb.snd_wnd = u32::from(seg.wnd);
    tcb.max_snd_wnd = tcb.snd_wnd;
    tcb.snd_wl1 = seg.seq;
    tcb.snd_wl2 = tcb.iss;
    if !tcb.wscale_ok {
        tcb.rcv_limit = tcb.rcv_limit.min(65_535);
    }
    if env.config.recv_buffer_whole_segments {
        window::round_to_segments(tcb);
    }
}

/// Our SYN is acknowledged: data may flow.
fn established(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    tcb.change(Cause::SynAcked);
    timer::stop(tcb, Timer::Retransmit);
    tcb.congestion = Congestion::new(tcb.options.congestion);
    tcb.congestion.set_cwnd(env.config.initial_cwnd);
    // RFC 5681 3.1: lost SYNs leave one segment. Linux: a single one may have been late only, since
    // the first timeout is a second.
    if tcb.retries > 1 {
        tcb.congestion.on_timeout(0);
    }
    skb::begin(tcb, &env.config);
    let timed = tcb.timed.map(|since| now.micros_since(since));
    match timed.or_else(|| tcb.timestamps.sample_us(now, &seg.options)) {
        Some(sample) => tcb.rtt.sample(sample, env.config.rto_min_us, env.config.rto_max_us),
        // RFC 6298 (5.7); Linux, too, where no timestamp tells which SYN was answered.
        None if tcb.retries > 0 => tcb.rtt.after_lost_syn(),
        None => {}
    }
    tcb.retries = 0;
    tcb.stalled_since = None;
    tcb.account.established(now);
    tcb.timed = None;
    tcb.snd_sml = tcb.snd_una;
    tcb.snd_wl2 = seg.ack;
    if tcb.close_wanted {
        tcb.close_wanted = false;
        tcb.change(Cause::Close);
        env.enqueue(tcb, list::DATA);
    }
    timer::start_keepalive(tcb, env, now);
    tcb.notify(env);
}

/// RFC 9293 3.10.7.4: every state but LISTEN, SYN-SENT and CLOSED.
fn in_synchronized(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    let (mut seq, mut flags) = (seg.seq, seg.flags);
    if !flags.intersects(Flags::ACK | Flags::RST | Flags::SYN) {
        // The fifth step drops it; before that it should have been answered when it was outside
        // the window. Linux answers nothing of the kind, and so gives a stranger no echo.
        return;
    }
    if tcb.state == State::SynReceived && flags.contains(Flags::SYN) && seq == tcb.irs {
        if !flags.contains(Flags::ACK) {
            // The peer has not seen our SYN-ACK.
            env.enqueue(tcb, list::CONTROL);
            return;
        }
        // Simultaneous open: this SYN we have, its ACK is news.
        seq += 1;
        flags = Flags(flags.0 & !Flags::SYN.0);
    }
    let end = seg.seq + seg.len();
    // RFC 7323 5.3 (R1): before the sequence number, and never a reset.
    if !flags.contains(Flags::RST) && is_too_old(tcb, env, now, seg) {
        env.stats.refuse(Refusal::OldTimestamp);
        answer_stray(tcb, env, now, seg);
        return;
    }
    // RFC 5961 3.2: a reset outside the window is nobody's, and its right edge is outside.
    if flags.contains(Flags::RST) && !window::is_inside(tcb, seq) {
        return;
    }
    // First: the sequence number.
    if !window::is_acceptable(tcb, seq, end) {
        if !flags.contains(Flags::RST) {
            env.stats.refuse(Refusal::OutsideWindow);
            answer_stray(tcb, env, now, seg);
        }
        return;
    }
    // Second: RST.
    if flags.contains(Flags::RST) {
        reset_arrives(tcb, env, now, seq);
        return;
    }
    // Fourth: SYN.
    if flags.contains(Flags::SYN) {
        syn_arrives(tcb, env, now, seq);
        return;
    }
    // Fifth: ACK.
    if !flags.contains(Flags::ACK) {
        return;
    }
    if !is_ack_welcome(tcb, env, now, seg, seq) {
        return;
    }
    if tcb.ack_due && seg.len() > 0 && duplicate_ack::is_owed(tcb, seq) {
        duplicate_ack::flush(tcb, env, now);
    }
    tcb.timestamps.take(now, &seg.options, seq, tcb.rcv_wup);
    let silence_us = now.micros_since(tcb.last_received);
    if !seg.payload.is_empty() && silence_us > tcb.rtt.rto_us(env.config.rto_max_us) {
        // The sender has begun again with a small window (Linux: `tcp_event_data_recv`).
        tcb.quick_acks = tcb.quick_acks.max(if tcb.answers { 0 } else { env.config.quick_acks });
    }
    tcb.last_received = now;
    tcb.keepalive_probes = 0;
    tcb.soft_error = None;
    ack::process(tcb, env, now, seg);
    after_ack(tcb, env, now, seq, seg, flags.contains(Flags::FIN));
}

/// RFC 7323 5.3 (R1), but for what the network has put into another order: segments of the last
/// tick, and duplicate acknowledgments, whose blocks are news.
fn is_too_old(tcb: &Tcb, env: &Env, now: Instant, seg: &Segment<'_>) -> bool {
    let lag = tcb.timestamps.lag(now, &seg.options);
    lag > PAWS_WINDOW && !is_overtaken(tcb, env, seg, lag)
}

/// An acknowledgment that says nothing of SND.UNA and of the window, and left no more than a timeout
/// before one that has arrived (Linux: `tcp_disordered_ack`).
fn is_overtaken(tcb: &Tcb, env: &Env, seg: &Segment<'_>, lag: u32) -> bool {
    seg.len() == 0
        && !seg.flags.contains(Flags::SYN)
        && seg.seq == tcb.rcv_nxt
        && seg.ack == tcb.snd_una
        && lag <= timestamps::ticks(tcb.rtt.rto_us(env.config.rto_max_us))
}

/// RFC 9293 3.10.7.4, fourth step, with RFC 5961 4.2: a challenge, whatever the sequence number.
fn syn_arrives(tcb: &mut Tcb, env: &mut Env, now: Instant, seq: Seq) {
    if env.config.challenge_syn || !window::is_inside(tcb, seq) {
        env.challenge(tcb, now);
    } else {
        env.reset(tcb, now);
        tcb.fail(env, Error::ConnectionReset);
    }
}

/// RFC 9293 3.10.7.4, fifth step: whether SEG.ACK says something that may be. In SYN-RECEIVED it
/// completes the handshake.
fn is_ack_welcome(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>, seq: Seq) -> bool {
    if tcb.state != State::SynReceived {
        return ack::is_valid(tcb, env, now, seg);
    }
    if seg.ack.le(tcb.snd_una) || seg.ack.gt(tcb.snd_nxt) {
        env.reply_reset(tcb.device, seg);
        return false;
    }
    tcb.snd_una = seg.ack;
    established(tcb, env, now, seg);
    tcb.snd_wnd = u32::from(seg.wnd) << tcb.snd_wscale;
    tcb.max_snd_wnd = tcb.max_snd_wnd.max(tcb.snd_wnd);
    tcb.snd_wl1 = seq;
    true
}

/// RFC 9293 3.10.7.4, sixth to eighth step.
fn after_ack(tcb: &mut Tcb, env: &mut Env, now: Instant, seq: Seq, seg: &Segment<'_>, fin: bool) {
    // Sixth: URG.
    urgent::arrives(tcb, env, seq, seg);
    // Seventh and eighth: text and FIN.
    if tcb.state == State::Closed || (seg.payload.is_empty() && !fin) {
        return;
    }
    if !seg.payload.is_empty() {
        note_flags(tcb, env, seg);
    }
    text_arrives(tcb, env, now, seq, seg);
}

/// What the header of a segment with payload says about the bytes.
fn note_flags(tcb: &mut Tcb, env: &mut Env, seg: &Segment<'_>) {
    tcb.pushed = seg.flags.contains(Flags::PSH);
    let is_new = (seg.seq + seg.payload.len() as u32).gt(tcb.rcv_nxt);
    if is_new && tcb.ecn.on_data(seg) {
        ack_now(tcb, env);
    }
}

/// RFC 9293 3.10.7.4, second step, with RFC 5961 3.2 (MAY-12): only the exact sequence number
/// resets. It may carry data (SHLD-2), and the application hears of it (MUST-12).
fn reset_arrives(tcb: &mut Tcb, env: &mut Env, now: Instant, seq: Seq) {
    if tcb.state == State::TimeWait {
        // RFC 1337 3 (F1).
        env.stats.refuse(Refusal::TimeWaitReset);
        return;
    }
    if seq != tcb.rcv_nxt && env.config.exact_reset {
        env.stats.refuse(Refusal::InexactReset);
        env.challenge(tcb, now);
        return;
    }
    env.stats.resets_in += 1;
    let error = reset_error(tcb.state, env.config.linux_errors);
    tcb.fail(env, error);
}

/// What the application hears when its connection is reset in `state`.
pub(crate) fn reset_error(state: State, as_linux: bool) -> Error {
    match state {
        State::SynSent | State::SynReceived => Error::ConnectionRefused,
        // As Linux has it: the peer had already said that it would send no more.
        State::CloseWait if as_linux => Error::BrokenPipe,
        _ => Error::ConnectionReset,
    }
}

/// Answers a segment outside the window. One that carries data was sent again because an
/// acknowledgment was lost and is answered at once; empty ones (keepalives, but also the other
/// half of a quarrel between two stacks) only now and then.
fn answer_stray(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    if tcb.state == State::SynReceived {
        env.enqueue(tcb, list::CONTROL);
        return;
    }
    // Linux `tcp_oow_rate_limited`: a FIN is no half of a quarrel either.
    if seg.flags.contains(Flags::SYN) {
        env.challenge(tcb, now);
    } else if seg.len() == 0 {
        if env.may_challenge(&mut tcb.last_stray_ack, now) {
            ack_now(tcb, env);
        }
    } else {
        duplicate_ack::flush(tcb, env, now);
        acknowledge_quickly(tcb, env);
        note_duplicate(tcb, env, seg.seq, (seg.seq + seg.len()).min(tcb.rcv_nxt));
        duplicate_ack::send(tcb, env, now);
    }
}

/// Something has arrived twice: the peer is repairing, perhaps because an acknowledgment came late,
/// and its window is small, so that one delayed would stop it (RFC 5681 4.2 lets us acknowledge more
/// often; Linux: `tcp_enter_quickack_mode`).
fn acknowledge_quickly(tcb: &mut Tcb, env: &Env) {
    tcb.quick_acks = tcb.quick_acks.max(env.config.quick_acks);
    tcb.answers = false;
}

/// RFC 2883 4: `from`..`to` has arrived before, which the next acknowledgment reports.
fn note_duplicate(tcb: &mut Tcb, env: &Env, from: Seq, to: Seq) {
    if tcb.sack_ok && env.config.dsack {
        tcb.sack_receiver.get_or_insert_default().on_duplicate(from, to);
    }
}

/// An acknowledgment leaves at the next transmission: after everything of this batch has been
/// processed, and once (RFC 9293 3.10.7.4, MUST-58, MUST-59).
pub(crate) fn ack_now(tcb: &mut Tcb, env: &mut Env) {
    tcb.ack_due = true;
    env.enqueue(tcb, list::ACK);
}

/// RFC 9293 3.10.7.4, seventh step: the bytes of the segment from `seq` on, and its FIN.
fn text_arrives(tcb: &mut Tcb, env: &mut Env, now: Instant, seq: Seq, seg: &Segment<'_>) {
    let (payload, fin) = (seg.payload, seg.flags.contains(Flags::FIN));
    let end = seq + payload.len() as u32 + u32::from(fin);
    if !tcb.state.can_receive() && seq.ge(tcb.rcv_nxt) {
        // What comes after a FIN is nobody's: RFC 9293 3.10.7.4 ignores it.
        return;
    }
    if end.le(tcb.rcv_nxt) || !tcb.state.can_receive() {
        // Nothing new. In TIME-WAIT this is the peer's FIN again: our last ACK was lost.
        if tcb.state == State::TimeWait && fin {
            timer::enter_time_wait(tcb, env, now);
        }
        acknowledge_quickly(tcb, env);
        note_duplicate(tcb, env, seq, end.min(tcb.rcv_nxt));
        duplicate_ack::send(tcb, env, now);
        return;
    }
    if seq.lt(tcb.rcv_nxt) {
        note_duplicate(tcb, env, seq, tcb.rcv_nxt);
        ack_now(tcb, env);
    }
    // Trim to the window.
    let old = u32::try_from(tcb.rcv_nxt - seq).unwrap_or(0);
    let offset = u32::try_from(seq - tcb.rcv_nxt).unwrap_or(0);
    let fresh = payload.get(old as usize..).unwrap_or(&[]);
    let room = window::receive_window(tcb).saturating_sub(offset) as usize;
    let kept = fresh.get(..room).unwrap_or(fresh);
    let truncated = kept.len() < fresh.len();
    if tcb.owner == Owner::Nobody && (seq + payload.len() as u32).gt(tcb.rcv_nxt) {
        // RFC 9293 3.6.1 (SHLD-3): data for an application that is gone is lost data, and must be
        // said so. The reset stands where the peer looks for it even if it has missed our FIN.
        env.reply_reset(tcb.device, seg);
        tcb.finish(env);
        return;
    }
    if fin && !truncated && tcb.rcv_fin.is_none() {
        tcb.rcv_fin = Some(seq + payload.len() as u32);
    }
    if !kept.is_empty() && !store(tcb, env, now, offset, kept, seq.lt(tcb.rcv_nxt)) {
        return;
    }
    if tcb.rcv_fin == Some(tcb.rcv_nxt) {
        peer_fin(tcb, env, now);
    } else if kept.is_empty() && fin && offset > 0 {
        // RFC 5681 4.2: a FIN that is early tells of a gap as data does.
        duplicate_ack::send(tcb, env, now);
    } else if offset == 0 && (truncated || fin) {
        ack_now(tcb, env);
    }
}

/// Puts `data` at `offset` from RCV.NXT; what is early is kept (RFC 9293 3.10.7.4, SHLD-31). False:
/// there was no memory for any of it. `reported`: a duplicate of this segment is noted already.
fn store(
    tcb: &mut Tcb,
    env: &mut Env,
    now: Instant,
    offset: u32,
    data: &[u8],
    reported: bool,
) -> bool {
    let mut data = data;
    if offset > 0 && !tcb.ranges.has_room(offset, offset + data.len() as u32) {
        env.stats.refuse(Refusal::ReassemblyLimit);
        return false;
    }
    let at = tcb.rx.len() + offset as usize;
    if !tcb.rx.write_at(&mut env.memory, at, data) {
        env.stats.refuse(Refusal::MemoryLimit);
        // A segment larger than what is guaranteed must still make some progress.
        data = data.get(..tcb.rx.granted().saturating_sub(at)).unwrap_or(data);
        if offset > 0 || data.is_empty() || !tcb.rx.write_at(&mut env.memory, at, data) {
            return false;
        }
        ack_now(tcb, env);
    }
    let len = data.len() as u32;
    // RFC 2883 4: of several duplicates in one segment the lowest is reported.
    if let Some((from, to)) = tcb.ranges.overlap(offset, offset + len).filter(|_| !reported) {
        note_duplicate(tcb, env, tcb.rcv_nxt + from, tcb.rcv_nxt + to);
    }
    tcb.rcv_mss = tcb.rcv_mss.max(len.min(u32::from(tcb.adv_mss)));
    if offset > 0 {
        // RFC 5681 4.2, RFC 9293 MAY-13: a duplicate acknowledgment at once.
        tcb.ranges.insert(offset, offset + len);
        tcb.account.rcv_ooopack = tcb.account.rcv_ooopack.wrapping_add(1);
        let (rcv_nxt, ranges) = (tcb.rcv_nxt, &tcb.ranges);
        let receiver = tcb.sack_receiver.get_or_insert_default();
        receiver.on_out_of_order(ranges, rcv_nxt, rcv_nxt + offset);
        duplicate_ack::send(tcb, env, now);
        return true;
    }
    let had_hole = !tcb.ranges.is_empty();
    let mut total = if had_hole { tcb.ranges.advance(len) } else { len };
    if let Some(fin) = tcb.rcv_fin {
        // Nothing comes after the FIN, whatever a peer puts there.
        total = total.min(u32::try_from(fin - tcb.rcv_nxt).unwrap_or(0));
    }
    tcb.rx.extend(total as usize);
    tcb.rcv_nxt += total;
    tcb.bytes_in += u64::from(total);
    tcb.notify(env);
    if had_hole {
        ack_now(tcb, env);
    } else {
        acknowledge_in_order(tcb, env, now);
    }
    true
}

/// RFC 9293 3.8.6.3 (SHLD-18, SHLD-19, MUST-40) and RFC 5681 4.2: at least every second full
/// segment at once, the rest within the delay.
fn acknowledge_in_order(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let unacked = u32::try_from(tcb.rcv_nxt - tcb.rcv_wup).unwrap_or(0);
    tcb.unacked_segments = tcb.unacked_segments.saturating_add(1);
    let most = env.config.delayed_ack_segments;
    let enough = if most > 0 {
        // 4.4BSD counts segments, and one that is larger than a full one for enough.
        tcb.unacked_segments >= most || unacked > u32::from(tcb.adv_mss)
    } else {
        unacked > tcb.rcv_mss
    };
    if enough || tcb.quick_acks > 0 {
        ack_now(tcb, env);
    } else if !tcb.ack_due {
        timer::start_if_idle(tcb, env, Timer::DelayedAck, now + env.config.delayed_ack_us);
    }
}

/// Whether an application that has just read should acknowledge: it has read to the end of what
/// the peer wrote and does not answer, so the peer may be holding data back until then (RFC 896;
/// Linux: `__tcp_cleanup_rbuf`).
pub(crate) fn is_ack_due_after_read(tcb: &Tcb) -> bool {
    // The heirs of 4.4BSD acknowledge a read by a window update alone.
    tcb.window_steps
        && tcb.pushed
        && !tcb.answers
        && tcb.rx.is_empty()
        && tcb.timers.is_running(Timer::DelayedAck)
}

/// RFC 9293 3.10.7.4, eighth step: everything before the peer's FIN has arrived.
fn peer_fin(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    tcb.rcv_nxt += 1;
    tcb.ranges.clear();
    let unacked = u32::try_from(tcb.rcv_nxt - tcb.rcv_wup).unwrap_or(0);
    // Linux: the delay is learnt from data (`icsk_ack.ato`); before any there is none.
    let waits = env.config.delayed_fin_ack && tcb.state == State::Established && tcb.bytes_in > 0;
    tcb.change(Cause::RcvFin);
    if waits && unacked <= tcb.rcv_mss {
        // RFC 9293 3.8.6.3 (SHLD-18): with the FIN of an application that closes in return, one segment.
        tcb.answers = true;
        if !tcb.ack_due {
            timer::start_if_idle(tcb, env, Timer::DelayedAck, now + env.config.delayed_ack_us);
        }
    } else {
        ack_now(tcb, env);
    }
    if tcb.state == State::TimeWait {
        timer::enter_time_wait(tcb, env, now);
    }
    tcb.notify(env);
}
