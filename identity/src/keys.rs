//! The two key pairs of a node. Private halves are zeroized on drop, never `Debug`, never cloned.
//!
//! Every public key has exactly one encoding and is of full order: whoever parsed one may compare, revoke
//! and agree on secrets by its bytes. A public key that two byte strings could name, or that makes every
//! shared secret the same, is refused (A8).

use crate::cbor::fixed_bytes;
use ed25519_dalek::{Signer, VerifyingKey};
use std::fmt;
use zeroize::Zeroizing;

/// Everything in an Ed25519 PKCS#8 v1 file before the seed (RFC 8410, section 7 and 10.3).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Ed25519 private key: signs certificate requests, receipts, TLS handshakes.
///
/// Its three uses cannot be mistaken for one another: our own signatures begin with a printable context
/// ([`crate::signed`]), certificates with a DER sequence (0x30 0x8x), TLS 1.3 with 64 spaces (RFC 8446,
/// section 4.4.3).
pub struct IdentityKey(ed25519_dalek::SigningKey);

/// Ed25519 public key, 32 bytes: canonical, not of low order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityPublicKey([u8; 32]);

/// X25519 private key of the WireGuard tunnels.
pub struct TunnelKey(x25519_dalek::StaticSecret);

/// X25519 public key, 32 bytes: canonical, not of low order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelPublicKey([u8; 32]);

/// SHA-256 of an identity public key, shown as base32 groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a key was refused. Never repeats the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub &'static str);

impl IdentityKey {
    /// The key of a 32-byte seed (RFC 8032, section 5.1.5), which the caller drew at random.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// PKCS#8 v1 DER, what rustls wants.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        // Full capacity at once: growing would leave an unwiped copy behind.
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + 32));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.0.as_bytes());
        der
    }

    /// Reads what [`Self::to_pkcs8`] writes.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let seed = der
            .strip_prefix(&PKCS8_PREFIX)
            .and_then(|seed| <[u8; 32]>::try_from(seed).ok())
            .ok_or(KeyError("private key is not an Ed25519 key in PKCS#8 version 1"))?;
        Ok(Self::from_seed(Zeroizing::new(seed)))
    }

    /// The public half.
    pub fn public(&self) -> IdentityPublicKey {
        IdentityPublicKey(self.0.verifying_key().to_bytes())
    }

    /// The public half's bytes, borrowed.
    pub(crate) fn public_bytes(&self) -> &[u8; 32] {
        AsRef::<VerifyingKey>::as_ref(&self.0).as_bytes()
    }

    /// Signs `context || 0x00 || message`; contexts are the constants of [`crate::signed`].
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; 64] {
        self.0.sign(&in_context(context, message)).to_bytes()
    }

    /// Signs the to-be-signed part of a certificate, which has no context: X.509 defines the bytes.
    pub(crate) fn sign_certificate(&self, tbs: &[u8]) -> [u8; 64] {
        self.0.sign(tbs).to_bytes()
    }
}

impl IdentityPublicKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// When they are not the one encoding of a point of full order.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes =
            <[u8; 32]>::try_from(bytes).map_err(|_| KeyError("identity public key is not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| KeyError("identity public key is not a point of the curve"))?;
        if key.is_weak() {
            return Err(KeyError("identity public key is of low order"));
        }
        // A second encoding would slip past revocation, which compares bytes.
        if key.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError("identity public key is not in canonical form"));
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` is this key's over `context || 0x00 || message`, by the strict rules that admit
    /// no second signature made from the first (RFC 8032, section 8.4).
    #[must_use]
    pub fn verify(&self, context: &str, message: &[u8], signature: &[u8]) -> bool {
        self.verify_bytes(&in_context(context, message), signature)
    }

    /// Whether this key signed the to-be-signed part of a certificate.
    pub(crate) fn verify_certificate(&self, tbs: &[u8], signature: &[u8]) -> bool {
        self.verify_bytes(tbs, signature)
    }

    fn verify_bytes(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) =
            (VerifyingKey::from_bytes(&self.0), ed25519_dalek::Signature::from_slice(signature))
        else {
            return false;
        };
        key.verify_strict(bytes, &signature).is_ok()
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(sha256(&self.0))
    }
}

impl TunnelKey {
    /// The key of 32 bytes, which the caller drew at random.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(x25519_dalek::StaticSecret::from(*bytes))
    }

    /// The 32 bytes, for the key's file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> TunnelPublicKey {
        TunnelPublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// As the WireGuard library takes it.
    pub fn secret(&self) -> &x25519_dalek::StaticSecret {
        &self.0
    }

    /// The secret shared with `other`; all zero only if `other` is of low order.
    pub(crate) fn agree(&self, other: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(*other));
        Zeroizing::new(shared.to_bytes())
    }
}

impl TunnelPublicKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// When they are of low order (A8), or not the one encoding of their point: X25519 ignores the top bit
    /// and reduces the rest (RFC 7748, section 5), so two nodes could register one key under two spellings.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| KeyError("tunnel public key is not 32 bytes"))?;
        if !is_reduced(&bytes) {
            return Err(KeyError("tunnel public key is not in canonical form"));
        }
        if LOW_ORDER.contains(&bytes) {
            return Err(KeyError("tunnel public key is of low order"));
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Below 2^255 - 19, little endian.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    *last < 0x7f || *last == 0x7f && (middle.iter().any(|b| *b != 0xff) || *first < 0xed)
}

/// The points of order 1, 2, 4 and 8 on the curve and its twist, reduced: 0, 1, -1 and the two of order 8
/// (<https://cr.yp.to/ecdh.html#validate>).
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

fn in_context(context: &str, message: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(context.len() + 1 + message.len()));
    bytes.extend_from_slice(context.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

/// Thirteen groups of four, for example `MFRG-GZDF-…`: short enough to read out, all of the hash.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = data_encoding::BASE32_NOPAD.encode(&self.0);
        let mut rest = text.as_str();
        while let Some((group, tail)) = rest.split_at_checked(4) {
            f.write_str(group)?;
            if !tail.is_empty() {
                f.write_str("-")?;
            }
            rest = tail;
        }
        f.write_str(rest)
    }
}

impl Fingerprint {
    fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(Self).map_err(|_| KeyError("fingerprint is not 32 bytes"))
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for IdentityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Base64, as WireGuard's own tools show keys.
impl fmt::Display for TunnelPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::BASE64.encode(&self.0))
    }
}

fixed_bytes!(IdentityPublicKey, IdentityPublicKey::parse);
fixed_bytes!(TunnelPublicKey, TunnelPublicKey::parse);
fixed_bytes!(Fingerprint, Fingerprint::parse);
