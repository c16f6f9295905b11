//! What the engine tells its driver: events, readiness bits and errors.
//!
//! An [`Event`] says only that something may have changed; [`crate::shard::Shard::readiness`] says
//! what is true now. At most one event an object waits at any time, so the queue is bounded by the
//! number of objects.

use alloc::collections::VecDeque;
use core::fmt;

/// A connection of a shard. Generational: the id of a connection that is gone never names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A listener of a shard. Generational, as [`ConnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// The id as one word.
    pub const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
}

impl ListenerId {
    /// The id as one word.
    pub const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
}

/// Something that the driver of the shard should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The readiness of a connection may have changed, or more data came.
    Conn(ConnId),
    /// The accept queue of a listener has grown.
    Listener(ListenerId),
    /// A closed connection is gone altogether: its local port may be released.
    Freed(ConnId),
}

/// Readiness bits; the values of Linux `poll(2)` and `epoll(7)`.
pub mod ready {
    /// Data, end of stream or an error can be read.
    pub const IN: u32 = 0x1;
    /// Urgent data can be taken.
    pub const PRI: u32 = 0x2;
    /// At least a third of the send buffer is free, or a write would fail at once.
    pub const OUT: u32 = 0x4;
    /// An error is pending.
    pub const ERR: u32 = 0x8;
    /// Both directions are shut down.
    pub const HUP: u32 = 0x10;
    /// The peer sent FIN, or the application shut reading down.
    pub const RDHUP: u32 = 0x2000;
}

/// Why a call or a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Nothing to read, or no room to write, at the moment.
    WouldBlock,
    /// The connection is being made.
    InProgress,
    /// There is no connection.
    NotConnected,
    /// There is a connection already.
    AlreadyConnected,
    /// The peer answered the SYN with a reset.
    ConnectionRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// The connection was given up on this side.
    ConnectionAborted,
    /// Writing after the connection was shut down for it.
    BrokenPipe,
    /// The peer has not answered for too long.
    TimedOut,
    /// A router says that the host cannot be reached.
    HostUnreachable,
    /// A router says that the network cannot be reached.
    NetUnreachable,
    /// The address and port are taken.
    AddrInUse,
    /// An argument makes no sense.
    Invalid,
    /// A limit of [`crate::limits`] is reached.
    NoBuffers,
    /// The id names nothing, or something that is gone.
    BadId,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "the operation would block",
            Self::InProgress => "the connection is being made",
            Self::NotConnected => "not connected",
            Self::AlreadyConnected => "already connected",
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset by peer",
            Self::ConnectionAborted => "connection aborted",
            Self::BrokenPipe => "broken pipe",
            Self::TimedOut => "connection timed out",
            Self::HostUnreachable => "no route to host",
            Self::NetUnreachable => "network is unreachable",
            Self::AddrInUse => "address already in use",
            Self::Invalid => "invalid argument",
            Self::NoBuffers => "no buffer space available",
            Self::BadId => "no such connection or listener",
        })
    }
}

impl core::error::Error for Error {}

/// The queue of events, flushed by the driver once a batch. Deduplication is a flag in each object.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
}

impl Events {
    /// Queues `event` unless `pending` says that one waits already.
    pub(crate) fn push(&mut self, event: Event, pending: &mut bool) {
        if !*pending {
            *pending = true;
            self.queue.push_back(event);
        }
    }

    /// Queues an event that can occur only once.
    pub(crate) fn push_once(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// The oldest event. The caller clears the flag of its object.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_an_object() {
        let mut events = Events::default();
        let id = ConnId { index: 1, generation: 2 };
        let mut pending = false;
        events.push(Event::Conn(id), &mut pending);
        events.push(Event::Conn(id), &mut pending);
        assert_eq!(events.pop(), Some(Event::Conn(id)));
        assert_eq!(events.pop(), None);
        assert_eq!(id.as_u64(), 2 << 32 | 1);
    }
}
