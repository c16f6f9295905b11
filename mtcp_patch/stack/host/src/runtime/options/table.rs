//! Every option of SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6 and IPPROTO_TCP that CPython's `socket`
//! names on Linux, and what becomes of it here. The one place where that is decided;
//! `docs/socket-options.md` is made from it (`scripts/socket_options.py`).

const SOL: i32 = libc::SOL_SOCKET;
const TCP: i32 = libc::IPPROTO_TCP;
const V4: i32 = libc::IPPROTO_IP;
const V6: i32 = libc::IPPROTO_IPV6;

/// What our stack does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The engine or the runtime acts on it, before connecting and after.
    Honoured,
    /// Read only, and answered from the state of our connection.
    Answered,
    /// Concerns only the reservation of the port, which is the kernel socket's.
    Port,
    /// The kernel takes it on a TCP socket and does nothing with it there; kept and answered.
    Inert,
    /// Only the kernel has it: set before listening or connecting it makes the socket the kernel's,
    /// afterwards it is refused with ENOPROTOOPT.
    KernelOnly,
    /// The kernel refuses it on a TCP socket, or without a privilege or a state that no connection
    /// of ours has; its errno is the answer.
    Refused,
}

impl Support {
    /// The word for it in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Answered => "answered",
            Self::Port => "port",
            Self::Inert => "inert",
            Self::KernelOnly => "kernel",
            Self::Refused => "refused",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct SocketOption {
    /// As in setsockopt(2).
    pub level: i32,
    /// As in setsockopt(2).
    pub name: i32,
    /// Its name in C and Python.
    pub label: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// What is to be said beyond that.
    pub note: &'static str,
}

const fn row(
    level: i32,
    name: i32,
    label: &'static str,
    support: Support,
    note: &'static str,
) -> SocketOption {
    SocketOption { level, name, label, support, note }
}

use Support::{Answered, Honoured, Inert, KernelOnly, Port, Refused};

/// The table, by level and number.
pub const TABLE: &[SocketOption] = &[
    row(SOL, 1, "SO_DEBUG", KernelOnly, "needs CAP_NET_ADMIN"),
    row(SOL, 2, "SO_REUSEADDR", Port, ""),
    row(SOL, 3, "SO_TYPE", Answered, ""),
    row(SOL, 4, "SO_ERROR", Answered, "the pending error, once"),
    row(SOL, 5, "SO_DONTROUTE", KernelOnly, ""),
    row(SOL, 6, "SO_BROADCAST", Inert, ""),
    row(
        SOL,
        7,
        "SO_SNDBUF",
        Honoured,
        "fixes the buffer; the kernel doubles the value, ours holds half of that as payload",
    ),
    row(
        SOL,
        8,
        "SO_RCVBUF",
        Honoured,
        "fixes the buffer and, before connecting, the window scale; doubled as SO_SNDBUF",
    ),
    row(SOL, 9, "SO_KEEPALIVE", Honoured, "RFC 9293 3.8.4"),
    row(SOL, 10, "SO_OOBINLINE", Honoured, "RFC 6093"),
    row(SOL, 12, "SO_PRIORITY", KernelOnly, "our frames pass no queueing discipline"),
    row(
        SOL,
        13,
        "SO_LINGER",
        Honoured,
        "with 0 seconds close resets; with more it blocks up to that time",
    ),
    row(SOL, 15, "SO_REUSEPORT", Port, "a second listener on one port is the kernel's"),
    row(SOL, 16, "SO_PASSCRED", Refused, "of AF_UNIX"),
    row(SOL, 17, "SO_PEERCRED", Answered, "as the kernel for TCP: nobody"),
    row(SOL, 18, "SO_RCVLOWAT", Honoured, ""),
    row(SOL, 19, "SO_SNDLOWAT", Answered, "always 1, as on the kernel"),
    row(SOL, 20, "SO_RCVTIMEO", Honoured, "bounds the waits of a blocking socket: EAGAIN"),
    row(
        SOL,
        21,
        "SO_SNDTIMEO",
        Honoured,
        "bounds the waits of a blocking socket: EAGAIN; of connect: EINPROGRESS",
    ),
    row(SOL, 25, "SO_BINDTODEVICE", KernelOnly, ""),
    row(SOL, 30, "SO_ACCEPTCONN", Answered, ""),
    row(SOL, 31, "SO_PEERSEC", Refused, "of security modules"),
    row(SOL, 34, "SO_PASSSEC", Refused, "of AF_UNIX"),
    row(SOL, 36, "SO_MARK", KernelOnly, "our frames pass no packet filter"),
    row(SOL, 38, "SO_PROTOCOL", Answered, ""),
    row(SOL, 39, "SO_DOMAIN", Answered, ""),
    row(SOL, 49, "SO_INCOMING_CPU", KernelOnly, ""),
    row(SOL, 62, "SO_BINDTOIFINDEX", KernelOnly, ""),
    row(
        V4,
        1,
        "IP_TOS",
        Honoured,
        "on IPv4 connections, those of AF_INET6 sockets included; the ECN bits are TCP's",
    ),
    row(V4, 2, "IP_TTL", Honoured, "on IPv4 connections"),
    row(V4, 3, "IP_HDRINCL", Refused, "of raw sockets"),
    row(V4, 4, "IP_OPTIONS", KernelOnly, ""),
    row(V4, 6, "IP_RECVOPTS", Inert, "of datagrams"),
    row(V4, 7, "IP_RETOPTS", Inert, "of datagrams; IP_RECVRETOPTS"),
    row(V4, 8, "IP_PKTINFO", Inert, "of datagrams"),
    row(V4, 13, "IP_RECVTOS", Inert, "of datagrams"),
    row(V4, 19, "IP_TRANSPARENT", KernelOnly, ""),
    row(V4, 24, "IP_BIND_ADDRESS_NO_PORT", Port, ""),
    row(V4, 32, "IP_MULTICAST_IF", Refused, "TCP has no multicast"),
    row(V4, 33, "IP_MULTICAST_TTL", Refused, "TCP has no multicast"),
    row(V4, 34, "IP_MULTICAST_LOOP", Inert, "TCP has no multicast"),
    row(V4, 35, "IP_ADD_MEMBERSHIP", KernelOnly, "TCP has no multicast, but the membership counts"),
    row(V4, 36, "IP_DROP_MEMBERSHIP", KernelOnly, ""),
    row(V4, 37, "IP_UNBLOCK_SOURCE", KernelOnly, ""),
    row(V4, 38, "IP_BLOCK_SOURCE", KernelOnly, ""),
    row(V4, 39, "IP_ADD_SOURCE_MEMBERSHIP", KernelOnly, ""),
    row(V4, 40, "IP_DROP_SOURCE_MEMBERSHIP", KernelOnly, ""),
    row(V6, 7, "IPV6_CHECKSUM", Refused, "of raw sockets"),
    row(V6, 9, "IPV6_NEXTHOP", Refused, ""),
    row(V6, 16, "IPV6_UNICAST_HOPS", Honoured, "on IPv6 connections"),
    row(V6, 17, "IPV6_MULTICAST_IF", Refused, "TCP has no multicast"),
    row(V6, 18, "IPV6_MULTICAST_HOPS", Refused, "TCP has no multicast"),
    row(V6, 19, "IPV6_MULTICAST_LOOP", Inert, "TCP has no multicast"),
    row(V6, 20, "IPV6_JOIN_GROUP", KernelOnly, ""),
    row(V6, 21, "IPV6_LEAVE_GROUP", KernelOnly, ""),
    row(V6, 26, "IPV6_V6ONLY", Port, "which families a listener of ours takes"),
    row(V6, 49, "IPV6_RECVPKTINFO", KernelOnly, ""),
    row(V6, 50, "IPV6_PKTINFO", KernelOnly, ""),
    row(V6, 51, "IPV6_RECVHOPLIMIT", KernelOnly, ""),
    row(V6, 52, "IPV6_HOPLIMIT", Refused, "of ancillary data"),
    row(V6, 53, "IPV6_RECVHOPOPTS", KernelOnly, ""),
    row(V6, 54, "IPV6_HOPOPTS", KernelOnly, ""),
    row(V6, 55, "IPV6_RTHDRDSTOPTS", KernelOnly, ""),
    row(V6, 56, "IPV6_RECVRTHDR", KernelOnly, ""),
    row(V6, 57, "IPV6_RTHDR", KernelOnly, ""),
    row(V6, 58, "IPV6_RECVDSTOPTS", KernelOnly, ""),
    row(V6, 59, "IPV6_DSTOPTS", KernelOnly, ""),
    row(V6, 60, "IPV6_RECVPATHMTU", KernelOnly, ""),
    row(V6, 61, "IPV6_PATHMTU", Answered, "the size of the largest packet that we send"),
    row(V6, 62, "IPV6_DONTFRAG", Inert, "our packets are never fragmented"),
    row(V6, 66, "IPV6_RECVTCLASS", KernelOnly, ""),
    row(V6, 67, "IPV6_TCLASS", Honoured, "on IPv6 connections; the ECN bits are TCP's"),
    row(TCP, 1, "TCP_NODELAY", Honoured, ""),
    row(
        TCP,
        2,
        "TCP_MAXSEG",
        Honoured,
        "before connecting; afterwards the payload limit is answered",
    ),
    row(TCP, 3, "TCP_CORK", Honoured, ""),
    row(TCP, 4, "TCP_KEEPIDLE", Honoured, ""),
    row(TCP, 5, "TCP_KEEPINTVL", Honoured, ""),
    row(TCP, 6, "TCP_KEEPCNT", Honoured, ""),
    row(TCP, 7, "TCP_SYNCNT", Honoured, ""),
    row(TCP, 8, "TCP_LINGER2", Honoured, ""),
    row(TCP, 9, "TCP_DEFER_ACCEPT", KernelOnly, ""),
    row(TCP, 10, "TCP_WINDOW_CLAMP", Honoured, ""),
    row(TCP, 11, "TCP_INFO", Answered, "see below"),
    row(TCP, 12, "TCP_QUICKACK", Honoured, ""),
    row(
        TCP,
        13,
        "TCP_CONGESTION",
        Honoured,
        "`cubic` and `reno`; before listening or connecting another name makes the socket the kernel's",
    ),
    row(TCP, 14, "TCP_MD5SIG", KernelOnly, "RFC 2385, obsolete"),
    row(TCP, 16, "TCP_THIN_LINEAR_TIMEOUTS", KernelOnly, ""),
    row(TCP, 17, "TCP_THIN_DUPACK", Inert, "without meaning since Linux 4.11"),
    row(TCP, 18, "TCP_USER_TIMEOUT", Honoured, "RFC 5482, the local half"),
    row(TCP, 19, "TCP_REPAIR", KernelOnly, "of checkpointing"),
    row(TCP, 20, "TCP_REPAIR_QUEUE", Refused, "without TCP_REPAIR"),
    row(TCP, 21, "TCP_QUEUE_SEQ", Refused, "without TCP_REPAIR"),
    row(TCP, 22, "TCP_REPAIR_OPTIONS", Refused, "without TCP_REPAIR"),
    row(TCP, 23, "TCP_FASTOPEN", KernelOnly, "Fast Open (RFC 7413) is not there yet"),
    row(TCP, 24, "TCP_TIMESTAMP", KernelOnly, ""),
    row(TCP, 25, "TCP_NOTSENT_LOWAT", Honoured, ""),
    row(TCP, 26, "TCP_CC_INFO", KernelOnly, ""),
    row(TCP, 27, "TCP_SAVE_SYN", KernelOnly, ""),
    row(
        TCP,
        28,
        "TCP_SAVED_SYN",
        Answered,
        "nothing, because TCP_SAVE_SYN makes the listener the kernel's",
    ),
    row(TCP, 29, "TCP_REPAIR_WINDOW", Refused, "without TCP_REPAIR"),
    row(TCP, 30, "TCP_FASTOPEN_CONNECT", KernelOnly, "Fast Open (RFC 7413) is not there yet"),
    row(TCP, 31, "TCP_ULP", KernelOnly, "kernel TLS"),
    row(TCP, 32, "TCP_MD5SIG_EXT", KernelOnly, "RFC 2385, obsolete"),
    row(TCP, 33, "TCP_FASTOPEN_KEY", KernelOnly, "Fast Open (RFC 7413) is not there yet"),
    row(TCP, 34, "TCP_FASTOPEN_NO_COOKIE", KernelOnly, "Fast Open (RFC 7413) is not there yet"),
    row(TCP, 35, "TCP_ZEROCOPY_RECEIVE", KernelOnly, ""),
    row(TCP, 36, "TCP_INQ", Honoured, ""),
    row(TCP, 37, "TCP_TX_DELAY", KernelOnly, ""),
];

/// What becomes of an option; of one that is not in the table: only the kernel knows it.
pub(super) fn support(level: i32, name: i32) -> Support {
    TABLE.iter().find(|r| (r.level, r.name) == (level, name)).map_or(KernelOnly, |r| r.support)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_has_no_option_twice() {
        let rank = |level| [SOL, V4, V6, TCP].iter().position(|l| *l == level);
        let keys: Vec<_> = TABLE.iter().map(|r| (rank(r.level), r.name)).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(support(TCP, 9999), KernelOnly);
    }
}
