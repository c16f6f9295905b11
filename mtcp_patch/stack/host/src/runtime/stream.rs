//! Connecting, receiving, sending and shutting down, on whichever stack serves the descriptor.
//! Nothing here blocks: EAGAIN and EINPROGRESS send the caller to `wait`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use mtcp_engine::Error;
use mtcp_engine::{ConnId, ConnectOptions, Path, SendFlags};
use socket2::SockAddr;

use super::desc::{has_ended, is_connected, is_connecting, owes_fin, Desc, Kind};
use super::devices::Way;
use super::endpoint::{shown, unmapped, wildcard};
use super::state::Inner;
use super::vfd::Vfd;
use super::watcher::IN;
use super::Runtime;
use crate::errno::Errno;
use crate::sys::{self, IntRequest};

/// The receive flags that mean something here. MSG_WAITALL is the caller's loop.
const RECV_FLAGS: i32 = libc::MSG_PEEK
    | libc::MSG_DONTWAIT
    | libc::MSG_WAITALL
    | libc::MSG_NOSIGNAL
    | libc::MSG_CMSG_CLOEXEC;

/// The send flags that mean something here.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT
    | libc::MSG_NOSIGNAL
    | libc::MSG_MORE
    | libc::MSG_EOR
    | libc::MSG_DONTROUTE
    | libc::MSG_OOB;

/// What a kernel socket that is ready for writing is taken to have room for.
const KERNEL_ROOM: usize = 20 * 1024;

/// Bytes that one call takes from a kernel-backed descriptor.
const KERNEL_CHUNK: usize = 256 * 1024;

/// How long a `connect()` waits for the kernel to resolve a neighbour before it goes by the
/// kernel's own stack.
pub const NEIGHBOUR_WAIT: Duration = Duration::from_millis(20);

/// Whether [`Runtime::connect`] may ask its caller to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It may.
    MayWait,
    /// It goes by the kernel's stack rather than wait.
    Never,
}

/// What [`Runtime::connect`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// The connection is there; as a rule it is EINPROGRESS instead.
    Done,
    /// The next hop is not resolved yet; nothing was changed.
    MustWait,
}

type Started = Result<Connect, Errno>;

impl Inner {
    fn connect(&mut self, vfd: Vfd, addr: &SocketAddr, patience: Patience) -> Started {
        match self.desc(vfd)?.kind {
            Kind::Fresh => self.connect_fresh(vfd, addr, patience),
            Kind::Conn { .. } => self.connect_again(vfd),
            Kind::Kernel => self.connect_kernel(vfd, addr).map(|()| Connect::Done),
            Kind::Listener(_) | Kind::Deaf => Err(Errno(libc::EISCONN)),
            Kind::Inherited => Err(Errno(libc::ECONNRESET)),
        }
    }

    /// A repeated `connect()`: as Linux's `inet_stream_connect`, 0 once when it has been
    /// established meanwhile, then EISCONN; EALREADY before that; when it failed, the error, or
    /// ECONNABORTED when SO_ERROR has told it already.
    fn connect_again(&mut self, vfd: Vfd) -> Started {
        let desc = self.desc(vfd)?;
        let Kind::Conn { id, connecting } = desc.kind else { return Err(Errno(libc::EINVAL)) };
        let state = self.shard.info(id).map_err(Errno::from)?.state;
        if is_connecting(state) {
            return Err(Errno(libc::EALREADY));
        }
        if is_connected(state) {
            self.desc_mut(vfd)?.kind = Kind::Conn { id, connecting: false };
            return if connecting { Ok(Connect::Done) } else { Err(Errno(libc::EISCONN)) };
        }
        if !connecting {
            return Err(Errno(libc::EISCONN));
        }
        // The attempt failed. To say so ends it: the socket may try again, from another address.
        let error = self.shard.take_error(id).map_or(Errno(libc::ECONNABORTED), Errno::from);
        let now = self.now();
        self.by_conn.remove(id);
        self.shard.close(now, id);
        let desc = self.desc_mut(vfd)?;
        desc.kind = Kind::Fresh;
        let port = desc.port;
        self.unsteer_port(port);
        Err(error)
    }

