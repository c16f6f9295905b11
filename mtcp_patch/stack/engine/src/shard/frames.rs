//! A frame arrives: which connection or listener it is for, and what happens when there is none.

use alloc::boxed::Box;

use super::{Env, Shard, Slot};
use crate::device::DeviceId;
use crate::event::{ConnId, Error, ListenerId};
use crate::limits::{MAX_PENDING_CONTROL, MIN_SEND_MSS};
use crate::listen::Listener;
use crate::slab::Slab;
use crate::stats::Refusal;
use crate::tcp::options::{header_bytes, Offer};
use crate::tcp::state::State;
use crate::tcp::tcb::{list, Origin, Owner, Tcb};
use crate::tcp::time_wait::{self, Verdict};
use crate::tcp::{input, recovery};
use crate::time::Instant;
use crate::wire::{self, Flags, IcmpError, IcmpKind, Link, Parsed, Segment, Seq};

impl Shard {
    /// Takes a frame that `device` received. A malformed one is counted and dropped.
    pub fn handle_frame(&mut self, now: Instant, device: DeviceId, frame: &[u8]) {
        self.env.stats.packets_in += 1;
        self.env.stats.bytes_in += frame.len() as u64;
        let Some(caps) = self.env.port(device).map(|port| port.caps) else {
            self.env.stats.refuse(Refusal::UnknownDevice);
            return;
        };
        match wire::parse(frame, &caps) {
            Ok(Parsed::Tcp(seg)) => self.handle_segment(now, device, &seg),
            Ok(Parsed::Icmp(error)) => self.handle_icmp(now, &error),
            Err(reason) => self.env.stats.malformed(reason),
        }
    }

    fn handle_segment(&mut self, now: Instant, device: DeviceId, seg: &Segment<'_>) {
        let found = self.flows.get(seg.dst, seg.src).and_then(|index| self.conns.at(index));
        let id = match found {
            None => {
                self.handle_unmatched(now, device, seg, None);
                return;
            }
            Some(Slot::TimeWait(wait)) => {
                let verdict = wait.segment_arrives(&mut self.env, now, seg);
                let id = wait.id;
                self.after_time_wait(now, device, seg, id, verdict);
                return;
            }
            Some(Slot::Conn(tcb)) => {
                let id = tcb.id;
                if tcb.state == State::TimeWait && is_new_syn(tcb, now, seg) {
                    self.after_time_wait(now, device, seg, id, Verdict::Reopen);
                    return;
                }
                if may_reach(tcb, &mut self.env, &self.listeners, seg) {
                    input::segment_arrives(tcb, &mut self.env, now, seg);
                }
                id
            }
        };
        self.settle(id, now);
    }

    /// RFC 9293 3.10.7.1 and 3.10.7.2: a segment for a port without connection.
    fn handle_unmatched(
        &mut self,
        now: Instant,
        device: DeviceId,
        seg: &Segment<'_>,
        iss_floor: Option<Seq>,
    ) {
        let is_syn =
            seg.flags.contains(Flags::SYN) && !seg.flags.intersects(Flags::ACK | Flags::RST);
        match self.find_listener(seg.dst) {
            Some(listener) if is_syn => {
                // A SYN with FIN is nobody's; Linux drops it as well.
                if !seg.flags.contains(Flags::FIN) {
                    self.passive_open(now, device, seg, listener, iss_floor);
                }
            }
            // RFC 9293 3.10.7.2: what has neither SYN nor ACK is dropped in LISTEN.
            Some(_) if !seg.flags.contains(Flags::ACK) => {
                self.env.stats.refuse(Refusal::NoConnection);
            }
            _ => {
                self.env.stats.refuse(Refusal::NoConnection);
                self.env.reply_reset(device, seg);
            }
        }
    }

