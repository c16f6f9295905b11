//! The default action of SIGTERM and SIGHUP, as far as it is ours: the kernel closes the sockets
//! of a process that ends so, and nobody would close ours, take the sysctls back and tell the
//! peers. Where the program has left the default in place, the signal ends the process all the
//! same, by the same signal, after the goodbye. A program's own handler replaces this one, as it
//! replaces the default.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use super::Runtime;
use crate::errno::Errno;
use crate::runtime_fd::RuntimeFd;
use crate::stack_thread;
use crate::sys;

const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGHUP];

/// What the handler may touch: where to write, for which process, and which signal came.
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);
static OWNER: AtomicI32 = AtomicI32::new(0);
static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// Only async-signal-safe calls (signal-safety(7)) and atomics.
extern "C" fn on_signal(signal: libc::c_int) {
    // SAFETY: getpid, write and raise are async-signal-safe; `one` is 8 readable bytes.
    unsafe {
        if libc::getpid() != OWNER.load(Ordering::Relaxed) {
            // A forked child that has not come to `after_fork_child` yet.
            set_default(signal);
            libc::raise(signal);
            return;
        }
        CAUGHT.store(signal, Ordering::Relaxed);
        let one = 1u64.to_ne_bytes();
        libc::write(WAKE_FD.load(Ordering::Relaxed), one.as_ptr().cast(), one.len());
    }
}

fn set_default(signal: libc::c_int) {
    // SAFETY: SIG_DFL is a valid disposition of every signal of `SIGNALS`.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Whether nobody has chosen anything for a signal.
fn is_default(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only reads the present one, into `now`, which is plain data.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_DFL
    }
}

fn install(signal: libc::c_int) {
    // SAFETY: an all-zero sigaction with a handler of the one-argument form is valid.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigfillset(&mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Begins to say goodbye on the signals whose default action is in place. Called when the
/// process's runtime has something to give back; again in a forked child.
pub(super) fn start() -> Result<(), Errno> {
    let pid = std::process::id() as i32;
    if OWNER.load(Ordering::Relaxed) == pid {
        return Ok(());
    }
    let wake = sys::eventfd()?;
    WAKE_FD.store(wake.as_raw_fd(), Ordering::Relaxed);
    stack_thread::spawn("mtcp-signal", move || wait(&wake))?;
    OWNER.store(pid, Ordering::Relaxed);
    for signal in SIGNALS {
        if is_default(signal) {
            install(signal);
        }
    }
    Ok(())
}

fn wait(wake: &RuntimeFd) {
    let mut fds = [sys::readable(wake.as_raw_fd())];
    // All signals are blocked: nothing but the handler's write ends this.
    while sys::ppoll(&mut fds, None).is_err() {}
    if Runtime::is_started() {
        Runtime::global().shutdown_process();
    }
    let signal = CAUGHT.load(Ordering::Relaxed);
    set_default(signal);
    // SAFETY: an all-zero set is valid for sigemptyset; the signal is unblocked in this thread
    // only, which takes it, whatever the others hold back.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}
