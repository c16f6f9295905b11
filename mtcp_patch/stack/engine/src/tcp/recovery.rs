//! Loss recovery: from what an acknowledgment shows to what is taken for lost, and what that does
//! to the window (RFC 5681 3.2, RFC 6582, RFC 6675, RFC 8985, RFC 5682, RFC 4015).
//!
//! ```text
//!             dupack, SACK            lost                    all repaired, or undone
//!     Open ───────────────> Disorder ──────> Recovery ─────────────────────────────> Open
//!       └─────────────── timeout ──────────────┴──────────> Loss ──────────────────> Open
//! ```
//! The states are Linux's. `ack` calls [`on_ack`] with the news of a dubious acknowledgment, `timer`
//! the `on_…timer` functions. What is lost is marked in `sent`, and `output` sends it again as far
//! as the window lets it.

use super::ack::News;
use super::prr::Prr;
use super::rack::{self, Rack};
use super::reno;
use super::sent::mark;
use super::tcb::{list, Tcb};
use super::timer::{self, Timer};
use super::tlp::{Tlp, TIMEOUT_MIN_US};
use super::undo::Undo;
use crate::limits::{DUPLICATE_THRESHOLD, MAX_REORDERING};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::{Options, Seq};

/// Where recovery stands; the numbers are those of Linux's `enum tcp_ca_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CaState {
    /// Nothing unusual.
    Open = 0,
    /// Segments were held or repeated, but nothing is taken for lost.
    Disorder = 1,
    /// The window comes down without a loss (ECN).
    Cwr = 2,
    /// Fast recovery.
    Recovery = 3,
    /// After a retransmission timeout.
    Loss = 4,
}

/// What the retransmission timer means when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// RFC 6298.
    Retransmit,
    /// RFC 8985 7.3.
    LossProbe,
    /// RFC 8985 6.3: the reordering window has passed.
    Reorder,
}

/// What a connection knows about losses.
#[derive(Clone, Copy, Debug)]
#[repr(C)] // what every acknowledgment touches comes first
pub(crate) struct Recovery {
    pub(crate) state: CaState,
    pub(crate) pending: Pending,
    /// RFC 5682 2.1 step 2b: new data leaves before anything is sent again.
    pub(crate) new_first: bool,
    /// The timeout may have been spurious: RFC 5682 looks.
    frto: bool,
    /// SND.NXT when the state was entered (RFC 6582 "recover").
    pub(crate) high_seq: Seq,
    /// By how many segments the network reorders, as far as was seen.
    pub(crate) reordering: u32,
    /// Segments delivered so far, and of those the peer told.
    pub(crate) delivered: u32,
    pub(crate) tlp: Tlp,
    /// How often the network was seen to reorder.
    pub(crate) reord_seen: u32,
    pub(crate) rack: Rack,
    pub(crate) undo: Undo,
    pub(crate) prr: Prr,
    /// Segments that the peer said have arrived twice.
    pub(crate) dsack_dups: u32,
}

impl Recovery {
    pub(crate) fn new(iss: Seq) -> Self {
        Self {
            state: CaState::Open,
            pending: Pending::Retransmit,
            high_seq: iss,
            reordering: DUPLICATE_THRESHOLD,
            reord_seen: 0,
            dsack_dups: 0,
            delivered: 0,
            frto: false,
            new_first: false,
            undo: Undo::default(),
            rack: Rack::new(iss),
            tlp: Tlp::default(),
            prr: Prr::default(),
        }
    }

    /// The window is coming down: proportional rate reduction moves it.
    pub(crate) fn in_reduction(&self) -> bool {
        matches!(self.state, CaState::Cwr | CaState::Recovery)
    }
}

