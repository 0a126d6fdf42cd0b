//! Joining by a person's word: the coordinator gives a code, a person confirms it in a browser, and this host asks how
//! far it is (RFC 8628, with the coordinator as authorization server).
//!
//! Property: the keys that were shown to the person are the keys of the node, and what is to go on after a reboot is on
//! disk, 0600, before anybody can have confirmed it. The device code goes to a verified coordinator only.

use crate::control::backoff::Backoff;
use crate::enrol::entry::Entry;
use crate::enrol::https::HttpsError;
use crate::enrol::{EnrolError, Enrolled, Joining, is_not_now, wall};
use crate::state::held::Held;
use crate::state::signin::{KeptSignIn, Wish};
use crate::state::{Keys, LoadError, Store};
use bulkhead_identity::{Chain, Fingerprint, NodeName, Timestamp, Trust};
use bulkhead_protocol::enrol::{ApiError, FinishResponse};
use bulkhead_protocol::signin::{
    APPROVAL_POLL_INTERVAL_SECS, DeviceAuthorization, EnrolSignIn, Poll, PollState, SIGN_IN_WINDOW_SECS,
};
use hyper::StatusCode;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroize as _;

const PATH_SIGN_IN: &str = "/enrol/v1/signin";
const PATH_POLL: &str = "/enrol/v1/signin/poll";
/// RFC 8628, section 3.5: after `slow_down` every pause is this much longer.
const SLOWER: Duration = Duration::from_secs(5);
/// No coordinator makes us ask more or less often than this.
const PAUSES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// The coordinator knows no such code, for example because it was started anew.
const NOT_KNOWN: &str = "BH-C202";
/// A connection that is idle for longer is made anew: coordinators, and what is in between, close them after a while, and
/// who asks on one that is closed has to ask again.
const LONGEST_IDLE: Duration = Duration::from_secs(10);
/// What no machine is answered.
const ANOTHER_SESSION: &str = "an administrator's session";
/// How often we begin again by ourselves.
const MAX_BEGINNINGS: usize = 3;

/// What happens on the way, for whoever waits.
pub(crate) enum Progress<'a> {
    /// Somebody is to confirm this.
    Code {
        /// What to show.
        code: &'a DeviceAuthorization,
        /// How long it is still good for.
        left: Duration,
        /// Of the keys that the page must name.
        fingerprint: Fingerprint,
    },
    /// Nobody did yet.
    Waiting {
        /// How long the code is still good for.
        left: Duration,
    },
    /// Somebody did, and an administrator is to approve it.
    Approval {
        /// Under which name it waits.
        name: &'a str,
        /// Of the keys that the administrator is to see.
        fingerprint: Fingerprint,
    },
    /// The coordinator does not answer; we go on asking.
    Unreachable(&'a EnrolError),
    /// It answers again.
    Reachable,
    /// It has forgotten the code: there is another one.
    Forgotten,
}

/// Tells whoever waits.
pub(crate) type Report<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Enrols this host, or goes on with a sign-in that was begun before; without `entry` there is only the latter, and without
/// `wish` whatever was wished for then. Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`EnrolError`]. Only the coordinator's word ends a sign-in: until then it is kept, and goes on the next time.
pub(crate) fn enrol(
    state: &Path,
    entry: Option<Entry>,
    wish: Option<&Wish>,
    report: Report<'_>,
) -> Result<Enrolled, EnrolError> {
    super::joining(state, async |store| {
        let kept = match Waiting::kept(store, entry.as_ref())? {
            // Not what is wished for now; but it may have been confirmed since it was asked about last.
            Some(mut kept) if !kept.is_for(wish) => kept.is_confirmed().await?.then_some(kept),
            kept => kept,
        };
        // What somebody left alone is over unnoticed; what ends before their eyes they begin anew themselves.
        let mut was_left = kept.is_some();
        let mut waiting = match (kept, &entry) {
            (Some(waiting), _) => waiting,
            (None, Some(entry)) => {
                Waiting::begin(store, entry.clone(), wish.cloned().unwrap_or_default()).await?
            }
            (None, None) => {
                store.end_sign_in()?;
                return Err(EnrolError::NoEntry);
            }
        };
        let mut beginnings = 1;
        loop {
            waiting.show(report);
            let refusal = match waiting.outcome(Some(store), report).await? {
                Outcome::Enrolled(answer) => {
                    let enrolled = waiting.into_joining().await?.accept(store, answer)?;
                    store.end_sign_in()?;
                    return Ok(enrolled);
                }
                Outcome::Refused(refusal) => refusal,
            };
            store.end_sign_in()?;
            let is_forgotten = waiting.is_unconfirmed(&refusal) && wall() < waiting.kept.ends;
            let is_new_wanted = is_forgotten || was_left && waiting.is_unconfirmed(&refusal);
            if entry.is_none() || !is_new_wanted || beginnings == MAX_BEGINNINGS {
                return Err(waiting.ended(refusal, wall()));
            }
            if is_forgotten {
                report(Progress::Forgotten);
            }
            was_left = false;
            beginnings += 1;
            let KeptSignIn { entry, wish, .. } = waiting.kept;
            waiting = Waiting::begin(store, entry, wish).await?;
        }
    })
}

