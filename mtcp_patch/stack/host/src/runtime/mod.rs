//! SKELETON: signatures only, so that the binding compiles; the bodies follow.
#![allow(missing_docs, unused_variables, clippy::missing_errors_doc)]

use crate::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::OnceLock;

pub const VFD_BASE: i32 = 1 << 30;
pub type Vfd = i32;
/// epoll data under which a watcher's own eventfd stands in its real epoll.
pub const WATCHER_TOKEN: u64 = u64::MAX;
#[inline]
pub fn is_virtual(fd: i32) -> bool {
    fd >= VFD_BASE
}
#[derive(Clone, Debug)]
pub struct Settings {
    pub devices: Vec<String>,
    pub require: bool,
    pub verbose: u8,
    pub exit_linger_ms: u64,
}
impl Default for Settings {
    fn default() -> Self {
        Self { devices: vec!["xdp:lo".into()], require: false, verbose: 0, exit_linger_ms: 5000 }
    }
}
#[derive(Debug)]
pub enum Accepted {
    Virtual(Vfd, SocketAddr),
    Kernel(OwnedFd, SocketAddr),
}
#[derive(Clone, Copy, Debug, Default)]
pub struct PollFd {
    pub fd: i32,
    pub events: u32,
    pub revents: u32,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatcherId(pub u32);
/// What ended a `watcher_wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WaitOutcome {
    /// Events put into `out`.
    pub events: usize,
    /// The watcher's epoll has kernel events to collect.
    pub kernel: bool,
}
pub struct Runtime {}
type R<T> = Result<T, Errno>;
const NO: Errno = Errno(libc::ENOSYS);
static GLOBAL: OnceLock<Runtime> = OnceLock::new();
impl Runtime {
    pub fn configure(settings: Settings) {}
    #[inline]
    pub fn global() -> &'static Runtime {
        GLOBAL.get_or_init(|| Runtime {})
    }
    pub fn open_devices(&self) -> Result<(), String> {
        Ok(())
    }
    pub fn socket(&self, family: i32, proto: i32) -> R<Vfd> {
        Err(NO)
    }
    pub fn dup(&self, vfd: Vfd) -> R<Vfd> {
        Err(NO)
    }
    pub fn close(&self, vfd: Vfd) -> R<()> {
        Err(NO)
    }
    pub fn family(&self, vfd: Vfd) -> R<i32> {
        Err(NO)
    }
    pub fn is_open(&self, vfd: Vfd) -> bool {
        false
    }
    /// All open virtual descriptors.
    pub fn open_vfds(&self) -> Vec<Vfd> {
        Vec::new()
    }
    pub fn bind(&self, vfd: Vfd, addr: &SocketAddr) -> R<()> {
        Err(NO)
    }
    pub fn listen(&self, vfd: Vfd, backlog: i32) -> R<()> {
        Err(NO)
    }
    pub fn accept(&self, vfd: Vfd) -> R<Accepted> {
        Err(NO)
    }
    pub fn connect(&self, vfd: Vfd, addr: &SocketAddr) -> R<()> {
        Err(NO)
    }
    pub fn recv_with<T>(
        &self,
        vfd: Vfd,
        max: usize,
        flags: i32,
        f: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> R<T> {
        Err(NO)
    }
    pub fn send(&self, vfd: Vfd, data: &[u8], flags: i32) -> R<usize> {
        Err(NO)
    }
    pub fn shutdown(&self, vfd: Vfd, how: i32) -> R<()> {
        Err(NO)
    }
    pub fn getsockname(&self, vfd: Vfd) -> R<SocketAddr> {
        Err(NO)
    }
    pub fn getpeername(&self, vfd: Vfd) -> R<SocketAddr> {
        Err(NO)
    }
    pub fn setsockopt(&self, vfd: Vfd, level: i32, name: i32, value: &[u8]) -> R<()> {
        Err(NO)
    }
    pub fn getsockopt(&self, vfd: Vfd, level: i32, name: i32, buf: &mut [u8]) -> R<usize> {
        Err(NO)
    }
    pub fn nonblocking(&self, vfd: Vfd) -> R<bool> {
        Err(NO)
    }
    pub fn set_nonblocking(&self, vfd: Vfd, on: bool) -> R<()> {
        Err(NO)
    }
    pub fn readable_bytes(&self, vfd: Vfd) -> R<usize> {
        Err(NO)
    }
    pub fn poll_ready(&self, fds: &mut [PollFd]) -> usize {
        0
    }
    pub fn poll_wait(&self, fds: &mut [PollFd], deadline: Option<std::time::Instant>) -> R<usize> {
        Err(NO)
    }
    pub fn watcher(&self, epfd: Option<RawFd>) -> R<WatcherId> {
        Err(NO)
    }
    pub fn watch(&self, w: WatcherId, op: i32, vfd: Vfd, events: u32, data: u64) -> R<()> {
        Err(NO)
    }
    pub fn watcher_ready(&self, w: WatcherId, max: usize, out: &mut Vec<(Vfd, u32, u64)>) -> usize {
        0
    }
    pub fn watcher_wait(
        &self,
        w: WatcherId,
        max: usize,
        out: &mut Vec<(Vfd, u32, u64)>,
        deadline: Option<std::time::Instant>,
    ) -> R<WaitOutcome> {
        Err(NO)
    }
    pub fn watcher_fd(&self, w: WatcherId) -> RawFd {
        -1
    }
    pub fn watcher_close(&self, w: WatcherId) {}
    pub fn device_fds(&self) -> Vec<RawFd> {
        Vec::new()
    }
    pub fn turn(&self) {}
    pub fn foreign_sleep(&self, begin: bool) {}
    pub fn status_json(&self) -> String {
        String::from("{}")
    }
    pub fn shutdown_process(&self) {}
    pub fn after_fork_child(&self) {}
}
