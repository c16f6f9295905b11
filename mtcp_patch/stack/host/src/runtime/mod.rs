//! The runtime: one process's shard, its devices and its virtual descriptors, behind the calls
//! that a socket API needs. The binding is the caller; no Python is known here.
//!
//! Theory of operation (DESIGN section 4). [`Inner`] is the whole state; whoever holds its lock
//! may *drive* it, that is, take one [`turn`](Inner::turn). Application threads drive whenever
//! they wait, the TCP thread when they do not. The lock is held for one bounded batch at most, and
//! never while sleeping, while waiting for Python's GIL or while running Python code: a thread
//! that holds the GIL may therefore wait for the lock, and never the other way round.
//!
//! A reader who follows a packet comes through [`drive`](self), then the engine, then back here to
//! `state::flush_events`, `watcher` and `wait`.

mod by_conn;
mod congestion;
mod control;
mod desc;
mod devices;
mod drive;
mod endpoint;
mod handing_over;
mod linger;
mod listener;
mod options;
mod peers;
mod port;
mod process;
mod settings;
mod shared;
mod signals;
mod spin;
mod state;
mod status;
mod stream;
mod tcp_thread;
mod vfd;
mod virtual_host;
mod wait;
mod watch;
mod watcher;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

use crate::errno::Errno;
use crate::layout::Layout;
use crate::runtime_fd::RuntimeFd;
use crate::sync::gate::Gate;
use crate::sync::published::Published;
use crate::{sys, sysctl};
use spin::Spin;
use state::Inner;

pub use linger::Lingering;
pub use listener::Accepted;
pub use options::table::{SocketOption, Support, TABLE as SOCKET_OPTIONS};
pub use settings::Settings;
pub use spin::Contending;
pub use stream::{Connect, Patience, NEIGHBOUR_WAIT};
pub use vfd::{is_virtual, Vfd, VFD_BASE};
pub use virtual_host::VirtualLink;
pub use wait::PollFd;

/// The epoll data under which a watcher's own eventfd stands in its real epoll. No descriptor has
/// this number.
pub const WATCHER_TOKEN: u64 = u64::MAX;

/// An interest set of the runtime; see [`Runtime::watcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatcherId {
    index: usize,
    /// A closed set's id never finds the next one at its place.
    serial: u32,
}

/// What ended a [`Runtime::watcher_wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WaitOutcome {
    /// Events added to `out`.
    pub events: usize,
    /// The watcher's epoll has events to collect.
    pub kernel: bool,
}

/// What application threads, the TCP thread and the control thread share.
struct Shared {
    inner: Gate<Inner>,
    /// Wakes the TCP thread.
    kick: Arc<RuntimeFd>,
    /// The thread that ends the process, once it has begun to.
    ending: OnceLock<ThreadId>,
    /// Held, before `inner` and not after it, by the thread that opens the devices.
    opening: Mutex<()>,
}

impl Shared {
    fn new(settings: &Settings) -> Result<Arc<Self>, Errno> {
        let kick = Arc::new(sys::eventfd()?);
        let inner = Gate::new(Inner::new(settings, Arc::clone(&kick))?);
        let ending = OnceLock::new();
        Ok(Arc::new(Self { inner, kick, ending, opening: Mutex::new(()) }))
    }

    /// The state, for a thread that holds the caller's own lock. See [`Gate::lock`].
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// See [`Gate::try_lock_detached`].
    fn try_lock_detached(&self) -> Option<MutexGuard<'_, Inner>> {
        self.inner.try_lock_detached()
    }

    /// The state, for a thread that a fork does not wait for. See [`Gate::lock_detached`].
    #[inline]
    fn lock_detached(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock_detached()
    }
}

/// A process's user-level stack behind socket-like calls. See the module's text.
pub struct Runtime {
    shared: Arc<Shared>,
    spin: Spin,
    settings: Settings,
    control: Option<control::Control>,
}

