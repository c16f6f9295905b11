//! The transmission control block: everything the engine knows about one connection.
//!
//! Owned by the shard's table, handed by `&mut` to the functions of this directory, one packet,
//! timer or call at a time. Names are those of RFC 9293 3.3.1. It has no methods that decide
//! anything about TCP; those are in the files that carry the idea's name.

use alloc::boxed::Box;
use core::cell::Cell;
use core::net::SocketAddr;

use crate::device::DeviceId;
use crate::event::{ready, ConnId, Error, Event, ListenerId};
use crate::limits::{Config, MIN_RECV_BUFFER_BYTES};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::{Link, Seq};

use super::account::Account;
use super::congestion::Congestion;
pub(crate) use super::conn_options::ConnOptions;
use super::ecn::Ecn;
use super::eor::{self, Marks};
use super::options::TIMESTAMPS_BYTES;
use super::pmtu::Pmtu;
use super::reassembly::Ranges;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::sack_receiver::SackReceiver;
use super::sent::Sent;
use super::skb;
use super::space::Space;
use super::state::{Cause, State};
use super::timer::Timers;
use super::timestamps::Timestamps;
use super::urgent::Urgent;
use crate::buffer::Ring;

/// Who answers for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// In the accept queue of a listener.
    AcceptQueue(ListenerId),
    /// The application holds its id.
    Application,
    /// Nobody: the application closed it, or its listener is gone.
    Nobody,
}

/// Bits of [`Tcb::queued`]: on which transmit lists the connection stands.
pub(crate) mod list {
    pub(crate) const CONTROL: u8 = 1;
    pub(crate) const ACK: u8 = 2;
    pub(crate) const DATA: u8 = 4;
}