    /// A SYN for a listener: a new connection in its SYN queue, if there is room.
    fn passive_open(
        &mut self,
        now: Instant,
        device: DeviceId,
        seg: &Segment<'_>,
        id: ListenerId,
        iss_floor: Option<Seq>,
    ) {
        let Some(listener) = self.listeners.get(id.index, id.generation) else { return };
        if listener.is_full() {
            self.env.stats.refuse(Refusal::AcceptQueueFull);
            return;
        }
        let options = listener.options.inherit;
        if listener.syn_queue >= self.env.config.syn_queue {
            self.drop_oldest_half_open(now, id);
        }
        let mut iss = self.env.secrets.isn(now, &seg.dst, &seg.src);
        if let Some(floor) = iss_floor {
            // RFC 9293 MAY-2: beyond every number of the previous incarnation.
            iss = if iss.gt(floor) { iss } else { floor + 0x1_0000 };
        }
        let origin = Origin {
            id: ConnId { index: 0, generation: 0 },
            state: State::SynReceived,
            owner: Owner::SynQueue(id),
            local: seg.dst,
            remote: seg.src,
            device,
            link: Link { src: seg.link.dst, dst: seg.link.src },
            options,
            iss,
            adv_mss: Offer::mss(self.env.mtu(device), &seg.dst).min(options.max_segment()),
            timestamp_offset: self.env.secrets.timestamp_offset(&seg.dst, &seg.src),
        };
        let Some((tcb, env)) = self.insert(now, origin) else {
            self.env.stats.refuse(Refusal::ConnectionLimit);
            return;
        };
        input::take_syn(tcb, env, now, seg);
        env.enqueue(tcb, list::CONTROL);
        let conn = tcb.id;
        self.note_half_open(id, conn);
    }

    /// Enters a connection at the end of its listener's SYN queue, and forgets those that have left
    /// it: at the front at once, in the middle when there are as many as may be half-open.
    fn note_half_open(&mut self, id: ListenerId, conn: ConnId) {
        let Some(listener) = self.listeners.get_mut(id.index, id.generation) else { return };
        let conns = &self.conns;
        let waits = |conn: &ConnId| match conns.get(conn.index, conn.generation) {
            Some(Slot::Conn(tcb)) => tcb.owner == Owner::SynQueue(id),
            _ => false,
        };
        while listener.half_open.front().is_some_and(|oldest| !waits(oldest)) {
            listener.half_open.pop_front();
        }
        if listener.half_open.len() >= 2 * self.env.config.syn_queue {
            listener.half_open.retain(waits);
        }
        listener.half_open.push_back(conn);
        listener.syn_queue += 1;
    }

    /// RFC 4987 3.4: the oldest half-open connection makes room in a full SYN queue. Its client, if
    /// there is one, sends its SYN again.
    fn drop_oldest_half_open(&mut self, now: Instant, id: ListenerId) {
        loop {
            let Some(listener) = self.listeners.get_mut(id.index, id.generation) else { return };
            let Some(oldest) = listener.half_open.pop_front() else { return };
            let Some((tcb, env)) = self.parts(oldest) else { continue };
            if tcb.owner == Owner::SynQueue(id) {
                env.stats.refuse(Refusal::SynQueueFull);
                tcb.finish(env);
                self.settle(oldest, now);
                return;
            }
        }
    }

    /// Makes a connection and enters it in the tables. `None`: there are too many.
    pub(super) fn insert(&mut self, now: Instant, origin: Origin) -> Option<(&mut Tcb, &mut Env)> {
        let (local, remote) = (origin.local, origin.remote);
        let waiting = self.env.port(origin.device).map_or(0, |port| port.control.len());
        if waiting >= MAX_PENDING_CONTROL {
            return None;
        }
        let config = &self.env.config;
        let (index, generation) = self.conns.insert(|index, generation| {
            let origin = Origin { id: ConnId { index, generation }, ..origin };
            Slot::Conn(Box::new(Tcb::new(origin, config, now)))
        })?;
        self.flows.insert(local, remote, index);
        self.parts(ConnId { index, generation })
    }

