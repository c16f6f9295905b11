//! Where a packet to an address leaves, and to which neighbour: the kernel's own answers.
//!
//! Called by `runtime` when a connection is opened. The kernel keeps the tables, does ARP and
//! neighbour discovery, and answers them for our shared address; we only ask, and press it to
//! resolve what it does not know.

use std::io;
use std::net::IpAddr;

use crate::netlink::{attributes, read_u16, read_u32, Request};

/// The kernel's choice for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface by which packets leave.
    pub ifindex: u32,
    /// The source address to use.
    pub src: IpAddr,
    /// The next hop; None when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Whether the destination is this host.
    pub local: bool,
}

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
const RTN_PROHIBIT: u8 = 8;
/// `struct rtmsg`.
const RTMSG_BYTES: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NUD_VALID: u16 =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT;
const NTF_USE: u8 = 1;
/// `struct ndmsg`.
const NDMSG_BYTES: usize = 12;

fn octets(ip: IpAddr) -> ([u8; 16], usize) {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            ([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 4)
        }
        IpAddr::V6(v6) => (v6.octets(), 16),
    }
}

fn with_address(request: Request, kind: u16, ip: IpAddr) -> Request {
    let (bytes, len) = octets(ip);
    request.attribute(kind, bytes.get(..len).unwrap_or_default())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Asks the kernel for the route to `dst` and our address there (RFC 9293 3.9.1.1, MUST-44), from `src` when the socket is bound.
/// Errors as connect() gives them: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL.
pub fn lookup(dst: IpAddr, src: Option<IpAddr>) -> io::Result<Route> {
    let (dst, src) = (dst.to_canonical(), src.map(|s| s.to_canonical()));
    if src.is_some_and(|src| src.is_ipv4() != dst.is_ipv4()) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let src = src.filter(|src| !src.is_unspecified());
    let bits = if dst.is_ipv4() { 32 } else { 128 };
    let src_bits = if src.is_some() { bits } else { 0 };
    let fixed: [u8; RTMSG_BYTES] = [family(dst), bits, src_bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut request = with_address(Request::new(RTM_GETROUTE, 0, &fixed), RTA_DST, dst);
    if let Some(src) = src {
        request = with_address(request, RTA_SRC, src);
    }
    let answer = request.ask()?;
    if answer.kind != RTM_NEWROUTE {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    parse_route(&answer.body, dst, src)
}

fn parse_route(body: &[u8], dst: IpAddr, src: Option<IpAddr>) -> io::Result<Route> {
    // rtm_type: IPv6 answers unreachable routes with a message, not with an error.
    let local = match body.get(7).copied() {
        Some(RTN_LOCAL) => true,
        Some(RTN_UNICAST) => false,
        Some(RTN_BLACKHOLE) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        Some(RTN_PROHIBIT) => return Err(io::Error::from_raw_os_error(libc::EACCES)),
        // Broadcast and multicast too: TCP has no business there (RFC 9293 3.9.1.1, MUST-46).
        _ => return Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
    };
    let (mut ifindex, mut preferred, mut gateway) = (None, None, None);
    for (kind, value) in attributes(body, RTMSG_BYTES) {
        match kind {
            RTA_OIF => ifindex = read_u32(value, 0),
            RTA_PREFSRC => preferred = address(value),
            RTA_GATEWAY => gateway = address(value),
            // An IPv4 route by an IPv6 neighbour: family, then address.
            RTA_VIA => gateway = value.get(2..).and_then(address),
            _ => {}
        }
    }
    let ifindex = ifindex.ok_or_else(|| io::Error::from_raw_os_error(libc::ENETUNREACH))?;
    // A route to ourselves may name no source: then it is the destination.
    let src = src
        .or(preferred)
        .or(local.then_some(dst))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))?;
    Ok(Route { ifindex, src, gateway, local })
}

fn neighbour_message(kind: u16, flags: i32, ifindex: u32, next_hop: IpAddr, ndm: u8) -> Request {
    let mut fixed = Vec::with_capacity(NDMSG_BYTES);
    fixed.extend([family(next_hop), 0, 0, 0]);
    fixed.extend(ifindex.to_ne_bytes());
    fixed.extend([0, 0, ndm, 0]); // state, flags, type
    with_address(Request::new(kind, flags as u16, &fixed), NDA_DST, next_hop)
}

/// The hardware address of a neighbour by the kernel's table. None while it is unknown: the kernel
/// has then been asked to resolve it, and the caller looks again a little later, for a bounded
/// time. EHOSTUNREACH when resolution has failed a moment ago (it is started again).
pub fn neighbour(ifindex: u32, next_hop: IpAddr) -> io::Result<Option<[u8; 6]>> {
    let next_hop = next_hop.to_canonical();
    let entry = match neighbour_message(RTM_GETNEIGH, 0, ifindex, next_hop, 0).ask() {
        Ok(answer) if answer.kind == RTM_NEWNEIGH => parse_neighbour(&answer.body),
        Ok(_) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Entry::default(),
        Err(e) => return Err(e),
    };
    let fresh = NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP;
    if entry.state & fresh == 0 {
        // Our frames pass the kernel by, so it cannot know that the entry is in use: say so. A
        // stale address is verified, an absent one resolved.
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
        neighbour_message(RTM_NEWNEIGH, flags, ifindex, next_hop, NTF_USE).ask()?;
    }
    if entry.state & NUD_FAILED != 0 {
        return Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH));
    }
    Ok(entry.address.filter(|_| entry.state & NUD_VALID != 0))
}

