//! Passive opening: from a SYN for a listener to its accept queue.
//!
//! ```text
//!   SYN ──> room in the SYN queue? ──yes──> Request ──ACK──> Tcb ──> accept queue
//!                     └──no──> cookie (nothing kept) ──ACK──┘
//! ```
//! With a full accept queue a SYN is dropped, and the ACK that would complete a handshake is dropped
//! too, so that the client sends it (or data) again, as Linux has it.

use alloc::boxed::Box;

use super::{Env, Shard, Sink, Slot};
use crate::device::DeviceId;
use crate::event::{ConnId, Event, ListenerId};
use crate::limits::{MAX_PENDING_CONTROL, SYN_COOKIE_PERIODS, SYN_COOKIE_PERIOD_US};
use crate::listen::Listener;
use crate::slab::Slab;
use crate::stats::Refusal;
use crate::tcp::output::{self, Turn};
use crate::tcp::request::{Place, Request, Syn, Verdict};
use crate::tcp::{cookie, input, window};
use crate::time::Instant;
use crate::wire::{Segment, Seq};

impl Shard {
    /// A SYN for a listener. `iss_floor`: it met TIME-WAIT, which ends here.
    pub(super) fn syn_arrives(
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
        let config = &self.env.config;
        let full = listener.syn_queue >= config.syn_queue || self.half_open >= config.max_half_open;
        // Who was in TIME-WAIT has shown that he receives what we send, and the numbers of his old
        // connection rule a cookie out: he is let in (Linux too).
        if full && iss_floor.is_none() {
            if config.syn_cookies {
                self.send_cookie(now, device, seg, id);
                return;
            }
            if !self.drop_oldest_half_open(id) {
                self.env.stats.refuse(Refusal::SynQueueFull);
                return;
            }
        }
        let mut iss = self.env.secrets.isn(now, &seg.dst, &seg.src);
        if let Some(floor) = iss_floor {
            // RFC 9293 MAY-2: beyond every number of the previous incarnation.
            iss = if iss.gt(floor) { iss } else { floor + 0x1_0000 };
        }
        self.half_open(now, device, Syn::of(seg), id, iss);
    }

    /// Makes a half-open connection and queues its SYN-ACK.
    fn half_open(
        &mut self,
        now: Instant,
        device: DeviceId,
        syn: Syn,
        listener: ListenerId,
        iss: Seq,
    ) {
        let waiting = self.env.port(device).map_or(0, |port| port.control.len());
        let made = if waiting < MAX_PENDING_CONTROL {
            self.conns.insert(|index, generation| {
                let place = Place { id: ConnId { index, generation }, listener, device };
                Slot::Request(Box::new(Request::new(place, syn, iss)))
            })
        } else {
            None
        };
        let Some((index, generation)) = made else {
            self.env.stats.refuse(Refusal::ConnectionLimit);
            return;
        };
        self.flows.insert(syn.dst, syn.src, index);
        self.note_half_open(listener, ConnId { index, generation });
        if let Some(Slot::Request(request)) = self.conns.at(index) {
            enqueue(&mut self.env, request);
            self.env.wheel.schedule(index, now + request.timeout_us(&self.env));
        }
    }

    /// RFC 4987 3.6: a SYN-ACK that nobody remembers.
    fn send_cookie(&mut self, now: Instant, device: DeviceId, seg: &Segment<'_>, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.index, id.generation) else { return };
        listener.cookies_until = Some(now + SYN_COOKIE_PERIODS * SYN_COOKIE_PERIOD_US);
        let (syn, env) = (Syn::of(seg), &mut self.env);
        let place = Place { id: ConnId { index: 0, generation: 0 }, listener: id, device };
        let mut tcb = syn.embryo(env, now, place, Seq(0), listener.options.inherit);
        tcb.iss = cookie::issue(&env.secrets, now, &syn, syn.agreed(env.mtu(device)).mss);
        let mut header = output::syn_header(&mut tcb, env, now);
        cookie::seal(&mut header, now, &syn, &tcb.timestamps);
        if env.reply(device, header) {
            env.stats.syncookies_sent += 1;
        }
    }

    /// An ACK for a listener: the end of a handshake that nobody remembers, perhaps. False: it is
    /// not.
    pub(super) fn cookie_arrives(
        &mut self,
        now: Instant,
        device: DeviceId,
        seg: &Segment<'_>,
        id: ListenerId,
    ) -> bool {
        let Some(listener) = self.listeners.get(id.index, id.generation) else { return false };
        // Only while there may be cookies, or guessing would never have to stop.
        if listener.cookies_until.is_none_or(|until| now >= until) {
            return false;
        }
        let (config, secrets) = (&self.env.config, &self.env.secrets);
        let Some(syn) = cookie::redeem(secrets, config.timestamps, now, seg) else {
            self.env.stats.syncookies_failed += 1;
            return false;
        };
        if listener.is_full() {
            self.env.stats.refuse(Refusal::AcceptQueueFull);
            return true;
        }
        self.env.stats.syncookies_received += 1;
        let (inherit, env) = (listener.options.inherit, &mut self.env);
        let made = self.conns.insert(|index, generation| {
            let place = Place { id: ConnId { index, generation }, listener: id, device };
            let mut tcb = syn.embryo(env, now, place, seg.ack - 1, inherit);
            window::advertise_in_syn(&mut tcb, &env.config);
            output::syn_sent(&mut tcb);
            Slot::Conn(Box::new(tcb))
        });
        match made {
            Some((index, generation)) => {
                self.flows.insert(seg.dst, seg.src, index);
                self.complete(now, seg, ConnId { index, generation }, id);
            }
            None => self.env.stats.refuse(Refusal::ConnectionLimit),
        }
        true
    }

