//! What all connections of a shard share: configuration, counters, memory, the timer wheel, the
//! event queue, the transmit lists and the secrets. Connections get it by `&mut` beside themselves,
//! so none can reach another.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use siphasher::sip::SipHasher13;

use crate::buffer::Memory;
use crate::device::{Caps, Device, DeviceId, RxChecksum};
use crate::event::{ConnId, Events};
use crate::limits::{
    Config, LOCAL_TIME_WAIT_US, MAX_CHALLENGE_ACKS_PER_SECOND, MAX_PENDING_REPLIES,
};
use crate::stats::{Refusal, Stats};
use crate::tcp::output::{self, HOP_LIMIT};
use crate::tcp::tcb::{list, Tcb};
use crate::time::Instant;
use crate::wheel::Wheel;
use crate::wire::{Flags, Header, Link, Options, Segment, Seq};

/// The transmit lists of one device, in the order in which they are served. A connection stands on
/// each at most once (`Tcb::queued`).
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) caps: Caps,
    /// Complete headers that belong to no connection any more: resets, TIME-WAIT acknowledgments.
    pub(crate) replies: VecDeque<Header>,
    /// Connections whose SYN or SYN-ACK is to leave.
    pub(crate) control: VecDeque<ConnId>,
    /// Connections that owe an acknowledgment or a probe.
    pub(crate) acks: VecDeque<ConnId>,
    /// Connections that may have data or a FIN to send.
    pub(crate) data: VecDeque<ConnId>,
}

impl Port {
    pub(crate) fn new(caps: Caps) -> Self {
        Self {
            caps,
            replies: VecDeque::new(),
            control: VecDeque::new(),
            acks: VecDeque::new(),
            data: VecDeque::new(),
        }
    }

    /// Whether any list has an entry.
    pub(crate) fn has_output(&self) -> bool {
        !(self.replies.is_empty()
            && self.control.is_empty()
            && self.acks.is_empty()
            && self.data.is_empty())
    }
}

/// Initial sequence numbers, RFC 6528: a keyed hash of the connection plus a 4 µs clock.
pub(crate) struct Secrets {
    isn: SipHasher13,
}

impl Secrets {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { isn: SipHasher13::new_with_key(&key) }
    }

    /// RFC 9293 3.4.1 (MUST-8, MUST-9, SHLD-1): ISN = M + F(localip, localport, remoteip, remoteport, secretkey).
    pub(crate) fn isn(&self, now: Instant, local: &SocketAddr, remote: &SocketAddr) -> Seq {
        let hash = self.of_tuple(local, remote).finish();
        Seq((hash as u32).wrapping_add((now.micros / 4) as u32))
    }

    /// Where the timestamp clock of this 4-tuple starts (RFC 7323 5.4; Linux: `secure_tcp_ts_off`).
    pub(crate) fn timestamp_offset(&self, local: &SocketAddr, remote: &SocketAddr) -> u32 {
        let mut hasher = self.of_tuple(local, remote);
        hasher.write_u8(1);
        hasher.finish() as u32
    }

    /// 32 bits of a keyed hash of the 4-tuple and `word`; every use has a `domain` of its own, from
    /// 2 up.
    pub(crate) fn of_tuple_and(
        &self,
        local: &SocketAddr,
        remote: &SocketAddr,
        domain: u8,
        word: u64,
    ) -> u32 {
        let mut hasher = self.of_tuple(local, remote);
        hasher.write_u8(domain);
        hasher.write_u64(word);
        hasher.finish() as u32
    }

    fn of_tuple(&self, local: &SocketAddr, remote: &SocketAddr) -> SipHasher13 {
        let mut hasher = self.isn;
        for address in [local, remote] {
            match address.ip() {
                IpAddr::V4(ip) => hasher.write(&ip.octets()),
                IpAddr::V6(ip) => hasher.write(&ip.octets()),
            }
            hasher.write(&address.port().to_be_bytes());
        }
        hasher
    }
}

