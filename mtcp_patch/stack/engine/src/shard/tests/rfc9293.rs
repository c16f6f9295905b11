//! Requirements of RFC 9293 that no other test is about. docs/rfc9293.md has them all.

use super::*;
use crate::event::ready;
use crate::tcp::conn_options::Keepalive;

/// RFC 9293 3.1 (MUST-1): a window that would be negative as 16 signed bits.
#[test]
fn a_large_window_is_not_a_negative_one() {
    let (mut b, id) = Bench::accepted();
    b.peer_wnd = 0x8001;
    b.peer(A, 1, 1, b"");
    b.send(id, &[0; 5000]).unwrap();
    let sent: usize = b.sent().iter().map(|sent| sent.payload.len()).sum();
    assert_eq!(sent, 5000);
}

/// RFC 9293 3.1 (MUST-3).
#[test]
fn a_damaged_segment_is_dropped() {
    let (mut b, id) = Bench::accepted();
    let header = Header {
        link: Link::default(),
        src: b.theirs,
        dst: b.ours,
        seq: Seq(PEER_ISS.wrapping_add(1)),
        ack: Seq(b.iss.wrapping_add(1)),
        flags: PA,
        wnd: 1000,
        urgent: 0,
        options: Options::default(),
        ecn: 0,
        dscp: 0,
        hop_limit: 64,
        ip_id: 0,
    };
    let mut frame = std::vec![0; header.len(Medium::Ip) + 4];
    header.emit(&caps(), [b"data", &[]], &mut frame);
    let last = frame.last_mut().unwrap();
    *last ^= 1;
    b.shard.handle_frame(b.now, DEVICE, &frame);
    assert_eq!(b.recv(id), Err(Error::WouldBlock));
    assert_eq!(b.brief(), []);
    *frame.last_mut().unwrap() ^= 1;
    b.shard.handle_frame(b.now, DEVICE, &frame);
    assert_eq!(b.recv(id).unwrap(), b"data");
}

/// RFC 9293 3.5 (MUST-11): a reset in SYN-RECEIVED leaves a listener as it was, and fails the open
/// of whoever had called connect.
#[test]
fn a_reset_in_syn_received_knows_how_the_open_began() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(R, 1, 0, b"");
    assert_eq!((b.events(), b.shard.connections().count()), (std::vec![], 0));
    b.accept();

    let mut b = Bench::new();
    let id = b.connect();
    b.sent();
    b.peer(S, 0, 0, b"");
    b.sent();
    assert_eq!(b.state(id), State::SynReceived);
    b.peer(RA, 1, 1, b"");
    assert_eq!(b.recv(id), Err(Error::ConnectionRefused));
}

/// RFC 9293 3.8.4 (MUST-25, MUST-28).
#[test]
fn keepalive_is_off_and_waits_for_two_hours() {
    let default = ConnOptions::default().keepalive;
    assert_eq!(default, Keepalive::default());
    assert!(!default.on && default.idle_us >= 2 * 3_600_000_000);
}

/// RFC 9293 3.9.1.1 (MUST-42).
#[test]
fn a_port_from_which_a_connection_is_being_opened_can_be_listened_on() {
    let mut b = Bench::new();
    let connecting = b.connect();
    b.sent();
    let inherit = ConnOptions::default();
    let options = ListenOptions { local: b.ours, v6only: false, backlog: 1, inherit };
    b.shard.listen(options).unwrap();
    assert_eq!(b.state(connecting), State::SynSent);
    b.theirs.set_port(4001);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.brief(), [(SA, 0, 1, 0)]);
}

/// RFC 9293 3.10.7.4 (MUST-58, MUST-59).
#[test]
fn all_segments_of_a_batch_are_processed_before_one_acknowledgment() {
    let (mut b, _) = Bench::accepted();
    for i in 0..8 {
        b.peer(A, 1 + i * MSS as u32, 1, &[0; MSS]);
    }
    assert_eq!(b.brief(), [(A, 1, 1 + 8 * MSS as u32, 0)]);
}

/// RFC 9293 3.9.1.2 (MUST-61).
#[test]
fn the_last_segment_of_the_buffer_has_psh() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[0; 2 * MSS]).unwrap();
    let flags: Vec<_> = b.sent().iter().map(|sent| sent.flags).collect();
    assert_eq!(flags, [A, PA]);
}

/// A connection whose receive window is closed: the application reads nothing.
fn closed_window() -> (Bench, ConnId, u32) {
    let (mut b, id) = Bench::accepted();
    let mut seq = 1;
    for _ in 0..1000 {
        b.peer(A, seq, 1, &[0; MSS]);
        let sent = b.sent();
        if let Some(last) = sent.last() {
            seq = last.ack;
            if last.wnd == 0 {
                return (b, id, seq);
            }
        } else {
            seq += MSS as u32;
        }
    }
    panic!("the window never closes");
}

/// RFC 9293 3.4 (MUST-66).
#[test]
fn a_reset_counts_though_the_window_is_closed() {
    let (mut b, id, seq) = closed_window();
    b.peer(R, seq, 0, b"");
    assert_eq!(b.state(id), State::Closed);
    assert_ne!(b.shard.readiness(id) & ready::ERR, 0);
}

/// RFC 9293 3.8.6 (SHLD-14).
#[test]
fn the_right_edge_never_moves_left() {
    let (mut b, _) = Bench::accepted();
    let (mut seq, mut edge) = (1, 0);
    for size in (1..=MSS).cycle().step_by(37).take(300) {
        b.peer(PA, seq, 1, &std::vec![0; size]);
        let Some(last) = b.next_sent(1_000_000).1.pop() else { break };
        assert!(last.ack + u32::from(last.wnd) >= edge, "{last:?} after {edge}");
        edge = last.ack + u32::from(last.wnd);
        seq = last.ack;
        if last.wnd == 0 {
            return;
        }
    }
    panic!("the window never closes");
}

/// RFC 9293 3.5.3 (SHLD-2), as RFC 1122 4.2.2.12 has it: the data says why.
#[test]
fn a_reset_may_carry_data() {
    let (mut b, id) = Bench::accepted();
    b.peer(R, 1, 0, b"because");
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
}

/// RFC 9293 3.2 (MUST-65).
#[test]
fn the_mss_is_in_the_syn_only() {
    let (mut b, id) = Bench::accepted();
    b.send(id, b"x").unwrap();
    b.peer(PA, 1, 1, b"y");
    let sent = b.sent();
    assert!(!sent.is_empty() && sent.iter().all(|sent| sent.options.mss.is_none()), "{sent:?}");
}
