//! How two processes meet: an AF_UNIX socket of packets, and three messages.
//!
//! ```text
//!     client                                    server
//!       connect, HELLO + memory of the rings ──►  checks user and memory, maps it
//!       open                               ◄──  WELCOME, or the end
//!       BELL ◄─► BELL                           while the other sleeps; no more than one on its way
//!       the end ◄─► the end                     the other is gone
//! ```
//! The server looks at the client's user (SO_PEERCRED) although nobody else may enter the directory, and
//! the client at the server's. Nothing here waits: every socket is non-blocking, and every call besides
//! says MSG_DONTWAIT, because the flags of a socket are shared with nobody but a forked child.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::shared::RING_BYTES;
use crate::runtime_fd::RuntimeFd;
use crate::sys;

/// Clients that may wait to be let in.
const BACKLOG: i32 = 64;

/// The first bytes of a HELLO: what we speak, and its version. The bytes of a ring follow.
const HELLO: [u8; 8] = *b"mtcpmem\x01";
const HELLO_BYTES: usize = HELLO.len() + 4;
const WELCOME: [u8; 1] = *b"W";
const BELL: [u8; 1] = *b"B";

/// Longer than any message, so that a longer one is not taken for one of ours.
const LONGEST: usize = 32;

/// What has come from the other side.
#[derive(Debug)]
pub(crate) enum Message {
    /// The memory of two rings, and the bytes of each as the client says.
    Hello(OwnedFd, u32),
    Welcome,
    Bell,
}

/// Why nothing has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Later, perhaps.
    Yet,
    /// It is gone, or says what nobody says.
    Ever,
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// The socket of a process that serves.
pub(crate) fn listen(path: &Path) -> io::Result<RuntimeFd> {
    let socket = socket()?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(RuntimeFd::new(socket))
}

/// The next client, when there is one of our user.
pub(crate) fn accept(listener: &OwnedFd) -> Option<RuntimeFd> {
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match net::accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            // Out of descriptors: it waits, and goes by the kernel when it has waited long enough.
            Err(_) => return None,
        };
        if is_ours(&socket) {
            return Some(RuntimeFd::new(socket));
        }
    }
}

fn is_ours(socket: &OwnedFd) -> bool {
    let user = net::sockopt::socket_peercred(socket).map(|peer| peer.uid.as_raw());
    user == Ok(sys::effective_uid())
}

/// Calls at the socket of another process.
///
/// # Errors
/// See [`is_gone`]. `WouldBlock`: too many wait there.
pub(crate) fn dial(path: &Path) -> io::Result<RuntimeFd> {
    let socket = socket()?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    if !is_ours(&socket) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(RuntimeFd::new(socket))
}

/// Whether a failed [`dial`] says that the process is no more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// The process at the other end, as it was when the two met.
pub(crate) fn peer_pid(socket: &OwnedFd) -> u32 {
    let peer = net::sockopt::socket_peercred(socket);
    peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get().unsigned_abs())
}

fn send(socket: &OwnedFd, bytes: &[u8], ancillary: &mut SendAncillaryBuffer<'_, '_, '_>) -> bool {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    net::sendmsg(socket, &[IoSlice::new(bytes)], ancillary, flags).is_ok()
}

/// Offers the memory of the rings. False: the other side does not take it.
pub(crate) fn hello(socket: &OwnedFd, memory: &OwnedFd) -> bool {
    use std::os::fd::AsFd;
    let mut bytes = [0; HELLO_BYTES];
    bytes[..HELLO.len()].copy_from_slice(&HELLO);
    bytes[HELLO.len()..].copy_from_slice(&RING_BYTES.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let memory = [memory.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&memory)) && send(socket, &bytes, &mut ancillary)
}

/// Lets the client in. False: it is gone.
pub(crate) fn welcome(socket: &OwnedFd) -> bool {
    send(socket, &WELCOME, &mut SendAncillaryBuffer::default())
}

/// Wakes the other side. A socket that takes no more holds bells enough; one that is closed is found out
/// by its end.
pub(crate) fn ring(socket: &OwnedFd) {
    send(socket, &BELL, &mut SendAncillaryBuffer::default());
}

/// The next message.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Message, Nothing> {
    let mut bytes = [0; LONGEST];
    // Room for one descriptor more than is wanted: a second one is noticed, and closed.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut into = [IoSliceMut::new(&mut bytes)];
    let len = match net::recvmsg(socket, &mut into, &mut ancillary, flags) {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Err(Nothing::Yet),
        Err(_) => return Err(Nothing::Ever),
    };
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let memory = descriptors.pop();
    if !descriptors.is_empty() {
        return Err(Nothing::Ever);
    }
    match (bytes.get(..len).unwrap_or_default(), memory) {
        (text, None) if text == BELL => Ok(Message::Bell),
        (text, None) if text == WELCOME => Ok(Message::Welcome),
        (&[ref head @ .., a, b, c, d], Some(memory)) if head == HELLO => {
            Ok(Message::Hello(memory, u32::from_le_bytes([a, b, c, d])))
        }
        _ => Err(Nothing::Ever),
    }
}