/// The owner of a node signs in again: same keys, so the node goes on as it is. Returns what it holds with the
/// certificate that came of it. The caller has to keep that: a node whose certificate has ended may have no other way to
/// come by it.
///
/// # Errors
/// See [`EnrolError`].
pub(crate) fn again(store: &Store, provider: Option<String>, report: Report<'_>) -> Result<Held, EnrolError> {
    let loaded = store.load(wall())?;
    let entry = Entry { coordinators: loaded.control, trust: loaded.held.trust.hash() };
    super::block_on(async {
        let joining = Joining { reached: entry.reach(wall()).await?, keys: Arc::new(loaded.keys) };
        let mut waiting = Waiting::ask(entry, joining, Wish { name: None, provider }).await?;
        waiting.show(report);
        match waiting.outcome(None, report).await? {
            Outcome::Enrolled(answer) => {
                let trust = waiting.into_joining().await?.reached.trust;
                taken_up(&loaded.held, trust, &answer, wall())
            }
            Outcome::Refused(refusal) => Err(waiting.ended(refusal, wall())),
        }
    })
}

/// What is held with the certificate of `answer`, under the trust document by which the coordinator was verified.
fn taken_up(
    held: &Held,
    trust: Arc<Trust>,
    answer: &FinishResponse,
    wall: Timestamp,
) -> Result<Held, EnrolError> {
    let chain: Chain =
        minicbor::decode(&answer.chain).map_err(|_| EnrolError::Malformed("a certificate chain"))?;
    Ok(held.under(Arc::unwrap_or_clone(trust), wall).with_certificate(&chain, wall)?)
}

/// How a sign-in ended.
enum Outcome {
    Enrolled(FinishResponse),
    /// By the coordinator's word on this sign-in. Anything else that goes wrong on the way says nothing about it.
    Refused(ApiError),
}

/// A sign-in on its way.
struct Waiting {
    kept: KeptSignIn,
    talk: Talk,
    pause: Duration,
    /// The last answer.
    heard: Instant,
}

/// Whether anybody can be asked at the moment.
enum Talk {
    On(Box<Joining>),
    /// With these keys, once somebody is reached.
    Off(Arc<Keys>),
}

impl Waiting {
    fn with(kept: KeptSignIn, talk: Talk) -> Self {
        Self { kept, talk, pause: Duration::ZERO, heard: Instant::now() }
    }

    async fn begin(store: &Store, entry: Entry, wish: Wish) -> Result<Self, EnrolError> {
        let joining = Joining::begin(&entry).await?;
        let waiting = Self::ask(entry, joining, wish).await?;
        store.begin_sign_in(waiting.keys(), &waiting.kept)?;
        Ok(waiting)
    }