    fn connect_fresh(&mut self, vfd: Vfd, addr: &SocketAddr, patience: Patience) -> Started {
        let desc = self.desc(vfd)?;
        let pinned = desc.pinned.is_some();
        let scoped = matches!(addr, SocketAddr::V6(a) if a.scope_id() != 0 || a.flowinfo() != 0);
        let mut dst = unmapped(addr);
        // connect(2): the unspecified address means this host.
        match dst.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => dst.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(ip) if ip.is_unspecified() => dst.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            _ => {}
        }
        let wrong_family = desc.family == libc::AF_INET && addr.is_ipv6();
        if pinned || scoped || wrong_family || dst.port() == 0 {
            return self.connect_kernel(vfd, addr).map(|()| Connect::Done);
        }
        let bound = self.port(desc)?.local()?;
        let src = Some(unmapped(&bound).ip()).filter(|ip| !ip.is_unspecified());
        if src.is_some_and(|s| s.is_ipv4() != dst.is_ipv4()) {
            return self.connect_kernel(vfd, addr).map(|()| Connect::Done);
        }
        let done = match self.choose_path(dst, src, patience) {
            Way::Ours(path, src) => self.connect_ours(vfd, dst, path, src, bound),
            Way::Unresolved if patience == Patience::MayWait => return Ok(Connect::MustWait),
            Way::Unresolved | Way::Kernel => self.connect_kernel(vfd, addr),
        };
        done.map(|()| Connect::Done)
    }

    /// Memory when a listener of this process or of another patched one serves the address, else the
    /// device that the kernel's routing names, else the kernel.
    fn choose_path(&mut self, dst: SocketAddr, src: Option<IpAddr>, patience: Patience) -> Way {
        // Of a shared one any process may have to accept, and this one may be the busy one.
        let alone = self.shard.find_listener(dst).is_some_and(|id| !self.is_shared(id));
        if alone && self.devices.is_local(dst.ip()) {
            let src = src.unwrap_or_else(|| self.devices.source_on_host(dst.ip()));
            return Way::Ours(self.devices.memory_path(), src);
        }
        self.peer_way(dst, src, patience).unwrap_or_else(|| self.devices.route(dst.ip(), src))
    }

    fn connect_ours(
        &mut self,
        vfd: Vfd,
        dst: SocketAddr,
        path: Path,
        src: IpAddr,
        bound: SocketAddr,
    ) -> Result<(), Errno> {
        let index = self.index(vfd)?;
        let desc = self.desc(vfd)?;
        let (family, port) = (desc.family, desc.port);
        let options = desc.conn_options(dst.is_ipv4());
        if bound.port() == 0 {
            // RFC 6056: the kernel chooses the port, at random, and keeps it from others.
            // Not to `src`: should the attempt fail, the next one may leave by another address; and
            // bind(2) to one address changes IPV6_V6ONLY.
            let any = SocketAddr::new(wildcard(family), 0);
            let own = port.and_then(|p| self.ports.get_mut(p)).ok_or(Errno(libc::EBADF))?;
            own.socket.bind(&SockAddr::from(any))?;
            own.chosen_for_it = true;
        }
        let local_port = self.port(self.desc(vfd)?)?.local()?.port();
        let local = SocketAddr::new(src, local_port);
        let device = path.device;
        let now = self.now();
        if device != super::devices::MEMORY && self.devices.steer(device, local) {
            if let Some(p) = port.and_then(|p| self.ports.get_mut(p)) {
                p.steered.push((device, local));
            }
        }
        let to = ConnectOptions { local, remote: dst, path, options };
        let id = match self.shard.connect(now, to) {
            Ok(id) => id,
            // A TIME-WAIT of ours has this pair of addresses; the kernel's stack knows of none.
            Err(Error::AddrInUse) => {
                self.unsteer_port(port);
                return self.connect_kernel(vfd, &shown(dst, family));
            }
            Err(e) => return Err(e.into()),
        };
        self.by_conn.insert(id, index);
        if let Some(desc) = self.descs.get_mut(index) {
            desc.kind = Kind::Conn { id, connecting: true };
        }
        Err(Errno(libc::EINPROGRESS))
    }

    fn connect_kernel(&mut self, vfd: Vfd, addr: &SocketAddr) -> Result<(), Errno> {
        let index = self.index(vfd)?;
        let result = self.port(self.desc(vfd)?)?.socket.connect(&SockAddr::from(*addr));
        let result = result.map_err(Errno::from);
        let started = matches!(result, Ok(()) | Err(Errno(libc::EINPROGRESS)));
        if started && self.desc(vfd)?.kind == Kind::Fresh {
            if let Some(desc) = self.descs.get_mut(index) {
                desc.kind = Kind::Kernel;
            }
            self.attach_kernel_half(index);
        }
        result
    }

    fn send(&mut self, vfd: Vfd, data: &[u8], flags: i32) -> Result<usize, Errno> {
        let desc = self.desc(vfd)?;
        match desc.kind {
            Kind::Conn { id, .. } => {
                if flags & !SEND_FLAGS != 0 {
                    return Err(Errno(libc::EOPNOTSUPP));
                }
                let now = self.lately();
                if flags & libc::MSG_OOB != 0 {
                    return self.shard.send_urgent(now, id, data).map_err(Errno::from);
                }
                let how = SendFlags {
                    more: flags & libc::MSG_MORE != 0,
                    end_of_record: flags & libc::MSG_EOR != 0,
                };
                self.shard.send_with(now, id, data, how).map_err(Errno::from)
            }
            Kind::Kernel => sys::send(self.port(desc)?.fd(), data, flags | libc::MSG_DONTWAIT),
            Kind::Inherited => Err(Errno(libc::ECONNRESET)),
            // tcp_sendmsg on a socket that was never connected.
            Kind::Fresh | Kind::Listener(_) | Kind::Deaf => Err(Errno(libc::EPIPE)),
        }
    }
}

