//! Joining: from a join token, a person's word or a platform's word to a certificate in the state directory.
//!
//! Property: nothing secret is sent before the coordinator was verified under the trust document that is pinned, and
//! what comes back is verified as this node's own before it is kept. The private keys never leave.
//!
//! The conversation is in `bulkhead_protocol::enrol` and `bulkhead_protocol::signin`; here are the steps and their
//! checks. Keys are made afresh for every attempt, because the coordinator refuses keys that it has seen.

pub(crate) mod entry;
pub(crate) mod https;
pub(crate) mod signin;
pub(crate) mod trust;
pub(crate) mod workload;

use crate::clock::Clock;
use crate::enrol::entry::{Entry, Reached};
use crate::enrol::https::HttpsError;
use crate::state::dir::DirError;
use crate::state::held::{CertificateError, Held};
use crate::state::{Keys, LoadError, Store};
use crate::tls::TlsError;
use bulkhead_identity::trust::TrustError;
use bulkhead_identity::{CertificateRequest, Chain, Challenge, ChallengeKey, NodeName, Timestamp};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::enrol::{ApiError, BeginRequest, BeginResponse, FinishRequest, FinishResponse};
use bulkhead_protocol::token::{Token, TokenKind};
use hyper::StatusCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroize as _;

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
    /// Nobody said where the coordinators are and how to know them.
    #[error(
        "first contact needs the coordinator's address and its trust hash: --invitation FILE, or --coordinator HOST:PORT \
         and --trust HASH, or `coordinators` and `trust` in the configuration"
    )]
    NoEntry,
    /// A workload's token cannot be used.
    #[error("cannot use the identity token in {path}: {why}")]
    IdentityToken {
        /// The file.
        path: PathBuf,
        /// Why, without anything of it.
        why: String,
    },
    /// The state directory.
    #[error(transparent)]
    State(#[from] DirError),
    /// What the state directory holds.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No randomness.
    #[error("the kernel gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// No runtime or TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The runtime could not be started.
    #[error("cannot start the network runtime")]
    Runtime(#[source] std::io::Error),
    /// No coordinator could be asked.
    #[error("no coordinator could be reached: {0}")]
    Unreachable(String),
    /// What answered is not the coordinator that is pinned, or the one that was known.
    #[error("{0} does not serve the trust document that was asked for: {1}")]
    WrongTrust(String, TrustError),
    /// The coordinator said no.
    #[error("the coordinator refused: {}", sentence(.0))]
    Refused(ApiError),
    /// The coordinator cannot say at the moment: see [`is_not_now`].
    #[error("the coordinator cannot do that now: {}", sentence(.1))]
    NotNow(StatusCode, ApiError),
    /// The sign-in was refused, and is over.
    #[error("the sign-in was refused: {}", sentence(.0))]
    Ended(ApiError),
    /// The code ended before anybody confirmed it.
    #[error("nobody confirmed the sign-in in time; run: bulkhead up --sso")]
    NobodyConfirmed,
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

/// What is wrong, and what to do about it.
fn sentence(refusal: &ApiError) -> String {
    let ApiError { message, help, .. } = refusal;
    help.as_ref().map_or_else(|| message.clone(), |help| format!("{message}; {help}"))
}

/// Whether a status says nothing about the request: too slow, too many, or the coordinator's own trouble.
fn is_not_now(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) || status.is_server_error()
}

impl EnrolError {
    /// Whether a sign-in that was gone on with came to nothing, so that trying it once more changes nothing.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::NoEntry | Self::Refused(_) | Self::Ended(_) | Self::NobodyConfirmed)
    }
}

