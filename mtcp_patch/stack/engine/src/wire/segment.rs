//! What a TCP segment is once it has been read: the currency between wire and TCB.

use super::{Options, Seq};
use core::net::SocketAddr;
use core::ops::{BitOr, BitOrAssign};

/// The control bits of RFC 9293 3.1, with ECE and CWR of RFC 3168.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(1);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(2);
    /// Reset the connection.
    pub const RST: Self = Self(4);
    /// Push.
    pub const PSH: Self = Self(8);
    /// The acknowledgment number is valid.
    pub const ACK: Self = Self(16);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(32);
    /// ECN echo.
    pub const ECE: Self = Self(64);
    /// Congestion window reduced.
    pub const CWR: Self = Self(128);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The hardware addresses of a frame; zero where the medium has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    /// The station that sent it.
    pub src: [u8; 6],
    /// The station that it is for.
    pub dst: [u8; 6],
}

/// A received segment, checked; the payload is borrowed from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Hardware addresses; an answer goes to `link.src`.
    pub link: Link,
    /// The peer's address and port.
    pub src: SocketAddr,
    /// Our address and port.
    pub dst: SocketAddr,
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; meaningful only with [`Flags::ACK`].
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as it stands in the header, not scaled.
    pub wnd: u16,
    /// SEG.UP; meaningful only with [`Flags::URG`].
    pub urgent: u16,
    /// The options; those that only a SYN may carry are absent from others.
    pub options: Options,
    /// The data.
    pub payload: &'a [u8],
    /// The two ECN bits of the IP header (RFC 3168 5).
    pub ecn: u8,
}

impl Segment<'_> {
    /// SEG.LEN of RFC 9293 3.4: octets of data, with SYN and FIN counted as one each.
    #[allow(clippy::len_without_is_empty)] // SEG.LEN, not a container's length
    #[allow(clippy::cast_possible_truncation)] // an IP packet's payload is below 2^16
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.flags.contains(Flags::SYN))
            + u32::from(self.flags.contains(Flags::FIN))
    }
}

#[cfg(test)]
mod tests {
    use super::{Flags, Link, Segment};
    use crate::wire::{Options, Seq};
    use core::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn segment_length_counts_syn_and_fin() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut segment = Segment {
            link: Link::default(),
            src: any,
            dst: any,
            seq: Seq(0),
            ack: Seq(0),
            flags: Flags::ACK,
            wnd: 0,
            urgent: 0,
            options: Options::default(),
            payload: b"abc",
            ecn: 0,
        };
        assert_eq!(segment.len(), 3);
        segment.flags |= Flags::FIN;
        assert_eq!(segment.len(), 4);
        segment.flags = Flags::SYN | Flags::FIN;
        assert_eq!(segment.len(), 5);
    }

    #[test]
    fn flags_contain_all_or_intersect_any() {
        let flags = Flags::SYN | Flags::ACK;
        assert!(
            flags.contains(Flags::SYN | Flags::ACK) && !flags.contains(Flags::SYN | Flags::RST)
        );
        assert!(flags.intersects(Flags::SYN | Flags::RST) && !flags.intersects(Flags::FIN));
    }
}
