//! The timers of a connection and what they do when they expire.
//!
//! Each connection keeps its deadlines here and the earliest of them in the shard's wheel. A
//! deadline that moves later, or is stopped, leaves the wheel alone: the entry fires, finds nothing
//! due, and is put where it belongs. So the retransmission timer that every acknowledgment
//! restarts costs one store.

use super::input::ack_now;
use super::pmtu;
use super::recovery::{self, Pending};
use super::state::State;
use super::tcb::{list, Owner, Tcb};
use super::tlp;
use crate::limits::MIN_KEEPALIVE_US;
use crate::shard::Env;
use crate::time::Instant;

/// The timers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Timer {
    /// RFC 6298, or the persist timer while `Tcb::persist`.
    Retransmit,
    /// RFC 9293 3.8.6.3.
    DelayedAck,
    /// RFC 9293 3.8.4.
    Keepalive,
    /// 2 MSL, or the end of patience with an orphan in FIN-WAIT-2.
    Linger,
    /// A corked partial segment has waited long enough.
    Cork,
    /// Large buffers have been empty for a while.
    IdleBuffers,
}

const TIMERS: [Timer; 6] = [
    Timer::Retransmit,
    Timer::DelayedAck,
    Timer::Keepalive,
    Timer::Linger,
    Timer::Cork,
    Timer::IdleBuffers,
];

const NEVER: u64 = u64::MAX;

/// Deadlines in microseconds, and when the wheel will call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Timers {
    scheduled: u64,
    deadlines: [u64; TIMERS.len()],
}

impl Default for Timers {
    fn default() -> Self {
        Self { deadlines: [NEVER; TIMERS.len()], scheduled: NEVER }
    }
}

impl Timers {
    fn earliest(&self) -> u64 {
        self.deadlines.iter().copied().min().unwrap_or(NEVER)
    }

    fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.deadlines.get(timer as usize).is_some_and(|at| *at <= now.micros)
    }

    /// When `timer` expires, if it runs.
    pub(crate) fn deadline(&self, timer: Timer) -> Option<Instant> {
        let at = *self.deadlines.get(timer as usize)?;
        (at != NEVER).then_some(Instant::from_micros(at))
    }

    /// Whether `timer` runs.
    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.deadlines.get(timer as usize).is_some_and(|at| *at != NEVER)
    }
}

/// Starts or moves `timer`.
pub(crate) fn start(tcb: &mut Tcb, env: &mut Env, timer: Timer, at: Instant) {
    if let Some(deadline) = tcb.timers.deadlines.get_mut(timer as usize) {
        *deadline = at.micros;
    }
    if at.micros < tcb.timers.scheduled {
        tcb.timers.scheduled = at.micros;
        env.wheel.schedule(tcb.id.index, at);
    }
}

/// Starts `timer` unless it runs.
pub(crate) fn start_if_idle(tcb: &mut Tcb, env: &mut Env, timer: Timer, at: Instant) {
    if !tcb.timers.is_running(timer) {
        start(tcb, env, timer, at);
    }
}

/// Stops `timer`.
pub(crate) fn stop(tcb: &mut Tcb, timer: Timer) {
    if let Some(deadline) = tcb.timers.deadlines.get_mut(timer as usize) {
        *deadline = NEVER;
    }
}

/// Stops every timer and leaves the wheel.
pub(crate) fn stop_all(tcb: &mut Tcb, env: &mut Env) {
    tcb.timers = Timers::default();
    env.wheel.cancel(tcb.id.index);
}

/// The wheel called: runs what is due, then schedules the next.
pub(crate) fn expire(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    tcb.timers.scheduled = NEVER;
    for timer in TIMERS {
        if tcb.state == State::Closed && timer != Timer::IdleBuffers {
            continue;
        }
        if tcb.timers.is_due(timer, now) {
            stop(tcb, timer);
            fire(tcb, env, now, timer);
        }
    }
    let next = tcb.timers.earliest();
    if tcb.state != State::Closed && next < tcb.timers.scheduled {
        tcb.timers.scheduled = next;
        env.wheel.schedule(tcb.id.index, Instant::from_micros(next));
    }
}

