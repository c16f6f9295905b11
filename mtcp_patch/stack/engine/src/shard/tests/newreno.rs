//! RFC 5681 3.2, RFC 6582 and RFC 3042: a peer without SACK. Segment 0 is acknowledged, 1 to 10 are
//! in flight.

use super::*;
use crate::tcp::recovery::CaState;

fn duplicates(b: &mut Bench, ack: u32, count: usize) -> Vec<u32> {
    (0..count)
        .flat_map(|_| {
            b.sack(ack, &[]);
            b.segments()
        })
        .collect()
}

/// RFC 3042, then RFC 5681 3.2.
#[test]
fn two_duplicates_send_new_data_and_the_third_the_first_again() {
    let (mut b, id) = Bench::in_flight(false);
    assert_eq!(duplicates(&mut b, 1, 3), [11, 12, 1]);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
    assert_eq!((b.tcp_info(id).sacked_segs, b.tcp_info(id).lost_segs), (3, 1));
}

/// RFC 6582 3.2 step 3: a partial acknowledgment sends the next hole.
#[test]
fn a_partial_acknowledgment_sends_the_next_hole() {
    let (mut b, id) = Bench::in_flight(false);
    duplicates(&mut b, 1, 6);
    b.sack(5, &[]);
    let mut again = b.segments();
    // As soon as the reduction of the window allows (RFC 6937).
    again.extend(duplicates(&mut b, 5, 1));
    assert_eq!(again[0], 5);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
    b.sack(13, &[]);
    // RFC 6582 3.2 step 2: at exactly `recover` the state is kept.
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
    let out = b.segments();
    b.sack(out[0] + 1, &[]);
    let info = b.tcp_info(id);
    assert_eq!((info.ca_state, info.total_retrans), (CaState::Open, 2));
}

/// RFC 6582 3.2 step 2: duplicates of repetitions do not start another recovery.
#[test]
fn duplicates_after_recovery_do_not_start_another() {
    let (mut b, id) = Bench::in_flight(false);
    // 1 to 12 were out when it began.
    duplicates(&mut b, 1, 4);
    b.sack(13, &[]);
    b.segments();
    duplicates(&mut b, 13, 4);
    assert_eq!((b.tcp_info(id).total_retrans, b.shard.stats().fast_retransmits), (1, 1));
}

/// More duplicates than segments: the network reorders or doubles; it is not taken for progress.
#[test]
fn duplicates_beyond_what_is_out_count_for_nothing() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[7; 2 * MSS]).unwrap();
    b.segments();
    for _ in 0..50 {
        b.sack(0, &[]);
    }
    let info = b.tcp_info(id);
    assert_eq!((info.unacked_segs, info.sacked_segs, info.total_retrans), (2, 1, 0));
}

/// RFC 3465's attack: many acknowledgments of parts of a segment do not open the window.
#[test]
fn divided_acknowledgments_open_nothing() {
    let (mut b, id) = Bench::in_flight(false);
    let before = b.tcp_info(id).snd_cwnd;
    for byte in 0..500 {
        b.peer(A, 1, 1 + MSS as u32 + byte, b"");
    }
    assert_eq!(b.tcp_info(id).snd_cwnd, before);
}
