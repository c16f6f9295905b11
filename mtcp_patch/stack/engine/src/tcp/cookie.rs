//! SYN cookies (RFC 4987 3.6): a SYN-ACK that nobody remembers.
//!
//! Our initial sequence number is the memory:
//!
//! ```text
//!   ISS = F(4-tuple) + SEG.SEQ + | period (5 bits) | MSS index (3) | G(the same, both) (24) |
//! ```
//! F and G are keyed hashes, the period counts minutes. Whoever acknowledges ISS has received it,
//! not long ago. SEG.SEQ and F keep the numbers of one 4-tuple apart from those of another and from
//! those of its own past. G is at the low end, so that the numbers beside a cookie are none: one
//! more acknowledges the FIN of a connection without text. Where the peer has timestamps, the low
//! bits of ours carry the rest of its SYN (its window scale, SACK-permitted, ECN), and come back
//! in TSecr.

use super::request::Syn;
use super::timestamps::Timestamps;
use crate::limits::{MAX_WINDOW_SCALE, SYN_COOKIE_PERIODS, SYN_COOKIE_PERIOD_US};
use crate::shard::Secrets;
use crate::time::Instant;
use crate::wire::{Flags, Header, Segment, Seq};
use core::net::SocketAddr;

/// The sizes that a cookie can name: the largest that is not beyond the peer's is taken. The first
/// is [`crate::limits::MIN_SEND_MSS`], the others are those of the usual MTUs and tunnels.
const MSS: [u16; 8] = [48, 536, 1220, 1360, 1420, 1440, 1460, 8940];

const HASH_BITS: u32 = 24;
const HASH_MASK: u32 = (1 << HASH_BITS) - 1;
const INDEX_BITS: u32 = MSS.len().ilog2();
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const PERIOD_BITS: u32 = 32 - HASH_BITS - INDEX_BITS;
const PERIOD_MASK: u64 = (1 << PERIOD_BITS) - 1;

/// What our timestamp says besides the time.
const NO_WSCALE: u32 = 0xf;
const WSCALE: u32 = 0xf;
const SACK: u32 = 0x10;
const ECN: u32 = 0x20;

/// What says that the peer's SYN asked for ECN (RFC 3168 6.1.1).
const ECN_SETUP: Flags = Flags(64 | 128);

fn base(secrets: &Secrets, local: &SocketAddr, remote: &SocketAddr, irs: Seq) -> Seq {
    Seq(secrets.of_tuple_and(local, remote, 2, 0)) + irs.0
}

/// All bits of the 32 but F's, for a SYN to `local` with the number `irs`.
fn word(
    secrets: &Secrets,
    (local, remote): (&SocketAddr, &SocketAddr),
    irs: Seq,
    period: u64,
    index: u32,
) -> u32 {
    let said = period << INDEX_BITS | u64::from(index & INDEX_MASK);
    let check = secrets.of_tuple_and(local, remote, 3, said << 32 | u64::from(irs.0));
    (said as u32) << HASH_BITS | (check & HASH_MASK)
}

fn period(now: Instant) -> u64 {
    now.micros / SYN_COOKIE_PERIOD_US
}

/// The initial sequence number that remembers `syn`; `mss` is what the peer takes.
pub(crate) fn issue(secrets: &Secrets, now: Instant, syn: &Syn, mss: u32) -> Seq {
    let index = MSS.iter().rposition(|m| u32::from(*m) <= mss).unwrap_or(0) as u32;
    let word = word(secrets, (&syn.dst, &syn.src), syn.seq, period(now), index);
    base(secrets, &syn.dst, &syn.src, syn.seq) + word
}

/// Makes `header`, the SYN-ACK of a cookie, say no more than the cookie remembers.
pub(crate) fn seal(header: &mut Header, now: Instant, syn: &Syn, timestamps: &Timestamps) {
    if let Some((_, echo)) = header.options.timestamps {
        let mut bits = header.options.wscale.and(syn.wscale).map_or(NO_WSCALE, u32::from);
        if syn.sack_permitted {
            bits |= SACK;
        }
        if syn.flags.contains(ECN_SETUP) {
            bits |= ECN;
        }
        header.options.timestamps = Some((timestamps.carry(now, bits), echo));
    } else {
        header.options.wscale = None;
        header.options.sack_permitted = false;
        header.flags = Flags(header.flags.0 & !Flags::ECE.0);
    }
}

