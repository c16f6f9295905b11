//! RFC 5682: was a timeout spurious? Without timestamps. The path takes 100 ms.

use super::*;
use crate::tcp::recovery::CaState;

/// A timeout with segments 1 to 10 out; without SACK, so that no probe comes before it.
fn timed_out() -> (Bench, ConnId) {
    let (mut b, id) = Bench::in_flight(false);
    let (_, sent) = b.next_sent(2_000_000);
    assert_eq!((sent.len(), sent[0].seq / MSS as u32), (1, 1));
    assert_eq!((b.tcp_info(id).ca_state, b.tcp_info(id).snd_cwnd), (CaState::Loss, 1));
    (b, id)
}

/// RFC 5682 2.1 steps 2b and 3b.
#[test]
fn progress_after_new_data_undoes_the_timeout() {
    let (mut b, id) = timed_out();
    b.sack(2, &[]);
    let new = b.segments();
    assert!(!new.is_empty() && new.iter().all(|s| *s >= 11), "new data only: {new:?}");
    b.sack(3, &[]);
    let info = b.tcp_info(id);
    assert!(info.snd_cwnd >= 10 && info.snd_ssthresh > 1_000_000, "{info:?}");
    assert!(b.segments().iter().all(|s| *s >= 11));
    assert_eq!(info.total_retrans, 1);
}

/// RFC 5682 2.1 step 3a.
#[test]
fn a_duplicate_after_new_data_confirms_the_loss() {
    let (mut b, id) = timed_out();
    b.sack(2, &[]);
    b.segments();
    b.sack(2, &[]);
    assert_eq!(b.segments(), [2]);
    let info = b.tcp_info(id);
    assert_eq!(info.ca_state, CaState::Loss);
    assert!(info.snd_ssthresh < 10 && info.snd_cwnd < 10, "{info:?}");
}

/// RFC 5682 2.1 step 1: all that was out is acknowledged at once: nothing to find out.
#[test]
fn an_acknowledgment_of_everything_ends_the_repair() {
    let (mut b, id) = timed_out();
    b.sack(11, &[]);
    b.segments();
    b.sack(12, &[]);
    let info = b.tcp_info(id);
    assert_eq!((info.ca_state, info.total_retrans), (CaState::Open, 1));
    assert!(info.snd_ssthresh < 10);
}

/// RFC 6298 (5.4) to (5.7), RFC 5681 3.1: repeated timeouts back off and do not reduce again.
#[test]
fn timeouts_double_and_reduce_once() {
    let (mut b, id) = timed_out();
    let ssthresh = b.tcp_info(id).snd_ssthresh;
    let (first, _) = b.next_sent(10_000_000);
    let (second, _) = b.next_sent(10_000_000);
    assert!(second.abs_diff(2 * first) < 3_000, "{first} {second}");
    assert_eq!(b.tcp_info(id).snd_ssthresh, ssthresh);
    assert_eq!(b.tcp_info(id).retransmits, 3);
}
