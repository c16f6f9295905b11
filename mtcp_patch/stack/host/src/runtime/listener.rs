//! Listening and accepting. A listener is the union of our accept queue and the kernel's: what
//! the devices steer comes to ours, what arrives by any other interface is accepted as an
//! ordinary kernel socket, so nothing becomes unreachable.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use mtcp_engine::ConnOptions;
use mtcp_engine::{ListenOptions, ListenerId};

use super::desc::{Desc, Kind};
use super::endpoint::{shown, unmapped};
use super::shared::Sharing;
use super::state::Inner;
use super::vfd::Vfd;
use super::Runtime;
use crate::errno::Errno;

/// The shortest accept queue, however small the backlog. A SYN that finds the queue full is lost
/// and costs its client one second, the next three: on the kernel's stack the standard library's
/// servers (backlog 5) stall so under a few dozen simultaneous clients. A queue entry of ours costs
/// a kilobyte.
const MIN_QUEUE: usize = 1024;

/// What `accept` handed out.
#[derive(Debug)]
pub enum Accepted {
    /// A connection of ours, and its peer.
    Virtual(Vfd, SocketAddr),
    /// A connection of the kernel's, and its peer.
    Kernel(OwnedFd, SocketAddr),
}

impl Inner {
    fn listen(&mut self, vfd: Vfd, backlog: i32) -> Result<(), Errno> {
        let index = self.index(vfd)?;
        let desc = self.desc(vfd)?;
        let kind = desc.kind;
        if !matches!(kind, Kind::Fresh | Kind::Listener(_) | Kind::Kernel) {
            return Err(Errno(libc::EINVAL));
        }
        let pinned = desc.pinned;
        let family = desc.family;
        let inherit = desc.conn_options(family == libc::AF_INET);
        let port = self.port(desc)?;
        port.socket.listen(backlog)?;
        // listen(2): a negative backlog is as good as the largest.
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX).max(MIN_QUEUE);
        if let Kind::Listener(id) = kind {
            self.shard.set_backlog(id, backlog);
            return Ok(());
        }
        let local = port.local()?;
        let v6only = family == libc::AF_INET6 && port.socket.only_v6().unwrap_or(true);
        let new_kind = if pinned.is_some() || kind == Kind::Kernel {
            Kind::Kernel
        } else {
            self.listen_ours(index, local, v6only, backlog, inherit)
        };
        if let Some(desc) = self.descs.get_mut(index) {
            desc.kind = new_kind;
        }
        self.attach_kernel_half(index);
        self.notify(index);
        Ok(())
    }

    /// The engine's half of a listener; the kernel's alone when the engine cannot have it, as when
    /// two sockets share a port by SO_REUSEPORT.
    fn listen_ours(
        &mut self,
        index: usize,
        local: SocketAddr,
        v6only: bool,
        backlog: usize,
        inherit: ConnOptions,
    ) -> Kind {
        let plain = unmapped(&local);
        let Ok(id) = self.listen_engine(plain, v6only, backlog, inherit) else {
            self.devices.messages.push(format!(
                "{local}: a second listener on one port (SO_REUSEPORT) is served by the kernel"
            ));
            return Kind::Kernel;
        };
        self.by_listener.insert(id, index);
        self.publish(id, plain, v6only);
        let mut steered = self.devices.steer_all(plain);
        if plain.is_ipv6() && plain.ip().is_unspecified() && !v6only {
            let v4 = SocketAddr::new(super::endpoint::wildcard(libc::AF_INET), plain.port());
            steered.extend(self.devices.steer_all(v4));
        }
        let port = self.descs.get(index).and_then(|d| d.port);
        if let Some(port) = port.and_then(|p| self.ports.get_mut(p)) {
            port.steered.extend(steered);
        }
        Kind::Listener(id)
    }

    /// A listener of the engine's.
    pub fn listen_engine(
        &mut self,
        local: SocketAddr,
        v6only: bool,
        backlog: usize,
        inherit: ConnOptions,
    ) -> Result<ListenerId, Errno> {
        let backlog = backlog.max(MIN_QUEUE);
        let options = ListenOptions { local, v6only, backlog, inherit };
        self.shard.listen(options).map_err(Errno::from)
    }

    /// The next connection of our accept queue, `None` when it is empty.
    fn accept_ours(&mut self, vfd: Vfd) -> Result<Option<Accepted>, Errno> {
        let desc = self.desc(vfd)?;
        let id = match desc.kind {
            Kind::Listener(id) => id,
            Kind::Kernel => return Ok(None),
            _ => return Err(Errno(libc::EINVAL)),
        };
        let Ok(conn) = self.shard.accept(id) else { return Ok(None) };
        let desc = self.desc_mut(vfd)?;
        desc.served = true;
        if desc.shared.is_some() {
            self.has_connection();
        }
        let desc = self.desc(vfd)?;
        let mut new =
            Desc::new(desc.family, Kind::Conn { id: conn, connecting: false }, desc.port, false);
        new.options = desc.options;
        new.overrides = desc.overrides.clone();
        new.linger = desc.linger;
        (new.header_v4, new.header_v6) = (desc.header_v4, desc.header_v6);
        (new.recv_timeout, new.send_timeout) = (desc.recv_timeout, desc.send_timeout);
        new.inq = desc.inq;
        let family = desc.family;
        self.hold_port(new.port);
        let info = self.shard.info(conn).map_err(Errno::from)?;
        let options = new.conn_options(info.local.is_ipv4());
        let peer = info.remote;
        if info.options != options {
            // They were changed after listen().
            let now = self.now();
            self.shard.set_options(now, conn, options);
        }
        match self.open(new) {
            Ok((vfd, index)) => {
                self.by_conn.insert(conn, index);
                Ok(Some(Accepted::Virtual(vfd, shown(peer, family))))
            }
            Err(e) => {
                let now = self.now();
                self.shard.abort(now, conn);
                Err(e)
            }
        }
    }

    /// The next connection of the kernel's half.
    fn accept_kernel(&self, vfd: Vfd) -> Result<Accepted, Errno> {
        let (socket, peer) = self.port(self.desc(vfd)?)?.socket.accept()?;
        // accept4(2) does not inherit O_NONBLOCK, and Python sets its own.
        socket.set_nonblocking(false)?;
        let peer = peer.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))?;
        Ok(Accepted::Kernel(socket.into(), peer))
    }

    /// Ends our half of a listener. Connections that nobody accepted are reset.
    pub fn end_listener(&mut self, id: ListenerId) {
        let now = self.now();
        // First: until the port is given back, nobody else can be meant by it.
        self.devices.peers.withdraw(id);
        self.by_listener.remove(&id);
        self.shard.close_listener(now, id);
    }

    /// Gives listeners that have served nobody yet to the kernel: a process that forks before its
    /// first connection means its children to accept, and they cannot reach this process's stack.
    pub fn hand_over_listeners(&mut self) {
        let fresh: Vec<(usize, ListenerId)> = self
            .descs
            .iter()
            .filter_map(|(index, d)| match d.kind {
                Kind::Listener(id) if !d.served && d.shared.is_none() => Some((index, id)),
                _ => None,
            })
            .collect();
        // Those that wait are this process's to accept; all that come from now on are anybody's.
        let (waited_for, fresh): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|&(_, id)| self.is_waited_for(id));
        for (index, _) in waited_for {
            self.share_listener(index);
        }
        let why = "the process forked before its first connection and its children may accept";
        let handed_over = !fresh.is_empty();
        for (index, id) in fresh {
            self.hand_over_listener(index, id, why);
            if let Some(desc) = self.descs.get_mut(index) {
                desc.shared = Some(Sharing::default());
            }
        }
        if handed_over {
            self.retire_devices();
        }
    }

    /// Ends our half of a listener that has served nobody, and says why.
    pub fn hand_over_listener(&mut self, index: usize, id: ListenerId, why: &str) {
        self.end_listener(id);
        let Some(desc) = self.descs.get_mut(index) else { return };
        desc.kind = Kind::Kernel;
        let port = desc.port;
        self.unsteer_port(port);
        if let Some(Ok(local)) = port.and_then(|p| self.ports.get(p)).map(|p| p.local()) {
            self.devices.messages.push(format!("{local}: the kernel serves it, because {why}"));
        }
    }

    /// Registers the kernel socket behind a description that became a listener or the kernel's
    /// with every watcher that was there before.
    pub fn attach_kernel_half(&mut self, index: usize) {
        let Some(desc) = self.descs.get(index) else { return };
        if !desc.has_kernel_half() {
            return;
        }
        let Ok(port) = self.port(desc) else { return };
        let (fd, watches) = (port.fd(), desc.watches.clone());
        for w in watches {
            let Some(watcher) = self.watchers.get_mut(w.watcher) else { continue };
            let Some(events) = watcher.get(w.vfd).map(|e| e.events) else { continue };
            if let Err(e) = watcher.kernel_half(libc::EPOLL_CTL_ADD, fd, events, w.vfd) {
                self.devices.messages.push(format!("a kernel socket cannot be watched: {e}"));
            }
        }
    }
}

