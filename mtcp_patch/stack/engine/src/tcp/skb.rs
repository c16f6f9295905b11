//! The send buffer counted as Linux counts it: `sk_wmem_queued` against `sk_sndbuf`.
//!
//! ```text
//!  SND.UNA                 SND.NXT                        data_end
//!  --|--------|----------|----|-----------|--------------|--
//!    |<------ packets sent -->|<-- unsent, the last grows |
//! ```
//! A write is taken by the packet (Linux: `sk_buff`), of as many segments as fit into half of the
//! peer's window. Each is charged with its payload and with its own overhead; a packet begins while
//! there is any room, so that the last goes beyond the limit. What leaves splits a packet. Only with
//! [`Config::send_buffer_by_packets`]: what a write takes and when a writer is woken is then as on
//! Linux; our own rule (`Tcb::send_room`) counts payload, and needs none of this.

use alloc::collections::VecDeque;

use super::eor;
use super::tcb::Tcb;
use crate::limits::Config;
use crate::wire::Seq;

/// What a packet costs beyond its payload, in bytes: `sk_buff`, the room for headers and
/// `skb_shared_info`, as the allocator rounds them (x86-64).
const OVERHEAD_BYTES: u32 = 1280;
/// `sizeof(struct sk_buff)`, `MAX_TCP_HEADER` and `sizeof(struct skb_shared_info)`, in bytes, aligned.
const SK_BUFF_BYTES: u32 = 256;
const HEADER_BYTES: u32 = 320;
const SHARED_INFO_BYTES: u32 = 320;
/// The largest packet that a device cuts into segments (`sk_gso_max_size`), in bytes.
const GSO_MAX_BYTES: u32 = 65_536 - (HEADER_BYTES + 1);
/// Segments that a send buffer has room for at least (`TCP_INIT_CWND`).
const LEAST_SEGMENTS: u32 = 10;

/// One packet of the send buffer; it begins where the one before ends.
#[derive(Clone, Copy, Debug)]
struct Packet {
    end: Seq,
    /// Its last segment has PSH.
    push: bool,
}

/// The packets beyond SND.UNA.
#[derive(Clone, Debug)]
pub(crate) struct Packets {
    list: VecDeque<Packet>,
    /// `sk_sndbuf` without `SO_SNDBUF`, in bytes.
    limit: u32,
    /// The end of the last write that was marked for PSH (`pushed_seq`).
    pushed: Seq,
}

impl Packets {
    fn is_pushed(&self, end: Seq) -> bool {
        let at = self.list.partition_point(|packet| packet.end.lt(end));
        self.list.get(at).is_some_and(|packet| packet.end == end && packet.push)
    }
}

fn packets(tcb: &Tcb) -> Option<&Packets> {
    tcb.eor.as_ref()?.packets.as_ref()
}

fn packets_mut(tcb: &mut Tcb) -> Option<&mut Packets> {
    tcb.eor.as_mut()?.packets.as_mut()
}

/// The connection is established.
pub(crate) fn begin(tcb: &mut Tcb, config: &Config) {
    if config.send_buffer_by_packets {
        let first = u32::try_from(config.send_buffer_initial_bytes).unwrap_or(u32::MAX);
        let limit = first.max(wanted(tcb, config));
        let packets = Packets { list: VecDeque::new(), limit, pushed: tcb.snd_una };
        tcb.eor.get_or_insert_default().packets = Some(packets);
    }
}

/// Twice the congestion window, overhead included (Linux `tcp_sndbuf_expand`).
fn wanted(tcb: &Tcb, config: &Config) -> u32 {
    let segment = tcb.mss.saturating_add(HEADER_BYTES + SHARED_INFO_BYTES);
    let segment = segment.next_power_of_two().saturating_add(SK_BUFF_BYTES);
    let segments = tcb.congestion.cwnd().max(LEAST_SEGMENTS).max(tcb.recovery.reordering + 1);
    let most = u32::try_from(config.send_buffer_bytes).unwrap_or(u32::MAX);
    segments.saturating_mul(segment).saturating_mul(2).min(most)
}

/// `sk_sndbuf`: what `SO_SNDBUF` shows, which is twice what it was set to.
fn limit(tcb: &Tcb, packets: &Packets) -> u32 {
    tcb.options.send_buffer_bytes.map_or(packets.limit, |bytes| bytes.saturating_mul(2))
}

/// `sk_wmem_queued`.
fn charged(tcb: &Tcb, packets: &Packets) -> u32 {
    let overhead = (packets.list.len() as u32).saturating_mul(OVERHEAD_BYTES);
    overhead.saturating_add(tcb.tx.len() as u32)
}

