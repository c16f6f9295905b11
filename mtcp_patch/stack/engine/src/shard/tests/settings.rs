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
    for (window_steps, wnd) in [(true, 10_120), (false, 10_220)] {
        let config =
            Config { window_steps, recv_buffer_initial_bytes: 10_220, ..Config::default() };
        let (mut b, id) = accepted(config, None);
        b.peer(PA, 1, 1, &[7; 100]);
        assert_eq!(b.sent()[0].wnd, 10_120);
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

/// FreeBSD without `drop_synfin`: the FIN does not count, nor does what came with it.
#[test]
fn a_listener_may_take_a_syn_with_fin() {
    for (listen_takes_syn_fin, answers) in [(false, std::vec![]), (true, std::vec![(SA, 0, 1, 0)])]
    {
        let mut b = Bench::with(Config { listen_takes_syn_fin, ..Config::default() }, 16);
        b.peer(Flags(1 | 2), 0, 0, b"early");
        assert_eq!(b.brief(), answers);
    }
}

/// 4.4BSD: the window is the room in the buffer, which the field of a segment cannot always say.
#[test]
fn the_buffer_is_the_window_where_it_moves_with_every_byte() {
    for (window_steps, resets) in [(true, false), (false, true)] {
        let config = Config {
            window_steps,
            exact_reset: false,
            recv_buffer_initial_bytes: 70_000,
            recv_buffer_whole_segments: true,
            window_scaling: false,
            ..Config::default()
        };
        let mut b = Bench::with(config, 16);
        let id = b.connect();
        b.sent();
        b.peer(SA, 0, 1, b"");
        b.sent();
        // 65,535 is what the field can say; the buffer holds 66,000.
        b.peer(R, 66_000, 0, b"");
        assert_eq!(b.state(id) == State::Closed, resets);
    }
}

/// In whole segments as they are without options.
#[test]
fn whole_segments_count_the_timestamps() {
    let config = Config {
        recv_buffer_whole_segments: true,
        recv_buffer_initial_bytes: 10_500,
        ..Config::default()
    };
    let mut b = Bench::with(config, 16);
    b.peer_options.timestamps = Some((1, 0));
    b.peer_later.timestamps = Some((1, 0));
    let id = b.accept();
    assert_eq!(b.tcp_info(id).rcv_ssthresh, 11_000);
}

fn in_time_wait(config: Config) -> (Bench, ConnId) {
    let (mut b, id) = accepted(config, None);
    b.shard.shutdown(b.now, id, false, true).unwrap();
    assert_eq!(b.brief(), [(FA, 1, 1, 0)]);
    b.peer(FA, 1, 2, b"");
    assert_eq!((b.state(id), b.brief()), (State::TimeWait, std::vec![(A, 2, 2, 0)]));
    (b, id)
}

/// Both while the application holds the connection and when only the remains are left.
#[test]
fn time_wait_may_answer_all_but_the_expected_acknowledgment() {
    for closed in [false, true] {
        let (mut b, id) = in_time_wait(Config { time_wait_answers_all: true, ..Config::default() });
        if closed {
            b.shard.close(b.now, id);
        }
        let answer = (A, 2, 2, 0);
        for (flags, seq, ack) in [(A, 3, 2), (A, 1, 2), (A, 2, 1), (FA, 1, 2), (SA, 2, 2)] {
            b.peer(flags, seq, ack, b"");
            assert_eq!(b.brief(), [answer], "{flags:?} {seq} {ack}, twice in no time");
        }
        b.peer(A, 2, 2, b"late");
        assert_eq!(b.brief(), [answer]);
        // The expected one, resets (RFC 1337), and what has no acknowledgment.
        for (flags, seq, ack) in [(A, 2, 2), (R, 2, 0), (RA, 2, 2), (Flags(1), 2, 0), (S, 1, 0)] {
            b.peer(flags, seq, ack, b"");
            assert_eq!(b.brief(), [], "{flags:?} {seq} {ack}");
        }
    }
}

/// The peer's FIN again restarts 2 MSL (RFC 9293 3.10.7.4), whoever answers.
#[test]
fn time_wait_that_answers_all_restarts_for_a_fin() {
    let config = Config { time_wait_answers_all: true, ..Config::default() };
    let two_msl_us = 2 * config.msl_us;
    let (mut b, id) = in_time_wait(config);
    b.advance_us(two_msl_us - 1_000_000);
    b.peer(FA, 1, 2, b"");
    b.sent();
    b.advance_us(two_msl_us - 1_000_000);
    assert_eq!(b.state(id), State::TimeWait);
    b.advance_us(2_000_000);
    assert_eq!(b.state(id), State::Closed);
}

/// RFC 1337 3 (F1), whatever resets elsewhere.
#[test]
fn time_wait_outlives_resets_that_need_not_be_exact() {
    let (mut b, id) = in_time_wait(Config { exact_reset: false, ..Config::default() });
    b.peer(R, 2, 0, b"");
    assert_eq!(b.state(id), State::TimeWait);
    b.shard.close(b.now, id);
    b.peer(R, 2, 0, b"");
    b.peer(FA, 1, 2, b"");
    assert_eq!(b.brief(), [(A, 2, 2, 0)], "it is still there");
}

/// 4.4BSD takes the flags of what it sends from the state; a challenge is RFC 5961's, word for word.
#[test]
fn acknowledgments_may_carry_the_fin_again() {
    let (mut b, id) = accepted(Config { acks_repeat_fin: true, ..Config::default() }, None);
    b.shard.shutdown(b.now, id, false, true).unwrap();
    b.sent();
    b.peer(A, 1, 1, b"text");
    assert_eq!(b.brief(), [(FA, 1, 5, 0)]);
    b.peer(S, 5, 0, b"");
    assert_eq!(b.brief(), [(A, 2, 5, 0)]);
    b.peer(FA, 5, 1, b"");
    assert_eq!((b.state(id), b.brief()), (State::Closing, std::vec![(FA, 1, 6, 0)]));
    b.peer(A, 6, 2, b"");
    assert_eq!((b.state(id), b.brief()), (State::TimeWait, std::vec![]));
    // Once it is acknowledged there is nothing to repeat.
    let (mut b, id) = accepted(Config { acks_repeat_fin: true, ..Config::default() }, None);
    b.shard.shutdown(b.now, id, false, true).unwrap();
    b.sent();
    b.peer(A, 1, 2, b"text");
    assert_eq!((b.state(id), b.brief()), (State::FinWait2, std::vec![(A, 2, 5, 0)]));
}

/// RFC 9293 3.10.7.4, second step: "connection reset", where Linux says EPIPE.
#[test]
fn a_reset_in_close_wait_is_a_reset_or_a_broken_pipe() {
    for (linux_errors, error) in [(true, Error::BrokenPipe), (false, Error::ConnectionReset)] {
        let (mut b, id) = accepted(Config { linux_errors, ..Config::default() }, None);
        b.peer(FA, 1, 1, b"");
        b.peer(R, 2, 0, b"");
        assert_eq!(b.shard.take_error(id), Some(error));
    }
}

/// FreeBSD: `keepinit`, between two repetitions.
#[test]
fn connecting_may_end_after_a_time() {
    let config = Config { connect_timeout_us: 5_000_000, ..Config::default() };
    let mut b = Bench::with(config, 16);
    let id = b.connect();
    let begin = b.now;
    let mut syns = 0;
    loop {
        let (_, sent) = b.next_sent(10_000_000);
        if sent.is_empty() {
            break;
        }
        syns += sent.len();
        assert!(b.now.micros_since(begin) < 5_000_000);
    }
    assert_eq!((syns, b.shard.take_error(id)), (3, Some(Error::TimedOut)));
}

/// RFC 3168 6.1.1.1 leaves open how often a SYN asks.
#[test]
fn a_lost_syn_may_ask_for_ecn_again() {
    use crate::tcp::ecn::EcnMode;
    let config = Config { ecn: EcnMode::On, ecn_syn_retries: 1, ..Config::default() };
    let mut b = Bench::with(config, 16);
    b.connect();
    let mut flags = || b.next_sent(10_000_000).1[0].flags;
    let asks = Flags(2 | 64 | 128);
    assert_eq!([flags(), flags(), flags()], [asks, asks, S]);
}

#[test]
fn a_syn_may_lose_its_options_after_repetitions() {
    let mut b = Bench::with(Config { syn_option_retries: 1, ..Config::default() }, 16);
    let id = b.connect();
    let mut syn = || b.next_sent(10_000_000).1[0].options;
    let (first, second, third) = (syn(), syn(), syn());
    assert!(first.sack_permitted && first.wscale.is_some() && first.timestamps.is_some());
    assert!(second.sack_permitted && second.wscale.is_some() && second.timestamps.is_some());
    let bare = Options { mss: first.mss, ..Options::default() };
    assert_eq!(third, bare);
    // What the peer's SYN-ACK has in answer to the first ones is agreed all the same.
    b.peer_options.sack_permitted = true;
    b.peer(SA, 0, 1, b"");
    assert_eq!(b.state(id), State::Established);
}

/// A shard may be told otherwise while it runs; connections keep what they were made with.
#[test]
fn settings_may_change_while_it_runs() {
    let (mut b, _) = Bench::accepted();
    let config = Config { drop_syn_fin: true, ..b.shard.config().clone() };
    b.shard.configure(config);
    b.peer(Flags(1 | 2), 1, 0, b"");
    assert_eq!(b.brief(), []);
}

/// FreeBSD's `rexmit_slop`: added once, to the timeout that is backed off, and not to the first SYN's.
#[test]
fn the_slop_is_added_to_every_timeout_but_the_first() {
    let config = Config { rto_slop_us: 200_000, ..Config::default() };
    let mut b = Bench::with(config, 16);
    b.connect();
    b.sent();
    let mut waits = std::vec![];
    for _ in 0..3 {
        waits.push(b.next_sent(10_000_000).0.div_ceil(10_000));
    }
    assert_eq!(waits, [101, 221, 421]);
}

/// RFC 7323 2.4, and 4.4BSD.
#[test]
fn a_window_between_two_units_is_rounded_up_or_down() {
    for (window_rounds_up, wnd) in [(true, 98), (false, 97)] {
        let config = Config {
            window_rounds_up,
            recv_buffer_bytes: 100_000 << 6,
            recv_buffer_initial_bytes: 12_500,
            window_steps: false,
            ..Config::default()
        };
        let (mut b, _) = accepted(config, Some(0));
        b.peer(A, 1, 1, &[7; 1]);
        let sent = b.sent();
        assert_eq!(sent[0].wnd, wnd, "of 12,499 bytes in units of 128");
    }
}

/// FreeBSD until 2017: the FIN takes its number from the window.
#[test]
fn time_wait_shows_what_is_left_of_the_last_window_or_the_room() {
    for (time_wait_keeps_window, wnd) in [(true, 65_534), (false, 65_535)] {
        let config = Config {
            time_wait_keeps_window,
            window_steps: false,
            time_wait_answers_all: true,
            recv_buffer_initial_bytes: 65_700,
            ..Config::default()
        };
        let (mut b, id) = accepted(config, None);
        b.shard.close(b.now, id);
        b.sent();
        b.peer(FA, 1, 2, b"");
        assert_eq!(b.sent()[0].wnd, wnd);
    }
}
