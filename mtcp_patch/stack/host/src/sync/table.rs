//! One entry of the table of the runtime's own descriptors: what a number stands for.
//!
//! The owner of a descriptor enters it and takes it out again. Anybody may ask meanwhile, and who finds
//! that the number stands for something else forgets the entry. Two kernel objects can look the same (all
//! eventfds have one inode), so each entering counts: who has looked at an earlier one cannot take the
//! next for it.

use super::{AtomicU64, Ordering::Relaxed};

/// The part of the word that counts; the rest is the identity, all zero for none.
const COUNT: u64 = 0xffff;

/// See the module's text. The orders of loads and stores among words are no matter: the kernel's table
/// of descriptors is what threads meet at.
pub(crate) struct Entry(AtomicU64);

impl Entry {
    /// Nothing is entered.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Nothing is entered.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The number now stands for `identity`. Called by its owner, who has just got it from the kernel.
    pub(crate) fn enter(&self, identity: u64) {
        let count = self.0.load(Relaxed).wrapping_add(1) & COUNT;
        self.0.store(identity & !COUNT | count, Relaxed);
    }

    /// Forgets what was entered. Whether that is what the number stands for now, in other words
    /// whether it is the owner's to close.
    pub(crate) fn take_out(&self, now: Option<u64>) -> bool {
        let known = self.0.fetch_and(COUNT, Relaxed) & !COUNT;
        known != 0 && now.is_some_and(|now| now & !COUNT == known)
    }

    /// Whether the number stands for what was entered, which `now` tells; if not, the entry goes,
    /// unless it is a later one by now.
    pub(crate) fn is_intact(&self, now: impl FnOnce() -> Option<u64>) -> bool {
        let known = self.0.load(Relaxed);
        if known & !COUNT == 0 {
            return false;
        }
        let intact = now().is_some_and(|now| now & !COUNT == known & !COUNT);
        if !intact {
            let _ = self.0.compare_exchange(known, known & COUNT, Relaxed, Relaxed);
        }
        intact
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    const EVENTFD: u64 = 1 << 20;
    const FILE: u64 = 1 << 21;

    /// The kernel's side of one number.
    type Kernel = Mutex<Option<u64>>;

    /// Another thread asks while the owner closes one eventfd and is given the number again for the next:
    /// that one stays entered.
    #[test]
    fn who_asks_late_does_not_forget_the_next_descriptor() {
        loom::model(|| {
            let shared = Arc::new((Entry::new(), Kernel::new(Some(EVENTFD))));
            shared.0.enter(EVENTFD);
            let asker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.0.is_intact(|| *shared.1.lock().unwrap()))
            };
            let (entry, kernel) = &*shared;
            let now = *kernel.lock().unwrap();
            assert!(entry.take_out(now));
            *kernel.lock().unwrap() = None;
            *kernel.lock().unwrap() = Some(EVENTFD);
            entry.enter(EVENTFD);
            asker.join().unwrap();
            assert!(entry.is_intact(|| *kernel.lock().unwrap()));
        });
    }

    /// The program has closed ours and opened a file: neither the owner nor who asks takes it for ours.
    #[test]
    fn a_number_that_was_taken_is_closed_by_nobody() {
        loom::model(|| {
            let shared = Arc::new((Entry::new(), Kernel::new(Some(FILE))));
            shared.0.enter(EVENTFD);
            let asker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.0.is_intact(|| *shared.1.lock().unwrap()))
            };
            let now = *shared.1.lock().unwrap();
            assert!(!shared.0.take_out(now));
            assert!(!asker.join().unwrap());
        });
    }
}
