//! The certificate profile: a valid X.509-SVID with one extension of our own.
//!
//! What a certificate states is [`Claims`]. [`Certificate::parse`] reads them from a leaf that has exactly
//! the shape we issue, and refuses any other; it says nothing about who signed, which is
//! [`verify`](crate::verify())'s to judge.

use crate::cbor::fixed_bytes;
use crate::{IdentityPublicKey, KeyBinding, Labels, Seal, SpiffeId, Timestamp, TunnelPublicKey, profile};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Most certificates in a chain, the leaf included.
pub const MAX_CHAIN: usize = 4;
/// Largest certificate in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// What a certificate lets its holder be. A node certificate never serves as a coordinator's.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Role {
    /// A workload.
    #[n(0)]
    Node,
    /// A node that stands in front of devices.
    #[n(1)]
    Gateway,
    /// Introduces the others; has no place in the overlay itself.
    #[n(2)]
    Coordinator,
    /// Forwards between nodes that cannot reach each other.
    #[n(3)]
    Relay,
}

impl Role {
    /// As it stands in a SPIFFE ID.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Coordinator => "coordinator",
            Self::Relay => "relay",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Node, Self::Gateway, Self::Coordinator, Self::Relay]
            .into_iter()
            .find(|role| role.as_str() == text)
    }

    /// Whether its holder has a tunnel key and addresses in the overlay.
    pub fn is_in_overlay(self) -> bool {
        match self {
            Self::Node | Self::Gateway | Self::Relay => true,
            Self::Coordinator => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The node's addresses inside the mesh, exact /128 and /32.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
pub struct OverlayAddrs {
    /// Within the deployment's ULA /48.
    #[n(0)]
    pub v6: Ipv6Addr,
    /// Within the deployment's IPv4 range.
    #[n(1)]
    pub v4: Ipv4Addr,
}

/// Everything a leaf certificate states. The coordinator composes every field; a request carries only keys.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, minicbor::Encode, minicbor::Decode,
)]
pub struct Claims {
    /// Who: trust domain, role, name.
    #[n(0)]
    pub id: SpiffeId,
    /// The subject key.
    #[n(1)]
    pub identity_key: IdentityPublicKey,
    /// `None` for coordinators, and only for them.
    #[n(2)]
    pub tunnel_key: Option<TunnelPublicKey>,
    /// `None` for coordinators, and only for them.
    #[n(3)]
    pub addresses: Option<OverlayAddrs>,
    /// What the coordinator vouches for.
    #[n(4)]
    pub labels: Labels,
    /// Sixteen random bytes, top bit cleared by the issuer.
    #[n(5)]
    pub serial: Serial,
    /// First second of validity.
    #[n(6)]
    pub not_before: Timestamp,
    /// First second after validity.
    #[n(7)]
    pub not_after: Timestamp,
    /// The operators' word for those labels whose keys are sealed.
    #[n(8)]
    pub seal: Option<Seal>,
    /// The node's own word for its tunnel key. A seal speaks of the identity key, and tunnels are made with the other.
    #[n(9)]
    pub binding: Option<KeyBinding>,
}

impl Claims {
    /// What every certificate must fulfil, whoever issues it.
    pub(crate) fn check(&self) -> Result<(), ProfileError> {
        let in_overlay = self.id.role.is_in_overlay();
        if self.tunnel_key.is_some() != in_overlay || self.addresses.is_some() != in_overlay {
            let must = if in_overlay { "must" } else { "must not" };
            let role = self.id.role;
            return Err(ProfileError(format!("a {role} {must} have a tunnel key and overlay addresses")));
        }
        if !self.serial.is_valid() {
            return Err(ProfileError("serial is zero or has its top bit set".to_owned()));
        }
        if self.not_before >= self.not_after {
            return Err(ProfileError("validity ends before it begins".to_owned()));
        }
        Ok(())
    }
}

/// A certificate's serial number: 16 bytes, top bit clear, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub [u8; 16]);

impl Serial {
    /// From sixteen random bytes, the top bit cleared; `None` if nothing remains.
    pub fn from_entropy(mut entropy: [u8; 16]) -> Option<Self> {
        entropy[0] &= 0x7f;
        Some(Self(entropy)).filter(Self::is_valid)
    }

