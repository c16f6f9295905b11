//! The TCP thread: the guarantee that ACKs, retransmissions, keepalives and closes leave while
//! the application computes (mTCP section 3.2 gives TCP a thread of its own for this reason).
//!
//! While an application thread drives, this one looks once a millisecond whether it still does; less
//! often while it drives all the time, because each look costs a timer and two changes of context.
//! When it does not, this one sleeps on the devices and drives. When an application thread sleeps
//! on the devices, or nothing is open, this one sleeps too, until it is kicked: idle costs no CPU.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use super::state::{Inner, Sleeper, TcpThread};
use super::{Runtime, Shared};
use crate::layout::{self, Layout};
use crate::stack_thread;
use crate::sys::{self, pollfd};

/// The bound within which the TCP thread takes over.
const TICK: Duration = Duration::from_millis(1);

/// The same while the application drives all the time. With `SLACK` it ends later than the next tick of
/// a kernel with 250 of them a second, so that no timer is set for it: on a virtual machine to set
/// one is to leave it, which costs more than a request.
const DRIVEN_TICK: Duration = Duration::from_millis(4);
const SLACK: Duration = Duration::from_millis(1);

/// Turns of the application between two looks from which on that is so.
const DRIVEN_TURNS: u64 = 4;

/// Quiet ticks before it goes to sleep for good, so that a moderately busy program does not pay
/// for waking it at every request.
const TICKS_BEFORE_DORMANT: u32 = 20;

impl Runtime {
    /// Starts the thread; called once, when the first socket needs it.
    pub(super) fn start_tcp_thread(shared: &Arc<Shared>, layout: Layout) -> std::io::Result<()> {
        let shared = Arc::clone(shared);
        let cores = layout.cores_beside_caller();
        stack_thread::spawn("mtcp-tcp", move || {
            // A core that was taken away meanwhile leaves the choice to the scheduler.
            let _ = cores.map(|cores| layout::run_on(&cores));
            run(&shared);
        })
    }
}

/// What to sleep on next.
enum Sleep {
    /// Not at all, only a moment without the lock.
    No,
    Tick,
    Kick,
    Devices(Option<Duration>),
    Timer(Duration),
    End,
}

fn run(shared: &Shared) {
    sys::set_timer_slack(SLACK);
    let mut seen_turns = 0;
    let mut quiet_ticks = 0;
    let mut fds: Vec<pollfd> = Vec::new();
    let app_turns = Arc::clone(&shared.lock_detached().app_turns);
    // It ticks, and nobody has kicked it since.
    let mut ticking = false;
    // While nobody sleeps on the devices, nobody else hears of links that come and go.
    let mut links: Option<RawFd> = None;
    let mut look_at_links = false;
    loop {
        fds.clear();
        fds.push(sys::readable(shared.kick.as_raw_fd()));
        let turns = app_turns.load(Relaxed);
        let moved = turns != seen_turns;
        let driven = turns.wrapping_sub(seen_turns);
        seen_turns = turns;
        let sleep = if ticking && moved {
            // Whoever drives holds the lock most of the time, and to wait for it would cost both a
            // change of context. If it is free, this may have been the last turn for long: what waits
            // leaves now.
            quiet_ticks = 0;
            if let Some(mut inner) = shared.try_lock_detached() {
                if inner.has_output() {
                    inner.turn();
                }
            }
            Sleep::Tick
        } else {
            let mut inner = shared.lock_detached();
            if std::mem::take(&mut look_at_links) {
                inner.service_peers();
            }
            quiet_ticks = if moved { 0 } else { quiet_ticks + 1 };
            let sleep = decide(&mut inner, moved, quiet_ticks);
            if matches!(sleep, Sleep::Devices(_)) {
                fds.extend(inner.devices.fds().map(sys::readable));
            }
            links = inner.devices.peers.fd().filter(|_| inner.sleeper.is_none());
            sleep
        };
        if matches!(sleep, Sleep::Tick) {
            fds.extend(links.map(sys::readable));
        }
        let timeout = match sleep {
            Sleep::End => return,
            Sleep::No => Some(Duration::ZERO),
            Sleep::Tick => Some(tick(driven)),
            Sleep::Kick => None,
            Sleep::Timer(t) => Some(t),
            Sleep::Devices(timeout) => timeout,
        };
        // All signals are blocked here, so the only other outcome is a programming error that the
        // next round would meet again; a tick's pause keeps it from spinning.
        if sys::ppoll(&mut fds, timeout).is_err() {
            std::thread::sleep(TICK);
        }
        ticking = matches!(sleep, Sleep::Tick);
        if fds.iter().skip(1).any(|f| f.revents != 0) {
            look_at_links = true;
            ticking = false;
        }
        if fds.first().is_some_and(|f| f.revents != 0) {
            sys::eventfd_drain(&shared.kick);
            quiet_ticks = 0;
            ticking = false;
        }
    }
}

