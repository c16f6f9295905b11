//! The system calls for which no kept library has a safe form that we need, each behind a safe
//! function. All other `unsafe` of this crate lives in the device files.

use crate::errno::Errno;
use crate::runtime_fd::RuntimeFd;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

fn check(rc: libc::c_int) -> Result<libc::c_int, Errno> {
    if rc < 0 {
        Err(Errno::last())
    } else {
        Ok(rc)
    }
}

/// One entry of [`ppoll`], laid out as `struct pollfd`.
pub use libc::pollfd;

/// The entry that waits for `fd` to become readable.
#[inline]
pub const fn readable(fd: RawFd) -> pollfd {
    pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// `ppoll(2)`; `None` waits without end. A negative `fd` is skipped.
///
/// # Errors
/// `EINTR` when a signal handler ran, and the others of ppoll(2).
pub fn ppoll(fds: &mut [pollfd], timeout: Option<Duration>) -> Result<usize, Errno> {
    let ts = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
    });
    let ts_ptr = ts.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    let mask = std::ptr::null();
    // SAFETY: `fds` is a valid exclusive slice of its stated length; `ts_ptr` is null or points to
    // a live value; a null mask leaves the thread's own.
    let rc = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ts_ptr, mask) };
    check(rc).map(|n| n as usize)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec. It fails for no clock that every Linux has.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(ts.tv_nsec as u64)
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// The same at the kernel's last tick (CLOCK_MONOTONIC_COARSE): the counter is not read.
#[inline]
pub fn monotonic_coarse_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE)
}

/// A non-blocking close-on-exec eventfd, counter zero.
///
/// # Errors
/// Those of eventfd(2), `EMFILE` above all.
pub fn eventfd() -> Result<RuntimeFd, Errno> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    Ok(RuntimeFd::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Adds one to an eventfd. A full counter is as good as a written one, so nothing is reported.
pub fn eventfd_signal(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes.
    let _ = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Sets an eventfd's counter back to zero.
pub fn eventfd_drain(fd: &OwnedFd) {
    let mut counter = [0u8; 8];
    // SAFETY: `counter` is 8 writable bytes.
    let _ = unsafe { libc::read(fd.as_raw_fd(), counter.as_mut_ptr().cast(), counter.len()) };
}

/// A non-blocking close-on-exec pipe: the end to read, the end to write.
///
/// # Errors
/// Those of pipe(2).
pub fn pipe() -> Result<(RuntimeFd, RuntimeFd), Errno> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    // SAFETY: both were just returned by the kernel and nobody else owns them.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    Ok((RuntimeFd::new(read), RuntimeFd::new(write)))
}

/// How much later than asked for the calling thread's sleeps may end, so that they end together with
/// others.
pub fn set_timer_slack(slack: Duration) {
    let ns = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX);
    // SAFETY: no pointers. It cannot fail, and nothing would depend on it.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns) };
}

/// Reads a non-blocking descriptor until it has nothing more.
pub fn drain(fd: RawFd) {
    let mut buf = [0u8; 512];
    // SAFETY: `buf` is that many writable bytes. A short read was the last one.
    while unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) } == buf.len() as isize {}
}

/// `write(2)`.
///
/// # Errors
/// Those of write(2).
pub fn write(fd: RawFd, data: &[u8]) -> Result<usize, Errno> {
    // SAFETY: pointer and length describe `data`.
    let n = unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Closes a number that its only owner keeps outside of Rust's types.
pub fn close_raw(fd: RawFd) {
    // SAFETY: by the name of the function. An error would be EBADF: then it is closed.
    unsafe { libc::close(fd) };
}

/// The soft limit on descriptors: no new one gets this number or a higher one.
pub fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit. It fails for no resource that exists.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// Another close-on-exec number of a descriptor.
///
/// # Errors
/// Those of fcntl(2).
pub fn dup(fd: RawFd) -> Result<RuntimeFd, Errno> {
    dup_from(fd, 0).map(RuntimeFd::new)
}

/// The lowest free close-on-exec number from `low` on for a descriptor.
///
/// # Errors
/// Those of fcntl(2): EINVAL when `low` is not below the limit.
pub fn dup_from(fd: RawFd, low: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let new = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, low) })?;
    // SAFETY: `new` was just returned by the kernel and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// A new close-on-exec epoll.
///
/// # Errors
/// Those of epoll_create1(2).
pub fn epoll_create() -> Result<RuntimeFd, Errno> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    Ok(RuntimeFd::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What an epoll has now, at most `max` pairs of events and data, without waiting.
///
/// # Errors
/// Those of epoll_wait(2).
pub fn epoll_now(epfd: RawFd, max: usize) -> Result<Vec<(u32, u64)>, Errno> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; max.clamp(1, 1024)];
    // SAFETY: pointer and length describe `events`, which is exclusively ours.
    let n = check(unsafe {
        libc::epoll_wait(epfd, events.as_mut_ptr(), events.len() as libc::c_int, 0)
    })?;
    Ok(events.iter().take(n as usize).map(|e| (e.events, e.u64)).collect())
}

