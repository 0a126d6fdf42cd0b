//! Enrolment over HTTPS: JSON bodies, binary fields in base64url without padding.
//!
//! - `GET  /enrol/v1/trust`: raw bytes of the signed trust document (`application/octet-stream`)
//! - `POST /enrol/v1/begin`: [`BeginRequest`] to [`BeginResponse`]
//! - `POST /enrol/v1/finish`: [`FinishRequest`] to [`FinishResponse`]
//!
//! The request carries keys, proofs and a wish for a name; no other field of the certificate can be asked for
//! (D13). What carries a secret has no `Debug`.

use serde::{Deserialize, Serialize};

/// How long a challenge can be answered.
pub const ENROLMENT_WINDOW_SECS: u64 = 60;
/// Largest body of an enrolment request.
pub const MAX_ENROL_BODY_BYTES: usize = 16 * 1024;
/// Largest trust document that a joining node reads.
pub const MAX_TRUST_BYTES: usize = 1024 * 1024;

/// Asks for a challenge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginRequest {
    /// [`crate::PROTOCOL_VERSION`] of the node.
    pub protocol: u32,
}

/// A challenge. It ends after [`ENROLMENT_WINDOW_SECS`] or one `finish`, whichever is first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BeginResponse {
    /// Names this conversation.
    pub enrolment: String,
    /// 32 bytes to be signed.
    #[serde(with = "b64")]
    pub challenge: Vec<u8>,
    /// X25519 public key for the proof of the tunnel key, 32 bytes.
    #[serde(with = "b64")]
    pub challenge_key: Vec<u8>,
}

/// The proofs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// From [`BeginResponse`].
    pub enrolment: String,
    /// Minicbor of a [`bulkhead_identity::CertificateRequest`].
    #[serde(with = "b64")]
    pub request: Vec<u8>,
    /// The join token's secret.
    #[serde(with = "b64")]
    pub secret: Vec<u8>,
    /// Wanted name; the coordinator may refuse it.
    pub name: Option<String>,
}

/// The node exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FinishResponse {
    /// Its name.
    pub name: String,
    /// Minicbor of a [`bulkhead_identity::Chain`].
    #[serde(with = "b64")]
    pub chain: Vec<u8>,
    /// `host:port` of the QUIC control links.
    pub control: Vec<String>,
}

/// Body of every error of every HTTP endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ApiError {
    /// Stable.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// What is wrong with a policy text, when that is what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
