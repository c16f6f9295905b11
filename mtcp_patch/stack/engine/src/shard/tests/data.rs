use super::*;
use crate::event::ready;
use crate::wire::IcmpKind;

/// RFC 9293 MUST-40, SHLD-18, SHLD-19.
#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let (mut b, _) = Bench::answering();
    b.peer(A, 2, 2, &[1; MSS]);
    assert_eq!(b.brief(), []);
    b.peer(A, 2 + MSS as u32, 2, &[1; MSS]);
    assert_eq!(b.brief(), [(A, 2, 2 + 2 * MSS as u32, 0)]);
    b.peer(A, 2 + 2 * MSS as u32, 2, b"tail");
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent[0].brief(), (A, 2, 6 + 2 * MSS as u32, 0));
    assert!((40_000..50_000).contains(&us), "{us}");
}

/// Linux `tcp_event_data_sent`: pingpong mode begins with an answer, which comes soon.
#[test]
fn only_data_that_answers_ends_quick_acknowledgments() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"request").unwrap();
    b.sent();
    b.peer(PA, 1, 8, b"one");
    assert_eq!(b.brief(), [(A, 8, 4, 0)]);
    b.advance_us(40_000);
    b.send(id, b"x").unwrap();
    b.sent();
    b.peer(PA, 4, 9, b"two");
    assert_eq!(b.brief(), [(A, 9, 7, 0)]);
    b.send(id, b"answer").unwrap();
    b.sent();
    b.peer(PA, 7, 15, b"three");
    assert_eq!(b.brief(), []);
}

#[test]
fn the_first_segments_are_acknowledged_at_once() {
    let (mut b, _) = Bench::accepted();
    b.peer(PA, 1, 1, b"hello");
    assert_eq!(b.brief(), [(A, 1, 6, 0)]);
}

/// RFC 5681 4.2; Linux `tcp_enter_quickack_mode`: a sender that repeats has a small window, which a
/// delayed acknowledgment would stop.
#[test]
fn after_a_duplicate_the_next_segments_are_acknowledged_at_once() {
    let (mut b, _) = Bench::answering();
    b.peer(A, 2, 2, b"one");
    assert_eq!(b.brief(), []);
    b.peer(A, 2, 2, b"one");
    b.sent();
    for seq in (5..50).step_by(3) {
        b.peer(A, seq, 2, b"two");
        assert_eq!(b.brief(), [(A, 2, seq + 3, 0)]);
    }
}

/// Linux `tcp_event_data_recv`: so is what follows a silence of a retransmission timeout.
#[test]
fn after_a_silence_the_next_segments_are_acknowledged_at_once() {
    let (mut b, _) = Bench::accepted();
    for seq in (1..100).step_by(3) {
        b.peer(A, seq, 1, b"one");
        b.sent();
    }
    b.peer(A, 100, 1, b"one");
    assert_eq!(b.brief(), []);
    assert_eq!(b.next_sent(1_000_000).1.len(), 1);
    b.advance_us(2_000_000);
    b.peer(A, 103, 1, b"two");
    assert_eq!(b.brief(), [(A, 1, 106, 0)]);
}

#[test]
fn reading_to_the_end_of_a_write_acknowledges_it_where_nothing_is_answered() {
    let (mut b, id) = Bench::answering();
    // Answers carry acknowledgments, so far.
    b.peer(PA, 2, 2, b"one");
    assert_eq!(b.recv(id).unwrap(), b"one");
    assert_eq!(b.brief(), []);
    // None came in time.
    assert_eq!(b.next_sent(1_000_000).1[0].brief(), (A, 2, 5, 0));
    b.peer(PA, 5, 2, b"two");
    assert_eq!(b.brief(), []);
    assert_eq!(b.recv(id).unwrap(), b"two");
    assert_eq!(b.brief(), [(A, 2, 8, 0)]);
    b.send(id, b"y").unwrap();
    assert_eq!(b.brief(), [(PA, 2, 8, 1)]);
    b.peer(PA, 8, 3, b"three");
    assert_eq!(b.recv(id).unwrap(), b"three");
    assert_eq!(b.brief(), []);
    assert_eq!(b.next_sent(1_000_000).1[0].brief(), (A, 3, 13, 0));
    // More is to come: no PSH.
    b.peer(A, 13, 3, b"four");
    assert_eq!(b.recv(id).unwrap(), b"four");
    assert_eq!(b.brief(), []);
}

