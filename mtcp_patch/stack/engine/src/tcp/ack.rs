//! What an acknowledgment does: RFC 9293 3.10.7.4, fifth step.
//!
//! Called by `input` once per acceptable segment. Order: validity, then SND.UNA and the send
//! buffer, SND.WND, the list of sent segments, round-trip time, recovery, congestion window, and
//! the timer.

use super::congestion::Ack;
use super::recovery::{self, CaState};
use super::reno;
use super::sack_sender;
use super::sent::mark;
use super::state::{Cause, State};
use super::tcb::{list, Owner, Tcb};
use super::timer::{self, Timer};
use super::{account, eor, plain_ack, skb, timestamps, tlp, window};
use crate::limits::DUPLICATE_THRESHOLD;
use crate::shard::Env;
use crate::stats::Refusal;
use crate::time::Instant;
use crate::wire::{Flags, Segment, Seq};

/// What an acknowledgment has told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// SND.UNA has moved.
    pub(crate) una_advanced: bool,
    /// RFC 5681 2, "duplicate acknowledgment".
    pub(crate) is_duplicate: bool,
    /// Segments that have newly arrived at the peer.
    pub(crate) delivered: u32,
    /// SACK blocks marked something.
    pub(crate) sacked: bool,
    /// Something arrived twice (RFC 2883).
    pub(crate) dsack: bool,
    /// The network has marked what we sent (RFC 3168).
    pub(crate) echo: bool,
    /// And that was the tail loss probe.
    pub(crate) dsack_of_probe: bool,
    /// Something was acknowledged that was sent once only, before the state was entered.
    pub(crate) original: bool,
    /// A segment that was sent more than once was acknowledged.
    retrans_acked: bool,
    /// The lowest number that arrived after higher ones, having been sent once.
    reordered: Option<Seq>,
    /// Round trip of the latest segment that was acknowledged selectively, in microseconds.
    pub(crate) sack_rtt_us: Option<u64>,
    /// The first segment out is one that the peer said it holds.
    pub(crate) reneging: bool,
    /// A repetition was lost as well.
    pub(crate) lost_retrans: bool,
    /// The retransmission timer starts anew.
    pub(crate) rearm: bool,
}

impl News {
    /// `seq` arrived late.
    pub(crate) fn note_reordered(&mut self, seq: Seq) {
        self.reordered = Some(self.reordered.map_or(seq, |lowest| lowest.min(seq)));
    }
}

/// How things stood before the acknowledgment.
#[derive(Clone, Copy)]
struct Prior {
    una: Seq,
    packets_out: u32,
    in_flight: u32,
    lost: u32,
    highest_sack: Option<Seq>,
}

/// RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, or a challenge is the answer.
pub(crate) fn is_valid(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) -> bool {
    let oldest = tcb.snd_una - tcb.max_snd_wnd.min(1 << 30);
    let unsent = seg.ack.gt(tcb.snd_nxt);
    if unsent || seg.ack.lt(oldest) {
        env.stats.refuse(Refusal::BadAck);
        if !unsent || env.config.challenge_unsent_ack {
            env.challenge(tcb, now);
        }
        return false;
    }
    true
}

/// Takes the acknowledgment and the window of `seg`.
#[inline]
pub(crate) fn process(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    if !plain_ack::process(tcb, env, now, seg) {
        process_any(tcb, env, now, seg);
    }
}

/// The same, whatever it says.
pub(crate) fn process_any(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    let old_window = tcb.snd_wnd;
    if tcb.more {
        // Linux `tcp_data_snd_check`: `MSG_MORE` binds its own call to push, not the one after.
        tcb.more = false;
        env.enqueue(tcb, list::DATA);
    }
    let prior = Prior {
        una: tcb.snd_una,
        packets_out: tcb.sent.packets_out(),
        in_flight: tcb.sent.in_flight(),
        lost: tcb.sent.lost,
        highest_sack: tcb.sent.highest_sack(),
    };
    let echo = tcb.ecn.is_echo(seg) && seg.ack.ge(tcb.snd_una);
    let mut news = News { una_advanced: seg.ack.gt(tcb.snd_una), echo, ..News::default() };
    let mut fin_acked = false;
    if news.una_advanced {
        fin_acked = advance_una(tcb, env, seg.ack);
    }
    // What was overtaken says nothing of the window.
    let late = tcb.timestamps.is_old(now, &seg.options);
    let changed = !late && window::update_send(tcb, seg);
    // RFC 5681 2, "duplicate acknowledgment", conditions (a) to (e).
    news.is_duplicate = seg.ack == prior.una
        && prior.packets_out > 0
        && seg.payload.is_empty()
        && !seg.flags.intersects(Flags::SYN | Flags::FIN)
        && !changed;
    // A duplicate may be reported when nothing is out any more (RFC 2883).
    if prior.packets_out > 0 || seg.options.sack[0].is_some() {
        on_outstanding(tcb, env, now, seg, prior, &mut news);
    }
    if news.una_advanced {
        after_progress(tcb, env, now, fin_acked);
        if tcb.state == State::Closed || tcb.state == State::TimeWait {
            return;
        }
    }
    let probed = (tcb.persist || tcb.snd_wnd == 0) && seg.ack.ge(tcb.snd_una);
    if probed && tcb.owner != Owner::Nobody {
        // The peer lives: RFC 9293 3.8.6.1 (MUST-37) lets probes go on as long as they are answered. But a
        // peer that never reads must not hold the memory of a connection that nobody waits for.
        tcb.retries = 0;
    }
    if tcb.tx.is_empty() {
        account::phase(tcb, now, false);
    }
    if tcb.snd_wnd > old_window {
        if tcb.persist && tcb.snd_wnd > 0 {
            tcb.persist = false;
            tcb.stalled_since = None;
            timer::stop(tcb, Timer::Retransmit);
        }
        env.enqueue(tcb, list::DATA);
    }
}