/// An acknowledgment that is not plain progress. `prior_una`: SND.UNA before it.
pub(crate) fn on_ack(
    tcb: &mut Tcb,
    env: &mut Env,
    now: Instant,
    options: &Options,
    prior_una: Seq,
    news: &mut News,
) {
    if news.reneging {
        wait_for_reneged(tcb, env, now, news);
        return;
    }
    if tcb.recovery.state == CaState::Open {
        tcb.recovery.undo.clear_stamp();
    } else if tcb.snd_una.ge(tcb.recovery.high_seq) && reach_high_seq(tcb, options) {
        return;
    }
    match tcb.recovery.state {
        CaState::Recovery => {
            if !news.una_advanced {
                if !tcb.sack_ok && news.is_duplicate {
                    reno::add_sack(tcb, news);
                }
            } else if try_undo_partial(tcb, options, prior_una) {
                return;
            }
            if try_undo_dsack(tcb) {
                try_keep_open(tcb);
            }
            identify_loss(tcb, env, now, news);
            if tcb.recovery.state == CaState::Recovery || !is_time_to_recover(tcb) {
                return;
            }
        }
        CaState::Loss => {
            in_loss(tcb, options, news);
            if tcb.recovery.state != CaState::Loss {
                return;
            }
            identify_loss(tcb, env, now, news);
            if !news.lost_retrans {
                return;
            }
        }
        _ => {
            if !tcb.sack_ok {
                if news.una_advanced {
                    tcb.sent.sacked_out = 0;
                } else if news.is_duplicate {
                    reno::add_sack(tcb, news);
                }
            }
            if tcb.recovery.state <= CaState::Disorder {
                try_undo_dsack(tcb);
            }
            identify_loss(tcb, env, now, news);
            if !is_time_to_recover(tcb) {
                try_to_open(tcb, now, news);
                return;
            }
        }
    }
    enter_recovery(tcb, env, now);
    if news.echo {
        // There was congestion, whatever the losses turn out to be.
        tcb.congestion.forget_prior();
    }
}

/// RFC 2018 8: the first segment out is one that the peer said it has, so it lied or has dropped
/// it. It may still be on its way to say more; then the timeout forgets what it said.
fn wait_for_reneged(tcb: &mut Tcb, env: &mut Env, now: Instant, news: &mut News) {
    let patience = (tcb.rtt.srtt_us() / 2).max(10_000);
    start_timer(tcb, env, Pending::Retransmit, now + patience);
    news.rearm = false;
}

/// All that was out when the state was entered is acknowledged. True: that was all to do.
fn reach_high_seq(tcb: &mut Tcb, options: &Options) -> bool {
    match tcb.recovery.state {
        CaState::Cwr if tcb.snd_una != tcb.recovery.high_seq => {
            end_reduction(tcb);
            tcb.recovery.state = CaState::Open;
        }
        CaState::Recovery => {
            if !tcb.sack_ok {
                tcb.sent.sacked_out = 0;
            }
            if try_undo_recovery(tcb, options) {
                return true;
            }
            end_reduction(tcb);
        }
        _ => {}
    }
    false
}

/// RFC 5682 and the end of the repair after a timeout.
fn in_loss(tcb: &mut Tcb, options: &Options, news: &mut News) {
    let recovered = tcb.snd_una.ge(tcb.recovery.high_seq);
    if news.una_advanced && try_undo_loss(tcb, options, false) {
        return;
    }
    if tcb.recovery.frto {
        // RFC 5682 2.1 step 3b: something was acknowledged that was sent once only.
        if news.original && try_undo_loss(tcb, options, true) {
            return;
        }
        if tcb.snd_nxt.gt(tcb.recovery.high_seq) {
            // Step 3a: a duplicate after new data: the loss was real.
            if news.sacked || news.is_duplicate {
                tcb.recovery.frto = false;
            }
        } else if news.una_advanced && !recovered {
            tcb.recovery.high_seq = tcb.snd_nxt;
            // Step 2b.
            if tcb.data_end().gt(tcb.snd_nxt) && tcb.window_end().gt(tcb.snd_nxt) {
                tcb.recovery.new_first = true;
                return;
            }
            tcb.recovery.frto = false;
        }
    }
    if recovered {
        // Step 1, or the end of go-back-N.
        try_undo_recovery(tcb, options);
        return;
    }
    if !tcb.sack_ok {
        if tcb.snd_nxt.gt(tcb.recovery.high_seq) && news.is_duplicate {
            reno::add_sack(tcb, news);
        } else if news.una_advanced {
            tcb.sent.sacked_out = 0;
        }
    }
}

