//! RFC 3522, RFC 4015 and RFC 3708: a loss that was none is taken back. The path takes 100 ms.

use super::*;
use crate::tcp::recovery::CaState;

/// A connection with timestamps and segments 1 to 10 in flight.
fn stamped() -> (Bench, ConnId, u32) {
    let options = Options { sack_permitted: true, timestamps: Some((1, 0)), ..Options::default() };
    let (mut b, id) = Bench::on_long_path(options);
    b.send(id, &[7; 60 * MSS]).unwrap();
    let sent = b.sent();
    assert_eq!(sent.len(), 10);
    let stamp = sent[0].options.timestamps.unwrap().0;
    (b, id, stamp)
}

/// RFC 3522 3.2: the acknowledgment echoes what the original carried.
#[test]
fn eifel_undoes_a_spurious_fast_recovery() {
    let (mut b, id, stamp) = stamped();
    b.advance_us(100_000);
    b.sack(1, &[(2, 6)]);
    assert_eq!(b.segments()[0], 1);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
    let out = b.tcp_info(id).unacked_segs;
    b.advance_us(3_000);
    // The original was only late; all is acknowledged before the repetition can arrive.
    b.peer_later.timestamps = Some((2, stamp));
    b.sack(1 + out, &[]);
    let info = b.tcp_info(id);
    assert_eq!((info.ca_state, info.total_retrans), (CaState::Open, 1));
    assert!(info.snd_cwnd >= 10 && info.snd_ssthresh > 1_000_000, "{info:?}");
    assert_eq!(b.shard.stats().timeouts, 0);
}

/// The same acknowledgment of the repetition undoes nothing.
#[test]
fn a_real_loss_is_not_undone() {
    let (mut b, id, _) = stamped();
    b.advance_us(100_000);
    b.sack(1, &[(2, 6)]);
    let again = b.sent()[0].options.timestamps.unwrap().0;
    let out = b.tcp_info(id).unacked_segs;
    b.advance_us(100_000);
    b.peer_later.timestamps = Some((2, again));
    b.sack(1 + out, &[]);
    let info = b.tcp_info(id);
    assert_eq!(info.ca_state, CaState::Open);
    assert!(info.snd_cwnd < 10 && info.snd_ssthresh < 10, "{info:?}");
}

/// RFC 4015 3.2, and the field's complaint: a delay spike does not leave a small window behind.
#[test]
fn a_delay_spike_leaves_the_window_as_it_was() {
    let (mut b, id, stamp) = stamped();
    // Nothing arrives for a second: the probe, then timeouts.
    b.next_sent(1_000_000);
    b.next_sent(1_000_000);
    assert_eq!((b.shard.stats().timeouts, b.tcp_info(id).snd_cwnd), (1, 1));
    assert_eq!(b.tcp_info(id).ca_state, CaState::Loss);
    b.peer_later.timestamps = Some((2, stamp));
    b.sack(3, &[]);
    let info = b.tcp_info(id);
    assert!(info.snd_cwnd >= 10 && info.snd_ssthresh > 1_000_000, "{info:?}");
    assert_eq!(info.lost_segs, 0);
    assert!(b.segments().iter().all(|s| *s > 10), "nothing else is repeated");
}

/// RFC 3708: every repetition is reported as a duplicate.
#[test]
fn duplicate_reports_undo_a_spurious_recovery() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(2, 6)]);
    assert_eq!(b.segments()[0], 1);
    let out = b.tcp_info(id).unacked_segs;
    b.sack(1 + out, &[]);
    assert!(b.tcp_info(id).snd_ssthresh < 10);
    b.segments();
    // The repetition arrives.
    b.sack(1 + out, &[(1, 2)]);
    let info = b.tcp_info(id);
    assert!(info.snd_cwnd >= 10 && info.snd_ssthresh > 1_000_000, "{info:?}");
    assert_eq!(info.dsack_dups, 1);
}

/// RFC 3708 3: one of two repetitions was needed.
#[test]
fn half_of_the_reports_undo_nothing() {
    let (mut b, id) = Bench::in_flight(true);
    b.sack(1, &[(4, 9)]);
    let again: Vec<_> = b.segments().into_iter().filter(|s| *s < 4).collect();
    assert!(again.len() >= 2, "{again:?}");
    let out = b.tcp_info(id).unacked_segs;
    b.sack(1 + out, &[]);
    b.segments();
    b.sack(1 + out, &[(1, 2)]);
    assert!(b.tcp_info(id).snd_ssthresh < 10);
}