    /// The one that was kept, if it can be gone on with and is with the coordinators that are meant. Whether it is over is
    /// theirs to say.
    fn kept(store: &Store, entry: Option<&Entry>) -> Result<Option<Self>, EnrolError> {
        let meant = |kept: &KeptSignIn| entry.is_none_or(|entry| entry.trust == kept.entry.trust);
        let Some(mut kept) = store.sign_in()?.filter(meant) else { return Ok(None) };
        match store.load_keys() {
            // At once the first time: it may have been confirmed long ago.
            Ok(keys) => {
                if let Some(entry) = entry.filter(|entry| **entry != kept.entry) {
                    // They have moved.
                    kept.entry = entry.clone();
                    store.keep_sign_in(&kept)?;
                }
                Ok(Some(Self::with(kept, Talk::Off(Arc::new(keys)))))
            }
            Err(error @ LoadError::Dir(_)) => Err(error.into()),
            // Without the keys that were shown it is worth nothing.
            Err(_) => Ok(None),
        }
    }

    /// Whether this is what is wished for, or has come so far that it goes on in any case.
    fn is_for(&self, wish: Option<&Wish>) -> bool {
        self.kept.approval.is_some() || wish.is_none_or(|wish| *wish == self.kept.wish)
    }

    /// Whether a person has said yes, by one question.
    async fn is_confirmed(&mut self) -> Result<bool, EnrolError> {
        match self.poll().await? {
            PollState::Approval { .. } | PollState::Enrolled(_) => Ok(true),
            PollState::Waiting | PollState::Refused(_) => Ok(false),
            PollState::Session(_) => Err(EnrolError::Malformed(ANOTHER_SESSION)),
        }
    }

    async fn ask(entry: Entry, mut joining: Joining, wish: Wish) -> Result<Self, EnrolError> {
        let proof = joining.prove().await?;
        let body = EnrolSignIn {
            enrolment: proof.enrolment,
            request: proof.request,
            name: wish.name.as_ref().map(|name| name.as_str().to_owned()),
            provider: wish.provider.clone(),
        };
        let authorization: DeviceAuthorization = joining.call(PATH_SIGN_IN, &body).await?;
        if !authorization.is_presentable() {
            return Err(EnrolError::Malformed("a code to sign in with"));
        }
        let lives = Duration::from_secs(authorization.expires_in.min(SIGN_IN_WINDOW_SECS));
        let kept = KeptSignIn::new(entry, wish, authorization, wall().plus(lives));
        let mut waiting = Self::with(kept, Talk::On(Box::new(joining)));
        waiting.pause = waiting.interval();
        Ok(waiting)
    }

    fn keys(&self) -> &Keys {
        match &self.talk {
            Talk::On(joining) => &joining.keys,
            Talk::Off(keys) => keys,
        }
    }

    fn show(&self, report: Report<'_>) {
        let fingerprint = self.keys().identity.public().fingerprint();
        match &self.kept.approval {
            Some(name) => report(Progress::Approval { name, fingerprint }),
            None => {
                let (code, left) = (&self.kept.authorization, wall().until(self.kept.ends));
                report(Progress::Code { code, left, fingerprint });
            }
        }
    }

    /// Whether it ended without anybody's word on it: too late, or because the coordinator lost it.
    fn is_unconfirmed(&self, refusal: &ApiError) -> bool {
        refusal.code == NOT_KNOWN && self.kept.approval.is_none()
    }

    fn ended(&self, refusal: ApiError, wall: Timestamp) -> EnrolError {
        if self.is_unconfirmed(&refusal) && wall >= self.kept.ends {
            return EnrolError::NobodyConfirmed;
        }
        EnrolError::Ended(refusal)
    }