/// The SYN that `seg` answers for, if its acknowledgment number is a cookie of ours that is not
/// too old.
pub(crate) fn redeem(
    secrets: &Secrets,
    timestamps: bool,
    now: Instant,
    seg: &Segment<'_>,
) -> Option<Syn> {
    let irs = seg.seq - 1;
    let got = (seg.ack - 1).0.wrapping_sub(base(secrets, &seg.dst, &seg.src, irs).0);
    let said = got >> HASH_BITS;
    let current = period(now);
    let age = current.wrapping_sub(u64::from(said >> INDEX_BITS)) & PERIOD_MASK;
    if age >= SYN_COOKIE_PERIODS {
        return None;
    }
    let issued = current.checked_sub(age)?;
    let index = said & INDEX_MASK;
    if got != word(secrets, (&seg.dst, &seg.src), irs, issued, index) {
        return None;
    }
    let mss = *MSS.get(index as usize)?;
    let mut syn = Syn { seq: irs, flags: Flags::SYN, mss: Some(mss), ..Syn::of(seg) };
    let Some((value, echo)) = seg.options.timestamps.filter(|_| timestamps) else {
        return Some(Syn { wscale: None, sack_permitted: false, timestamps: None, ..syn });
    };
    let bits = Timestamps::carried(secrets.timestamp_offset(&seg.dst, &seg.src), echo);
    let shift = (bits & WSCALE) as u8;
    if bits & ECN != 0 {
        syn.flags |= ECN_SETUP;
    }
    syn.wscale = (shift <= MAX_WINDOW_SCALE).then_some(shift);
    syn.sack_permitted = bits & SACK != 0;
    syn.timestamps = Some((value, 0));
    Some(syn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MIN_SEND_MSS;
    use crate::random::SplitMix64;
    use crate::wire::{Link, Options};

    fn syn(port: u16, seq: u32) -> Syn {
        Syn::of(&Segment {
            link: Link::default(),
            src: SocketAddr::from(([10, 0, 0, 1], port)),
            dst: SocketAddr::from(([10, 0, 0, 2], 80)),
            seq: Seq(seq),
            ack: Seq(0),
            flags: Flags::SYN,
            wnd: 1000,
            urgent: 0,
            options: Options::default(),
            payload: &[],
            ecn: 0,
        })
    }

    fn answer(syn: &Syn, iss: Seq) -> Segment<'static> {
        Segment {
            link: syn.link,
            src: syn.src,
            dst: syn.dst,
            seq: syn.seq + 1,
            ack: iss + 1,
            flags: Flags::ACK,
            wnd: 1000,
            urgent: 0,
            options: Options::default(),
            payload: &[],
            ecn: 0,
        }
    }

    #[test]
    fn the_mss_is_never_beyond_the_peers() {
        let secrets = Secrets::new([1; 16]);
        let now = Instant::from_micros(77);
        assert_eq!(u32::from(MSS[0]), MIN_SEND_MSS);
        for mss in [48u32, 49, 535, 536, 1459, 1460, 1461, 65_495] {
            let syn = syn(1000, mss << 13);
            let cookie = issue(&secrets, now, &syn, mss);
            let got = redeem(&secrets, true, now, &answer(&syn, cookie)).unwrap();
            let expected = MSS.iter().copied().filter(|m| u32::from(*m) <= mss).max();
            assert_eq!((got.mss, got.seq, got.wscale), (expected, syn.seq, None));
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_period_and_the_next() {
        let secrets = Secrets::new([1; 16]);
        // Around zero and where the five bits of the period start again.
        for first in [0, 31 * SYN_COOKIE_PERIOD_US, 32 * SYN_COOKIE_PERIOD_US] {
            let syn = syn(1, 5);
            let begin = Instant::from_micros(first);
            let cookie = issue(&secrets, begin, &syn, 1460);
            let good =
                |us: u64| redeem(&secrets, true, begin + us, &answer(&syn, cookie)).is_some();
            assert!(good(0) && good(2 * SYN_COOKIE_PERIOD_US - 1));
            assert!(!good(2 * SYN_COOKIE_PERIOD_US));
            assert!(
                redeem(&secrets, true, begin - 1, &answer(&syn, cookie)).is_none() || first == 0
            );
        }
    }

    #[test]
    fn a_cookie_is_good_for_nobody_else() {
        let (secrets, now) = (Secrets::new([1; 16]), Instant::from_micros(1));
        let mine = syn(1000, 5);
        let cookie = issue(&secrets, now, &mine, 1460);
        for other in [syn(1001, 5), syn(1000, 6), syn(1000, 4)] {
            assert_eq!(redeem(&secrets, true, now, &answer(&other, cookie)), None);
            assert_eq!(
                redeem(&secrets, true, now, &answer(&other, cookie + other.seq.0.wrapping_sub(5))),
                None
            );
        }
        let stranger = Secrets::new([2; 16]);
        assert_eq!(redeem(&stranger, true, now, &answer(&mine, cookie)), None);
    }

    /// Whoever acknowledges more than the SYN answers a connection that is gone: it must not come
    /// back with another MSS.
    #[test]
    fn the_numbers_beside_a_cookie_are_none() {
        let (secrets, now) = (Secrets::new([1; 16]), Instant::from_micros(1 << 40));
        for mss in MSS {
            let syn = syn(1000, 5);
            let cookie = issue(&secrets, now, &syn, u32::from(mss));
            let good = |iss: Seq| redeem(&secrets, true, now, &answer(&syn, iss)).is_some();
            assert!(good(cookie));
            assert!((1..=64).all(|off: u32| !good(cookie + off) && !good(cookie - off)), "{mss}");
        }
    }

    /// A guess hits one of 8 sizes in one of 2 periods among 2^32 numbers: once in 2^28 times.
    #[test]
    fn guesses_fail() {
        let (secrets, now) = (Secrets::new([1; 16]), Instant::from_micros(1 << 40));
        let mut random = SplitMix64(4987);
        let guess = |_| {
            let word = random.next_u64();
            let guess = answer(&syn(word as u16, (word >> 16) as u32), Seq((word >> 32) as u32));
            redeem(&secrets, true, now, &guess).is_some()
        };
        assert_eq!((0..200_000).map(guess).filter(|hit| *hit).count(), 0);
    }

    /// RFC 6528 3 holds of cookies, too: the numbers of neighbours say nothing of each other.
    #[test]
    fn cookies_of_neighbours_are_far_apart() {
        let (secrets, now) = (Secrets::new([1; 16]), Instant::from_micros(1));
        let mut seen: std::vec::Vec<u32> =
            (1..200).map(|port| issue(&secrets, now, &syn(port, 7), 1460).0).collect();
        seen.sort_unstable();
        let close = seen.windows(2).filter(|pair| pair[1] - pair[0] < 1000).count();
        assert!(close < 3, "{close}");
    }
}
