//! The IPv4 header (RFC 791).

use super::address::Addresses;
use super::checksum::Sum;
use super::{Drop, Ip};
use crate::device::RxChecksum;
use core::net::Ipv4Addr;

/// Bytes of a header without options, which is all that we send.
pub(crate) const HEADER_LEN: usize = 20;

/// "Don't fragment" in the flags and fragment offset word.
const DF: u16 = 0x4000;
const MF_OR_OFFSET: u16 = 0x3fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;

/// The header's fields as far as an embedded, perhaps cut-off packet has them.
pub(crate) struct Fields<'a> {
    pub(crate) addresses: &'a [u8; 8],
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
    pub(crate) ecn: u8,
    pub(crate) is_fragment: bool,
    pub(crate) fragment_offset: u16,
    pub(crate) protocol: u8,
}

/// Reads the fields and checks those that need no more than the header itself.
pub(crate) fn fields(packet: &[u8]) -> Result<Fields<'_>, Drop> {
    let (h, _) = packet.split_first_chunk::<HEADER_LEN>().ok_or(Drop::Truncated)?;
    if h[0] >> 4 != 4 {
        return Err(Drop::BadVersion);
    }
    let header_len = usize::from(h[0] & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
    if header_len < HEADER_LEN {
        return Err(Drop::BadHeaderLength);
    }
    let fragment = u16::from_be_bytes([h[6], h[7]]) & MF_OR_OFFSET;
    Ok(Fields {
        addresses: h.last_chunk().ok_or(Drop::Truncated)?,
        header_len,
        total_len,
        ecn: h[1] & 3,
        is_fragment: fragment != 0,
        fragment_offset: fragment & 0x1fff,
        protocol: h[9],
    })
}

/// Reads and checks a whole packet.
pub(crate) fn parse(packet: &[u8], rx_checksum: RxChecksum) -> Result<Ip<'_>, Drop> {
    let f = fields(packet)?;
    if f.total_len < f.header_len {
        return Err(Drop::BadTotalLength);
    }
    let packet = packet.get(..f.total_len).ok_or(Drop::Truncated)?;
    let (header, payload) = packet.split_at_checked(f.header_len).ok_or(Drop::BadHeaderLength)?;
    // RFC 1122 3.2.1.2: verify it. A partial checksum concerns the transport header only.
    if rx_checksum != RxChecksum::Trusted && !Sum::default().bytes(header).is_valid() {
        return Err(Drop::BadIpChecksum);
    }
    if f.header_len > HEADER_LEN {
        check_options(header.get(HEADER_LEN..).unwrap_or_default())?;
    }
    if f.is_fragment {
        return Err(Drop::Fragment);
    }
    Ok(Ip { addresses: Addresses::V4(f.addresses), protocol: f.protocol, ecn: f.ecn, payload })
}

/// Walks the options. All are ignored (RFC 1122 3.2.1.8, RFC 9293 MUST-50: unknown ones must be) but source routes:
/// like Linux by default and by the advice of RFC 7126 4.3, we take part in none.
fn check_options(mut options: &[u8]) -> Result<(), Drop> {
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => rest,
            OPTION_LSRR | OPTION_SSRR => return Err(Drop::BadIpOptions),
            _ => {
                let len = usize::from(*rest.first().ok_or(Drop::BadIpOptions)?);
                if len < 2 {
                    return Err(Drop::BadIpOptions);
                }
                options.get(len..).ok_or(Drop::BadIpOptions)?
            }
        };
    }
    Ok(())
}

/// What a header to be sent says.
pub(crate) struct Repr {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) total_len: u16,
    pub(crate) id: u16,
    /// The TOS byte: DSCP and ECN (RFC 2474, RFC 3168).
    pub(crate) tos: u8,
    pub(crate) hop_limit: u8,
    pub(crate) protocol: u8,
}