/// SEG.ACK acknowledges something new. True: our FIN.
fn advance_una(tcb: &mut Tcb, env: &mut Env, ack: Seq) -> bool {
    let acked = u32::try_from(ack - tcb.snd_una).unwrap_or(0);
    let data = (tcb.tx.len() as u32).min(acked);
    tcb.tx.consume(&mut env.memory, data as usize, false);
    tcb.snd_una = ack;
    eor::acknowledged(tcb);
    tcb.account.bytes_acked += u64::from(acked);
    tcb.stalled_since = None;
    tcb.retries = 0;
    tcb.rtt.reset_backoff();
    acked > data
}

/// An acknowledgment while segments are out.
fn on_outstanding(
    tcb: &mut Tcb,
    env: &mut Env,
    now: Instant,
    seg: &Segment<'_>,
    prior: Prior,
    news: &mut News,
) {
    tcb.recovery.new_first = false;
    if tcb.sack_ok {
        sack_sender::take_blocks(tcb, now, seg, prior.una, news);
    }
    let rtt_us = take_off(tcb, env, now, seg, prior, news);
    if tcb.sack_ok {
        let srtt_us = tcb.rtt.srtt_us();
        tcb.recovery.rack.update_window(now, srtt_us);
    }
    tlp::on_ack(tcb, now, seg.ack, news);
    let plain = !(news.is_duplicate || news.sacked || news.dsack || news.echo);
    let dubious = !plain || tcb.recovery.state != CaState::Open;
    if dubious {
        recovery::on_ack(tcb, env, now, &seg.options, prior.una, news);
        env.enqueue(tcb, list::DATA);
    }
    tcb.recovery.delivered = tcb.recovery.delivered.wrapping_add(news.delivered);
    move_window(tcb, now, prior, news, rtt_us);
    if news.rearm {
        let rto = tcb.rtt.rto_us(env.config.rto_max_us);
        tcb.persist = false;
        if !tlp::schedule(tcb, env, now, rto) {
            recovery::rearm_rto(tcb, env, now);
        }
    }
}

/// Takes what is acknowledged off the list. Returns the round-trip time that the acknowledgment
/// shows, in microseconds.
fn take_off(
    tcb: &mut Tcb,
    env: &Env,
    now: Instant,
    seg: &Segment<'_>,
    prior: Prior,
    news: &mut News,
) -> Option<u64> {
    let sack = tcb.sack_ok;
    let highest = tcb.sent.highest_sack();
    // What this very acknowledgment covers cumulatively did not arrive later than what its blocks say.
    let overtaken = |seq: Seq| prior.highest_sack.is_some_and(|highest| seq.lt(highest));
    let mut acked = 0u32;
    let mut first_sent = None;
    while let Some(segment) = tcb.sent.pop_acked(tcb.snd_una, sack) {
        acked += 1;
        let held = segment.has(mark::SACKED);
        if segment.has(mark::EVER_RETRANS) {
            news.retrans_acked = true;
        } else if !held {
            first_sent = first_sent.or(Some(segment.sent_at));
            if sack && overtaken(segment.seq) {
                news.note_reordered(segment.seq);
            }
            news.original |= segment.end.le(tcb.recovery.high_seq);
        }
        if sack && !held {
            news.delivered += 1;
            tcb.recovery.rack.advance(&segment, now, &tcb.rtt);
        }
    }
    news.rearm = acked > 0;
    if sack {
        if let (Some(low), Some(highest)) = (news.reordered, highest) {
            recovery::note_reordering(tcb, low, highest);
        }
        let first_held = tcb.sent.front().is_some_and(|first| first.has(mark::SACKED));
        news.reneging = news.una_advanced && first_held;
    } else {
        reno::remove_sacks(tcb, acked, news);
        // Which copy was acknowledged is not known.
        news.original &= !news.retrans_acked;
    }
    measure(tcb, env, now, seg, prior, (first_sent, *news))
}

