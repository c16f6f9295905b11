use super::*;
use crate::event::ready;

/// RFC 9293 MUST-13.
#[test]
fn active_close_through_time_wait() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"bye").unwrap();
    b.shard.close(b.now, id);
    assert_eq!(b.state(id), State::FinWait1);
    assert_eq!(b.brief(), [(FPA, 1, 1, 3)]);
    b.peer(A, 1, 5, b"");
    assert_eq!(b.state(id), State::FinWait2);
    b.peer(FA, 1, 5, b"");
    assert_eq!((b.state(id), b.brief()), (State::TimeWait, std::vec![(A, 5, 2, 0)]));
    assert_eq!(b.shard.stats().memory_bytes, 0);
    // The last ACK was lost: the FIN comes again, is acknowledged, and 2 MSL start afresh.
    b.advance_us(50_000_000);
    b.peer(FA, 1, 5, b"");
    assert_eq!(b.brief(), [(A, 5, 2, 0)]);
    b.advance_us(50_000_000);
    assert_eq!((b.state(id), b.events()), (State::TimeWait, std::vec![]));
    b.advance_us(11_000_000);
    assert_eq!(b.events(), [Event::Freed(id)]);
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.shard.next_timeout(), None);
}

#[test]
fn passive_close_through_last_ack() {
    let (mut b, id) = Bench::accepted();
    b.peer(FA, 1, 1, b"");
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id), ready::IN | ready::OUT | ready::RDHUP);
    assert_eq!(b.recv(id), Ok(std::vec![]));
    assert_eq!((b.state(id), b.brief()), (State::CloseWait, std::vec![(A, 1, 2, 0)]));
    b.send(id, b"rest").unwrap();
    b.shard.close(b.now, id);
    assert_eq!((b.state(id), b.brief()), (State::LastAck, std::vec![(FPA, 1, 2, 4)]));
    b.peer(A, 2, 6, b"");
    assert_eq!(b.events(), [Event::Freed(id)]);
    assert_eq!(b.shard.connections().count(), 0);
}

/// RFC 9293 figure 13.
#[test]
fn simultaneous_close() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    assert_eq!(b.brief(), [(FA, 1, 1, 0)]);
    b.peer(FA, 1, 1, b"");
    assert_eq!((b.state(id), b.brief()), (State::Closing, std::vec![(A, 2, 2, 0)]));
    b.peer(A, 2, 2, b"");
    assert_eq!(b.state(id), State::TimeWait);
}

#[test]
fn both_fins_acknowledged_in_one_segment() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(FA, 1, 2, b"");
    assert_eq!((b.state(id), b.brief()), (State::TimeWait, std::vec![(A, 2, 2, 0)]));
}

/// RFC 9293 MUST-12.
#[test]
fn half_close_goes_on_receiving() {
    let (mut b, id) = Bench::accepted();
    b.shard.shutdown(b.now, id, false, true).unwrap();
    assert_eq!(b.send(id, b"x"), Err(Error::BrokenPipe));
    b.sent();
    b.peer(A, 1, 2, b"");
    assert_eq!(b.state(id), State::FinWait2);
    // No orphan: it may stay as long as it likes.
    b.advance_us(600_000_000);
    b.peer(PA, 1, 2, b"late");
    assert_eq!(b.recv(id).unwrap(), b"late");
    b.peer(FA, 5, 2, b"");
    assert_eq!(b.shard.readiness(id) & ready::HUP, ready::HUP);
    assert_eq!(b.recv(id).unwrap(), b"");
    b.shard.close(b.now, id);
    assert_eq!(b.state(id), State::TimeWait);
    b.advance_us(61_000_000);
    assert!(b.events().contains(&Event::Freed(id)));
}

#[test]
fn time_wait_ends_while_the_application_still_holds_the_connection() {
    let (mut b, id) = Bench::accepted();
    b.shard.shutdown(b.now, id, false, true).unwrap();
    b.sent();
    b.peer(FPA, 1, 2, b"unread");
    assert_eq!(b.state(id), State::TimeWait);
    b.advance_us(61_000_000);
    assert_eq!(b.state(id), State::Closed);
    assert_eq!(b.recv(id).unwrap(), b"unread");
    assert_eq!(b.recv(id).unwrap(), b"");
    b.shard.close(b.now, id);
    assert!(b.events().contains(&Event::Freed(id)));
}