/// One connection.
///
/// The order of the fields is that of their use: what a segment of data or a call of the application
/// touches comes first and lies together, since with many connections cache misses are most of what a
/// packet costs. Structures within follow the same rule.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tcb {
    // Who it is, how it stands and what is due: every call and every segment looks here.
    pub(crate) id: ConnId,
    pub(crate) owner: Owner,
    pub(crate) state: State,
    pub(crate) device: DeviceId,
    /// The error that the next call reports, once (`SO_ERROR`).
    pub(crate) error: Cell<Option<Error>>,
    /// What an ICMP error said about the silence of the peer, until he breaks it.
    pub(crate) soft_error: Option<Error>,
    /// Bits of [`list`].
    pub(crate) queued: u8,
    /// `send` found no room: readiness has no OUT until there is.
    pub(crate) no_space: Cell<bool>,
    pub(crate) event_pending: bool,
    /// The application closed before the connection was there.
    pub(crate) close_wanted: bool,
    /// The application shut reading down.
    pub(crate) read_shut: bool,
    /// An acknowledgment must leave now.
    pub(crate) ack_due: bool,
    /// A probe (one old sequence number, no data) must leave now.
    pub(crate) probe_due: bool,
    /// The retransmission timer runs as persist timer (RFC 9293 3.8.6.1).
    pub(crate) persist: bool,
    /// A partial segment may leave in spite of Nagle, cork and the silly window rule.
    pub(crate) push: bool,
    /// The last write said that more follows (`MSG_MORE`): its rest waits, as under a cork, but only
    /// until the next segment arrives.
    pub(crate) more: bool,
    /// The end of the send ring is not the end of what the application has to say: no PSH.
    pub(crate) unpushed: bool,
    /// The last data that arrived had PSH: the end of what the peer wrote.
    pub(crate) pushed: bool,
    /// Data of ours has left since an acknowledgment last had to leave alone because it was late:
    /// answers carry acknowledgments here (Linux: pingpong mode).
    pub(crate) answers: bool,
    /// Acknowledgments that are sent at once at the beginning of a connection, as Linux does.
    pub(crate) quick_acks: u8,
    /// Segments with text since an acknowledgment last left.
    pub(crate) unacked_segments: u8,
    /// Retransmissions or window probes in a row.
    pub(crate) retries: u8,
    /// Keepalive probes in a row.
    pub(crate) keepalive_probes: u8,
    /// Both sides offered a window scale.
    pub(crate) wscale_ok: bool,
    /// Both sides offered selective acknowledgment (RFC 2018 2), or we may offer it.
    pub(crate) sack_ok: bool,
    /// See [`Config`].
    pub(crate) window_steps: bool,
    pub(crate) snd_wscale: u8,
    pub(crate) rcv_wscale: u8,
    pub(crate) ecn: Ecn,
    /// What our SYN says about the payload that we take.
    pub(crate) adv_mss: u16,
    /// The largest payload seen in a segment: what a "full segment" is to the delayed ACK.
    pub(crate) rcv_mss: u32,
    /// What to report of `ranges`, once there were any.
    pub(crate) sack_receiver: Option<Box<SackReceiver>>,

    // Send sequence space. The send ring starts at SND.UNA once our SYN is acknowledged.
    pub(crate) tx: Ring,
    pub(crate) snd_una: Seq,
    /// Next to send: one past the highest sequence number ever sent, for it never goes back.
    pub(crate) snd_nxt: Seq,
    pub(crate) snd_wnd: u32,
    pub(crate) max_snd_wnd: u32,
    pub(crate) snd_wl1: Seq,
    pub(crate) snd_wl2: Seq,
    /// One past the last segment below the MSS that was sent (Minshall's variant of Nagle).
    pub(crate) snd_sml: Seq,
    /// Largest payload that we send.
    pub(crate) mss: u32,
    /// Where writes with `MSG_EOR` end, or packets; none without any.
    pub(crate) eor: Option<Box<Marks>>,

    // Receive sequence space.
    pub(crate) rx: Ring,
    pub(crate) rcv_nxt: Seq,
    /// RCV.NXT of the last acknowledgment sent.
    pub(crate) rcv_wup: Seq,
    /// Right edge of the largest window that was advertised: never moves left.
    pub(crate) rcv_adv: Seq,
    /// Receive buffer now allowed, in bytes.
    pub(crate) rcv_limit: u32,
    pub(crate) irs: Seq,
    pub(crate) iss: Seq,
    /// Sequence number of the peer's FIN, once seen.
    pub(crate) rcv_fin: Option<Seq>,
    pub(crate) bytes_in: u64,
    pub(crate) urgent: Urgent,
    pub(crate) ranges: Ranges,
    pub(crate) space: Space,

    // What is out, and when it is late.
    pub(crate) bytes_out: u64,
    /// The segments between SND.UNA and SND.NXT.
    pub(crate) sent: Sent,
    /// What an ICMP error or a black hole has taught; nothing on most paths.
    pub(crate) pmtu: Option<Box<Pmtu>>,
    /// When data or a SYN last left.
    pub(crate) last_sent: Instant,
    pub(crate) last_received: Instant,
    pub(crate) timestamps: Timestamps,
    pub(crate) rtt: Rtt,
    pub(crate) timers: Timers,

    // Where to.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) link: Link,
    /// The application has had its id, so it must hear of the end.
    pub(crate) known: bool,
    /// Out of the flow table: only the application still holds it.
    pub(crate) detached: bool,
    pub(crate) account: Account,
    pub(crate) recovery: Recovery,
    pub(crate) congestion: Congestion,
    pub(crate) options: ConnOptions,

    // Seldom needed.
    /// Since when data is sent again, or a closed window probed, in vain (`TCP_USER_TIMEOUT`).
    pub(crate) stalled_since: Option<Instant>,
    /// When our SYN was sent, if only once.
    pub(crate) timed: Option<Instant>,
    /// When an acknowledgment of a segment outside the window was last sent.
    pub(crate) last_stray_ack: Option<Instant>,
    pub(crate) retransmits: u64,
}

/// Where a new connection comes from.
pub(crate) struct Origin {
    pub(crate) id: ConnId,
    pub(crate) state: State,
    pub(crate) owner: Owner,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) device: DeviceId,
    pub(crate) link: Link,
    pub(crate) options: ConnOptions,
    pub(crate) iss: Seq,
    pub(crate) adv_mss: u16,
    /// What our timestamp clock shows at time 0.
    pub(crate) timestamp_offset: u32,
}

/// The receive buffer that a connection begins with, in bytes.
fn first_recv_limit(origin: &Origin, config: &Config) -> u32 {
    let bytes = match origin.options.recv_buffer_bytes {
        Some(bytes) => bytes.max(MIN_RECV_BUFFER_BYTES) as usize,
        // Two full segments at least, or large segments could never follow one another.
        None => config.recv_buffer_initial_bytes.max(2 * origin.adv_mss as usize),
    };
    u32::try_from(bytes.min(config.recv_buffer_bytes)).unwrap_or(u32::MAX)
}

