//! Settings that a Linux host has as sysctls or metrics of a route, beside its defaults.

use super::*;
use crate::tcp::recovery::CaState;

/// An accepted connection whose peer's one byte was answered at once, and read.
fn spoken_to(config: Config) -> (Bench, ConnId) {
    let mut b = Bench::with(config, 16);
    let id = b.accept();
    b.peer(PA, 1, 1, b"?");
    b.recv(id).unwrap();
    b.sent();
    (b, id)
}

/// RFC 9293 3.8.6.3 (SHLD-18): one segment for the peer's FIN and ours.
#[test]
fn the_acknowledgment_of_a_fin_waits_for_the_application_to_close() {
    let (mut b, id) = spoken_to(Config::default());
    b.peer(FA, 2, 1, b"");
    assert_eq!(b.brief(), []);
    b.shard.close(b.now, id);
    assert_eq!(b.brief(), [(FA, 1, 3, 0)]);
}

/// RFC 9293 3.8.6.3 (MUST-40): less than half a second, also for an application that goes on.
#[test]
fn a_fin_is_acknowledged_alone_when_nobody_closes() {
    let (mut b, _) = spoken_to(Config::default());
    b.peer(FA, 2, 1, b"");
    let (us, sent) = b.next_sent(1_000_000);
    assert_eq!(sent[0].brief(), (A, 1, 3, 0));
    assert!((40_000..42_000).contains(&us), "{us}");
}

/// Linux (`icsk_ack.ato` is 0), and 4.4BSD.
#[test]
fn a_fin_before_any_data_or_without_the_delay_is_acknowledged_at_once() {
    let (mut b, _) = Bench::accepted();
    b.peer(FA, 1, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 2, 0)]);
    let (mut b, _) = spoken_to(Config { delayed_fin_ack: false, ..Config::default() });
    b.peer(FA, 2, 1, b"");
    assert_eq!(b.brief(), [(A, 1, 3, 0)]);
}

/// A FIN that ends TIME-WAIT's wait is not for the application to answer.
#[test]
fn the_fin_that_answers_ours_is_acknowledged_at_once() {
    let (mut b, id) = spoken_to(Config::default());
    b.shard.shutdown(b.now, id, false, true).unwrap();
    b.sent();
    b.peer(FA, 2, 2, b"");
    assert_eq!(b.brief(), [(A, 2, 3, 0)]);
}

#[test]
fn the_first_congestion_window_is_the_routes() {
    for initial_cwnd in [2, 10, 16] {
        let mut b = Bench::with(Config { initial_cwnd, ..Config::default() }, 16);
        let id = b.accept();
        b.send(id, &[7; 30 * MSS]).unwrap();
        assert_eq!(b.sent().len(), initial_cwnd as usize);
    }
}

/// RFC 9293 3.7.1: both SYNs.
#[test]
fn no_more_is_offered_than_the_routes_mss() {
    let config = Config { adv_mss: 1200, ..Config::default() };
    let mut b = Bench::with(config.clone(), 16);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].options.mss, Some(1200));
    let mut b = Bench::with(config, 16);
    b.connect();
    assert_eq!(b.sent()[0].options.mss, Some(1200));
}

/// Linux: `tcp_select_initial_window`. 65,535 is the most that a SYN can say, and then no buffer's size.
#[test]
fn the_window_of_a_syn_is_whole_segments_and_no_more_than_the_route_says() {
    let window = |recv_buffer_initial_bytes, initial_rwnd| {
        let config = Config { recv_buffer_initial_bytes, initial_rwnd, ..Config::default() };
        let mut b = Bench::with(config, 16);
        b.peer(S, 0, 0, b"");
        b.sent()[0].wnd
    };
    assert_eq!(window(65_536, u32::MAX), 44 * 1460);
    assert_eq!(window(65_535, u32::MAX), 65_535);
    assert_eq!(window(128 * 1024, u32::MAX), 65_535);
    assert_eq!(window(128 * 1024, 20), 20 * 1460);
}