#[test]
fn an_answer_carries_the_acknowledgment() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"question");
    b.send(id, b"answer").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 9, 6)]);
    assert_eq!(b.next_sent(150_000).1, []);
}

/// RFC 9293 SHLD-31, MAY-13.
#[test]
fn out_of_order_segments_are_reassembled() {
    let (mut b, id) = Bench::accepted();
    b.peer(A, 7, 1, b"ghi");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.peer(A, 4, 1, b"def");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
    b.peer(A, 1, 1, b"abcdef");
    assert_eq!(b.brief(), [(A, 1, 10, 0)]);
    assert_eq!(b.recv(id).unwrap(), b"abcdefghi");
    // Seen already: acknowledged at once, and nothing else.
    b.peer(A, 4, 1, b"def");
    assert_eq!(b.brief(), [(A, 1, 10, 0)]);
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
    // Half old, half new.
    b.peer(A, 7, 1, b"ghijkl");
    assert_eq!(b.recv(id).unwrap(), b"jkl");
}

#[test]
fn what_is_outside_the_window_is_cut() {
    let (mut b, id) = Bench::accepted();
    let window = 65_535u32;
    b.peer(A, 1, 1, &[7; 1400]);
    let edge = u32::from(b.sent()[0].wnd) + 1401;
    assert_eq!(edge, window + 1);
    b.peer(A, edge - 2, 1, b"abcd");
    assert_eq!(b.brief(), [(A, 1, 1401, 0)]);
    b.peer(A, edge + 1, 1, b"abcd");
    assert_eq!(b.brief(), [(A, 1, 1401, 0)]);
    assert_eq!(b.recv(id).unwrap().len(), 1400);
}

/// RFC 9293 SHLD-27, SHLD-28.
#[test]
fn two_small_writes_of_one_turn_leave_together() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"two ").unwrap();
    b.send(id, b"writes").unwrap();
    assert_eq!(b.brief(), [(PA, 1, 1, 10)]);
}

/// RFC 9293 SHLD-7, MUST-17.
#[test]
fn nagle_holds_a_second_small_segment_until_the_first_is_acknowledged() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"one").unwrap();
    assert_eq!(b.sent().len(), 1);
    b.send(id, b"two").unwrap();
    assert_eq!(b.brief(), []);
    b.peer(A, 1, 4, b"");
    assert_eq!(b.brief(), [(PA, 4, 1, 3)]);
    b.send(id, b"now").unwrap();
    let options = ConnOptions { nodelay: true, ..ConnOptions::default() };
    b.shard.set_options(b.now, id, options);
    assert_eq!(b.brief(), [(PA, 7, 1, 3)]);
    b.send(id, b"at once").unwrap();
    assert_eq!(b.brief(), [(PA, 10, 1, 7)]);
}

#[test]
fn a_cork_holds_partial_segments_for_a_while() {
    let (mut b, id) = Bench::accepted();
    b.shard.set_options(b.now, id, ConnOptions { cork: true, ..ConnOptions::default() });
    b.send(id, &[1; MSS + 100]).unwrap();
    assert_eq!(b.brief(), [(A, 1, 1, MSS)]);
    b.peer(A, 1, 1 + MSS as u32, b"");
    assert_eq!(b.brief(), []);
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent[0].payload.len(), 100);
    assert!((200_000..210_000).contains(&us), "{us}");
    b.peer(A, 1, 101 + MSS as u32, b"");
    b.send(id, b"held").unwrap();
    assert_eq!(b.brief(), []);
    b.shard.set_options(b.now, id, ConnOptions::default());
    assert_eq!(b.sent()[0].payload, b"held");
}

