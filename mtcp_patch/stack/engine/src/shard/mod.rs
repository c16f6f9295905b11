//! A shard: one core's whole stack. Nothing in it is shared with another shard, and one driver at a
//! time calls it, so there is no lock below this line.
//!
//! The grammar of the interface (no call blocks, none calls back, all that need it take the time):
//!
//! ```text
//!   handle_frame, handle_timers          from the network and from the clock
//!   listen accept connect recv_* …       what the application does      (api.rs)
//!   transmit, poll_event, next_timeout   outputs, once a batch          (transmit.rs)
//! ```
//! A driver's turn: receive a batch into `handle_frame`, `handle_timers`, let the application work,
//! `transmit` per device, flush the devices, `poll_event` until there is none.

mod api;
#[cfg(any(test, feature = "sim"))]
mod check;
mod env;
mod frames;
mod icmp;
mod info;
mod passive;
mod tcp_info;
#[cfg(test)]
mod tests;
mod transmit;
mod unplug;

use alloc::boxed::Box;

use crate::device::{Caps, DeviceId};
use crate::event::{ConnId, Error, Event};
use crate::flow::FlowTable;
use crate::limits::{Config, MAX_LISTENERS, MAX_TIMERS_PER_TURN};
use crate::listen::Listener;
use crate::slab::Slab;
use crate::stats::Stats;
use crate::tcp::request::Request;
use crate::tcp::state::State;
use crate::tcp::tcb::{Owner, Tcb};
use crate::tcp::time_wait::TimeWait;
use crate::tcp::timer::{self, Timer};
use crate::time::Instant;

pub use api::{ConnectOptions, Path, SendFlags};
pub use info::ConnInfo;
pub use tcp_info::TcpInfo;

pub(crate) use env::{Env, Port, Secrets, Sink};

/// An entry of the connection table.
#[derive(Debug)]
enum Slot {
    Request(Box<Request>),
    Conn(Box<Tcb>),
    TimeWait(Box<TimeWait>),
}

/// One core's stack.
pub struct Shard {
    conns: Slab<Slot>,
    flows: FlowTable,
    listeners: Slab<Listener>,
    /// Listeners by local address; the remote half of the key is unspecified.
    listening: FlowTable,
    /// Half-open connections of all listeners.
    half_open: usize,
    env: Env,
}

