//! The Internet checksum (RFC 1071), wide enough to be cheap beside the cipher.
//!
//! The property: equal to summing 16-bit words in network order, for every length. The order of bytes does not
//! matter to a one's complement sum until its end (RFC 1071, section 2 (B)), nor does the width of the words: native
//! 32-bit words go into 64-bit lanes that cannot overflow, which the compiler turns into vector code.

use std::net::IpAddr;

const WORD: usize = 4;
const LANES: usize = 8;

/// The sum of 16-bit words in network order, folded; an odd byte is the upper half of a word.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<{ WORD * LANES }>();
    let mut lanes = [0u64; LANES];
    for block in blocks {
        let mut at = 0;
        for lane in &mut lanes {
            let word = [block[at], block[at + 1], block[at + 2], block[at + 3]];
            *lane += u64::from(u32::from_ne_bytes(word));
            at += WORD;
        }
    }
    let (words, rest) = rest.as_chunks::<WORD>();
    let mut total: u64 = lanes.iter().sum();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; WORD];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    u64::from(u16::from_be(fold(total)))
}

/// A sum in 16 bits, end-around carry and all.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The checksum of `bytes` on top of `start`. Zero for bytes that hold their right checksum.
pub(crate) fn checksum(start: u64, bytes: &[u8]) -> u16 {
    !fold(start + sum(bytes))
}

/// The sum over the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(crate) fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u64 {
    sum_address(from) + sum_address(to) + u64::from(protocol) + len as u64
}

fn sum_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> u64 {
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum()
    }

    #[test]
    fn every_length_at_every_alignment_sums_as_words_do() {
        let bytes: Vec<u8> = (0..400u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for start in 0..40 {
            for end in start..bytes.len() {
                let bytes = &bytes[start..end];
                assert_eq!(sum(bytes), u64::from(fold(naive(bytes))), "{start}..{end}");
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        for len in [65_535, 65_536, 1 << 20] {
            let bytes = vec![0xff; len];
            assert_eq!(sum(&bytes), u64::from(fold(naive(&bytes))));
        }
        assert_eq!(checksum(0, &[0; 64]), 0xffff);
        assert_eq!(checksum(u64::from(u32::MAX), b""), 0);
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
        assert_eq!(checksum(0, &bytes), !0xddf2);
    }
}
