//! One 4-tuple, seen from outside: what the stranger said there, and what the shard may answer.
//!
//! The stranger's byte at a sequence number, and the application's at a place of its stream, are
//! fixed by that number. So whatever overlaps, repeats or comes out of order, what arrives and what
//! is sent again can be compared without a copy of it.

use core::net::SocketAddr;
use mtcp_engine::wire::{Flags, Options, Seq};
use mtcp_engine::ConnId;

use crate::peer::{Fields, Sent};

/// The stranger's byte with this sequence number.
pub(crate) fn their_byte(seq: Seq) -> u8 {
    (seq.0.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// The application's byte at this place of its stream.
pub(crate) fn our_byte(at: u32) -> u8 {
    (at.wrapping_mul(0x85eb_ca6b) >> 24) as u8 ^ 0x5a
}

/// What is known of a 4-tuple.
pub(crate) struct Lane {
    pub(crate) ours: SocketAddr,
    pub(crate) theirs: SocketAddr,
    /// The connection, when the application has it.
    pub(crate) conn: Option<ConnId>,
    pub(crate) received: u32,
    pub(crate) written: u32,
    most_written: u32,
    their_isses: Vec<Seq>,
    our_isses: Vec<Seq>,
    /// First sequence number and the one after the last of everything that the stranger sent.
    said: Vec<(Seq, Seq)>,
    /// Acknowledgment number and window of everything that the stranger sent.
    windows: Vec<(Seq, u32)>,
    wscale: u8,
    urgent: bool,
    /// Where the stranger would go on: what the shard last acknowledged.
    pub(crate) their_nxt: Seq,
    /// What the stranger would acknowledge: the highest that the shard sent.
    pub(crate) our_max: Seq,
    pub(crate) last_stamp: Option<(u32, u32)>,
}

impl Lane {
    pub(crate) fn new(ours: SocketAddr, theirs: SocketAddr) -> Self {
        Self {
            ours,
            theirs,
            conn: None,
            received: 0,
            written: 0,
            most_written: 0,
            their_isses: Vec::new(),
            our_isses: Vec::new(),
            said: Vec::new(),
            windows: Vec::new(),
            wscale: 0,
            urgent: false,
            their_nxt: Seq(u32::MAX - 100),
            our_max: Seq(0),
            last_stamp: None,
        }
    }

    /// The application has a new connection here.
    pub(crate) fn opened(&mut self, id: ConnId) {
        self.conn = Some(id);
        self.received = 0;
        self.written = 0;
    }

    /// What the application writes next.
    pub(crate) fn to_write(&self, len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| our_byte(self.written.wrapping_add(i))).collect()
    }

    pub(crate) fn wrote(&mut self, len: usize) {
        self.written += len as u32;
        self.most_written = self.most_written.max(self.written);
    }

    /// The stranger is about to send this.
    pub(crate) fn says(&mut self, f: &Fields, len: usize) {
        let syn = f.flags.contains(Flags::SYN);
        if syn && !self.their_isses.contains(&f.seq) {
            self.their_isses.push(f.seq);
        }
        if syn {
            self.wscale = self.wscale.max(f.options.wscale.unwrap_or(0).min(14));
        }
        self.urgent |= f.flags.contains(Flags::URG);
        let phantom = u32::from(syn) + u32::from(f.flags.contains(Flags::FIN));
        self.said.push((f.seq, f.seq + (len as u32 + phantom)));
        self.windows.push((f.ack, u32::from(f.wnd) << self.wscale));
    }

    /// The shard sent this; it must be something that a TCP may say.
    pub(crate) fn hears(&mut self, sent: &Sent) {
        let reset = sent.flags.contains(Flags::RST);
        if sent.flags.contains(Flags::SYN) && !self.our_isses.contains(&sent.seq) {
            self.our_isses.push(sent.seq);
            self.our_max = sent.end();
        }
        if sent.flags.contains(Flags::ACK) {
            let said = |(from, to): &(Seq, Seq)| from.le(sent.ack) && sent.ack.le(*to);
            assert!(self.said.iter().any(said), "acknowledges what was never sent: {sent:?}");
            self.their_nxt = sent.ack;
        }
        if !reset {
            if sent.end().gt(self.our_max) {
                self.our_max = sent.end();
            }
            self.last_stamp = sent.options.timestamps;
        }
        self.check_blocks(&sent.options);
        if !sent.payload.is_empty() {
            assert!(!reset, "a reset with data: {sent:?}");
            self.check_payload(sent);
        }
    }

    /// RFC 2018 4: blocks report what was received, and nothing that the peer never sent.
    fn check_blocks(&self, options: &Options) {
        for &(left, right) in options.sack.iter().flatten() {
            assert!(left.lt(right), "an empty SACK block: {left:?} {right:?}");
            let sent = |edge: Seq| self.said.iter().any(|(from, to)| from.le(edge) && edge.le(*to));
            assert!(sent(left) && sent(right), "SACK of what was never sent: {left:?} {right:?}");
        }
    }

    fn check_payload(&self, sent: &Sent) {
        let len = sent.payload.len() as u32;
        let end = sent.seq + len;
        // RFC 9293 3.8.6: never beyond the largest window that was ever offered.
        let allows = |(ack, wnd): &(Seq, u32)| end.le(*ack + *wnd) || end.le(*ack);
        assert!(
            self.windows.iter().any(allows),
            "beyond every window: {:?} len {len}, {:?}",
            sent.seq,
            self.windows
        );
        let matches = |iss: &Seq| {
            let at = (sent.seq - *iss).wrapping_sub(1) as u32;
            let whole = at.checked_add(len).is_some_and(|end| end <= self.most_written);
            whole && (at..).zip(&sent.payload).all(|(at, byte)| *byte == our_byte(at))
        };
        assert!(self.our_isses.iter().any(matches), "not what was written: {:?}", sent.seq);
    }

    /// The application reads this.
    pub(crate) fn reads(&mut self, data: &[u8]) {
        let from = self.received;
        self.received += data.len() as u32;
        if self.urgent || data.is_empty() {
            // The urgent byte may be taken out of the stream.
            return;
        }
        let matches = |irs: &Seq| {
            let first = *irs + 1 + from;
            (0..).zip(data).all(|(i, byte)| *byte == their_byte(first + i))
        };
        assert!(self.their_isses.iter().any(matches), "not what was sent, from byte {from}");
    }
}
