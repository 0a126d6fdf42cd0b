//! Joining by a person's word: the coordinator gives a code, a person confirms it in a browser, and this host asks how
//! far it is (RFC 8628, with the coordinator as authorization server).
//!
//! Property: the keys that were shown to the person are the keys of the node, and what is to go on after a reboot is on
//! disk, 0600, before anybody can have confirmed it. The device code goes to a verified coordinator only.

use crate::control::backoff::Backoff;
use crate::enrol::entry::Entry;
use crate::enrol::https::HttpsError;
use crate::enrol::{EnrolError, Enrolled, Joining, wall};
use crate::state::signin::KeptSignIn;
use crate::state::{Keys, Store};
use bulkhead_identity::NodeName;
use bulkhead_protocol::enrol::{ApiError, FinishResponse};
use bulkhead_protocol::signin::{
    APPROVAL_POLL_INTERVAL_SECS, DeviceAuthorization, EnrolSignIn, Poll, PollState, SIGN_IN_WINDOW_SECS,
};
use hyper::StatusCode;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize as _;

const PATH_SIGN_IN: &str = "/enrol/v1/signin";
const PATH_POLL: &str = "/enrol/v1/signin/poll";
/// RFC 8628, section 3.5: after `slow_down` every pause is this much longer.
const SLOWER: Duration = Duration::from_secs(5);
/// No coordinator makes us ask less often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The coordinator knows no such code, for example because it was started anew.
const NOT_KNOWN: &str = "BH-C202";
/// How often we begin again by ourselves.
const MAX_BEGINNINGS: usize = 3;