/// When to look again, after the application has driven so many turns since the last look.
fn tick(turns: u64) -> Duration {
    if turns >= DRIVEN_TURNS {
        DRIVEN_TICK
    } else {
        TICK
    }
}

fn decide(inner: &mut Inner, moved: bool, quiet_ticks: u32) -> Sleep {
    if inner.stopping {
        return Sleep::End;
    }
    inner.tcp_until = None;
    if inner.sleeper.is_none() {
        inner.peers_after_sleep();
    }
    if !inner.layout.application_drives() {
        return drive_alone(inner);
    }
    if let Some(sleeper) = inner.sleeper {
        return beside_sleeper(inner, sleeper, !moved && quiet_ticks >= TICKS_BEFORE_DORMANT);
    }
    if moved {
        inner.tcp_thread = TcpThread::Ticking;
        return Sleep::Tick;
    }
    if inner.turn() {
        inner.tcp_thread = TcpThread::Ticking;
        return Sleep::Tick;
    }
    sleep_on_devices(inner)
}

/// The layouts `merged` and `split`: no application thread drives.
fn drive_alone(inner: &mut Inner) -> Sleep {
    if inner.turn() {
        inner.tcp_thread = TcpThread::Ticking;
        return Sleep::No;
    }
    sleep_on_devices(inner)
}

/// Nothing is left to do now.
fn sleep_on_devices(inner: &mut Inner) -> Sleep {
    let next = inner.shard.next_timeout();
    let mut due = next.map(|t| inner.until(t));
    if inner.has_output() {
        due = Some(TICK);
    }
    if due.is_none() && !inner.anything_open() {
        inner.tcp_thread = TcpThread::Dormant;
        return Sleep::Kick;
    }
    if inner.peers_before_sleep() {
        inner.tcp_thread = TcpThread::Ticking;
        return Sleep::No;
    }
    inner.tcp_thread = TcpThread::Driving;
    inner.tcp_until = next;
    Sleep::Devices(due)
}

/// An application thread sleeps on the devices: see to what it cannot know of, and rest.
fn beside_sleeper(inner: &mut Inner, sleeper: Sleeper, quiet: bool) -> Sleep {
    let mut due = inner.shard.next_timeout();
    if inner.has_output() || due.is_some_and(|d| d <= inner.now()) {
        inner.turn();
        due = inner.shard.next_timeout();
    }
    let late = due.is_some_and(|d| sleeper.until.is_none_or(|u| d < u));
    if late && !sleeper.foreign {
        // It sleeps longer than the timers allow: let it look again.
        if let Some(w) = inner.watchers.get_mut(sleeper.watcher) {
            w.signal();
        }
    }
    if !quiet || inner.has_output() || (late && !sleeper.foreign) {
        inner.tcp_thread = TcpThread::Ticking;
        return Sleep::Tick;
    }
    inner.tcp_thread = TcpThread::Dormant;
    if sleeper.foreign {
        inner.tcp_until = due;
        return due.map_or(Sleep::Kick, |d| Sleep::Timer(inner.until(d)));
    }
    Sleep::Kick
}

impl Inner {
    /// Whether any device has something to send.
    pub fn has_output(&self) -> bool {
        self.shard.has_output(super::devices::MEMORY)
            || self.shard.has_output(super::virtual_host::VIRTUAL)
            || self.devices.xdp.iter().any(|s| self.shard.has_output(s.id))
            || self.devices.peers.has_output(&self.shard)
    }

    fn anything_open(&self) -> bool {
        !self.by_conn.is_empty() || !self.by_listener.is_empty() || !self.orphans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_that_has_stopped_is_looked_after_within_a_millisecond() {
        assert_eq!((tick(0), tick(1)), (TICK, TICK));
        assert_eq!(tick(1_000), DRIVEN_TICK);
        // However fast it drives, what it leaves behind waits no longer than this.
        assert!(DRIVEN_TICK + SLACK <= Duration::from_millis(5));
    }
}
