//! Enrolment over HTTPS: JSON bodies, binary fields in base64url without padding.
//!
//! - `GET  /enrol/v1/trust/{hash}`: [`TrustPath`], in CBOR (`application/cbor`), from the trust document with this
//!   hash (64 hexadecimal digits) to those that followed
//! - `POST /enrol/v1/begin`: [`BeginRequest`] to [`BeginResponse`]
//! - `POST /enrol/v1/finish`: [`FinishRequest`] to [`FinishResponse`]
//!
//! The request carries keys, proofs and a wish for a name; no other field of the certificate can be asked for
//! (D13). What carries a secret has no `Debug`.

use bulkhead_identity::TrustHash;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a challenge can be answered.
pub const ENROLMENT_WINDOW_SECS: u64 = 60;
/// Largest body of an enrolment request.
pub const MAX_ENROL_BODY_BYTES: usize = 16 * 1024;
/// Largest [`TrustPath`] in bytes; a trust document fits into it more than twice.
pub const MAX_TRUST_PATH_BYTES: usize = 1024 * 1024;

/// A trust document that the asker knows by its hash, and the ones that followed, each signed by the operators of the
/// one before: whoever believes the first can check the rest. As many as fit; ask again with the hash of the last.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct TrustPath(#[n(0)] Vec<ByteVec>);

impl TrustPath {
    /// From the document with this hash to those that followed; `None` when `documents`, oldest first and each with
    /// its hash, have no such.
    #[must_use]
    pub fn from<'a>(
        documents: impl IntoIterator<Item = (TrustHash, &'a [u8])>,
        hash: TrustHash,
    ) -> Option<Self> {
        let mut bytes = 0;
        let wanted =
            documents.into_iter().skip_while(|(known, _)| *known != hash).map(|(_, document)| document);
        let fitting = wanted.take_while(|document| {
            // Its own length, and the array around it, take a few bytes each.
            bytes += document.len() + 16;
            bytes <= MAX_TRUST_PATH_BYTES
        });
        let path: Vec<_> = fitting.map(|document| document.to_vec().into()).collect();
        (!path.is_empty()).then_some(Self(path))
    }

    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to a vector does not fail")
    }

    /// Reads what [`Self::encode`] wrote; nothing in it is verified.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        minicbor::decode(bytes)
    }

    /// The documents, oldest first.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|document| document.as_slice())
    }
}

/// Asks for a challenge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginRequest {
    /// [`crate::PROTOCOL_VERSION`] of the node.
    pub protocol: u32,
}

/// A challenge. It ends after [`ENROLMENT_WINDOW_SECS`] or one `finish`, whichever is first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BeginResponse {
    /// Names this conversation.
    pub enrolment: String,
    /// 32 bytes to be signed.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub challenge: Vec<u8>,
    /// X25519 public key for the proof of the tunnel key, 32 bytes.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub challenge_key: Vec<u8>,
}

/// The proofs.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// From [`BeginResponse`].
    pub enrolment: String,
    /// Minicbor of a [`bulkhead_identity::CertificateRequest`].
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub request: Vec<u8>,
    /// The join token's secret.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub secret: Vec<u8>,
    /// Wanted name; the coordinator may refuse it.
    pub name: Option<String>,
}

/// The node exists.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FinishResponse {
    /// Its name.
    pub name: String,
    /// Minicbor of a [`bulkhead_identity::Chain`].
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub chain: Vec<u8>,
    /// `host:port` of the QUIC control links.
    pub control: Vec<String>,
}

/// Body of every error of every HTTP endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct ApiError {
    /// Stable.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// What is wrong with a policy text, when that is what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<crate::schema::Diagnostic>>")]
    pub diagnostics: Option<Vec<bulkhead_acl::Diagnostic>>,
}

/// Bytes as base64url without padding, for serde's `with`. Its errors never quote the text.
pub mod b64 {
    use data_encoding::BASE64URL_NOPAD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(bytes))
    }

    /// Reads bytes from text.
    ///
    /// # Errors
    /// When the text is not base64url without padding.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = |_| D::Error::custom("not base64url without padding");
        BASE64URL_NOPAD.decode(text.as_bytes()).map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_survive_json(challenge: Vec<u8>) {
            let sent = BeginResponse { enrolment: "e".to_owned(), challenge: challenge.clone(), challenge_key: Vec::new() };
            let read: BeginResponse = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
            prop_assert_eq!(read.challenge, challenge);
        }

        #[test]
        fn any_body_is_decoded_or_refused(body: Vec<u8>) {
            let _ = serde_json::from_slice::<FinishRequest>(&body);
        }
    }

    #[test]
    fn a_request_cannot_ask_for_labels() {
        let body = r#"{"enrolment":"e","request":"","secret":"","name":null,"labels":{"env":"prod"}}"#;
        assert!(serde_json::from_str::<FinishRequest>(body).is_err());
    }

    #[test]
    fn an_error_does_not_quote_a_secret() {
        let body = r#"{"enrolment":"e","request":"","secret":"hunter2=!","name":null}"#;
        let error = serde_json::from_str::<FinishRequest>(body).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
