//! The two addresses of an IP packet, and which of them a unicast packet may carry.

use super::checksum::Sum;
use super::Drop;
use crate::device::{Caps, Medium};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Source and destination as they stand in the packet.
#[derive(Clone, Copy)]
pub(crate) enum Addresses<'a> {
    V4(&'a [u8; 8]),
    V6(&'a [u8; 32]),
}

impl Addresses<'_> {
    /// The sum of the pseudo-header of a packet between them.
    #[inline]
    pub(crate) fn pseudo_header(self, protocol: u8, len: usize) -> Sum {
        // Two calls, each of a length known in advance, rather than one for both.
        let sum = Sum::default();
        match self {
            Self::V4(bytes) => sum.pseudo_header(bytes, protocol, len),
            Self::V6(bytes) => sum.pseudo_header(bytes, protocol, len),
        }
    }

    /// Source and destination with these ports.
    #[inline]
    pub(crate) fn with_ports(self, src_port: u16, dst_port: u16) -> (SocketAddr, SocketAddr) {
        match self {
            Self::V4(bytes) => {
                let (src, dst) = split_v4(bytes);
                ((src, src_port).into(), (dst, dst_port).into())
            }
            Self::V6(bytes) => {
                let (src, dst) = split_v6(bytes);
                ((src, src_port).into(), (dst, dst_port).into())
            }
        }
    }

    /// Refuses addresses between which no TCP segment may travel on this device.
    ///
    /// # Errors
    /// [`Drop::BadAddress`].
    #[inline]
    pub(crate) fn check(self, caps: &Caps) -> Result<(), Drop> {
        let (unicast, loopback) = match self {
            Self::V4(bytes) => {
                let (src, dst) = split_v4(bytes);
                (is_unicast_v4(src) && is_unicast_v4(dst), src.is_loopback() || dst.is_loopback())
            }
            Self::V6(bytes) => {
                let (src, dst) = split_v6(bytes);
                (is_unicast_v6(src) && is_unicast_v6(dst), src.is_loopback() || dst.is_loopback())
            }
        };
        // RFC 1122 3.2.1.3(g), RFC 4291 2.5.3: 127/8 and ::1 must not appear outside a host.
        if unicast && (!loopback || stays_inside(caps)) {
            Ok(())
        } else {
            Err(Drop::BadAddress)
        }
    }
}

#[inline]
fn split_v4(bytes: &[u8; 8]) -> (Ipv4Addr, Ipv4Addr) {
    let [a, b, c, d, e, f, g, h] = *bytes;
    (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h))
}

#[inline]
pub(crate) fn split_v6(bytes: &[u8; 32]) -> (Ipv6Addr, Ipv6Addr) {
    let both = bytes.split_first_chunk::<16>().zip(bytes.last_chunk::<16>());
    let ((src, _), dst) = both.unwrap_or(((&[0; 16], &[]), &[0; 16]));
    (Ipv6Addr::from(*src), Ipv6Addr::from(*dst))
}

/// `lo` and the in-process loopback have no hardware address.
fn stays_inside(caps: &Caps) -> bool {
    caps.medium == Medium::Ip || caps.hw_addr == [0; 6]
}

// RFC 9293 3.9.2.3: a segment from (MUST-63) or to (MUST-57) a broadcast or multicast address is
// discarded in silence.
#[inline]
fn is_unicast_v4(address: Ipv4Addr) -> bool {
    // 0/8 is "this network" (RFC 1122 3.2.1.3(a)).
    !(address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0)
}

#[inline]
fn is_unicast_v6(address: Ipv6Addr) -> bool {
    // A mapped address on the wire would pass for an IPv4 peer behind a dual-stack socket.
    let bits = address.to_bits();
    !(bits >> 120 == 0xff || bits == 0 || bits >> 32 == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::Addresses;
    use crate::device::Medium;
    use crate::wire::testing::strict;
    use crate::wire::Drop;
    use std::net::IpAddr;
    use std::vec::Vec;

    fn verdict(src: &str, dst: &str, on_a_network: bool) -> Result<(), Drop> {
        let mut caps = strict();
        if on_a_network {
            caps.medium = Medium::Ethernet;
            caps.hw_addr = [2, 0, 0, 0, 0, 1];
        }
        let octets = |text: &str| match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let bytes: Vec<u8> = [octets(src), octets(dst)].concat();
        match bytes.as_slice().try_into() {
            Ok(bytes) => Addresses::V4(bytes).check(&caps),
            Err(_) => Addresses::V6(bytes.as_slice().try_into().unwrap()).check(&caps),
        }
    }

    #[test]
    fn unicast_passes() {
        for (src, dst) in
            [("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::2"), ("fe80::1", "fe80::2")]
        {
            assert_eq!(verdict(src, dst, true), Ok(()), "{src} {dst}");
        }
    }

    /// RFC 9293 MUST-57, MUST-63.
    #[test]
    fn groups_and_nobody_are_refused_on_either_side() {
        for bad in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(verdict(bad, "10.0.0.1", false), Err(Drop::BadAddress), "{bad}");
            assert_eq!(verdict("10.0.0.1", bad, false), Err(Drop::BadAddress), "{bad}");
        }
        for bad in ["::", "ff02::1", "::ffff:10.0.0.1"] {
            assert_eq!(verdict(bad, "fd00::1", false), Err(Drop::BadAddress), "{bad}");
            assert_eq!(verdict("fd00::1", bad, false), Err(Drop::BadAddress), "{bad}");
        }
    }

    #[test]
    fn loopback_addresses_stay_inside_the_host() {
        for (src, dst) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("10.0.0.1", "127.0.0.1")] {
            assert_eq!(verdict(src, dst, false), Ok(()));
            assert_eq!(verdict(src, dst, true), Err(Drop::BadAddress));
        }
    }
}