/// Marks what is lost; starts the reordering timer when that is not known yet.
fn identify_loss(tcb: &mut Tcb, env: &mut Env, now: Instant, news: &mut News) {
    if tcb.sent.is_empty() {
        return;
    }
    if !tcb.sack_ok {
        reno::mark_lost(tcb, news.una_advanced);
        return;
    }
    if !env.config.rack {
        rack::mark_overtaken(tcb);
        return;
    }
    let retrans_out = tcb.sent.retrans_out();
    if let Some(us) = rack::detect_loss(tcb, now) {
        start_timer(tcb, env, Pending::Reorder, now + us.saturating_add(TIMEOUT_MIN_US));
        news.rearm = false;
    }
    news.lost_retrans |= tcb.sent.retrans_out() < retrans_out;
}

fn is_time_to_recover(tcb: &Tcb) -> bool {
    tcb.sent.lost_out() > 0
}

/// RFC 6675 5, RFC 6582 3.2 step 2: fast recovery begins.
fn enter_recovery(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let retrans_out = tcb.sent.retrans_out();
    forget_stamp(tcb);
    tcb.recovery.undo.begin(tcb.snd_una, retrans_out);
    if tcb.recovery.in_reduction() {
        tcb.congestion.forget_prior();
    } else {
        begin_reduction(tcb, now);
    }
    tcb.recovery.state = CaState::Recovery;
    env.stats.fast_retransmits += 1;
}

/// RFC 3168 6.1.2: the window comes down without a loss, once for what is in flight, and nothing
/// takes that back.
fn enter_cwr(tcb: &mut Tcb, now: Instant) {
    if tcb.recovery.state < CaState::Cwr {
        tcb.recovery.undo.end();
        begin_reduction(tcb, now);
        tcb.recovery.state = CaState::Cwr;
    }
    tcb.congestion.forget_prior();
}

fn begin_reduction(tcb: &mut Tcb, now: Instant) {
    tcb.recovery.high_seq = tcb.snd_nxt;
    tcb.recovery.tlp.end();
    tcb.recovery.prr = Prr::begin(tcb.congestion.cwnd());
    tcb.congestion.reduce(now);
    tcb.ecn.on_reduction();
}

fn end_reduction(tcb: &mut Tcb) {
    if tcb.recovery.state == CaState::Cwr || tcb.recovery.undo.is_open() {
        let ssthresh = tcb.congestion.ssthresh();
        tcb.congestion.set_cwnd(ssthresh);
    }
}

/// RFC 8985 7.4.2: a probe has repaired a loss that nothing else showed.
pub(crate) fn reduce_at_once(tcb: &mut Tcb, now: Instant) {
    begin_reduction(tcb, now);
    tcb.recovery.state = CaState::Cwr;
    end_reduction(tcb);
    tcb.recovery.state = CaState::Open;
    try_keep_open(tcb);
}

fn any_retrans_done(tcb: &Tcb) -> bool {
    let repeated = tcb.sent.front().is_some_and(|first| first.has(mark::EVER_RETRANS));
    tcb.sent.retrans_out() > 0 || repeated
}

/// Without a repetition there is none whose timestamp could tell anything.
fn forget_stamp(tcb: &mut Tcb) {
    if !any_retrans_done(tcb) {
        tcb.recovery.undo.clear_stamp();
    }
}

fn try_keep_open(tcb: &mut Tcb) {
    let disorder = tcb.sent.left_out() > 0 || any_retrans_done(tcb);
    let state = if disorder { CaState::Disorder } else { CaState::Open };
    if tcb.recovery.state != state {
        tcb.recovery.state = state;
        tcb.recovery.high_seq = tcb.snd_nxt;
    }
}

fn try_to_open(tcb: &mut Tcb, now: Instant, news: &News) {
    forget_stamp(tcb);
    if news.echo {
        enter_cwr(tcb, now);
    }
    if tcb.recovery.state != CaState::Cwr {
        try_keep_open(tcb);
    }
}

