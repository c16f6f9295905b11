//! One segment, in every state of a connection.
//!
//! The state is reached by a fixed script; then anything may arrive. The connection may only go
//! where RFC 9293 figure 5 leads, and what RFC 5961 and 3.10.7.4 call unacceptable must leave the
//! state as it is.

use arbitrary::{Arbitrary, Unstructured};
use core::net::SocketAddr;
use mtcp_engine::wire::{Flags, Options, Seq};
use mtcp_engine::{Config, ConnOptions, State};

use crate::lane::{their_byte, Lane};
use crate::peer::{Bench, Fields};
use crate::sequence::Stranger;

const WINDOW: u16 = 20_000;

/// How the connection is brought where the segment finds it.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Listen,
    SynSent,
    SynReceived,
    NotAccepted,
    Established,
    InFlight,
    OutOfOrder,
    ZeroWindow,
    Recovery,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWaitHeld,
    TimeWait,
}

struct Stage {
    bench: Bench,
    lane: Lane,
}

impl Stage {
    fn new(scene: Scene, rich: bool) -> Self {
        let port = if scene == Scene::SynSent { 5000 } else { 80 };
        let ours = SocketAddr::from(([10, 0, 0, 2], port));
        let lane = Lane::new(ours, SocketAddr::from(([10, 0, 0, 1], 4000)));
        let mut stage = Self { bench: Bench::new(Config::default()), lane };
        stage.set(scene, rich);
        stage
    }

    fn set(&mut self, scene: Scene, rich: bool) {
        if scene == Scene::SynSent {
            let made = self.bench.connect(self.lane.ours, self.lane.theirs, ConnOptions::default());
            self.lane.opened(made.unwrap());
            self.hear();
            return;
        }
        let listener = self.bench.listen(self.lane.ours, 4);
        if scene == Scene::Listen {
            return;
        }
        self.syn(rich);
        if scene == Scene::SynReceived {
            return;
        }
        self.say(Flags::ACK, 0, 0, WINDOW);
        if scene == Scene::NotAccepted {
            return;
        }
        self.lane.opened(self.bench.shard.accept(listener).unwrap());
        self.established(scene);
        self.hear();
    }

    /// From an accepted connection to `scene`.
    fn established(&mut self, scene: Scene) {
        match scene {
            Scene::InFlight => self.write(5000),
            Scene::OutOfOrder => {
                self.say(Flags::ACK, 100, 50, WINDOW);
                self.say(Flags::ACK, 300, 50, WINDOW);
            }
            Scene::ZeroWindow => {
                self.say(Flags::ACK, 0, 0, 0);
                self.write(500);
                // The persist timer has run: a probe is out.
                self.bench.advance(300_000);
            }
            Scene::Recovery => {
                self.write(9000);
                let acked = self.lane.our_max;
                self.lane.our_max = acked + 0u32.wrapping_sub(9000);
                for _ in 0..3 {
                    self.say(Flags::ACK, 0, 0, WINDOW);
                }
                self.lane.our_max = acked;
            }
            Scene::FinWait1 => self.close(),
            Scene::FinWait2 => {
                self.close();
                self.say(Flags::ACK, 0, 0, WINDOW);
            }
            Scene::CloseWait => self.fin(),
            Scene::Closing => {
                let before = self.lane.our_max;
                self.close();
                let after = core::mem::replace(&mut self.lane.our_max, before);
                self.fin();
                self.lane.our_max = after;
            }
            Scene::LastAck => {
                self.fin();
                self.close();
            }
            Scene::TimeWait | Scene::TimeWaitHeld => {
                let id = self.lane.conn.unwrap();
                if scene == Scene::TimeWait {
                    self.close();
                } else {
                    self.bench.shard.shutdown(self.bench.now, id, false, true).unwrap();
                    self.hear();
                }
                self.fin();
            }
            _ => {}
        }
    }

    fn syn(&mut self, rich: bool) {
        let options = Options {
            mss: Some(1000),
            wscale: rich.then_some(2),
            sack_permitted: rich,
            timestamps: rich.then_some((1000, 0)),
            sack: [None; 4],
        };
        let seq = self.lane.their_nxt;
        let fields =
            Fields { flags: Flags::SYN, seq, ack: Seq(0), wnd: WINDOW, urgent: 0, options, ecn: 0 };
        self.lane.says(&fields, 0);
        self.bench.peer(self.lane.theirs, self.lane.ours, &fields, b"");
        self.hear();
    }

    /// The peer says what is right, `ahead` of where it would go on.
    fn say(&mut self, flags: Flags, ahead: u32, len: u32, wnd: u16) {
        let timestamps = self.lane.last_stamp.map(|(val, ecr)| (ecr, val));
        let fields = Fields {
            flags,
            seq: self.lane.their_nxt + ahead,
            ack: self.lane.our_max,
            wnd,
            urgent: 0,
            options: Options { timestamps, ..Options::default() },
            ecn: 0,
        };
        self.deliver(&fields, len as usize);
        self.hear();
    }

    fn deliver(&mut self, fields: &Fields, len: usize) {
        let first = fields.seq + u32::from(fields.flags.contains(Flags::SYN));
        let payload: Vec<u8> = (0..len as u32).map(|i| their_byte(first + i)).collect();
        self.lane.says(fields, len);
        self.bench.peer(self.lane.theirs, self.lane.ours, fields, &payload);
    }

