//! What `TCP_INFO` asks of a connection, in the units of Linux's `struct tcp_info`.
//!
//! The layout is the host's business; here is what the engine knows. A value that it does not know
//! has no field.

use super::Shard;
use crate::event::{ConnId, Error};
use crate::tcp::options::header_bytes;
use crate::tcp::recovery::CaState;
use crate::tcp::state::State;
use crate::tcp::tcb::Tcb;
use crate::time::Instant;

/// What there is to know of a connection. Sizes in bytes unless segments are named, times in
/// microseconds; ages are counted back from the time of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Its state.
    pub state: State,
    /// Retransmissions by timeout, in a row.
    pub retransmits: u8,
    /// Window and keepalive probes without an answer.
    pub probes: u8,
    /// Doublings of the retransmission timeout.
    pub backoff: u8,
    /// Both SYNs carried timestamps.
    pub timestamps: bool,
    /// Shifts of the peer's windows and of ours, when both SYNs carried the option.
    pub wscale: Option<(u8, u8)>,
    /// Retransmission timeout.
    pub rto_us: u64,
    /// Delay of an acknowledgment.
    pub ato_us: u64,
    /// Largest payload of a segment that we send.
    pub snd_mss: u32,
    /// Largest payload of a segment that the peer sent.
    pub rcv_mss: u32,
    /// Where loss recovery stands; the numbers are those of Linux's `enum tcp_ca_state`.
    pub ca_state: CaState,
    /// Both SYNs permitted selective acknowledgment.
    pub sack: bool,
    /// Explicit congestion notification is negotiated.
    pub ecn: bool,
    /// Data came that was capable of it.
    pub ecn_seen: bool,
    /// Segments sent and not acknowledged cumulatively.
    pub unacked_segs: u32,
    /// Segments of those that the peer holds, or that duplicate acknowledgments stand for.
    pub sacked_segs: u32,
    /// Segments of those that are taken for lost.
    pub lost_segs: u32,
    /// Segments of those that were sent again and may still arrive.
    pub retrans_segs: u32,
    /// By how many segments the network is known to reorder.
    pub reordering: u32,
    /// How often it was seen to.
    pub reord_seen: u32,
    /// Segments that the peer said have arrived twice.
    pub dsack_dups: u32,
    /// Segments that have arrived at the peer.
    pub delivered: u32,
    /// Age of the last data sent.
    pub last_data_sent_us: u64,
    /// Age of the last data received.
    pub last_data_recv_us: u64,
    /// Age of the last acknowledgment received.
    pub last_ack_recv_us: u64,
    /// Largest IP packet that we send.
    pub pmtu: u32,
    /// Largest window that we would offer now.
    pub rcv_ssthresh: u32,
    /// Smoothed round-trip time; zero before the first measurement.
    pub rtt_us: u64,
    /// Its mean deviation.
    pub rttvar_us: u64,
    /// Slow start threshold, in segments; 2^31 - 1 before the first loss.
    pub snd_ssthresh: u32,
    /// Congestion window, in segments.
    pub snd_cwnd: u32,
    /// The MSS of our SYN.
    pub advmss: u32,
    /// Segments sent again.
    pub total_retrans: u64,
    /// By how much SND.UNA has moved; the SYN of an active open counts.
    pub bytes_acked: u64,
    /// Received in order, the FIN counted as one.
    pub bytes_received: u64,
    /// Segments sent.
    pub segs_out: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Written and never sent.
    pub notsent_bytes: u32,
    /// Smallest round-trip time measured.
    pub min_rtt_us: Option<u64>,
    /// Segments received with payload.
    pub data_segs_in: u32,
    /// Segments sent with payload.
    pub data_segs_out: u32,
    /// Time with data on its way.
    pub busy_us: u64,
    /// Time of that in which the peer's window held the sender back.
    pub rwnd_limited_us: u64,
    /// Time of that in which the send buffer held the sender back.
    pub sndbuf_limited_us: u64,
    /// Payload sent, repetitions included.
    pub bytes_sent: u64,
    /// Payload sent again.
    pub bytes_retrans: u64,
    /// Segments received beyond a gap.
    pub rcv_ooopack: u32,
    /// Receive buffer allowed now.
    pub recv_buffer_bytes: u32,
    /// Send buffer allowed now.
    pub send_buffer_bytes: u32,
    /// The peer's window, scaled.
    pub snd_wnd: u32,
    /// Our window as the peer knows it.
    pub rcv_wnd: u32,
}

