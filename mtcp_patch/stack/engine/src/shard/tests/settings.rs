//! Settings that make the engine behave as another family of stacks does.

use super::*;

fn accepted(config: Config, wscale: Option<u8>) -> (Bench, ConnId) {
    let mut b = Bench::with(config, 16);
    b.peer_options.wscale = wscale;
    let id = b.accept();
    (b, id)
}

/// RFC 7323 1.3.
#[test]
fn without_window_scaling_neither_syn_has_it() {
    let config = Config { window_scaling: false, ..Config::default() };
    let mut b = Bench::with(config.clone(), 16);
    b.peer_options.wscale = Some(7);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].options.wscale, None);
    let mut b = Bench::with(config, 16);
    b.connect();
    assert_eq!(b.sent()[0].options.wscale, None);
}

#[test]
fn a_buffer_of_whole_segments_is_a_multiple_of_the_mss() {
    let config = Config {
        recv_buffer_whole_segments: true,
        recv_buffer_initial_bytes: 10_500,
        ..Config::default()
    };
    let (b, id) = accepted(config, Some(0));
    assert_eq!(b.shard.tcp_info(b.now, id).unwrap().rcv_ssthresh, 11_000);
}

/// RFC 9293 3.8.6.2.2, and what 4.4BSD makes of it.
#[test]
fn the_edge_of_the_window_moves_in_steps_or_with_every_byte() {
    for (window_steps, wnd) in [(true, 9_900), (false, 10_000)] {
        let config =
            Config { window_steps, recv_buffer_initial_bytes: 10_000, ..Config::default() };
        let (mut b, id) = accepted(config, None);
        b.peer(PA, 1, 1, &[7; 100]);
        assert_eq!(b.sent()[0].wnd, 9_900);
        b.recv(id).unwrap();
        b.peer(PA, 1, 1, &[7; 100]);
        assert_eq!(b.sent()[0].wnd, wnd);
    }
}

/// RFC 9293 3.10.7.4, second step, without RFC 5961.
#[test]
fn without_exact_resets_any_in_the_window_resets() {
    for (seq, resets) in [(1, true), (1000, true), (65_535, true), (65_536, false)] {
        let config =
            Config { exact_reset: false, recv_buffer_initial_bytes: 65_535, ..Config::default() };
        let (mut b, id) = accepted(config, None);
        b.peer(R, seq, 0, b"");
        assert_eq!(b.state(id) == State::Closed, resets, "{seq}");
        assert_eq!(b.brief(), []);
    }
}

/// RFC 5961 3.2: what is outside the window is dropped, and its right edge is outside.
#[test]
fn a_reset_at_the_right_edge_is_dropped_in_silence() {
    let config = Config { recv_buffer_initial_bytes: 65_535, ..Config::default() };
    let (mut b, id) = accepted(config.clone(), None);
    b.peer(R, 65_536, 0, b"");
    assert_eq!((b.brief(), b.state(id)), (std::vec![], State::Established));
    b.peer(R, 65_535, 0, b"");
    assert_eq!(b.brief(), [(A, 1, 1, 0)], "inside: a challenge");
    let mut b = Bench::with(config, 16);
    b.peer(S, 0, 0, b"");
    b.sent();
    b.peer(R, 65_536, 0, b"");
    assert_eq!(b.brief(), [], "in SYN-RECEIVED too");
}

/// RFC 9293 3.10.7.4, fourth step, without RFC 5961.
#[test]
fn without_challenges_a_syn_in_the_window_is_answered_by_a_reset() {
    let config = Config { challenge_syn: false, ..Config::default() };
    let (mut b, id) = accepted(config, None);
    b.peer(S, 1, 0, b"");
    assert_eq!(b.brief(), [(RA, 1, 1, 0)]);
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
}

#[test]
fn an_acknowledgment_waits_from_the_first_segment_for_the_second_of_any_size() {
    let config = Config { quick_acks: 0, delayed_ack_segments: 2, ..Config::default() };
    let (mut b, _) = accepted(config, None);
    b.peer(A, 1, 1, b"a");
    assert_eq!(b.brief(), []);
    b.peer(A, 2, 1, b"b");
    assert_eq!(b.brief(), [(A, 1, 3, 0)]);
    b.peer(A, 3, 1, b"c");
    assert_eq!(b.brief(), [], "counted anew");
}

/// 4.4BSD: two full segments and a quarter of the buffer make an update.
#[test]
fn reading_opens_the_window_by_a_quarter_of_the_buffer() {
    for (window_steps, updates) in [(true, 0), (false, 1)] {
        let config =
            Config { window_steps, recv_buffer_initial_bytes: 10_000, ..Config::default() };
        let (mut b, id) = accepted(config, None);
        for n in 0..3 {
            b.peer(A, 1 + n * 1000, 1, &[7; 1000]);
        }
        b.sent();
        b.recv(id).unwrap();
        assert_eq!(b.brief().len(), updates);
    }
}

#[test]
fn what_a_listener_is_told_later_holds_for_the_next_syn() {
    let mut b = Bench::new();
    let inherit = ConnOptions { maxseg: Some(700), ..ConnOptions::default() };
    b.shard.set_listener_options(b.listener, inherit);
    b.peer(S, 0, 0, b"");
    assert_eq!(b.sent()[0].options.mss, Some(700));
}

/// tcp(7): TCP_NODELAY pushes what is queued, which overrides even TCP_CORK.
#[test]
fn nodelay_pushes_what_the_cork_holds_back() {
    let (mut b, id) = Bench::accepted();
    let corked = ConnOptions { cork: true, ..ConnOptions::default() };
    b.shard.set_options(b.now, id, corked);
    b.shard.send(b.now, id, b"held").unwrap();
    assert_eq!(b.brief(), []);
    b.shard.set_options(b.now, id, ConnOptions { nodelay: true, ..corked });
    assert_eq!(b.brief(), [(PA, 1, 1, 4)]);
}

#[test]
fn a_syn_with_fin_is_dropped_everywhere_when_told_so() {
    for (drop_syn_fin, answers) in [(true, 0), (false, 1)] {
        let (mut b, _) = accepted(Config { drop_syn_fin, ..Config::default() }, None);
        b.peer(Flags(1 | 2), 1, 0, b"");
        assert_eq!(b.brief().len(), answers);
    }
}

/// RFC 9293 3.10.7.4, fifth step; Linux says nothing.
#[test]
fn an_acknowledgment_of_what_was_never_sent_is_answered_or_not() {
    for challenge_unsent_ack in [true, false] {
        let (mut b, _) = accepted(Config { challenge_unsent_ack, ..Config::default() }, None);
        b.peer(A, 1, 9999, b"");
        assert_eq!(b.brief().len(), usize::from(challenge_unsent_ack));
    }
}

/// The host's bound holds where the application has none of its own.
#[test]
fn the_hosts_notsent_lowat_bounds_what_waits_unsent() {
    let config = Config { notsent_lowat: Some(4000), ..Config::default() };
    let (mut b, id) = accepted(config, None);
    let taken = b.shard.send(b.now, id, &[1; 100 * MSS]).unwrap();
    assert!(taken < 20 * MSS, "{taken}");
    b.sent();
    assert_eq!(b.shard.readiness(id) & crate::event::ready::OUT, 0);
    let own = ConnOptions { notsent_lowat: Some(u32::MAX), ..ConnOptions::default() };
    b.shard.set_options(b.now, id, own);
    assert!(b.shard.send(b.now, id, &[1; 50 * MSS]).unwrap() > 20 * MSS);
}
