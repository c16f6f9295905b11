//! Sequences: segments by a stranger on five connections, what an application does meanwhile,
//! steps of time, a device without room, and routers that report errors.
//!
//! Whatever the order: no panic, the invariants of `Shard::check` after every step, no byte beyond
//! an offered window, nothing acknowledged that was never sent, bytes delivered are bytes sent, and
//! in the end nothing is left.

use arbitrary::{Arbitrary, Unstructured};
use core::net::SocketAddr;
use mtcp_engine::wire::checksum::Sum;
use mtcp_engine::wire::{Flags, Options, Seq};
use mtcp_engine::{Config, ConnOptions, Keepalive, ListenerId};

use crate::lane::{their_byte, Lane};
use crate::peer::{Bench, Fields, DEVICE};

/// Connections that the stranger opens; the others are ours to open.
const PASSIVE: usize = 3;
const LANES: usize = 5;
const MAX_STEPS: usize = 200;

/// A number near the one that would be right, or far from it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Near {
    Exact,
    Off(i8),
    Away(i16),
    Any(u32),
}

impl Near {
    pub(crate) fn from(self, right: Seq) -> Seq {
        match self {
            Self::Exact => right,
            Self::Off(by) => right + by as u32,
            Self::Away(by) => right + (i32::from(by) * 16) as u32,
            Self::Any(number) => Seq(number),
        }
    }
}

/// A segment of the stranger's.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Stranger {
    pub(crate) flags: u8,
    pub(crate) seq: Near,
    pub(crate) ack: Near,
    pub(crate) wnd: u16,
    pub(crate) len: u8,
    /// Long payloads are a multiple of `len`.
    pub(crate) long: bool,
    pub(crate) stamp: Option<(Near, Near)>,
    pub(crate) sack: [Option<(Near, u8)>; 3],
    pub(crate) syn: (Option<u16>, Option<u8>, bool),
    pub(crate) urgent: u16,
    pub(crate) ecn: u8,
}

impl Stranger {
    pub(crate) fn payload_len(&self) -> usize {
        usize::from(self.len) * if self.long { 5 } else { 1 }
    }

