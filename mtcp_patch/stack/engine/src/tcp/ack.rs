//! What an acknowledgment does: RFC 9293 3.10.7.4, fifth step.
//!
//! Called by `input` once per acceptable segment. Order: validity, then SND.UNA and the send
//! buffer, then round-trip time, recovery and congestion window, then the timer, then SND.WND.

use super::state::{Cause, State};
use super::tcb::{list, Owner, Tcb};
use super::timer::{self, Timer};
use super::{account, recovery, timestamps, window};
use crate::shard::Env;
use crate::stats::Refusal;
use crate::time::Instant;
use crate::wire::{Flags, Segment};

/// RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, or a challenge is the answer.
pub(crate) fn is_valid(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) -> bool {
    let oldest = tcb.snd_una - tcb.max_snd_wnd.min(1 << 30);
    if seg.ack.gt(tcb.snd_max) || seg.ack.lt(oldest) {
        env.stats.refuse(Refusal::BadAck);
        env.challenge(tcb, now);
        return false;
    }
    true
}

/// Takes the acknowledgment and the window of `seg`.
pub(crate) fn process(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    let old_window = tcb.snd_wnd;
    if seg.ack.gt(tcb.snd_una) {
        new_ack(tcb, env, now, seg);
        if tcb.state == State::Closed || tcb.state == State::TimeWait {
            return;
        }
        window::update_send(tcb, seg);
    } else {
        let changed = window::update_send(tcb, seg);
        // RFC 5681 2, "duplicate acknowledgment", conditions (a) to (e).
        let duplicate = seg.ack == tcb.snd_una
            && tcb.in_flight() > 0
            && seg.payload.is_empty()
            && !seg.flags.intersects(Flags::SYN | Flags::FIN)
            && !changed;
        if duplicate {
            recovery::on_duplicate_ack(tcb, env, now);
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

/// SEG.ACK acknowledges something new.
fn new_ack(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) {
    let flight = tcb.in_flight();
    let acked = u32::try_from(seg.ack - tcb.snd_una).unwrap_or(0);
    let data = (tcb.tx.len() as u32).min(acked);
    let fin_acked = acked > data;
    tcb.tx.consume(&mut env.memory, data as usize, false);
    tcb.snd_una = seg.ack;
    tcb.account.bytes_acked += u64::from(acked);
    tcb.stalled_since = None;
    tcb.snd_nxt = tcb.snd_nxt.max(seg.ack);
    let rtt_us = measure(tcb, env, now, seg, flight);
    tcb.retries = 0;
    tcb.rtt.reset_backoff();
    recovery::on_new_ack(tcb, now, acked, flight, rtt_us);
    restart_timer(tcb, env, now);
    if tcb.tx.is_empty() {
        timer::watch_idle_buffers(tcb, env, now);
    }
    if !tcb.tx.is_empty() || tcb.state.fin_outstanding() {
        env.enqueue(tcb, list::DATA);
    }
    if fin_acked {
        our_fin_acked(tcb, env, now);
    } else {
        wake_writer(tcb, env);
    }
}

/// Takes the round-trip time that `seg` shows. Our own clock is exact to a microsecond, but times
/// one segment a round trip and none that was sent again (Karn); timestamps tell with every
/// acknowledgment, and which copy of a segment it answers (RFC 7323 4.1), but to a tick. Returns
/// the sample, in microseconds, when it is exact.
fn measure(tcb: &mut Tcb, env: &Env, now: Instant, seg: &Segment<'_>, flight: u32) -> Option<u64> {
    let (min_us, max_us) = (env.config.rto_min_us, env.config.rto_max_us);
    match tcb.timed {
        Some((end, since)) if seg.ack.ge(end) => {
            tcb.timed = None;
            let sample = now.micros_since(since);
            tcb.rtt.sample(sample, min_us, max_us);
            Some(sample)
        }
        _ => {
            let sample = tcb.timestamps.sample_us(now, &seg.options)?;
            if timestamps::is_news(sample, tcb.rtt.srtt_us()) {
                // RFC 7323 4.2: ExpectedSamples = ceiling(FlightSize / (SMSS * 2)).
                let expected = flight.div_ceil(tcb.mss.saturating_mul(2).max(1));
                tcb.rtt.sample_one_of(expected, sample, min_us, max_us);
            }
            None
        }
    }
}

/// RFC 6298 (5.2) and (5.3).
fn restart_timer(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    tcb.persist = false;
    if tcb.in_flight() == 0 {
        timer::stop(tcb, Timer::Retransmit);
    } else {
        let rto = tcb.rtt.rto_us(env.config.rto_max_us);
        timer::start(tcb, env, Timer::Retransmit, now + rto);
    }
}

/// Tells the writer when a third of the send buffer has become free, or when it was refused before.
pub(crate) fn wake_writer(tcb: &mut Tcb, env: &mut Env) {
    if tcb.no_space.get() && tcb.is_writable(&env.config) {
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