/// RFC 9293 MUST-16.
#[test]
fn segments_follow_the_peers_mss_and_our_mtu() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 2 * MSS + 1]).unwrap();
    let sizes: Vec<usize> = b.sent().iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [MSS, MSS, 1]);
    let mut b = Bench::new();
    b.peer_options.mss = Some(9000);
    let id = b.accept();
    b.send(id, &[1; 3000]).unwrap();
    let sizes: Vec<usize> = b.sent().iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [1460, 1460, 80]);
}

/// RFC 9293 MUST-19; RFC 6928 2.
#[test]
fn the_initial_window_is_ten_segments() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 20 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 10);
    assert_eq!(b.sent().len(), 0);
    // Slow start: two segments acknowledged, four more.
    b.peer(A, 1, 1 + 2 * MSS as u32, b"");
    assert_eq!(b.sent().len(), 4);
}

#[test]
fn a_device_that_refuses_loses_nothing() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 4 * MSS]).unwrap();
    let mut seqs = std::vec![];
    assert!(b.sent_at_most(0).is_empty());
    assert!(b.shard.has_output(DEVICE));
    for _ in 0..5 {
        seqs.extend(b.sent_at_most(1).iter().map(|s| s.seq));
    }
    assert_eq!(seqs, [1, 1001, 2001, 3001]);
    assert!(!b.shard.has_output(DEVICE));
}

/// RFC 5681 3.2, RFC 6582 3.2.
#[test]
fn three_duplicates_resend_one_segment() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 6 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 6);
    for _ in 0..2 {
        b.peer(A, 1, 1, b"");
        assert_eq!(b.brief(), []);
    }
    b.peer(A, 1, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 1, MSS)]);
    // Further duplicates send nothing again; the partial acknowledgment sends the next hole.
    b.peer(A, 1, 1, b"");
    assert_eq!(b.brief(), []);
    b.peer(A, 1, 1 + 3 * MSS as u32, b"");
    assert_eq!(b.brief(), [(A, 1 + 3 * MSS as u32, 1, MSS)]);
    b.peer(A, 1, 1 + 6 * MSS as u32, b"");
    assert_eq!(b.brief(), []);
    assert_eq!(b.shard.info(id).unwrap().retransmits, 2);
    assert_eq!(b.shard.stats().fast_retransmits, 1);
}

/// RFC 3042.
#[test]
fn the_first_two_duplicates_let_new_data_go() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 20 * MSS]).unwrap();
    assert_eq!(b.sent().len(), 10);
    for _ in 0..2 {
        b.peer(A, 1, 1, b"");
        assert_eq!(b.sent().len(), 1);
    }
    b.peer(A, 1, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 1, MSS)]);
}

/// RFC 9293 MUST-19.
#[test]
fn a_lost_window_is_repeated_from_its_start() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 3 * MSS]).unwrap();
    b.sent();
    let (us, sent) = b.next_sent(10_000_000);
    assert!((200_000..210_000).contains(&us), "{us}");
    assert_eq!(sent.iter().map(Sent::brief).collect::<Vec<_>>(), [(A, 1, 1, MSS)]);
    b.peer(A, 1, 1 + MSS as u32, b"");
    let again: Vec<u32> = b.sent().iter().map(|s| s.seq).collect();
    assert_eq!(again, [1001, 2001]);
    b.peer(A, 1, 1 + 3 * MSS as u32, b"");
    assert_eq!(b.next_sent(10_000_000).1, []);
}

/// RFC 9293 MUST-20, SHLD-11.
#[test]
fn unanswered_data_ends_in_a_timeout() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"anybody?").unwrap();
    b.sent();
    let mut count = 0;
    while !b.next_sent(1_000_000_000).1.is_empty() {
        count += 1;
    }
    assert_eq!(count, 15);
    assert_eq!(b.recv(id), Err(Error::TimedOut));
    assert_eq!(b.state(id), State::Closed);
}