/// Takes the round-trip time that `seg` shows. Our own clock is exact to a microsecond, but says
/// nothing of what was sent again (Karn); timestamps tell which copy of a segment it answers
/// (RFC 7323 4.1), but to a tick.
fn measure(
    tcb: &mut Tcb,
    env: &Env,
    now: Instant,
    seg: &Segment<'_>,
    prior: Prior,
    (first_sent, news): (Option<Instant>, News),
) -> Option<u64> {
    let (min_us, max_us) = (env.config.rto_min_us, env.config.rto_max_us);
    let by_clock = first_sent.filter(|_| !news.retrans_acked).map(|at| now.micros_since(at));
    let sample = match by_clock.or(news.sack_rtt_us) {
        Some(sample) => sample,
        None if news.una_advanced => {
            let sample = tcb.timestamps.sample_us(now, &seg.options)?;
            if !timestamps::is_news(sample, tcb.rtt.srtt_us()) {
                return None;
            }
            sample
        }
        None => return None,
    };
    // RFC 7323 4.2: ExpectedSamples = ceiling(FlightSize / (SMSS * 2)).
    tcb.rtt.sample_one_of(prior.packets_out.div_ceil(2), sample, min_us, max_us);
    Some(sample)
}

/// The congestion window: down in recovery, up otherwise.
fn move_window(tcb: &mut Tcb, now: Instant, prior: Prior, news: &News, rtt_us: Option<u64>) {
    if news.delivered == 0 {
        return;
    }
    if tcb.recovery.in_reduction() {
        let safe = news.una_advanced && tcb.sent.lost == prior.lost;
        let (ssthresh, in_flight) = (tcb.congestion.ssthresh(), tcb.sent.in_flight());
        let window = tcb.recovery.prr.window(ssthresh, in_flight, news.delivered, safe);
        tcb.congestion.set_cwnd(window);
        return;
    }
    // Where the network reorders, selective progress counts as well (Linux:
    // `tcp_may_raise_cwnd`).
    if !news.rearm && tcb.recovery.reordering <= DUPLICATE_THRESHOLD {
        return;
    }
    grow_window(tcb, now, news.delivered, prior.in_flight, rtt_us);
}

/// Segments were acknowledged outside of recovery: the congestion window may grow.
#[inline]
pub(crate) fn grow_window(
    tcb: &mut Tcb,
    now: Instant,
    acked: u32,
    in_flight_before: u32,
    rtt_us: Option<u64>,
) {
    let ack = Ack {
        acked,
        in_flight_before,
        rtt_us,
        srtt_us: tcb.rtt.srtt_us(),
        min_rtt_us: tcb.rtt.min_us().unwrap_or(0),
        now,
        snd_una: tcb.snd_una,
        snd_nxt: tcb.snd_nxt,
        limited: tcb.congestion.is_limited(),
    };
    tcb.congestion.on_ack(&ack);
}

/// SND.UNA has moved: whoever waited for that goes on.
fn after_progress(tcb: &mut Tcb, env: &mut Env, now: Instant, fin_acked: bool) {
    if tcb.sent.is_empty() {
        recovery::rearm_rto(tcb, env, now);
    }
    if tcb.tx.is_empty() {
        timer::watch_idle_buffers(tcb, env, now);
    }
    if !tcb.tx.is_empty() || tcb.state.fin_outstanding() {
        env.enqueue(tcb, list::DATA);
    }
    if fin_acked {
        our_fin_acked(tcb, env, now);
    } else if tcb.tx.is_empty() || !env.config.send_buffer_by_packets {
        wake_writer(tcb, env);
    }
}

/// Tells the writer when a third of the send buffer has become free, or when it was refused before.
pub(crate) fn wake_writer(tcb: &mut Tcb, env: &mut Env) {
    if !tcb.no_space.get() {
        return;
    }
    skb::expand(tcb, &env.config);
    if tcb.is_writable(&env.config) {
        tcb.no_space.set(false);
        tcb.notify(env);
    }
}

fn our_fin_acked(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if !tcb.state.fin_outstanding() {
        return;
    }
    if tcb.state == State::LastAck {
        tcb.finish(env);
        return;
    }
    tcb.change(Cause::FinAcked);
    if tcb.state == State::TimeWait {
        timer::enter_time_wait(tcb, env, now);
        tcb.notify(env);
    } else {
        timer::linger_if_orphaned(tcb, env, now);
    }
}
