//! The runtime's own kernel descriptors: eventfds, epolls, AF_XDP sockets, the kernel sockets that
//! reserve ports. A program that makes itself a daemon closes every number there is, and opens its
//! files under the ones that became free: then our wake-ups would go into its files.
//!
//! So each is moved out of the way, above the numbers that programs count to, and entered in a
//! table, which `os.close` and its like are made to ask. What the program closes by system calls
//! of its own cannot be held up; it is found out by what the number stands for now.
//!
//! Two races are left, both with a thread of the program that closes numbers it does not know at
//! the very moment: before a new descriptor is entered, and after one is taken out to be closed.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use crate::sync::table::Entry;
use crate::sys;

/// Numbers from here up are not entered: nobody counts that far, and the table is this long.
const TABLE: usize = 1 << 16;
/// Where ours begin when the limit allows. Higher would cost every fork: the kernel copies the
/// table of descriptors up to the highest one.
const HIGHEST_BASE: RawFd = 4096;

/// By number: the [`identity`] of our descriptor, or none. No lock, so that a forked child can use it
/// whatever other threads did; 512 kB of which only the pages in use exist.
static OURS: [Entry; TABLE] = [const { Entry::new() }; TABLE];
/// The lowest number that was ever entered: below it nothing need be looked up.
static LOWEST: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// A descriptor of the runtime's, under a high number if there is one, for as long as it lives.
#[derive(Debug)]
pub struct RuntimeFd<T: AsRawFd = OwnedFd>(ManuallyDrop<T>);

impl<T: AsRawFd + From<OwnedFd> + Into<OwnedFd>> RuntimeFd<T> {
    /// Takes `fd` over. Without a number to spare above the base it keeps its own.
    pub fn new(fd: T) -> Self {
        let fd = match sys::dup_from(fd.as_raw_fd(), base()) {
            Ok(high) => T::from(high),
            Err(_) => fd,
        };
        enter(fd.as_raw_fd());
        Self(ManuallyDrop::new(fd))
    }
}

impl<T: AsRawFd> RuntimeFd<T> {
    /// The number alone, which stays entered. To be given back by [`close`].
    pub fn into_raw(self) -> RawFd {
        ManuallyDrop::new(self).as_raw_fd()
    }
}

impl<T: AsRawFd> Deref for RuntimeFd<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> Drop for RuntimeFd<T> {
    fn drop(&mut self) {
        if take_out(self.0.as_raw_fd()) {
            // SAFETY: nobody uses the value after its owner's drop.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// Closes what [`RuntimeFd::into_raw`] gave; -1 is none.
pub fn close(fd: RawFd) {
    if fd >= 0 && take_out(fd) {
        sys::close_raw(fd);
    }
}

/// Whether `fd` is a descriptor of the runtime's.
#[inline]
pub fn contains(fd: RawFd) -> bool {
    fd >= LOWEST.load(Relaxed) && entry(fd).is_some_and(|entry| entry.is_intact(|| identity(fd)))
}

/// Those of the runtime's in `low..high`, ascending.
pub fn within(low: RawFd, high: RawFd) -> Vec<RawFd> {
    let low = low.max(LOWEST.load(Relaxed)).max(0);
    (low..high.min(TABLE as RawFd)).filter(|&fd| contains(fd)).collect()
}

fn entry(fd: RawFd) -> Option<&'static Entry> {
    OURS.get(usize::try_from(fd).ok()?)
}

fn enter(fd: RawFd) {
    if let (Some(entry), Some(identity)) = (entry(fd), identity(fd)) {
        entry.enter(identity);
        LOWEST.fetch_min(fd, Relaxed);
    }
}

/// Forgets `fd`, ahead of its close so that a new one under the same number is not forgotten with
/// it. Whether it is still ours to close.
fn take_out(fd: RawFd) -> bool {
    entry(fd).is_none_or(|entry| entry.take_out(identity(fd)))
}

/// What a number stands for, never 0; `None` when it is closed. All eventfds and epolls have one
/// inode, so that one of ours and one of the program's are not told apart.
fn identity(fd: RawFd) -> Option<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `stat` is room for one, which fstat fills when it succeeds; all zeroes is valid.
    let stat = unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    // An entry has no room for the low bits.
    Some(stat.st_ino << 17 ^ stat.st_dev.rotate_left(33) | 1 << 16)
}

/// The first number for ours: high, and below the soft limit with room for a quarter of it. The
/// limit may be changed later: then they keep the numbers that the kernel gives.
fn base() -> RawFd {
    static BASE: AtomicI32 = AtomicI32::new(-1);
    match BASE.load(Relaxed) {
        -1 => {
            let limit = RawFd::try_from(sys::descriptor_limit()).unwrap_or(RawFd::MAX);
            let base = (limit - limit / 4).min(HIGHEST_BASE);
            BASE.store(base, Relaxed);
            base
        }
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file() -> File {
        File::open("/proc/self/status").unwrap()
    }

    #[test]
    fn ours_are_high_and_known_until_they_are_dropped() {
        let (fd, _write) = sys::pipe().unwrap();
        let number = fd.as_raw_fd();
        let known = identity(number);
        assert!(number >= base());
        assert!(contains(number));
        assert!(within(0, RawFd::MAX).contains(&number));
        assert!(within(number, number).is_empty());
        assert_eq!(within(number, number + 1), [number]);
        drop(fd);
        assert_ne!(identity(number), known);
    }

    #[test]
    fn a_number_that_was_taken_from_us_is_neither_guarded_nor_closed() {
        let theirs = file();
        let (read, _write) = sys::pipe().unwrap();
        let number = read.as_raw_fd();
        // SAFETY: as a program does it that knows nothing of us.
        assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), number) }, number);
        assert!(!contains(number));
        drop(read);
        assert_eq!(identity(number), identity(theirs.as_raw_fd()));
        sys::close_raw(number);
    }

    #[test]
    fn numbers_that_are_not_ours_are_not_known() {
        assert!(!contains(-1));
        assert!(!contains(RawFd::MAX));
        assert!(!contains(file().as_raw_fd()));
    }

    #[test]
    fn a_raw_number_stays_known_until_it_is_closed() {
        let number = sys::epoll_create().unwrap().into_raw();
        assert!(contains(number));
        close(number);
        close(-1);
    }
}
