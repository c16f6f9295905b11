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
