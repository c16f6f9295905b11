//! RFC 8985 7: tail loss probes. The path takes 100 ms.

use super::*;
use crate::tcp::recovery::CaState;

/// `tail` segments are out, and nothing else is to be sent; segment 0 is acknowledged.
fn tail(segments: usize) -> (Bench, ConnId) {
    tail_with(segments, Config::default())
}

fn tail_with(segments: usize, config: Config) -> (Bench, ConnId) {
    let options = Options { sack_permitted: true, ..Options::default() };
    let (mut b, id) = Bench::on_long_path_with(options, config);
    b.send(id, &std::vec![7; segments * MSS]).unwrap();
    assert_eq!(b.segments().len(), segments);
    (b, id)
}

/// RFC 8985 7.2: after two round trips the last segment again.
#[test]
fn a_silent_tail_is_probed_before_the_timeout() {
    let (mut b, id) = tail(4);
    let rto = b.tcp_info(id).rto_us;
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent.iter().map(|s| s.seq / MSS as u32).collect::<Vec<_>>(), [4]);
    assert!((200_000..rto).contains(&us), "{us} {rto}");
    assert_eq!((b.shard.stats().timeouts, b.tcp_info(id).snd_cwnd), (0, 10));
    // RFC 8985 7.3: one probe; then the timeout.
    let (_, sent) = b.next_sent(2_000_000);
    assert_eq!((sent[0].seq / MSS as u32, b.shard.stats().timeouts), (1, 1));
}

/// RFC 8985 7: the answer to the probe lets RACK find the rest.
#[test]
fn the_answer_to_a_probe_starts_fast_recovery() {
    let (mut b, id) = tail(4);
    b.next_sent(1_000_000);
    b.advance_us(100_000);
    b.sack(1, &[(4, 5)]);
    assert_eq!(b.segments(), [1]);
    assert_eq!((b.tcp_info(id).ca_state, b.shard.stats().timeouts), (CaState::Recovery, 0));
}

/// RFC 8985 7.3: new data rather than old.
#[test]
fn a_probe_is_new_data_when_there_is_some() {
    let (mut b, id) = Bench::in_flight(true);
    let (_, sent) = b.next_sent(1_000_000);
    assert_eq!(sent.iter().map(|s| s.seq / MSS as u32).collect::<Vec<_>>(), [11]);
    assert_eq!(b.tcp_info(id).total_retrans, 0);
}

/// RFC 8985 7.2: one segment out: its acknowledgment may be delayed.
#[test]
fn one_segment_has_the_time_of_a_delayed_acknowledgment() {
    let (mut b, id) = tail(1);
    let rto = b.tcp_info(id).rto_us;
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent.len(), 1);
    assert!(us >= rto.min(400_000), "{us} {rto}");
    assert_eq!(b.shard.stats().timeouts, 0);
}

/// RFC 8985 7.4.2: a probe that filled the hole was a loss, hence congestion.
#[test]
fn a_probe_that_repaired_a_loss_reduces_the_window() {
    let (mut b, id) = tail(4);
    b.sack(4, &[]);
    b.segments();
    b.next_sent(1_000_000);
    b.advance_us(100_000);
    b.sack(5, &[]);
    b.send(id, &[7; MSS]).unwrap();
    b.segments();
    b.sack(6, &[]);
    let info = b.tcp_info(id);
    assert!(info.snd_ssthresh < 10 && info.snd_cwnd <= info.snd_ssthresh, "{info:?}");
    assert_eq!(info.ca_state, CaState::Open);
}

/// RFC 8985 7.4.1: a probe that was a duplicate was no loss.
#[test]
fn a_probe_that_was_a_duplicate_reduces_nothing() {
    let (mut b, id) = tail(4);
    b.sack(4, &[]);
    b.segments();
    b.next_sent(1_000_000);
    b.sack(5, &[]);
    b.sack(5, &[(4, 5)]);
    b.send(id, &[7; MSS]).unwrap();
    b.segments();
    b.sack(6, &[]);
    let info = b.tcp_info(id);
    assert_eq!((info.snd_ssthresh, info.dsack_dups), (0x7fff_ffff, 1));
}

/// RFC 8985 7.2: SACK is needed.
#[test]
fn a_peer_without_sack_is_not_probed() {
    let (mut b, _) = Bench::in_flight(false);
    let (_, sent) = b.next_sent(1_000_000);
    assert_eq!((sent[0].seq / MSS as u32, b.shard.stats().timeouts), (1, 1));
}

/// Linux: `tcp_early_retrans` = 0.
#[test]
fn without_probes_the_retransmission_timer_is_the_first() {
    let (mut b, _) = tail_with(4, Config { tail_loss_probe: false, ..Config::default() });
    let (_, sent) = b.next_sent(2_000_000);
    assert_eq!((sent[0].seq / MSS as u32, b.shard.stats().timeouts), (1, 1));
}
