//! Watches both links: nobody sends beyond a window that reached him.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::net::SocketAddr;

use crate::device::Caps;
use crate::wire::{self, Flags, Parsed, Segment, Seq};

/// What one end may send, by what reached it.
#[derive(Debug)]
struct Allowance {
    /// The right edge of the largest window; none before the first acknowledgment.
    edge: Option<Seq>,
    /// The peer's scale, when it offered one.
    shift: u8,
}

/// The windows of all connections, by sender and receiver of the data.
#[derive(Debug, Default)]
pub(super) struct Windows {
    allowed: BTreeMap<(SocketAddr, SocketAddr), Allowance>,
    broken: Option<String>,
}

fn segment<'a>(frame: &'a [u8], caps: &Caps) -> Option<Segment<'a>> {
    match wire::parse(frame, caps) {
        Ok(Parsed::Tcp(seg)) => Some(seg),
        _ => None,
    }
}

impl Windows {
    /// A frame reaches its destination.
    pub(super) fn arrives(&mut self, frame: &[u8], caps: &Caps) {
        let Some(seg) = segment(frame, caps).filter(|seg| !seg.flags.contains(Flags::RST)) else {
            return;
        };
        let syn = seg.flags.contains(Flags::SYN);
        let offered = if syn { seg.options.wscale.unwrap_or(0) } else { 0 };
        let known = self
            .allowed
            .entry((seg.dst, seg.src))
            .or_insert(Allowance { edge: None, shift: offered });
        if seg.flags.contains(Flags::ACK) {
            // RFC 7323 2.2: the window of a SYN is not scaled.
            let shift = if syn { 0 } else { known.shift };
            let edge = seg.ack + (u32::from(seg.wnd) << shift);
            if known.edge.is_none_or(|largest| edge.gt(largest)) {
                known.edge = Some(edge);
            }
        }
    }

    /// A frame leaves its sender.
    pub(super) fn leaves(&mut self, frame: &[u8], caps: &Caps) {
        let Some(seg) = segment(frame, caps).filter(|seg| !seg.payload.is_empty()) else { return };
        let end = seg.seq + seg.payload.len() as u32;
        // RFC 9293 3.8.6: a sender never exceeds the window.
        let known = self.allowed.get(&(seg.src, seg.dst));
        let edge = known.and_then(|known| known.edge);
        if !edge.is_some_and(|edge| end.le(edge)) {
            self.broken.get_or_insert_with(|| {
                format!("{} sent up to {} beyond the window: {known:?}", seg.src, end.0)
            });
        }
    }

    /// Whether somebody did.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }
}
