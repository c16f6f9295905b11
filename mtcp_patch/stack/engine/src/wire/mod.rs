//! Frames to segments and back: the only place where the bytes of a header are read or written.
//!
//! [`parse`] turns a received frame into a [`Segment`] (or the ICMP error about one of ours) or
//! says by a [`Drop`] why not; [`Header::emit`] is its inverse. Both are pure: no state, no
//! allocation, no policy. What `parse` lets pass is well formed: lengths, checksums, addresses and
//! options are right, and nothing behind this module looks at them again. The shard calls both.
//!
//! Never here: a decision about a connection, an answer to a packet, a panic caused by input.

pub mod arp;
pub mod checksum;
pub mod icmp;
pub mod ndp;
#[cfg(any(test, feature = "sim"))]
pub mod repair;

mod address;
mod drop;
mod emit;
mod ethernet;
mod ipv4;
mod ipv6;
mod options;
mod segment;
mod seq;
mod tcp;

pub use drop::Drop;
pub use emit::Header;
pub use icmp::{IcmpError, IcmpKind};
pub use options::Options;
pub use segment::{Flags, Link, Segment};
pub use seq::Seq;

#[cfg(test)]
mod testing;

use crate::device::{Caps, Medium};
use address::Addresses;

/// What a well-formed frame of interest to TCP carries.
// The large variant is the common one, and lives only in the caller's frame: a box would allocate.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A TCP segment.
    Tcp(Segment<'a>),
    /// An ICMP or ICMPv6 error about a TCP segment that this host seems to have sent.
    Icmp(IcmpError),
}

/// The IP header, read: what TCP and ICMP need of it.
pub(crate) struct Ip<'a> {
    pub(crate) addresses: Addresses<'a>,
    pub(crate) protocol: u8,
    pub(crate) ecn: u8,
    /// What follows the header, its options or extension headers; link-layer padding cut off.
    pub(crate) payload: &'a [u8],
}

/// IP protocol numbers that we read or write.
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const ICMPV6: u8 = 58;
}

/// Reads one frame. `caps` says what stands at its head and how far its checksums may be believed.
///
/// Bytes after the IP packet (Ethernet pads to 60 bytes) are ignored. IPv4 options and IPv6
/// extension headers are checked and skipped. Addresses carry no IPv6 scope or flow label.
///
/// # Errors
/// The reason for which the frame must be dropped and counted.
pub fn parse<'a>(frame: &'a [u8], caps: &Caps) -> Result<Parsed<'a>, Drop> {
    let (link, version, packet) = match caps.medium {
        Medium::Ethernet => ethernet::parse(frame, &caps.hw_addr)?,
        Medium::Ip => (Link::default(), frame.first().ok_or(Drop::Truncated)? >> 4, frame),
    };
    let ip = match version {
        4 => ipv4::parse(packet, caps.rx_checksum)?,
        6 => ipv6::parse(packet)?,
        _ => return Err(Drop::BadVersion),
    };
    ip.addresses.check(caps)?;
    match (ip.protocol, version) {
        (protocol::TCP, _) => tcp::parse(link, &ip, caps.rx_checksum).map(Parsed::Tcp),
        (protocol::ICMP, 4) => icmp::parse_v4(&ip, caps.rx_checksum).map(Parsed::Icmp),
        (protocol::ICMPV6, 6) => icmp::parse_v6(&ip, caps.rx_checksum).map(Parsed::Icmp),
        _ => Err(Drop::NotTcp),
    }
}
