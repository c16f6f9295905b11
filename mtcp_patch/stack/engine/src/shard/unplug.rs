//! A device is gone for good, as when the process at the other end of a memory link has died.

use alloc::vec::Vec;

use super::{Shard, Slot};
use crate::device::DeviceId;
use crate::event::ConnId;
use crate::tcp::input;
use crate::tcp::state::State;
use crate::time::Instant;

impl Shard {
    /// Ends every connection that uses the device, as if its peer had sent a reset (RFC 9293
    /// 3.10.7.4, second step): the application hears of it, and may still read what had arrived.
    /// What waited to leave is forgotten, and the number may be given to another device.
    ///
    /// Looks at all connections: it is for a rare event.
    pub fn remove_device(&mut self, now: Instant, id: DeviceId) {
        if let Some(port) = self.env.ports.get_mut(usize::from(id.0)) {
            *port = None;
        }
        let uses = |slot: &Slot| match slot {
            Slot::Conn(tcb) => tcb.device == id,
            Slot::Request(request) => request.place.device == id,
            Slot::TimeWait(wait) => wait.device == id,
        };
        let users = self.conns.iter().filter(|(_, slot)| uses(slot));
        let users: Vec<ConnId> =
            users.map(|((index, generation), _)| ConnId { index, generation }).collect();
        for user in users {
            self.cut_off(now, user);
        }
    }

    fn cut_off(&mut self, now: Instant, id: ConnId) {
        let Some((tcb, env)) = self.parts(id) else {
            // Half-open, or remembered for TIME-WAIT only: nobody waits for it.
            self.free(id);
            return;
        };
        match tcb.state {
            State::Closed => {}
            // Both sides had closed: there is nothing to reset.
            State::TimeWait => tcb.finish(env),
            state => {
                let error = input::reset_error(state, env.config.linux_errors);
                tcb.fail(env, error);
            }
        }
        self.settle(id, now);
    }
}