/// The largest window that the connection can ever offer, in bytes: what the scale must cover.
fn most_window(options: &ConnOptions, config: &Config) -> usize {
    let fixed = options.recv_buffer_bytes.map(|bytes| bytes.max(MIN_RECV_BUFFER_BYTES));
    let chosen = [fixed, options.window_clamp].into_iter().flatten().min();
    chosen.map_or(config.recv_buffer_bytes, |bytes| config.recv_buffer_bytes.min(bytes as usize))
}

impl Tcb {
    pub(crate) fn new(origin: Origin, config: &Config, now: Instant) -> Self {
        Self {
            id: origin.id,
            state: origin.state,
            owner: origin.owner,
            local: origin.local,
            remote: origin.remote,
            device: origin.device,
            link: origin.link,
            options: origin.options,
            error: Cell::new(None),
            soft_error: None,
            iss: origin.iss,
            snd_una: origin.iss,
            snd_nxt: origin.iss,
            snd_wnd: 0,
            max_snd_wnd: 0,
            snd_wl1: Seq(0),
            snd_wl2: origin.iss,
            snd_sml: origin.iss,
            mss: 536,
            pmtu: None,
            snd_wscale: 0,
            irs: Seq(0),
            rcv_nxt: Seq(0),
            rcv_wup: Seq(0),
            rcv_adv: Seq(0),
            rcv_fin: None,
            rcv_limit: first_recv_limit(&origin, config),
            space: Space::new(now),
            rcv_mss: 536,
            adv_mss: origin.adv_mss,
            rcv_wscale: super::options::Offer::wscale(most_window(&origin.options, config)),
            tx: Ring::default(),
            rx: Ring::default(),
            ranges: Ranges::default(),
            sent: Sent::default(),
            eor: None,
            sack_receiver: None,
            timestamps: Timestamps::new(config.timestamps, origin.timestamp_offset),
            rtt: Rtt::new(config.rto_initial_us, config.rto_slop_us),
            timed: None,
            congestion: Congestion::new(origin.options.congestion),
            ecn: Ecn::new(config.ecn),
            recovery: Recovery::new(origin.iss),
            timers: Timers::default(),
            last_sent: now,
            last_received: now,
            last_stray_ack: None,
            stalled_since: None,
            retries: 0,
            keepalive_probes: 0,
            quick_acks: if origin.options.quickack == Some(false) { 0 } else { config.quick_acks },
            answers: origin.options.quickack == Some(false),
            pushed: false,
            queued: 0,
            unacked_segments: 0,
            ack_due: false,
            probe_due: false,
            persist: false,
            push: false,
            more: false,
            unpushed: false,
            close_wanted: false,
            read_shut: false,
            wscale_ok: config.window_scaling,
            window_steps: config.window_steps,
            sack_ok: config.sack,
            no_space: Cell::new(false),
            event_pending: false,
            known: false,
            detached: false,
            urgent: Urgent::new(),
            account: Account::new(now),
            bytes_in: 0,
            bytes_out: 0,
            retransmits: 0,
        }
    }

    /// What is left of a segment of `mss` for payload. RFC 9293 3.7.1 (MUST-16): the MSS counts
    /// the options that every segment carries.
    pub(crate) fn less_options(&self, mss: u32) -> u32 {
        if self.timestamps.on {
            mss.saturating_sub(TIMESTAMPS_BYTES).max(1)
        } else {
            mss
        }
    }

    /// The MSS of which `less_options` left `mss`, in bytes.
    pub(crate) fn with_options(&self, mss: u32) -> u32 {
        if self.timestamps.on {
            mss.saturating_add(TIMESTAMPS_BYTES)
        } else {
            mss
        }
    }

    /// Bytes sent and not acknowledged, SYN and FIN included.
    pub(crate) fn in_flight(&self) -> u32 {
        u32::try_from(self.snd_nxt - self.snd_una).unwrap_or(0)
    }

    /// Bytes of the send ring that were never sent; none when the FIN was, which is one past them.
    pub(crate) fn unsent(&self) -> u32 {
        u32::try_from(self.data_end() - self.snd_nxt).unwrap_or(0)
    }

    /// The sequence number after the last byte of the send ring; the FIN's, when there is one.
    pub(crate) fn data_end(&self) -> Seq {
        self.snd_una + self.tx.len() as u32
    }

