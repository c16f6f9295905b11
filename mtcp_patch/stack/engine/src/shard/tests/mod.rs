//! One shard against hand-made segments. The peer is the test: its initial sequence number is
//! [`PEER_ISS`], and all numbers, both ways, are relative to the initial ones.

mod attack;
mod close;
mod cookies;
mod data;
mod ecn;
mod frto;
mod hostile;
mod icmp;
mod linux_settings;
mod newreno;
mod open;
mod options;
mod queues;
mod rack;
mod records;
mod requests;
mod rfc5961;
mod rfc9293;
mod sack_receiver;
mod sack_sender;
mod settings;
mod skb;
mod space;
mod tcp_info;
mod time_wait;
mod timers;
mod timestamps;
mod tlp;
mod undo;
mod unplug;
mod urgent;

use core::net::SocketAddr;
use std::vec::Vec;

use super::{ConnectOptions, Path, Shard};
use crate::device::{Caps, Device, DeviceId, Medium, RxChecksum};
use crate::event::{ConnId, Error, Event, ListenerId};
use crate::limits::Config;
use crate::listen::ListenOptions;
use crate::tcp::state::State;
use crate::tcp::tcb::ConnOptions;
use crate::time::Instant;
use crate::wire::{self, Flags, Header, Link, Options, Parsed, Seq};

pub(super) const DEVICE: DeviceId = DeviceId(3);
pub(super) const PEER_ISS: u32 = u32::MAX - 5;
/// The MSS of the peer.
pub(super) const MSS: usize = 1000;

pub(super) const S: Flags = Flags::SYN;
pub(super) const A: Flags = Flags::ACK;
pub(super) const R: Flags = Flags::RST;
pub(super) const SA: Flags = Flags(2 | 16);
pub(super) const FA: Flags = Flags(1 | 16);
pub(super) const PA: Flags = Flags(8 | 16);
pub(super) const FPA: Flags = Flags(1 | 8 | 16);
pub(super) const RA: Flags = Flags(4 | 16);

/// A segment that the shard sent; numbers relative to the initial ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) flags: Flags,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) wnd: u16,
    pub(super) urgent: u16,
    pub(super) payload: Vec<u8>,
    pub(super) options: Options,
    /// The ECN codepoint.
    pub(super) ecn: u8,
}

impl Sent {
    /// (flags, seq, ack, payload length): what most tests look at.
    pub(super) fn brief(&self) -> (Flags, u32, u32, usize) {
        (self.flags, self.seq, self.ack, self.payload.len())
    }
}

/// A device that keeps what it is given.
struct Outbox {
    frames: Vec<Vec<u8>>,
    room: usize,
}

impl Device for Outbox {
    fn caps(&self) -> Caps {
        caps()
    }

    fn receive(&mut self, _: usize, _: &mut dyn FnMut(&[u8])) -> usize {
        0
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        if self.room == 0 {
            return false;
        }
        self.room -= 1;
        let mut frame = std::vec![0; len];
        fill(&mut frame);
        self.frames.push(frame);
        true
    }

    fn flush(&mut self) {}
}

pub(super) fn caps() -> Caps {
    Caps {
        medium: Medium::Ip,
        mtu: 1500,
        rx_checksum: RxChecksum::Verify,
        tx_checksum: true,
        hw_addr: [0; 6],
    }
}