    fn hear(&mut self) {
        for sent in self.bench.sent(usize::MAX) {
            self.lane.hears(&sent);
        }
    }

    fn fin(&mut self) {
        self.say(Flags::ACK | Flags::FIN, 0, 0, WINDOW);
    }

    fn close(&mut self) {
        if let Some(id) = self.lane.conn.take() {
            self.bench.shard.close(self.bench.now, id);
        }
        self.hear();
    }

    fn write(&mut self, len: usize) {
        let data = self.lane.to_write(len);
        let id = self.lane.conn.unwrap();
        assert_eq!(self.bench.shard.send(self.bench.now, id, &data), Ok(len));
        self.lane.wrote(len);
        self.hear();
    }

    fn state(&self) -> State {
        let mut all = self.bench.shard.connections();
        let ours = (self.lane.ours, self.lane.theirs);
        let found = all.find(|(_, info)| (info.local, info.remote) == ours);
        found.map_or(State::Closed, |(_, info)| info.state)
    }
}

/// The script reaches the state that its name promises.
fn expected(scene: Scene) -> State {
    match scene {
        Scene::Listen => State::Closed,
        Scene::SynSent => State::SynSent,
        Scene::SynReceived => State::SynReceived,
        Scene::FinWait1 => State::FinWait1,
        Scene::FinWait2 => State::FinWait2,
        Scene::CloseWait => State::CloseWait,
        Scene::Closing => State::Closing,
        Scene::LastAck => State::LastAck,
        Scene::TimeWait | Scene::TimeWaitHeld => State::TimeWait,
        _ => State::Established,
    }
}

/// RFC 9293 figure 5, the arrows that a segment can take, in one step or in several at once.
fn may_follow(from: State, to: State) -> bool {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
        TimeWait,
    };
    from == to
        || to == Closed
        || match from {
            Closed => to == SynReceived,
            SynSent => matches!(to, SynReceived | Established | CloseWait),
            SynReceived => matches!(to, Established | CloseWait),
            Established => to == CloseWait,
            FinWait1 => matches!(to, FinWait2 | Closing | TimeWait),
            FinWait2 | Closing => to == TimeWait,
            // RFC 9293 3.6.1: a SYN may open the connection again.
            TimeWait => to == SynReceived,
            CloseWait | LastAck => false,
        }
}

/// What must leave a synchronized connection as it is.
fn is_unacceptable(f: &Fields, their_nxt: Seq, our_max: Seq) -> bool {
    let has = |flag| f.flags.contains(flag);
    if has(Flags::RST) {
        // RFC 5961 3.2: only the exact number resets, and the right edge of our last SACK block in
        // Linux's reading; at a distance nothing does.
        let distance = f.seq - their_nxt;
        return !(0..=1_000_000).contains(&distance);
    }
    // RFC 5961 4.2: a SYN is answered by a challenge. RFC 9293 3.10.7.4: no ACK, no effect; nor
    // with one for what was never sent.
    has(Flags::SYN) || !has(Flags::ACK) || f.ack.gt(our_max)
}

/// The first bytes choose the scene, the rest is the segment.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let (Ok(scene), Ok(rich)) = (Scene::arbitrary(&mut u), bool::arbitrary(&mut u)) else { return };
    let Ok(stranger) = Stranger::arbitrary(&mut u) else { return };
    let mut stage = Stage::new(scene, rich);
    let before = stage.state();
    assert_eq!(before, expected(scene));
    let (their_nxt, our_max) = (stage.lane.their_nxt, stage.lane.our_max);
    let mut fields = stranger.fields(&stage.lane);
    if rich && u.arbitrary().unwrap_or(true) {
        // Otherwise most segments would be older than what was seen (PAWS).
        fields.options.timestamps = stage.lane.last_stamp.map(|(val, ecr)| (ecr, val));
    }
    stage.deliver(&fields, stranger.payload_len());
    let after = stage.state();
    assert!(may_follow(before, after), "{before:?} to {after:?} by {fields:?}");
    let synchronized = !matches!(before, State::Closed | State::SynSent | State::SynReceived);
    if synchronized && before != State::TimeWait && is_unacceptable(&fields, their_nxt, our_max) {
        assert_eq!(after, before, "by {fields:?}, with RCV.NXT {their_nxt:?}, SND.MAX {our_max:?}");
    }
    // RFC 9293 3.10.7: nothing answers a reset but a challenge, never a reset.
    for sent in stage.bench.sent(usize::MAX) {
        let resets = sent.flags.contains(Flags::RST) && fields.flags.contains(Flags::RST);
        assert!(!resets, "a reset answers a reset: {sent:?}");
        stage.lane.hears(&sent);
    }
    stage.finish();
}

impl Stage {
    fn finish(mut self) {
        self.bench.advance(50_000);
        self.hear();
        if let Some(id) = self.lane.conn {
            if let Ok((first, second)) = self.bench.shard.recv_slices(id) {
                let data = [first, second].concat();
                self.lane.reads(&data);
                self.bench.shard.recv_consume(self.bench.now, id, data.len()).unwrap();
            }
        }
        self.close();
        let listeners: Vec<_> = self.bench.shard.listeners().map(|listener| listener.id).collect();
        for id in listeners {
            self.bench.shard.close_listener(self.bench.now, id);
        }
        self.bench.expect_the_end();
    }
}
