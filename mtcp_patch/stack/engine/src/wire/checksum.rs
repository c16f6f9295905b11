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
        let mut sum = (sum >> 16) as u32 + (sum as u32 & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        (((sum >> 16) + (sum & 0xffff)) as u16).to_be()
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
    if bytes.len() >= BLOCK {
        (total, bytes) = sum_blocks(bytes);
    }
    while let Some((word, rest)) = bytes.split_first_chunk::<4>() {
        total += u64::from(u32::from_ne_bytes(*word));
        bytes = rest;
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(bytes) {
        *to = *from;
    }
    total + u64::from(u32::from_ne_bytes(last))
}

const BLOCK: usize = 32;

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
