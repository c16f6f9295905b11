//! TCP options: RFC 9293 3.2 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK).

use super::{Drop, Flags, Seq};

/// The most that a header can hold: fifteen words less the five fixed ones.
pub(crate) const MAX_LEN: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WSCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// RFC 7323 2.3.
const MAX_WSCALE: u8 = 14;

/// The options that we know; all others are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size; only on a SYN.
    pub mss: Option<u16>,
    /// Window scale shift, at most 14; only on a SYN.
    pub wscale: Option<u8>,
    /// Whether the sender takes SACK; only on a SYN.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks: left edge, and right edge (the number after the last); none on a SYN.
    pub sack: [Option<(Seq, Seq)>; 4],
}

impl Options {
    /// Reads none, or the timestamps alone: what all but a few segments carry.
    #[inline]
    pub(crate) fn parse_usual(bytes: &[u8]) -> Option<Self> {
        let timestamps = match bytes {
            [] => None,
            // Aligned by two NOPs, as RFC 7323 appendix A advises.
            &[NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] => {
                be32_pair(&[a, b, c, d, e, f, g, h])
            }
            _ => return None,
        };
        Some(Self { timestamps, ..Self::default() })
    }

    /// Reads the option bytes of a header with these `flags`.
    #[inline(never)]
    pub(crate) fn parse(bytes: &[u8], flags: Flags) -> Result<Self, Drop> {
        let mut options = Self::default();
        options.walk(bytes)?;
        options.keep_those_for(flags);
        Ok(options)
    }

    // RFC 9293 3.2, MUST-4, MUST-5 and MUST-6: any option in any segment, unknown ones skipped by
    // their length (MUST-68), wherever they begin (MUST-64); MUST-7: prepared for an illegal length.
    fn walk(&mut self, mut rest: &[u8]) -> Result<(), Drop> {
        while let Some((&kind, after)) = rest.split_first() {
            match kind {
                END => return Ok(()),
                NOP => rest = after,
                _ => {
                    let len = usize::from(*after.first().ok_or(Drop::BadOptions)?);
                    let data = rest.get(2..len).ok_or(Drop::BadOptions)?;
                    self.take(kind, data)?;
                    rest = rest.get(len..).ok_or(Drop::BadOptions)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, data: &[u8]) -> Result<(), Drop> {
        match (kind, data) {
            (MSS, &[hi, lo]) => self.mss = Some(u16::from_be_bytes([hi, lo])),
            // RFC 7323 2.3: a larger shift is used as 14.
            (WSCALE, &[shift]) => self.wscale = Some(shift.min(MAX_WSCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, _) => self.timestamps = Some(be32_pair(data).ok_or(Drop::BadOptions)?),
            (SACK, _) => self.take_sack(data)?,
            (MSS | WSCALE | SACK_PERMITTED, _) => return Err(Drop::BadOptions),
            _ => {}
        }
        Ok(())
    }

    fn take_sack(&mut self, data: &[u8]) -> Result<(), Drop> {
        if data.is_empty() || data.len() % 8 != 0 {
            return Err(Drop::BadOptions);
        }
        // Four blocks are 34 bytes: a fifth cannot fit into 40.
        for (to, block) in self.sack.iter_mut().zip(data.chunks_exact(8)) {
            *to = be32_pair(block).map(|(left, right)| (Seq(left), Seq(right)));
        }
        Ok(())
    }

    // RFC 9293 3.2 (MUST-65), RFC 7323 2.2, RFC 2018 2: these are for SYN segments and are ignored in
    // others; SACK blocks are for segments after the SYN.
    fn keep_those_for(&mut self, flags: Flags) {
        if flags.contains(Flags::SYN) {
            self.sack = [None; 4];
        } else {
            self.mss = None;
            self.wscale = None;
            self.sack_permitted = false;
        }
    }

    /// Bytes that the options take in a header, padding included: a multiple of four, at most 40.
    #[allow(clippy::len_without_is_empty)] // a size in bytes, not a container's length
    pub fn len(&self) -> usize {
        let blocks = self.sack_blocks_sent();
        self.len_before_sack() + if blocks == 0 { 0 } else { 4 + 8 * blocks }
    }

    fn len_before_sack(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let wscale = if self.wscale.is_some() { 4 } else { 0 };
        // "SACK permitted" takes the place of the two bytes that align the timestamps.
        let others = match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => 12,
            (false, true) => 4,
            (false, false) => 0,
        };
        mss + wscale + others
    }

    /// How many SACK blocks fit; the first ones are the most recent (RFC 2018 4), so the last
    /// are left out.
    fn sack_blocks_sent(&self) -> usize {
        let wanted = self.sack.iter().flatten().count();
        wanted.min((MAX_LEN - self.len_before_sack()).saturating_sub(4) / 8)
    }

    /// Writes the options into `out`, which must have room for [`Options::len`] bytes.
    pub(crate) fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer { out };
        if let Some(mss) = self.mss {
            let [hi, lo] = mss.to_be_bytes();
            writer.put([MSS, 4, hi, lo]);
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(pair), false) => {
                writer.put([NOP, NOP, TIMESTAMPS, 10]);
                writer.put_pair(pair);
            }
            (Some(pair), true) => {
                writer.put([SACK_PERMITTED, 2, TIMESTAMPS, 10]);
                writer.put_pair(pair);
            }
            (None, true) => writer.put([NOP, NOP, SACK_PERMITTED, 2]),
            (None, false) => {}
        }
        if let Some(shift) = self.wscale {
            writer.put([NOP, WSCALE, 3, shift]);
        }
        let blocks = self.sack_blocks_sent();
        if blocks > 0 {
            #[allow(clippy::cast_possible_truncation)] // at most four blocks
            writer.put([NOP, NOP, SACK, 2 + 8 * blocks as u8]);
            for &(left, right) in self.sack.iter().flatten().take(blocks) {
                writer.put_pair((left.0, right.0));
            }
        }
    }
}

/// Two 32-bit numbers, if `bytes` is exactly that long.
fn be32_pair(bytes: &[u8]) -> Option<(u32, u32)> {
    let &[a, b, c, d, e, f, g, h] = bytes else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

/// Writes words one after another.
struct Writer<'a> {
    out: &'a mut [u8],
}

impl Writer<'_> {
    fn put(&mut self, word: [u8; 4]) {
        if let Some((head, rest)) = core::mem::take(&mut self.out).split_first_chunk_mut() {
            *head = word;
            self.out = rest;
        }
    }

