//! What the application does: open, read, write, close. Calls change TCBs and mark them for the
//! transmit lists; nothing is sent here.

use core::net::SocketAddr;

use super::{Shard, Slot};
use crate::device::{Caps, DeviceId};
use crate::event::{ready, ConnId, Error, ListenerId};
use crate::limits::{MIN_RECV_BUFFER_BYTES, QUICK_ACKS};
use crate::listen::{candidates, ListenOptions, Listener, ListenerInfo};
use crate::tcp::options::Offer;
use crate::tcp::state::{Cause, State};
use crate::tcp::tcb::{list, ConnOptions, Origin, Owner};
use crate::tcp::{account, eor, input, skb, space, timer, urgent, window};
use crate::time::Instant;
use crate::wire::Link;

/// How packets reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The device to send by.
    pub device: DeviceId,
    /// Its properties.
    pub caps: Caps,
    /// Hardware addresses of the frames; zero on media without any.
    pub link: Link,
}

/// A connection to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Our address and port; neither may be unspecified.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The way there.
    pub path: Path,
    /// What the application chose.
    pub options: ConnOptions,
}

/// What an application says of one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags {
    /// More follows at once: a partial segment waits for it, or for the next segment of the peer
    /// (`MSG_MORE`).
    pub more: bool,
    /// The last segment of it carries nothing of later writes (`MSG_EOR`).
    pub end_of_record: bool,
}

