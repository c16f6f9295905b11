//! The Internet checksum (RFC 1071) over any number of pieces.
//!
//! Bytes are added as they lie in memory and the result is swapped once at the end: the sum is the
//! same in either byte order (RFC 1071 2(B)).

/// An unfolded one's complement sum, in the machine's byte order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`; an odd last byte is padded with zero, so only the last piece may be odd.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(self.0 + sum(bytes))
    }

    /// Adds one 16-bit word, given by value.
    #[inline]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Adds the pseudo-header of RFC 9293 3.1 or RFC 8200 8.1: both addresses, protocol, length.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the two halves of the 32-bit length
    pub fn pseudo_header(self, addresses: &[u8], protocol: u8, len: usize) -> Self {
        let sum = self.bytes(addresses).word(u16::from(protocol));
        sum.word((len >> 16) as u16).word(len as u16)
    }

    /// The sum folded to 16 bits, not complemented: what Linux leaves in the checksum field of a
    /// `CHECKSUM_PARTIAL` packet when only the pseudo-header has been added.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // folded: the upper bits are zero
    pub fn folded(self) -> u16 {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) as u32 + (sum as u32 & 0xffff);
        // At most 0x1fffe by now, so that this carries no more.
        ((sum >> 16) as u16).wrapping_add(sum as u16).to_be()
    }

    /// The checksum to put into the packet.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.folded()
    }

    /// Whether what was added, checksum field included, is intact.
    #[inline]
    pub fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }
}

/// The sum of the 32-bit words of `bytes`. 64 KiB of them cannot overflow 64 bits, nor can 2^31.
#[inline]
fn sum(mut bytes: &[u8]) -> u64 {
    let mut total = 0;
    if bytes.len() >= WORTH_VECTORS {
        (total, bytes) = sum_blocks(bytes);
    }
    while let Some((pair, rest)) = bytes.split_first_chunk() {
        let pair = u64::from_ne_bytes(*pair);
        total += (pair >> 32) + (pair & 0xffff_ffff);
        bytes = rest;
    }
    if let Some((word, rest)) = bytes.split_first_chunk() {
        total += u64::from(u32::from_ne_bytes(*word));
        bytes = rest;
    }
    if let Some((half, rest)) = bytes.split_first_chunk() {
        total += u64::from(u16::from_ne_bytes(*half));
        bytes = rest;
    }
    match bytes {
        &[last] => total + u64::from(u16::from_ne_bytes([last, 0])),
        _ => total,
    }
}

const BLOCK: usize = 32;

/// Below this, gathering the lanes costs more than they save.
const WORTH_VECTORS: usize = 128;

/// Sums whole blocks into independent lanes, so that the compiler may use vector registers, and
/// returns what is left.
#[inline]
fn sum_blocks(mut bytes: &[u8]) -> (u64, &[u8]) {
    let mut lanes = [0u64; BLOCK / 4];
    while let Some((block, rest)) = bytes.split_first_chunk::<BLOCK>() {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            if let &[a, b, c, d] = word {
                *lane += u64::from(u32::from_ne_bytes([a, b, c, d]));
            }
        }
        bytes = rest;
    }
    (lanes.iter().sum(), bytes)
}

#[cfg(test)]
mod tests {
    use super::Sum;
    use crate::wire::testing::naive_checksum;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn the_example_of_rfc_1071() {
        // RFC 1071 3: these bytes sum to ddf2.
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.finish(), !0xddf2);
    }

    #[test]
    fn every_length_and_start_agrees_with_the_naive_sum() {
        let bytes: Vec<u8> = (0..400_u32).map(|n| (n * 167 + 41) as u8).collect();
        for start in 0..9 {
            for end in start..bytes.len() {
                let piece = &bytes[start..end];
                let sum = Sum::default().bytes(piece);
                assert_eq!(sum.finish(), naive_checksum(piece), "{start}..{end}");
            }
        }
    }

    #[test]
    fn carries_are_not_lost() {
        for len in [0, 1, 2, 31, 32, 33, 65_535, 1 << 20] {
            let bytes = vec![0xff; len];
            assert_eq!(Sum::default().bytes(&bytes).finish(), naive_checksum(&bytes), "{len}");
        }
    }

    #[test]
    fn pieces_of_even_length_add_up() {
        let bytes: Vec<u8> = (0..99).collect();
        for cut in (0..=98).step_by(2) {
            let (left, right) = bytes.split_at(cut);
            let sum = Sum::default().bytes(left).bytes(right);
            assert_eq!(sum.finish(), naive_checksum(&bytes));
        }
        assert_eq!(Sum::default().word(0x1234).folded(), 0x1234);
    }

    #[test]
    fn a_pseudo_header_counts_all_its_parts() {
        let sum = Sum::default().pseudo_header(&[1, 2, 3, 4], 6, 0x1_0002);
        assert_eq!(sum.folded(), 0x0102 + 0x0304 + 6 + 1 + 2);
    }

    #[test]
    fn valid_means_the_field_makes_the_sum_all_ones() {
        let mut bytes = [0x45, 0, 0, 40, 0, 0];
        assert!(!Sum::default().bytes(&bytes).is_valid());
        let check = Sum::default().bytes(&bytes).finish().to_be_bytes();
        bytes[4..].copy_from_slice(&check);
        assert!(Sum::default().bytes(&bytes).is_valid());
    }
}