fn fire(tcb: &mut Tcb, env: &mut Env, now: Instant, timer: Timer) {
    match timer {
        Timer::Retransmit if tcb.persist => persist(tcb, env, now),
        Timer::Retransmit => {
            match core::mem::replace(&mut tcb.recovery.pending, Pending::Retransmit) {
                Pending::Retransmit => retransmit(tcb, env, now),
                Pending::LossProbe => tlp::on_timer(tcb, env, now),
                Pending::Reorder => recovery::on_reorder_timer(tcb, env, now),
            }
        }
        Timer::DelayedAck => {
            tcb.answers = false;
            ack_now(tcb, env);
        }
        Timer::Keepalive => keepalive(tcb, env, now),
        Timer::Linger => tcb.finish(env),
        Timer::Cork => {
            tcb.push = true;
            tcb.more = false;
            tcb.unpushed = false;
            env.enqueue(tcb, list::DATA);
        }
        Timer::IdleBuffers => {
            if tcb.rx.is_empty() && tcb.ranges.is_empty() {
                tcb.rx.release(&mut env.memory);
                tcb.sack_receiver = None;
            }
            if tcb.tx.is_empty() {
                tcb.tx.release(&mut env.memory);
                if tcb.sent.is_empty() {
                    tcb.sent.release();
                }
            }
        }
    }
}

/// RFC 6298 (5.4) to (5.6); RFC 9293 3.8.3 (MUST-20, MUST-22, SHLD-11): after so many it ends.
fn retransmit(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let orphan = tcb.owner == Owner::Nobody;
    let limit = match tcb.state {
        State::SynSent => tcb.options.syn_retries.unwrap_or(env.config.syn_retries),
        State::SynReceived => env.config.syn_ack_retries,
        _ if orphan => env.config.orphan_retries,
        _ => env.config.data_retries,
    };
    // A SYN counts from the first one on, data from its first repetition (Linux: `retrans_stamp`).
    let since = if tcb.state == State::SynSent { tcb.last_sent } else { now };
    let connecting = tcb.state == State::SynSent && env.config.connect_timeout_us > 0;
    let most_us = if connecting { env.config.connect_timeout_us } else { u64::MAX };
    let patience = patience(tcb, now, since, limit, most_us);
    if patience == Some(0) {
        tcb.time_out(env);
        return;
    }
    env.stats.timeouts += 1;
    if tcb.state.is_synchronized() {
        pmtu::on_timeout(tcb, env, now);
        recovery::on_timeout(tcb, env, now);
        env.enqueue(tcb, list::DATA);
    } else {
        tcb.timed = None;
        if tcb.state == State::SynSent && tcb.retries >= env.config.ecn_syn_retries {
            tcb.ecn.on_lost_syn();
        }
        env.enqueue(tcb, list::CONTROL);
    }
    tcb.retries = tcb.retries.saturating_add(1);
    tcb.rtt.back_off();
    let rto = tcb.rtt.rto_us(env.config.rto_max_us);
    start(tcb, env, Timer::Retransmit, now + rto.min(patience.unwrap_or(u64::MAX)));
}

/// How much longer the peer may stay silent, in microseconds; `None`: until the next repetitions
/// have been tried. With `TCP_USER_TIMEOUT` time decides, else the number of repetitions; a SYN
/// is bound by both (Linux: `tcp_write_timeout`). RFC 9293 3.8.3 (MUST-21): R2 is the application's.
/// `most_us`: no longer than that in any case, `u64::MAX` for no such bound.
fn patience(tcb: &mut Tcb, now: Instant, since: Instant, retries: u8, most_us: u64) -> Option<u64> {
    let stalled = now.micros_since(*tcb.stalled_since.get_or_insert(since));
    let user_timeout_us = tcb.options.user_timeout_us;
    let counts = user_timeout_us == 0 || !tcb.state.is_synchronized();
    if counts && tcb.retries >= retries {
        return Some(0);
    }
    let bound_us = if user_timeout_us > 0 { user_timeout_us.min(most_us) } else { most_us };
    (bound_us < u64::MAX).then(|| bound_us.saturating_sub(stalled))
}

/// RFC 9293 3.8.6.1 (MUST-35, MUST-36, SHLD-30): probes of a closed window, at growing intervals,
/// for as long as the peer answers. Where the window is merely too small for a full segment, this is the override timeout
/// of the silly window rule (RFC 9293 3.8.6.2.1).
fn persist(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let limit = if tcb.owner == Owner::Nobody {
        env.config.orphan_retries
    } else {
        env.config.data_retries
    };
    let patience = patience(tcb, now, now, limit, u64::MAX);
    if patience == Some(0) {
        tcb.time_out(env);
        return;
    }
    if tcb.snd_wnd > 0 {
        tcb.push = true;
        env.enqueue(tcb, list::DATA);
    } else {
        tcb.probe_due = true;
        env.enqueue(tcb, list::ACK);
    }
    tcb.retries = tcb.retries.saturating_add(1);
    tcb.rtt.back_off();
    let interval = tcb.rtt.rto_us(env.config.rto_max_us);
    start(tcb, env, Timer::Retransmit, now + interval.min(patience.unwrap_or(u64::MAX)));
}

