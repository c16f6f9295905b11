//! A wake-up for signals, so that none is lost between the last look at Python's flags and the sleep.
//!
//! A signal handler that ran just before a system call does not end it. CPython's handler also
//! writes a byte to a descriptor that it was given (`signal.set_wakeup_fd`): we give it a pipe, and
//! every sleep of the thread that runs Python's handlers is on that pipe too. So no signal need be
//! held back, one that another thread takes counts as well, and nothing that a Python handler
//! starts inherits a mask.
//!
//! Who calls it: the binding opens and closes the pipe; `runtime::wait` sleeps through [`ppoll`].
//! The order before a sleep: [`forget`], look at the flags and run handlers, sleep. A signal before
//! the look is seen by it, a later one by the pipe.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::errno::Errno;
use crate::runtime_fd;
use crate::sys::{self, pollfd};

// All four change with Python's GIL held, by the thread that runs handlers or in a child that has
// no other; that thread is also the only one that acts on them, so their order is no matter.
static READ_END: AtomicI32 = AtomicI32::new(-1);
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// The thread that runs Python's handlers, by the address of its `HERE`.
static HANDLERS_RUN_ON: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: u8 = const { 0 };
}

fn this_thread() -> usize {
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}

/// Makes the pipe, for the calling thread, and gives the end to be written to.
///
/// # Errors
/// Those of pipe(2).
pub fn open() -> Result<RawFd, Errno> {
    if let Some(fd) = write_end() {
        return Ok(fd);
    }
    let (read, write) = sys::pipe()?;
    let fd = write.as_raw_fd();
    HANDLERS_RUN_ON.store(this_thread(), Relaxed);
    READ_END.store(read.into_raw(), Relaxed);
    WRITE_END.store(write.into_raw(), Relaxed);
    Ok(fd)
}

/// The end to be written to, while there is one.
pub fn write_end() -> Option<RawFd> {
    Some(WRITE_END.load(Relaxed)).filter(|&fd| fd >= 0)
}

/// Closes the pipe, or what the program has left of it. No handler may know it any more.
pub fn close() {
    for end in [&WRITE_END, &READ_END] {
        runtime_fd::close(end.swap(-1, Relaxed));
    }
    HANDLERS_RUN_ON.store(0, Relaxed);
}

/// The end to sleep on; -1, which polls skip, on a thread that runs no handlers.
#[inline]
fn read_end() -> RawFd {
    if HANDLERS_RUN_ON.load(Relaxed) == this_thread() {
        READ_END.load(Relaxed)
    } else {
        -1
    }
}

/// Takes back the wake-ups of signals that came so far. To be followed by a look at the flags.
/// False when the program has closed the pipe by system calls of its own: then there is none to
/// sleep on, and the numbers, one of which a handler knows, may stand for files of the program.
#[inline]
#[must_use]
pub fn forget() -> bool {
    if HANDLERS_RUN_ON.load(Relaxed) != this_thread() {
        return true;
    }
    let (read, write) = (READ_END.load(Relaxed), WRITE_END.load(Relaxed));
    let intact = runtime_fd::contains(read) && runtime_fd::contains(write);
    if intact {
        sys::drain(read);
    } else {
        READ_END.store(-1, Relaxed);
    }
    intact
}

/// [`sys::ppoll`] that a signal ends also when it came before the call.
///
/// # Errors
/// `EINTR` after a signal; the others of ppoll(2).
pub fn ppoll(fds: &mut Vec<pollfd>, timeout: Option<Duration>) -> Result<usize, Errno> {
    fds.push(sys::readable(read_end()));
    let slept = sys::ppoll(fds, timeout);
    match fds.pop().map_or(0, |own| own.revents) {
        0 => slept,
        libc::POLLNVAL => {
            // Closed behind our back, it would end every sleep; the next look makes another.
            READ_END.store(-1, Relaxed);
            slept.map(|n| n.saturating_sub(1))
        }
        _ => Err(Errno(libc::EINTR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: the pipe is the process's.
    #[test]
    fn a_wake_up_before_the_sleep_ends_it_on_its_own_thread_only() {
        let one = |fd: RawFd| sys::write(fd, b"\x02").unwrap();
        let fd = open().unwrap();
        assert_eq!(open(), Ok(fd));

        one(fd);
        let mut fds = Vec::new();
        assert_eq!(ppoll(&mut fds, Some(Duration::from_secs(60))), Err(Errno(libc::EINTR)));
        assert!(fds.is_empty());

        let other = std::thread::spawn(|| ppoll(&mut Vec::new(), Some(Duration::ZERO)));
        assert_eq!(other.join().unwrap(), Ok(0));

        // Forgotten, however many they were.
        for _ in 0..10_000 {
            one(fd);
        }
        assert!(forget());
        assert_eq!(ppoll(&mut fds, Some(Duration::ZERO)), Ok(0));

        // Taken from us by a program that knows nothing of us: not read from, not closed.
        let (theirs, write) = sys::pipe().unwrap();
        sys::write(write.as_raw_fd(), b"theirs").unwrap();
        let taken = READ_END.load(Relaxed);
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), taken) }, taken);
        assert!(!forget());
        assert_eq!(ppoll(&mut fds, Some(Duration::ZERO)), Ok(0));
        let mut left = [0; 16];
        // SAFETY: pointer and length describe `left`.
        assert_eq!(unsafe { libc::read(taken, left.as_mut_ptr().cast(), left.len()) }, 6);
        sys::close_raw(taken);

        close();
        assert_eq!(write_end(), None);
        assert_eq!(ppoll(&mut fds, Some(Duration::ZERO)), Ok(0));
    }
}
