//! RFC 5927 and what it restricts: RFC 1122 4.2.3.9, RFC 1191, RFC 8201; black holes (RFC 4821).

use super::*;
use crate::limits::{MIN_PMTU_V4, PMTU_EXPIRES_US};
use crate::stats::Refusal;
use crate::wire::{IcmpError, IcmpKind};

impl Bench {
    /// A router complains about our segment at `seq`, relative.
    fn icmp(&mut self, kind: IcmpKind, seq: u32) {
        let (local, remote) = (self.ours, self.theirs);
        let seq = Seq(self.iss.wrapping_add(seq));
        self.shard.handle_icmp(self.now, &IcmpError { kind, local, remote, seq });
        self.shard.check().unwrap();
    }

    fn too_big(&mut self, mtu: u32, seq: u32) {
        self.icmp(IcmpKind::FragNeeded { mtu }, seq);
    }

    fn mss(&self, id: ConnId) -> u32 {
        self.shard.info(id).unwrap().mss
    }
}

const UNREACHABLE: IcmpKind = IcmpKind::Unreachable { code: 1 };

/// 4.1: SND.UNA <= SEG.SEQ < SND.NXT.
#[test]
fn only_what_is_in_flight_can_be_complained_about() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 500]).unwrap();
    b.sent();
    for seq in [0, 501, 0u32.wrapping_sub(1), 1 << 31] {
        b.too_big(600, seq);
    }
    assert_eq!((b.mss(id), b.shard.stats().refused(Refusal::IcmpOutsideWindow)), (1000, 4));
    b.too_big(600, 500);
    assert_eq!((b.mss(id), b.shard.stats().pmtu_reductions), (560, 1));
}

/// 6: no error ends a synchronized connection; if the peer stays silent, it says why.
#[test]
fn a_hard_error_is_soft_once_synchronized() {
    let hard = IcmpKind::Unreachable { code: 3 };
    let (mut b, id) = Bench::accepted();
    b.send(id, b"x").unwrap();
    b.sent();
    for kind in
        [hard, IcmpKind::Unreachable { code: 2 }, IcmpKind::TimeExceeded { code: 0 }, UNREACHABLE]
    {
        b.icmp(kind, 1);
        assert_eq!((b.state(id), b.shard.take_error(id)), (State::Established, None));
    }
    while !b.next_sent(200_000_000).1.is_empty() {}
    assert_eq!(b.shard.take_error(id), Some(Error::HostUnreachable));
    // An acknowledgment in between clears it.
    let (mut b, id) = Bench::accepted();
    b.send(id, b"x").unwrap();
    b.sent();
    b.icmp(UNREACHABLE, 1);
    b.peer(A, 1, 2, b"");
    b.send(id, b"y").unwrap();
    while !b.next_sent(200_000_000).1.is_empty() {}
    assert_eq!(b.shard.take_error(id), Some(Error::TimedOut));
}

/// Linux `tcp_req_err`.
#[test]
fn an_unreachable_client_leaves_the_syn_queue() {
    let mut b = Bench::new();
    b.peer(S, 0, 0, b"");
    b.sent();
    b.icmp(UNREACHABLE, 1);
    b.too_big(600, 0);
    b.icmp(IcmpKind::Unreachable { code: 3 }, 0);
    assert_eq!(b.shard.connections().count(), 1);
    b.icmp(UNREACHABLE, 0);
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.shard.listeners().next().unwrap().syn_queue, 0);
}

/// 7.2: packets of this size have come through, so the claim waits for the timer.
#[test]
fn a_claim_against_experience_waits_for_the_timer() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 4000]).unwrap();
    b.sent();
    b.peer(A, 1, 2001, b"");
    b.too_big(600, 2001);
    assert_eq!((b.mss(id), b.brief()), (1000, std::vec![]));
    // The segment arrives after all: forgotten.
    b.peer(A, 1, 4001, b"");
    b.send(id, &[1; 1000]).unwrap();
    b.sent();
    b.next_sent(2_000_000);
    assert_eq!(b.mss(id), 1000);
    // Another is not acknowledged: believed.
    b.too_big(600, 4001);
    let (_, sent) = b.next_sent(3_000_000);
    assert_eq!((b.mss(id), sent[0].payload.len()), (560, 560));
    assert_eq!(b.shard.stats().pmtu_reductions, 1);
}

#[test]
fn no_router_makes_segments_tiny() {
    for mtu in [0, 68, 296, 551] {
        let (mut b, id) = Bench::accepted();
        b.send(id, &[1; 1000]).unwrap();
        b.sent();
        b.too_big(mtu, 1);
        assert_eq!(b.mss(id), MIN_PMTU_V4 - 40, "{mtu}");
    }
}

/// RFC 8201 4: a claim below the smallest IPv6 link is discarded.
#[test]
fn no_router_is_believed_below_1280_on_ipv6() {
    let mut b = Bench::new();
    let inherit = ConnOptions::default();
    b.ours = "[fd00::2]:80".parse().unwrap();
    b.theirs = "[fd00::1]:4000".parse().unwrap();
    b.peer_options.mss = Some(1440);
    let options = ListenOptions { local: b.ours, v6only: false, backlog: 9, inherit };
    b.listener = b.shard.listen(options).unwrap();
    let id = b.accept();
    b.send(id, &[1; 1440]).unwrap();
    b.sent();
    b.too_big(1279, 1);
    assert_eq!(b.mss(id), 1440);
    b.too_big(1280, 1);
    assert_eq!(b.mss(id), 1220);
}