    /// Asks until there is an outcome, also when the code should be over: it may have been confirmed before. With
    /// `store`, what is learnt on the way is kept.
    async fn outcome(&mut self, store: Option<&Store>, report: Report<'_>) -> Result<Outcome, EnrolError> {
        let (mut backoff, mut lost) = (Backoff::default(), false);
        loop {
            let pause = self.pause.min(*PAUSES.end()) + if lost { backoff.pause() } else { Duration::ZERO };
            tokio::time::sleep(pause).await;
            self.pause = self.pause.max(self.interval());
            let state = match self.poll().await {
                Ok(state) => state,
                Err(EnrolError::NotNow(StatusCode::TOO_MANY_REQUESTS, _)) => {
                    self.pause += SLOWER;
                    continue;
                }
                Err(error) if is_passing(&error) => {
                    if !std::mem::replace(&mut lost, true) {
                        report(Progress::Unreachable(&error));
                    }
                    if !matches!(error, EnrolError::NotNow(..)) {
                        self.hang_up();
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if std::mem::take(&mut lost) {
                backoff.reset();
                report(Progress::Reachable);
            }
            match state {
                PollState::Waiting => report(Progress::Waiting { left: wall().until(self.kept.ends) }),
                PollState::Approval { name } => self.confirmed(name, store, report)?,
                PollState::Enrolled(answer) => return Ok(Outcome::Enrolled(answer)),
                PollState::Session(_) => return Err(EnrolError::Malformed(ANOTHER_SESSION)),
                PollState::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
            }
        }
    }

    /// A person confirmed it; an administrator is next.
    fn confirmed(
        &mut self,
        name: String,
        store: Option<&Store>,
        report: Report<'_>,
    ) -> Result<(), EnrolError> {
        if self.kept.approval.is_none() {
            let name = NodeName::parse(&name).map_err(|_| EnrolError::Malformed("the name of a node"))?;
            self.kept.approval = Some(name.to_string());
            // Before anybody hears that this can be interrupted.
            if let Some(store) = store {
                store.keep_sign_in(&self.kept)?;
            }
            self.show(report);
        }
        self.pause = self.pause.max(self.interval());
        Ok(())
    }

    fn interval(&self) -> Duration {
        match self.kept.approval {
            Some(_) => Duration::from_secs(APPROVAL_POLL_INTERVAL_SECS),
            None => {
                Duration::from_secs(self.kept.authorization.interval).clamp(*PAUSES.start(), *PAUSES.end())
            }
        }
    }

    async fn poll(&mut self) -> Result<PollState, EnrolError> {
        if self.heard.elapsed() > LONGEST_IDLE {
            self.hang_up();
        }
        let mut body = Poll { device_code: self.kept.authorization.device_code.clone() };
        let answer = match self.joining().await {
            Ok(joining) => joining.call(PATH_POLL, &body).await,
            Err(error) => Err(error),
        };
        body.device_code.zeroize();
        self.heard = Instant::now();
        answer
    }

    async fn joining(&mut self) -> Result<&mut Joining, EnrolError> {
        if let Talk::Off(keys) = &self.talk {
            let reached = self.kept.entry.reach(wall()).await?;
            self.talk = Talk::On(Box::new(Joining { reached, keys: Arc::clone(keys) }));
        }
        match &mut self.talk {
            Talk::On(joining) => Ok(joining),
            Talk::Off(_) => Err(EnrolError::Unreachable("nobody was reached".into())),
        }
    }

    async fn into_joining(mut self) -> Result<Joining, EnrolError> {
        self.joining().await?;
        match self.talk {
            Talk::On(joining) => Ok(*joining),
            Talk::Off(_) => Err(EnrolError::Unreachable("nobody was reached".into())),
        }
    }

    /// The connection is of no more use.
    fn hang_up(&mut self) {
        if let Talk::On(joining) = &self.talk {
            self.talk = Talk::Off(Arc::clone(&joining.keys));
        }
    }
}

/// Whether asking again may bring another answer: the coordinator is away, in trouble, or being started.
fn is_passing(error: &EnrolError) -> bool {
    match error {
        EnrolError::Https(HttpsError::Malformed { status, .. }) => is_not_now(*status),
        // Somebody else answers there for a while; that says nothing about a sign-in.
        EnrolError::WrongTrust(..)
        | EnrolError::Unreachable(_)
        | EnrolError::Https(_)
        | EnrolError::NotNow(..) => true,
        EnrolError::AlreadyEnrolled
        | EnrolError::NotAJoinToken
        | EnrolError::NoEntry
        | EnrolError::IdentityToken { .. }
        | EnrolError::State(_)
        | EnrolError::Load(_)
        | EnrolError::Randomness(_)
        | EnrolError::Tls(_)
        | EnrolError::Runtime(_)
        | EnrolError::Refused(_)
        | EnrolError::Ended(_)
        | EnrolError::NobodyConfirmed
        | EnrolError::Malformed(_)
        | EnrolError::Certificate(_) => false,
    }
}

#[cfg(test)]
mod tests;
