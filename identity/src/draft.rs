//! A trust document on its way between operators.
//!
//! A draft is well-formed and believed by nobody: it collects signatures, from hand to hand ([`Draft::countersign`])
//! or side by side ([`Draft::merge`]), until [`Trust::update`](crate::Trust::update) takes its bytes.

use crate::signed::{CONTEXT_TRUST, Signed};
use crate::trust::{TrustError, open};
use crate::{IdentityKey, IdentityPublicKey, TrustDocument};

/// A trust document with the signatures that were collected so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    document: TrustDocument,
    signed: Signed,
}

impl Draft {
    /// A draft that nobody has signed.
    ///
    /// # Errors
    /// When no reader would take the document, whoever signs it.
    pub fn new(document: &TrustDocument) -> Result<Self, TrustError> {
        Self::read(&document.sign(&[]))
    }

    /// Reads a draft, or a finished document; no signature is checked.
    ///
    /// # Errors
    /// When it is malformed or beyond a limit.
    pub fn read(bytes: &[u8]) -> Result<Self, TrustError> {
        let (signed, document) = open(bytes)?;
        Ok(Self { document, signed })
    }

    /// What it says.
    pub fn document(&self) -> &TrustDocument {
        &self.document
    }

    /// Adds the signature of one more operator.
    ///
    /// # Errors
    /// When it has too many already.
    pub fn countersign(&mut self, operator: &IdentityKey) -> Result<(), TrustError> {
        Ok(self.signed.countersign(CONTEXT_TRUST, operator)?)
    }

    /// Adds the signatures of another copy.
    ///
    /// # Errors
    /// When that one says something else, or there are too many.
    pub fn merge(&mut self, other: &Self) -> Result<(), TrustError> {
        Ok(self.signed.merge(&other.signed)?)
    }

    /// Whose signatures are right.
    pub fn signers(&self) -> Vec<IdentityPublicKey> {
        self.signed.signers(CONTEXT_TRUST)
    }

    /// How many more operators of `document` have to sign: of the one in force and of this one itself, for a
    /// successor needs both.
    pub fn missing(&self, document: &TrustDocument) -> usize {
        let signers = self.signers();
        let signed = document.operator_keys.iter().filter(|key| signers.contains(key)).count();
        usize::from(document.operator_threshold).saturating_sub(signed)
    }

    /// The bytes that travel.
    pub fn bytes(&self) -> Vec<u8> {
        self.signed.encode()
    }
}