/// The process's runtime: none until first used; another one in a forked child.
static GLOBAL: Published<Runtime> = Published::new();
/// See [`Runtime::generation`].
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// What the runtime to come is built with, and the guard of its construction.
static PENDING: Mutex<Pending> = Mutex::new(Pending { settings: None, inherited: Vec::new() });

struct Pending {
    settings: Option<Settings>,
    /// In a forked child, what it has from its parent.
    inherited: Vec<process::Inherited>,
}

impl Runtime {
    /// Sets what the runtime is built with. Without effect on one that was built already.
    pub fn configure(settings: Settings) {
        PENDING.lock().unwrap_or_else(PoisonError::into_inner).settings = Some(settings);
    }

    /// A runtime with its threads, apart from the process's own one.
    ///
    /// # Errors
    /// Those of eventfd(2), getrandom(2) and thread creation.
    pub fn new(settings: Settings) -> Result<Self, Errno> {
        let mut settings = settings;
        sysctl::read_keepalive(&mut settings.engine);
        let shared = Shared::new(&settings)?;
        Self::start_tcp_thread(&shared, settings.layout)?;
        let control = control::start(&shared, settings.control_dir.clone());
        // On the TCP thread's core a thread that polls would only keep it from running.
        let spin = Spin::new(settings.layout != Layout::Merged);
        Ok(Self { shared, spin, settings, control })
    }

    /// Whether the process's runtime was built.
    pub fn is_started() -> bool {
        GLOBAL.get().is_some()
    }

    /// The process's runtime, built at the first call.
    ///
    /// # Errors
    /// Those of [`Runtime::new`].
    #[inline]
    pub fn try_global() -> Result<&'static Self, Errno> {
        GLOBAL.get().map_or_else(Self::build_global, Ok)
    }

    /// The process's runtime, for calls on descriptors, which exist only once it was built.
    ///
    /// # Aborts
    /// When it must be built and the process is out of descriptors or threads. `socket()` and the
    /// wait objects are the ways in, and use [`Runtime::try_global`].
    #[inline]
    pub fn global() -> &'static Self {
        match Self::try_global() {
            Ok(runtime) => runtime,
            Err(e) => {
                eprintln!("mtcp_patch: the stack cannot start: {e}");
                std::process::abort()
            }
        }
    }

    #[cold]
    fn build_global() -> Result<&'static Self, Errno> {
        GLOBAL.get_or_build(&PENDING, |pending| {
            let new = Self::new(pending.settings.clone().unwrap_or_default())?;
            for process::Inherited { vfd, inheritable, desc, port } in pending.inherited.drain(..) {
                let mut inner = new.lock();
                inner.adopt(vfd, desc, port);
                if let Some(flag) = inner.vfds.inheritable(vfd) {
                    *flag = inheritable;
                }
            }
            Ok(new)
        })
    }

    /// In a forked child: the process has no runtime any more, and the next one takes over what is
    /// inherited.
    fn forget_global(settings: Settings, inherited: Vec<process::Inherited>) {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = Pending { settings: Some(settings), inherited };
        GLOBAL.clear();
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    /// Which of the process's runtimes is the present one: forks between the first process and
    /// this one. A [`WatcherId`] is of one generation only.
    #[inline]
    pub fn generation() -> u32 {
        GENERATION.load(Ordering::Relaxed)
    }

    /// Makes a runtime the process's one. The former one is leaked: in a forked child its threads
    /// do not exist and its lock may never be released.
    fn install(runtime: Self) -> &'static Self {
        GLOBAL.set(runtime)
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock()
    }

    /// See [`Gate::lock_detached`].
    #[inline]
    fn lock_detached(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock_detached()
    }

    /// Wakes the TCP thread.
    fn kick(&self) {
        sys::eventfd_signal(&self.shared.kick);
    }

    /// To be called after work was queued without driving: makes sure that somebody will drive
    /// within the TCP thread's bound.
    #[inline]
    fn ensure_driver(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.wake_tcp_thread();
    }
}
