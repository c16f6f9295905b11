//! A shard, and the stranger who writes segments to it by hand.

use core::net::SocketAddr;
use mtcp_engine::device::{Caps, Device, DeviceId, Medium, RxChecksum};
use mtcp_engine::time::Instant;
use mtcp_engine::wire::{self, Flags, Header, Link, Options, Parsed, Seq};
use mtcp_engine::{
    Config, ConnId, ConnOptions, ConnectOptions, Error, ListenOptions, ListenerId, Path, Shard,
};

pub(crate) const DEVICE: DeviceId = DeviceId(0);

pub(crate) fn caps() -> Caps {
    Caps {
        medium: Medium::Ip,
        mtu: 1500,
        // The fuzzer's time is for TCP: the parser's target does checksums.
        rx_checksum: RxChecksum::Verify,
        tx_checksum: true,
        hw_addr: [0; 6],
    }
}

/// A segment that the shard sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) flags: Flags,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
}

impl Sent {
    /// One past its last sequence number.
    pub(crate) fn end(&self) -> Seq {
        let phantom = |flag| u32::from(self.flags.contains(flag));
        self.seq + (self.payload.len() as u32 + phantom(Flags::SYN) + phantom(Flags::FIN))
    }
}

/// A device that keeps what it is given, until it has no room.
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
        let taken = self.room > 0;
        if taken {
            self.room -= 1;
            let mut frame = vec![0xa5; len];
            fill(&mut frame);
            self.frames.push(frame);
        }
        taken
    }

    fn flush(&mut self) {}
}

/// What the peer writes into a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) flags: Flags,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) wnd: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Options,
    pub(crate) ecn: u8,
}

/// The shard and its clock.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(config: Config) -> Self {
        let mut shard = Shard::new(config, [9; 32]);
        shard.add_device(DEVICE, caps());
        Self { shard, now: Instant::from_micros(1_000_000) }
    }

    pub(crate) fn listen(&mut self, local: SocketAddr, backlog: usize) -> ListenerId {
        let inherit = ConnOptions::default();
        self.shard.listen(ListenOptions { local, v6only: false, backlog, inherit }).unwrap()
    }

    pub(crate) fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        options: ConnOptions,
    ) -> Result<ConnId, Error> {
        let path = Path { device: DEVICE, caps: caps(), link: Link::default() };
        self.shard.connect(self.now, ConnectOptions { local, remote, path, options })
    }

    /// The peer at `src` sends to us at `dst`.
    pub(crate) fn peer(&mut self, src: SocketAddr, dst: SocketAddr, f: &Fields, payload: &[u8]) {
        let header = Header {
            link: Link::default(),
            src,
            dst,
            seq: f.seq,
            ack: f.ack,
            flags: f.flags,
            wnd: f.wnd,
            options: f.options,
            urgent: f.urgent,
            ecn: f.ecn,
            dscp: 0,
            hop_limit: 64,
            ip_id: 0,
        };
        let mut frame = vec![0; header.len(Medium::Ip) + payload.len()];
        header.emit(&caps(), [payload, &[]], &mut frame);
        self.shard.handle_frame(self.now, DEVICE, &frame);
        self.check();
    }

    /// What the shard sends now, for which there is `room`.
    pub(crate) fn sent(&mut self, room: usize) -> Vec<Sent> {
        let mut outbox = Outbox { frames: Vec::new(), room };
        self.shard.transmit(self.now, DEVICE, &mut outbox);
        self.check();
        outbox.frames.iter().map(|frame| read(frame)).collect()
    }

    pub(crate) fn advance(&mut self, us: u64) {
        self.now = self.now + us;
        self.shard.handle_timers(self.now);
        self.check();
    }

    pub(crate) fn check(&self) {
        if let Err(broken) = self.shard.check() {
            panic!("{broken} at {} us", self.now.micros);
        }
    }

    /// The application has let go of everything and the peer is silent: all must end by itself, and
    /// nothing be left.
    pub(crate) fn expect_the_end(&mut self) {
        for _ in 0..10_000 {
            self.sent(usize::MAX);
            while self.shard.poll_event().is_some() {}
            let Some(next) = self.shard.next_timeout() else { break };
            self.now = Instant::from_micros(next.micros.max(self.now.micros));
            self.shard.handle_timers(self.now);
            self.check();
        }
        let left: Vec<_> = self.shard.connections().map(|(_, info)| info).collect();
        assert!(left.is_empty(), "never ended: {left:?}");
        assert_eq!(self.shard.next_timeout(), None);
        assert_eq!(self.shard.stats().memory_bytes, 0, "memory is not returned");
        assert!(!self.shard.has_output(DEVICE), "something waits to leave, for nobody");
    }
}

/// Reads a frame of the shard's: what we send must pass our own parser.
fn read(frame: &[u8]) -> Sent {
    assert!(frame.len() <= caps().mtu, "longer than the MTU: {}", frame.len());
    match wire::parse(frame, &caps()) {
        Ok(Parsed::Tcp(seg)) => Sent {
            src: seg.src,
            dst: seg.dst,
            flags: seg.flags,
            seq: seg.seq,
            ack: seg.ack,
            options: seg.options,
            payload: seg.payload.to_vec(),
        },
        other => panic!("we sent nonsense: {other:?} {frame:02x?}"),
    }
}