/// The shard, its clock, and the connection under test.
pub(super) struct Bench {
    pub(super) shard: Shard,
    pub(super) now: Instant,
    pub(super) listener: ListenerId,
    pub(super) ours: SocketAddr,
    pub(super) theirs: SocketAddr,
    /// Our initial sequence number, learnt from our SYN.
    pub(super) iss: u32,
    pub(super) peer_wnd: u16,
    /// Its urgent pointer.
    pub(super) peer_pointer: u16,
    /// Of its SYN.
    pub(super) peer_options: Options,
    /// Of its other segments.
    pub(super) peer_later: Options,
    /// The ECN codepoint of its segments.
    pub(super) peer_ecn: u8,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), 16)
    }

    pub(super) fn with(config: Config, backlog: usize) -> Self {
        let mut shard = Shard::new(config, [9; 32]);
        shard.add_device(DEVICE, caps());
        let ours: SocketAddr = "10.0.0.2:80".parse().unwrap();
        let options =
            ListenOptions { local: ours, v6only: false, backlog, inherit: ConnOptions::default() };
        let listener = shard.listen(options).unwrap();
        Self {
            shard,
            now: Instant::from_micros(1_000_000),
            listener,
            ours,
            theirs: "10.0.0.1:4000".parse().unwrap(),
            iss: 0,
            peer_wnd: 65_535,
            peer_pointer: 0,
            peer_options: Options { mss: Some(MSS as u16), ..Options::default() },
            peer_later: Options::default(),
            peer_ecn: 0,
        }
    }

    /// An accepted connection; nothing is waiting to leave.
    pub(super) fn accepted() -> (Self, ConnId) {
        let mut b = Self::new();
        let id = b.accept();
        (b, id)
    }

    /// Makes a passive connection and accepts it.
    pub(super) fn accept(&mut self) -> ConnId {
        self.peer(S, 0, 0, b"");
        assert_eq!(self.sent().len(), 1);
        self.peer(A, 1, 1, b"");
        let id = self.shard.accept(self.listener).unwrap();
        self.events();
        id
    }

    /// An accepted connection that has answered: acknowledgments wait for the next answer. One byte
    /// has gone each way.
    pub(super) fn answering() -> (Self, ConnId) {
        let (mut b, id) = Self::accepted();
        b.peer(PA, 1, 1, b"?");
        b.recv(id).unwrap();
        b.send(id, b"x").unwrap();
        b.sent();
        (b, id)
    }

    /// An accepted connection on a path of 100 ms whose peer has these options, and segment 0 of
    /// [`MSS`] bytes acknowledged.
    pub(super) fn on_long_path(options: Options) -> (Self, ConnId) {
        Self::on_long_path_with(options, Config::default())
    }

    pub(super) fn on_long_path_with(options: Options, config: Config) -> (Self, ConnId) {
        let mut b = Self::with(config, 16);
        b.peer_options = Options { mss: b.peer_options.mss, ..options };
        b.peer_later.timestamps = options.timestamps;
        if options.timestamps.is_some() {
            b.peer_options.mss = Some(MSS as u16 + 12);
        }
        b.peer(S, 0, 0, b"");
        assert_eq!(b.sent().len(), 1);
        b.advance_us(100_000);
        b.peer(A, 1, 1, b"");
        let id = b.shard.accept(b.listener).unwrap();
        b.send(id, &[7; MSS]).unwrap();
        assert_eq!(b.segments(), [0]);
        b.advance_us(100_000);
        b.sack(1, &[]);
        (b, id)
    }

    /// The same with segments 1 to 10 sent 100 ms ago, and more to send.
    pub(super) fn in_flight(sack: bool) -> (Self, ConnId) {
        let options = Options { sack_permitted: sack, ..Options::default() };
        let (mut b, id) = Self::on_long_path(options);
        b.send(id, &[7; 60 * MSS]).unwrap();
        assert_eq!(b.segments(), (1..=10).collect::<Vec<_>>());
        b.advance_us(100_000);
        (b, id)
    }

    /// The peer acknowledges `ack` and the ranges `blocks`, in segments from the first byte on.
    pub(super) fn sack(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        let byte = |segment: u32| 1 + segment * MSS as u32;
        let mut later = self.peer_later;
        for (slot, (left, right)) in later.sack.iter_mut().zip(blocks) {
            let seq = |segment| Seq(self.iss.wrapping_add(byte(segment)));
            *slot = Some((seq(*left), seq(*right)));
        }
        let before = core::mem::replace(&mut self.peer_later, later);
        self.peer(A, 1, byte(ack), b"");
        self.peer_later = before;
    }

    /// Which segments leave now, counted from the first byte on.
    pub(super) fn segments(&mut self) -> Vec<u32> {
        self.sent().iter().map(|s| s.seq / MSS as u32).collect()
    }

    pub(super) fn tcp_info(&self, id: ConnId) -> crate::shard::TcpInfo {
        self.shard.tcp_info(self.now, id).unwrap()
    }

    /// Makes an active connection. Our end is port 5000, the peer's is `theirs`.
    pub(super) fn connected() -> (Self, ConnId) {
        let mut b = Self::new();
        let id = b.connect();
        b.sent();
        b.peer(SA, 0, 1, b"");
        assert_eq!(b.sent().len(), 1);
        b.events();
        (b, id)
    }

    pub(super) fn connect(&mut self) -> ConnId {
        self.try_connect().unwrap()
    }

    pub(super) fn try_connect(&mut self) -> Result<ConnId, Error> {
        self.ours.set_port(5000);
        let request = ConnectOptions {
            local: self.ours,
            remote: self.theirs,
            path: Path { device: DEVICE, caps: caps(), link: Link::default() },
            options: ConnOptions::default(),
        };
        self.shard.connect(self.now, request)
    }

    /// The peer sends.
    pub(super) fn peer(&mut self, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        self.peer_unchecked(flags, seq, ack, payload);
        self.shard.check().unwrap();
    }

    /// The same without a look at every connection.
    pub(super) fn peer_unchecked(&mut self, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        let options = if flags.contains(S) { self.peer_options } else { self.peer_later };
        let header = Header {
            link: Link::default(),
            src: self.theirs,
            dst: self.ours,
            seq: Seq(PEER_ISS.wrapping_add(seq)),
            ack: if flags.contains(A) { Seq(self.iss.wrapping_add(ack)) } else { Seq(0) },
            flags,
            wnd: self.peer_wnd,
            options,
            urgent: self.peer_pointer,
            ecn: self.peer_ecn,
            dscp: 0,
            hop_limit: 64,
            ip_id: 0,
        };
        let mut frame = std::vec![0; header.len(Medium::Ip) + payload.len()];
        header.emit(&caps(), [payload, &[]], &mut frame);
        self.shard.handle_frame(self.now, DEVICE, &frame);
    }

    /// What the shard sends now.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        self.sent_at_most(usize::MAX)
    }

    pub(super) fn sent_at_most(&mut self, room: usize) -> Vec<Sent> {
        let sent = self.transmit(room);
        self.shard.check().unwrap();
        sent
    }

    pub(super) fn sent_unchecked(&mut self) -> Vec<Sent> {
        self.transmit(usize::MAX)
    }

    fn transmit(&mut self, room: usize) -> Vec<Sent> {
        let mut outbox = Outbox { frames: Vec::new(), room };
        self.shard.transmit(self.now, DEVICE, &mut outbox);
        let frames = std::mem::take(&mut outbox.frames);
        frames.iter().map(|frame| self.parse(frame)).collect()
    }

    fn parse(&mut self, frame: &[u8]) -> Sent {
        let Ok(Parsed::Tcp(seg)) = wire::parse(frame, &caps()) else {
            panic!("we sent nonsense: {frame:?}")
        };
        if seg.flags.contains(S) {
            self.iss = seg.seq.0;
        }
        let acks = seg.flags.contains(A);
        Sent {
            flags: seg.flags,
            seq: seg.seq.0.wrapping_sub(self.iss),
            ack: if acks { seg.ack.0.wrapping_sub(PEER_ISS) } else { 0 },
            wnd: seg.wnd,
            urgent: seg.urgent,
            payload: seg.payload.to_vec(),
            options: seg.options,
            ecn: seg.ecn,
        }
    }

    /// What the shard sends now, briefly.
    pub(super) fn brief(&mut self) -> Vec<(Flags, u32, u32, usize)> {
        self.sent().iter().map(Sent::brief).collect()
    }

    pub(super) fn advance_us(&mut self, us: u64) {
        self.now = self.now + us;
        self.shard.handle_timers(self.now);
        self.shard.check().unwrap();
    }

    /// Lets time pass until the shard sends something or `us` are over. Returns what and when.
    pub(super) fn next_sent(&mut self, us: u64) -> (u64, Vec<Sent>) {
        let begin = self.now;
        loop {
            let sent = self.sent();
            let next = self.shard.next_timeout().filter(|t| t.micros <= begin.micros + us);
            match next {
                _ if !sent.is_empty() => return (self.now.micros_since(begin), sent),
                Some(next) => {
                    self.now = Instant::from_micros(next.micros.max(self.now.micros));
                    self.shard.handle_timers(self.now);
                    self.shard.check().unwrap();
                }
                None => {
                    self.now = begin + us;
                    return (us, sent);
                }
            }
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.shard.poll_event()).collect()
    }

    pub(super) fn state(&self, id: ConnId) -> State {
        self.shard.info(id).map_or(State::Closed, |info| info.state)
    }

    pub(super) fn send(&mut self, id: ConnId, data: &[u8]) -> Result<usize, Error> {
        self.shard.send(self.now, id, data)
    }

    /// Reads everything there is.
    pub(super) fn recv(&mut self, id: ConnId) -> Result<Vec<u8>, Error> {
        let (a, b) = self.shard.recv_slices(id)?;
        let data = [a, b].concat();
        self.shard.recv_consume(self.now, id, data.len()).unwrap();
        Ok(data)
    }
}