impl Inner {
    /// Drives when nothing is there, and says whether a receive that waits for `lowat` bytes may end now.
    fn has_enough(&mut self, id: ConnId, lowat: usize) -> Result<bool, Errno> {
        // The error of a connection is given once: this look must not swallow it.
        match self.shard.recv_slices(id).map(|_| ()) {
            Ok(()) => {}
            Err(Error::WouldBlock) => {
                self.app_turn();
            }
            Err(e) => return Err(e.into()),
        }
        if self.shard.readiness(id) & IN != 0 {
            return Ok(true);
        }
        Ok(self.shard.info(id).is_ok_and(|info| info.unread_bytes >= lowat))
    }

    /// The rest of a write of which `taken` bytes were taken, packet by packet; returns how many were in
    /// the end.
    fn send_rest(&mut self, vfd: Vfd, data: &[u8], flags: i32, mut taken: usize) -> usize {
        while let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
            self.app_turn();
            let id = self.desc(vfd).ok().and_then(Desc::conn);
            let state = id.and_then(|id| self.shard.info(id).ok()).map(|info| info.state);
            // An error is for the next call, as this one has taken something.
            if !state.is_some_and(is_connected) {
                break;
            }
            match self.send(vfd, rest, flags) {
                Ok(more) if more > 0 => taken += more,
                _ => break,
            }
        }
        taken
    }
}

impl Runtime {
    /// Starts a connection: in the process's memory when it listens there itself, by the device
    /// that the route names when we have it, else by the kernel's stack. With
    /// [`Patience::MayWait`] it may answer that the kernel is still resolving the next hop: to be
    /// called again a little later, for at most [`NEIGHBOUR_WAIT`], and then with
    /// [`Patience::Never`], which goes by the kernel's stack instead.
    ///
    /// # Errors
    /// EINPROGRESS as a rule; EALREADY, EISCONN and the outcome when called again; those of
    /// connect(2).
    pub fn connect(
        &self,
        vfd: Vfd,
        addr: &SocketAddr,
        patience: Patience,
    ) -> Result<Connect, Errno> {
        let mut inner = self.lock();
        let local = inner.shard.find_listener(unmapped(addr)).is_some();
        let fresh = inner.desc(vfd)?.kind == Kind::Fresh;
        let opens = !local && fresh && inner.devices.to_open().is_some();
        if opens && !inner.is_served_by_peer(unmapped(addr)) {
            drop(inner);
            self.open_devices_once();
            inner = self.lock();
        }
        let result = inner.connect(vfd, addr, patience);
        if matches!(result, Err(Errno(libc::EINPROGRESS))) {
            self.ensure_driver(inner);
        }
        result
    }