    fn put_pair(&mut self, (first, second): (u32, u32)) {
        self.put(first.to_be_bytes());
        self.put(second.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, MAX_LEN};
    use crate::wire::{Drop, Flags, Seq};
    use std::vec;

    fn parse(bytes: &[u8]) -> Result<Options, Drop> {
        let options = Options::parse(bytes, Flags::ACK);
        if let Some(usual) = Options::parse_usual(bytes) {
            assert_eq!(options, Ok(usual));
        }
        options
    }

    #[test]
    fn the_usual_options_are_read_without_the_walk() {
        let stamped = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 1, 0];
        let usual = Options::parse_usual(&stamped).unwrap();
        assert_eq!(usual, Options { timestamps: Some((9, 256)), ..Options::default() });
        assert_eq!(parse(&stamped), Ok(usual));
        assert_eq!(Options::parse_usual(&[]), Some(Options::default()));
        assert_eq!(Options::parse_usual(&stamped[1..]), None);
    }

    #[test]
    fn a_linux_syn_is_read() {
        let bytes = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        let expected = Options {
            mss: Some(1460),
            wscale: Some(7),
            sack_permitted: true,
            timestamps: Some((9, 0)),
            ..Options::default()
        };
        assert_eq!(Options::parse(&bytes, Flags::SYN), Ok(expected));
        let mut out = [0; 20];
        assert_eq!(expected.len(), 20);
        expected.emit(&mut out);
        assert_eq!(out, bytes);
    }

    /// RFC 9293 MUST-5, MUST-65.
    #[test]
    fn options_of_a_syn_mean_nothing_elsewhere() {
        let bytes = [2, 4, 5, 180, 4, 2, 1, 1, 1, 3, 3, 7];
        assert_eq!(parse(&bytes), Ok(Options::default()));
        let sack = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(Options::parse(&sack, Flags::SYN), Ok(Options::default()));
        assert_eq!(parse(&sack).map(|options| options.sack[0]), Ok(Some((Seq(1), Seq(2)))));
    }

    /// RFC 9293 MUST-4, MUST-6, MUST-64, MUST-68.
    #[test]
    fn unknown_options_are_skipped_and_the_end_ends() {
        assert_eq!(parse(&[254, 4, 1, 2, 30, 2, 0, 3]), Ok(Options::default()));
        assert_eq!(parse(&[0, 99, 0, 0]), Ok(Options::default()), "anything may follow the end");
        let after = [254, 3, 7, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0];
        assert_eq!(parse(&after).map(|options| options.timestamps), Ok(Some((1, 2))));
    }

    /// RFC 9293 MUST-7.
    #[test]
    fn illegal_lengths_are_refused() {
        for bytes in [
            &[2, 0, 0, 0][..],
            &[99, 0, 0, 0],
            &[99, 1, 0, 0],
            &[99, 5, 0, 0],
            &[1, 1, 1, 99],
            &[2, 3, 5, 1],
            &[3, 4, 7, 7],
            &[4, 3, 0, 0],
            &[5, 2, 0, 0],
            &[5, 6, 0, 0, 0, 0, 0, 0],
            &[5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[8, 6, 0, 0, 0, 0, 0, 0],
            &[1, 1, 8, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Options::parse(bytes, Flags::SYN), Err(Drop::BadOptions), "{bytes:?}");
        }
    }

    #[test]
    fn a_shift_above_fourteen_is_fourteen() {
        let wscale = Options::parse(&[1, 3, 3, 200], Flags::SYN).map(|options| options.wscale);
        assert_eq!(wscale, Ok(Some(14)));
    }

    #[test]
    fn only_the_blocks_that_fit_are_sent() {
        let block = |number| Some((Seq(number), Seq(number + 1)));
        let sack = [block(10), block(20), block(30), block(40)];
        let plain = Options { sack, ..Options::default() };
        let stamped = Options { timestamps: Some((1, 2)), ..plain };
        assert_eq!((plain.len(), stamped.len()), (36, 40));
        let mut out = vec![0; stamped.len()];
        stamped.emit(&mut out);
        let sack = [block(10), block(20), block(30), None];
        assert_eq!(parse(&out), Ok(Options { sack, ..stamped }));
        for bits in 0..16 {
            let options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                wscale: (bits & 2 != 0).then_some(7),
                sack_permitted: bits & 4 != 0,
                timestamps: (bits & 8 != 0).then_some((1, 2)),
                sack: plain.sack,
            };
            assert!(options.len() <= MAX_LEN && options.len() % 4 == 0, "{options:?}");
        }
    }
}
