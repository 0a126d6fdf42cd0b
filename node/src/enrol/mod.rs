//! Joining: from a join token to a certificate in the state directory.
//!
//! Property: nothing secret is sent before the coordinator was verified under the trust document that the token
//! pins, and what comes back is verified as this node's own before it is kept. The private keys never leave.
//!
//! The conversation is in `bulkhead_protocol::enrol`; here are the steps and their checks. Keys are made afresh for
//! every attempt, because the coordinator refuses keys that it has seen.

pub(crate) mod https;
pub(crate) mod trust;

use crate::clock::Clock;
use crate::enrol::https::{Https, HttpsError};
use crate::state::dir::DirError;
use crate::state::held::{CertificateError, Held};
use crate::state::{Keys, Store};
use crate::tls::{self, TlsError};
use bulkhead_identity::trust::TrustError;
use bulkhead_identity::{CertificateRequest, Chain, Challenge, ChallengeKey, NodeName, Timestamp, Trust};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::enrol::{ApiError, BeginRequest, BeginResponse, FinishRequest, FinishResponse};
use bulkhead_protocol::token::{Token, TokenKind};
use std::path::Path;
use std::sync::Arc;

const PATH_BEGIN: &str = "/enrol/v1/begin";
const PATH_FINISH: &str = "/enrol/v1/finish";
/// More control addresses than this in an answer are cut.
const MAX_CONTROL_ADDRESSES: usize = 16;

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolled {
    /// The name that the coordinator gave.
    pub(crate) name: NodeName,
}

/// Why this node is not enrolled. Nothing of the attempt is in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// There is a certificate already.
    #[error("this node is enrolled already; to enrol it anew, run: bulkhead leave")]
    AlreadyEnrolled,
    /// An administrator's token.
    #[error("this is not a join token; make one with: bulkheadctl token create")]
    NotAJoinToken,
    /// The state directory.
    #[error(transparent)]
    State(#[from] DirError),
    /// No randomness.
    #[error("the kernel gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// No runtime or TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The runtime could not be started.
    #[error("cannot start the network runtime")]
    Runtime(#[source] std::io::Error),
    /// No coordinator of the token could be asked.
    #[error("no coordinator could be reached: {0}")]
    Unreachable(String),
    /// What answered is not the coordinator that the token names, or the one that was known.
    #[error("{0} does not serve the trust document that was asked for: {1}")]
    WrongTrust(String, TrustError),
    /// The coordinator said no.
    #[error("the coordinator refused: {}{}", .0.message, .0.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    Refused(ApiError),
    /// The conversation broke off, or was not understood.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The coordinator answered out of form.
    #[error("the coordinator sent {0} that does not fit the protocol")]
    Malformed(&'static str),
    /// The certificate that came back is not ours, or not valid.
    #[error("the coordinator sent a certificate that is refused")]
    Certificate(#[from] CertificateError),
}

/// Enrols this host and saves the result. Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`EnrolError`].
pub(crate) fn enrol(state: &Path, token: &Token, name: Option<&NodeName>) -> Result<Enrolled, EnrolError> {
    match token.kind {
        TokenKind::Join => {}
        TokenKind::Admin | TokenKind::ApiKey => return Err(EnrolError::NotAJoinToken),
    }
    let store = Store::open(state)?;
    let _lock = store.lock()?;
    if store.is_enrolled()? {
        return Err(EnrolError::AlreadyEnrolled);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EnrolError::Runtime)?;
    runtime.block_on(converse(&store, token, name))
}

async fn converse(store: &Store, token: &Token, name: Option<&NodeName>) -> Result<Enrolled, EnrolError> {
    let wall = Clock::new(Timestamp(0)).now().wall;
    let keys = Keys::generate().map_err(EnrolError::Randomness)?;
    let (coordinator, trust) = fetch_trust(token, wall).await?;
    let trust = Arc::new(trust);
    let mut https = Https::connect(&coordinator, tls::anonymous(Arc::clone(&trust), wall)?, &trust).await?;

    let begin: BeginResponse =
        call(&mut https, PATH_BEGIN, &BeginRequest { protocol: PROTOCOL_VERSION }).await?;
    let challenge = Challenge(begin.challenge.try_into().map_err(|_| EnrolError::Malformed("a challenge"))?);
    let challenge_key =
        ChallengeKey(begin.challenge_key.try_into().map_err(|_| EnrolError::Malformed("a challenge key"))?);
    let request = CertificateRequest::create(&keys.identity, &keys.tunnel, &challenge, &challenge_key);
    let finish = FinishRequest {
        enrolment: begin.enrolment,
        request: minicbor::to_vec(&request).expect("writing to memory does not fail"),
        secret: token.secret.to_vec(),
        name: name.map(|name| name.as_str().to_owned()),
    };
    let answer: FinishResponse = call(&mut https, PATH_FINISH, &finish).await?;

    let chain: Chain =
        minicbor::decode(&answer.chain).map_err(|_| EnrolError::Malformed("a certificate chain"))?;
    let me = keys.public().verify_mine(&chain, &trust, wall)?;
    let mut control = answer.control;
    control.truncate(MAX_CONTROL_ADDRESSES);
    if control.is_empty() {
        return Err(EnrolError::Malformed("no control address"));
    }
    let name = me.name().clone();
    let held = Held::enrolled(Arc::unwrap_or_clone(trust), me);
    store.save_enrolment(&keys, &held, &control)?;
    Ok(Enrolled { name })
}

/// Asks the token's coordinators in turn. One that serves another trust document is an impostor, or the token is
/// for another deployment: either way the next one may still be right.
async fn fetch_trust(token: &Token, wall: Timestamp) -> Result<(String, Trust), EnrolError> {
    let mut last = EnrolError::Unreachable("the token names none".into());
    for address in &token.coordinators {
        match trust::pinned(address, token.trust, wall).await {
            Ok(trust) => return Ok((address.clone(), trust)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn call<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    https: &mut Https,
    path: &'static str,
    body: &Q,
) -> Result<A, EnrolError> {
    match https.post(path, body).await? {
        Ok(answer) => Ok(answer),
        Err(refusal) => Err(EnrolError::Refused(refusal)),
    }
}
