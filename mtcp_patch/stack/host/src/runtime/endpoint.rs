//! Making, duplicating, naming, binding and closing descriptors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::SockAddr;

use super::desc::{is_connected, Desc, Kind, Watch};
use super::linger::Lingering;
use super::port::Port;
use super::state::Inner;
use super::vfd::{is_virtual, Vfd, VFD_BASE};
use super::Runtime;
use crate::errno::Errno;

/// Open virtual descriptors in a process, as RLIMIT_NOFILE bounds kernel ones.
pub(super) const MAX_DESCRIPTORS: usize = 1 << 20;

/// A v4-mapped address as plain v4, as the engine has it; others unchanged.
pub(super) fn unmapped(addr: &SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
        },
        SocketAddr::V4(_) => *addr,
    }
}

/// An engine address as a socket of `family` shows it.
pub(super) fn shown(addr: SocketAddr, family: i32) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if family == libc::AF_INET6 => {
            let ip = v4.ip().to_ipv6_mapped();
            SocketAddr::V6(SocketAddrV6::new(ip, v4.port(), 0, 0))
        }
        other => other,
    }
}

impl Inner {
    /// Opens a descriptor on a new description.
    pub fn open(&mut self, desc: Desc) -> Result<(Vfd, usize), Errno> {
        let index = self.descs.insert(desc);
        match self.vfds.insert(index, MAX_DESCRIPTORS) {
            Some(vfd) => Ok((vfd, index)),
            None => {
                let desc = self.descs.remove(index);
                self.release_port(desc.port);
                Err(Errno(libc::EMFILE))
            }
        }
    }

    /// Takes a descriptor out of every watcher and wakes whoever is blocked on it.
    fn forget_watches(&mut self, vfd: Vfd, index: usize) {
        let Some(desc) = self.descs.get_mut(index) else { return };
        let gone: Vec<Watch> = desc.watches.iter().copied().filter(|w| w.vfd == vfd).collect();
        desc.watches.retain(|w| w.vfd != vfd);
        let half = if desc.has_kernel_half() { desc.port } else { None };
        let kernel = half.and_then(|p| self.ports.get(p)).map(Port::fd);
        for w in gone {
            let Some(watcher) = self.watchers.get_mut(w.watcher) else { continue };
            if watcher.waiter {
                watcher.gone.push(vfd);
                watcher.candidate(vfd);
                continue;
            }
            if let Some(fd) = kernel {
                // The other outcomes mean that the epoll itself is gone.
                let _ = watcher.kernel_half(libc::EPOLL_CTL_DEL, fd, 0, vfd);
            }
            watcher.remove(vfd);
        }
    }

    /// Closes a descriptor; with the last one, the description. What is to be waited for then.
    pub fn close(&mut self, vfd: Vfd) -> Result<Option<Lingering>, Errno> {
        let index = self.vfds.remove(vfd).ok_or(Errno(libc::EBADF))?;
        self.forget_watches(vfd, index);
        let Some(desc) = self.descs.get_mut(index) else { return Err(Errno(libc::EBADF)) };
        desc.refs -= 1;
        if desc.refs > 0 {
            return Ok(None);
        }
        let (kind, linger) = (desc.kind, desc.linger);
        if self.has_output() && self.closes_with_reset(kind, linger) {
            // Linux sends within send(2) what the windows allow: the reset does not overtake it.
            self.turn();
        }
        let desc = self.descs.remove(index);
        self.close_kind(&desc);
        Ok(Lingering::of(&desc))
    }

    /// SO_LINGER of no time, or unread data (RFC 9293 3.6.1, SHLD-3).
    fn closes_with_reset(&self, kind: Kind, linger: Option<u32>) -> bool {
        let Kind::Conn { id, .. } = kind else { return false };
        linger == Some(0) || self.shard.info(id).is_ok_and(|info| info.unread_bytes > 0)
    }

