//! Local ports. Each is reserved by a bound kernel socket, so that permissions, EADDRINUSE,
//! ephemeral choice and `getsockname` are the kernel's own and the two stacks never own one port.
//!
//! A port is shared by a listener and the connections that it accepted, and outlives both until
//! the last TCB on it, TIME-WAIT included, is gone. Only then is it unsteered and closed.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use mtcp_engine::device::DeviceId;
use mtcp_engine::{Config, State};
use socket2::{Domain, Protocol, Socket, Type};

use super::state::Inner;
use crate::errno::Errno;
use crate::runtime_fd::RuntimeFd;
use crate::sys;

/// Kernel sockets kept for connections of ours in TIME-WAIT that we opened. The port of an older
/// one goes back to the kernel early, so that a client that connects often does not run out of
/// descriptors; its TCB stays, and the peer's late segments are the kernel's to answer.
pub(super) const MAX_RESERVING: usize = 32;

/// A reserved local port and what the devices steer to us because of it.
pub(super) struct Port {
    pub socket: RuntimeFd<Socket>,
    /// Descriptions and orphaned connections that hold it.
    pub refs: u32,
    /// What was steered, to be taken back.
    pub steered: Vec<(DeviceId, SocketAddr)>,
    /// The program did not bind; `connect()` had the kernel choose the number.
    pub chosen_for_it: bool,
}

impl Port {
    /// A kernel TCP socket of `family`, non-blocking and close-on-exec, held once.
    pub fn new(family: i32, proto: i32) -> Result<Self, Errno> {
        let ty = Type::STREAM.nonblocking().cloexec();
        Ok(Self::of(Socket::new_raw(Domain::from(family), ty, Some(Protocol::from(proto)))?))
    }

    /// The same for a host without addresses of its own: bind(2) takes any address (IP_FREEBIND
    /// needs no privilege), and nothing ever reaches the kernel socket there. It shows what
    /// `config` says of keepalive and the receive buffer as a kernel does whose sysctls say so.
    pub fn anywhere(family: i32, proto: i32, config: &Config) -> Result<Self, Errno> {
        let keepalive = config.keepalive();
        let port = Self::new(family, proto)?;
        let values = [
            (libc::TCP_KEEPIDLE, keepalive.idle_us / 1_000_000),
            (libc::TCP_KEEPINTVL, keepalive.interval_us / 1_000_000),
            (libc::TCP_KEEPCNT, u64::from(keepalive.count)),
        ];
        for (name, value) in values {
            let value = i32::try_from(value).unwrap_or(i32::MAX).to_ne_bytes();
            sys::setsockopt(port.fd(), libc::IPPROTO_TCP, name, &value)?;
        }
        if config.recv_buffer_initial_bytes != Config::default().recv_buffer_initial_bytes {
            // socket(7): shown doubled.
            port.socket.set_recv_buffer_size(config.recv_buffer_initial_bytes)?;
        }
        if family == libc::AF_INET6 {
            port.socket.set_freebind_v6(true)?;
        } else {
            port.socket.set_freebind_v4(true)?;
        }
        Ok(port)
    }

    /// The kernel descriptor.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The address that the kernel socket is bound to.
    pub fn local(&self) -> Result<SocketAddr, Errno> {
        let addr = self.socket.local_addr()?;
        addr.as_socket().ok_or(Errno(libc::EAFNOSUPPORT))
    }

    /// Gives up a number that was chosen for it, as the kernel does when an attempt to connect has
    /// failed. The kernel does so for a socket that ceases to listen; its options stay.
    pub fn unbind(&mut self) -> Result<(), Errno> {
        if std::mem::take(&mut self.chosen_for_it) {
            self.socket.listen(0)?;
            self.socket.shutdown(std::net::Shutdown::Both)?;
        }
        Ok(())
    }

    /// A kernel socket that was made elsewhere, held once.
    pub fn of(socket: Socket) -> Self {
        let socket = RuntimeFd::new(socket);
        Self { socket, refs: 1, steered: Vec::new(), chosen_for_it: false }
    }

    /// The same kernel socket for a forked child, which shares it with its parent.
    pub fn inherit(&self) -> Result<Self, Errno> {
        Ok(Self::of(self.socket.try_clone()?))
    }
}

impl Inner {
    /// Takes back what a port had steered to us.
    pub fn unsteer_port(&mut self, port: Option<usize>) {
        let Some(p) = port.and_then(|p| self.ports.get_mut(p)) else { return };
        for (device, local) in std::mem::take(&mut p.steered) {
            self.devices.unsteer(device, local);
        }
    }

    /// Gives back the oldest ports that only TIME-WAIT still holds, down to [`MAX_RESERVING`].
    pub fn release_old_reservations(&mut self) {
        // Two for each close find what can go in time, and keep a close from looking at all those
        // whose peer has not closed yet.
        let mut looks = self.reserving.len().min(2);
        while self.reserving.len() > MAX_RESERVING && looks > 0 {
            looks -= 1;
            let Some(id) = self.reserving.pop_front() else { return };
            match self.shard.info(id).map(|i| i.state) {
                Ok(State::TimeWait | State::Closed) | Err(_) => {
                    if let Some(port) = self.orphans.remove(&id) {
                        self.release_port(Some(port));
                    }
                }
                // Still ending: it needs its port.
                Ok(_) => self.reserving.push_back(id),
            }
        }
    }
}
