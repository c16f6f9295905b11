//! Urgent data: RFC 9293 3.8.5 and RFC 6093, as Linux reads them.
//!
//! ```text
//!        copied              rcv_up              RCV.NXT
//!   ...read...|### readable ###|U|### behind the mark ###|
//! ```
//! One octet is urgent: the one before the urgent pointer (RFC 6093 3.1: what all stacks do). Out of
//! line it is taken by itself and skipped in the stream; inline (`SO_OOBINLINE`) it stays there. A
//! read ends before it either way. Called by `input` in its sixth step, by `output` for each header,
//! and by the application's calls.

use super::tcb::Tcb;
use crate::event::Error;
use crate::shard::Env;
use crate::wire::{Flags, Header, Segment, Seq};

/// What is known of the urgent octet (Linux: `urg_data`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Octet {
    /// There is none, or it is behind the reader.
    None,
    /// Announced, not arrived.
    NotYet,
    /// Arrived.
    Valid(u8),
    /// Taken out of line.
    Read,
}

/// Both directions' urgent pointers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Urgent {
    /// SND.UP: one past the urgent octet, while it is not acknowledged.
    snd_up: Option<Seq>,
    /// The sequence number of the peer's urgent octet (Linux: `urg_seq`).
    rcv_up: Seq,
    octet: Octet,
}

impl Urgent {
    pub(crate) fn new() -> Self {
        Self { snd_up: None, rcv_up: Seq(0), octet: Octet::None }
    }
}

/// The sequence number of the next octet to be read (Linux: `copied_seq`).
fn copied(tcb: &Tcb) -> Seq {
    let fin = tcb.rcv_fin.is_some_and(|fin| tcb.rcv_nxt.gt(fin));
    tcb.rcv_nxt - tcb.rx.len() as u32 - u32::from(fin)
}

/// How far before the mark the reader stands; `None`: there is no mark before him.
fn distance(tcb: &Tcb) -> Option<usize> {
    if tcb.urgent.octet == Octet::None {
        return None;
    }
    usize::try_from(tcb.urgent.rcv_up - copied(tcb)).ok()
}

/// The last octet written is urgent, and Nagle holds nothing back (Linux: `tcp_nagle_test`).
pub(crate) fn written(tcb: &mut Tcb) {
    tcb.urgent.snd_up = Some(tcb.data_end());
    tcb.push = true;
}

/// RFC 9293 3.8.5 (MUST-30, MUST-62): says in `header` how far the urgent octet is, while it is not
/// acknowledged; beyond 65,535 only that it is far, on the last segment there is.
pub(crate) fn stamp(tcb: &mut Tcb, header: &mut Header) {
    let Some(snd_up) = tcb.urgent.snd_up else { return };
    if tcb.snd_una.ge(snd_up) {
        tcb.urgent.snd_up = None;
        return;
    }
    let ahead = u32::try_from(snd_up - header.seq).unwrap_or(0);
    let far = (header.seq + 0xffff).gt(tcb.snd_nxt);
    let pointer = match u16::try_from(ahead) {
        Ok(ahead) => ahead,
        Err(_) if far => u16::MAX,
        Err(_) => return,
    };
    if pointer > 0 {
        header.urgent = pointer;
        header.flags |= Flags::URG;
    }
}

/// RFC 9293 3.10.7.4, sixth step. RFC 9293 3.8.5 (MUST-31): any length of urgent data moves the
/// mark; (MUST-32) and the application hears of it.
pub(crate) fn arrives(tcb: &mut Tcb, env: &mut Env, seq: Seq, seg: &Segment<'_>) {
    if !tcb.state.can_receive() {
        return;
    }
    if seg.flags.contains(Flags::URG) {
        announced(tcb, env, seq + u32::from(seg.urgent.saturating_sub(1)));
    }
    if tcb.urgent.octet == Octet::NotYet {
        let at = usize::try_from(tcb.urgent.rcv_up - seq).ok();
        if let Some(octet) = at.and_then(|at| seg.payload.get(at)) {
            tcb.urgent.octet = Octet::Valid(*octet);
            tcb.notify(env);
        }
    }
}

/// Linux `tcp_check_urg`: a pointer counts that is neither read nor received nor known.
fn announced(tcb: &mut Tcb, env: &mut Env, at: Seq) {
    let read = copied(tcb);
    let known = tcb.urgent.octet != Octet::None && at.le(tcb.urgent.rcv_up);
    if at.lt(read) || at.lt(tcb.rcv_nxt) || known {
        return;
    }
    // Nobody read past the last one: it leaves the stream before it loses its mark.
    if distance(tcb) == Some(0) && !tcb.options.oob_inline && !tcb.rx.is_empty() {
        tcb.rx.consume(&mut env.memory, 1, !tcb.ranges.is_empty());
    }
    tcb.urgent.rcv_up = at;
    tcb.urgent.octet = Octet::NotYet;
}

/// Octets at the head of the receive buffer that no reader is given: the urgent one, out of line.
fn skipped(tcb: &Tcb) -> usize {
    let at_mark = distance(tcb) == Some(0) && !tcb.options.oob_inline;
    usize::from(at_mark && !tcb.rx.is_empty())
}

/// What a read gives: offset and length in the receive buffer.
pub(crate) fn readable(tcb: &Tcb) -> (usize, usize) {
    let skip = skipped(tcb);
    let len = tcb.rx.len() - skip;
    match distance(tcb) {
        Some(ahead) if ahead > 0 => (0, len.min(ahead)),
        _ => (skip, len),
    }
}

/// `FIONREAD` (Linux `tcp_inq`): up to the mark, also when the reader stands at it.
pub(crate) fn inq(tcb: &Tcb) -> usize {
    let unread = tcb.rx.len();
    match distance(tcb) {
        Some(ahead) if !tcb.options.oob_inline => unread.min(ahead),
        _ => unread,
    }
}

/// `n` octets of [`readable`] were read; how many leave the buffer. The mark goes with the reader.
pub(crate) fn consumed(tcb: &mut Tcb, n: usize) -> usize {
    let n = if n > 0 { n + skipped(tcb) } else { 0 };
    if distance(tcb).is_some_and(|ahead| ahead < n) {
        tcb.urgent.octet = Octet::None;
    }
    n
}

/// Whether urgent data can be taken (`POLLPRI`).
pub(crate) fn is_pending(tcb: &Tcb) -> bool {
    matches!(tcb.urgent.octet, Octet::Valid(_))
}

/// Whether the reader stands at the mark (`SIOCATMARK`).
pub(crate) fn is_at_mark(tcb: &Tcb) -> bool {
    distance(tcb) == Some(0)
}

/// Takes the urgent octet out of line (`MSG_OOB`); with `peek` it can be taken again.
pub(crate) fn take(tcb: &mut Tcb, peek: bool) -> Result<Option<u8>, Error> {
    if tcb.options.oob_inline {
        return Err(Error::Invalid);
    }
    match tcb.urgent.octet {
        Octet::None | Octet::Read => Err(Error::Invalid),
        Octet::NotYet if tcb.receive_ended() => Ok(None),
        Octet::NotYet => Err(Error::WouldBlock),
        Octet::Valid(octet) => {
            if !peek {
                tcb.urgent.octet = Octet::Read;
            }
            Ok(Some(octet))
        }
    }
}
