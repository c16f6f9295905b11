//! Polling before sleeping: a wake-up costs 3–22 µs, a look at the rings a tenth of one. The time
//! spent adapts to whether it pays, so that an idle program does not burn the processor.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest time to poll before sleeping. Microseconds.
const MAX_US: u32 = 50;
/// Below this it is not worth starting, except now and then to find out. Microseconds.
const MIN_US: u32 = 4;
/// Every how many calls a spinner that gave up tries again.
const RETRY: u32 = 64;

/// Threads that have woken and wait for the lock of the caller's own language, Python's GIL. While
/// there are any, nobody polls before sleeping: whoever holds that lock and finds nothing to do
/// must let them run, or a few busy connections starve the others.
static CONTENDERS: AtomicUsize = AtomicUsize::new(0);

/// Counts one contender while it lives.
#[derive(Debug)]
pub struct Contending(());

impl Contending {
    /// Begins to count.
    #[inline]
    pub fn begin() -> Self {
        // A hint to the others' heuristic; it orders no other memory.
        CONTENDERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

/// In a forked child: the parent's threads, which were counted, do not exist here.
pub(super) fn forget_contenders() {
    CONTENDERS.store(0, Ordering::Relaxed);
}

impl Drop for Contending {
    #[inline]
    fn drop(&mut self) {
        CONTENDERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The current bound, doubled by success and halved by failure.
pub(super) struct Spin {
    allowed: bool,
    budget_us: AtomicU32,
    skipped: AtomicU32,
}

impl Spin {
    /// One that looks once only where polling is not `allowed`.
    pub const fn new(allowed: bool) -> Self {
        Self { allowed, budget_us: AtomicU32::new(MAX_US), skipped: AtomicU32::new(0) }
    }

    /// Calls `look` at least once, then until it finds something or the time is up.
    pub fn run(&self, mut look: impl FnMut() -> usize) -> usize {
        let found = look();
        if found > 0 || !self.allowed || CONTENDERS.load(Ordering::Relaxed) > 0 {
            return found;
        }
        // The counters steer only this heuristic, so no ordering with other memory is needed.
        let mut budget = self.budget_us.load(Ordering::Relaxed);
        if budget < MIN_US {
            if self.skipped.fetch_add(1, Ordering::Relaxed) % RETRY != RETRY - 1 {
                return 0;
            }
            budget = MIN_US;
        }
        let end = Instant::now() + Duration::from_micros(u64::from(budget));
        while Instant::now() < end {
            std::hint::spin_loop();
            let found = look();
            if found > 0 {
                self.budget_us.store((budget * 2).min(MAX_US), Ordering::Relaxed);
                return found;
            }
            if CONTENDERS.load(Ordering::Relaxed) > 0 {
                return 0;
            }
        }
        self.budget_us.store(budget / 2, Ordering::Relaxed);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_least_once_and_gives_up_spinning_when_it_never_pays() {
        let spin = Spin::new(true);
        let mut looks = 0u32;
        for _ in 0..8 {
            spin.run(|| {
                looks += 1;
                0
            });
        }
        assert!(looks >= 8);
        assert!(spin.budget_us.load(Ordering::Relaxed) < MIN_US);
        let mut more = 0u32;
        spin.run(|| {
            more += 1;
            0
        });
        assert_eq!(more, 1);
    }

    #[test]
    fn looks_once_only_where_polling_is_not_allowed() {
        let spin = Spin::new(false);
        let mut looks = 0u32;
        spin.run(|| {
            looks += 1;
            0
        });
        assert_eq!(looks, 1);
    }

    #[test]
    fn success_restores_the_budget() {
        let spin = Spin::new(true);
        spin.budget_us.store(8, Ordering::Relaxed);
        let mut calls = 0;
        let found = spin.run(|| {
            calls += 1;
            usize::from(calls == 2)
        });
        assert_eq!(found, 1);
        assert_eq!(spin.budget_us.load(Ordering::Relaxed), 16);
    }
}
