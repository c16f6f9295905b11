//! Which addresses a unicast packet may carry.

use super::Drop;
use crate::device::{Caps, Medium};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Refuses addresses between which no TCP segment may travel on this device.
///
/// # Errors
/// [`Drop::BadAddress`].
pub(crate) fn check(src: IpAddr, dst: IpAddr, caps: &Caps) -> Result<(), Drop> {
    let fine = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            is_unicast_v4(src)
                && is_unicast_v4(dst)
                // RFC 1122 3.2.1.3(g): 127/8 must not appear outside a host.
                && (stays_inside(caps) || !(src.is_loopback() || dst.is_loopback()))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            is_unicast_v6(src)
                && is_unicast_v6(dst)
                // RFC 4291 2.5.3: nor may ::1.
                && (stays_inside(caps) || !(src.is_loopback() || dst.is_loopback()))
        }
        _ => false,
    };
    if fine {
        Ok(())
    } else {
        Err(Drop::BadAddress)
    }
}

/// `lo` and the in-process loopback have no hardware address.
fn stays_inside(caps: &Caps) -> bool {
    caps.medium == Medium::Ip || caps.hw_addr == [0; 6]
}

// RFC 9293 3.9.2.3: a segment from (MUST-63) or to (MUST-57) a broadcast or multicast address is
// discarded in silence.
fn is_unicast_v4(address: Ipv4Addr) -> bool {
    // 0/8 is "this network" (RFC 1122 3.2.1.3(a)).
    !(address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0)
}

fn is_unicast_v6(address: Ipv6Addr) -> bool {
    // A mapped address on the wire would pass for an IPv4 peer behind a dual-stack socket.
    !(address.is_multicast() || address.is_unspecified() || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::device::Medium;
    use crate::wire::testing::strict;
    use crate::wire::Drop;
    use std::net::IpAddr;

    fn verdict(src: &str, dst: &str, on_a_network: bool) -> Result<(), Drop> {
        let mut caps = strict();
        if on_a_network {
            caps.medium = Medium::Ethernet;
            caps.hw_addr = [2, 0, 0, 0, 0, 1];
        }
        check(src.parse::<IpAddr>().unwrap(), dst.parse::<IpAddr>().unwrap(), &caps)
    }

    #[test]
    fn unicast_passes() {
        for (src, dst) in
            [("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::2"), ("fe80::1", "fe80::2")]
        {
            assert_eq!(verdict(src, dst, true), Ok(()), "{src} {dst}");
        }
    }

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
        assert_eq!(verdict("10.0.0.1", "fd00::1", false), Err(Drop::BadAddress));
    }

    #[test]
    fn loopback_addresses_stay_inside_the_host() {
        for (src, dst) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("10.0.0.1", "127.0.0.1")] {
            assert_eq!(verdict(src, dst, false), Ok(()));
            assert_eq!(verdict(src, dst, true), Err(Drop::BadAddress));
        }
    }
}