/// `epoll_ctl(2)`.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn epoll_ctl(epfd: RawFd, op: i32, fd: RawFd, events: u32, data: u64) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` is a live epoll_event; the kernel checks both descriptors.
    check(unsafe { libc::epoll_ctl(epfd, op, fd, &mut event) }).map(drop)
}

/// `setsockopt(2)` with the value as the caller's bytes.
///
/// # Errors
/// Those of setsockopt(2).
pub fn setsockopt(fd: RawFd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`.
    check(unsafe {
        libc::setsockopt(fd, level, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
    })
    .map(drop)
}

/// `getsockopt(2)`; the number of bytes that the kernel wrote to `buf`.
///
/// # Errors
/// Those of getsockopt(2).
pub fn getsockopt(fd: RawFd, level: i32, name: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut len = buf.len() as libc::socklen_t;
    // SAFETY: pointer and length describe `buf`, which is exclusively ours.
    check(unsafe { libc::getsockopt(fd, level, name, buf.as_mut_ptr().cast(), &mut len) })?;
    Ok(len as usize)
}

/// `recv(2)`.
///
/// # Errors
/// Those of recv(2).
pub fn recv(fd: RawFd, buf: &mut [u8], flags: i32) -> Result<usize, Errno> {
    // SAFETY: pointer and length describe `buf`, which is exclusively ours.
    let n = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), flags) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// `send(2)`; never raises SIGPIPE.
///
/// # Errors
/// Those of send(2).
pub fn send(fd: RawFd, data: &[u8], flags: i32) -> Result<usize, Errno> {
    // SAFETY: pointer and length describe `data`.
    let n = unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags | libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// The requests of ioctl(2) that write one int and do nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntRequest {
    /// Bytes to be read (SIOCINQ).
    FionRead,
    /// Bytes not acknowledged (TIOCOUTQ).
    SiocOutq,
    /// Bytes never sent.
    SiocOutqNsd,
    /// Whether the reader stands at the urgent mark.
    SiocAtMark,
}

impl IntRequest {
    /// Its number (linux/sockios.h; libc lacks some).
    pub const fn number(self) -> u32 {
        match self {
            Self::FionRead => 0x541b,
            Self::SiocOutq => 0x5411,
            Self::SiocOutqNsd => 0x894b,
            Self::SiocAtMark => 0x8905,
        }
    }

    /// The request of a number.
    pub fn of(number: u32) -> Option<Self> {
        [Self::FionRead, Self::SiocOutq, Self::SiocOutqNsd, Self::SiocAtMark]
            .into_iter()
            .find(|request| request.number() == number)
    }
}

/// One of these asked of a kernel socket.
///
/// # Errors
/// Those of ioctl(2).
pub fn ioctl_int(fd: RawFd, request: IntRequest) -> Result<i32, Errno> {
    let mut n: libc::c_int = 0;
    // SAFETY: each of these requests writes one int.
    check(unsafe { libc::ioctl(fd, libc::c_ulong::from(request.number()), &mut n) })?;
    Ok(n)
}

/// 32 bytes from the kernel's random source.
///
/// # Errors
/// Those of getrandom(2).
pub fn random_seed() -> Result<[u8; 32], Errno> {
    let mut seed = [0u8; 32];
    // SAFETY: pointer and length describe `seed`; requests up to 256 bytes are never cut short.
    let n = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if n == seed.len() as isize {
        Ok(seed)
    } else {
        Err(Errno::last())
    }
}

/// Runs `f` while every signal is blocked in the calling thread, and thus in the threads that `f`
/// starts, from their first instruction on.
pub fn with_signals_blocked<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: an all-zero sigset_t is a valid object for sigfillset to fill.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are live, and the calls touch only them and the calling thread's mask.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let result = f();
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

/// The user at the other end of a connected AF_UNIX socket.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_uid(fd: RawFd) -> Result<u32, Errno> {
    let mut buf = [0u8; std::mem::size_of::<libc::ucred>()];
    getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut buf)?;
    let uid = [buf[4], buf[5], buf[6], buf[7]];
    Ok(u32::from_ne_bytes(uid))
}

/// The network namespace of the calling thread, by a number that no other one has while the machine runs.
///
/// # Errors
/// Those of socket(2) and getsockopt(2).
pub fn netns_cookie() -> Result<u64, Errno> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut cookie = [0; 8];
    getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}

/// Whether there is a process of this number in our process namespace, whosever it is.
pub fn process_exists(pid: u32) -> bool {
    let Ok(pid @ 1..) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: no pointers; signal 0 is not delivered.
    unsafe { libc::kill(pid, 0) == 0 || Errno::last() != Errno(libc::ESRCH) }
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}