impl Secrets {
    /// A number that a stranger cannot foresee.
    fn noise(&self, of: u64) -> u32 {
        let mut hasher = self.isn;
        hasher.write(&of.to_be_bytes());
        hasher.finish() as u32
    }
}

/// The shared part of a shard.
pub(crate) struct Env {
    pub(crate) config: Config,
    pub(crate) stats: Stats,
    pub(crate) memory: Memory,
    pub(crate) wheel: Wheel,
    pub(crate) events: Events,
    pub(crate) ports: Vec<Option<Port>>,
    pub(crate) secrets: Secrets,
    ip_id: u16,
    challenge_second: u64,
    challenges_left: u32,
}

impl Env {
    pub(crate) fn new(config: Config, isn_key: [u8; 16]) -> Self {
        Self {
            memory: Memory::new(config.max_memory_bytes),
            config,
            stats: Stats::default(),
            wheel: Wheel::default(),
            events: Events::default(),
            ports: Vec::new(),
            secrets: Secrets::new(isn_key),
            ip_id: 0,
            challenge_second: 0,
            challenges_left: MAX_CHALLENGE_ACKS_PER_SECOND,
        }
    }

    pub(crate) fn port(&mut self, id: DeviceId) -> Option<&mut Port> {
        self.ports.get_mut(usize::from(id.0))?.as_mut()
    }

    /// The device's MTU in bytes; zero for an unknown device.
    pub(crate) fn mtu(&self, id: DeviceId) -> usize {
        self.ports.get(usize::from(id.0)).and_then(Option::as_ref).map_or(0, |p| p.caps.mtu)
    }

    /// How long TIME-WAIT lasts for connections of this device, in microseconds.
    pub(crate) fn time_wait_us(&mut self, id: DeviceId) -> u64 {
        let local = |port: &mut Port| port.caps.rx_checksum == RxChecksum::Trusted;
        if self.port(id).is_some_and(local) {
            LOCAL_TIME_WAIT_US
        } else {
            // RFC 9293 3.4.2.
            2 * self.config.msl_us
        }
    }

