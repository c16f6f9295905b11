//! Window sequences that Linux is known to make, from packet exchanges that google's scripts
//! describe. Sequence numbers count segments here.

use std::collections::VecDeque;

use crate::tcp::congestion::{
    Ack, Congestion, CongestionControl, INFINITE_SSTHRESH, INITIAL_WINDOW,
};
use crate::time::Instant;
use crate::wire::Seq;

const MS: u64 = 1_000;

/// A sender that has nothing but a window, and a peer that acknowledges what it is told to.
pub(super) struct Sender {
    pub(super) c: Congestion,
    now: Instant,
    una: u32,
    nxt: u32,
    written: u32,
    /// When each segment in flight was sent.
    sent_at: VecDeque<Instant>,
    last_sent: Instant,
    srtt_us: u64,
}

impl Sender {
    pub(super) fn new(choice: CongestionControl, rtt_us: u64) -> Self {
        Self {
            c: Congestion::new(choice),
            now: Instant::from_micros(7_000_000),
            una: 0,
            nxt: 0,
            written: 0,
            sent_at: VecDeque::new(),
            last_sent: Instant::from_micros(7_000_000),
            srtt_us: rtt_us,
        }
    }

    pub(super) fn after(&mut self, us: u64) -> &mut Self {
        self.now = self.now + us;
        self
    }

    pub(super) fn write(&mut self, segments: u32) -> &mut Self {
        self.written += segments;
        self.send();
        self
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.c.cwnd()
    }

    fn send(&mut self) {
        let before = self.nxt;
        while self.nxt < self.written && self.nxt - self.una < self.c.cwnd() {
            if self.nxt == self.una {
                self.c.on_transmit_start(self.now, self.last_sent);
            }
            self.nxt += 1;
            self.sent_at.push_back(self.now);
            self.last_sent = self.now;
        }
        let (sent, out) = (self.nxt > before, self.nxt - self.una);
        self.c.on_sent(sent, out, Seq(self.una), Seq(self.nxt));
    }

    /// Everything before `to` is acknowledged.
    pub(super) fn ack(&mut self, to: u32) -> &mut Self {
        let acked = to - self.una;
        let in_flight_before = self.nxt - self.una;
        let sent = self.sent_at.drain(..acked as usize).next_back();
        let rtt_us = sent.map(|at| self.now.micros_since(at));
        self.una = to;
        let ack = Ack {
            acked,
            in_flight_before,
            rtt_us,
            srtt_us: self.srtt_us,
            min_rtt_us: 0,
            now: self.now,
            snd_una: Seq(self.una),
            snd_nxt: Seq(self.nxt),
            limited: self.c.is_limited(),
        };
        self.c.on_ack(&ack);
        self.send();
        self
    }

    /// Acknowledges two segments each 100 ms until `to`.
    fn ack_pairs(&mut self, to: u32) -> u32 {
        while self.una < to {
            let next = self.una + 2;
            self.after(100 * MS).ack(next);
        }
        self.cwnd()
    }
}

/// cubic-bulk-166k: HyStart ends slow start at 48, then the window grows slowly at first, later
/// by one segment for each two acknowledged and never faster.
#[test]
fn cubic_bulk_166k() {
    let mut s = Sender::new(CongestionControl::Cubic, 100 * MS);
    s.write(400);
    let windows = [10, 20, 30, 38, 60, 80, 100, 120].map(|to| s.ack_pairs(to));
    assert_eq!(windows, [20, 30, 40, 48, 49, 50, 52, 58]);
    assert_eq!(s.c.ssthresh(), 48);
    for more in 1..=100 {
        let to = 120 + 2 * more;
        assert_eq!(s.ack_pairs(to), 58 + more);
    }
}

/// cubic-bulk-166k-idle-restart: four seconds of silence are no time of the curve, which goes on as
/// it does without them. (The script has one segment less in the first two rounds, because `fq`
/// paces the first flight, so that the window is not in use at once.)
#[test]
fn cubic_bulk_166k_idle_restart() {
    let mut s = Sender::new(CongestionControl::Cubic, 100 * MS);
    s.write(40);
    let windows = [10, 20, 30, 38].map(|to| s.ack_pairs(to));
    assert_eq!(windows, [20, 30, 40, 48]);
    s.ack_pairs(40);
    s.after(4_000 * MS).write(160);
    let windows = [60, 80, 100, 120].map(|to| s.ack_pairs(to));
    assert_eq!(windows, [49, 50, 52, 58]);
}

/// cubic-hystart-delay-rtt-jumps-upward: nine samples of 240 ms where 200 ms were known end slow
/// start.
#[test]
fn hystart_ends_slow_start_when_the_delay_of_a_whole_round_has_grown() {
    let mut s = Sender::new(CongestionControl::Cubic, 200 * MS);
    s.write(30).after(200 * MS).ack(10);
    s.after(239 * MS);
    for (n, to) in (12..=26).step_by(2).enumerate() {
        s.after(MS).ack(to);
        assert_eq!((s.c.ssthresh(), s.cwnd()), (INFINITE_SSTHRESH, 22 + 2 * n as u32));
    }
    s.after(MS).ack(28);
    assert_eq!((s.c.ssthresh(), s.cwnd()), (36, 36));
    s.after(MS).ack(30);
    assert_eq!((s.c.ssthresh(), s.cwnd()), (36, 36));
}