    /// Applies `cause` to the state. A cause that the table does not know is a bug of ours.
    pub(crate) fn change(&mut self, cause: Cause) {
        let next = self.state.next(cause);
        debug_assert!(next.is_some(), "{:?} in {:?}", cause, self.state);
        self.state = next.unwrap_or(State::Closed);
    }

    /// Tells the application that its readiness may have changed.
    pub(crate) fn notify(&mut self, env: &mut Env) {
        if self.owner == Owner::Application {
            env.events.push(Event::Conn(self.id), &mut self.event_pending);
        }
    }

    /// Ends the connection with an error for the application. What it has not read stays readable.
    pub(crate) fn fail(&mut self, env: &mut Env, error: Error) {
        self.error.set(Some(error));
        self.finish(env);
    }

    /// The same because the peer is silent; an ICMP error may have said why.
    pub(crate) fn time_out(&mut self, env: &mut Env) {
        self.fail(env, self.soft_error.unwrap_or(Error::TimedOut));
    }

    /// Ends the connection.
    pub(crate) fn finish(&mut self, env: &mut Env) {
        self.change(Cause::Gone);
        self.tx.release(&mut env.memory);
        if self.rx.is_empty() {
            self.rx.release(&mut env.memory);
        }
        self.ranges.clear();
        self.sent.release();
        self.eor = None;
        self.notify(env);
    }

    /// The peer has ended its direction, or the connection is gone, or reading was shut down.
    pub(crate) fn receive_ended(&self) -> bool {
        self.read_shut
            || !matches!(
                self.state,
                State::SynSent
                    | State::SynReceived
                    | State::Established
                    | State::FinWait1
                    | State::FinWait2
            )
    }

    /// Nothing more can be sent.
    pub(crate) fn send_ended(&self) -> bool {
        self.close_wanted
            || self.state.has_fin()
            || matches!(self.state, State::TimeWait | State::Closed)
    }

    /// One past what the peer's window lets us send.
    pub(crate) fn window_end(&self) -> Seq {
        self.snd_una + self.snd_wnd
    }

    /// The congestion window in bytes.
    pub(crate) fn cwnd_bytes(&self) -> u32 {
        self.congestion.cwnd().saturating_mul(self.mss)
    }

    /// Send buffer limit now, in bytes: twice the congestion window, so that an acknowledgment
    /// never finds the sender empty, within the configured bounds.
    pub(crate) fn send_limit(&self, config: &Config) -> usize {
        if let Some(bytes) = self.options.send_buffer_bytes {
            return (bytes as usize).clamp(1, config.send_buffer_bytes);
        }
        let wanted = (self.cwnd_bytes() as usize).saturating_mul(2);
        wanted.max(config.send_buffer_initial_bytes).min(config.send_buffer_bytes)
    }

    /// Whether the congestion window has no room for another segment.
    pub(crate) fn is_cwnd_limited(&self) -> bool {
        self.sent.in_flight() >= self.congestion.cwnd()
    }

    /// The bound on bytes that wait to be sent: the application's or the host's.
    pub(crate) fn notsent_lowat(&self, config: &Config) -> Option<u32> {
        self.options.notsent_lowat.or(config.notsent_lowat)
    }

    /// Bytes not sent yet, and how many of them both windows let go. The latter leave with the next
    /// transmission and do not count against `TCP_NOTSENT_LOWAT` (Linux sends within `write`).
    fn notsent(&self) -> (u32, u32) {
        let window = self.cwnd_bytes().min(self.snd_wnd);
        (self.unsent(), window.saturating_sub(self.in_flight()))
    }

    /// Room for a write, in bytes.
    pub(crate) fn send_room(&self, config: &Config) -> usize {
        if let Some(room) = skb::room(self, config) {
            return if eor::is_full(self) { 0 } else { room };
        }
        let room = self.send_limit(config).saturating_sub(self.tx.len());
        if eor::is_full(self) {
            return 0;
        }
        let Some(lowat) = self.notsent_lowat(config) else { return room };
        let (unsent, usable) = self.notsent();
        // Linux `__sk_stream_memory_free`: below the mark a write is taken by the segment.
        match lowat.saturating_add(usable).saturating_sub(unsent) {
            0 => 0,
            below => room.min(below.max(self.mss) as usize),
        }
    }

