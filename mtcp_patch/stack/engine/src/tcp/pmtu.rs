//! What the path carries: RFC 1191 and RFC 8201 (routers say), RFC 5927 7.2 (strangers say, too),
//! RFC 4821 and RFC 8899 (nobody says: a black hole).
//!
//! The MSS only falls by what is here, never below a minimum, and for this connection alone; after
//! a while it is tried again. Called by the shard's `icmp` and by `timer`.

use super::options::header_bytes;
use super::recovery;
use super::tcb::{list, Tcb};
use crate::limits::{
    BLACK_HOLE_MSS, BLACK_HOLE_TIMEOUTS, MIN_PMTU_V4, MIN_PMTU_V6, PMTU_EXPIRES_US,
};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::Seq;

/// What a connection knows of its path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pmtu {
    /// A smaller MSS that somebody claims, and the segment that he says was too big.
    claim: Option<(u32, Seq)>,
    /// Bytes that had been acknowledged when the MSS last changed.
    changed_at: u64,
    /// The MSS that the handshake agreed on, while ours is smaller.
    agreed: Option<u32>,
    /// When that one is tried again.
    retry_at: Instant,
    /// How often a black hole was met: each doubles the time until the next try.
    black_holes: u8,
}

/// The least path MTU that is believed, in bytes.
fn least(tcb: &Tcb) -> u32 {
    if tcb.local.is_ipv4() {
        MIN_PMTU_V4
    } else {
        MIN_PMTU_V6
    }
}

fn mss_of(tcb: &Tcb, mtu: u32) -> u32 {
    tcb.less_options(mtu.saturating_sub(header_bytes(&tcb.local)))
}

/// An ICMP error says that the segment at `seq`, which is in flight, was larger than `mtu`.
pub(crate) fn too_big(tcb: &mut Tcb, env: &mut Env, now: Instant, mtu: u32, seq: Seq) {
    let least = least(tcb);
    if mtu < least && !tcb.local.is_ipv4() {
        // RFC 8201 4: it must be discarded.
        return;
    }
    // Linux (`min_pmtu`): an IPv4 router that claims less, or nothing (RFC 1191 5), is believed
    // this far.
    let mss = mss_of(tcb, mtu.max(least));
    if mss >= tcb.mss || !tcb.state.is_synchronized() {
        return;
    }
    // RFC 5927 7.2: where packets of this size have come through, the claim waits for proof, which
    // is that the segment is not acknowledged before the retransmission timer expires. What counts
    // bytes takes a crowd of small segments for a full one; a true claim is then late, no more.
    let changed_at = tcb.pmtu.as_ref().map_or(0, |pmtu| pmtu.changed_at);
    if tcb.account.bytes_acked.wrapping_sub(changed_at) > u64::from(tcb.mss) {
        tcb.pmtu.get_or_insert_default().claim = Some((mss, seq));
        return;
    }
    env.stats.pmtu_reductions += 1;
    reduce(tcb, now, mss, PMTU_EXPIRES_US);
    // RFC 1191 6.5: sent again at once, and the congestion window stays.
    recovery::resend_large(tcb, mss);
    env.enqueue(tcb, list::DATA);
}

/// The retransmission timer has expired; the caller sends again what is in flight.
pub(crate) fn on_timeout(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    if let Some((mss, seq)) = tcb.pmtu.as_mut().and_then(|pmtu| pmtu.claim.take()) {
        if tcb.snd_una.le(seq) && mss < tcb.mss {
            env.stats.pmtu_reductions += 1;
            reduce(tcb, now, mss, PMTU_EXPIRES_US);
            return;
        }
    }
    if !env.config.mtu_probing || tcb.retries < BLACK_HOLE_TIMEOUTS {
        return;
    }
    // RFC 4821 7.7, RFC 8899 4.3: large segments vanish again and again. Smaller ones may not. Not
    // only full ones are large: a small window cuts them.
    let floor = mss_of(tcb, least(tcb));
    let base = tcb.less_options(BLACK_HOLE_MSS).max(floor);
    let smaller = if tcb.mss > base { base } else { floor };
    if smaller < tcb.mss.min(tcb.in_flight()) {
        env.stats.pmtu_black_holes += 1;
        let pmtu = tcb.pmtu.get_or_insert_default();
        let wait = PMTU_EXPIRES_US << u32::from(pmtu.black_holes.min(8));
        pmtu.black_holes = pmtu.black_holes.saturating_add(1);
        reduce(tcb, now, smaller, wait);
    }
}

fn reduce(tcb: &mut Tcb, now: Instant, mss: u32, retry_us: u64) {
    let pmtu = tcb.pmtu.get_or_insert_default();
    pmtu.agreed = pmtu.agreed.or(Some(tcb.mss));
    pmtu.retry_at = now + retry_us;
    pmtu.changed_at = tcb.account.bytes_acked;
    pmtu.claim = None;
    tcb.mss = mss;
}

/// RFC 1191 6.3, RFC 8201 4: the path may have changed; after ten minutes the size of the handshake
/// is tried again.
pub(crate) fn retry(tcb: &mut Tcb, now: Instant) {
    let Some(pmtu) = tcb.pmtu.as_mut().filter(|pmtu| now >= pmtu.retry_at) else { return };
    if let Some(mss) = pmtu.agreed.take() {
        tcb.mss = tcb.mss.max(mss);
        pmtu.changed_at = tcb.account.bytes_acked;
    }
}