/// RFC 1191 6.3: the path may be a better one by now.
#[test]
fn the_old_size_is_tried_again_after_ten_minutes() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 1000]).unwrap();
    b.sent();
    b.too_big(600, 1);
    b.sent();
    b.peer(A, 1, 1001, b"");
    b.advance_us(PMTU_EXPIRES_US - 10_000);
    b.send(id, &[1; 1000]).unwrap();
    assert_eq!(b.sent()[0].payload.len(), 560);
    b.peer(A, 1, 2001, b"");
    b.advance_us(20_000);
    b.send(id, &[1; 1000]).unwrap();
    assert_eq!(b.sent()[0].payload.len(), 1000);
    // No experience counts against a router that says no again.
    b.too_big(600, 2001);
    assert_eq!(b.mss(id), 560);
}

/// A path that swallows packets above `limit` without a word: every byte arrives all the same.
fn through_a_black_hole(peer_mss: u16, limit: usize, config: Config) -> Option<(u64, Vec<usize>)> {
    let mut b = Bench::with(config, 16);
    b.peer_options.mss = Some(peer_mss);
    let id = b.accept();
    b.send(id, &[1; 20_000]).unwrap();
    let begin = b.now;
    let mut sizes = std::vec![];
    let mut next = 1;
    while next < 20_001 {
        let (_, sent) = b.next_sent(30_000_000);
        let through: Vec<_> = sent.iter().filter(|s| s.payload.len() + 40 <= limit).collect();
        sizes.extend(through.iter().map(|s| s.payload.len()));
        for segment in through {
            if segment.seq <= next {
                next = next.max(segment.seq + segment.payload.len() as u32);
            }
        }
        if next > 1 {
            b.peer(A, 1, next, b"");
        }
        if b.now.micros_since(begin) > 60_000_000 {
            return None;
        }
    }
    Some((b.now.micros_since(begin), sizes))
}

/// RFC 4821 7.7, RFC 8899 4.3; Linux `tcp_mtu_probing` = 1.
#[test]
fn a_black_hole_is_found_and_gone_around() {
    let (us, sizes) = through_a_black_hole(1460, 1200, Config::default()).unwrap();
    assert!(sizes.iter().all(|size| *size <= 1024) && sizes.contains(&1024), "{sizes:?}");
    assert!(us < 10_000_000, "{us}");
    let (us, sizes) = through_a_black_hole(1460, 576, Config::default()).unwrap();
    assert!(sizes.contains(&512), "{sizes:?}");
    assert!(us < 20_000_000, "{us}");
    let off = Config { mtu_probing: false, ..Config::default() };
    assert_eq!(through_a_black_hole(1460, 1200, off), None);
}

/// Found by `make sim SEED=1604`: the window was smaller than the MSS, so that no segment was full.
#[test]
fn a_black_hole_swallows_what_a_window_has_cut_as_well() {
    let mut b = Bench::with(Config::default(), 16);
    b.peer_options.mss = Some(1460);
    b.peer_wnd = 1200;
    let id = b.accept();
    b.send(id, &[1; 1200]).unwrap();
    let mut sizes = std::vec![];
    for _ in 0..6 {
        sizes.extend(b.next_sent(30_000_000).1.iter().map(|s| s.payload.len()));
    }
    assert!(sizes.contains(&1200) && sizes.contains(&1024), "{sizes:?}");
}

#[test]
fn small_segments_that_vanish_are_no_black_hole() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 500]).unwrap();
    while !b.next_sent(200_000_000).1.is_empty() {}
    assert_eq!((b.state(id), b.shard.stats().pmtu_black_holes), (State::Closed, 0));
}

/// RFC 1122 4.2.3.9: only hard errors abort, which 4.4BSD holds to and Linux does not; FreeBSD may be
/// told to believe none (`icmp_may_rst`).
#[test]
fn which_errors_end_an_open_is_a_setting() {
    let code = |code| IcmpKind::Unreachable { code };
    let errors = |config: &Config, kind| {
        let mut b = Bench::with(config.clone(), 16);
        let id = b.connect();
        b.sent();
        b.icmp(kind, 0);
        b.shard.take_error(id)
    };
    let linux = Config::default();
    let bsd = Config { linux_errors: false, ..Config::default() };
    let deaf = Config { icmp_may_reset: false, ..Config::default() };
    let refused = Some(Error::ConnectionRefused);
    let cases = [
        (code(0), Some(Error::NetUnreachable), None),
        (code(1), Some(Error::HostUnreachable), None),
        (code(3), refused, refused),
        (code(9), Some(Error::NetUnreachable), refused),
        (code(13), Some(Error::HostUnreachable), refused),
        (
            IcmpKind::TimeExceeded { code: 0 },
            Some(Error::HostUnreachable),
            Some(Error::HostUnreachable),
        ),
        (IcmpKind::TimeExceeded { code: 1 }, Some(Error::HostUnreachable), None),
    ];
    for (kind, as_linux, as_bsd) in cases {
        assert_eq!(errors(&linux, kind), as_linux, "{kind:?}");
        assert_eq!(errors(&bsd, kind), as_bsd, "{kind:?}");
        assert_eq!(errors(&deaf, kind), None, "{kind:?}");
    }
}