impl Shard {
    /// What `TCP_INFO` asks; acknowledging in quick mode is in [`Shard::is_quickack`].
    ///
    /// # Errors
    /// `BadId` for a connection that the application does not hold.
    pub fn tcp_info(&self, now: Instant, id: ConnId) -> Result<TcpInfo, Error> {
        let tcb = self.owned(id)?;
        let config = &self.env.config;
        Ok(TcpInfo {
            rto_us: tcb.rtt.rto_us(config.rto_max_us),
            ato_us: config.delayed_ack_us,
            send_buffer_bytes: u32::try_from(tcb.send_limit(config)).unwrap_or(u32::MAX),
            ..describe(tcb, now)
        })
    }
}

fn describe(tcb: &Tcb, now: Instant) -> TcpInfo {
    let account = &tcb.account;
    let (busy_us, rwnd_limited_us, sndbuf_limited_us) = account.chronograph.read(now);
    let unsent = tcb.unsent();
    let fin = tcb.rcv_fin.is_some_and(|fin| tcb.rcv_nxt.gt(fin));
    let overhead = header_bytes(&tcb.local) + tcb.less_options(u32::MAX).abs_diff(u32::MAX);
    TcpInfo {
        state: tcb.state,
        retransmits: if tcb.persist { 0 } else { tcb.retries },
        probes: if tcb.persist { tcb.retries } else { tcb.keepalive_probes },
        backoff: tcb.rtt.backoff(),
        timestamps: tcb.timestamps.on,
        wscale: tcb.wscale_ok.then_some((tcb.snd_wscale, tcb.rcv_wscale)),
        rto_us: 0,
        ato_us: 0,
        snd_mss: tcb.mss,
        rcv_mss: tcb.rcv_mss,
        ca_state: tcb.recovery.state,
        sack: tcb.sack_ok,
        ecn: tcb.ecn.is_on() && tcb.state.is_synchronized(),
        ecn_seen: tcb.ecn.is_seen(),
        unacked_segs: tcb.sent.packets_out(),
        sacked_segs: tcb.sent.sacked_out,
        lost_segs: tcb.sent.lost_out(),
        retrans_segs: tcb.sent.retrans_out(),
        reordering: tcb.recovery.reordering,
        reord_seen: tcb.recovery.reord_seen,
        dsack_dups: tcb.recovery.dsack_dups,
        delivered: tcb.recovery.delivered,
        last_data_sent_us: now.micros_since(account.last_data_sent),
        last_data_recv_us: now.micros_since(account.last_data_recv),
        last_ack_recv_us: now.micros_since(tcb.last_received),
        pmtu: tcb.mss.saturating_add(overhead),
        rcv_ssthresh: tcb.rcv_limit.min(tcb.options.window_clamp.unwrap_or(u32::MAX)),
        rtt_us: tcb.rtt.srtt_us(),
        rttvar_us: tcb.rtt.rttvar_us(),
        snd_ssthresh: tcb.congestion.ssthresh(),
        snd_cwnd: tcb.congestion.cwnd(),
        advmss: tcb.less_options(u32::from(tcb.adv_mss)),
        total_retrans: tcb.retransmits,
        bytes_acked: account.bytes_acked,
        bytes_received: tcb.bytes_in + u64::from(fin),
        segs_out: account.segs_out,
        segs_in: account.segs_in,
        notsent_bytes: unsent,
        min_rtt_us: tcb.rtt.min_us(),
        data_segs_in: account.data_segs_in,
        data_segs_out: account.data_segs_out,
        busy_us,
        rwnd_limited_us,
        sndbuf_limited_us,
        bytes_sent: tcb.bytes_out + account.bytes_retrans,
        bytes_retrans: account.bytes_retrans,
        rcv_ooopack: account.rcv_ooopack,
        recv_buffer_bytes: tcb.rcv_limit,
        send_buffer_bytes: 0,
        snd_wnd: tcb.snd_wnd,
        rcv_wnd: crate::tcp::window::receive_window(tcb),
    }
}
