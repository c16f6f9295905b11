//! How often a wait object asks the kernel while virtual descriptors keep the program busy.
//!
//! Owned by each `epoll` and `Watcher`. What never happens here: a system call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The longest that kernel descriptors wait while virtual ones are ready all the time.
const KERNEL_EVERY: Duration = Duration::from_micros(50);

/// The kernel is due every [`KERNEL_EVERY`], and in every turn while its answers have something:
/// a quiet self-pipe costs a busy program no system call a turn, and a busy kernel descriptor is
/// served in every turn. The order of these words among threads matters to nobody.
pub struct Pace {
    /// When the kernel was last asked, in ns since the first question of the process.
    asked_ns: AtomicU64,
    /// Its last answer had events.
    busy: AtomicBool,
}

/// Nanoseconds since the first call in this process.
fn now_ns() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

impl Pace {
    /// Due at once.
    pub const fn new() -> Self {
        Self { asked_ns: AtomicU64::new(0), busy: AtomicBool::new(true) }
    }

    /// Whether the kernel is to be asked now; if so, it counts as asked.
    pub fn is_due(&self) -> bool {
        let now = now_ns();
        let since = now.saturating_sub(self.asked_ns.load(Relaxed));
        let due = self.busy.load(Relaxed) || since >= KERNEL_EVERY.as_nanos() as u64;
        if due {
            self.asked_ns.store(now, Relaxed);
        }
        due
    }

    /// Whether the kernel's answer had events, or may have the next time.
    pub fn answered(&self, busy: bool) {
        self.busy.store(busy, Relaxed);
    }
}