fn may_undo(tcb: &Tcb, options: &Options) -> bool {
    let undo = &tcb.recovery.undo;
    undo.all_were_duplicates() || undo.original_arrived(&tcb.timestamps, options)
}

/// RFC 4015 3.2: the window becomes what it was.
fn undo_reduction(tcb: &mut Tcb, forget_losses: bool) {
    if forget_losses {
        tcb.sent.forget_losses();
    }
    tcb.congestion.undo();
    tcb.recovery.undo.end();
    tcb.recovery.rack.look_again();
}

/// Without SACK a duplicate at exactly `high_seq` may be of what was repeated: the state is kept
/// until something newer is acknowledged (RFC 6582 3.2 step 2). True: it must be.
fn must_stay(tcb: &mut Tcb) -> bool {
    if tcb.sack_ok || tcb.snd_una != tcb.recovery.high_seq {
        return false;
    }
    forget_stamp(tcb);
    true
}

fn try_undo_recovery(tcb: &mut Tcb, options: &Options) -> bool {
    if may_undo(tcb, options) {
        undo_reduction(tcb, false);
    } else {
        tcb.recovery.rack.on_recovered();
    }
    if must_stay(tcb) {
        return true;
    }
    tcb.recovery.state = CaState::Open;
    false
}

/// RFC 3708: all repetitions have arrived as duplicates.
fn try_undo_dsack(tcb: &mut Tcb) -> bool {
    if !tcb.recovery.undo.all_were_duplicates() {
        return false;
    }
    undo_reduction(tcb, false);
    true
}

/// RFC 3522: a partial acknowledgment answers the original. True: wait for the repetitions.
fn try_undo_partial(tcb: &mut Tcb, options: &Options, prior_una: Seq) -> bool {
    if !tcb.recovery.undo.original_arrived(&tcb.timestamps, options) {
        return false;
    }
    let highest = tcb.sent.highest_sack().unwrap_or(tcb.snd_una);
    note_reordering(tcb, prior_una, highest);
    if tcb.sent.retrans_out() > 0 {
        return true;
    }
    forget_stamp(tcb);
    undo_reduction(tcb, true);
    try_keep_open(tcb);
    false
}

/// The timeout was spurious: F-RTO says so (`frto`), or the timestamps or duplicates do.
fn try_undo_loss(tcb: &mut Tcb, options: &Options, frto: bool) -> bool {
    if !frto && !may_undo(tcb, options) {
        return false;
    }
    undo_reduction(tcb, true);
    tcb.retries = 0;
    if must_stay(tcb) {
        return true;
    }
    if frto || tcb.sack_ok {
        tcb.recovery.state = CaState::Open;
        try_keep_open(tcb);
    }
    true
}

/// Something that was sent once arrived although `highest` had been acknowledged before: the
/// network reorders by this much.
pub(crate) fn note_reordering(tcb: &mut Tcb, low: Seq, highest: Seq) {
    let mss = tcb.mss.max(1);
    let Ok(metric) = u32::try_from(highest - low) else { return };
    if metric == 0 {
        return;
    }
    if metric > tcb.recovery.reordering.saturating_mul(mss) {
        tcb.recovery.reordering = metric.div_ceil(mss).min(MAX_REORDERING);
    }
    tcb.recovery.reord_seen = tcb.recovery.reord_seen.saturating_add(1);
}

