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

use super::state::State;
use super::tcb::Tcb;
use crate::limits::Config;
use crate::wire::{Segment, Seq};

/// Bytes that the peer may still send from RCV.NXT on (RFC 9293 MUST-1: 32 bits, unsigned).
pub(crate) fn receive_window(tcb: &Tcb) -> u32 {
    u32::try_from(tcb.rcv_adv - tcb.rcv_nxt).unwrap_or(0)
}

/// The window against which sequence numbers are judged, in bytes: what was advertised, or, where the
/// window is the buffer's, its room if that is more.
fn judged_window(tcb: &Tcb) -> u32 {
    if tcb.window_steps {
        receive_window(tcb)
    } else {
        receive_window(tcb).max(free(tcb))
    }
}

/// RFC 9293 3.10.7.4, first step, in the form that also lets a zero window take acknowledgments,
/// resets (MUST-66) and the segment at the very edge: some of seq..end is not old, and seq is not beyond the
/// window.
pub(crate) fn is_acceptable(tcb: &Tcb, seq: Seq, end: Seq) -> bool {
    end.ge(tcb.rcv_nxt) && seq.le(tcb.rcv_nxt + judged_window(tcb))
}

/// Whether a sequence number is in the window; of an empty one, its place.
pub(crate) fn is_inside(tcb: &Tcb, seq: Seq) -> bool {
    let end = tcb.rcv_nxt + judged_window(tcb);
    seq == tcb.rcv_nxt || (seq.gt(tcb.rcv_nxt) && seq.lt(end))
}

/// Room in the receive buffer, in bytes.
fn free(tcb: &Tcb) -> u32 {
    let limit = tcb.rcv_limit.min(tcb.options.window_clamp.unwrap_or(u32::MAX));
    limit.saturating_sub(u32::try_from(tcb.rx.len()).unwrap_or(u32::MAX))
}

/// The window that a connection in TIME-WAIT shows.
pub(crate) fn at_the_end(tcb: &Tcb) -> u32 {
    if tcb.window_steps {
        receive_window(tcb)
    } else {
        offer(tcb)
    }
}

/// The window to offer now. RFC 9293 3.8.6.2.2 (MUST-39): the right edge moves only by a full
/// segment or half the buffer.
fn offer(tcb: &Tcb) -> u32 {
    let current = receive_window(tcb);
    let step = (tcb.rcv_limit / 2).min(u32::from(tcb.adv_mss));
    let free = free(tcb);
    if free.saturating_sub(current) >= step || !tcb.window_steps {
        free.max(current)
    } else {
        current
    }
}

/// The window field of a segment that is about to leave; moves `rcv_adv` accordingly.
pub(crate) fn advertise(tcb: &mut Tcb, config: &Config) -> u16 {
    let window = offer(tcb);
    let scale = if tcb.wscale_ok { tcb.rcv_wscale } else { 0 };
    let unit = (1u32 << scale) - 1;
    // RFC 9293 SHLD-14, RFC 7323 2.4: a window that is not a multiple of the unit is rounded up, so that the edge
    // does not move left; but down where it would pass the end of the buffer by more than that.
    let up = window.saturating_add(unit) & !unit;
    let fits = up <= free(tcb).saturating_add(unit);
    let rounded = if fits && config.window_rounds_up { up } else { window };
    let field = (rounded >> scale).min(65_535) as u16;
    tcb.rcv_adv = tcb.rcv_adv.max(tcb.rcv_nxt + (u32::from(field) << scale));
    field
}

/// The window field of a SYN, which is never scaled (RFC 7323 2.2): whole segments, as on Linux
/// (`tcp_select_initial_window`), where the buffer is less than the field can say.
pub(crate) fn advertise_in_syn(tcb: &mut Tcb, config: &Config) -> u16 {
    let mut mss = u32::from(tcb.adv_mss);
    if tcb.state == State::SynReceived {
        // Only now is it known whether every segment carries timestamps.
        mss = tcb.less_options(mss);
    }
    let initial = u32::try_from(config.recv_buffer_initial_bytes).unwrap_or(u32::MAX);
    let buffer = tcb.options.recv_buffer_bytes.map_or(initial, |_| tcb.rcv_limit);
    // 65,535 is the most that the field can say: no buffer's size.
    let whole = tcb.window_steps && buffer > mss && buffer != 65_535;
    let most = if whole { buffer - buffer % mss.max(1) } else { buffer };
    let window = offer(tcb).min(most).min(mss.saturating_mul(config.initial_rwnd));
    let field = window.min(65_535) as u16;
    tcb.rcv_adv = tcb.rcv_adv.max(tcb.rcv_nxt + u32::from(field));
    field
}

/// The largest window that the field can say, in bytes.
fn most_offered(tcb: &Tcb) -> u32 {
    65_535 << if tcb.wscale_ok { tcb.rcv_wscale } else { 0 }
}

/// Whether the peer should hear of the room that reading has made: the window would at least
/// double, which includes that it was closed (Linux: `__tcp_cleanup_rbuf`).
pub(crate) fn is_update_due(tcb: &Tcb) -> bool {
    let current = receive_window(tcb);
    let offered = offer(tcb);
    if tcb.window_steps {
        return offered > current && offered / 2 >= current;
    }
    // 4.4BSD: two full segments, and a quarter of the buffer.
    let least = (u32::from(tcb.adv_mss) * 2).max(tcb.rcv_limit / 4);
    offered.min(most_offered(tcb)).saturating_sub(current) >= least
}