/// What had been sent goes out again after a timeout, and nothing new with it beyond the window.
/// RFC 9293 MUST-34, SHLD-15, SHLD-16.
#[test]
fn a_timeout_does_not_overrun_the_window() {
    let mut b = Bench::new();
    b.peer_wnd = 600;
    let id = b.accept();
    b.send(id, &[7; 4 * MSS]).unwrap();
    let mut ends = std::vec![];
    for _ in 0..4 {
        let (_, sent) = b.next_sent(10_000_000);
        ends.extend(sent.iter().map(|s| s.brief().1 as usize + s.payload.len()));
    }
    assert!(ends.len() >= 4 && ends.iter().all(|&end| end <= 601), "{ends:?}");
}

/// RFC 9293 MUST-35, MUST-36, MUST-37, SHLD-29, SHLD-30.
#[test]
fn a_closed_window_is_probed_for_as_long_as_the_peer_answers() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.send(id, b"waits").unwrap();
    assert_eq!(b.brief(), []);
    let mut gaps = std::vec![];
    for _ in 0..20 {
        let (us, sent) = b.next_sent(200_000_000);
        assert_eq!(sent.iter().map(Sent::brief).collect::<Vec<_>>(), [(A, 0, 1, 0)]);
        gaps.push(us / 100_000);
        b.peer(A, 1, 1, b"");
    }
    assert_eq!(gaps[..5], [2, 4, 8, 16, 32]);
    assert_eq!(*gaps.last().unwrap(), 1200);
    b.peer_wnd = 1000;
    b.peer(A, 1, 1, b"");
    assert_eq!(b.brief(), [(PA, 1, 1, 5)]);
}

#[test]
fn a_peer_that_never_reads_does_not_hold_an_orphan() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.send(id, b"never read").unwrap();
    b.shard.close(b.now, id);
    let mut count = 0;
    while !b.next_sent(1_000_000_000).1.is_empty() {
        count += 1;
        b.peer(A, 1, 1, b"");
    }
    assert_eq!((count, b.events()), (8, std::vec![Event::Freed(id)]));
}

#[test]
fn probes_without_answer_end() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.send(id, b"waits").unwrap();
    let mut count = 0;
    while !b.next_sent(1_000_000_000).1.is_empty() {
        count += 1;
    }
    assert_eq!((count, b.recv(id)), (15, Err(Error::TimedOut)));
}

/// RFC 9293 3.8.6.2.1: a small window is filled only after the override timeout.
/// RFC 9293 MUST-38.
#[test]
fn the_sender_avoids_silly_windows() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; MSS]).unwrap();
    b.sent();
    b.peer_wnd = 100;
    b.peer(A, 1, 1 + MSS as u32, b"");
    b.send(id, &[1; MSS]).unwrap();
    assert_eq!(b.brief(), []);
    let (us, sent) = b.next_sent(10_000_000);
    assert_eq!(sent[0].payload.len(), 100);
    assert!(us >= 200_000, "{us}");
}

/// RFC 9293 3.8.6.2.2, and the window update that wakes a blocked peer.
/// RFC 9293 MUST-39.
#[test]
fn the_receiver_avoids_silly_windows() {
    let (mut b, id) = Bench::accepted();
    let mut seq = 1;
    let mut wnd = 65_535u32;
    while wnd > 0 {
        let len = wnd.min(1400);
        b.peer(A, seq, 1, &[1; 1400][..len as usize]);
        seq += len;
        let Some(last) = b.next_sent(100_000).1.pop() else { continue };
        assert_eq!(last.ack, seq);
        assert!(u32::from(last.wnd) + seq >= 65_536, "the right edge moved left");
        wnd = u32::from(last.wnd);
    }
    let (a, _) = b.shard.recv_slices(id).unwrap();
    assert!(!a.is_empty());
    b.shard.recv_consume(b.now, id, 100).unwrap();
    assert_eq!(b.brief(), [], "a window of 100 bytes is silly");
    b.shard.recv_consume(b.now, id, 3000).unwrap();
    let sent = b.sent();
    assert_eq!((sent.len(), sent[0].wnd), (1, 3100));
}

