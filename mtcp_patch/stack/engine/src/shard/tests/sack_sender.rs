//! RFC 2018, RFC 2883 and RFC 6675, the sending side. The peer has acknowledged segment 0; 1 to 10
//! are in flight.

use super::*;
use crate::tcp::recovery::CaState;

fn marks(b: &Bench, id: ConnId) -> (u32, u32, u32, u32) {
    let info = b.tcp_info(id);
    (info.unacked_segs, info.sacked_segs, info.lost_segs, info.retrans_segs)
}

/// RFC 6675 5: three segments beyond a hole; only the hole is sent again.
#[test]
fn only_the_hole_is_sent_again() {
    let (mut b, id) = Bench::in_flight(true);
    assert_eq!(b.tcp_info(id).snd_cwnd, 10);
    b.sack(1, &[(2, 3)]);
    // RFC 3042: what has left the network makes room.
    assert_eq!(b.segments(), [11]);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Disorder);
    b.advance_us(1_000);
    b.sack(1, &[(2, 4)]);
    assert_eq!((b.segments(), b.tcp_info(id).ca_state), (std::vec![12], CaState::Disorder));
    b.advance_us(1_000);
    b.sack(1, &[(2, 5)]);
    assert_eq!((b.segments(), b.tcp_info(id).ca_state), (std::vec![1], CaState::Recovery));
    assert_eq!(marks(&b, id), (12, 3, 1, 1));
    // Everything else arrives: nothing else is repeated.
    for right in 6..=13 {
        b.sack(1, &[(2, right)]);
        assert!(b.segments().iter().all(|s| *s >= 13));
    }
    b.sack(13, &[]);
    assert_eq!((b.tcp_info(id).ca_state, b.tcp_info(id).total_retrans), (CaState::Open, 1));
    let info = b.tcp_info(id);
    assert_eq!((info.sacked_segs, info.lost_segs, info.retrans_segs), (0, 0, 0));
    assert_eq!(info.snd_cwnd, info.snd_ssthresh);
}

/// RFC 6675 5 (4): all holes, each once, under the window.
#[test]
fn every_hole_is_sent_again_once() {
    let (mut b, id) = Bench::in_flight(true);
    let mut again = std::vec![];
    for block in [(2, 3), (4, 5), (6, 7), (8, 9), (10, 11)] {
        let blocks = [block, (2, 3), (4, 5), (6, 7)];
        b.sack(1, &blocks);
        again.extend(b.segments().into_iter().filter(|s| *s < 11));
    }
    for ack in [2, 4, 6, 8, 10] {
        b.sack(ack, &[(10, 11)]);
        again.extend(b.segments().into_iter().filter(|s| *s < 11));
    }
    assert_eq!(again, [1, 3, 5, 7, 9]);
    assert_eq!(b.tcp_info(id).total_retrans, 5);
}

/// RFC 2018 5: a lie is ignored.
#[test]
fn blocks_of_what_was_never_sent_or_is_acknowledged_are_ignored() {
    let (mut b, id) = Bench::in_flight(true);
    for blocks in [[(50, 60), (70, 80)], [(5, 5), (7, 6)], [(4, 60), (8, 4)]] {
        b.sack(1, &blocks);
        assert_eq!(marks(&b, id), (10, 0, 0, 0));
    }
    b.segments();
    b.sack(5, &[]);
    b.sack(5, &[(3, 7)]);
    assert_eq!(marks(&b, id).1, 0, "half below SND.UNA: a duplicate, not a range");
}

/// RFC 2018 5: without permission nothing is believed.
#[test]
fn a_peer_without_permission_is_not_heard() {
    let (mut b, id) = Bench::in_flight(false);
    b.sack(1, &[(3, 8)]);
    assert_eq!(marks(&b, id).1, 1, "one duplicate");
}

/// RFC 2018 8: what was acknowledged selectively is kept until it is acknowledged, and sent again
/// after a timeout when the peer has dropped it.
#[test]
fn a_peer_that_reneges_is_sent_everything_again() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(2, 6)]);
    b.segments();
    b.sack(2, &[]);
    b.segments();
    let (us, sent) = b.next_sent(1_000_000);
    assert!(us < 100_000, "{us}");
    assert_eq!(sent[0].seq / MSS as u32, 2);
    assert_eq!((b.tcp_info(id).sacked_segs, b.tcp_info(id).ca_state), (0, CaState::Loss));
}

/// Repetitions keep their boundaries, and a segment that became too large is cut.
#[test]
fn a_smaller_path_cuts_what_is_out() {
    let (mut b, id) = Bench::in_flight(true);
    let seq = Seq(b.iss.wrapping_add(1 + MSS as u32));
    let (local, remote) = (b.ours, b.theirs);
    let kind = crate::wire::IcmpKind::FragNeeded { mtu: 640 };
    b.shard.handle_icmp(b.now, &wire::IcmpError { kind, local, remote, seq });
    let sizes: Vec<_> = b.sent().iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes[..4], [600, 400, 600, 400]);
    assert_eq!(b.tcp_info(id).lost_segs + b.tcp_info(id).sacked_segs, b.tcp_info(id).unacked_segs);
}

/// A stranger, or a peer, that sends blocks as it pleases does not break the account.
#[test]
fn a_storm_of_blocks_breaks_nothing() {
    let mut random = crate::random::SplitMix64(11);
    let mut below = |n: u64| (random.next_u64() % n) as u32;
    for _ in 0..40 {
        let (mut b, _) = Bench::in_flight(true);
        let mut ack = 1;
        for _ in 0..60 {
            let mut block = || {
                let left = below(70);
                (left, left + below(8))
            };
            let blocks = [block(), block(), block(), block()];
            b.sack(ack, &blocks);
            if below(3) == 0 {
                b.segments();
            }
            if below(6) == 0 {
                b.advance_us(u64::from(below(300_000)));
            }
            if below(4) == 0 {
                ack = (ack + below(4)).min(10);
            }
        }
    }
}