    /// From the content of a DER INTEGER, which drops leading zeros.
    pub(crate) fn from_integer(bytes: &[u8]) -> Option<Self> {
        let mut serial = [0; 16];
        let start = serial.len().checked_sub(bytes.len())?;
        serial[start..].copy_from_slice(bytes);
        Some(Self(serial)).filter(Self::is_valid)
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let serial = bytes.try_into().map(Self).map_err(|_| "serial is not 16 bytes")?;
        if serial.is_valid() { Ok(serial) } else { Err("serial is zero or has its top bit set") }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.0[0] < 0x80 && self.0 != [0; 16]
    }
}

/// Lower-case hexadecimal, 32 digits.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

fixed_bytes!(Serial, Serial::parse);

/// A parsed, not yet verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What it states. Believe it only from a [`VerifiedIdentity`](crate::VerifiedIdentity).
    pub claims: Claims,
}

impl Certificate {
    /// Parses one DER leaf; checks the profile, not the signature.
    ///
    /// # Errors
    /// When it is not exactly of the shape that [`Issuer::issue`](crate::Issuer::issue) gives.
    pub fn parse(der: &[u8]) -> Result<Self, ProfileError> {
        profile::read_leaf(der).map(|claims| Self { claims })
    }
}

/// How a certificate differs from the profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate does not fit the profile: {0}")]
pub struct ProfileError(pub String);

/// Leaf first, then intermediates, each DER; at most [`MAX_CHAIN`] of at most [`MAX_CERTIFICATE_BYTES`]. Copies share
/// the bytes: a coordinator has one in the map of every peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(Arc<[Arc<[u8]>]>);

impl Chain {
    /// Takes certificates as a TLS peer presents them.
    ///
    /// # Errors
    /// When there are none, or a limit is exceeded.
    pub fn new(ders: impl IntoIterator<Item: Into<Arc<[u8]>>>) -> Result<Self, ProfileError> {
        let ders: Arc<[Arc<[u8]>]> = ders.into_iter().map(Into::into).collect();
        if ders.is_empty() {
            return Err(ProfileError("chain is empty".to_owned()));
        }
        if ders.len() > MAX_CHAIN {
            return Err(ProfileError("chain is longer than MAX_CHAIN".to_owned()));
        }
        if ders.iter().any(|der| der.len() > MAX_CERTIFICATE_BYTES) {
            return Err(ProfileError("certificate is larger than MAX_CERTIFICATE_BYTES".to_owned()));
        }
        Ok(Self(ders))
    }

    /// The certificate whose key the holder proves.
    pub fn leaf(&self) -> &[u8] {
        // `new` is the only constructor and takes no empty list.
        &self.0[0]
    }

    /// All, leaf first.
    pub fn certificates(&self) -> &[Arc<[u8]>] {
        &self.0
    }

    /// The bytes of its CBOR form, for files and enrolment.
    pub fn encode(&self) -> Vec<u8> {
        crate::cbor::encode(self)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When malformed, with trailing bytes, or beyond a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProfileError> {
        crate::cbor::decode(bytes).map_err(ProfileError)
    }
}

/// Issuers' certificates, each kept once, however many chains end in it.
#[derive(Clone, Debug, Default)]
pub struct Issuers(BTreeSet<Arc<[u8]>>);

impl Issuers {
    /// Learns those of a chain that is kept already.
    pub fn note(&mut self, chain: &Chain) {
        for issuer in &chain.0[1..] {
            if !self.0.contains(issuer) {
                self.0.insert(Arc::clone(issuer));
            }
        }
    }

    /// The same chain; what was noted before is not kept twice.
    #[must_use]
    pub fn share(&mut self, chain: Chain) -> Chain {
        self.note(&chain);
        let (leaf, issuers) = (&chain.0[..1], &chain.0[1..]);
        let known = |issuer| self.0.get(issuer).unwrap_or(issuer);
        Chain(leaf.iter().chain(issuers.iter().map(known)).cloned().collect())
    }
}

impl<C> minicbor::Encode<C> for Chain {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        crate::cbor::byte_strings::encode(&self.0, encoder, context)
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Chain {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let ders = crate::cbor::byte_strings::decode(decoder, context)?;
        Self::new(ders).map_err(minicbor::decode::Error::custom)
    }
}
