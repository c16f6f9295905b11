//! The kernel's TCP behind epoll, level-triggered: what a careful C program does.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::Timespec;
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Id, Net, Ready};

/// Events of one epoll_wait(2).
const EVENTS: usize = 512;

/// An epoll and its sockets.
pub struct Kernel {
    epoll: OwnedFd,
    sockets: Slab<Socket>,
    events: Vec<epoll::Event>,
}

impl Kernel {
    /// # Errors
    /// Those of epoll_create(2).
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, sockets: Slab::new(), events: Vec::with_capacity(EVENTS) })
    }

    fn socket(&self, id: Id) -> io::Result<&Socket> {
        self.sockets.get(id).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn add(&mut self, socket: Socket, flags: EventFlags) -> io::Result<Id> {
        let entry = self.sockets.vacant_entry();
        let id = entry.key();
        epoll::add(&self.epoll, &socket, EventData::new_u64(id as u64), flags)?;
        entry.insert(socket);
        Ok(id)
    }

    fn change(&self, id: Id, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(id as u64);
        Ok(epoll::modify(&self.epoll, self.socket(id)?, data, flags)?)
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

impl Net for Kernel {
    fn connect(&mut self, to: SocketAddr) -> io::Result<Id> {
        let socket = new_socket(to)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&SockAddr::from(to)) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        self.add(socket, EventFlags::IN | EventFlags::OUT)
    }

    fn connected(&mut self, id: Id) -> io::Result<()> {
        if let Some(e) = self.socket(id)?.take_error()? {
            return Err(e);
        }
        self.change(id, EventFlags::IN)
    }

    fn listen(&mut self, at: SocketAddr, backlog: i32) -> io::Result<Id> {
        let socket = new_socket(at)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(at))?;
        socket.listen(backlog)?;
        self.add(socket, EventFlags::IN)
    }

    fn accept(&mut self, listener: Id) -> io::Result<Id> {
        // accept4(2) with both flags, so that a connection costs no call more than it must.
        let (fd, _) = self.socket(listener)?.accept_raw()?;
        fd.set_tcp_nodelay(true)?;
        fd.set_nonblocking(true)?;
        self.add(fd, EventFlags::IN)
    }

    #[inline]
    fn send(&mut self, id: Id, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.socket(id)?, data, rustix::net::SendFlags::NOSIGNAL)?)
    }

    #[inline]
    fn recv(&mut self, id: Id, buf: &mut [u8]) -> io::Result<usize> {
        let socket = self.socket(id)?;
        Ok(rustix::net::recv(socket, buf, rustix::net::RecvFlags::empty())?.0)
    }

    fn want_room(&mut self, id: Id, on: bool) -> io::Result<()> {
        self.change(id, if on { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN })
    }

    fn close(&mut self, id: Id) {
        self.sockets.try_remove(id);
    }

    fn wait(&mut self, timeout: Option<Duration>, news: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        let timeout = timeout.unwrap_or_default();
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let always = EventFlags::ERR | EventFlags::HUP;
        news.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                id: event.data.u64() as Id,
                readable: flags.intersects(EventFlags::IN | always),
                writable: flags.intersects(EventFlags::OUT | always),
            }
        }));
        Ok(())
    }

    fn carrier(&mut self) -> String {
        "kernel".to_owned()
    }
}
