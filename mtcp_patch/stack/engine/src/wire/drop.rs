//! Why a received frame was not used: one variant, one counter, one name a reason.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The reason for which [`parse`](super::parse) refuses a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Drop { $($(#[$doc])* $variant,)* }

        impl Drop {
            /// Every reason, in the order of [`Drop::index`].
            pub const ALL: &'static [Drop] = &[$(Drop::$variant,)*];

            /// The name under which statistics show the reason.
            pub const fn name(self) -> &'static str {
                match self { $(Drop::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// The frame ends before a header, or before the length that a header states.
    Truncated = "truncated",
    /// Neither IPv4 nor IPv6 by its Ethernet type.
    NotIp = "not_ip",
    /// Sent to another station's hardware address.
    OtherHost = "other_host",
    /// Sent to a group of stations, which TCP never is.
    LinkBroadcast = "link_broadcast",
    /// The IP version is not the one that the frame announces.
    BadVersion = "bad_version",
    /// The IPv4 header length is below 20 bytes or beyond the packet.
    BadHeaderLength = "bad_header_length",
    /// The IP length is less than the IP header.
    BadTotalLength = "bad_total_length",
    /// The IPv4 header checksum is wrong.
    BadIpChecksum = "bad_ip_checksum",
    /// IPv4 options overrun their header, or ask for source routing.
    BadIpOptions = "bad_ip_options",
    /// An IPv6 extension header is malformed, misplaced, or orders the packet to be discarded.
    BadExtension = "bad_extension",
    /// A fragment; TCP over path MTU discovery never makes one, and we do not reassemble.
    Fragment = "fragment",
    /// A source or destination that no unicast packet on this device may have.
    BadAddress = "bad_address",
    /// An IP packet of another protocol.
    NotTcp = "not_tcp",
    /// The TCP checksum is wrong.
    BadTcpChecksum = "bad_tcp_checksum",
    /// The TCP data offset is below 20 bytes or beyond the segment.
    BadTcpOffset = "bad_tcp_offset",
    /// A TCP option overruns the header or has an illegal length.
    BadOptions = "bad_options",
    /// The ICMP checksum is wrong.
    BadIcmpChecksum = "bad_icmp_checksum",
    /// An ICMP message that is no error about a TCP segment.
    IcmpIgnored = "icmp_ignored",
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of the reason's counter, below [`Drop::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Drop;

    #[test]
    fn indices_count_up_and_names_differ() {
        for (at, reason) in Drop::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(Drop::ALL[..at].iter().all(|other| other.name() != reason.name()));
        }
        assert_eq!(Drop::COUNT, Drop::IcmpIgnored.index() + 1);
    }
}