    /// A segment for a half-open connection.
    pub(super) fn request_arrives(&mut self, now: Instant, seg: &Segment<'_>, id: ConnId) {
        let env = &mut self.env;
        let Some(Slot::Request(request)) = self.conns.get_mut(id.index, id.generation) else {
            return;
        };
        let listener_id = request.place.listener;
        let Some(listener) = self.listeners.get(listener_id.index, listener_id.generation) else {
            // The listener is gone, and with it the port.
            env.reply_reset(request.place.device, seg);
            self.free(id);
            return;
        };
        let inherit = listener.options.inherit;
        match request.judge(env, now, seg) {
            Verdict::Drop => {}
            Verdict::Repeat => {
                if request.may_repeat(env, now) {
                    enqueue(env, request);
                }
            }
            Verdict::Challenge => request.challenge(env, now, inherit),
            Verdict::Reset => env.reply_reset(request.place.device, seg),
            Verdict::Gone => {
                env.stats.resets_in += 1;
                self.free(id);
            }
            Verdict::Complete if listener.is_full() => env.stats.refuse(Refusal::AcceptQueueFull),
            Verdict::Complete => {
                let tcb = request.embryo(env, now, inherit);
                self.leave_syn_queue(listener_id);
                self.env.wheel.cancel(id.index);
                if let Some(slot) = self.conns.get_mut(id.index, id.generation) {
                    *slot = Slot::Conn(Box::new(tcb));
                }
                self.complete(now, seg, id, listener_id);
            }
        }
    }

    /// The connection `id`, in SYN-RECEIVED, meets the segment that ends its handshake.
    fn complete(&mut self, now: Instant, seg: &Segment<'_>, id: ConnId, listener_id: ListenerId) {
        let Some((tcb, env)) = self.parts(id) else { return };
        input::segment_arrives(tcb, env, now, seg);
        let listener = self.listeners.get_mut(listener_id.index, listener_id.generation);
        if let Some(listener) = listener {
            listener.accept_queue.push_back(id);
            let event = Event::Listener(listener_id);
            self.env.events.push(event, &mut listener.event_pending);
            self.env.stats.accepted += 1;
        }
        self.settle(id, now);
    }

    /// The SYN-ACK was not answered in time.
    pub(super) fn request_timeout(&mut self, now: Instant, id: ConnId) {
        let env = &mut self.env;
        let Some(Slot::Request(request)) = self.conns.get_mut(id.index, id.generation) else {
            return;
        };
        let listener = request.place.listener;
        let abandoned = self.listeners.get(listener.index, listener.generation).is_none();
        if abandoned || request.retries >= env.config.syn_ack_retries {
            self.free(id);
            return;
        }
        env.stats.timeouts += 1;
        request.retries += 1;
        let at = now + request.timeout_us(env);
        enqueue(env, request);
        env.wheel.schedule(id.index, at);
    }

    /// A connection of this listener is half-open no more.
    pub(super) fn leave_syn_queue(&mut self, id: ListenerId) {
        self.half_open = self.half_open.saturating_sub(1);
        if let Some(listener) = self.listeners.get_mut(id.index, id.generation) {
            listener.syn_queue = listener.syn_queue.saturating_sub(1);
        }
    }

    /// Enters a connection at the end of its listener's SYN queue, and forgets those that have left
    /// it: at the front at once, in the middle when there are as many as may be half-open.
    fn note_half_open(&mut self, id: ListenerId, conn: ConnId) {
        let Some(listener) = self.listeners.get_mut(id.index, id.generation) else { return };
        listener.syn_queue += 1;
        self.half_open += 1;
        if self.env.config.syn_cookies {
            // Nobody gives way.
            return;
        }
        let conns = &self.conns;
        let waits = |conn: &ConnId| {
            matches!(conns.get(conn.index, conn.generation), Some(Slot::Request(_)))
        };
        while listener.half_open.front().is_some_and(|oldest| !waits(oldest)) {
            listener.half_open.pop_front();
        }
        if listener.half_open.len() >= 2 * self.env.config.syn_queue {
            listener.half_open.retain(waits);
        }
        listener.half_open.push_back(conn);
    }

    /// RFC 4987 3.4: the oldest half-open connection makes room in a full SYN queue. Its client, if
    /// there is one, sends its SYN again. False: this listener has none.
    fn drop_oldest_half_open(&mut self, id: ListenerId) -> bool {
        loop {
            let Some(listener) = self.listeners.get_mut(id.index, id.generation) else {
                return false;
            };
            let Some(oldest) = listener.half_open.pop_front() else { return false };
            let slot = self.conns.get(oldest.index, oldest.generation);
            if matches!(slot, Some(Slot::Request(_))) {
                self.env.stats.refuse(Refusal::SynQueueFull);
                self.free(oldest);
                return true;
            }
        }
    }
}

/// Puts the SYN-ACK on the control list of its device, unless it is there.
fn enqueue(env: &mut Env, request: &mut Request) {
    let Some(port) = env.port(request.place.device) else { return };
    if !core::mem::replace(&mut request.queued, true) {
        port.control.push_back(request.place.id);
    }
}

/// Sends the SYN-ACK of a half-open connection that was on the control list.
pub(super) fn transmit(
    request: &mut Request,
    listeners: &Slab<Listener>,
    env: &mut Env,
    now: Instant,
    sink: &mut Sink<'_>,
) -> Turn {
    let id = request.place.listener;
    let Some(listener) = listeners.get(id.index, id.generation) else {
        request.queued = false;
        return Turn::Done;
    };
    let header = request.syn_ack(env, now, listener.options.inherit);
    if !sink.put(env, &header, [&[], &[]]) {
        return Turn::Refused;
    }
    request.queued = false;
    request.sent(env, now, &header);
    Turn::Done
}