/// RFC 2525 2.17.
/// RFC 9293 SHLD-3.
#[test]
fn close_with_unread_data_resets() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"unread");
    b.shard.close(b.now, id);
    assert_eq!(b.brief(), [(RA, 1, 7, 0)]);
    assert_eq!(b.shard.connections().count(), 0);
    assert!(b.events().contains(&Event::Freed(id)));
}

/// RFC 9293 SHLD-3.
#[test]
fn data_for_an_orphan_resets() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(A, 1, 2, b"");
    b.peer(PA, 1, 2, b"too late");
    assert_eq!(b.brief(), [(R, 2, 0, 0)]);
    assert_eq!(b.events(), [Event::Freed(id)]);
}

/// The peer may have missed our FIN: a reset beyond it would only be challenged (RFC 5961 3.2).
/// Found by the comparison with Linux.
#[test]
fn the_reset_of_an_orphan_stands_where_the_peer_is() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(PA, 1, 1, b"too late");
    assert_eq!(b.brief(), [(R, 1, 0, 0)]);

    // A FIN that is early tells of data as well.
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(FA, 51, 1, b"");
    assert_eq!(b.brief(), [(R, 1, 0, 0)]);
}

/// RFC 5681 4.2. Found by the comparison with Linux.
#[test]
fn an_early_fin_tells_of_a_gap() {
    let (mut b, id) = Bench::accepted();
    b.peer(FA, 51, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.peer(PA, 1, 1, &[7; 50]);
    assert_eq!(b.state(id), State::CloseWait);
}

/// Only empty segments could quarrel for ever (Linux: `tcp_oow_rate_limited`). Found by the
/// comparison with Linux.
#[test]
fn every_fin_outside_the_window_is_answered() {
    let (mut b, _) = Bench::accepted();
    for _ in 0..2 {
        b.peer(FA, 1 << 30, 1, b"");
        assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    }
    b.peer(A, 1 << 30, 1, b"");
    b.peer(A, 1 << 30, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.peer(A, 1 << 30, 1, b"");
    assert_eq!(b.brief(), []);
}

/// RFC 9293 3.10.7.4, seventh and eighth step in CLOSE-WAIT. Found by the comparison with Linux.
#[test]
fn what_comes_beyond_a_fin_is_ignored() {
    let (mut b, id) = Bench::accepted();
    b.peer(FA, 1, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 2, 0)]);
    b.peer(PA, 2, 1, b"more");
    b.peer(FA, 2, 1, b"");
    assert_eq!(b.brief(), []);
    b.peer(FA, 1, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 2, 0)]);
    assert_eq!(b.state(id), State::CloseWait);
}

#[test]
fn an_orphan_leaves_fin_wait_2_after_a_minute() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(A, 1, 2, b"");
    b.advance_us(59_000_000);
    assert_eq!(b.state(id), State::FinWait2);
    b.advance_us(2_000_000);
    assert_eq!(b.events(), [Event::Freed(id)]);
}

#[test]
fn an_orphan_gives_up_sooner() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"x").unwrap();
    b.shard.close(b.now, id);
    b.sent();
    let mut count = 0;
    while !b.next_sent(1_000_000_000).1.is_empty() {
        count += 1;
    }
    assert_eq!(count, 8);
    assert_eq!(b.events(), [Event::Freed(id)]);
}

/// RFC 9293 MUST-60.
#[test]
fn a_fin_waits_for_the_data_before_it() {
    let (mut b, id) = Bench::accepted();
    b.peer(FPA, 4, 1, b"def");
    assert_eq!((b.state(id), b.brief()), (State::Established, std::vec![(A, 1, 1, 0)]));
    b.peer(PA, 1, 1, b"abc");
    assert_eq!((b.state(id), b.brief()), (State::CloseWait, std::vec![(A, 1, 8, 0)]));
    assert_eq!(b.recv(id).unwrap(), b"abcdef");
}

#[test]
fn nothing_comes_after_a_fin() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 6, 1, b"lies");
    b.peer(FPA, 4, 1, b"d");
    b.peer(PA, 1, 1, b"abcdXlies");
    assert_eq!(b.state(id), State::CloseWait);
    assert_eq!(b.recv(id).unwrap(), b"abcd");
    assert_eq!(b.recv(id).unwrap(), b"");
}

#[test]
fn the_fin_is_repeated_until_acknowledged() {
    let (mut b, id) = Bench::accepted();
    b.shard.shutdown(b.now, id, false, true).unwrap();
    assert_eq!(b.brief(), [(FA, 1, 1, 0)]);
    let (us, sent) = b.next_sent(10_000_000);
    assert_eq!(sent[0].brief(), (FA, 1, 1, 0));
    assert!(us >= 200_000);
}

