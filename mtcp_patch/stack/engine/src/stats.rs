//! Counters of a shard. Plain numbers: one driver at a time owns the shard.

/// Reasons for which the engine refuses something past `wire` (malformed frames are counted apart,
/// by [`crate::wire::Drop`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Refusal {
    /// A segment for which there is neither connection nor listener (answered with RST).
    NoConnection,
    /// A SYN while the listener's accept queue was full.
    AcceptQueueFull,
    /// A half-open connection that gave way to a SYN, because the listener's SYN queue was full.
    SynQueueFull,
    /// A connection beyond `max_connections`.
    ConnectionLimit,
    /// Data for which there was no buffer memory.
    MemoryLimit,
    /// An out-of-order range beyond what `MIN_REASSEMBLY_RANGES` and the buffer let.
    ReassemblyLimit,
    /// A segment outside the receive window.
    OutsideWindow,
    /// An acknowledgment of something never sent, or far too old.
    BadAck,
    /// A challenge acknowledgment held back by its rate limit.
    ChallengeLimit,
    /// A reply dropped because `MAX_PENDING_REPLIES` were waiting.
    ReplyLimit,
    /// A reset whose sequence number was not exact (RFC 5961).
    InexactReset,
    /// A segment whose timestamp was older than one seen before (PAWS, RFC 7323 5).
    OldTimestamp,
    /// A reset that met TIME-WAIT (RFC 1337).
    TimeWaitReset,
    /// An ICMP error about something that is not in flight (RFC 5927 4.1; Linux:
    /// `OutOfWindowIcmps`).
    IcmpOutsideWindow,
    /// A segment with SYN and FIN where those are dropped.
    SynFin,
    /// A frame for a device that the shard does not know.
    UnknownDevice,
}

/// Number of reasons in [`Refusal`].
pub const REFUSALS: usize = 16;

const REFUSAL_NAMES: [&str; REFUSALS] = [
    "no_connection",
    "accept_queue_full",
    "syn_queue_full",
    "connection_limit",
    "memory_limit",
    "reassembly_limit",
    "outside_window",
    "bad_ack",
    "challenge_limit",
    "reply_limit",
    "inexact_reset",
    "old_timestamp",
    "time_wait_reset",
    "icmp_outside_window",
    "syn_fin",
    "unknown_device",
];

/// What a shard has done so far.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Frames handed to the shard.
    pub packets_in: u64,
    /// Frames handed to devices.
    pub packets_out: u64,
    /// Bytes of those frames.
    pub bytes_in: u64,
    /// Bytes of those frames.
    pub bytes_out: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Expired retransmission timers.
    pub timeouts: u64,
    /// Fast retransmissions (RFC 5681 3.2).
    pub fast_retransmits: u64,
    /// Connections opened by `connect`.
    pub opened: u64,
    /// Connections that reached an accept queue.
    pub accepted: u64,
    /// SYN-ACKs with a cookie, because a SYN queue was full (Linux: `SyncookiesSent`).
    pub syncookies_sent: u64,
    /// Acknowledgments whose cookie was good (`SyncookiesRecv`).
    pub syncookies_received: u64,
    /// Acknowledgments whose cookie was not, while cookies were about (`SyncookiesFailed`).
    pub syncookies_failed: u64,
    /// Times that an ICMP error made a connection's segments smaller (RFC 1191, RFC 8201).
    pub pmtu_reductions: u64,
    /// Times that a black hole did (RFC 4821, RFC 8899).
    pub pmtu_black_holes: u64,
    /// Resets received that ended a connection.
    pub resets_in: u64,
    /// Resets sent.
    pub resets_out: u64,
    /// Buffer memory in use, in bytes.
    pub memory_bytes: u64,
    refusals: [u64; REFUSALS],
    malformed: [u64; crate::wire::Drop::COUNT],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            packets_in: 0,
            packets_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            retransmits: 0,
            timeouts: 0,
            fast_retransmits: 0,
            opened: 0,
            accepted: 0,
            syncookies_sent: 0,
            syncookies_received: 0,
            syncookies_failed: 0,
            pmtu_reductions: 0,
            pmtu_black_holes: 0,
            resets_in: 0,
            resets_out: 0,
            memory_bytes: 0,
            refusals: [0; REFUSALS],
            malformed: [0; crate::wire::Drop::COUNT],
        }
    }
}

impl Stats {
    /// Counts one refusal.
    pub(crate) fn refuse(&mut self, reason: Refusal) {
        if let Some(count) = self.refusals.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Counts one malformed frame.
    pub(crate) fn malformed(&mut self, reason: crate::wire::Drop) {
        if let Some(count) = self.malformed.get_mut(reason.index()) {
            *count += 1;
        }
    }

    /// How often `reason` has occurred.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refusals.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason for which frames or requests were dropped, with its count, zeros included.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let malformed = crate::wire::Drop::ALL.iter().map(|d| d.name()).zip(self.malformed);
        REFUSAL_NAMES.into_iter().zip(self.refusals).chain(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_name_and_counter() {
        let mut stats = Stats::default();
        stats.refuse(Refusal::UnknownDevice);
        assert_eq!(stats.refused(Refusal::UnknownDevice), 1);
        let named: std::vec::Vec<_> = stats.drops().filter(|(_, n)| *n > 0).collect();
        assert_eq!(named, [("unknown_device", 1)]);
    }
}
