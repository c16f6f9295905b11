//! A frame arrives: which connection or listener it is for, and what happens when there is none.

use alloc::boxed::Box;

use super::{Env, Shard, Slot};
use crate::device::DeviceId;
use crate::event::ConnId;
use crate::limits::MAX_PENDING_CONTROL;
use crate::stats::Refusal;
use crate::tcp::input;
use crate::tcp::state::State;
use crate::tcp::tcb::{Origin, Tcb};
use crate::tcp::time_wait::{self, Verdict};
use crate::time::Instant;
use crate::wire::{self, Flags, Parsed, Segment, Seq};

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
        let syn_fin = seg.flags.contains(Flags::SYN) && seg.flags.contains(Flags::FIN);
        if syn_fin && self.env.config.drop_syn_fin {
            self.env.stats.refuse(Refusal::SynFin);
            return;
        }
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
                if tcb.state == State::TimeWait {
                    if is_new_syn(tcb, now, seg) {
                        self.after_time_wait(now, device, seg, id, Verdict::Reopen);
                        return;
                    }
                    if self.env.config.time_wait_answers_all {
                        time_wait::answer(tcb, &mut self.env, now, seg);
                        return;
                    }
                }
                input::segment_arrives(tcb, &mut self.env, now, seg);
                id
            }
            Some(Slot::Request(request)) => {
                let id = request.place.id;
                self.request_arrives(now, seg, id);
                return;
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
        let is_ack =
            seg.flags.contains(Flags::ACK) && !seg.flags.intersects(Flags::SYN | Flags::RST);
        match self.find_listener(seg.dst) {
            Some(listener) if is_syn => {
                // A SYN with FIN is nobody's; Linux drops it as well.
                if !seg.flags.contains(Flags::FIN) || self.env.config.listen_takes_syn_fin {
                    self.syn_arrives(now, device, seg, listener, iss_floor);
                }
            }
            Some(listener) if is_ack && self.cookie_arrives(now, device, seg, listener) => {}
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
            Verdict::Reset => self.env.stats.refuse(Refusal::TimeWaitReset),
            Verdict::Restart => {
                let until = now + self.env.time_wait_us(device);
                self.env.wheel.schedule(id.index, until);
            }
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
                        let floor = tcb.snd_nxt;
                        tcb.finish(&mut self.env);
                        self.settle(id, now);
                        floor
                    }
                    Some(Slot::Request(_)) | None => return,
                };
                self.handle_unmatched(now, device, seg, Some(floor));
            }
        }
    }
}

/// Whether a SYN opens a new incarnation of a connection in TIME-WAIT.
fn is_new_syn(tcb: &Tcb, now: Instant, seg: &Segment<'_>) -> bool {
    time_wait::judge(tcb.rcv_nxt, 0, &tcb.timestamps, now, seg).0 == Verdict::Reopen
}
