//! What the two SYNs agree on.
//!
//! Only what the engine does is offered: MSS, window scale, selective acknowledgment and timestamps. A further option adds its field to
//! [`Offer`], its line to [`Offer::syn_options`] and its rule to [`Agreed::from_syn`].

use core::net::SocketAddr;

use super::conn_options::ConnOptions;
use crate::limits::{Config, MAX_WINDOW_SCALE, MIN_SEND_MSS};
use crate::wire::Options;

/// Bytes of an IP and a TCP header without options.
pub(crate) fn header_bytes(local: &SocketAddr) -> u32 {
    match local {
        SocketAddr::V4(_) => 40,
        SocketAddr::V6(_) => 60,
    }
}

/// Bytes of the timestamps option in every segment, its alignment included.
pub(crate) const TIMESTAMPS_BYTES: u32 = 12;

/// What our SYN says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Largest payload that we take in one segment.
    pub(crate) mss: u16,
    /// Shift of the windows that we will advertise; `None`: the peer's SYN had no such option.
    pub(crate) wscale: Option<u8>,
    /// Whether the peer may send SACK blocks.
    pub(crate) sack: bool,
    /// TSval and TSecr.
    pub(crate) timestamps: Option<(u32, u32)>,
}

impl Offer {
    /// RFC 9293 3.7.1: the MSS is the MTU less the fixed headers (MUST-67).
    pub(crate) fn mss(mtu: usize, local: &SocketAddr) -> u16 {
        // No IP packet is larger than 65,535 bytes, though Linux says 65,536 of `lo`.
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX).min(65_535);
        let mss = mtu.saturating_sub(header_bytes(local)).clamp(MIN_SEND_MSS, 65_535);
        mss as u16
    }

    /// The MSS that a connection with `options` offers: at most what application and host want.
    pub(crate) fn adv_mss(
        mtu: usize,
        local: &SocketAddr,
        options: &ConnOptions,
        config: &Config,
    ) -> u16 {
        Self::mss(mtu, local).min(options.max_segment()).min(config.adv_mss)
    }

    /// The smallest shift that can express a window of `bytes` (RFC 7323 2.3).
    pub(crate) fn wscale(bytes: usize) -> u8 {
        (0..MAX_WINDOW_SCALE).find(|shift| bytes >> shift <= 65_535).unwrap_or(MAX_WINDOW_SCALE)
    }

    /// The options of our SYN or SYN-ACK (RFC 9293 3.7.1, MUST-14, SHLD-5).
    pub(crate) fn syn_options(&self) -> Options {
        let Self { mss, wscale, sack, timestamps } = *self;
        Options { mss: Some(mss), wscale, sack_permitted: sack, timestamps, ..Options::default() }
    }
}

/// What the peer's SYN says about what we may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Largest payload of a segment that we send.
    pub(crate) mss: u32,
    /// Shift of the windows that the peer advertises, when both sides scale.
    pub(crate) wscale: Option<u8>,
}

impl Agreed {
    /// Reads the options of the peer's SYN. `mtu` is our device's.
    pub(crate) fn from_syn(options: &Options, mtu: usize, local: &SocketAddr) -> Self {
        // RFC 9293 3.7.1 (MUST-15): without the option assume 536 (IPv4) or 1220 (IPv6).
        let default = match local {
            SocketAddr::V4(_) => 536,
            SocketAddr::V6(_) => 1220,
        };
        let peer = options.mss.map_or(default, u32::from);
        let mss = peer.min(u32::from(Offer::mss(mtu, local))).max(MIN_SEND_MSS);
        // RFC 7323 2.3: a larger shift is to be taken as 14.
        Self { mss, wscale: options.wscale.map(|shift| shift.min(MAX_WINDOW_SCALE)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    /// RFC 9293 MUST-15, MUST-67.
    #[test]
    fn mss_follows_the_mtu_and_the_family() {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
        assert_eq!((Offer::mss(1500, &v4), Offer::mss(1500, &v6)), (1460, 1440));
        assert_eq!((Offer::mss(65_536, &v4), Offer::mss(0, &v6)), (65_495, 48));
        let none = Options::default();
        assert_eq!(Agreed::from_syn(&none, 1500, &v4).mss, 536);
        assert_eq!(Agreed::from_syn(&none, 1500, &v6).mss, 1220);
        let tiny = Options { mss: Some(1), wscale: Some(200), ..none };
        assert_eq!(Agreed::from_syn(&tiny, 1500, &v4), Agreed { mss: 48, wscale: Some(14) });
    }

    #[test]
    fn the_scale_just_covers_the_buffer() {
        assert_eq!(Offer::wscale(65_535), 0);
        assert_eq!(Offer::wscale(65_536), 1);
        assert_eq!(Offer::wscale(6 << 20), 7);
        assert_eq!(Offer::wscale(usize::MAX), 14);
    }
}
