//! One turn of the stack, in mTCP's order: receive a batch, run the timers, send what the
//! application and the batch produced, flush the events. Whoever holds the lock drives.

use std::sync::atomic::Ordering::Relaxed;

use mtcp_engine::device::{Device, DeviceId};

use super::devices::MEMORY;
use super::state::Inner;
use super::virtual_host::VIRTUAL;

/// Frames taken from one device in one batch.
const RX_BATCH: usize = 64;

/// Batches in one turn: bounds how long a driver holds the lock under a flood.
const MAX_ROUNDS: usize = 8;

impl Inner {
    /// Drives until nothing is left to do now, at most [`MAX_ROUNDS`] batches. True when work
    /// remains, so that the caller must not sleep.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..MAX_ROUNDS {
            busy = self.batch();
            if !busy {
                break;
            }
        }
        self.flush_events();
        busy
    }

    /// A turn driven by an application thread, which keeps the TCP thread at rest; in the layouts where
    /// that one alone drives, it is told what there is to do.
    #[inline]
    pub fn app_turn(&mut self) -> bool {
        // Only counted, by one thread at a time: no locked addition.
        self.app_turns.store(self.app_turns.load(Relaxed).wrapping_add(1), Relaxed);
        if !self.layout.application_drives() {
            return self.leave_to_tcp_thread();
        }
        let busy = self.turn();
        // This thread may go on to compute, while whoever sleeps does not know of a new timer.
        if !self.timers_are_watched() {
            self.wake_tcp_thread();
        }
        busy
    }

    /// Loopback is delivered within the call, as by the kernel; packets are the TCP thread's.
    fn leave_to_tcp_thread(&mut self) -> bool {
        let busy = self.shard.has_output(MEMORY) && self.turn();
        self.flush_events();
        if busy || self.has_output() || !self.timers_are_watched() {
            self.wake_tcp_thread();
        }
        false
    }

    fn batch(&mut self) -> bool {
        let now = self.now();
        self.turned_at = now;
        let Self { shard, devices, .. } = self;
        let mut frames = 0;
        for slot in &mut devices.xdp {
            let id = slot.id;
            frames += slot.device.receive(RX_BATCH, &mut |f| shard.handle_frame(now, id, f));
        }
        if let Some(link) = &mut devices.virtual_link {
            link.now = now;
            frames += link.receive(RX_BATCH, &mut |f| shard.handle_frame(now, VIRTUAL, f));
        }
        frames += devices.peers.receive(shard, now, RX_BATCH);
        frames += devices.memory.receive(RX_BATCH, &mut |f| shard.handle_frame(now, MEMORY, f));
        if shard.next_timeout().is_some_and(|t| t <= now) {
            shard.handle_timers(now);
        }
        for slot in &mut devices.xdp {
            let id: DeviceId = slot.id;
            if shard.has_output(id) {
                let sent = shard.transmit(now, id, &mut slot.device);
                slot.device.flush();
                // A full device has room again after the flush. One that took nothing at all is
                // tried again at the TCP thread's next tick: there is nothing to poll for.
                if sent > 0 && shard.has_output(id) {
                    frames += 1;
                }
            }
        }
        if let Some(link) = &mut devices.virtual_link {
            if shard.has_output(VIRTUAL) {
                frames += shard.transmit(now, VIRTUAL, link);
            }
        }
        frames += devices.peers.transmit(shard, now);
        if shard.has_output(MEMORY) {
            frames += shard.transmit(now, MEMORY, &mut devices.memory);
            devices.memory.flush();
        }
        frames > 0
    }
}
