//! The batch leaves: control, then acknowledgments, then data, as mTCP has it.

use alloc::collections::VecDeque;

use super::{passive, Env, Port, Shard, Sink, Slot};
use crate::device::{Device, DeviceId};
use crate::event::ConnId;
use crate::listen::Listener;
use crate::slab::Slab;
use crate::tcp::output::{self, Turn};
use crate::tcp::tcb::{list, Tcb};
use crate::time::Instant;

impl Shard {
    /// Hands everything that may leave by `id` to `device`, until the device refuses; returns how
    /// many frames that were. Does not flush.
    pub fn transmit(&mut self, now: Instant, id: DeviceId, device: &mut dyn Device) -> usize {
        let Some(caps) = self.env.port(id).map(|port| port.caps) else { return 0 };
        let mut sink = Sink { device, caps, frames: 0 };
        let (conns, listeners, env) = (&mut self.conns, &self.listeners, &mut self.env);
        // Each list only when the device has taken all of the one before.
        let _ = replies(env, id, &mut sink)
            && control(conns, listeners, env, now, id, &mut sink)
            && acks(conns, env, now, id, &mut sink)
            && data(conns, env, now, id, &mut sink);
        sink.frames
    }

    /// Whether something may be waiting to leave by `id`.
    pub fn has_output(&self, id: DeviceId) -> bool {
        let port = self.env.ports.get(usize::from(id.0)).and_then(Option::as_ref);
        port.is_some_and(Port::has_output)
    }
}

fn find(conns: &mut Slab<Slot>, id: ConnId) -> Option<&mut Tcb> {
    match conns.get_mut(id.index, id.generation)? {
        Slot::Conn(tcb) => Some(tcb),
        Slot::Request(_) | Slot::TimeWait(_) => None,
    }
}

fn replies(env: &mut Env, id: DeviceId, sink: &mut Sink<'_>) -> bool {
    while let Some(header) = env.port(id).and_then(|port| port.replies.pop_front()) {
        if !sink.put(env, &header, [&[], &[]]) {
            if let Some(port) = env.port(id) {
                port.replies.push_front(header);
            }
            return false;
        }
    }
    true
}

/// Gives every connection on a list its turn, which takes it off; one that the device refused goes
/// back to the head, and the rest waits with it.
///
/// `bit` says that a connection stands on the list that `queue` finds.
#[inline(always)]
fn each_once(
    conns: &mut Slab<Slot>,
    env: &mut Env,
    id: DeviceId,
    (bit, queue): (u8, impl Fn(&mut Port) -> &mut VecDeque<ConnId>),
    mut turn: impl FnMut(&mut Tcb, &mut Env) -> Turn,
) -> bool {
    while let Some(conn) = env.port(id).and_then(|port| queue(port).pop_front()) {
        let Some(tcb) = find(conns, conn) else { continue };
        tcb.queued &= !bit;
        if turn(tcb, env) == Turn::Refused {
            tcb.queued |= bit;
            if let Some(port) = env.port(id) {
                queue(port).push_front(conn);
            }
            return false;
        }
    }
    true
}

fn control(
    conns: &mut Slab<Slot>,
    listeners: &Slab<Listener>,
    env: &mut Env,
    now: Instant,
    id: DeviceId,
    sink: &mut Sink<'_>,
) -> bool {
    while let Some(conn) = env.port(id).and_then(|port| port.control.pop_front()) {
        let turn = match conns.get_mut(conn.index, conn.generation) {
            Some(Slot::Request(request)) => passive::transmit(request, listeners, env, now, sink),
            Some(Slot::Conn(tcb)) => {
                let turn = output::control(tcb, env, now, sink);
                if turn != Turn::Refused {
                    tcb.queued &= !list::CONTROL;
                }
                turn
            }
            Some(Slot::TimeWait(_)) | None => continue,
        };
        if turn == Turn::Refused {
            if let Some(port) = env.port(id) {
                port.control.push_front(conn);
            }
            return false;
        }
    }
    true
}

fn acks(
    conns: &mut Slab<Slot>,
    env: &mut Env,
    now: Instant,
    id: DeviceId,
    sink: &mut Sink<'_>,
) -> bool {
    each_once(conns, env, id, (list::ACK, |port| &mut port.acks), |tcb, env| {
        // Data carries the acknowledgment, when there is data that may leave.
        let mut turn = Turn::Done;
        if tcb.queued & list::DATA != 0 {
            turn = output::data(tcb, env, now, sink);
        }
        if turn != Turn::Refused && (tcb.ack_due || tcb.probe_due) {
            turn = output::acknowledgment(tcb, env, now, sink);
        }
        turn
    })
}

fn data(
    conns: &mut Slab<Slot>,
    env: &mut Env,
    now: Instant,
    id: DeviceId,
    sink: &mut Sink<'_>,
) -> bool {
    while let Some(conn) = env.port(id).and_then(|port| port.data.pop_front()) {
        let Some(tcb) = find(conns, conn) else { continue };
        let turn = output::data(tcb, env, now, sink);
        let Some(port) = env.port(id) else { return false };
        match turn {
            Turn::Done => tcb.queued &= !list::DATA,
            Turn::More => port.data.push_back(conn),
            Turn::Refused => {
                port.data.push_front(conn);
                return false;
            }
        }
    }
    true
}