    fn after_time_wait(
        &mut self,
        now: Instant,
        device: DeviceId,
        seg: &Segment<'_>,
        id: ConnId,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Stay => {}
            Verdict::Restart => {
                let until = now + self.env.time_wait_us(device);
                self.env.wheel.schedule(id.index, until);
            }
            Verdict::Gone => self.free(id),
            Verdict::Reopen if self.find_listener(seg.dst).is_none() => {}
            Verdict::Reopen => {
                let floor = match self.conns.at(id.index) {
                    Some(Slot::TimeWait(wait)) => {
                        let floor = wait.snd_nxt;
                        self.free(id);
                        floor
                    }
                    Some(Slot::Conn(tcb)) => {
                        // The application still holds it, and sees a connection that is over.
                        let floor = tcb.snd_max;
                        tcb.finish(&mut self.env);
                        self.settle(id, now);
                        floor
                    }
                    None => return,
                };
                self.handle_unmatched(now, device, seg, Some(floor));
            }
        }
    }

    /// RFC 5927, RFC 1191, RFC 1122 4.2.3.9: an ICMP error about one of our segments.
    pub(super) fn handle_icmp(&mut self, now: Instant, error: &IcmpError) {
        let found = self.flows.get(error.local, error.remote);
        let Some(Slot::Conn(tcb)) = found.and_then(|index| self.conns.at(index)) else { return };
        // RFC 5927 4.1: it must speak of something that is in flight.
        if error.seq.lt(tcb.snd_una) || error.seq.ge(tcb.snd_max) {
            return;
        }
        let id = tcb.id;
        match error.kind {
            IcmpKind::FragNeeded { mtu } => {
                let mss = mtu.saturating_sub(header_bytes(&tcb.local)).max(MIN_SEND_MSS);
                let mss = tcb.less_options(mss);
                // RFC 8200 5: no IPv6 link is below 1280 bytes; Linux believes no IPv4 router that
                // claims less than 552 (`min_pmtu`).
                let least = if tcb.local.is_ipv4() { 552 } else { 1280 };
                if mtu >= least && mss < tcb.mss && tcb.state.is_synchronized() {
                    tcb.mss = mss;
                    recovery::resend_all(tcb);
                    self.env.enqueue(tcb, list::DATA);
                }
            }
            _ if tcb.state == State::SynSent => {
                // RFC 1122 4.2.3.9: a hard error aborts; while connecting, Linux takes the others
                // the same way.
                let reason = match error.kind {
                    IcmpKind::Unreachable { .. } if error.is_hard() => Error::ConnectionRefused,
                    IcmpKind::Unreachable { code: 0 } => Error::NetUnreachable,
                    _ => Error::HostUnreachable,
                };
                tcb.fail(&mut self.env, reason);
            }
            // RFC 5927 6: in a synchronized state every such error is a soft one.
            _ => {}
        }
        self.settle(id, now);
    }
}

/// Whether a SYN opens a new incarnation of a connection in TIME-WAIT.
fn is_new_syn(tcb: &Tcb, now: Instant, seg: &Segment<'_>) -> bool {
    time_wait::judge(tcb.rcv_nxt, 0, &tcb.timestamps, now, seg).0 == Verdict::Reopen
}

/// Whether a segment may reach its connection: the ACK that completes a handshake is dropped while
/// the accept queue is full, and the client repeats it.
#[inline]
fn may_reach(tcb: &mut Tcb, env: &mut Env, listeners: &Slab<Listener>, seg: &Segment<'_>) -> bool {
    let Owner::SynQueue(id) = tcb.owner else { return true };
    let Some(listener) = listeners.get(id.index, id.generation) else {
        // The listener is gone, and with it the port.
        env.reply_reset(tcb.device, seg);
        tcb.finish(env);
        return false;
    };
    let completes =
        seg.flags.contains(Flags::ACK) && !seg.flags.intersects(Flags::RST | Flags::SYN);
    if completes && listener.is_full() {
        env.stats.refuse(Refusal::AcceptQueueFull);
        return false;
    }
    true
}