/// The remote half of a listener's key.
fn nobody(local: SocketAddr) -> SocketAddr {
    match local {
        SocketAddr::V4(_) => SocketAddr::from(([0u8; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

impl Shard {
    /// Starts to listen.
    ///
    /// # Errors
    /// `Invalid` for port 0, `AddrInUse` when exactly this address has a listener, `NoBuffers`
    /// when there are too many listeners.
    pub fn listen(&mut self, options: ListenOptions) -> Result<ListenerId, Error> {
        if options.local.port() == 0 {
            return Err(Error::Invalid);
        }
        let peer = nobody(options.local);
        // RFC 9293 3.9.1.1: an error, or a listener of its own that touches no connection (MUST-41,
        // MUST-42), for one address or for all (MUST-43).
        if self.listening.get(options.local, peer).is_some() {
            return Err(Error::AddrInUse);
        }
        let made = self
            .listeners
            .insert(|index, generation| Listener::new(ListenerId { index, generation }, options));
        let (index, generation) = made.ok_or(Error::NoBuffers)?;
        self.listening.insert(options.local, peer, index);
        Ok(ListenerId { index, generation })
    }

    /// Changes how many connections may wait for accept.
    pub fn set_backlog(&mut self, id: ListenerId, backlog: usize) {
        if let Some(listener) = self.listeners.get_mut(id.index, id.generation) {
            listener.set_backlog(backlog);
        }
    }

    /// Changes the options that connections of a listener begin with.
    pub fn set_listener_options(&mut self, id: ListenerId, inherit: ConnOptions) {
        if let Some(listener) = self.listeners.get_mut(id.index, id.generation) {
            listener.options.inherit = inherit;
        }
    }

    /// Stops listening. Connections that nobody accepted are reset, as Linux does; half-open ones
    /// are when they are next heard of.
    pub fn close_listener(&mut self, now: Instant, id: ListenerId) {
        let Some(listener) = self.listeners.remove(id.index, id.generation) else { return };
        self.listening.remove(listener.options.local, nobody(listener.options.local));
        for conn in listener.accept_queue {
            if let Some((tcb, env)) = self.parts(conn) {
                tcb.owner = Owner::Nobody;
                if tcb.state != State::Closed {
                    env.reset(tcb, now);
                    tcb.finish(env);
                }
            }
            self.free(conn);
        }
    }

    /// The oldest established connection of a listener. Its events begin now; what it has received
    /// already shows in its readiness.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, `BadId`.
    pub fn accept(&mut self, id: ListenerId) -> Result<ConnId, Error> {
        let listener = self.listeners.get_mut(id.index, id.generation).ok_or(Error::BadId)?;
        while let Some(conn) = listener.accept_queue.pop_front() {
            if let Some(Slot::Conn(tcb)) = self.conns.get_mut(conn.index, conn.generation) {
                tcb.owner = Owner::Application;
                tcb.known = true;
                return Ok(conn);
            }
        }
        Err(Error::WouldBlock)
    }

    /// How many connections wait for [`Shard::accept`].
    pub fn accept_queue_len(&self, id: ListenerId) -> usize {
        self.listeners.get(id.index, id.generation).map_or(0, |l| l.accept_queue.len())
    }

    /// The listener for connections to `dst`: its exact address first, then the wildcard of its
    /// family, then a dual-stack `::`.
    pub fn find_listener(&self, dst: SocketAddr) -> Option<ListenerId> {
        candidates(dst).find_map(|(local, dual)| {
            let index = self.listening.get(local, nobody(local))?;
            let listener = self.listeners.at_ref(index)?;
            (!dual || !listener.options.v6only).then_some(listener.id)
        })
    }

    /// Begins a connection; its SYN leaves with the next transmission. Readiness tells the outcome.
    ///
    /// # Errors
    /// `Invalid` addresses, `AddrInUse` for a 4-tuple that exists, `NoBuffers` at the limit of
    /// connections.
    pub fn connect(&mut self, now: Instant, options: ConnectOptions) -> Result<ConnId, Error> {
        let ConnectOptions { local, remote, path, options } = options;
        let usable = |a: &SocketAddr| a.port() != 0 && !a.ip().is_unspecified();
        if !usable(&local) || !usable(&remote) || local.is_ipv4() != remote.is_ipv4() {
            return Err(Error::Invalid);
        }
        if self.env.port(path.device).is_none() {
            self.add_device(path.device, path.caps);
        }
        if self.flows.get(local, remote).is_some() {
            return Err(Error::AddrInUse);
        }
        let origin = Origin {
            id: ConnId { index: 0, generation: 0 },
            state: State::SynSent,
            owner: Owner::Application,
            local,
            remote,
            device: path.device,
            link: path.link,
            options,
            iss: self.env.secrets.isn(now, &local, &remote),
            adv_mss: Offer::adv_mss(path.caps.mtu, &local, &options, &self.env.config),
            timestamp_offset: self.env.secrets.timestamp_offset(&local, &remote),
        };
        let (tcb, env) = self.insert(now, origin).ok_or(Error::NoBuffers)?;
        tcb.known = true;
        env.enqueue(tcb, list::CONTROL);
        env.stats.opened += 1;
        Ok(tcb.id)
    }

    /// What can be read, in the two halves of the ring; both empty at the end of the stream. A
    /// pending error is reported once, after the data that came before it.
    ///
    /// # Errors
    /// `WouldBlock`, the connection's error, `NotConnected`, `BadId`.
    pub fn recv_slices(&self, id: ConnId) -> Result<(&[u8], &[u8]), Error> {
        let tcb = self.owned(id)?;
        let (offset, len) = urgent::readable(tcb);
        if len > 0 {
            let [a, b] = tcb.rx.range(offset, len);
            return Ok((a, b));
        }
        // The peer's FIN stays the end of its stream, whatever came later (Linux: SOCK_DONE).
        let ended = tcb.rcv_fin.is_some_and(|fin| tcb.rcv_nxt.gt(fin));
        if let (false, Some(error)) = (ended, tcb.error.get()) {
            tcb.error.set(None);
            return Err(error);
        }
        if tcb.receive_ended() {
            return Ok((&[], &[]));
        }
        Err(Error::WouldBlock)
    }

    /// Forgets `n` bytes of what [`Shard::recv_slices`] gave. May queue a window update.
    ///
    /// # Errors
    /// `BadId`.
    pub fn recv_consume(&mut self, now: Instant, id: ConnId, n: usize) -> Result<(), Error> {
        let (tcb, env) = self.owned_mut(id)?;
        let (_, readable) = urgent::readable(tcb);
        let n = urgent::consumed(tcb, n.min(readable));
        tcb.rx.consume(&mut env.memory, n, !tcb.ranges.is_empty());
        if !tcb.state.can_receive() {
            if tcb.rx.is_empty() {
                tcb.rx.release(&mut env.memory);
            }
            return Ok(());
        }
        space::adjust(tcb, &env.config, now);
        if tcb.rx.is_empty() && tcb.rx.capacity() > 0 {
            timer::watch_idle_buffers(tcb, env, now);
        }
        if window::is_update_due(tcb) || input::is_ack_due_after_read(tcb) {
            input::ack_now(tcb, env);
        }
        Ok(())
    }

    /// Copies as much of `data` as there is room for into the send buffer and returns how much that
    /// was. It leaves with the next transmission, as far as the windows allow.
    ///
    /// # Errors
    /// `WouldBlock` when full or still connecting, the connection's error (once), `BrokenPipe`
    /// after the sending direction has ended, `BadId`.
    #[inline]
    pub fn send(&mut self, now: Instant, id: ConnId, data: &[u8]) -> Result<usize, Error> {
        self.send_with(now, id, data, SendFlags::default())
    }

    /// As [`Shard::send`], with what the application says of this write.
    ///
    /// # Errors
    /// Those of [`Shard::send`].
    pub fn send_with(
        &mut self,
        now: Instant,
        id: ConnId,
        data: &[u8],
        flags: SendFlags,
    ) -> Result<usize, Error> {
        let (tcb, env) = self.owned_mut(id)?;
        if let Some(error) = tcb.error.take() {
            return Err(error);
        }
        if tcb.send_ended() {
            return Err(Error::BrokenPipe);
        }
        if !tcb.state.is_synchronized() {
            return Err(Error::WouldBlock);
        }
        let room = tcb.send_room(&env.config);
        let part = data.get(..room).unwrap_or(data);
        let taken = tcb.tx.append(&mut env.memory, part);
        if taken < data.len() && (taken == 0 || !env.config.send_buffer_by_packets) {
            tcb.no_space.set(true);
            if taken == 0 {
                skb::refused(tcb);
                return Err(Error::WouldBlock);
            }
        }
        if taken > 0 && tcb.tx.len() == taken {
            account::phase(tcb, now, false);
        }
        if taken > 0 {
            // Linux: a writer that must wait pushes, whatever it says of the next call.
            tcb.more = flags.more && taken == data.len();
            tcb.unpushed = tcb.more;
            skb::written(tcb, taken, taken == data.len() && !flags.more);
            if flags.end_of_record && taken == data.len() {
                eor::written(tcb);
            }
        }
        env.enqueue(tcb, list::DATA);
        Ok(taken)
    }

    /// Whether [`Shard::send`] takes one packet at a time, and is to be called again once that has been
    /// transmitted (Linux sends within `write`). See [`Config::send_buffer_by_packets`].
    pub fn takes_packets(&self) -> bool {
        self.env.config.send_buffer_by_packets
    }

    /// As [`Shard::send`]; the last octet taken is urgent (`MSG_OOB`).
    ///
    /// # Errors
    /// Those of [`Shard::send`].
    pub fn send_urgent(&mut self, now: Instant, id: ConnId, data: &[u8]) -> Result<usize, Error> {
        let taken = self.send(now, id, data)?;
        if taken > 0 {
            urgent::written(self.owned_mut(id)?.0);
        }
        Ok(taken)
    }

    /// The urgent octet (`MSG_OOB`), once unless `peek`; `None` when it can come no more.
    ///
    /// # Errors
    /// `Invalid` when there is none or it stays in the stream, `WouldBlock` while it is only
    /// announced, `BadId`.
    pub fn recv_urgent(&mut self, id: ConnId, peek: bool) -> Result<Option<u8>, Error> {
        urgent::take(self.owned_mut(id)?.0, peek)
    }

    /// Whether the next octet to be read is the urgent one, or would be (`SIOCATMARK`).
    pub fn is_at_mark(&self, id: ConnId) -> bool {
        self.owned(id).is_ok_and(urgent::is_at_mark)
    }

    /// Ends one or both directions. What was sent before still leaves.
    ///
    /// # Errors
    /// `NotConnected`, `BadId`.
    pub fn shutdown(
        &mut self,
        now: Instant,
        id: ConnId,
        read: bool,
        write: bool,
    ) -> Result<(), Error> {
        let (tcb, env) = self.owned_mut(id)?;
        match tcb.state {
            State::Closed => return Err(Error::NotConnected),
            // Linux disconnects a socket that is shut down while it connects.
            State::SynSent => tcb.finish(env),
            _ => {
                tcb.read_shut |= read;
                if write {
                    end_sending(tcb, env);
                }
                tcb.notify(env);
            }
        }
        self.settle(id, now);
        Ok(())
    }

    /// The application lets go. The FIN follows the data; unread data turns it into a reset
    /// (RFC 2525 2.17). The connection lives on by itself until it is over; then comes `Freed`.
    pub fn close(&mut self, now: Instant, id: ConnId) {
        let Ok((tcb, env)) = self.owned_mut(id) else { return };
        tcb.owner = Owner::Nobody;
        let unread = !tcb.rx.is_empty();
        match tcb.state {
            State::Closed | State::TimeWait => {}
            State::SynSent => tcb.finish(env),
            // Linux `__tcp_close`: with a negative TCP_LINGER2 nothing is waited for.
            State::FinWait2 if tcb.options.fin_wait_2_us == Some(0) => {
                env.reset(tcb, now);
                tcb.finish(env);
            }
            _ if unread => {
                env.reset(tcb, now);
                tcb.finish(env);
            }
            _ => {
                end_sending(tcb, env);
                timer::linger_if_orphaned(tcb, env, now);
            }
        }
        self.settle(id, now);
    }

    /// The application lets go and wants the peer to know at once: RST.
    pub fn abort(&mut self, now: Instant, id: ConnId) {
        let Ok((tcb, env)) = self.owned_mut(id) else { return };
        tcb.owner = Owner::Nobody;
        match tcb.state {
            State::Closed | State::TimeWait => {}
            State::SynSent => tcb.finish(env),
            _ => {
                env.reset(tcb, now);
                tcb.finish(env);
            }
        }
        self.settle(id, now);
    }

    /// The bits of `poll(2)` that hold now (see [`ready`]); of a stale id: error and hang-up.
    pub fn readiness(&self, id: ConnId) -> u32 {
        match self.owned(id) {
            Ok(tcb) => tcb.readiness(&self.env.config),
            Err(_) => ready::ERR | ready::HUP,
        }
    }

    /// The pending error, which is then no more (`SO_ERROR`).
    pub fn take_error(&mut self, id: ConnId) -> Option<Error> {
        self.owned(id).ok()?.error.take()
    }

    /// Changes what the application may choose.
    pub fn set_options(&mut self, now: Instant, id: ConnId, options: ConnOptions) {
        let Ok((tcb, env)) = self.owned_mut(id) else { return };
        let before = core::mem::replace(&mut tcb.options, options);
        if let Some(bytes) = options.recv_buffer_bytes {
            let max = u32::try_from(env.config.recv_buffer_bytes).unwrap_or(u32::MAX);
            tcb.rcv_limit = bytes.max(MIN_RECV_BUFFER_BYTES).min(max);
        }
        if before.congestion != options.congestion {
            tcb.congestion.choose(options.congestion);
        }
        if before.keepalive != options.keepalive {
            tcb.keepalive_probes = 0;
            timer::start_keepalive(tcb, env, now);
        }
        // What Nagle or the cork held back leaves now (Linux: both options push).
        let released = (options.nodelay && !before.nodelay) || (before.cork && !options.cork);
        if released {
            push(tcb, env);
        }
    }

    /// What Nagle, the cork or `MSG_MORE` holds back leaves now (Linux: `TCP_NODELAY`, also when it is
    /// set already).
    pub fn push(&mut self, id: ConnId) {
        if let Ok((tcb, env)) = self.owned_mut(id) {
            push(tcb, env);
        }
    }

    /// Whether data that arrives is acknowledged at once (`TCP_QUICKACK`; Linux: not in pingpong mode).
    pub fn is_quickack(&self, id: ConnId) -> bool {
        self.owned(id).is_ok_and(|tcb| !tcb.answers)
    }

    /// Acknowledges at once from now on, until data of the application's own leaves; or expects
    /// that data to carry acknowledgments (`TCP_QUICKACK`).
    pub fn set_quickack(&mut self, id: ConnId, on: bool) {
        let Ok((tcb, env)) = self.owned_mut(id) else { return };
        tcb.answers = !on;
        tcb.quick_acks = if on { QUICK_ACKS } else { 0 };
        if on && tcb.timers.is_running(timer::Timer::DelayedAck) {
            input::ack_now(tcb, env);
        }
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerInfo> + '_ {
        self.listeners.iter().map(|(_, listener)| listener.info())
    }
}

/// tcp(7): TCP_NODELAY pushes what is queued even under TCP_CORK.
fn push(tcb: &mut crate::tcp::tcb::Tcb, env: &mut super::Env) {
    tcb.more = false;
    if !tcb.tx.is_empty() {
        tcb.push = true;
        env.enqueue(tcb, list::DATA);
    }
}

/// Queues the FIN, once.
fn end_sending(tcb: &mut crate::tcp::tcb::Tcb, env: &mut super::Env) {
    match tcb.state {
        State::Established | State::CloseWait => {
            tcb.change(Cause::Close);
            env.enqueue(tcb, list::DATA);
        }
        // Simultaneous open: the FIN waits for the handshake.
        State::SynReceived => tcb.close_wanted = true,
        _ => {}
    }
}
