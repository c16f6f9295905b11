//! The usual acknowledgment by itself: all that is out was one segment, sent once, and nothing is
//! unusual (Van Jacobson's header prediction). A request and its reply meet no other.
//!
//! [`process`] does what `ack::process_any` does then, in its order, without its questions; that both
//! leave the same connection behind is what the test below tries.

use super::recovery::CaState;
use super::state::State;
use super::tcb::{list, Tcb};
use super::{account, ack, recovery, timer, window};
use crate::shard::Env;
use crate::time::Instant;
use crate::wire::Segment;

/// Whether `seg` is one.
#[inline]
fn is_plain(tcb: &Tcb, seg: &Segment<'_>) -> bool {
    seg.ack == tcb.snd_nxt
        && seg.options.sack[0].is_none()
        && tcb.state == State::Established
        && tcb.sent.is_one_unmarked()
        // Without a FIN, and with nothing that waits behind it.
        && tcb.tx.len() as u32 == tcb.in_flight()
        && tcb.recovery.state == CaState::Open
        && tcb.recovery.tlp.is_over()
        && tcb.sack_ok
        && tcb.eor.is_none()
        && !tcb.more
        && !tcb.ecn.is_echo(seg)
}

/// Takes the acknowledgment and the window of `seg` if it is a plain one. False: nothing was done.
#[inline]
pub(crate) fn process(tcb: &mut Tcb, env: &mut Env, now: Instant, seg: &Segment<'_>) -> bool {
    if !is_plain(tcb, seg) {
        return false;
    }
    let old_window = tcb.snd_wnd;
    let acked = tcb.tx.len();
    tcb.tx.consume(&mut env.memory, acked, false);
    tcb.snd_una = seg.ack;
    tcb.account.bytes_acked += acked as u64;
    tcb.stalled_since = None;
    tcb.retries = 0;
    tcb.rtt.reset_backoff();
    window::update_send(tcb, seg);
    tcb.recovery.new_first = false;
    if let Some(segment) = tcb.sent.pop_acked(seg.ack, true) {
        tcb.recovery.rack.advance(&segment, now, &tcb.rtt);
        let sample = now.micros_since(segment.sent_at);
        tcb.rtt.sample(sample, env.config.rto_min_us, env.config.rto_max_us);
        tcb.recovery.rack.update_window(now, tcb.rtt.srtt_us());
        tcb.recovery.delivered = tcb.recovery.delivered.wrapping_add(1);
        ack::grow_window(tcb, now, 1, 1, Some(sample));
    }
    recovery::rearm_rto(tcb, env, now);
    timer::watch_idle_buffers(tcb, env, now);
    ack::wake_writer(tcb, env);
    account::phase(tcb, now, false);
    if tcb.snd_wnd > old_window {
        env.enqueue(tcb, list::DATA);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Caps, DeviceId, Medium, RxChecksum};
    use crate::event::ConnId;
    use crate::limits::Config;
    use crate::shard::Port;
    use crate::tcp::tcb::{ConnOptions, Origin, Owner};
    use crate::tcp::tlp;
    use crate::wire::{Flags, Link, Options, Seq};
    use core::net::SocketAddr;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    /// What the connection was before, and the acknowledgment. Most of it is usual most of the time, so
    /// that a case is plain often enough, and each exception is met alone.
    #[derive(Clone, Debug)]
    struct Case {
        iss: u32,
        segments: Vec<u32>,
        behind: u32,
        acks: u32,
        window: u16,
        ages_us: (u64, u64),
        samples: Vec<u64>,
        /// What is not as it mostly is, 0 for nothing.
        odd: u8,
        payload: usize,
        timestamps: bool,
        limited: bool,
        no_space: bool,
        cwnd: u32,
        repeated: bool,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let usual = |odd: u32| prop_oneof![12 => Just(0u32), 1 => 1..=odd];
        (
            (any::<u32>(), prop::collection::vec(1u32..3000, 0..3), usual(100), usual(3)),
            (any::<u16>(), (0u64..500_000, 0u64..500_000)),
            prop::collection::vec(1u64..300_000, 0..4),
            (prop_oneof![8 => Just(0u8), 4 => 1u8..13], 0usize..80),
            (any::<bool>(), any::<bool>(), any::<bool>(), 1u32..40, any::<bool>()),
        )
            .prop_map(|(a, b, samples, c, d)| Case {
                iss: a.0,
                segments: a.1,
                behind: a.2,
                acks: a.3,
                window: b.0,
                ages_us: b.1,
                samples,
                odd: c.0,
                payload: c.1,
                timestamps: d.0,
                limited: d.1,
                no_space: d.2,
                cwnd: d.3,
                repeated: d.4,
            })
    }

    fn env() -> Env {
        let mut env = Env::new(Config::default(), [3; 16]);
        let rx_checksum = RxChecksum::Verify;
        let caps =
            Caps { medium: Medium::Ip, mtu: 1500, rx_checksum, tx_checksum: true, hw_addr: [0; 6] };
        env.ports.push(Some(Port::new(caps)));
        env
    }

    fn tcb(case: &Case, env: &mut Env) -> (Tcb, Instant) {
        let start = Instant::from_micros(1_000_000);
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
            iss: Seq(case.iss),
            adv_mss: 1460,
            timestamp_offset: 9,
        };
        let mut tcb = Tcb::new(origin, &env.config, start);
        tcb.snd_una = tcb.iss + 1;
        tcb.snd_nxt = tcb.snd_una;
        tcb.snd_wl2 = tcb.snd_una;
        tcb.snd_wnd = 30_000;
        tcb.max_snd_wnd = 60_000;
        tcb.sack_ok = case.odd != 1;
        tcb.timestamps.on = case.timestamps;
        for sample in &case.samples {
            tcb.rtt.sample(*sample, env.config.rto_min_us, env.config.rto_max_us);
        }
        tcb.congestion.set_cwnd(case.cwnd);
        let sent_at = start + case.ages_us.0;
        for len in &case.segments {
            tcb.tx.append(&mut env.memory, &vec![7; *len as usize]);
            let end = tcb.snd_nxt + *len;
            tcb.sent.push(tcb.snd_nxt, end, sent_at);
            tcb.snd_nxt = end;
        }
        if !case.segments.is_empty() {
            recovery::rearm_rto(&mut tcb, env, sent_at);
            tlp::schedule(&mut tcb, env, sent_at, u64::MAX);
        }
        if case.limited {
            tcb.congestion.on_sent(true, case.cwnd, tcb.snd_una, tcb.snd_nxt);
        }
        tcb.tx.append(&mut env.memory, &vec![8; case.behind as usize]);
        tcb.no_space.set(case.no_space);
        account::phase(&mut tcb, sent_at, false);
        unusual(&mut tcb, env, case, sent_at);
        (tcb, sent_at + case.ages_us.1)
    }

    /// One thing that is not as it mostly is.
    fn unusual(tcb: &mut Tcb, env: &mut Env, case: &Case, at: Instant) {
        match case.odd {
            2 => tcb.state = State::CloseWait,
            3 => tcb.state = State::FinWait1,
            4 => tcb.recovery.state = CaState::Disorder,
            5 => tcb.recovery.tlp.on_sent(tcb.snd_nxt, case.repeated),
            6 => {
                tcb.sent.mark_lost(0);
                if case.repeated {
                    tcb.sent.mark_repeated(0, at);
                }
            }
            7 => tcb.more = true,
            8 => tcb.recovery.rack.on_duplicate(),
            9 => {
                tcb.retries = 3;
                tcb.rtt.back_off();
                tcb.stalled_since = Some(at);
                tcb.persist = true;
            }
            10 => tcb.snd_wnd = 0,
            11 => timer::stop_all(tcb, env),
            _ => {}
        }
    }

    fn shown(tcb: &Tcb, env: &Env) -> String {
        format!(
            "{tcb:?} {:?} {:?} {:?} {:?} {:?}",
            env.memory, env.wheel, env.events, env.ports, env.stats
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn a_plain_acknowledgment_does_what_the_long_way_does(case in cases()) {
            let payload = vec![1; case.payload];
            let run = |plain: bool| {
                let mut env = env();
                let (mut tcb, now) = tcb(&case, &mut env);
                let block = match (case.odd, case.repeated) {
                    (12, true) => Some((tcb.snd_una - 5, tcb.snd_una - 2)),
                    (12, false) => Some((tcb.snd_una, tcb.snd_nxt)),
                    _ => None,
                };
                let segment = Segment {
                    link: Link::default(),
                    src: tcb.remote,
                    dst: tcb.local,
                    seq: tcb.rcv_nxt,
                    ack: tcb.snd_nxt - case.acks.min(tcb.in_flight()),
                    flags: Flags::ACK,
                    wnd: case.window,
                    urgent: 0,
                    options: Options { sack: [block, None, None, None], ..Options::default() },
                    payload: &payload,
                    ecn: 0,
                };
                let before = shown(&tcb, &env);
                let was_plain = plain && process(&mut tcb, &mut env, now, &segment);
                if !was_plain {
                    assert_eq!(before, shown(&tcb, &env), "not plain, and yet something was done");
                    ack::process_any(&mut tcb, &mut env, now, &segment);
                }
                (was_plain, shown(&tcb, &env))
            };
            let ((was_plain, short), (_, long)) = (run(true), run(false));
            prop_assert_eq!(short, long);
            let usual = matches!(case.odd, 0 | 8..=11) && case.segments.len() == 1;
            prop_assert_eq!(was_plain, usual && case.behind == 0 && case.acks == 0);
        }
    }
}
