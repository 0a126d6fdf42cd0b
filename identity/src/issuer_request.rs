//! The request for an issuing CA's certificate: how the coordinator's key comes under a root whose key it never sees.
//!
//! Signed by the very key that it is for, so that nobody asks for another's. What the certificate will be limited
//! to stands in it, for the holder of the root to read before signing.

use crate::issue::{IssueError, IssuerLimits};
use crate::range::{Range4, Range6};
use crate::signed::{CONTEXT_ISSUER_REQUEST, Signed};
use crate::{IdentityKey, IdentityPublicKey, LabelKey, TrustDomain, cbor};

/// Largest request.
pub const MAX_ISSUER_REQUEST_BYTES: usize = 32 * 1024;

/// Format of the request. A reader refuses any other.
const FORMAT: u8 = 1;

/// Asks for the certificate of an issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRequest {
    /// The issuer's key.
    pub key: IdentityPublicKey,
    /// What it is to be limited to.
    pub limits: IssuerLimits,
}

/// [`IssuerRequest`] on the wire.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Wire {
    #[n(0)]
    format: u8,
    #[n(1)]
    key: IdentityPublicKey,
    #[n(2)]
    trust_domain: TrustDomain,
    #[n(3)]
    label_keys: Option<Vec<LabelKey>>,
    #[n(4)]
    v6: Range6,
    #[n(5)]
    v4: Range4,
}

impl IssuerRequest {
    /// A request for `key`, signed by it.
    pub fn create(key: &IdentityKey, limits: &IssuerLimits) -> Vec<u8> {
        let IssuerLimits { trust_domain, label_keys, v6, v4 } = limits.clone();
        let wire = Wire { format: FORMAT, key: key.public(), trust_domain, label_keys, v6, v4 };
        Signed::sign(CONTEXT_ISSUER_REQUEST, cbor::encode(&wire), &[key]).encode()
    }

    /// Reads a request, and checks that its own key signed it.
    ///
    /// # Errors
    /// When it is malformed, beyond a limit, or not signed so.
    pub fn read(bytes: &[u8]) -> Result<Self, IssueError> {
        let refused = |why: String| IssueError(format!("the request: {why}"));
        if bytes.len() > MAX_ISSUER_REQUEST_BYTES {
            return Err(refused("larger than MAX_ISSUER_REQUEST_BYTES".to_owned()));
        }
        let signed = Signed::decode(bytes).map_err(|error| refused(error.to_string()))?;
        let wire: Wire = cbor::decode(&signed.payload).map_err(refused)?;
        if wire.format != FORMAT {
            return Err(refused("format is unknown".to_owned()));
        }
        let by_itself = signed.verify(CONTEXT_ISSUER_REQUEST, &[wire.key], 1);
        by_itself.map_err(|error| refused(error.to_string()))?;
        let Wire { format: _, key, trust_domain, label_keys, v6, v4 } = wire;
        let limits = IssuerLimits { trust_domain, label_keys, v6, v4 };
        limits.check_form().map_err(refused)?;
        Ok(Self { key, limits })
    }
}
