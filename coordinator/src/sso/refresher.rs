//! Asks the providers again about everyone who signed in, as often as each provider's `refresh` says, and tells what
//! came of it. A group that was taken away is gone within that time; a provider that does not answer has said
//! nothing, and the session then ends when it would have ended anyway.

use super::sessions::{Session, Sessions, Ticket};
use super::{Providers, RefreshOutcome, Refreshed, SsoError};
use crate::stop::Stop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Persons that are asked about at once.
pub const MAX_AT_ONCE: usize = 8;
/// A provider that did not answer is asked again after this, or after its `refresh` if that is shorter.
const RETRY: Duration = Duration::from_secs(60);
/// Without any session: a new one wakes us.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

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

/// Runs until the stop.
pub async fn run<L: Listener>(
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    listener: Arc<L>,
    mut stop: Stop,
) {
    let mut asking = JoinSet::new();
    loop {
        let now = Instant::now();
        for (ticket, session) in sessions.due(now, MAX_AT_ONCE.saturating_sub(asking.len())) {
            let question = Question {
                providers: Arc::clone(&providers),
                sessions: Arc::clone(&sessions),
                listener: Arc::clone(&listener),
                ticket,
            };
            asking.spawn(question.ask(session));
        }
        let next = sessions.next_due().unwrap_or(now + LONGEST_SLEEP);
        let full = asking.len() >= MAX_AT_ONCE;
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep_until(next.into()), if !full => {}
            () = sessions.changed.notified(), if !full => {}
            Some(ended) = asking.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(reason = %error, "asking a provider again ended badly");
                }
            }
        }
    }
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
        let every = self
            .providers
            .configs()
            .find(|config| config.name == session.provider)
            .map_or(RETRY, |config| config.refresh);
        let again = every.min(RETRY);
        match self.providers.refresh(&session.provider, &session.subject, &session.refresh).await {
            Ok(signed_in) => {
                // First of all: the provider may have replaced the token, and takes the old one no more.
                let refresh = signed_in.refresh.unwrap_or_else(|| session.refresh.clone());
                let renewed = Session { refresh, ..session.clone() };
                let due = Instant::now() + every;
                match self.keep(move |sessions, ticket| sessions.renewed(ticket, &renewed, due)).await {
                    Some(true) | None => {}
                    Some(false) => return,
                }
                let heard = self.tell(&session, RefreshOutcome::Claims(Box::new(signed_in.claims))).await;
                match heard {
                    Heard::TakenUp => {}
                    Heard::NothingLeft => self.end().await,
                    Heard::NotNow => self.sessions.later(&self.ticket, Instant::now() + again),
                }
            }
            // The person may have signed in meanwhile, which ends what was before.
            Err(error) if error.is_denied() && !self.sessions.is_current(&self.ticket) => {
                tracing::debug!(reason = %error, "a session was denied that another has replaced");
            }
            Err(error) if error.is_denied() => {
                match self.tell(&session, RefreshOutcome::Denied(error.to_string())).await {
                    Heard::TakenUp | Heard::NothingLeft => self.end().await,
                    Heard::NotNow => self.sessions.later(&self.ticket, Instant::now() + again),
                }
            }
            Err(SsoError::NoProvider(_)) => {
                tracing::warn!(provider = %session.provider, "a session is of a provider that is no longer configured");
                self.end().await;
            }
            Err(error) => {
                tracing::warn!(provider = %session.provider, reason = %super::chain(&error), "a person's groups could not be asked for again");
                self.sessions.later(&self.ticket, Instant::now() + again);
            }
        }
    }

    async fn tell(&self, session: &Session, outcome: RefreshOutcome) -> Heard {
        let (issuer, subject) = (session.issuer.clone(), session.subject.clone());
        self.listener.hear(Refreshed { issuer, subject, outcome }).await
    }

    async fn end(&self) {
        self.keep(Sessions::end).await;
    }

    /// Changes what is on disk; without an answer, that failed.
    async fn keep(
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