/// Writes the header; its checksum too when `checksum`.
pub(crate) fn emit(repr: &Repr, checksum: bool, out: &mut [u8; HEADER_LEN]) {
    let (src, dst) = (repr.src.octets(), repr.dst.octets());
    let version_and_class = u16::from_be_bytes([0x45, repr.tos]);
    let hops_and_protocol = u16::from_be_bytes([repr.hop_limit, repr.protocol]);
    let check = if checksum {
        // Summed here and not over what has been written: to read that back would stall.
        let sum = Sum::default().word(version_and_class).word(repr.total_len).word(repr.id);
        sum.word(DF).word(hops_and_protocol).bytes(&src).bytes(&dst).finish()
    } else {
        0
    };
    let [len_hi, len_lo] = repr.total_len.to_be_bytes();
    let [id_hi, id_lo] = repr.id.to_be_bytes();
    // RFC 1191 3: path MTU discovery sets "don't fragment" on everything.
    let [df_hi, df_lo] = DF.to_be_bytes();
    let [check_hi, check_lo] = check.to_be_bytes();
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src, dst);
    *out = [
        0x45,
        repr.tos,
        len_hi,
        len_lo, //
        id_hi,
        id_lo,
        df_hi,
        df_lo, //
        repr.hop_limit,
        repr.protocol,
        check_hi,
        check_lo, //
        s0,
        s1,
        s2,
        s3, //
        d0,
        d1,
        d2,
        d3,
    ];
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::device::RxChecksum::{AcceptPartial, Trusted, Verify};
    use crate::wire::testing::{fix_v4, v4};
    use crate::wire::Drop;
    use std::vec::Vec;

    fn verdict(packet: &[u8]) -> Result<Vec<u8>, Drop> {
        parse(packet, Verify).map(|ip| ip.payload.to_vec())
    }

    #[test]
    fn padding_is_cut_and_truncation_seen() {
        let mut packet = v4(6, &[], b"payload");
        packet.extend([0; 30]);
        assert_eq!(verdict(&packet), Ok(b"payload".to_vec()));
        assert_eq!(verdict(&packet[..26]), Err(Drop::Truncated));
        assert_eq!(verdict(&packet[..19]), Err(Drop::Truncated));
    }

    #[test]
    fn lying_lengths_are_refused() {
        for (byte, value, reason) in [
            (0, 0x44, Drop::BadHeaderLength),
            (0, 0x40, Drop::BadHeaderLength),
            (0, 0x4f, Drop::BadTotalLength),
            (0, 0x55, Drop::BadVersion),
            (3, 19, Drop::BadTotalLength),
            (3, 200, Drop::Truncated),
        ] {
            let mut packet = v4(6, &[], b"payload");
            packet[byte] = value;
            fix_v4(&mut packet);
            assert_eq!(verdict(&packet), Err(reason), "byte {byte} = {value:#x}");
        }
    }

    #[test]
    fn the_checksum_is_verified_unless_trusted() {
        let mut packet = v4(6, &[], b"payload");
        packet[8] -= 1;
        assert_eq!(verdict(&packet), Err(Drop::BadIpChecksum));
        assert_eq!(parse(&packet, AcceptPartial).err(), Some(Drop::BadIpChecksum));
        assert!(parse(&packet, Trusted).is_ok());
    }

    /// RFC 9293 MUST-50, MUST-51, MUST-53.
    #[test]
    fn options_are_skipped_and_source_routes_refused() {
        for options in
            [&[1, 1, 1, 0][..], &[7, 7, 4, 1, 2, 3, 4, 0], &[148, 4, 0, 0], &[1, 0, 131, 99]]
        {
            assert_eq!(verdict(&v4(6, options, b"x")), Ok(b"x".to_vec()), "{options:?}");
        }
        for options in [
            &[131, 7, 4, 10, 0, 0, 1, 0][..],
            &[1, 137, 3, 4],
            &[7, 1, 0, 0],
            &[7, 0, 0, 0],
            &[7, 5, 0, 0],
            &[1, 1, 1, 7],
        ] {
            assert_eq!(verdict(&v4(6, options, b"x")), Err(Drop::BadIpOptions), "{options:?}");
        }
    }

    #[test]
    fn any_fragment_is_refused() {
        for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff), (0x60, 0)] {
            let mut packet = v4(6, &[], b"x");
            packet[6] = high;
            packet[7] = low;
            fix_v4(&mut packet);
            assert_eq!(verdict(&packet), Err(Drop::Fragment));
        }
    }

    #[test]
    fn ecn_bits_are_read() {
        let mut packet = v4(6, &[], b"");
        packet[1] = 0xb9;
        fix_v4(&mut packet);
        assert_eq!(parse(&packet, Verify).map(|ip| ip.ecn), Ok(1));
    }
}
