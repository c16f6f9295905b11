//! Neighbour discovery of IPv6 over Ethernet (RFC 4861): solicitations and advertisements, for
//! devices whose address no kernel answers for.
//!
//! Devices that share the host's addresses leave it to the kernel and never call this.

use super::address::{split_v6, Addresses};
use super::{ethernet, icmp, ipv6, protocol, Drop, Link};
use core::net::Ipv6Addr;

/// Bytes of a frame with a link-layer address option, the only kind that we write.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + MESSAGE_LEN;

const MESSAGE_LEN: usize = 32;
/// RFC 4861 7.1.1: any other value came through a router.
const HOP_LIMIT: u8 = 255;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;

/// What the message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks who has `target`.
    Solicitation,
    /// Says who has `target`.
    Advertisement {
        /// Whether it answers a solicitation.
        solicited: bool,
        /// Whether it replaces what the receiver knew.
        over: bool,
    },
}

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Question or answer.
    pub kind: Kind,
    /// Source of the packet; unspecified while the sender checks for duplicates of its address.
    pub src: Ipv6Addr,
    /// Destination of the packet.
    pub dst: Ipv6Addr,
    /// The address in question.
    pub target: Ipv6Addr,
    /// The hardware address from the option that belongs to `kind`, if it is there.
    pub hw: Option<[u8; 6]>,
}

impl Message {
    /// Reads an Ethernet frame, checked as RFC 4861 7.1.1 and 7.1.2 demand.
    ///
    /// # Errors
    /// The reason why it is no valid solicitation or advertisement.
    pub fn parse(frame: &[u8]) -> Result<Self, Drop> {
        let (_, kind, packet) = ethernet::split(frame)?;
        if kind != ethernet::TYPE_IPV6 {
            return Err(Drop::NotIp);
        }
        let fields = ipv6::fields(packet)?;
        let (src, dst) = split_v6(fields.addresses);
        let ip = ipv6::parse(packet)?;
        if ip.protocol != protocol::ICMPV6 {
            return Err(Drop::NotTcp);
        }
        let (h, options) = ip.payload.split_first_chunk::<24>().ok_or(Drop::Truncated)?;
        if !matches!(h[0], SOLICITATION | ADVERTISEMENT)
            || h[1] != 0
            || fields.hop_limit != HOP_LIMIT
        {
            return Err(Drop::IcmpIgnored);
        }
        if !icmp::checksum_v6(&ip).is_valid() {
            return Err(Drop::BadIcmpChecksum);
        }
        let solicited = h[4] & 0x40 != 0;
        let target = address(&h[8..]);
        let (kind, wanted) = if h[0] == SOLICITATION {
            (Kind::Solicitation, OPTION_SOURCE)
        } else {
            (Kind::Advertisement { solicited, over: h[4] & 0x20 != 0 }, OPTION_TARGET)
        };
        let hw = hardware_address(options, wanted)?;
        let anonymous = src.is_unspecified();
        let bad_question =
            kind == Kind::Solicitation && anonymous && (hw.is_some() || !is_solicited_node(dst));
        let bad_answer = kind != Kind::Solicitation && solicited && dst.is_multicast();
        if target.is_multicast() || src.is_multicast() || bad_question || bad_answer {
            return Err(Drop::BadAddress);
        }
        Ok(Self { kind, src, dst, target, hw })
    }

    /// Writes the frame from `own_hw` to `dst_hw`; the option carries `self.hw`, or `own_hw`.
    pub fn emit(&self, own_hw: [u8; 6], dst_hw: [u8; 6], out: &mut [u8; FRAME_LEN]) {
        let (kind, flags, option) = match self.kind {
            Kind::Solicitation => (SOLICITATION, 0, OPTION_SOURCE),
            Kind::Advertisement { solicited, over } => {
                let flags = u8::from(solicited) << 6 | u8::from(over) << 5;
                (ADVERTISEMENT, flags, OPTION_TARGET)
            }
        };
        let link = Link { src: own_hw, dst: dst_hw };
        let repr = ipv6::Repr {
            src: self.src,
            dst: self.dst,
            payload_len: MESSAGE_LEN as u16,
            tclass: 0,
            hop_limit: HOP_LIMIT,
            next_header: protocol::ICMPV6,
        };
        let Some((head, rest)) = out.split_first_chunk_mut() else { return };
        ethernet::emit(&link, ethernet::TYPE_IPV6, head);
        let Some((head, message)) = rest.split_first_chunk_mut() else { return };
        ipv6::emit(&repr, head);
        let pieces: [&[u8]; 4] = [
            &[kind, 0, 0, 0, flags, 0, 0, 0],
            &self.target.octets(),
            &[option, 1],
            &self.hw.unwrap_or(own_hw),
        ];
        for (to, from) in message.iter_mut().zip(pieces.into_iter().flatten()) {
            *to = *from;
        }
        let Some(addresses) = head.last_chunk() else { return };
        let ip = super::Ip {
            addresses: Addresses::V6(addresses),
            protocol: protocol::ICMPV6,
            ecn: 0,
            payload: message,
        };
        let check = icmp::checksum_v6(&ip).finish().to_be_bytes();
        for (to, from) in message.iter_mut().skip(2).zip(check) {
            *to = from;
        }
    }