/// RFC 9293 3.10.7.4 (MAY-2), RFC 6191.
#[test]
fn a_new_syn_ends_time_wait() {
    let (mut b, id) = Bench::accepted();
    b.shard.close(b.now, id);
    b.sent();
    b.peer(FA, 1, 2, b"");
    b.sent();
    let old = b.iss;
    // Old: acknowledged, no new connection.
    b.peer(S, 1, 0, b"");
    assert_eq!(b.brief(), [(A, 2, 2, 0)]);
    b.peer(S, 100, 0, b"");
    assert_eq!(b.events(), [Event::Freed(id)]);
    assert_eq!(b.sent()[0].flags, SA);
    assert!((b.iss.wrapping_sub(old) as i32) > 2);
    b.peer(A, 101, 1, b"");
    assert!(b.shard.accept(b.listener).is_ok());
}

/// RFC 1337, RFC 5961 3.2.
#[test]
fn abort_resets_at_once() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"never").unwrap();
    b.shard.abort(b.now, id);
    assert_eq!(b.brief(), [(RA, 1, 1, 0)]);
    assert_eq!(b.events(), [Event::Freed(id)]);
    assert_eq!(b.send(id, b"x"), Err(Error::BadId));
}

#[test]
fn close_while_connecting_leaves_nothing() {
    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.shard.close(b.now, id);
    assert_eq!(b.events(), [Event::Freed(id)]);
    assert_eq!((b.brief(), b.shard.next_timeout()), (std::vec![], None));
}

/// What Linux does: data that arrived stays readable, then the error once, then end of stream.
/// RFC 9293 MUST-12.
#[test]
fn after_a_reset() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"data");
    b.send(id, b"pending").unwrap();
    b.peer(R, 5, 0, b"");
    assert_eq!(b.shard.readiness(id), 0x2000 | 0x1f & !2);
    assert_eq!(b.recv(id).unwrap(), b"data");
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
    assert_eq!(b.recv(id), Ok(std::vec![]));
    assert_eq!(b.send(id, b"x"), Err(Error::BrokenPipe));
    assert_eq!(b.shard.stats().memory_bytes, 0);
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.shutdown(b.now, id, true, true), Err(Error::NotConnected));
}

#[test]
fn a_reset_after_the_peers_fin_is_a_broken_pipe() {
    let (mut b, id) = Bench::accepted();
    b.peer(FA, 1, 1, b"");
    b.send(id, b"first succeeds").unwrap();
    b.sent();
    b.peer(R, 2, 0, b"");
    assert_eq!(b.recv(id).unwrap(), b"");
    assert_eq!(b.send(id, b"x"), Err(Error::BrokenPipe));
    assert_eq!(b.shard.take_error(id), None);
}

/// RFC 5961 3.2 and 4.2: a challenge, and not more than one in half a second.
/// RFC 9293 MAY-12.
#[test]
fn inexact_resets_and_syns_are_challenged() {
    let (mut b, id) = Bench::accepted();
    b.peer(R, 2, 0, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.peer(R, 2, 0, b"");
    b.peer(S, 2, 0, b"");
    assert_eq!(b.brief(), []);
    b.advance_us(600_000);
    b.peer(S, 1, 0, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.advance_us(600_000);
    // Outside the window a reset is not even answered.
    b.peer(R, 1_000_000, 0, b"");
    b.peer(R, 0, 0, b"");
    assert_eq!((b.brief(), b.state(id)), (std::vec![], State::Established));
    b.peer(R, 1, 0, b"");
    assert_eq!(b.state(id), State::Closed);
}

#[test]
fn shutting_reading_down_shows_the_end_of_the_stream() {
    let (mut b, id) = Bench::accepted();
    b.shard.shutdown(b.now, id, true, false).unwrap();
    assert_eq!(b.shard.readiness(id), ready::IN | ready::OUT | ready::RDHUP);
    assert_eq!(b.recv(id), Ok(std::vec![]));
    b.send(id, b"still").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 1, 5)]);
}

/// Linux drops what has neither ACK nor RST nor SYN before it looks at the numbers. Found by the
/// comparison with it.
#[test]
fn what_has_no_ack_is_dropped_wherever_it_stands() {
    let (mut b, id) = Bench::accepted();
    for seq in [1, 1 << 30, u32::MAX] {
        b.peer(Flags(8), seq, 0, b"without");
        assert_eq!(b.brief(), []);
    }
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
}