/// What matters of a neighbour message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    state: u16,
    address: Option<[u8; 6]>,
}

fn parse_neighbour(body: &[u8]) -> Entry {
    let state = read_u16(body, 8).unwrap_or(0);
    let address = attributes(body, NDMSG_BYTES)
        .find(|(kind, _)| *kind == NDA_LLADDR)
        .and_then(|(_, value)| value.try_into().ok());
    Entry { state, address }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn route_message(kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn reads_a_route_by_a_gateway() {
        let body = route_message(
            RTN_UNICAST,
            &[
                attribute(RTA_OIF, &7u32.to_ne_bytes()),
                attribute(99, b"unknown"),
                attribute(RTA_GATEWAY, &[10, 0, 0, 1]),
                attribute(RTA_PREFSRC, &[10, 0, 0, 2]),
            ],
        );
        let dst = "203.0.113.1".parse().unwrap();
        let route = parse_route(&body, dst, None).unwrap();
        assert_eq!((route.ifindex, route.local), (7, false));
        assert_eq!(route.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(route.src, "10.0.0.2".parse::<IpAddr>().unwrap());
        let bound = "10.0.0.9".parse().unwrap();
        assert_eq!(parse_route(&body, dst, Some(bound)).unwrap().src, bound);
    }

    #[test]
    fn reads_an_ipv6_next_hop_of_an_ipv4_route() {
        let mut via = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        via.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let body = route_message(
            RTN_UNICAST,
            &[
                attribute(RTA_OIF, &7u32.to_ne_bytes()),
                attribute(RTA_VIA, &via),
                attribute(RTA_PREFSRC, &[10, 0, 0, 2]),
            ],
        );
        let route = parse_route(&body, "203.0.113.1".parse().unwrap(), None).unwrap();
        assert_eq!(route.gateway, Some("fe80::1".parse().unwrap()));
    }

    /// RFC 9293 MUST-46.
    #[test]
    fn routes_that_lead_nowhere_are_errors() {
        let dst = "203.0.113.1".parse().unwrap();
        let errno = |body: &[u8]| parse_route(body, dst, None).unwrap_err().raw_os_error();
        assert_eq!(errno(&route_message(7, &[])), Some(libc::ENETUNREACH));
        assert_eq!(errno(&route_message(RTN_PROHIBIT, &[])), Some(libc::EACCES));
        assert_eq!(errno(&route_message(RTN_UNICAST, &[])), Some(libc::ENETUNREACH));
        assert_eq!(errno(&[]), Some(libc::ENETUNREACH));
    }

    #[test]
    fn reads_a_neighbour_and_survives_rubbish() {
        let mut body = vec![2, 0, 0, 0, 7, 0, 0, 0];
        body.extend(NUD_STALE.to_ne_bytes());
        body.extend([0, 1]);
        body.extend(attribute(NDA_LLADDR, &[2, 0, 0, 0, 0, 9]));
        let entry = parse_neighbour(&body);
        assert_eq!(entry, Entry { state: NUD_STALE, address: Some([2, 0, 0, 0, 0, 9]) });
        body.truncate(body.len() - 3);
        assert_eq!(parse_neighbour(&body).address, None);
        assert_eq!(parse_neighbour(&[]), Entry::default());
    }

    /// RFC 9293 MUST-44.
    #[test]
    fn the_kernel_knows_the_way_to_ourselves() {
        for host in ["127.0.0.1", "::1"] {
            let ip: IpAddr = host.parse().unwrap();
            let route = lookup(ip, None).unwrap();
            assert!(route.local, "{route:?}");
            assert_eq!((route.src, route.gateway), (ip, None));
            assert_eq!(lookup(ip, Some(ip)).unwrap(), route);
        }
        let mixed = lookup("127.0.0.1".parse().unwrap(), "::1".parse().ok());
        assert_eq!(mixed.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