    pub(crate) fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }

    /// Puts the connection on a transmit list of its device, unless it is there.
    #[inline]
    pub(crate) fn enqueue(&mut self, tcb: &mut Tcb, which: u8) {
        if tcb.queued & which != 0 {
            return;
        }
        let Some(port) = self.port(tcb.device) else { return };
        tcb.queued |= which;
        match which {
            list::CONTROL => port.control.push_back(tcb.id),
            list::ACK => port.acks.push_back(tcb.id),
            _ => port.data.push_back(tcb.id),
        }
    }

    /// Queues a header that needs no connection. False: there are too many.
    pub(crate) fn reply(&mut self, device: DeviceId, header: Header) -> bool {
        let Some(port) = self.port(device) else { return false };
        if port.replies.len() >= MAX_PENDING_REPLIES {
            self.stats.refuse(Refusal::ReplyLimit);
            return false;
        }
        port.replies.push_back(header);
        if header.flags.contains(Flags::RST) {
            self.stats.resets_out += 1;
        }
        true
    }

    /// RFC 9293 3.10.7.1: the reset that answers `seg`, which no connection wants.
    pub(crate) fn reply_reset(&mut self, device: DeviceId, seg: &Segment<'_>) {
        if seg.flags.contains(Flags::RST) {
            return;
        }
        let (seq, ack, flags) = if seg.flags.contains(Flags::ACK) {
            (seg.ack, Seq(0), Flags::RST)
        } else {
            (Seq(0), seg.seq + seg.len(), Flags::RST | Flags::ACK)
        };
        let header = Header {
            link: Link { src: seg.link.dst, dst: seg.link.src },
            src: seg.dst,
            dst: seg.src,
            seq,
            ack,
            flags,
            wnd: 0,
            options: Options::default(),
            urgent: 0,
            ecn: 0,
            dscp: 0,
            hop_limit: HOP_LIMIT,
            ip_id: self.next_ip_id(),
        };
        self.reply(device, header);
    }

    /// Queues the reset that ends `tcb`: <SEQ=SND.NXT><CTL=RST,ACK>. The caller ends the
    /// connection.
    pub(crate) fn reset(&mut self, tcb: &Tcb, now: Instant) {
        let header = Header {
            link: tcb.link,
            src: tcb.local,
            dst: tcb.remote,
            seq: tcb.snd_nxt,
            ack: tcb.rcv_nxt,
            flags: Flags::RST | Flags::ACK,
            wnd: 0,
            // RFC 7323 3.2: a reset SHOULD carry it, too.
            options: Options { timestamps: tcb.timestamps.option(now), ..Options::default() },
            urgent: 0,
            ecn: 0,
            dscp: tcb.options.dscp,
            hop_limit: tcb.options.hop_limit.unwrap_or(HOP_LIMIT),
            ip_id: self.next_ip_id(),
        };
        self.reply(tcb.device, header);
    }

    /// Whether a segment that moves nothing may be answered: two peers that disagree must not
    /// answer each other for ever. `last` is when one of the same connection was answered.
    pub(crate) fn may_answer(&mut self, last: &mut Option<Instant>, now: Instant) -> bool {
        let interval_us = self.config.stray_ack_interval_us;
        let recent = |at: Instant| now.micros_since(at) < interval_us;
        if last.is_some_and(recent) {
            self.stats.refuse(Refusal::ChallengeLimit);
            return false;
        }
        *last = Some(now);
        true
    }

    /// The same for an acknowledgment that a blind attacker can provoke: the whole shard sends so
    /// many a second (RFC 5961 7).
    pub(crate) fn may_challenge(&mut self, last: &mut Option<Instant>, now: Instant) -> bool {
        let second = now.micros / 1_000_000;
        if second != self.challenge_second {
            self.challenge_second = second;
            // Between half of the limit and all of it: a fixed number would let a stranger count
            // along and learn which of his guesses was answered (CVE-2016-5696).
            let half = MAX_CHALLENGE_ACKS_PER_SECOND / 2;
            self.challenges_left = half + self.secrets.noise(second) % (half + 1);
        }
        if self.challenges_left == 0 {
            self.stats.refuse(Refusal::ChallengeLimit);
            return false;
        }
        if !self.may_answer(last, now) {
            return false;
        }
        self.challenges_left -= 1;
        true
    }

    /// Queues an acknowledgment that tells the peer where this connection stands, unless the
    /// connection or the shard has sent too many of them.
    pub(crate) fn challenge(&mut self, tcb: &mut Tcb, now: Instant) {
        if !self.may_challenge(&mut tcb.last_stray_ack, now) {
            return;
        }
        if self.config.acks_repeat_fin {
            // RFC 5961 3.2: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, whatever else repeats the FIN.
            let header = output::bare_acknowledgment(tcb, self, now);
            self.reply(tcb.device, header);
        } else {
            tcb.ack_due = true;
            self.enqueue(tcb, list::ACK);
        }
    }
}

/// The device that is being transmitted to.
pub(crate) struct Sink<'a> {
    pub(crate) device: &'a mut dyn Device,
    pub(crate) caps: Caps,
    pub(crate) frames: usize,
}

impl Sink<'_> {
    /// Hands a segment to the device. False: it has no room.
    pub(crate) fn put(&mut self, env: &mut Env, header: &Header, payload: [&[u8]; 2]) -> bool {
        let [a, b] = payload;
        let len = header.len(self.caps.medium) + a.len() + b.len();
        let caps = self.caps;
        let taken = self.device.transmit(len, &mut |out| header.emit(&caps, [a, b], out));
        if taken {
            self.frames += 1;
            env.stats.packets_out += 1;
            env.stats.bytes_out += len as u64;
        }
        taken
    }
}