#[test]
fn readiness_follows_the_send_buffer() {
    let config =
        Config { send_buffer_bytes: 9000, send_buffer_initial_bytes: 9000, ..Config::default() };
    let mut b = Bench::with(config, 16);
    let id = b.accept();
    assert_eq!(b.send(id, &[1; 10_000]), Ok(9000));
    assert_eq!(b.send(id, b"x"), Err(Error::WouldBlock));
    assert_eq!(b.shard.readiness(id) & ready::OUT, 0);
    b.sent();
    b.peer(A, 1, 1001, b"");
    assert_eq!((b.events(), b.shard.readiness(id) & ready::OUT), (std::vec![], 0));
    b.peer(A, 1, 3001, b"");
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id) & ready::OUT, ready::OUT);
}

#[test]
fn data_is_an_event_each_time_and_once_at_a_time() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"a");
    b.peer(PA, 2, 1, b"b");
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id), ready::IN | ready::OUT);
    b.peer(PA, 3, 1, b"c");
    assert_eq!(b.events(), [Event::Conn(id)]);
}

#[test]
fn an_acknowledgment_of_the_future_or_of_long_ago_is_challenged() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 5000, b"ignored");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    b.advance_us(600_000);
    b.peer(PA, 1, 0u32.wrapping_sub(100_000), b"ignored");
    assert_eq!(b.brief(), [(A, 1, 1, 0)]);
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
}

/// RFC 1191 6, RFC 8201 4, RFC 5927 4.1.
#[test]
fn a_router_that_needs_smaller_packets_is_believed_within_reason() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; MSS]).unwrap();
    b.sent();
    let (local, remote) = (b.ours, b.theirs);
    let icmp = |b: &mut Bench, mtu, seq: u32| {
        let seq = Seq(b.iss.wrapping_add(seq));
        let error = wire::IcmpError { kind: IcmpKind::FragNeeded { mtu }, local, remote, seq };
        b.shard.handle_icmp(b.now, &error);
        b.shard.check().unwrap();
    };
    icmp(&mut b, 600, 5000);
    icmp(&mut b, 1400, 1);
    assert_eq!(b.brief(), []);
    icmp(&mut b, 600, 1);
    let sizes: Vec<usize> = b.sent().iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [560, 440]);
}

/// RFC 9293 MUST-54, MUST-56, SHLD-26.
#[test]
fn an_unreachable_host_ends_a_connect_but_not_a_connection() {
    let unreachable = |b: &Bench, code| wire::IcmpError {
        kind: IcmpKind::Unreachable { code },
        local: b.ours,
        remote: b.theirs,
        seq: Seq(b.iss),
    };
    for (code, error) in
        [(0, Error::NetUnreachable), (1, Error::HostUnreachable), (3, Error::ConnectionRefused)]
    {
        let mut b = Bench::new();
        let id = b.connect();
        b.sent();
        let icmp = unreachable(&b, code);
        b.shard.handle_icmp(b.now, &icmp);
        assert_eq!(b.shard.take_error(id), Some(error));
    }
    let (mut b, id) = Bench::connected();
    b.send(id, b"x").unwrap();
    b.sent();
    let icmp = wire::IcmpError { seq: Seq(b.iss.wrapping_add(1)), ..unreachable(&b, 3) };
    b.shard.handle_icmp(b.now, &icmp);
    assert_eq!((b.state(id), b.shard.take_error(id)), (State::Established, None));
}

/// RFC 9293 3.10.7.4, fifth step: SND.UNA =< SEG.ACK. Found by `make sim SEED=929`.
#[test]
fn an_old_acknowledgment_on_a_newer_segment_does_not_move_the_window() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 2000;
    b.peer(A, 1, 1, b"");
    b.send(id, &[1; 10_000]).unwrap();
    assert_eq!(b.sent().iter().map(|s| s.payload.len()).sum::<usize>(), 2000);
    b.peer_wnd = 0;
    b.peer(A, 1, 2001, b"");
    // It was on the way when that acknowledgment overtook it.
    b.peer_wnd = 2000;
    b.peer(A, 2, 1, b"y");
    assert_eq!(b.sent().iter().map(|s| s.payload.len()).sum::<usize>(), 0);
}