/// Enrols this host by a join token and saves the result. Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`EnrolError`].
pub(crate) fn enrol(state: &Path, token: &Token, name: Option<&NodeName>) -> Result<Enrolled, EnrolError> {
    match token.kind {
        TokenKind::Join => {}
        TokenKind::Admin | TokenKind::ApiKey => return Err(EnrolError::NotAJoinToken),
    }
    joining(state, async |store| {
        let mut joining = Joining::begin(&Entry::from(token)).await?;
        let proof = joining.prove().await?;
        let mut finish = FinishRequest {
            enrolment: proof.enrolment,
            request: proof.request,
            secret: token.secret.to_vec(),
            name: name.map(|name| name.as_str().to_owned()),
        };
        let answer: Result<FinishResponse, _> = joining.call(PATH_FINISH, &finish).await;
        finish.secret.zeroize();
        joining.accept(store, answer?)
    })
}

/// Runs `steps` on the locked state directory of a host that has not joined.
fn joining(
    state: &Path,
    steps: impl AsyncFnOnce(&Store) -> Result<Enrolled, EnrolError>,
) -> Result<Enrolled, EnrolError> {
    let store = Store::open(state)?;
    let _lock = store.lock()?;
    if store.is_enrolled()? {
        return Err(EnrolError::AlreadyEnrolled);
    }
    block_on(steps(&store))
}

fn block_on<T>(steps: impl Future<Output = Result<T, EnrolError>>) -> Result<T, EnrolError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EnrolError::Runtime)?;
    runtime.block_on(steps)
}

fn wall() -> Timestamp {
    Clock::new(Timestamp(0)).now().wall
}

/// A conversation with a verified coordinator, about these keys.
struct Joining {
    reached: Reached,
    keys: Arc<Keys>,
}

/// That we hold the keys, said to this challenge.
struct Proof {
    enrolment: String,
    /// Minicbor of a [`CertificateRequest`].
    request: Vec<u8>,
}

impl Joining {
    /// With fresh keys.
    async fn begin(entry: &Entry) -> Result<Self, EnrolError> {
        let keys = Keys::generate().map_err(EnrolError::Randomness)?;
        Ok(Self { reached: entry.reach(wall()).await?, keys: Arc::new(keys) })
    }

    async fn prove(&mut self) -> Result<Proof, EnrolError> {
        let begin: BeginResponse =
            self.call(PATH_BEGIN, &BeginRequest { protocol: PROTOCOL_VERSION }).await?;
        let challenge = begin.challenge.try_into().map_err(|_| EnrolError::Malformed("a challenge"))?;
        let key = begin.challenge_key.try_into().map_err(|_| EnrolError::Malformed("a challenge key"))?;
        let request = CertificateRequest::create(
            &self.keys.identity,
            &self.keys.tunnel,
            &Challenge(challenge),
            &ChallengeKey(key),
        );
        let request = minicbor::to_vec(&request).expect("writing to memory does not fail");
        Ok(Proof { enrolment: begin.enrolment, request })
    }

    async fn call<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &mut self,
        path: &'static str,
        body: &Q,
    ) -> Result<A, EnrolError> {
        match self.reached.https.post(path, body).await? {
            Ok(answer) => Ok(answer),
            Err((status, refusal)) if is_not_now(status) => Err(EnrolError::NotNow(status, refusal)),
            Err((_, refusal)) => Err(EnrolError::Refused(refusal)),
        }
    }

    /// Verifies what came back, and keeps it.
    fn accept(self, store: &Store, answer: FinishResponse) -> Result<Enrolled, EnrolError> {
        let chain: Chain =
            minicbor::decode(&answer.chain).map_err(|_| EnrolError::Malformed("a certificate chain"))?;
        let me = self.keys.public().verify_mine(&chain, &self.reached.trust, wall())?;
        let mut control = answer.control;
        control.truncate(MAX_CONTROL_ADDRESSES);
        if control.is_empty() {
            return Err(EnrolError::Malformed("no control address"));
        }
        let name = me.name().clone();
        let held = Held::enrolled(Arc::unwrap_or_clone(self.reached.trust), me);
        store.save_enrolment(&self.keys, &held, &control)?;
        Ok(Enrolled { name })
    }
}
