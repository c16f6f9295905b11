//! Listeners: the SYN queue and the accept queue.
//!
//! A half-open connection is a [`crate::tcp::request::Request`], counted here in the SYN queue;
//! established ones wait in the accept queue until the application takes them. Both are bounded.
//! What happens to them is the shard's `passive`.

use alloc::collections::VecDeque;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::{ConnId, ListenerId};
use crate::limits::MAX_BACKLOG;
use crate::tcp::tcb::ConnOptions;
use crate::time::Instant;

/// What to listen on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Address and port; an unspecified address stands for all of the family, and `::` without
    /// `v6only` for IPv4 as well.
    pub local: SocketAddr,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// Most connections that wait for accept (Linux lets in one more, and so do we).
    pub backlog: usize,
    /// Options of the accepted connections.
    pub inherit: ConnOptions,
}

/// What there is to see of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Its id.
    pub id: ListenerId,
    /// Address and port.
    pub local: SocketAddr,
    /// Connections that wait for accept.
    pub accept_queue: usize,
    /// Half-open connections.
    pub syn_queue: usize,
    /// Most connections that may wait.
    pub backlog: usize,
}

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    pub(crate) options: ListenOptions,
    pub(crate) accept_queue: VecDeque<ConnId>,
    pub(crate) syn_queue: usize,
    /// Without SYN cookies: the SYN queue, oldest first; connections that have left it may still be
    /// named.
    pub(crate) half_open: VecDeque<ConnId>,
    /// Until when a cookie may come back (Linux: `tcp_synq_no_recent_overflow`).
    pub(crate) cookies_until: Option<Instant>,
    pub(crate) event_pending: bool,
}

impl Listener {
    pub(crate) fn new(id: ListenerId, options: ListenOptions) -> Self {
        let mut listener = Self {
            id,
            options,
            accept_queue: VecDeque::new(),
            syn_queue: 0,
            half_open: VecDeque::new(),
            cookies_until: None,
            event_pending: false,
        };
        listener.set_backlog(options.backlog);
        listener
    }

    pub(crate) fn set_backlog(&mut self, backlog: usize) {
        self.options.backlog = backlog.min(MAX_BACKLOG);
    }

    /// Linux `sk_acceptq_is_full`: more than the backlog wait, so one more than it is let in.
    pub(crate) fn is_full(&self) -> bool {
        self.accept_queue.len() > self.options.backlog
    }

    pub(crate) fn info(&self) -> ListenerInfo {
        ListenerInfo {
            id: self.id,
            local: self.options.local,
            accept_queue: self.accept_queue.len(),
            syn_queue: self.syn_queue,
            backlog: self.options.backlog,
        }
    }
}

/// Where a listener for `dst` may be registered, the most specific first; the flag says that an
/// `IPV6_V6ONLY` listener there does not count.
pub(crate) fn candidates(dst: SocketAddr) -> impl Iterator<Item = (SocketAddr, bool)> {
    let port = dst.port();
    let any_v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let exact = (SocketAddr::new(dst.ip(), port), false);
    let (wild, dual) = match dst {
        SocketAddr::V4(_) => {
            let any_v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            ((any_v4, false), Some((any_v6, true)))
        }
        SocketAddr::V6(_) => ((any_v6, false), None),
    };
    [exact, wild].into_iter().chain(dual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_candidate_comes_first() {
        let dst: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let all: std::vec::Vec<_> = candidates(dst).collect();
        let expected = [("10.0.0.1:80", false), ("0.0.0.0:80", false), ("[::]:80", true)];
        assert_eq!(all, expected.map(|(a, d)| (a.parse().unwrap(), d)));
        assert_eq!(candidates("[::1]:80".parse().unwrap()).count(), 2);
    }
}
