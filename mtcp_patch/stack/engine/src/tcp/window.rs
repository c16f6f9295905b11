//! Both windows, and the silly window rule on the receiving side.
//!
//! ```text
//!   send:      SND.UNA            SND.NXT         SND.UNA + SND.WND
//!      ...acked...|....in flight.....|.....usable......|.....not allowed....
//!
//!   receive:   RCV.NXT                            rcv_adv
//!      ...read.and.queued...|.......window..............|.....refused.......
//!                             ##    ####  out of order
//! ```
//! `rcv_adv` is the right edge of the largest window ever advertised. It never moves left, because
//! the peer may have sent up to it. Called by `input` (acceptability), `output` (advertising) and
//! the application's reads (growth).

use super::tcb::Tcb;
use crate::limits::Config;
use crate::wire::{Segment, Seq};

/// Bytes that the peer may still send from RCV.NXT on.
pub(crate) fn receive_window(tcb: &Tcb) -> u32 {
    u32::try_from(tcb.rcv_adv - tcb.rcv_nxt).unwrap_or(0)
}

/// RFC 9293 3.10.7.4, first step, in the form that also lets a zero window take acknowledgments,
/// resets and the segment at the very edge: some of seq..end is not old, and seq is not beyond the
/// window.
pub(crate) fn is_acceptable(tcb: &Tcb, seq: Seq, end: Seq) -> bool {
    end.ge(tcb.rcv_nxt) && seq.le(tcb.rcv_nxt + receive_window(tcb))
}

/// Room in the receive buffer, in bytes.
fn free(tcb: &Tcb) -> u32 {
    tcb.rcv_limit.saturating_sub(u32::try_from(tcb.rx.len()).unwrap_or(u32::MAX))
}

/// The window to offer now. RFC 9293 3.8.6.2.2 (MUST-39): the right edge moves only by a full
/// segment or half the buffer.
fn offer(tcb: &Tcb) -> u32 {
    let current = receive_window(tcb);
    let step = (tcb.rcv_limit / 2).min(u32::from(tcb.adv_mss));
    let free = free(tcb);
    if free.saturating_sub(current) >= step {
        free
    } else {
        current
    }
}

/// The window field of a segment that is about to leave; moves `rcv_adv` accordingly.
pub(crate) fn advertise(tcb: &mut Tcb) -> u16 {
    let window = offer(tcb);
    let scale = if tcb.wscale_ok { tcb.rcv_wscale } else { 0 };
    let unit = (1u32 << scale) - 1;
    // RFC 7323 2.4: a window that is not a multiple of the unit is rounded up as long as there is
    // room, so that the edge does not move left; with a full buffer it is rounded down.
    let rounded = if free(tcb) > unit { window.saturating_add(unit) } else { window };
    let field = (rounded >> scale).min(65_535) as u16;
    tcb.rcv_adv = tcb.rcv_adv.max(tcb.rcv_nxt + (u32::from(field) << scale));
    field
}

/// The window field of a SYN, which is never scaled (RFC 7323 2.2).
pub(crate) fn advertise_in_syn(tcb: &mut Tcb) -> u16 {
    let field = offer(tcb).min(65_535) as u16;
    tcb.rcv_adv = tcb.rcv_adv.max(tcb.rcv_nxt + u32::from(field));
    field
}

/// Whether the peer should hear of the room that reading has made: the window would at least
/// double, which includes that it was closed (Linux: `__tcp_cleanup_rbuf`).
pub(crate) fn is_update_due(tcb: &Tcb) -> bool {
    let current = receive_window(tcb);
    let offered = offer(tcb);
    offered > current && offered / 2 >= current
}

/// The application took `bytes`: a buffer that is drained keeps growing until the maximum.
pub(crate) fn grow(tcb: &mut Tcb, config: &Config, bytes: u32) {
    if tcb.options.recv_buffer_bytes.is_some() {
        return;
    }
    tcb.rcv_drained = tcb.rcv_drained.saturating_add(bytes);
    if tcb.rcv_drained >= tcb.rcv_limit {
        tcb.rcv_drained = 0;
        let max = u32::try_from(config.recv_buffer_bytes).unwrap_or(u32::MAX);
        tcb.rcv_limit = tcb.rcv_limit.saturating_mul(2).min(max);
    }
}

/// Takes the window of an acceptable segment. RFC 9293 3.10.7.4, fifth step: only from a segment
/// that is newer than the one of the last update. True: it changed.
pub(crate) fn update_send(tcb: &mut Tcb, seg: &Segment<'_>) -> bool {
    let newer = tcb.snd_wl1.lt(seg.seq)
        || (tcb.snd_wl1 == seg.seq && tcb.snd_wl2.le(seg.ack))
        || seg.ack.gt(tcb.snd_wl2);
    if !newer {
        return false;
    }
    let window = u32::from(seg.wnd) << tcb.snd_wscale;
    let changed = window != tcb.snd_wnd;
    tcb.snd_wnd = window;
    tcb.max_snd_wnd = tcb.max_snd_wnd.max(window);
    tcb.snd_wl1 = seg.seq;
    tcb.snd_wl2 = seg.ack;
    changed
}