/// Data waits, nothing is in flight, and the window forbids sending: somebody must ask, after a
/// timeout (RFC 9293 3.8.6.1, SHLD-29). So no data is held back for ever (MUST-60).
pub(crate) fn start_persist(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if tcb.in_flight() == 0 && !tcb.timers.is_running(Timer::Retransmit) {
        tcb.persist = true;
        tcb.recovery.pending = Pending::Retransmit;
        let interval = tcb.rtt.rto_us(env.config.rto_max_us);
        start(tcb, env, Timer::Retransmit, now + interval);
    }
}

/// Starts probing of an idle connection when the application wants it; stops it otherwise
/// (RFC 9293 3.8.4, MUST-24).
pub(crate) fn start_keepalive(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let keepalive = tcb.options.keepalive;
    if keepalive.on && tcb.state.is_synchronized() && tcb.state != State::TimeWait {
        start(tcb, env, Timer::Keepalive, now + keepalive.idle_us.max(MIN_KEEPALIVE_US));
    } else {
        stop(tcb, Timer::Keepalive);
    }
}

/// RFC 9293 3.8.4 (MUST-26, MUST-29): in silence only, and not for one unanswered probe.
fn keepalive(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let options = tcb.options.keepalive;
    if !options.on || tcb.state == State::TimeWait {
        return;
    }
    let silent = now.micros_since(tcb.last_received);
    let idle_us = options.idle_us.max(MIN_KEEPALIVE_US);
    let interval_us = options.interval_us.max(MIN_KEEPALIVE_US);
    if tcb.in_flight() > 0 || !tcb.tx.is_empty() {
        // Retransmission or persist looks after the peer.
        start(tcb, env, Timer::Keepalive, now + idle_us);
    } else if silent < idle_us {
        start(tcb, env, Timer::Keepalive, tcb.last_received + idle_us);
    } else if gives_up(tcb, silent) {
        env.reset(tcb, now);
        tcb.time_out(env);
    } else {
        tcb.keepalive_probes += 1;
        tcb.probe_due = true;
        env.enqueue(tcb, list::ACK);
        start(tcb, env, Timer::Keepalive, now + interval_us);
    }
}

/// Whether the probes have been in vain for long enough. `TCP_USER_TIMEOUT` takes the place of the
/// number of probes (tcp(7)).
fn gives_up(tcb: &Tcb, silent_us: u64) -> bool {
    match tcb.options.user_timeout_us {
        0 => tcb.keepalive_probes >= tcb.options.keepalive.count,
        user_timeout_us => tcb.keepalive_probes > 0 && silent_us >= user_timeout_us,
    }
}

/// Starts or restarts 2 MSL (RFC 9293 3.6.1, MUST-13); nothing else matters in TIME-WAIT.
pub(crate) fn enter_time_wait(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    // Of a window that moves in steps nothing changes any more.
    tcb.window_steps |= env.config.time_wait_keeps_window;
    for timer in [Timer::Retransmit, Timer::Keepalive, Timer::Cork, Timer::DelayedAck] {
        stop(tcb, timer);
    }
    tcb.tx.release(&mut env.memory);
    tcb.sent.release();
    tcb.eor = None;
    let until = now + env.time_wait_us(tcb.device);
    start(tcb, env, Timer::Linger, until);
}

/// An application that is gone does not wait for ever for the peer's FIN.
pub(crate) fn linger_if_orphaned(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if tcb.state == State::FinWait2 && tcb.owner == Owner::Nobody {
        match tcb.options.fin_wait_2_us.unwrap_or(env.config.fin_wait_2_us) {
            0 => tcb.finish(env),
            us => start(tcb, env, Timer::Linger, now + us),
        }
    }
}

/// An empty ring that is too large for the pool goes back after a while without use.
pub(crate) fn watch_idle_buffers(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if tcb.rx.capacity() + tcb.tx.capacity() > 0 {
        start(tcb, env, Timer::IdleBuffers, now + env.config.buffer_idle_us);
    }
}

/// RFC 5681 4.1: after a silence of a whole timeout the window says nothing about the path.
pub(crate) fn restart_after_idle(tcb: &mut Tcb, env: &Env, now: Instant) {
    pmtu::retry(tcb, now);
    let rto = tcb.rtt.rto_us(env.config.rto_max_us);
    let idle = now.micros_since(tcb.last_sent);
    let waits = tcb.unsent() > 0;
    if env.config.slow_start_after_idle && waits && tcb.in_flight() == 0 && idle > rto {
        tcb.congestion.restart(idle, rto, env.config.initial_cwnd);
    }
}