/// RFC 6298 (5.4): everything is lost that can be; slow start from one segment.
pub(crate) fn on_timeout(tcb: &mut Tcb, env: &Env, now: Instant) {
    let new_recovery = tcb.recovery.state < CaState::Recovery;
    let reneged = tcb.sent.front().is_some_and(|first| first.has(mark::SACKED));
    if reneged {
        // RFC 2018 8: what was acknowledged selectively counts no more.
        tcb.sent.forget_sacks();
    }
    if !tcb.sack_ok {
        tcb.sent.sacked_out = 0;
    }
    let mut index = 0;
    while let Some(segment) = tcb.sent.get(index) {
        // RFC 8985 6.3: not what was sent a moment ago.
        let recent = index > 0
            && !reneged
            && tcb.sack_ok
            && rack::is_recent(&tcb.recovery.rack, segment, now);
        if !recent {
            tcb.sent.mark_lost(index);
        }
        index += 1;
    }
    let again = tcb.recovery.state == CaState::Loss && tcb.retries > 0;
    if tcb.recovery.state <= CaState::Disorder
        || tcb.snd_una.ge(tcb.recovery.high_seq)
        || (tcb.recovery.state == CaState::Loss && !again)
    {
        // RFC 5681 3.1: a segment retransmitted already leaves ssthresh alone.
        tcb.congestion.reduce(now);
        let retrans_out = tcb.sent.retrans_out();
        tcb.recovery.undo.begin(tcb.snd_una, retrans_out);
    }
    let in_flight = tcb.sent.in_flight();
    tcb.congestion.on_timeout(in_flight);
    if new_recovery && tcb.sent.sacked_out >= DUPLICATE_THRESHOLD {
        // Patience with reordering cost a timeout.
        tcb.recovery.reordering = tcb.recovery.reordering.min(DUPLICATE_THRESHOLD);
    }
    tcb.ecn.on_reduction();
    tcb.recovery.state = CaState::Loss;
    tcb.recovery.high_seq = tcb.snd_nxt;
    tcb.recovery.frto = env.config.frto && (new_recovery || tcb.retries > 0);
    tcb.recovery.new_first = false;
    tcb.recovery.tlp.end();
}

/// RFC 8985 6.3: the reordering window has passed for something.
pub(crate) fn on_reorder_timer(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    let in_flight = tcb.sent.in_flight();
    tcb.recovery.rack.look_again();
    let wait = rack::detect_loss(tcb, now);
    let lost = in_flight.saturating_sub(tcb.sent.in_flight());
    if lost > 0 && tcb.recovery.state < CaState::Recovery {
        enter_recovery(tcb, env, now);
        let ssthresh = tcb.congestion.ssthresh();
        let window = tcb.recovery.prr.window(ssthresh, tcb.sent.in_flight(), 1, false);
        tcb.congestion.set_cwnd(window);
    }
    env.enqueue(tcb, list::DATA);
    match wait {
        Some(us) => {
            start_timer(tcb, env, Pending::Reorder, now + us.saturating_add(TIMEOUT_MIN_US));
        }
        None => rearm_rto(tcb, env, now),
    }
}

/// RFC 6298 (5.2), (5.3): the retransmission timer for what is out, or none.
pub(crate) fn rearm_rto(tcb: &mut Tcb, env: &mut Env, now: Instant) {
    tcb.persist = false;
    if tcb.in_flight() == 0 {
        tcb.recovery.pending = Pending::Retransmit;
        timer::stop(tcb, Timer::Retransmit);
    } else {
        let rto = tcb.rtt.rto_us(env.config.rto_max_us);
        start_timer(tcb, env, Pending::Retransmit, now + rto);
    }
}

/// The one timer of retransmission, and what it means when it expires.
pub(crate) fn start_timer(tcb: &mut Tcb, env: &mut Env, pending: Pending, at: Instant) {
    tcb.recovery.pending = pending;
    timer::start(tcb, env, Timer::Retransmit, at);
}

/// The path takes only smaller segments (RFC 1191 6.5): what is larger is sent again at once, and
/// the congestion window stays.
pub(crate) fn resend_large(tcb: &mut Tcb, mss: u32) {
    let mut index = 0;
    while let Some(segment) = tcb.sent.get(index) {
        if segment.end.gt(segment.seq + mss) {
            tcb.sent.mark_lost(index);
        }
        index += 1;
    }
    if tcb.sent.lost_out() > 0 && tcb.recovery.state != CaState::Loss {
        tcb.recovery.high_seq = tcb.snd_nxt;
        tcb.congestion.forget_prior();
        tcb.recovery.undo.end();
        tcb.recovery.tlp.end();
        tcb.recovery.frto = false;
        tcb.recovery.state = CaState::Loss;
    }
}