    /// The answer of the station that has `own_ip` at `own_hw`, if this asks for it.
    pub fn answer(&self, own_hw: [u8; 6], own_ip: Ipv6Addr) -> Option<Self> {
        if self.kind != Kind::Solicitation || self.target != own_ip {
            return None;
        }
        // RFC 4861 7.2.4: one who has no address yet is answered by way of everyone.
        let anonymous = self.src.is_unspecified();
        let dst = if anonymous { ALL_NODES } else { self.src };
        let kind = Kind::Advertisement { solicited: !anonymous, over: true };
        Some(Self { kind, src: own_ip, dst, target: own_ip, hw: Some(own_hw) })
    }
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node multicast address of `target` (RFC 4291 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// The hardware address of a multicast group (RFC 2464 7).
pub fn multicast_hw(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (to, from) in octets.iter_mut().zip(bytes) {
        *to = *from;
    }
    octets.into()
}

/// Walks the options (RFC 4861 4.6) for the one of type `wanted`.
fn hardware_address(mut options: &[u8], wanted: u8) -> Result<Option<[u8; 6]>, Drop> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, units, ..] = options else { return Err(Drop::Truncated) };
        // RFC 4861 4.6: an option of length zero discards the packet.
        if units == 0 {
            return Err(Drop::BadExtension);
        }
        let len = usize::from(units) * 8;
        let (option, rest) = options.split_at_checked(len).ok_or(Drop::Truncated)?;
        if kind == wanted {
            let &[_, _, a, b, c, d, e, f] = option else { return Err(Drop::BadExtension) };
            found = Some([a, b, c, d, e, f]);
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{multicast_hw, solicited_node, Kind, Message, ALL_NODES, FRAME_LEN};
    use crate::wire::testing::naive_checksum;
    use crate::wire::Drop;
    use std::net::Ipv6Addr;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn own_ip() -> Ipv6Addr {
        "fe80::ff:fe00:1".parse().unwrap()
    }

    fn solicitation() -> Message {
        Message {
            kind: Kind::Solicitation,
            src: "fe80::2".parse().unwrap(),
            dst: solicited_node(own_ip()),
            target: own_ip(),
            hw: Some(PEER),
        }
    }

    fn frame(message: &Message) -> [u8; FRAME_LEN] {
        let mut out = [0; FRAME_LEN];
        message.emit(PEER, multicast_hw(message.dst), &mut out);
        out
    }

    /// Sets a byte and makes the checksum right again.
    fn with(mut frame: [u8; FRAME_LEN], at: usize, value: u8) -> [u8; FRAME_LEN] {
        frame[at] = value;
        frame[56..58].fill(0);
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        let check = naive_checksum(&[&pseudo, &frame[54..]].concat()).to_be_bytes();
        frame[56..58].copy_from_slice(&check);
        frame
    }

    #[test]
    fn what_is_emitted_parses_and_is_answered() {
        let question = solicitation();
        assert_eq!(frame(&question)[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
        assert_eq!(Message::parse(&frame(&question)), Ok(question));
        let answer = question.answer(OWN, own_ip()).unwrap();
        assert_eq!(answer.dst, question.src);
        assert_eq!(answer.kind, Kind::Advertisement { solicited: true, over: true });
        assert_eq!(Message::parse(&frame(&answer)), Ok(answer));
        assert_eq!(answer.hw, Some(OWN));
        assert_eq!(question.answer(OWN, "fe80::9".parse().unwrap()), None);
        assert_eq!(answer.answer(OWN, own_ip()), None);
    }

    #[test]
    fn one_without_an_address_is_answered_by_way_of_all() {
        let question = Message { src: Ipv6Addr::UNSPECIFIED, hw: None, ..solicitation() };
        let answer = question.answer(OWN, own_ip()).unwrap();
        assert_eq!(answer.dst, ALL_NODES);
        assert_eq!(answer.kind, Kind::Advertisement { solicited: false, over: true });
    }

    #[test]
    fn the_checks_of_rfc_4861() {
        let good = frame(&solicitation());
        assert_eq!(with(good, 0, good[0]), good, "the helper writes the same checksum");
        for (at, value, reason) in [
            (21, 254, Drop::IcmpIgnored), // hop limit
            (55, 1, Drop::IcmpIgnored),   // code
            (54, 133, Drop::IcmpIgnored), // router solicitation
            (62, 0xff, Drop::BadAddress), // multicast target
            (79, 0, Drop::BadExtension),  // option of length zero
            (79, 2, Drop::Truncated),     // option overruns
            (22, 0xff, Drop::BadAddress), // multicast source
            (12, 8, Drop::NotIp),
        ] {
            assert_eq!(Message::parse(&with(good, at, value)), Err(reason), "byte {at}");
        }
        let mut bad = good;
        bad[70] ^= 1;
        assert_eq!(Message::parse(&bad), Err(Drop::BadIcmpChecksum));
        for len in 0..FRAME_LEN {
            assert_eq!(Message::parse(&good[..len]), Err(Drop::Truncated));
        }
        let anonymous = Message { src: Ipv6Addr::UNSPECIFIED, ..solicitation() };
        assert_eq!(Message::parse(&frame(&anonymous)), Err(Drop::BadAddress), "it has an option");
        // Asks everyone, and without the option.
        let mut bare = frame(&Message { dst: ALL_NODES, ..anonymous });
        bare[78] = 14;
        assert_eq!(Message::parse(&with(bare, 0, bare[0])), Err(Drop::BadAddress));
        let mut endless = good;
        endless[78] = 14;
        assert_eq!(Message::parse(&with(endless, 79, 0)), Err(Drop::BadExtension));
        let kind = Kind::Advertisement { solicited: true, over: false };
        let to_all = Message { kind, dst: ALL_NODES, ..solicitation() };
        assert_eq!(Message::parse(&frame(&to_all)), Err(Drop::BadAddress));
    }

    #[test]
    fn options_of_other_types_are_skipped() {
        let other = with(frame(&solicitation()), 78, 14);
        assert_eq!(Message::parse(&other).map(|message| message.hw), Ok(None));
    }
}
