//! Open file descriptions: what a virtual descriptor and its duplicates refer to.

use std::time::Duration;

use mtcp_engine::ConnOptions;
use mtcp_engine::State;
use mtcp_engine::{ConnId, ListenerId};

use super::options::Header;
use super::shared::Sharing;
use super::vfd::Vfd;

/// Which stack serves a description, and by which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Made by `socket()`, perhaps bound, neither listening nor connecting.
    Fresh,
    /// Listening on both stacks: ours for what the devices steer to us, the kernel's for the rest.
    Listener(ListenerId),
    /// A connection of ours. `connecting` until a later `connect()` or use found it established,
    /// which decides what a repeated `connect()` answers.
    Conn { id: ConnId, connecting: bool },
    /// The kernel socket behind it does everything.
    Kernel,
    /// A listener after `shutdown()`: bound, never accepting again.
    Deaf,
    /// A connection that this process inherited by fork: it stays the parent's.
    Inherited,
}

/// Who wants to hear about a description, and under which of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub watcher: usize,
    pub vfd: Vfd,
}

/// An open file description (POSIX), shared by `dup`ed descriptors.
pub(super) struct Desc {
    /// Open descriptors that refer to it.
    pub refs: u32,
    pub family: i32,
    pub kind: Kind,
    /// O_NONBLOCK, apart from Python's timeout.
    pub nonblocking: bool,
    /// The kernel socket that reserves the local port; a connection from `accept()` shares its
    /// listener's.
    pub port: Option<usize>,
    /// Whether `port` is this description's own, so that its options are the kernel socket's.
    pub owns_port: bool,
    /// The options that the engine honours, as set so far.
    pub options: ConnOptions,
    /// IP_TOS and IP_TTL; IPV6_TCLASS and IPV6_UNICAST_HOPS.
    pub header_v4: Header,
    pub header_v6: Header,
    /// The seconds of SO_LINGER, when it is on.
    pub linger: Option<u32>,
    /// SO_RCVTIMEO; `None`: for ever.
    pub recv_timeout: Option<Duration>,
    /// SO_SNDTIMEO.
    pub send_timeout: Option<Duration>,
    /// `recvmsg` tells what is left to read (TCP_INQ).
    pub inq: bool,
    /// Options of a connection that has no kernel socket of its own to remember them.
    pub overrides: Vec<((i32, i32), Vec<u8>)>,
    /// A listener that has handed out a connection of ours.
    pub served: bool,
    /// Why this socket must be the kernel's, once an option asked for what only it has.
    pub pinned: Option<(i32, i32)>,
    /// Of a listener, or a socket that may become one, that other processes have too.
    pub shared: Option<Sharing>,
    pub watches: Vec<Watch>,
}

impl Desc {
    /// A description with nothing set.
    pub fn new(family: i32, kind: Kind, port: Option<usize>, owns_port: bool) -> Self {
        Self {
            refs: 1,
            family,
            kind,
            nonblocking: false,
            port,
            owns_port,
            options: ConnOptions::default(),
            header_v4: Header::default(),
            header_v6: Header::default(),
            linger: None,
            recv_timeout: None,
            send_timeout: None,
            inq: false,
            overrides: Vec::new(),
            served: false,
            pinned: None,
            shared: None,
            watches: Vec::new(),
        }
    }

    /// The engine's connection, while there is one.
    pub fn conn(&self) -> Option<ConnId> {
        match self.kind {
            Kind::Conn { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Whether readiness must (also) be asked of the kernel socket behind it.
    pub fn has_kernel_half(&self) -> bool {
        matches!(self.kind, Kind::Listener(_) | Kind::Kernel)
    }
}

/// The handshake is not over.
pub(super) fn is_connecting(state: State) -> bool {
    matches!(state, State::SynSent | State::SynReceived)
}

/// There is a peer. In TIME-WAIT there is none any more, as Linux's getpeername(2) has it.
pub(super) fn is_connected(state: State) -> bool {
    !is_connecting(state) && !matches!(state, State::TimeWait | State::Closed)
}

/// The peer's FIN has arrived.
pub(super) fn has_ended(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
}

/// Our FIN was sent and the peer has not acknowledged it.
pub(super) fn owes_fin(state: State) -> bool {
    matches!(state, State::FinWait1 | State::Closing | State::LastAck)
}
