//! A lock that threads stay out of while a fork is due.
//!
//! A child has one thread, the one that forked. Whatever another one held or was about to take at that
//! moment stays as it was for ever. Threads with the caller's own lock, Python's GIL, are no matter:
//! whoever forks holds it. The others come in by [`Gate::lock_detached`]:
//!
//! ```text
//!     detached: coming += 1; forking?  no:  lock; coming -= 1       forks: forking += 1
//!                                      yes: coming -= 1; wait              until coming == 0
//!                                                                          lock; unlock; fork
//! ```
//! Whoever forks looks at `coming` by an addition of nothing. Of two additions one is the first: either
//! that of the detached thread, and then it is seen and waited for, until it has the lock, which is then
//! waited for in its turn; or the look, and then the thread, coming after it, sees `forking`. So nobody is
//! inside, nor on his way in, when the process forks.

#[cfg(not(loom))]
use std::time::{Duration, Instant};

use std::sync::PoisonError;

use super::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// How long either side waits for the other at most, because what else runs before a fork may wait for
/// this very thread.
#[cfg(not(loom))]
const PATIENCE: Duration = Duration::from_millis(50);

/// See the module's text.
pub(crate) struct Gate<T> {
    inner: Mutex<T>,
    /// Threads that are about to fork.
    forking: AtomicUsize,
    /// Detached threads that are about to take the lock.
    coming: AtomicUsize,
}

impl<T> Gate<T> {
    pub(crate) fn new(inner: T) -> Self {
        let (forking, coming) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner: Mutex::new(inner), forking, coming }
    }

    /// The state, for a thread that holds the caller's own lock, or that no fork can meet. A panic
    /// elsewhere under the lock was reported there; the state is a TCP stack whose objects are each
    /// valid between statements, so others go on with it.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a thread that does not.
    #[inline]
    pub(crate) fn lock_detached(&self) -> MutexGuard<'_, T> {
        self.coming.fetch_add(1, Ordering::Acquire);
        if self.forking.load(Ordering::Relaxed) > 0 {
            self.let_forks_pass();
        }
        let inner = self.lock();
        // Release: with the lock taken.
        self.coming.fetch_sub(1, Ordering::Release);
        inner
    }

    /// The same for a thread that would rather not wait: `None` while somebody is in the state or about to
    /// fork.
    pub(crate) fn try_lock_detached(&self) -> Option<MutexGuard<'_, T>> {
        self.coming.fetch_add(1, Ordering::Acquire);
        let forking = self.forking.load(Ordering::Relaxed) > 0;
        let inner = if forking { None } else { self.inner.try_lock().ok() };
        // Release: with the lock taken, if it was.
        self.coming.fetch_sub(1, Ordering::Release);
        inner
    }

    #[cold]
    fn let_forks_pass(&self) {
        loop {
            self.coming.fetch_sub(1, Ordering::Release);
            let over = wait_for_none(&self.forking);
            self.coming.fetch_add(1, Ordering::Acquire);
            // Another fork may have become due.
            if !over || self.forking.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// A fork is due. From the return on until [`Gate::after_fork`] nobody is in the state who does
    /// not hold the caller's own lock.
    pub(crate) fn before_fork(&self) -> MutexGuard<'_, T> {
        self.forking.fetch_add(1, Ordering::Relaxed);
        wait_for_none(&self.coming);
        self.lock()
    }

    /// In the parent, also when the fork failed.
    pub(crate) fn after_fork(&self) {
        let less = |n: usize| n.checked_sub(1);
        // None to take back: the runtime was started in between.
        let _ = self.forking.fetch_update(Ordering::Release, Ordering::Relaxed, less);
    }

    /// In a child: the state, unless somebody who does not exist here was in it nevertheless.
    pub(crate) fn inherited(&self) -> Option<MutexGuard<'_, T>> {
        self.inner.try_lock().ok()
    }
}

/// How many are counted, in one order with who begins to count himself.
fn look(count: &AtomicUsize) -> usize {
    count.fetch_add(0, Ordering::AcqRel)
}

/// Waits until nobody is counted. False when that took too long.
#[cfg(not(loom))]
fn wait_for_none(count: &AtomicUsize) -> bool {
    let end = Instant::now() + PATIENCE;
    while look(count) > 0 {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

#[cfg(loom)]
fn wait_for_none(count: &AtomicUsize) -> bool {
    while look(count) > 0 {
        loom::thread::yield_now();
    }
    true
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// A state whose visitors can be counted from outside.
    struct State {
        gate: Gate<u32>,
        inside: AtomicUsize,
    }

    fn visit(state: &State) {
        be_inside(state, state.gate.lock_detached());
    }

    fn be_inside(state: &State, mut inner: MutexGuard<'_, u32>) {
        state.inside.fetch_add(1, Ordering::Relaxed);
        *inner += 1;
        state.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// `forks` forks while another thread visits the state once.
    fn model(forks: u32) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(move || {
            let gate = Gate::new(0);
            let state = Arc::new(State { gate, inside: AtomicUsize::new(0) });
            let visitor = Arc::clone(&state);
            let detached = thread::spawn(move || visit(&visitor));
            for _ in 0..forks {
                drop(state.gate.before_fork());
                // The child would find this.
                assert_eq!(state.inside.load(Ordering::Relaxed), 0);
                state.gate.after_fork();
            }
            detached.join().unwrap();
            assert_eq!(*state.gate.lock(), 1);
        });
    }

    #[test]
    fn nobody_is_in_the_state_when_a_process_forks() {
        model(1);
    }

    #[test]
    fn who_does_not_wait_is_not_in_the_state_either_when_a_process_forks() {
        loom::model(|| {
            let state = Arc::new(State { gate: Gate::new(0), inside: AtomicUsize::new(0) });
            let visitor = Arc::clone(&state);
            let detached = thread::spawn(move || {
                let inner = visitor.gate.try_lock_detached();
                inner.map(|inner| be_inside(&visitor, inner)).is_some()
            });
            drop(state.gate.before_fork());
            assert_eq!(state.inside.load(Ordering::Relaxed), 0);
            state.gate.after_fork();
            let came_in = detached.join().unwrap();
            assert_eq!(*state.gate.lock(), u32::from(came_in));
        });
    }

    #[test]
    fn two_forks_let_a_detached_thread_in_afterwards() {
        model(2);
    }
}
