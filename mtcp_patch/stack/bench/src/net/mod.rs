//! The few calls that the bench needs of a TCP stack. Nothing blocks but [`Net::wait`].

pub mod kernel;
pub mod ours;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A listener or a connection: small numbers, used again after [`Net::close`].
pub type Id = usize;

/// What a listener or a connection is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose news it is.
    pub id: Id,
    /// Something came: data, an end, an error, a connection to accept.
    pub readable: bool,
    /// There is room, or the connection is made, or has failed to be.
    pub writable: bool,
}

/// A TCP stack. Every connection has TCP_NODELAY: the delayed acknowledgment of a peer must not be
/// what is measured.
pub trait Net {
    /// Begins a connection, which is then ready for writing when it is made or has failed.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2).
    fn connect(&mut self, to: SocketAddr) -> io::Result<Id>;

    /// What became of [`Net::connect`], once ready for writing; from then on readiness for writing is
    /// told only when [`Net::want_room`] asks for it.
    ///
    /// # Errors
    /// Those of connect(2).
    fn connected(&mut self, id: Id) -> io::Result<()>;

    /// Listens.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    fn listen(&mut self, at: SocketAddr, backlog: i32) -> io::Result<Id>;

    /// The next connection of a listener.
    ///
    /// # Errors
    /// `WouldBlock`; those of accept(2); one that came by a stack other than this.
    fn accept(&mut self, listener: Id) -> io::Result<Id>;

    /// # Errors
    /// `WouldBlock`; those of send(2).
    fn send(&mut self, id: Id, data: &[u8]) -> io::Result<usize>;

    /// 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`; those of recv(2).
    fn recv(&mut self, id: Id, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether readiness for writing is to be told.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    fn want_room(&mut self, id: Id, on: bool) -> io::Result<()>;

    /// Ends a listener or a connection.
    fn close(&mut self, id: Id);

    /// Sleeps until there is news, at most `timeout`; none: look and come back.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    fn wait(&mut self, timeout: Option<Duration>, news: &mut Vec<Ready>) -> io::Result<()>;

    /// What carries a connection: `kernel`, or our device.
    fn carrier(&mut self) -> String;
}

/// Whether an operation is merely to be tried later.
pub fn is_later(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