impl Shard {
    /// A shard without devices. `seed` must be unpredictable outside of tests: sequence numbers and
    /// hash tables are keyed with it.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut isn_key = [0; 16];
        let mut flow_key = [0; 16];
        isn_key.copy_from_slice(&seed[..16]);
        flow_key.copy_from_slice(&seed[16..]);
        Self {
            conns: Slab::new(config.max_connections),
            flows: FlowTable::new(flow_key),
            listeners: Slab::new(MAX_LISTENERS),
            listening: FlowTable::new(flow_key),
            half_open: 0,
            env: Env::new(config, isn_key),
        }
    }

    /// Makes a device known, or changes what is known of it.
    pub fn add_device(&mut self, id: DeviceId, caps: Caps) {
        let index = usize::from(id.0);
        if self.env.ports.len() <= index {
            self.env.ports.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.env.ports.get_mut(index) {
            match slot {
                Some(port) => port.caps = caps,
                None => *slot = Some(Port::new(caps)),
            }
        }
    }

    /// Runs the timers that are due. Never scans: the wheel names the connections. When there are
    /// too many for one turn, [`Shard::next_timeout`] is in the past afterwards.
    pub fn handle_timers(&mut self, now: Instant) {
        for _ in 0..MAX_TIMERS_PER_TURN {
            let Some(index) = self.env.wheel.pop_expired(now) else { break };
            match self.conns.at(index) {
                Some(Slot::Conn(tcb)) => {
                    timer::expire(tcb, &mut self.env, now);
                    let id = tcb.id;
                    self.settle(id, now);
                }
                Some(Slot::Request(request)) => {
                    let id = request.place.id;
                    self.request_timeout(now, id);
                }
                Some(Slot::TimeWait(wait)) => {
                    let id = wait.id;
                    self.free(id);
                }
                None => {}
            }
        }
    }

    /// When [`Shard::handle_timers`] wants to be called next; `None`: never.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.env.wheel.next_timeout()
    }

    /// The oldest event. At most one waits an object.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.env.events.pop()?;
            let pending = match event {
                Event::Conn(id) => self
                    .tcb_mut(id)
                    .filter(|tcb| tcb.owner == Owner::Application)
                    .map(|tcb| &mut tcb.event_pending),
                Event::Listener(id) => self
                    .listeners
                    .get_mut(id.index, id.generation)
                    .map(|listener| &mut listener.event_pending),
                Event::Freed(_) => return Some(event),
            };
            // An object that is gone, or that nobody holds, has no more events.
            if let Some(pending) = pending {
                *pending = false;
                return Some(event);
            }
        }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.env.config
    }

    /// Other settings from now on, as sysctls of a kernel: what exists keeps what it has been given.
    /// The sizes of tables and of memory stay.
    pub fn configure(&mut self, config: Config) {
        self.env.config = config;
    }

    /// What the shard has done so far.
    pub fn stats(&self) -> Stats {
        let mut stats = self.env.stats.clone();
        stats.memory_bytes = self.env.memory.used_bytes() as u64;
        stats
    }

    fn tcb(&self, id: ConnId) -> Option<&Tcb> {
        match self.conns.get(id.index, id.generation)? {
            Slot::Conn(tcb) => Some(tcb),
            Slot::Request(_) | Slot::TimeWait(_) => None,
        }
    }

    fn tcb_mut(&mut self, id: ConnId) -> Option<&mut Tcb> {
        match self.conns.get_mut(id.index, id.generation)? {
            Slot::Conn(tcb) => Some(tcb),
            Slot::Request(_) | Slot::TimeWait(_) => None,
        }
    }

    /// The connection and the shared part, apart.
    fn parts(&mut self, id: ConnId) -> Option<(&mut Tcb, &mut Env)> {
        match self.conns.get_mut(id.index, id.generation)? {
            Slot::Conn(tcb) => Some((tcb, &mut self.env)),
            Slot::Request(_) | Slot::TimeWait(_) => None,
        }
    }

    /// The connection, if the application holds it.
    fn owned(&self, id: ConnId) -> Result<&Tcb, Error> {
        self.tcb(id).filter(|tcb| tcb.owner == Owner::Application).ok_or(Error::BadId)
    }

    /// The connection, if the application holds it, and the shared part.
    fn owned_mut(&mut self, id: ConnId) -> Result<(&mut Tcb, &mut Env), Error> {
        self.parts(id).filter(|(tcb, _)| tcb.owner == Owner::Application).ok_or(Error::BadId)
    }

    /// After anything was done to a connection: moves it to where its state and owner say it
    /// belongs. Most of the time that is where it is.
    #[inline]
    fn settle(&mut self, id: ConnId, now: Instant) {
        let Some(tcb) = self.tcb(id) else { return };
        if matches!(tcb.state, State::Closed | State::TimeWait) {
            self.relocate(id, now);
        }
    }

    fn relocate(&mut self, id: ConnId, now: Instant) {
        let Some(tcb) = self.tcb(id) else { return };
        match (tcb.state, tcb.owner) {
            (State::Closed, Owner::Nobody) => self.free(id),
            (State::Closed, _) if !tcb.detached => self.detach(id),
            (State::TimeWait, Owner::Nobody) => self.compact(id, now),
            _ => {}
        }
    }

    /// Takes a closed connection out of the flow table and the wheel; its owner may still read.
    fn detach(&mut self, id: ConnId) {
        let Some((tcb, env)) = self.parts(id) else { return };
        timer::stop_all(tcb, env);
        let (local, remote) = (tcb.local, tcb.remote);
        if !core::mem::replace(&mut tcb.detached, true) {
            self.flows.remove(local, remote);
        }
    }

    /// Takes a connection out of every table.
    fn free(&mut self, id: ConnId) {
        self.detach(id);
        let known = match self.conns.remove(id.index, id.generation) {
            Some(Slot::Conn(mut tcb)) => {
                tcb.rx.release(&mut self.env.memory);
                tcb.tx.release(&mut self.env.memory);
                tcb.known
            }
            Some(Slot::Request(request)) => {
                self.env.wheel.cancel(id.index);
                self.flows.remove(request.syn.dst, request.syn.src);
                self.leave_syn_queue(request.place.listener);
                false
            }
            Some(Slot::TimeWait(wait)) => {
                self.env.wheel.cancel(id.index);
                self.flows.remove(wait.local, wait.remote);
                true
            }
            None => false,
        };
        if known {
            self.env.events.push_once(Event::Freed(id));
        }
    }

    /// Replaces a TCB in TIME-WAIT that nobody holds by what must be remembered of it.
    fn compact(&mut self, id: ConnId, now: Instant) {
        let Some((tcb, env)) = self.parts(id) else { return };
        let until = tcb.timers.deadline(Timer::Linger);
        timer::stop_all(tcb, env);
        tcb.rx.release(&mut env.memory);
        tcb.tx.release(&mut env.memory);
        let wait = TimeWait::new(tcb);
        if tcb.ack_due {
            wait.acknowledge_now(env, now);
        }
        env.wheel.schedule(id.index, until.unwrap_or(now));
        if let Some(slot) = self.conns.get_mut(id.index, id.generation) {
            *slot = Slot::TimeWait(Box::new(wait));
        }
    }
}
