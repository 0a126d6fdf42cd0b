//! Explicit congestion notification through the tunnel: what a router on the outer path marks, the inner
//! transport hears of.
//!
//! RFC 6040 in normal mode: the two bits of the inner header are copied to the outer one on the way out, and
//! on the way in the two are combined by the table of section 4.2. The property: a mark of congestion is
//! never lost, and a transport that does not know the marks never gets one; for it, a marked datagram is a
//! lost one.
//!
//! Only these two bits. The other six of the byte (DSCP, RFC 2474) neither leave nor enter: outside they would
//! tell what kind of application speaks, and inside they would be a router's word about a packet that was
//! authenticated.

use crate::packet::IPV4_HEADER;

/// The ECN field of an IP header (RFC 3168, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not know the marks: congestion is told to it by loss.
    #[default]
    NotEct = 0b00,
    /// The transport knows the marks; of the two code points the one for low queueing delay (RFC 9331).
    Ect1 = 0b01,
    /// The transport knows the marks.
    Ect0 = 0b10,
    /// A router has experienced congestion.
    Ce = 0b11,
}

/// A router met congestion, and dropping the packet is the only way to tell its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congested;

impl Ecn {
    /// From the lower two bits of a TOS or traffic class byte, or of the control message that a socket gives
    /// with a datagram.
    #[must_use]
    pub const fn from_bits(byte: u8) -> Self {
        match byte & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The lower two bits of a TOS or traffic class byte.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// What an IP packet says; nothing, if it is none.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        match packet {
            [version, tos, ..] if version >> 4 == 4 => Self::from_bits(*tos),
            // The traffic class lies across the first two bytes (RFC 8200, section 3).
            [version, class, ..] if version >> 4 == 6 => Self::from_bits(class >> 4),
            _ => Self::NotEct,
        }
    }

    /// What the inner packet is to say after it arrived in a datagram that says `outer` (RFC 6040, section
    /// 4.2, figure 4).
    ///
    /// # Errors
    ///
    /// [`Congested`]: the packet has to be dropped.
    pub const fn combine(self, outer: Self) -> Result<Self, Congested> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => Err(Congested),
            (Self::NotEct, Self::NotEct | Self::Ect0 | Self::Ect1) => Ok(Self::NotEct),
            (Self::Ect0, Self::Ect1) => Ok(Self::Ect1),
            (Self::Ect0 | Self::Ect1, Self::Ce) => Ok(Self::Ce),
            (inner @ (Self::Ect0 | Self::Ect1), Self::NotEct | Self::Ect0 | Self::Ect1) => Ok(inner),
            (Self::Ce, Self::NotEct | Self::Ect0 | Self::Ect1 | Self::Ce) => Ok(Self::Ce),
        }
    }

    /// Makes an IP packet say this; the IPv4 header checksum stays as right or wrong as it was. What is no IP
    /// packet is left alone.
    pub fn set(self, packet: &mut [u8]) {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.len() >= IPV4_HEADER => {
                let old = u16::from_be_bytes([packet[0], packet[1]]);
                let new = (old & !0b11) | u16::from(self.bits());
                let sum = u16::from_be_bytes([packet[10], packet[11]]);
                packet[1] = new as u8;
                packet[10..12].copy_from_slice(&adjusted(sum, old, new).to_be_bytes());
            }
            Some(6) if packet.len() >= 2 => packet[1] = (packet[1] & !0x30) | (self.bits() << 4),
            _ => {}
        }
    }
}

/// The checksum after one word of what it covers changed (RFC 1624, equation 3).
fn adjusted(sum: u16, old: u16, new: u16) -> u16 {
    let mut folded = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while folded > 0xffff {
        folded = (folded >> 16) + (folded & 0xffff);
    }
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::Ecn::{Ce, Ect0, Ect1, NotEct};
    use super::*;
    use crate::offload::checksum::checksum;
    use proptest::prelude::*;

    const ALL: [Ecn; 4] = [NotEct, Ect0, Ect1, Ce];

    #[test]
    fn inner_and_outer_combine_as_the_table_says() {
        // RFC 6040, figure 4: a row per inner, a column per outer, both in the order of `ALL`.
        let table = [
            [Ok(NotEct), Ok(NotEct), Ok(NotEct), Err(Congested)],
            [Ok(Ect0), Ok(Ect0), Ok(Ect1), Ok(Ce)],
            [Ok(Ect1), Ok(Ect1), Ok(Ect1), Ok(Ce)],
            [Ok(Ce), Ok(Ce), Ok(Ce), Ok(Ce)],
        ];
        for (inner, row) in ALL.into_iter().zip(table) {
            for (outer, expected) in ALL.into_iter().zip(row) {
                assert_eq!(inner.combine(outer), expected, "{inner:?} in {outer:?}");
            }
        }
    }

    #[test]
    fn what_is_no_packet_says_nothing_and_is_left_alone() {
        for bytes in [&[][..], &[0x45], &[0x60], &[0x45, 3, 0, 20, 0, 0], &[0x75, 0xff]] {
            let mut after = bytes.to_vec();
            Ce.set(&mut after);
            assert_eq!(after, bytes);
        }
        assert_eq!(Ecn::of(&[0x45]), NotEct);
        assert_eq!(Ecn::of(&[0x75, 0xff]), NotEct);
    }

    fn valid_v4(mut header: [u8; IPV4_HEADER]) -> [u8; IPV4_HEADER] {
        header[0] = 0x45;
        header[10..12].fill(0);
        let sum = checksum(0, &header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    proptest! {
        #[test]
        fn setting_changes_two_bits_and_keeps_the_checksum_right(
            header in any::<[u8; IPV4_HEADER]>(),
            bits in 0u8..4,
        ) {
            let ecn = Ecn::from_bits(bits);
            let before = valid_v4(header);
            let mut after = before;
            ecn.set(&mut after);
            prop_assert_eq!(Ecn::of(&after), ecn);
            prop_assert_eq!(checksum(0, &after), 0);
            prop_assert_eq!(after[1] & !0b11, before[1] & !0b11);
            prop_assert_eq!((&after[2..10], &after[12..]), (&before[2..10], &before[12..]));
        }

        #[test]
        fn in_ipv6_the_other_bits_of_the_header_stay(
            mut before in any::<[u8; 40]>(),
            bits in 0u8..4,
        ) {
            let ecn = Ecn::from_bits(bits);
            before[0] = 0x60 | (before[0] & 0x0f);
            let mut after = before;
            ecn.set(&mut after);
            prop_assert_eq!(Ecn::of(&after), ecn);
            prop_assert_eq!(after[1] & !0x30, before[1] & !0x30);
            prop_assert_eq!((after[0], &after[2..]), (before[0], &before[2..]));
        }
    }
}