/// RFC 7323: a full segment of ours will have room for 1,448 bytes, which a SYN-ACK knows.
#[test]
fn the_window_of_a_syn_ack_counts_the_timestamps() {
    let config = Config { recv_buffer_initial_bytes: 65_536, ..Config::default() };
    let mut b = Bench::with(config.clone(), 16);
    b.peer_options.timestamps = Some((1, 0));
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].wnd, 45 * 1448);
    let mut b = Bench::with(config, 16);
    b.connect();
    assert_eq!(b.sent()[0].wnd, 44 * 1460);
}

/// RFC 2883, or not (`tcp_dsack` = 0).
#[test]
fn duplicates_are_reported_or_not() {
    for (dsack, blocks) in [(true, 1), (false, 0)] {
        let mut b = Bench::with(Config { dsack, ..Config::default() }, 16);
        b.peer_options.sack_permitted = true;
        b.accept();
        b.peer(A, 1, 1, &[7; 100]);
        b.sent();
        b.peer(A, 1, 1, &[7; 100]);
        let sent = b.sent();
        assert_eq!((sent.len(), sent[0].ack), (1, 101));
        assert_eq!(sent[0].options.sack.iter().flatten().count(), blocks);
    }
}

/// `tcp_invalid_ratelimit`: how soon a second stray is answered.
#[test]
fn strays_are_answered_as_often_as_the_interval_says() {
    for (stray_ack_interval_us, answers) in [(500_000, 1), (0, 2)] {
        let (mut b, _) = spoken_to(Config { stray_ack_interval_us, ..Config::default() });
        let mut count = 0;
        for _ in 0..2 {
            b.peer(A, 1, 1000, b"");
            count += b.sent().len();
        }
        assert_eq!(count, answers);
    }
}

/// Ten segments out for 100 ms, with SACK and without RACK.
fn without_rack() -> (Bench, ConnId) {
    let options = Options { sack_permitted: true, ..Options::default() };
    let config = Config { rack: false, tail_loss_probe: false, ..Config::default() };
    let (mut b, id) = Bench::on_long_path_with(options, config);
    b.send(id, &[7; 60 * MSS]).unwrap();
    assert_eq!(b.segments(), (1..=10).collect::<Vec<_>>());
    b.advance_us(100_000);
    (b, id)
}

/// RFC 6675 5 (2): `DupThresh` segments above the hole, whatever time has passed.
#[test]
fn without_rack_three_segments_above_a_hole_show_the_loss() {
    let (mut b, id) = without_rack();
    b.sack(1, &[(2, 4)]);
    assert!(!b.segments().contains(&1));
    b.advance_us(50_000);
    assert_eq!((b.segments(), b.tcp_info(id).ca_state), (std::vec![], CaState::Disorder));
    b.sack(1, &[(2, 5)]);
    assert_eq!(b.segments()[0], 1);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Recovery);
}

/// RFC 6675 4, `IsLost`: what has fewer than `DupThresh` above it is not lost yet.
#[test]
fn without_rack_only_what_three_have_overtaken_is_lost() {
    let (mut b, id) = without_rack();
    b.sack(1, &[(2, 3), (4, 6)]);
    b.segments();
    assert_eq!(b.tcp_info(id).lost_segs, 1, "segment 3 has two above it");
    b.sack(1, &[(2, 3), (4, 7)]);
    b.segments();
    assert!(b.tcp_info(id).total_retrans >= 1);
    assert_eq!(b.tcp_info(id).lost_segs, 2);
}

/// RFC 5682 off: the timeout is believed, and the next in line is sent again.
#[test]
fn without_frto_progress_after_a_timeout_repairs_at_once() {
    let config = Config { frto: false, ..Config::default() };
    let (mut b, id) = Bench::on_long_path_with(Options::default(), config);
    b.send(id, &[7; 60 * MSS]).unwrap();
    assert_eq!(b.segments().len(), 10);
    let (_, sent) = b.next_sent(2_000_000);
    assert_eq!(sent[0].seq, 1 + MSS as u32);
    b.sack(2, &[]);
    assert_eq!(b.segments(), [2, 3]);
    assert_eq!(b.tcp_info(id).ca_state, CaState::Loss);
}
