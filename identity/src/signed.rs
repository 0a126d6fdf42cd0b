//! Detached signatures over exact bytes, each under its own context.
//!
//! A signature for one purpose is never one for another, and a threshold counts distinct keys: signing twice
//! is signing once. The payload comes out only through [`Signed::verify`]'s judgement of who signed.

use crate::{IdentityKey, IdentityPublicKey, cbor};

/// Context of the trust document.
pub const CONTEXT_TRUST: &str = "bulkhead trust document v1";
/// Context of the policy bundle.
pub const CONTEXT_POLICY: &str = "bulkhead policy bundle v1";
/// Context of the revocation list.
pub const CONTEXT_REVOCATIONS: &str = "bulkhead revocation list v1";
/// Context of a certificate request.
pub const CONTEXT_REQUEST: &str = "bulkhead certificate request v1";
/// Context of a seal over labels.
pub const CONTEXT_SEAL: &str = "bulkhead label seal v1";
/// Context of the request for an issuing CA's certificate.
pub const CONTEXT_ISSUER_REQUEST: &str = "bulkhead issuer request v1";
/// Context of a node's receipt.
pub const CONTEXT_RECEIPT: &str = "bulkhead receipt v1";

/// At most this many signatures on one document.
pub const MAX_SIGNATURES: usize = 32;

/// Largest signed document, signatures included.
pub const MAX_SIGNED_BYTES: usize = 12 * 1024 * 1024;

/// Payload bytes exactly as signed, and up to [`MAX_SIGNATURES`] signatures.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Signed {
    /// The bytes that were signed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Ascending by key, no key twice.
    #[n(1)]
    pub signatures: Vec<Signature>,
}

/// One key's signature.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Signature {
    /// Who claims to have signed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// Ed25519 over `context || 0x00 || payload`.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// Why a signed document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignedError(pub String);

impl Signed {
    /// Signs `payload` with each of `keys`, a key given twice once.
    pub fn sign(context: &str, payload: Vec<u8>, keys: &[&IdentityKey]) -> Self {
        let mut signatures: Vec<Signature> = keys
            .iter()
            .map(|key| Signature { key: *key.public().as_bytes(), signature: key.sign(context, &payload) })
            .collect();
        signatures.sort_by_key(|signature| signature.key);
        signatures.dedup_by_key(|signature| signature.key);
        Self { payload, signatures }
    }

    /// Adds one more signature, in place of an earlier one by this key.
    ///
    /// # Errors
    /// When there would be more than [`MAX_SIGNATURES`].
    pub fn countersign(&mut self, context: &str, key: &IdentityKey) -> Result<(), SignedError> {
        self.insert(Signature { key: *key.public().as_bytes(), signature: key.sign(context, &self.payload) })
    }

    /// Adds the signatures that another copy of the same payload has collected; where both have one by a key, ours
    /// stays.
    ///
    /// # Errors
    /// When the payload is another, or there would be more than [`MAX_SIGNATURES`].
    pub fn merge(&mut self, other: &Self) -> Result<(), SignedError> {
        if self.payload != other.payload {
            return Err(SignedError("the two say different things".to_owned()));
        }
        for theirs in &other.signatures {
            if self.signatures.binary_search_by_key(&theirs.key, |ours| ours.key).is_err() {
                self.insert(theirs.clone())?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, signature: Signature) -> Result<(), SignedError> {
        match self.signatures.binary_search_by_key(&signature.key, |other| other.key) {
            Ok(at) => self.signatures[at] = signature,
            Err(_) if self.signatures.len() >= MAX_SIGNATURES => {
                return Err(SignedError("more signatures than MAX_SIGNATURES".to_owned()));
            }
            Err(at) => self.signatures.insert(at, signature),
        }
        Ok(())
    }

    /// The keys whose signature over the payload is right, in ascending order. Whether they may sign is another
    /// question: [`Self::verify`] answers both.
    pub fn signers(&self, context: &str) -> Vec<IdentityPublicKey> {
        let right = |Signature { key, signature }: &Signature| {
            let key = IdentityPublicKey::parse(key).ok()?;
            key.verify(context, &self.payload, signature).then_some(key)
        };
        self.signatures.iter().filter_map(right).collect()
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads what [`Self::encode`] wrote; no signature is checked yet.
    ///
    /// # Errors
    /// When it is too large, malformed, has trailing bytes, or its signatures are too many or out of order.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignedError> {
        if bytes.len() > MAX_SIGNED_BYTES {
            return Err(SignedError(format!("{} bytes exceed MAX_SIGNED_BYTES", bytes.len())));
        }
        let signed: Self = cbor::decode(bytes).map_err(SignedError)?;
        if signed.signatures.len() > MAX_SIGNATURES {
            return Err(SignedError("more signatures than MAX_SIGNATURES".to_owned()));
        }
        if !signed.signatures.is_sorted_by(|a, b| a.key < b.key) {
            return Err(SignedError("signatures are not in ascending order of distinct keys".to_owned()));
        }
        Ok(signed)
    }

    /// The payload, if at least `threshold` distinct keys of `allowed` signed it. A threshold of 0 is refused.
    ///
    /// Signatures by other keys are passed over, so that old and new operators can sign one document; one
    /// that claims an allowed key and does not check spoils the document.
    ///
    /// # Errors
    /// When too few signed, or a signature is wrong.
    pub fn verify(
        &self,
        context: &str,
        allowed: &[IdentityPublicKey],
        threshold: usize,
    ) -> Result<&[u8], SignedError> {
        if threshold == 0 {
            return Err(SignedError("a threshold of 0 signatures admits everything".to_owned()));
        }
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(SignedError("more signatures than MAX_SIGNATURES".to_owned()));
        }
        // `Signed` can also be built field by field: count distinct keys here too.
        let mut signers: Vec<&IdentityPublicKey> = Vec::new();
        for Signature { key, signature } in &self.signatures {
            let Some(signer) = allowed.iter().find(|allowed| allowed.as_bytes() == key) else { continue };
            if !signer.verify(context, &self.payload, signature) {
                return Err(SignedError(format!("signature by {signer} is wrong")));
            }
            if !signers.contains(&signer) {
                signers.push(signer);
            }
        }
        if signers.len() < threshold {
            return Err(SignedError(format!("signed by {} of {threshold} required keys", signers.len())));
        }
        Ok(&self.payload)
    }
}