/// What happens on the way, for whoever waits.
pub(crate) enum Progress<'a> {
    /// Somebody is to confirm this.
    Code(&'a DeviceAuthorization),
    /// Nobody did yet.
    Waiting {
        /// How long the code is still good for.
        left: Duration,
    },
    /// Somebody did, and an administrator is to approve it.
    Approval {
        /// Under which name it waits.
        name: &'a str,
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

/// Enrols this host and saves the result, or goes on with a sign-in that was begun before; without `entry` there is
/// only the latter. Blocks; must not be called from within an async runtime.
///
/// # Errors
/// See [`EnrolError`]. A sign-in that was neither refused nor too slow is kept, and goes on the next time.
pub(crate) fn enrol(
    state: &Path,
    entry: Option<Entry>,
    name: Option<&NodeName>,
    report: Report<'_>,
) -> Result<Enrolled, EnrolError> {
    super::joining(state, async |store| {
        let mut waiting = match store.sign_in()? {
            Some(kept) if is_wanted(&kept, entry.as_ref()) => Waiting::resume(store, kept)?,
            Some(_) | None => Waiting::begin(store, entry.ok_or(EnrolError::NoEntry)?, name).await?,
        };
        let mut beginnings = 1;
        loop {
            waiting.show(report);
            let outcome = waiting.outcome(Some(store), report).await;
            match outcome {
                Ok(answer) => {
                    let enrolled = waiting.into_joining().await?.accept(store, answer)?;
                    store.end_sign_in()?;
                    return Ok(enrolled);
                }
                Err(EnrolError::Refused(refusal))
                    if waiting.is_forgotten(&refusal) && beginnings < MAX_BEGINNINGS =>
                {
                    report(Progress::Forgotten);
                    beginnings += 1;
                    waiting = Waiting::begin(store, waiting.kept.entry, name).await?;
                }
                Err(error) => {
                    if matches!(error, EnrolError::Refused(_) | EnrolError::NobodyConfirmed) {
                        store.end_sign_in()?;
                    }
                    return Err(error);
                }
            }
        }
    })
}

/// Whether what was kept is a sign-in with the coordinators that are meant, and not over.
fn is_wanted(kept: &KeptSignIn, entry: Option<&Entry>) -> bool {
    let meant = entry.is_none_or(|entry| entry.trust == kept.entry.trust);
    meant && (kept.approval.is_some() || wall() < kept.ends)
}

/// The owner of a node signs in again: same keys, so the node goes on as it is. What comes of it reaches the node with
/// its next renewal.
///
/// # Errors
/// See [`EnrolError`].
pub(crate) fn again(store: &Store, report: Report<'_>) -> Result<(), EnrolError> {
    let loaded = store.load(wall())?;
    let entry = Entry { coordinators: loaded.control, trust: loaded.held.trust.hash() };
    super::block_on(async {
        let joining = Joining { reached: entry.reach(wall()).await?, keys: Arc::new(loaded.keys) };
        let mut waiting = Waiting::ask(entry, joining, None).await?;
        waiting.show(report);
        waiting.outcome(None, report).await.map(drop)
    })
}

/// A sign-in on its way.
struct Waiting {
    kept: KeptSignIn,
    talk: Talk,
    pause: Duration,
}

/// Whether anybody can be asked at the moment.
enum Talk {
    On(Box<Joining>),
    /// With these keys, once somebody is reached.
    Off(Arc<Keys>),
}

impl Waiting {
    async fn begin(store: &Store, entry: Entry, name: Option<&NodeName>) -> Result<Self, EnrolError> {
        let joining = Joining::begin(&entry).await?;
        let waiting = Self::ask(entry, joining, name).await?;
        waiting.keep(store)?;
        Ok(waiting)
    }

    async fn ask(entry: Entry, mut joining: Joining, name: Option<&NodeName>) -> Result<Self, EnrolError> {
        let proof = joining.prove().await?;
        let body = EnrolSignIn {
            enrolment: proof.enrolment,
            request: proof.request,
            name: name.map(|name| name.as_str().to_owned()),
            provider: None,
        };
        let authorization: DeviceAuthorization = joining.call(PATH_SIGN_IN, &body).await?;
        if !authorization.is_presentable() {
            return Err(EnrolError::Malformed("a code to sign in with"));
        }
        let lives = Duration::from_secs(authorization.expires_in.min(SIGN_IN_WINDOW_SECS));
        let pause = Duration::from_secs(authorization.interval);
        let kept = KeptSignIn::new(entry, authorization, wall().plus(lives));
        Ok(Self { kept, talk: Talk::On(Box::new(joining)), pause })
    }

    fn resume(store: &Store, kept: KeptSignIn) -> Result<Self, EnrolError> {
        // At once the first time: it may have been confirmed long ago.
        Ok(Self { kept, talk: Talk::Off(Arc::new(store.load_keys()?)), pause: Duration::ZERO })
    }

    fn keep(&self, store: &Store) -> Result<(), EnrolError> {
        let keys = match &self.talk {
            Talk::On(joining) => &joining.keys,
            Talk::Off(keys) => keys,
        };
        Ok(store.keep_sign_in(keys, &self.kept)?)
    }

    fn show(&self, report: Report<'_>) {
        match &self.kept.approval {
            Some(name) => report(Progress::Approval { name }),
            None => report(Progress::Code(&self.kept.authorization)),
        }
    }

    /// Whether the coordinator lost the code, rather than a person or time having ended it.
    fn is_forgotten(&self, refusal: &ApiError) -> bool {
        refusal.code == NOT_KNOWN && self.kept.approval.is_none() && wall() < self.kept.ends
    }

    /// Asks until there is an outcome; with `store`, what is learnt on the way is kept.
    async fn outcome(
        &mut self,
        store: Option<&Store>,
        report: Report<'_>,
    ) -> Result<FinishResponse, EnrolError> {
        let (mut backoff, mut lost) = (Backoff::default(), false);
        loop {
            let unanswered = if lost { backoff.pause() } else { Duration::ZERO };
            tokio::time::sleep(self.pause.min(LONGEST_PAUSE) + unanswered).await;
            self.pause = self.pause.max(self.interval());
            if self.kept.approval.is_none() && wall() >= self.kept.ends {
                return Err(EnrolError::NobodyConfirmed);
            }
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
                    self.hang_up();
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
                PollState::Enrolled(answer) => return Ok(answer),
                PollState::Session(_) => return Err(EnrolError::Malformed("an administrator's session")),
                PollState::Refused(refusal) => return Err(EnrolError::Refused(refusal)),
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
            report(Progress::Approval { name: name.as_str() });
            self.kept.approval = Some(name.to_string());
            if let Some(store) = store {
                self.keep(store)?;
            }
        }
        self.pause = self.pause.max(self.interval());
        Ok(())
    }

    fn interval(&self) -> Duration {
        match self.kept.approval {
            Some(_) => Duration::from_secs(APPROVAL_POLL_INTERVAL_SECS),
            None => Duration::from_secs(self.kept.authorization.interval),
        }
    }

    async fn poll(&mut self) -> Result<PollState, EnrolError> {
        let mut body = Poll { device_code: self.kept.authorization.device_code.clone() };
        let answer = match self.joining().await {
            Ok(joining) => joining.call(PATH_POLL, &body).await,
            Err(error) => Err(error),
        };
        body.device_code.zeroize();
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

/// Whether asking again may bring another answer: the coordinator is away, or being started.
fn is_passing(error: &EnrolError) -> bool {
    match error {
        EnrolError::Https(HttpsError::Malformed { .. }) => false,
        EnrolError::Unreachable(_) | EnrolError::Https(_) | EnrolError::NotNow(..) => true,
        EnrolError::AlreadyEnrolled
        | EnrolError::NotAJoinToken
        | EnrolError::NoEntry
        | EnrolError::IdentityToken { .. }
        | EnrolError::State(_)
        | EnrolError::Load(_)
        | EnrolError::Randomness(_)
        | EnrolError::Tls(_)
        | EnrolError::Runtime(_)
        | EnrolError::WrongTrust(..)
        | EnrolError::Refused(_)
        | EnrolError::NobodyConfirmed
        | EnrolError::Malformed(_)
        | EnrolError::Certificate(_) => false,
    }
}
