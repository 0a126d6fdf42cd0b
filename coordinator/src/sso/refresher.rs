//! Asks the providers again about everyone who signed in, as often as each provider's `refresh` says, and tells what
//! came of it. A group that was taken away is gone within that time; a provider that does not answer has said
//! nothing, and the session then ends when it would have ended anyway.

use super::fetch::DEADLINE;
use super::sessions::{Session, Sessions, Ticket};
use super::{ProviderConfig, Providers, RefreshOutcome, Refreshed, SsoError, chain};
use crate::rarely::Rarely;
use crate::stop::Stop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A provider that did not answer is asked again after this, or after its `refresh` if that is shorter.
const RETRY: Duration = Duration::from_secs(60);
/// Without any session: a new one wakes us.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// At a stop, for the answers that are under way: a provider may just have replaced a token.
const LAST_ANSWERS: Duration = DEADLINE.saturating_mul(2).saturating_add(Duration::from_secs(2));

/// What became of what a provider said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is taken up.
    TakenUp,
    /// Nothing hangs on this person any more: it need not be asked for again.
    NothingLeft,
    /// It could not be taken up now.
    NotNow,
}

/// Who is told.
pub trait Listener: Send + Sync + 'static {
    /// Takes up what a provider said.
    fn hear(&self, said: Refreshed) -> impl Future<Output = Heard> + Send;
}

/// Runs until the stop. What was asked before it is heard.
pub async fn run<L: Listener>(
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    listener: Arc<L>,
    mut stop: Stop,
) {
    let mut asking = JoinSet::new();
    loop {
        for (ticket, session) in due(&sessions).await {
            let question = Question {
                providers: Arc::clone(&providers),
                sessions: Arc::clone(&sessions),
                listener: Arc::clone(&listener),
                ticket,
            };
            asking.spawn(question.ask(session));
        }
        let next = sessions.next_due().unwrap_or_else(|| Instant::now() + LONGEST_SLEEP);
        tokio::select! {
            () = stop.requested() => break,
            () = tokio::time::sleep_until(next.into()) => {}
            () = sessions.changed.notified() => {}
            Some(ended) = asking.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(reason = %error, "asking a provider again ended badly");
                }
            }
        }
    }
    let answers = async { while asking.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, answers).await.is_err() {
        tracing::warn!(n = asking.len(), "providers did not answer before the stop");
    }
}

/// Files are read.
async fn due(sessions: &Arc<Sessions>) -> Vec<(Ticket, Session)> {
    let sessions = Arc::clone(sessions);
    let due = tokio::task::spawn_blocking(move || sessions.due(Instant::now())).await;
    due.unwrap_or_else(|error| {
        tracing::error!(reason = %error, "sessions could not be read");
        Vec::new()
    })
}

/// One person is being asked about.
struct Question<L> {
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    listener: Arc<L>,
    ticket: Ticket,
}

impl<L: Listener> Question<L> {
    async fn ask(self, session: Session) {
        match self.answer(&session).await {
            Some(wait) => self.sessions.later(&self.ticket, Instant::now() + wait),
            None => drop(self.change(Sessions::end).await),
        }
    }

    /// Asks, and says how long until this person is asked about again: `None` is never.
    async fn answer(&self, session: &Session) -> Option<Duration> {
        let mut people = self.providers.configs().filter(|config| config.is_for_people());
        // By issuer, whatever name it has now: a token goes to nobody but who made it.
        let Some(config) = people.find(|config| config.issuer == session.issuer) else {
            tracing::warn!(issuer = %session.issuer, "a session is of a provider that is no longer configured");
            let denied = RefreshOutcome::Denied("the provider is no longer configured".to_owned());
            return self.told_last(session, denied, RETRY).await;
        };
        if !session.is_for(config) {
            tracing::warn!(provider = %config.name, "a token is of another `client_id`; its person has to sign in again");
            return None;
        }
        let retry = config.refresh.min(RETRY);
        match self.providers.refresh(&config.name, &session.subject, &session.refresh).await {
            Ok(answer) => {
                // First of all: the provider has replaced the token, and takes the old one no more.
                if let Some(refresh) = answer.refresh {
                    let renewed = Session { refresh, ..session.clone() };
                    let kept = self.change(move |sessions, ticket| sessions.renewed(ticket, &renewed)).await;
                    if kept == Some(false) {
                        return Some(retry);
                    }
                }
                match answer.claims {
                    Ok(claims) => self.told(session, RefreshOutcome::Claims(Box::new(claims)), config).await,
                    Err(error) => {
                        silent(config, &error);
                        // What is not believed is no better in a minute; keys that were not there may be.
                        let passes = matches!(error, SsoError::Unreachable { .. } | SsoError::Resting { .. });
                        Some(if passes { retry } else { config.refresh })
                    }
                }
            }
            // The person may have signed in meanwhile, which ends what was before.
            Err(error) if error.is_denied() && !self.sessions.is_current(&self.ticket) => {
                tracing::debug!(reason = %error, "a session was denied that another has replaced");
                Some(retry)
            }
            Err(error) if error.is_denied() => {
                self.told_last(session, RefreshOutcome::Denied(error.to_string()), retry).await
            }
            Err(error) => {
                silent(config, &error);
                Some(retry)
            }
        }
    }

    async fn told(
        &self,
        session: &Session,
        outcome: RefreshOutcome,
        config: &ProviderConfig,
    ) -> Option<Duration> {
        match self.tell(session, outcome).await {
            Heard::TakenUp => Some(config.refresh),
            Heard::NothingLeft => None,
            Heard::NotNow => Some(config.refresh.min(RETRY)),
        }
    }

    /// The same for what ends a session.
    async fn told_last(
        &self,
        session: &Session,
        outcome: RefreshOutcome,
        retry: Duration,
    ) -> Option<Duration> {
        match self.tell(session, outcome).await {
            Heard::TakenUp | Heard::NothingLeft => None,
            Heard::NotNow => Some(retry),
        }
    }

    async fn tell(&self, session: &Session, outcome: RefreshOutcome) -> Heard {
        let (issuer, subject) = (session.issuer.clone(), session.subject.clone());
        self.listener.hear(Refreshed { issuer, subject, outcome }).await
    }

    /// Changes what is on disk; without an answer, that failed.
    async fn change(
        &self,
        change: impl FnOnce(&Sessions, &Ticket) -> anyhow::Result<bool> + Send + 'static,
    ) -> Option<bool> {
        let (sessions, ticket) = (Arc::clone(&self.sessions), self.ticket.clone());
        let changed = tokio::task::spawn_blocking(move || change(&sessions, &ticket)).await;
        match changed.map_err(anyhow::Error::from).flatten() {
            Ok(current) => Some(current),
            Err(error) => {
                tracing::error!(reason = %format!("{error:#}"), "a session could not be kept");
                None
            }
        }
    }
}

/// The provider has said nothing of the person.
fn silent(config: &ProviderConfig, error: &SsoError) {
    static TOLD: Rarely = Rarely::new();
    if !TOLD.may_tell(&config.name, Instant::now()) {
        return;
    }
    tracing::warn!(provider = %config.name, reason = %chain(error), "a person's groups could not be asked for again");
}