    /// Whether a writer would be woken: a third of the send buffer is free, and less than half of
    /// `TCP_NOTSENT_LOWAT` waits (Linux: `sk_stream_is_writeable`).
    pub(crate) fn is_writable(&self, config: &Config) -> bool {
        if let Some(writable) = skb::is_writable(self, config) {
            return writable && !eor::is_full(self);
        }
        let limit = self.send_limit(config);
        let used = self.tx.len();
        let (unsent, usable) = self.notsent();
        let below = |lowat: u32| unsent.saturating_sub(usable) < lowat.div_ceil(2);
        limit.saturating_sub(used) >= used / 2
            && used < limit
            && !eor::is_full(self)
            && self.notsent_lowat(config).is_none_or(below)
    }

    /// Whether a reader would be woken by what is there (Linux: `tcp_stream_is_readable`): as much
    /// as `SO_RCVLOWAT` says, or as much as can be as the window is shut.
    fn is_readable(&self) -> bool {
        let (_, unread) = super::urgent::readable(self);
        unread > 0
            && (unread >= self.options.recv_lowat as usize
                || super::window::receive_window(self) <= self.rcv_mss)
    }

    /// The bits of `poll(2)`, as Linux `tcp_poll` computes them.
    pub(crate) fn readiness(&self, config: &Config) -> u32 {
        let mut bits = 0;
        let (receive_ended, send_ended) = (self.receive_ended(), self.send_ended());
        if receive_ended && send_ended {
            bits |= ready::HUP;
        }
        if receive_ended {
            bits |= ready::IN | ready::RDHUP;
        }
        if !matches!(self.state, State::SynSent | State::SynReceived) {
            if super::urgent::is_pending(self) {
                bits |= ready::PRI;
            }
            if self.is_readable() {
                bits |= ready::IN;
            }
            if !send_ended && !self.is_writable(config) {
                // Whoever sees this waits for room: the next acknowledgment that makes some is an
                // event (Linux sets SOCK_NOSPACE at this place).
                self.no_space.set(true);
            }
            if send_ended || !self.no_space.get() {
                bits |= ready::OUT;
            }
        }
        if self.error.get().is_some() {
            bits |= ready::ERR | ready::IN | ready::OUT;
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle established connection has no buffers, so this is what it costs, plus its entries
    /// in the flow table, the slab and the timer wheel (about 130 bytes). What only a connection
    /// with losses needs (ranges, blocks) is allocated when there are some.
    #[test]
    fn an_idle_connection_is_about_one_kib() {
        assert!(core::mem::size_of::<Tcb>() <= 1064, "{}", core::mem::size_of::<Tcb>());
    }

    /// How many cache lines the named fields begin in, were the first field at the start of one.
    macro_rules! lines {
        ($($($field:ident).+),* $(,)?) => {
            std::collections::BTreeSet::from([$(core::mem::offset_of!(Tcb, $($field).+) / 64),*]).len()
        };
    }

    /// With ten thousand connections an echo costs twice what it costs with one, and the difference
    /// is cache misses. A field that is moved, or grows, between these brings them back.
    #[test]
    fn what_a_message_touches_lies_together() {
        let event = lines![owner, event_pending, state, error, queued, no_space];
        assert_eq!(event, 1, "an event, or an entry of a transmit list");
        let sequence = lines![
            tx,
            snd_una,
            snd_nxt,
            snd_wnd,
            max_snd_wnd,
            snd_wl1,
            snd_wl2,
            snd_sml,
            mss,
            eor,
            rx,
            rcv_nxt,
            rcv_wup,
            rcv_adv,
            rcv_limit,
            rcv_fin,
            bytes_in,
            urgent,
            ranges,
            space,
            bytes_out,
        ];
        assert!(sequence <= 4, "both sequence spaces and buffers");
        let acknowledged = lines![sent, last_sent, last_received, timestamps, rtt, timers];
        assert!(acknowledged <= 4, "what is out");
        let recovery = lines![recovery.state, recovery.tlp, recovery.rack];
        assert!(recovery <= 2, "recovery where nothing is lost");
        let account = lines![account.segs_in, account.bytes_acked, account.chronograph];
        assert!(account <= 2, "the account");
        let options = lines![options.nodelay, options.recv_lowat, options.window_clamp];
        assert!(options <= 2, "options");
    }
}
