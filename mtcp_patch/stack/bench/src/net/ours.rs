//! Our stack, as the Python binding uses it: one runtime, one watcher.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{Accepted, Patience, Runtime, Settings, Vfd, WatcherId, VFD_BASE};
use rustix::event::epoll::{self, CreateFlags};

use super::{Id, Net, Ready};

/// Events of one look at the watcher.
const EVENTS: usize = 512;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// The process's runtime and a watcher on all that is open.
pub struct Ours {
    runtime: &'static Runtime,
    watcher: WatcherId,
    /// Where the watcher puts the kernel's half of a listener.
    _epoll: OwnedFd,
    found: Vec<(Vfd, u32, u64)>,
    /// Where the last connection went.
    last: Option<SocketAddr>,
}

fn vfd(id: Id) -> Vfd {
    VFD_BASE + id as Vfd
}

fn id(vfd: Vfd) -> Id {
    (vfd - VFD_BASE) as Id
}

impl Ours {
    /// Opens the devices.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let failed = |e: Errno| e.to_string();
        Runtime::configure(settings);
        let runtime = Runtime::try_global().map_err(failed)?;
        runtime.open_devices()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
        let watcher = runtime.watcher(Some(epoll.as_raw_fd())).map_err(failed)?;
        let found = Vec::with_capacity(EVENTS);
        Ok(Self { runtime, watcher, _epoll: epoll, found, last: None })
    }

    /// Closes what is open and gives the devices back.
    pub fn end(&self) {
        self.runtime.shutdown_process();
    }

    fn watch(&self, op: i32, fd: Vfd, events: u32) -> io::Result<()> {
        Ok(self.runtime.watch(self.watcher, op, fd, events, 0)?)
    }

    fn no_delay(&self, fd: Vfd) -> io::Result<()> {
        let on = 1i32.to_ne_bytes();
        Ok(self.runtime.setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on)?)
    }

    fn new_socket(&self, address: SocketAddr) -> io::Result<Vfd> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let fd = self.runtime.socket(family, 0)?;
        self.runtime.set_nonblocking(fd, true)?;
        Ok(fd)
    }
}

impl Net for Ours {
    fn connect(&mut self, to: SocketAddr) -> io::Result<Id> {
        let fd = self.new_socket(to)?;
        self.no_delay(fd)?;
        // A next hop that is not resolved yet is the kernel's to find: a few tries, as the binding.
        let begun = Instant::now();
        loop {
            let patience = if begun.elapsed() < mtcp_host::runtime::NEIGHBOUR_WAIT {
                Patience::MayWait
            } else {
                Patience::Never
            };
            match self.runtime.connect(fd, &to, patience) {
                Ok(mtcp_host::runtime::Connect::MustWait) => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(mtcp_host::runtime::Connect::Done) | Err(Errno(libc::EINPROGRESS)) => break,
                Err(e) => return Err(e.into()),
            }
        }
        self.last = Some(to);
        self.watch(libc::EPOLL_CTL_ADD, fd, IN | OUT)?;
        Ok(id(fd))
    }

    fn connected(&mut self, id: Id) -> io::Result<()> {
        let mut error = [0; 4];
        self.runtime.getsockopt(vfd(id), libc::SOL_SOCKET, libc::SO_ERROR, &mut error)?;
        match i32::from_ne_bytes(error) {
            0 => self.watch(libc::EPOLL_CTL_MOD, vfd(id), IN),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn listen(&mut self, at: SocketAddr, backlog: i32) -> io::Result<Id> {
        let fd = self.new_socket(at)?;
        self.runtime.bind(fd, &at)?;
        self.runtime.listen(fd, backlog)?;
        self.watch(libc::EPOLL_CTL_ADD, fd, IN)?;
        Ok(id(fd))
    }

    fn accept(&mut self, listener: Id) -> io::Result<Id> {
        match self.runtime.accept(vfd(listener))? {
            Accepted::Virtual(fd, _) => {
                self.runtime.set_nonblocking(fd, true)?;
                self.no_delay(fd)?;
                self.watch(libc::EPOLL_CTL_ADD, fd, IN)?;
                Ok(id(fd))
            }
            Accepted::Kernel(_, peer) => {
                Err(io::Error::other(format!("{peer} came by the kernel's stack, not by ours")))
            }
        }
    }

    #[inline]
    fn send(&mut self, id: Id, data: &[u8]) -> io::Result<usize> {
        Ok(self.runtime.send(vfd(id), data, 0)?)
    }

    #[inline]
    fn recv(&mut self, id: Id, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.runtime.recv_with(vfd(id), buf.len(), 0, |a, b| {
            let (first, rest) = buf.split_at_mut(a.len());
            first.copy_from_slice(a);
            rest[..b.len()].copy_from_slice(b);
            a.len() + b.len()
        })?)
    }

    fn want_room(&mut self, id: Id, on: bool) -> io::Result<()> {
        self.watch(libc::EPOLL_CTL_MOD, vfd(id), if on { IN | OUT } else { IN })
    }

    fn close(&mut self, id: Id) {
        // Only a number that is not open fails, and ids come from us.
        let _ = self.runtime.close(vfd(id));
    }

    fn wait(&mut self, timeout: Option<Duration>, news: &mut Vec<Ready>) -> io::Result<()> {
        let Self { runtime, watcher, found, .. } = self;
        found.clear();
        match timeout {
            None => drop(runtime.watcher_ready(*watcher, EVENTS, found)),
            Some(timeout) => {
                if runtime.watcher_spin(*watcher, EVENTS, found) == 0 {
                    let deadline = Some(Instant::now() + timeout);
                    match runtime.watcher_wait(*watcher, EVENTS, found, deadline) {
                        Ok(outcome) if outcome.kernel && found.is_empty() => {
                            return Err(io::Error::other(
                                "a connection is carried by the kernel's stack, not by ours",
                            ));
                        }
                        Ok(_) | Err(Errno(libc::EINTR)) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
        }
        news.extend(found.iter().map(|&(fd, events, _)| Ready {
            id: id(fd),
            readable: events & (IN | ALWAYS) != 0,
            writable: events & (OUT | ALWAYS) != 0,
        }));
        Ok(())
    }

    fn carrier(&mut self) -> String {
        let status: serde_json::Value =
            serde_json::from_str(&self.runtime.status_json()).unwrap_or_default();
        let to = self.last.map(|to| to.to_string());
        let connection = status["connections"]
            .as_array()
            .and_then(|all| all.iter().find(|c| to.as_deref().is_none_or(|to| c["remote"] == to)));
        connection.and_then(|c| c["device"].as_str()).unwrap_or("kernel").to_owned()
    }
}