impl Runtime {
    /// Listens on both stacks. The first call of the process opens the devices.
    ///
    /// # Errors
    /// Those of listen(2), EADDRINUSE above all.
    pub fn listen(&self, vfd: Vfd, backlog: i32) -> Result<(), Errno> {
        if !self.is_open(vfd) {
            return Err(Errno(libc::EBADF));
        }
        self.open_devices_once();
        let mut inner = self.lock();
        inner.listen(vfd, backlog)?;
        self.ensure_driver(inner);
        Ok(())
    }

    /// The next connection of either stack; never blocks.
    ///
    /// # Errors
    /// EAGAIN when there is none; those of accept(2).
    pub fn accept(&self, vfd: Vfd) -> Result<Accepted, Errno> {
        let mut inner = self.lock();
        if inner.is_due(vfd) {
            drop(inner);
            self.take_over(vfd);
            inner = self.lock();
        }
        if let Some(accepted) = inner.accept_ours(vfd)? {
            return Ok(accepted);
        }
        inner.app_turn();
        if let Some(accepted) = inner.accept_ours(vfd)? {
            return Ok(accepted);
        }
        let accepted = inner.accept_kernel(vfd);
        let index = inner.index(vfd)?;
        if inner.descs.get(index).is_some_and(|desc| desc.shared.is_some()) {
            match accepted {
                Ok(_) => inner.has_connection(),
                Err(_) => inner.look_for_connection(index),
            }
        }
        accepted
    }
}
