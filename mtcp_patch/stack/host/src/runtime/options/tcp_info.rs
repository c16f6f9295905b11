//! `struct tcp_info` of Linux (`include/uapi/linux/tcp.h`), as long as the running kernel's.
//!
//! A field that the engine does not know is zero; `docs/socket-options.md` names those.

use mtcp_engine::{State, TcpInfo};

use crate::errno::Errno;
use crate::sys;

/// More than any kernel's struct has.
const MAX_BYTES: usize = 512;

/// TCPI_OPT_* bits.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WSCALE: u8 = 4;
const ECN: u8 = 8;
const ECN_SEEN: u8 = 16;

/// Linux's numbers of the states (`include/net/tcp_states.h`).
fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Closing => 11,
    }
}

/// Fields in their order, each in its native size.
struct Layout {
    bytes: [u8; MAX_BYTES],
    at: usize,
}

impl Layout {
    fn put(&mut self, field: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.at..self.at + field.len()) {
            room.copy_from_slice(field);
        }
        self.at += field.len();
    }

    fn u8s<const N: usize>(&mut self, fields: [u8; N]) {
        self.put(&fields);
    }

    fn u32s<const N: usize>(&mut self, fields: [u64; N]) {
        for field in fields {
            self.put(&u32::try_from(field).unwrap_or(u32::MAX).to_ne_bytes());
        }
    }

    fn u64s<const N: usize>(&mut self, fields: [u64; N]) {
        for field in fields {
            self.put(&field.to_ne_bytes());
        }
    }
}

/// The struct, up to `snd_wnd`, `rcv_wnd` and the zeros behind them.
fn layout(i: &TcpInfo) -> [u8; MAX_BYTES] {
    const MS: u64 = 1000;
    let mut l = Layout { bytes: [0; MAX_BYTES], at: 0 };
    let (snd_wscale, rcv_wscale) = i.wscale.unwrap_or((0, 0));
    let bit = |on: bool, bit: u8| if on { bit } else { 0 };
    let options = bit(i.timestamps, TIMESTAMPS)
        | bit(i.sack, SACK)
        | bit(i.wscale.is_some(), WSCALE)
        | bit(i.ecn, ECN)
        | bit(i.ecn_seen, ECN_SEEN);
    // state, ca_state, retransmits, probes, backoff, options
    l.u8s([state_number(i.state), i.ca_state as u8, i.retransmits, i.probes, i.backoff, options]);
    // The nibbles snd_wscale and rcv_wscale (the first is the low one), then two flags.
    l.u8s([snd_wscale & 15 | rcv_wscale << 4, 0]);
    // rto, ato, snd_mss, rcv_mss
    l.u32s([i.rto_us, i.ato_us, i.snd_mss.into(), i.rcv_mss.into()]);
    // unacked, sacked, lost, retrans, fackets
    let counts = [i.unacked_segs, i.sacked_segs, i.lost_segs, i.retrans_segs, 0];
    l.u32s(counts.map(u64::from));
    // last_data_sent, last_ack_sent ("Not remembered, sorry."), last_data_recv, last_ack_recv
    l.u32s([i.last_data_sent_us / MS, 0, i.last_data_recv_us / MS, i.last_ack_recv_us / MS]);
    // pmtu, rcv_ssthresh, rtt, rttvar
    l.u32s([i.pmtu.into(), i.rcv_ssthresh.into(), i.rtt_us, i.rttvar_us]);
    // snd_ssthresh, snd_cwnd, advmss, reordering
    l.u32s([i.snd_ssthresh.into(), i.snd_cwnd.into(), i.advmss.into(), i.reordering.into()]);
    // rcv_rtt, rcv_space, total_retrans
    l.u32s([0, 0, i.total_retrans]);
    // pacing_rate, max_pacing_rate: none of ours is paced, which is what ~0 says.
    l.u64s([u64::MAX, u64::MAX]);
    // bytes_acked, bytes_received
    l.u64s([i.bytes_acked, i.bytes_received]);
    // segs_out, segs_in, notsent_bytes
    l.u32s([i.segs_out.into(), i.segs_in.into(), i.notsent_bytes.into()]);
    // min_rtt (Linux: ~0 before there is one), data_segs_in, data_segs_out
    l.u32s([i.min_rtt_us.unwrap_or(u64::MAX), i.data_segs_in.into(), i.data_segs_out.into()]);
    // delivery_rate, busy_time, rwnd_limited, sndbuf_limited
    l.u64s([0, i.busy_us, i.rwnd_limited_us, i.sndbuf_limited_us]);
    // delivered, delivered_ce
    l.u32s([0, 0]);
    // bytes_sent, bytes_retrans
    l.u64s([i.bytes_sent, i.bytes_retrans]);
    // dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd
    l.u32s([i.dsack_dups.into(), i.reord_seen.into()]);
    l.u32s([i.rcv_ooopack.into(), i.snd_wnd.into(), i.rcv_wnd.into()]);
    l.bytes
}

/// The struct of a connection of ours, cut to the kernel's length and to `buf`; how much that was.
pub(super) fn of_connection(info: &TcpInfo, kernel: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    let bytes = layout(info);
    let len = sys::getsockopt(kernel, libc::IPPROTO_TCP, libc::TCP_INFO, &mut [0; MAX_BYTES])?;
    let part = bytes.get(..len.min(buf.len())).unwrap_or(&bytes);
    buf.get_mut(..part.len()).ok_or(Errno(libc::EINVAL))?.copy_from_slice(part);
    Ok(part.len())
}

/// The kernel's struct of a listener, with what waits in our half: Linux gives the accept queue's
/// length as `unacked` and the backlog as `sacked`.
pub(super) fn of_listener(waiting: usize, backlog: usize, buf: &mut [u8]) {
    const UNACKED: usize = 24;
    const SACKED: usize = 28;
    for (at, more) in [(UNACKED, waiting), (SACKED, backlog)] {
        let Some(Ok(field)) = buf.get_mut(at..at + 4).map(<&mut [u8; 4]>::try_from) else {
            continue;
        };
        let kernels = u32::from_ne_bytes(*field);
        let ours = u32::try_from(more).unwrap_or(u32::MAX);
        let value = if at == UNACKED { kernels.saturating_add(ours) } else { kernels.max(ours) };
        *field = value.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_queue_is_the_sum_of_both_halves() {
        let mut bytes = [0u8; 32];
        bytes[24] = 2;
        bytes[28] = 9;
        of_listener(3, 5, &mut bytes);
        assert_eq!((bytes[24], bytes[28]), (5, 9));
        // A short buffer has what fits.
        of_listener(3, 5, &mut bytes[..26]);
    }
}
