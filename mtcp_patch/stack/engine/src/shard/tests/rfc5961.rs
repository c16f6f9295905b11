//! RFC 5961: blind attacks with RST, SYN and data on an established connection.

use super::*;
use crate::limits::MAX_CHALLENGE_ACKS_PER_SECOND;
use crate::stats::Refusal;

const CHALLENGE: (Flags, u32, u32, usize) = (A, 1, 1, 0);

/// 3.2: exact: reset; in the window: a challenge; outside: nothing.
#[test]
fn a_reset_must_be_exact() {
    let (mut b, id) = Bench::accepted();
    for seq in [0, 0u32.wrapping_sub(70_000), 200_000, 1 << 31] {
        b.peer(R, seq, 0, b"");
        assert_eq!((b.brief(), b.state(id)), (std::vec![], State::Established), "{seq}");
    }
    for seq in [2, 1000, 60_000] {
        b.peer(R, seq, 0, b"");
        assert_eq!(b.brief(), [CHALLENGE], "{seq}");
        b.advance_us(500_000);
    }
    assert_eq!(b.shard.stats().refused(Refusal::InexactReset), 3);
    // Who really wants it answers the challenge with the exact number.
    b.peer(R, 1, 0, b"");
    assert_eq!((b.state(id), b.recv(id)), (State::Closed, Err(Error::ConnectionReset)));
}

/// 4.2: in any synchronized state, whatever the number.
#[test]
fn a_syn_is_challenged() {
    for seq in [0u32.wrapping_sub(5), 0, 1, 2, 1000, 1 << 30] {
        for flags in [S, SA] {
            let (mut b, id) = Bench::accepted();
            b.peer(flags, seq, 1, b"");
            assert_eq!(b.brief(), [CHALLENGE], "{seq}");
            assert_eq!(b.state(id), State::Established);
        }
    }
}

/// 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, or the data is not taken.
#[test]
fn data_must_acknowledge_what_is_plausible() {
    let old = |n: u32| 1u32.wrapping_sub(n);
    for (ack, taken) in
        [(1, true), (old(65_535), true), (old(65_536), false), (2, false), (1 << 31, false)]
    {
        let (mut b, id) = Bench::accepted();
        b.peer(PA, 1, ack, b"data");
        assert_eq!(b.recv(id).is_ok(), taken, "{ack}");
        let refused = b.shard.stats().refused(Refusal::BadAck);
        assert_eq!(refused, u64::from(!taken));
        assert_eq!(b.brief()[0].0, A);
    }
}

/// 7: one in half a second for a connection (Linux: `tcp_invalid_ratelimit`).
#[test]
fn one_connection_sends_few_challenges() {
    let (mut b, _) = Bench::accepted();
    let mut sent = 0;
    for i in 0..1000u32 {
        b.peer_unchecked(R, 2 + i, 0, b"");
        b.peer_unchecked(S, i, 0, b"");
        b.peer_unchecked(A, 1, 100 + i, b"");
        sent += b.sent_unchecked().len();
        b.now = b.now + 1_000;
    }
    assert_eq!(sent, 2);
    assert_eq!(b.shard.stats().refused(Refusal::ChallengeLimit), 2998);
}

/// 7: and so many a second for all of them, a number that nobody can count along with.
#[test]
fn all_connections_together_send_so_many_challenges() {
    let mut b = Bench::with(Config::default(), 2000);
    for port in 1..=2000 {
        b.theirs.set_port(port);
        b.peer_unchecked(S, 0, 0, b"");
        b.sent_unchecked();
        b.peer_unchecked(A, 1, 1, b"");
    }
    let mut counts = std::vec![];
    for _ in 0..8 {
        for port in 1..=2000 {
            b.theirs.set_port(port);
            b.peer_unchecked(R, 2, 0, b"");
        }
        counts.push(b.sent_unchecked().len() as u32);
        b.now = b.now + 1_000_000;
    }
    let limit = MAX_CHALLENGE_ACKS_PER_SECOND;
    assert!(counts.iter().all(|n| (limit / 2..=limit).contains(n)), "{counts:?}");
    assert!(counts.windows(2).any(|pair| pair[0] != pair[1]), "{counts:?}");
}