/// Makes the receive buffer a whole number of full segments, rounding up.
pub(crate) fn round_to_segments(tcb: &mut Tcb) {
    let mss = tcb.with_options(tcb.mss).max(1);
    if tcb.rcv_limit > mss {
        tcb.rcv_limit = tcb.rcv_limit.checked_next_multiple_of(mss).unwrap_or(tcb.rcv_limit);
    }
}

/// Takes the window of an acceptable segment. RFC 9293 3.10.7.4, fifth step: only from a segment
/// that is newer than the one of the last update, and not from one that acknowledges less than was
/// acknowledged already (SND.UNA =< SEG.ACK): its window begins elsewhere. True: it changed.
pub(crate) fn update_send(tcb: &mut Tcb, seg: &Segment<'_>) -> bool {
    if seg.ack.lt(tcb.snd_una) {
        return false;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;
    use crate::event::ConnId;
    use crate::limits::MIN_BUFFER_BYTES;
    use crate::tcp::tcb::{ConnOptions, Origin, Owner};
    use crate::time::Instant;
    use crate::wire::Link;
    use core::net::SocketAddr;
    use proptest::prelude::*;

    fn tcb(limit: u32, adv_mss: u16, rcv_nxt: Seq, scale: Option<u8>) -> Tcb {
        let any = SocketAddr::from(([10, 0, 0, 1], 1));
        let origin = Origin {
            id: ConnId { index: 0, generation: 0 },
            state: State::Established,
            owner: Owner::Application,
            local: any,
            remote: any,
            device: DeviceId(0),
            link: Link::default(),
            options: ConnOptions::default(),
            iss: Seq(0),
            adv_mss,
            timestamp_offset: 0,
        };
        let mut tcb = Tcb::new(origin, &Config::default(), Instant::default());
        tcb.rcv_limit = limit;
        tcb.rcv_nxt = rcv_nxt;
        tcb.rcv_adv = rcv_nxt;
        tcb.wscale_ok = scale.is_some();
        tcb.rcv_wscale = scale.unwrap_or(0);
        tcb
    }

    proptest! {
        /// Against a naive peer and a naive buffer: the right edge never moves left by more than
        /// the rounding of a full buffer, is never farther than the buffer plus that rounding, moves
        /// only in steps worth a segment, and a drained buffer always opens the window.
        #[test]
        fn the_receive_window_keeps_its_promises(
            limit in 3000u32..2_000_000,
            adv_mss in 536u16..65_495,
            start in any::<u32>(),
            scale in prop_oneof![Just(None), (0u8..9).prop_map(Some)],
            moves in prop::collection::vec((any::<bool>(), 1u32..100_000), 1..60),
        ) {
            let mut memory = crate::buffer::Memory::new(1 << 30);
            // The scale is chosen to cover the largest buffer.
            let limit = limit.min(65_535 << scale.unwrap_or(0));
            let mut tcb = tcb(limit, adv_mss, Seq(start), scale);
            let unit = 1u32 << scale.unwrap_or(0);
            let mut promised = 0i64;
            let mut received = 0i64;
            let mut unread = 0i64;
            for (arrives, amount) in moves {
                if arrives {
                    let n = i64::from(amount).min(promised - received);
                    tcb.rx.append(&mut memory, &std::vec![0; n as usize]);
                    tcb.rcv_nxt += n as u32;
                    received += n;
                    unread += n;
                } else {
                    let n = i64::from(amount).min(unread);
                    tcb.rx.consume(&mut memory, n as usize, false);
                    unread -= n;
                }
                let before = promised;
                let edge = received + i64::from(u32::from(advertise(&mut tcb, &Config::default())) * unit);
                promised = promised.max(edge);
                prop_assert_eq!(i64::from(receive_window(&tcb)), promised - received);
                prop_assert!(edge > before - i64::from(unit), "shrunk from {} to {}", before, edge);
                prop_assert!(edge - received + unread < i64::from(limit) + i64::from(unit));
                let step = i64::from((limit / 2).min(u32::from(adv_mss)));
                let opened = promised - before;
                prop_assert!(opened < i64::from(unit) || opened >= step - i64::from(unit));
                if unread == 0 {
                    let most = i64::from((limit - limit / 2).min(65_535 * unit));
                    prop_assert!(promised - received >= most - i64::from(unit), "closed");
                }
            }
            tcb.rx.release(&mut memory);
            prop_assert!(limit as usize > MIN_BUFFER_BYTES);
        }

        /// RFC 9293 3.10.7.4's table, with the zero window's exception.
        #[test]
        fn acceptability_agrees_with_counting(
            start in any::<u32>(),
            window in 0u32..100,
            at in -150i32..150,
            len in 0u32..120,
        ) {
            let mut tcb = tcb(65_535, 1000, Seq(start), None);
            tcb.rcv_adv = tcb.rcv_nxt + window;
            let seq = Seq(start.wrapping_add(at as u32));
            let acceptable = is_acceptable(&tcb, seq, seq + len);
            // Any byte in the window, or nothing beyond its edges.
            let window = i64::from(window);
            let (from, to) = (i64::from(at), i64::from(at) + i64::from(len));
            prop_assert_eq!(acceptable, to >= 0 && from <= window);
            if (from..to).any(|byte| (0..window).contains(&byte)) {
                prop_assert!(acceptable);
            }
        }
    }
}