/// The payload of a packet that is full, in bytes (Linux `tcp_xmit_size_goal`).
fn size_goal(tcb: &Tcb) -> u32 {
    let most = GSO_MAX_BYTES.min((tcb.max_snd_wnd / 2).max(tcb.mss));
    most / tcb.mss.max(1) * tcb.mss
}

/// The bytes of the last packet, if it is unsent and may grow.
fn tail_bytes(tcb: &Tcb, packets: &Packets) -> Option<u32> {
    let tail = packets.list.back()?.end;
    if tail.le(tcb.snd_nxt) || eor::is_end(tcb, tail) {
        return None;
    }
    let before = packets.list.len().checked_sub(2).and_then(|at| packets.list.get(at));
    u32::try_from(tail - before.map_or(tcb.snd_una, |packet| packet.end)).ok()
}

/// Bytes that a write takes at once: what is free of the last packet, or a new one (Linux
/// `tcp_sendmsg_locked`). `None`: the setting is off.
pub(crate) fn room(tcb: &Tcb, config: &Config) -> Option<usize> {
    let packets = packets(tcb)?;
    let goal = size_goal(tcb);
    let free = tail_bytes(tcb, packets).map_or(0, |bytes| goal.saturating_sub(bytes));
    if free > 0 {
        return Some(free as usize);
    }
    let below = tcb.notsent_lowat(config).is_none_or(|lowat| tcb.unsent() < lowat);
    let begins = charged(tcb, packets) < limit(tcb, packets) && below;
    Some(if begins { goal as usize } else { 0 })
}

/// Whether a writer that waits is to be woken (Linux `sk_stream_is_writeable`).
pub(crate) fn is_writable(tcb: &Tcb, config: &Config) -> Option<bool> {
    let packets = packets(tcb)?;
    let (used, limit) = (charged(tcb, packets), limit(tcb, packets));
    let below = tcb.notsent_lowat(config).is_none_or(|lowat| tcb.unsent() < lowat.div_ceil(2));
    Some(used < limit && limit - used >= used / 2 && below)
}

/// `taken` bytes have come behind the others. `ends`: the write is over, and no more is announced.
pub(crate) fn written(tcb: &mut Tcb, taken: usize, ends: bool) {
    let end = tcb.data_end();
    let goal = size_goal(tcb);
    let tail = packets(tcb).and_then(|packets| tail_bytes(tcb, packets));
    let grows = tail.filter(|bytes| *bytes < goal);
    let bytes = grows.unwrap_or(0).saturating_add(taken as u32);
    let (full, half) = (bytes >= goal, tcb.max_snd_wnd / 2);
    let Some(packets) = packets_mut(tcb) else { return };
    // Linux `forced_push`: at every half of the peer's window.
    let push = ends || (full && end.gt(packets.pushed + half));
    if grows.is_some() {
        packets.list.pop_back();
    }
    packets.list.push_back(Packet { end, push });
    if push {
        packets.pushed = end;
    }
}

/// A writer has found no room: what there is gets PSH.
pub(crate) fn refused(tcb: &mut Tcb) {
    let Some(packets) = packets_mut(tcb) else { return };
    if let Some(tail) = packets.list.back_mut() {
        tail.push = true;
        packets.pushed = tail.end;
    }
}

/// Whether a packet with PSH ends at `end`.
pub(crate) fn is_pushed(tcb: &Tcb, end: Seq) -> bool {
    packets(tcb).is_some_and(|packets| packets.is_pushed(end))
}

/// SND.NXT has moved, perhaps into a packet, which are two from here on.
pub(crate) fn sent(tcb: &mut Tcb) {
    let (snd_una, snd_nxt) = (tcb.snd_una, tcb.snd_nxt);
    let Some(packets) = packets_mut(tcb) else { return };
    if snd_nxt == snd_una {
        return;
    }
    let at = packets.list.partition_point(|packet| packet.end.lt(snd_nxt));
    if packets.list.get(at).is_some_and(|packet| packet.end.gt(snd_nxt)) {
        packets.list.insert(at, Packet { end: snd_nxt, push: false });
    }
}

/// SND.UNA has moved.
pub(crate) fn acknowledged(tcb: &mut Tcb) {
    let una = tcb.snd_una;
    let Some(packets) = packets_mut(tcb) else { return };
    let gone = packets.list.partition_point(|packet| packet.end.le(una));
    packets.list.drain(..gone);
}

/// An acknowledgment has been dealt with, and a writer waits: the buffer follows the congestion
/// window, unless that is what holds the sender back (Linux `tcp_new_space`).
pub(crate) fn expand(tcb: &mut Tcb, config: &Config) {
    if tcb.is_cwnd_limited() {
        return;
    }
    let wanted = wanted(tcb, config);
    if let Some(packets) = packets_mut(tcb) {
        packets.limit = packets.limit.max(wanted);
    }
}
