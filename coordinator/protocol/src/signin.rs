//! Signing in at the company's provider: JSON bodies. What RFC 8628 calls the device authorization grant, with the
//! coordinator as the authorization server: a machine asks, a person confirms on a page, the machine polls.
//!
//! - `POST /enrol/v1/signin`: [`EnrolSignIn`] to [`DeviceAuthorization`], for a machine that is to be a node
//! - `POST /api/v1/signin`: [`LoginSignIn`] to [`DeviceAuthorization`], for an administrator
//! - `POST /enrol/v1/signin/poll` and `POST /api/v1/signin/poll`: [`Poll`] to [`PollState`]
//! - `POST /enrol/v1/workload`: [`WorkloadEnrolment`] to [`crate::enrol::FinishResponse`]
//!
//! A request carries keys, proofs and a wish for a name. Labels, owner and lifetime cannot be asked for (D13). What
//! carries a secret has no `Debug`.

use crate::admin::Session;
use crate::enrol::{ApiError, FinishResponse, b64};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest user code as typed by a person, with what is between its letters.
pub const MAX_USER_CODE_BYTES: usize = 32;
/// How long a device code is, in bytes.
pub const DEVICE_CODE_BYTES: usize = 32;
/// Longest text of a [`DeviceAuthorization`] that is shown to people.
pub const MAX_SHOWN_BYTES: usize = 512;
/// How long a sign-in may take, from its user code to its confirmation.
pub const SIGN_IN_WINDOW_SECS: u64 = 600;
/// How long a machine waits between two polls (RFC 8628, section 3.5).
pub const POLL_INTERVAL_SECS: u64 = 5;
/// How long it waits between two polls while an administrator is awaited.
pub const APPROVAL_POLL_INTERVAL_SECS: u64 = 30;
/// Longest token of a workload.
pub const MAX_WORKLOAD_TOKEN_BYTES: usize = 16 * 1024;

/// A machine wants to be the node of whoever confirms it. Begins with [`crate::enrol::BeginRequest`], as every
/// enrolment does.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolSignIn {
    /// From [`crate::enrol::BeginResponse`].
    pub enrolment: String,
    /// Minicbor of a [`bulkhead_identity::CertificateRequest`].
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub request: Vec<u8>,
    /// Wanted name; the coordinator may refuse it. Absent: the name that the node has already.
    pub name: Option<String>,
    /// Sign in on this provider's own page, by its device flow (RFC 8628), where the coordinator's pages are out of
    /// reach. Absent: on the coordinator's, where the person sees which machine it is.
    #[serde(default)]
    pub provider: Option<String>,
}

/// An administrator wants a session.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSignIn {}

/// What to show and what to poll with (RFC 8628, section 3.2).
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeviceAuthorization {
    /// The secret to poll with.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub device_code: Vec<u8>,
    /// What the person types: `XXXX-XXXX`.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: String,
    /// Shown here and on the coordinator's page: whoever sees another there confirms somebody else's machine (RFC 8628,
    /// section 5.4). A provider's own page shows none.
    pub match_code: Option<String>,
    /// When it is over, in seconds.
    pub expires_in: u64,
    /// How long to wait between two polls, in seconds.
    pub interval: u64,
}

impl DeviceAuthorization {
    /// Whether it can be shown to people: short, printable, and a link that a browser opens over TLS.
    #[must_use]
    pub fn is_presentable(&self) -> bool {
        let shown = |text: &str| {
            (1..=MAX_SHOWN_BYTES).contains(&text.len())
                && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        let link = |text: &str| shown(text) && text.starts_with("https://") && !text.contains(' ');
        self.device_code.len() == DEVICE_CODE_BYTES
            && shown(&self.user_code)
            && self.match_code.as_deref().is_none_or(shown)
            && link(&self.verification_uri)
            && link(&self.verification_uri_complete)
    }
}

/// How far is it?
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// From [`DeviceAuthorization`].
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub device_code: Vec<u8>,
}

/// How far a sign-in is. A machine that waits for an administrator keeps its device code on disk, and goes on polling
/// after a reboot.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PollState {
    /// Nobody confirmed it yet.
    Waiting,
    /// Somebody did; now an administrator has to approve it.
    Approval {
        /// Under which name it waits.
        name: String,
    },
    /// The node exists.
    Enrolled(FinishResponse),
    /// The administrator's key. It is told once.
    Session(Session),
    /// It is over.
    Refused(ApiError),
}

/// A workload shows the token that its platform gave it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadEnrolment {
    /// From [`crate::enrol::BeginResponse`].
    pub enrolment: String,
    /// Minicbor of a [`bulkhead_identity::CertificateRequest`].
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub request: Vec<u8>,
    /// A signed JSON Web Token, at most [`MAX_WORKLOAD_TOKEN_BYTES`].
    pub token: String,
    /// Wanted name; the coordinator may refuse it.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn authorization() -> DeviceAuthorization {
        DeviceAuthorization {
            device_code: vec![9; DEVICE_CODE_BYTES],
            user_code: "WDJB-MJHT".into(),
            verification_uri: "https://bulkhead.acme.example/device".into(),
            verification_uri_complete: "https://bulkhead.acme.example/device?code=WDJB-MJHT".into(),
            match_code: Some("42 17".into()),
            expires_in: 600,
            interval: 5,
        }
    }

    #[test]
    fn what_is_shown_is_short_and_printable_and_leads_to_tls() {
        assert!(authorization().is_presentable());
        for wrong in [
            DeviceAuthorization { device_code: vec![9; 31], ..authorization() },
            DeviceAuthorization { user_code: String::new(), ..authorization() },
            DeviceAuthorization { match_code: Some("42\u{1b}[2J".into()), ..authorization() },
            DeviceAuthorization { verification_uri: "http://a/".into(), ..authorization() },
            DeviceAuthorization { verification_uri: "https://a/ https://b/".into(), ..authorization() },
            DeviceAuthorization { verification_uri_complete: "javascript:1".into(), ..authorization() },
            DeviceAuthorization {
                verification_uri: format!("https://{}", "a".repeat(600)),
                ..authorization()
            },
        ] {
            assert!(!wrong.is_presentable());
        }
    }

    #[test]
    fn every_state_survives_json_under_its_tag() {
        let enrolled = FinishResponse { name: "web".to_owned(), chain: vec![1, 2], control: Vec::new() };
        let refused =
            ApiError { code: "C".to_owned(), message: "no".to_owned(), help: None, diagnostics: None };
        let states = [
            ("waiting", PollState::Waiting),
            ("approval", PollState::Approval { name: "web".to_owned() }),
            ("enrolled", PollState::Enrolled(enrolled)),
            ("refused", PollState::Refused(refused)),
        ];
        for (tag, state) in states {
            let text = serde_json::to_string(&state).unwrap();
            assert!(text.contains(&format!("\"state\":\"{tag}\"")), "{text}");
            let read: PollState = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn a_sign_in_cannot_ask_for_labels_or_an_owner() {
        for field in ["labels", "owner", "lifetime", "approval"] {
            let body = format!(r#"{{"enrolment":"e","request":"","name":null,"{field}":"x"}}"#);
            assert!(serde_json::from_str::<EnrolSignIn>(&body).is_err(), "{field}");
        }
        assert!(serde_json::from_str::<LoginSignIn>(r#"{"role":"admin"}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_or_refused(body: Vec<u8>) {
            let _ = serde_json::from_slice::<EnrolSignIn>(&body);
            let _ = serde_json::from_slice::<Poll>(&body);
            let _ = serde_json::from_slice::<WorkloadEnrolment>(&body);
        }
    }
}