/// cubic-hystart-delay-min-rtt-jumps-downward: a ninth sample that is a new minimum does not.
#[test]
fn hystart_goes_on_when_the_shortest_delay_falls() {
    let mut s = Sender::new(CongestionControl::Cubic, 200 * MS);
    s.write(28).after(200 * MS).ack(10);
    s.after(180 * MS).write(2).after(19 * MS);
    for (n, to) in (12..=30).step_by(2).enumerate() {
        s.after(MS).ack(to);
        assert_eq!((s.c.ssthresh(), s.cwnd()), (INFINITE_SSTHRESH, 22 + 2 * n as u32));
    }
}

/// Acknowledgments a millisecond apart for longer than half of the round trip mean that the path
/// is full.
#[test]
fn hystart_ends_slow_start_when_a_train_is_half_as_long_as_the_path() {
    let mut s = Sender::new(CongestionControl::Cubic, 20 * MS);
    s.write(1000).after(20 * MS).ack(10);
    s.after(20 * MS);
    let mut to = 10;
    while s.c.ssthresh() == INFINITE_SSTHRESH {
        to += 1;
        s.after(MS).ack(to);
        assert!(to < 30, "no exit");
    }
    // The round began at 11; (20 + 1) / 2 ms later the train is too long.
    assert_eq!(to, 22);
    assert_eq!(s.c.ssthresh(), 31);
}

/// cubic-rto-ss-ca-cwnd-bump: after a timeout slow start to the threshold, then a segment for 20
/// acknowledged or as many as Reno has.
#[test]
fn cubic_after_a_timeout() {
    let mut s = Sender::new(CongestionControl::Cubic, 100 * MS);
    s.write(1).after(100 * MS).ack(1);
    assert_eq!(s.cwnd(), 10);
    s.write(1).after(600 * MS);
    s.c.reduce(s.now);
    s.c.on_timeout(0);
    s.send();
    s.after(100 * MS).ack(2);
    assert_eq!((s.cwnd(), s.c.ssthresh()), (2, 7));
    s.write(200);
    let gaps = [100, 2, 98, 2, 2];
    for (n, gap) in gaps.into_iter().enumerate() {
        s.after(gap * MS).ack(3 + n as u32);
        assert_eq!(s.cwnd(), 3 + n as u32);
    }
    let gaps = [2, 98, 2, 2, 2, 2, 2, 2, 98, 2, 2, 2, 2, 2, 2];
    for (n, gap) in gaps.into_iter().enumerate() {
        s.after(gap * MS).ack(8 + n as u32);
        assert_eq!(s.cwnd(), 7);
    }
    s.after(98 * MS).ack(23);
    assert_eq!(s.cwnd(), 8);
}

/// slow-start-ack-per-{1,2,4}pkt: by as much as was acknowledged, however it was.
#[test]
fn slow_start_grows_by_what_was_acknowledged() {
    for step in [1, 2, 4] {
        for choice in [CongestionControl::Cubic, CongestionControl::Reno] {
            let mut s = Sender::new(choice, 100 * MS);
            s.write(30).after(105 * MS);
            for to in (step..10).step_by(step as usize).chain([10]) {
                s.after(MS).ack(to);
                assert_eq!(s.cwnd(), 10 + to);
            }
        }
    }
}

/// slow-start-ack-per-2pkt-send-{5,6}pkt, slow-start-app-limited{,-9-packets-out}.
#[test]
fn slow_start_stops_at_twice_what_the_application_sent() {
    for (out, expected) in [
        (5, &[10, 10, 10][..]),
        (6, &[12, 12, 12]),
        (9, &[12, 14, 16, 18, 18]),
        (10, &[12, 14, 16, 18, 20]),
    ] {
        let mut s = Sender::new(CongestionControl::Cubic, 100 * MS);
        s.write(out).after(100 * MS);
        let acks = (2..out).step_by(2).chain([out]);
        let windows: std::vec::Vec<_> = acks.map(|to| s.after(5 * MS).ack(to).cwnd()).collect();
        assert_eq!(windows, expected, "{out} in flight");
    }
}

/// slow-start-after-idle, slow-start-after-win-update: 36 segments are too many after two seconds.
#[test]
fn a_silence_halves_the_window_for_each_timeout() {
    for (cwnd, idle_ms, rto_ms, expected) in [
        (36, 2000, 300, 10),
        (36, 300, 300, 36),
        (36, 301, 300, 18),
        (100, 650, 300, 25),
        (6, 9000, 200, 6),
    ] {
        let mut c = Congestion::new(CongestionControl::Cubic);
        c.set_cwnd(cwnd);
        c.restart(idle_ms * MS, rto_ms * MS, INITIAL_WINDOW);
        assert_eq!(c.cwnd(), expected);
        assert!(c.ssthresh() >= cwnd / 4 * 3);
    }
}
