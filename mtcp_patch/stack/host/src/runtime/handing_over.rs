//! Sockets that leave this stack: another process is to have them, or C code that makes its own
//! system calls. They become the kernel's, which all of these share.
//!
//! A connection of ours cannot leave: its TCB lives in this process. A listener can until it has
//! served somebody, because the kernel would reset the connections that it does not know.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::PoisonError;

use socket2::{Domain, Socket, Type};

use super::desc::{Desc, Kind};
use super::port::Port;
use super::shared::Sharing;
use super::state::Inner;
use super::vfd::{is_virtual, Vfd};
use super::{Runtime, PENDING};
use crate::errno::Errno;

impl Inner {
    /// Makes a description the kernel's.
    fn give_to_kernel(&mut self, index: usize) -> Result<RawFd, Errno> {
        let desc = self.descs.get(index).ok_or(Errno(libc::EBADF))?;
        match desc.kind {
            Kind::Fresh if desc.owns_port => self.become_kernels(index),
            // Each connection of a shared port stays where it began, so the kernel's half will do.
            Kind::Listener(_) if desc.shared.is_some() => {}
            Kind::Listener(id) if !desc.served && self.shard.accept_queue_len(id) == 0 => {
                self.hand_over_listener(index, id, "it was handed to another process or to C code");
                self.retire_devices();
            }
            Kind::Listener(_) => return Err(Errno(libc::EBUSY)),
            Kind::Kernel => {}
            Kind::Fresh | Kind::Conn { .. } | Kind::Deaf | Kind::Inherited => {
                return Err(Errno(libc::EOPNOTSUPP));
            }
        }
        let desc = self.descs.get(index).ok_or(Errno(libc::EBADF))?;
        Ok(self.port(desc)?.fd())
    }

    fn become_kernels(&mut self, index: usize) {
        if let Some(desc) = self.descs.get_mut(index) {
            desc.kind = Kind::Kernel;
        }
        self.attach_kernel_half(index);
        self.notify(index);
    }
}

impl Runtime {
    /// The inheritable descriptors of the process, ascending. In a forked child they are known
    /// without the stack being started for it.
    pub fn inheritables() -> Vec<Vfd> {
        if Self::is_started() {
            return Self::global().lock().vfds.inheritables().collect();
        }
        let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        pending.inherited.iter().filter(|i| i.inheritable).map(|i| i.vfd).collect()
    }

    /// Makes the socket the kernel's for good; the kernel descriptor that does its work, which
    /// stays the runtime's. It is non-blocking whatever the program asked for.
    ///
    /// # Errors
    /// EOPNOTSUPP for a connection of ours; EBUSY for a listener that has served some; EBADF.
    pub fn give_to_kernel(&self, vfd: Vfd) -> Result<RawFd, Errno> {
        let mut inner = self.lock();
        let index = inner.index(vfd)?;
        inner.give_to_kernel(index)
    }

    /// Takes over a TCP socket that another process had given to the kernel: a virtual descriptor,
    /// the number `at` if given, under which the kernel goes on serving it.
    ///
    /// # Errors
    /// EINVAL if it is no TCP socket of the Internet's, EEXIST if the number is in use.
    pub fn adopt(&self, fd: OwnedFd, at: Option<Vfd>) -> Result<Vfd, Errno> {
        let socket = Socket::from(fd);
        let address = socket.local_addr()?;
        let family = match address.domain() {
            Domain::IPV4 => libc::AF_INET,
            Domain::IPV6 => libc::AF_INET6,
            _ => return Err(Errno(libc::EINVAL)),
        };
        if socket.r#type()? != Type::STREAM {
            return Err(Errno(libc::EINVAL));
        }
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        let port = Port::of(socket);
        let mut inner = self.lock();
        match at {
            Some(vfd) if !is_virtual(vfd) => return Err(Errno(libc::EINVAL)),
            Some(vfd) if inner.index(vfd).is_ok() => return Err(Errno(libc::EEXIST)),
            _ => {}
        }
        let mut desc = Desc::new(family, Kind::Kernel, None, true);
        desc.learn_options(port.fd(), Port::new(family, 0)?.fd());
        desc.shared = Some(Sharing::default());
        if let Some(vfd) = at {
            inner.adopt(vfd, desc, Some(port));
            return Ok(vfd);
        }
        let port = inner.ports.insert(port);
        let desc = Desc { port: Some(port), ..desc };
        inner.open(desc).map(|(vfd, _)| vfd)
    }
}
