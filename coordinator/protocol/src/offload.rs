//! The four offloads of a node's data path, under the names that `ethtool` made customary, and sets of them.
//!
//! A set only ever says what to leave off or what is on: no offload permits a packet, so an unknown one in a set
//! from a newer program is passed over on the control link. Text that people write is not: a name that is misspelt
//! is an error that lists the names.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// One way in which a node and its kernel handle many packets at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// The host hands packets for the mesh over unsegmented (`TUNSETOFFLOAD`: TSO and USO).
    TunTso,
    /// The host is handed packets of one flow merged.
    TunGro,
    /// Many datagrams go out in one call (`UDP_SEGMENT`).
    UdpGso,
    /// Many datagrams come in by one call (`UDP_GRO`).
    UdpGro,
}

impl Offload {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::TunTso, Self::TunGro, Self::UdpGso, Self::UdpGro];

    /// The name, as it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TunTso => "tun-tso",
            Self::TunGro => "tun-gro",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
        }
    }

    /// Its bit in [`Offloads`], on the wire and in journals: never changes.
    const fn bit(self) -> u8 {
        match self {
            Self::TunTso => 1,
            Self::TunGro => 2,
            Self::UdpGso => 4,
            Self::UdpGro => 8,
        }
    }
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not the name of an offload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no offload; there are {all}", all = Offloads::ALL)]
pub struct UnknownOffload(String);

impl FromStr for Offload {
    type Err = UnknownOffload;

    fn from_str(text: &str) -> Result<Self, UnknownOffload> {
        let named = Self::ALL.into_iter().find(|offload| offload.as_str() == text);
        named.ok_or_else(|| UnknownOffload(text.to_owned()))
    }
}

/// A set of offloads. As text `udp-gso,udp-gro`, in JSON and TOML a list of names, in CBOR the sum of their bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offloads(u8);

impl Offloads {
    /// The empty set, as is `default()`.
    pub const NONE: Self = Self(0);
    /// All four.
    pub const ALL: Self =
        Self::NONE.with(Offload::TunTso).with(Offload::TunGro).with(Offload::UdpGso).with(Offload::UdpGro);

    /// Whether this one is in the set.
    #[must_use]
    pub const fn contains(self, offload: Offload) -> bool {
        self.0 & offload.bit() != 0
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// This set, and this one.
    #[must_use]
    pub const fn with(self, offload: Offload) -> Self {
        Self(self.0 | offload.bit())
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, in the order of [`Offload::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Offload> {
        Offload::ALL.into_iter().filter(move |offload| self.contains(*offload))
    }

    /// As one byte, to be kept in an atomic.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// What [`Self::to_bits`] made; bits that stand for nothing here are passed over.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}

impl FromIterator<Offload> for Offloads {
    fn from_iter<I: IntoIterator<Item = Offload>>(offloads: I) -> Self {
        offloads.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, offload) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{offload}")?;
        }
        Ok(())
    }
}

/// Names with commas between them; the empty text is the empty set.
impl FromStr for Offloads {
    type Err = UnknownOffload;

    fn from_str(text: &str) -> Result<Self, UnknownOffload> {
        if text.trim().is_empty() {
            return Ok(Self::NONE);
        }
        text.split(',').map(|name| name.trim().parse::<Offload>()).collect()
    }
}

impl Serialize for Offloads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Offloads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Offloads;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of offloads among {}", Offloads::ALL)
    }

    /// A name that is there twice is a slip; refusing it also bounds the list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Offloads, A::Error> {
        let mut offloads = Offloads::NONE;
        while let Some(offload) = names.next_element::<Offload>()? {
            if offloads.contains(offload) {
                return Err(serde::de::Error::custom(format_args!("{offload} is there twice")));
            }
            offloads = offloads.with(offload);
        }
        Ok(offloads)
    }
}

impl<C> Encode<C> for Offloads {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u8(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Offloads {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.u8().map(Self::from_bits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_survives_text_json_and_the_wire(bits in 0u8..16) {
            let set = Offloads::from_bits(bits);
            prop_assert_eq!(set.to_string().parse::<Offloads>().unwrap(), set);
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<Offloads>(&json).unwrap(), set);
            let cbor = minicbor::to_vec(set).unwrap();
            prop_assert_eq!(decode::<Offloads>(&cbor).unwrap(), set);
        }

        #[test]
        fn sets_are_sets(a in 0u8..16, b in 0u8..16) {
            let (a, b) = (Offloads::from_bits(a), Offloads::from_bits(b));
            for offload in Offload::ALL {
                let (in_a, in_b) = (a.contains(offload), b.contains(offload));
                prop_assert_eq!(a.union(b).contains(offload), in_a || in_b);
                prop_assert_eq!(a.intersection(b).contains(offload), in_a && in_b);
                prop_assert_eq!(a.minus(b).contains(offload), in_a && !in_b);
            }
            prop_assert_eq!(a.iter().collect::<Offloads>(), a);
        }
    }

    #[test]
    fn the_names_are_those_of_the_documentation() {
        assert_eq!(Offloads::ALL.to_string(), "tun-tso,tun-gro,udp-gso,udp-gro");
        assert_eq!(
            serde_json::to_string(&Offloads::ALL).unwrap(),
            r#"["tun-tso","tun-gro","udp-gso","udp-gro"]"#
        );
        assert_eq!("".parse::<Offloads>().unwrap(), Offloads::NONE);
        assert_eq!(" udp-gro , tun-tso ".parse::<Offloads>().unwrap().to_string(), "tun-tso,udp-gro");
    }

    #[test]
    fn a_misspelt_name_is_refused_with_all_names() {
        for wrong in ["gso", "UDP-GSO", "udp-gso,", "udp-gso udp-gro", "all"] {
            let why = wrong.parse::<Offloads>().unwrap_err().to_string();
            assert!(why.contains("tun-tso,tun-gro,udp-gso,udp-gro"), "{why}");
        }
        for wrong in [r#"["gso"]"#, r#"["udp-gso","udp-gso"]"#, r#""udp-gso""#, "[4]", "null"] {
            assert!(serde_json::from_str::<Offloads>(wrong).is_err(), "{wrong}");
        }
        let why = serde_json::from_str::<Offloads>(r#"["gso"]"#).unwrap_err().to_string();
        assert!(Offload::ALL.iter().all(|offload| why.contains(offload.as_str())), "{why}");
    }

    #[test]
    fn an_offload_of_a_newer_program_is_passed_over_on_the_wire() {
        let cbor = minicbor::to_vec(0b1001_0100_u8).unwrap();
        assert_eq!(decode::<Offloads>(&cbor).unwrap(), Offloads::NONE.with(Offload::UdpGso));
    }
}