    /// Its header, on this lane.
    pub(crate) fn fields(&self, lane: &Lane) -> Fields {
        let (stamp, echo) = lane.last_stamp.unwrap_or((1000, 1000));
        let block = |(left, len): (Near, u8)| {
            let left = left.from(lane.our_max);
            (left, left + u32::from(len) * 64)
        };
        let [a, b, c] = self.sack.map(|b| b.map(block));
        let flags = Flags(self.flags);
        let of_syn = flags.contains(Flags::SYN);
        let (mss, wscale, sack_permitted) = self.syn;
        let options = Options {
            mss: mss.filter(|_| of_syn),
            wscale: wscale.filter(|_| of_syn),
            sack_permitted: of_syn && sack_permitted,
            timestamps: self
                .stamp
                .map(|(val, ecr)| (val.from(Seq(echo)).0, ecr.from(Seq(stamp)).0)),
            sack: if of_syn { [None; 4] } else { [a, b, c, None] },
        };
        Fields {
            flags,
            seq: self.seq.from(lane.their_nxt),
            ack: self.ack.from(lane.our_max),
            wnd: self.wnd,
            urgent: if flags.contains(Flags::URG) { self.urgent } else { 0 },
            options,
            ecn: self.ecn & 3,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Anything.
    Segment(u8, Stranger),
    /// What a real peer would send: everything acknowledged, data in order, a window.
    Data(u8, u8, u16),
    /// A real peer's handshake, with or without options.
    Handshake(u8, bool),
    Fin(u8),
    Icmp {
        lane: u8,
        kind: u8,
        code: u8,
        mtu: u16,
        seq: Near,
    },
    Accept,
    Connect(u8),
    Send(u8, u16),
    Recv(u8, u16),
    Shutdown(u8, bool, bool),
    Close(u8),
    Abort(u8),
    Choose(u8, Choices),
    Transmit(Option<u8>),
    Pass(u16),
    /// To the next timer.
    Timer,
    CloseListener,
}

#[derive(Arbitrary, Debug)]
struct Choices {
    nodelay: bool,
    cork: bool,
    keepalive: bool,
    recv: Option<u16>,
    send: Option<u16>,
    user_timeout: Option<u16>,
    quickack: bool,
}

impl Choices {
    fn options(&self) -> ConnOptions {
        ConnOptions {
            nodelay: self.nodelay,
            cork: self.cork,
            keepalive: Keepalive { on: self.keepalive, ..Keepalive::default() },
            recv_buffer_bytes: self.recv.map(u32::from),
            send_buffer_bytes: self.send.map(u32::from),
            user_timeout_us: self.user_timeout.map_or(0, |ms| u64::from(ms) * 1000),
            ..ConnOptions::default()
        }
    }
}

fn config(u: &mut Unstructured<'_>) -> arbitrary::Result<Config> {
    let mut config = Config {
        timestamps: u.arbitrary()?,
        sack: u.arbitrary()?,
        syn_cookies: u.arbitrary()?,
        ..Config::default()
    };
    if u.arbitrary()? {
        config.recv_buffer_bytes = 8192;
        config.recv_buffer_initial_bytes = 4096;
        config.send_buffer_bytes = 8192;
        config.send_buffer_initial_bytes = 4096;
    }
    if u.arbitrary()? {
        config.max_memory_bytes = 16 * 1024;
    }
    if u.arbitrary()? {
        config.syn_queue = 1;
        config.max_connections = 4;
    }
    Ok(config)
}

struct Run {
    bench: Bench,
    lanes: Vec<Lane>,
    listener: Option<ListenerId>,
}

/// Reads a configuration and steps from `data`, and takes them.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(config) = config(&mut u) else { return };
    let mut bench = Bench::new(config);
    let server = SocketAddr::from(([10, 0, 0, 2], 80));
    let listener = Some(bench.listen(server, 2));
    let lanes = (0..LANES as u16).map(|n| {
        let theirs = SocketAddr::from(([10, 0, 0, 1], 4000 + n));
        let ours = if usize::from(n) < PASSIVE { 80 } else { 5000 + n };
        Lane::new(SocketAddr::from(([10, 0, 0, 2], ours)), theirs)
    });
    let mut run = Run { lanes: lanes.collect(), bench, listener };
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut u) else { break };
        run.step(step);
    }
    run.end();
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Segment(lane, stranger) => {
                let lane = usize::from(lane) % LANES;
                let fields = stranger.fields(&self.lanes[lane]);
                self.say(lane, &fields, stranger.payload_len());
            }
            Step::Data(lane, len, wnd) => {
                self.say_right(lane, Flags::ACK | Flags::PSH, usize::from(len) * 5, wnd);
            }
            Step::Fin(lane) => self.say_right(lane, Flags::ACK | Flags::FIN, 0, 1000),
            Step::Handshake(lane, rich) => self.handshake(lane, rich),
            Step::Icmp { lane, kind, code, mtu, seq } => self.icmp(lane, [kind, code], mtu, seq),
            Step::Pass(ms) => self.bench.advance(u64::from(ms) * 1000),
            Step::Timer => {
                let now = self.bench.now;
                let next = self.bench.shard.next_timeout().filter(|next| *next > now);
                self.bench.advance(next.map_or(0, |next| next.micros_since(now)));
            }
            Step::Transmit(room) => self.transmit(room.map_or(usize::MAX, usize::from)),
            Step::CloseListener => {
                if let Some(listener) = self.listener.take() {
                    self.bench.shard.close_listener(self.bench.now, listener);
                }
            }
            other => self.application(other),
        }
        self.bench.check();
    }

    fn application(&mut self, step: Step) {
        let now = self.bench.now;
        match step {
            Step::Accept => self.accept(),
            Step::Connect(lane) => {
                let lane = PASSIVE + usize::from(lane) % (LANES - PASSIVE);
                let lane = &mut self.lanes[lane];
                if lane.conn.is_none() {
                    let made = self.bench.connect(lane.ours, lane.theirs, ConnOptions::default());
                    if let Ok(id) = made {
                        lane.opened(id);
                    }
                }
            }
            Step::Send(lane, len) => {
                let lane = &mut self.lanes[usize::from(lane) % LANES];
                let Some(id) = lane.conn else { return };
                let data = lane.to_write(usize::from(len) % 20_000);
                if let Ok(taken) = self.bench.shard.send(now, id, &data) {
                    lane.wrote(taken);
                }
            }
            Step::Recv(lane, most) => self.recv(usize::from(lane) % LANES, usize::from(most)),
            Step::Shutdown(lane, read, write) => {
                let Some(id) = self.lanes[usize::from(lane) % LANES].conn else { return };
                let _ = self.bench.shard.shutdown(now, id, read, write);
            }
            Step::Close(lane) => {
                if let Some(id) = self.lanes[usize::from(lane) % LANES].conn.take() {
                    self.bench.shard.close(now, id);
                }
            }
            Step::Abort(lane) => {
                if let Some(id) = self.lanes[usize::from(lane) % LANES].conn.take() {
                    self.bench.shard.abort(now, id);
                }
            }
            Step::Choose(lane, choices) => {
                let Some(id) = self.lanes[usize::from(lane) % LANES].conn else { return };
                self.bench.shard.set_options(now, id, choices.options());
                self.bench.shard.set_quickack(id, choices.quickack);
            }
            _ => {}
        }
    }

    fn say(&mut self, lane: usize, fields: &Fields, len: usize) {
        let lane = &mut self.lanes[lane];
        // Data follows a SYN.
        let first = fields.seq + u32::from(fields.flags.contains(Flags::SYN));
        let payload: Vec<u8> = (0..len as u32).map(|i| their_byte(first + i)).collect();
        lane.says(fields, len);
        self.bench.peer(lane.theirs, lane.ours, fields, &payload);
    }

    /// What a real peer would say, as far as the lane can tell.
    fn say_right(&mut self, lane: u8, flags: Flags, len: usize, wnd: u16) {
        let at = usize::from(lane) % LANES;
        let lane = &self.lanes[at];
        let timestamps = lane.last_stamp.map(|(val, ecr)| (ecr.wrapping_add(1), val));
        let fields = Fields {
            flags,
            seq: lane.their_nxt,
            ack: lane.our_max,
            wnd,
            urgent: 0,
            options: Options { timestamps, ..Options::default() },
            ecn: 0,
        };
        self.say(at, &fields, len);
    }

    fn handshake(&mut self, lane: u8, rich: bool) {
        let at = usize::from(lane) % LANES;
        let mut flags = Flags::SYN;
        if at >= PASSIVE {
            self.application(Step::Connect((at - PASSIVE) as u8));
            self.transmit(usize::MAX);
            flags |= Flags::ACK;
        }
        let lane = &self.lanes[at];
        let options = Options {
            mss: Some(if rich { 1400 } else { 536 }),
            wscale: rich.then_some(3),
            sack_permitted: rich,
            timestamps: rich.then_some((1000, lane.last_stamp.map_or(0, |stamp| stamp.0))),
            sack: [None; 4],
        };
        let fields = Fields {
            flags,
            seq: lane.their_nxt,
            ack: lane.our_max,
            wnd: 20_000,
            urgent: 0,
            options,
            ecn: 0,
        };
        self.say(at, &fields, 0);
        self.transmit(usize::MAX);
        if at < PASSIVE {
            self.say_right(at as u8, Flags::ACK, 0, 20_000);
            self.accept();
        }
    }

    fn accept(&mut self) {
        let Some(listener) = self.listener else { return };
        while let Ok(id) = self.bench.shard.accept(listener) {
            let remote = self.bench.shard.info(id).unwrap().remote;
            let lane = self.lanes.iter_mut().find(|lane| lane.theirs == remote).unwrap();
            // An earlier connection that the application still holds ends here.
            if let Some(old) = lane.conn {
                self.bench.shard.close(self.bench.now, old);
            }
            lane.opened(id);
        }
    }

    fn recv(&mut self, lane: usize, most: usize) {
        let lane = &mut self.lanes[lane];
        let Some(id) = lane.conn else { return };
        let Ok((first, second)) = self.bench.shard.recv_slices(id) else { return };
        let data: Vec<u8> = first.iter().chain(second).take(most).copied().collect();
        lane.reads(&data);
        self.bench.shard.recv_consume(self.bench.now, id, data.len()).unwrap();
    }

    fn transmit(&mut self, room: usize) {
        for sent in self.bench.sent(room) {
            let lane = self.lanes.iter_mut();
            let mut lane = lane.filter(|lane| (lane.ours, lane.theirs) == (sent.src, sent.dst));
            lane.next().unwrap_or_else(|| panic!("to a stranger: {sent:?}")).hears(&sent);
        }
        while self.bench.shard.poll_event().is_some() {}
    }

    /// RFC 792: a router's word about one of our segments.
    fn icmp(&mut self, lane: u8, [kind, code]: [u8; 2], mtu: u16, seq: Near) {
        let lane = &self.lanes[usize::from(lane) % LANES];
        let seq = seq.from(lane.our_max).0.to_be_bytes();
        let (SocketAddr::V4(ours), SocketAddr::V4(theirs)) = (lane.ours, lane.theirs) else {
            return;
        };
        let header = |protocol: u8, len: u8, src: [u8; 4], dst: [u8; 4]| {
            let mut ip = [0x45, 0, 0, len, 0, 0, 0x40, 0, 64, protocol, 0, 0].to_vec();
            ip.extend([src, dst].concat());
            let check = Sum::default().bytes(&ip).finish().to_be_bytes();
            ip[10..12].copy_from_slice(&check);
            ip
        };
        let kind = [3, 11, 12, kind][usize::from(kind) % 4];
        let [high, low] = mtu.to_be_bytes();
        let mut message = vec![kind, code % 16, 0, 0, 0, 0, high, low];
        message.extend(header(6, 40, ours.ip().octets(), theirs.ip().octets()));
        message.extend([ours.port().to_be_bytes(), theirs.port().to_be_bytes()].concat());
        message.extend(seq);
        let check = Sum::default().bytes(&message).finish().to_be_bytes();
        message[2..4].copy_from_slice(&check);
        let mut frame = header(1, 20 + message.len() as u8, [10, 0, 0, 9], ours.ip().octets());
        frame.extend(message);
        self.bench.shard.handle_frame(self.bench.now, DEVICE, &frame);
    }

    /// The application lets go of everything and the stranger is silent.
    fn end(mut self) {
        self.transmit(usize::MAX);
        for lane in 0..LANES {
            self.recv(lane, usize::MAX);
            self.application(Step::Close(lane as u8));
        }
        self.step(Step::CloseListener);
        self.bench.expect_the_end();
    }
}