    /// Gives `f` at most `max` received bytes, as one or two slices, both empty at the end of the
    /// stream; they are consumed unless MSG_PEEK is set. `f` must not call the runtime.
    ///
    /// # Errors
    /// EAGAIN when nothing is there yet; ENOTCONN; ECONNRESET and other errors of the connection,
    /// once; EOPNOTSUPP for flags that the stack does not have, EINVAL for MSG_OOB without
    /// urgent data.
    #[inline]
    pub fn recv_with<T>(
        &self,
        vfd: Vfd,
        max: usize,
        flags: i32,
        f: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Result<T, Errno> {
        let mut inner = self.lock();
        let desc = inner.desc(vfd)?;
        let id = match desc.kind {
            Kind::Conn { id, .. } => id,
            Kind::Kernel => {
                let fd = inner.port(desc)?.fd();
                drop(inner);
                let mut buf = vec![0u8; max.min(KERNEL_CHUNK)];
                let n = sys::recv(fd, &mut buf, flags | libc::MSG_DONTWAIT)?;
                return Ok(f(buf.get(..n).unwrap_or(&[]), &[]));
            }
            Kind::Inherited => return Err(Errno(libc::ECONNRESET)),
            _ => return Err(Errno(libc::ENOTCONN)),
        };
        if flags & libc::MSG_OOB != 0 {
            let octet = inner.shard.recv_urgent(id, flags & libc::MSG_PEEK != 0);
            return octet.map(|octet| f(octet.as_slice(), &[])).map_err(Errno::from);
        }
        if flags & !RECV_FLAGS != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        // socket(7): a blocking receive waits for SO_RCVLOWAT, or for all it has room for.
        let lowat = max.min(desc.options.recv_lowat as usize);
        let waits = lowat > 1 && !desc.nonblocking && flags & libc::MSG_DONTWAIT == 0;
        if waits && !inner.has_enough(id, lowat)? {
            return Err(Errno(libc::EAGAIN));
        }
        let (a, b) = match inner.shard.recv_slices(id) {
            Err(Error::WouldBlock) => {
                inner.app_turn();
                inner.shard.recv_slices(id).map_err(Errno::from)?
            }
            slices => slices.map_err(Errno::from)?,
        };
        let a = a.get(..max).unwrap_or(a);
        let b = b.get(..max - a.len()).unwrap_or(b);
        let taken = a.len() + b.len();
        let result = f(a, b);
        if flags & libc::MSG_PEEK == 0 && taken > 0 {
            let now = inner.lately();
            inner.shard.recv_consume(now, id, taken).map_err(Errno::from)?;
            if inner.has_output() {
                self.ensure_driver(inner);
            }
        }
        Ok(result)
    }

    /// Copies into the send buffer what fits; it leaves at the end of the turn.
    ///
    /// # Errors
    /// EAGAIN when the buffer is full; EPIPE, ECONNRESET, ENOTCONN as send(2).
    #[inline]
    pub fn send(&self, vfd: Vfd, data: &[u8], flags: i32) -> Result<usize, Errno> {
        let mut inner = self.lock();
        let mut result = inner.send(vfd, data, flags);
        if matches!(result, Err(Errno(libc::EAGAIN))) {
            inner.app_turn();
            result = inner.send(vfd, data, flags);
        }
        if inner.shard.takes_packets() {
            result = result.map(|n| inner.send_rest(vfd, data, flags, n));
        }
        if result.is_ok() {
            self.ensure_driver(inner);
        }
        result
    }

    /// Ends one or both directions, as shutdown(2).
    ///
    /// # Errors
    /// EINVAL for an unknown `how`; ENOTCONN; EBADF.
    pub fn shutdown(&self, vfd: Vfd, how: i32) -> Result<(), Errno> {
        let (read, write, std_how) = match how {
            libc::SHUT_RD => (true, false, Shutdown::Read),
            libc::SHUT_WR => (false, true, Shutdown::Write),
            libc::SHUT_RDWR => (true, true, Shutdown::Both),
            _ => return Err(Errno(libc::EINVAL)),
        };
        let mut inner = self.lock();
        let index = inner.index(vfd)?;
        let desc = inner.desc(vfd)?;
        match desc.kind {
            Kind::Conn { id, .. } => {
                let now = inner.now();
                inner.shard.shutdown(now, id, read, write).map_err(Errno::from)?;
            }
            Kind::Kernel => inner.port(desc)?.socket.shutdown(std_how)?,
            Kind::Listener(id) if read => {
                inner.end_listener(id);
                inner.stop_kernel_listening(inner.desc(vfd)?);
                inner.desc_mut(vfd)?.kind = Kind::Deaf;
            }
            Kind::Listener(_) => {}
            Kind::Fresh | Kind::Deaf | Kind::Inherited => return Err(Errno(libc::ENOTCONN)),
        }
        inner.flush_events();
        inner.notify(index);
        self.ensure_driver(inner);
        Ok(())
    }

    /// What a control message of TCP_INQ says: the bytes that are left to read, and one more once the
    /// peer has ended its stream, so that a program reads on (Linux `tcp_inq_hint`). `None`: it was not
    /// asked for.
    ///
    /// # Errors
    /// EBADF.
    pub fn inq(&self, vfd: Vfd) -> Result<Option<i32>, Errno> {
        let inner = self.lock();
        let desc = inner.desc(vfd)?;
        if !desc.inq {
            return Ok(None);
        }
        let (unread, ended) = match desc.kind {
            Kind::Conn { id, .. } => match inner.shard.info(id) {
                Ok(info) => (info.unread_bytes, has_ended(info.state)),
                Err(_) => (0, true),
            },
            Kind::Kernel => {
                let fd = inner.port(desc)?.fd();
                let unread = sys::ioctl_int(fd, IntRequest::FionRead)?;
                let mut fds = [sys::pollfd { fd, events: libc::POLLRDHUP, revents: 0 }];
                let ended = sys::ppoll(&mut fds, Some(std::time::Duration::ZERO))? > 0;
                (usize::try_from(unread).unwrap_or(0), ended)
            }
            _ => return Ok(None),
        };
        Ok(Some(i32::try_from(unread + usize::from(ended)).unwrap_or(i32::MAX)))
    }

    /// Bytes that a send would take now; for the kernel's sockets, as far as its POLLOUT tells.
    ///
    /// # Errors
    /// EBADF.
    pub fn send_room(&self, vfd: Vfd) -> Result<usize, Errno> {
        let mut inner = self.lock();
        inner.app_turn();
        let desc = inner.desc(vfd)?;
        match desc.kind {
            Kind::Conn { id, .. } => Ok(inner.shard.info(id).map_or(0, |i| i.send_room_bytes)),
            Kind::Kernel => {
                let fd = inner.port(desc)?.fd();
                drop(inner);
                let mut fds = [sys::pollfd { fd, events: libc::POLLOUT, revents: 0 }];
                let ready = sys::ppoll(&mut fds, Some(std::time::Duration::ZERO))?;
                // POLLOUT means a third of the buffer, which is never less than a TLS record.
                Ok(if ready > 0 { KERNEL_ROOM } else { 0 })
            }
            _ => Ok(0),
        }
    }

    /// What ioctl(2) says of the queues, as tcp(7) has it.
    ///
    /// # Errors
    /// EBADF; EINVAL for a listener's queues.
    pub fn ioctl_int(&self, vfd: Vfd, request: IntRequest) -> Result<i32, Errno> {
        let mut inner = self.lock();
        inner.app_turn();
        let desc = inner.desc(vfd)?;
        let id = match desc.kind {
            Kind::Conn { id, .. } => id,
            Kind::Kernel => return sys::ioctl_int(inner.port(desc)?.fd(), request),
            Kind::Listener(_) if request != IntRequest::SiocAtMark => {
                return Err(Errno(libc::EINVAL));
            }
            _ => return Ok(0),
        };
        let Ok(info) = inner.shard.info(id) else { return Ok(0) };
        let bytes = match request {
            IntRequest::FionRead => info.unread_bytes,
            // Our FIN counts while it is not acknowledged.
            IntRequest::SiocOutq => info.unacked_bytes + usize::from(owes_fin(info.state)),
            IntRequest::SiocOutqNsd => {
                inner.shard.tcp_info(inner.now(), id).map_or(0, |i| i.notsent_bytes as usize)
            }
            IntRequest::SiocAtMark => usize::from(inner.shard.is_at_mark(id)),
        };
        Ok(i32::try_from(bytes).unwrap_or(i32::MAX))
    }
}