    fn close_kind(&mut self, desc: &Desc) {
        let now = self.now();
        match desc.kind {
            Kind::Conn { id, .. } => {
                self.by_conn.remove(id);
                // The TCB lives on by itself and keeps the port until the engine frees it.
                if let Some(port) = desc.port {
                    self.orphans.insert(id, port);
                }
                if desc.owns_port {
                    self.reserving.push_back(id);
                    self.release_old_reservations();
                }
                if desc.linger == Some(0) {
                    self.shard.abort(now, id);
                } else {
                    self.shard.close(now, id);
                }
            }
            Kind::Listener(id) => {
                if desc.shared.is_some() {
                    // Others go on accepting. What comes from now on is theirs.
                    self.let_in_by(desc.port, 0);
                } else {
                    self.stop_kernel_listening(desc);
                }
                self.end_listener(id);
                self.release_port(desc.port);
            }
            Kind::Fresh | Kind::Kernel | Kind::Deaf | Kind::Inherited => {
                self.release_port(desc.port);
            }
        }
    }

    /// Ends the kernel's half of a listener, while connections of ours may still hold the port.
    pub fn stop_kernel_listening(&self, desc: &Desc) {
        if let Ok(port) = self.port(desc) {
            // ENOTCONN says that it did not listen, which is what was wanted.
            let _ = port.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Runtime {
    /// Whether a number is inheritable (not FD_CLOEXEC). Remembered for the program's sake; no
    /// virtual descriptor survives exec.
    ///
    /// # Errors
    /// EBADF.
    pub fn inheritable(&self, vfd: Vfd) -> Result<bool, Errno> {
        self.lock().vfds.inheritable(vfd).copied().ok_or(Errno(libc::EBADF))
    }

    /// See [`Runtime::inheritable`].
    ///
    /// # Errors
    /// EBADF.
    pub fn set_inheritable(&self, vfd: Vfd, on: bool) -> Result<(), Errno> {
        *self.lock().vfds.inheritable(vfd).ok_or(Errno(libc::EBADF))? = on;
        Ok(())
    }

    /// A new descriptor of `family` (AF_INET or AF_INET6), with the kernel socket that will
    /// reserve its port.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn socket(&self, family: i32, proto: i32) -> Result<Vfd, Errno> {
        let mut inner = self.lock();
        let keepalive = inner.shard.config().keepalive();
        let port = match inner.devices.virtual_link {
            None => Port::new(family, proto)?,
            Some(_) => Port::anywhere(family, proto, inner.shard.config())?,
        };
        let port = inner.ports.insert(port);
        let mut desc = Desc::new(family, Kind::Fresh, Some(port), true);
        desc.options.keepalive = keepalive;
        inner.open(desc).map(|(vfd, _)| vfd)
    }

    /// Another descriptor on the same description, as dup(2).
    ///
    /// # Errors
    /// EBADF, EMFILE.
    pub fn dup(&self, vfd: Vfd) -> Result<Vfd, Errno> {
        let mut inner = self.lock();
        let index = inner.index(vfd)?;
        let new = inner.vfds.insert(index, MAX_DESCRIPTORS).ok_or(Errno(libc::EMFILE))?;
        if let Some(desc) = inner.descs.get_mut(index) {
            desc.refs += 1;
        }
        Ok(new)
    }

    /// `new` for the description of `old`, as dup2(2) of two different numbers: what `new` was is closed first. The
    /// number is inheritable from then on.
    ///
    /// # Errors
    /// EBADF, also for a `new` beyond the table.
    pub fn dup2(&self, old: Vfd, new: Vfd) -> Result<Option<Lingering>, Errno> {
        let mut inner = self.lock();
        let index = inner.index(old)?;
        if !is_virtual(new) || (new - VFD_BASE) as usize >= MAX_DESCRIPTORS {
            return Err(Errno(libc::EBADF));
        }
        if let Some(desc) = inner.descs.get_mut(index) {
            desc.refs += 1; // before the close: both numbers may be on one description
        }
        let lingering = if inner.vfds.get(new).is_some() { inner.close(new)? } else { None };
        inner.vfds.insert_at(new, index);
        if let Some(inheritable) = inner.vfds.inheritable(new) {
            *inheritable = true;
        }
        inner.flush_events();
        self.ensure_driver(inner);
        Ok(lingering)
    }

    /// Closes a descriptor. The connection's FIN leaves after its data; with unread data it is
    /// reset instead (RFC 2525 section 2.17, as Linux does).
    ///
    /// # Errors
    /// EBADF.
    pub fn close(&self, vfd: Vfd) -> Result<Option<Lingering>, Errno> {
        let mut inner = self.lock();
        let lingering = inner.close(vfd)?;
        inner.flush_events();
        self.ensure_driver(inner);
        Ok(lingering)
    }

    /// AF_INET or AF_INET6.
    ///
    /// # Errors
    /// EBADF.
    pub fn family(&self, vfd: Vfd) -> Result<i32, Errno> {
        self.lock().desc(vfd).map(|d| d.family)
    }

    /// Whether the number is an open virtual descriptor.
    pub fn is_open(&self, vfd: Vfd) -> bool {
        self.lock().index(vfd).is_ok()
    }

    /// All open virtual descriptors, ascending.
    pub fn open_vfds(&self) -> Vec<Vfd> {
        self.lock().vfds.iter().map(|(vfd, _)| vfd).collect()
    }

    /// Binds to a local address by binding the kernel socket that reserves it.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn bind(&self, vfd: Vfd, addr: &SocketAddr) -> Result<(), Errno> {
        let mut inner = self.lock();
        let desc = inner.desc(vfd)?;
        if !desc.owns_port {
            return Err(Errno(libc::EINVAL));
        }
        let (port, fresh) = (desc.port, desc.kind == Kind::Fresh);
        let port = port.and_then(|p| inner.ports.get_mut(p)).ok_or(Errno(libc::EBADF))?;
        if fresh {
            port.unbind()?;
        }
        port.socket.bind(&SockAddr::from(*addr))?;
        Ok(())
    }

    /// The local address.
    ///
    /// # Errors
    /// EBADF; those of getsockname(2).
    pub fn getsockname(&self, vfd: Vfd) -> Result<SocketAddr, Errno> {
        let inner = self.lock();
        let desc = inner.desc(vfd)?;
        if let Some(info) = desc.conn().and_then(|id| inner.shard.info(id).ok()) {
            return Ok(shown(info.local, desc.family));
        }
        inner.port(desc)?.local()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// EBADF; ENOTCONN before the connection is established and after it was reset.
    pub fn getpeername(&self, vfd: Vfd) -> Result<SocketAddr, Errno> {
        let mut inner = self.lock();
        if inner.desc(vfd)?.conn().is_some() {
            // As of now: a reset that has arrived counts, as in the kernel, where nobody need ask for it.
            inner.app_turn();
        }
        let desc = inner.desc(vfd)?;
        match desc.kind {
            Kind::Conn { id, .. } => {
                let info = inner.shard.info(id).map_err(Errno::from)?;
                if is_connected(info.state) {
                    Ok(shown(info.remote, desc.family))
                } else {
                    Err(Errno(libc::ENOTCONN))
                }
            }
            Kind::Kernel => {
                let peer = inner.port(desc)?.socket.peer_addr()?;
                peer.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))
            }
            _ => Err(Errno(libc::ENOTCONN)),
        }
    }

    /// The description's O_NONBLOCK.
    ///
    /// # Errors
    /// EBADF.
    pub fn nonblocking(&self, vfd: Vfd) -> Result<bool, Errno> {
        self.lock().desc(vfd).map(|d| d.nonblocking)
    }

    /// Sets the description's O_NONBLOCK, which the runtime only remembers: it never blocks.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_nonblocking(&self, vfd: Vfd, on: bool) -> Result<(), Errno> {
        self.lock().desc_mut(vfd).map(|d| d.nonblocking = on)
    }
}

/// The wildcard address of a family.
pub(super) fn wildcard(family: i32) -> IpAddr {
    if family == libc::AF_INET6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}
