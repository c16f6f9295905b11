//! What epoll objects over one real epoll have in common: the watcher of the virtual descriptors.
//!
//! Two objects are over one when the second was made by `epoll.fromfd(first.fileno())`; in the kernel
//! they are then one interest set. Owned by `epoll`. What never happens here: waiting.

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{Runtime, WatcherId};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// See the module's text.
#[derive(Default)]
pub struct Shared {
    /// Made with the first virtual descriptor; a forked child makes its own.
    pub watcher: OwnWatcher,
    /// Kernel descriptors may be registered: those we added, less those removed. The kernel drops
    /// closed ones without telling, so this may be too high, never too low.
    pub kernel_fds: AtomicUsize,
    /// Threads in a bare `epoll_wait`, begun before there was a watcher. Changed with the GIL held.
    pub kernel_waits: AtomicUsize,
}

/// By the number of the real epoll, for those that are open.
static OPEN: Mutex<BTreeMap<RawFd, Weak<Shared>>> = Mutex::new(BTreeMap::new());

fn open() -> MutexGuard<'static, BTreeMap<RawFd, Weak<Shared>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For an epoll that was just made.
    pub fn of_new(epfd: RawFd) -> Arc<Self> {
        let shared = Arc::new(Self::default());
        // An entry that is there is of an epoll whose number was closed behind our back.
        open().insert(epfd, Arc::downgrade(&shared));
        shared
    }

    /// For a number that may be known already.
    pub fn of_known(epfd: RawFd) -> Arc<Self> {
        if let Some(shared) = open().get(&epfd).and_then(Weak::upgrade) {
            return shared;
        }
        // What is registered in it is unknown, so it counts as one kernel descriptor.
        let shared = Arc::new(Self { kernel_fds: AtomicUsize::new(1), ..Self::default() });
        open().insert(epfd, Arc::downgrade(&shared));
        shared
    }

    /// The real epoll goes: its virtual half goes with it, for every object over it.
    pub fn close(self: &Arc<Self>, epfd: RawFd) {
        let mut open = open();
        if open.get(&epfd).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(self))) {
            open.remove(&epfd);
        }
        drop(open);
        if let Some(w) = self.watcher.take() {
            Runtime::global().watcher_close(w);
        }
    }
}

/// The watcher of this process's runtime, if there is one yet.
#[derive(Default)]
pub struct OwnWatcher(Mutex<Option<(WatcherId, u32)>>);

impl OwnWatcher {
    fn slot(&self) -> MutexGuard<'_, Option<(WatcherId, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watcher, if this process has made one.
    pub fn get(&self) -> Option<WatcherId> {
        own(*self.slot())
    }

    /// The watcher, made now if there is none.
    pub fn get_or_make(
        &self,
        make: impl FnOnce() -> Result<WatcherId, Errno>,
    ) -> Result<WatcherId, Errno> {
        let mut slot = self.slot();
        if let Some(w) = own(*slot) {
            return Ok(w);
        }
        let w = make()?;
        *slot = Some((w, Runtime::generation()));
        Ok(w)
    }

    fn take(&self) -> Option<WatcherId> {
        own(self.slot().take())
    }
}

/// A watcher of the present runtime; one from before a fork is the parent's.
fn own(slot: Option<(WatcherId, u32)>) -> Option<WatcherId> {
    slot.filter(|&(_, generation)| generation == Runtime::generation()).map(|(w, _)| w)
}
