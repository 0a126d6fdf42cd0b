//! Asks the providers again about everyone who signed in, as often as each provider's `refresh` says, and tells what
//! came of it. A group that was taken away is gone within that time; a provider that does not answer has said
//! nothing, and the session then ends when it would have ended anyway.

use super::sessions::{Session, Sessions, Ticket};
use super::{Providers, RefreshOutcome, Refreshed, SsoError};
use crate::stop::Stop;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Persons that are asked about at once.
pub const MAX_AT_ONCE: usize = 8;
/// A provider that did not answer is asked again after this, or after its `refresh` if that is shorter.
const RETRY: Duration = Duration::from_secs(60);
/// Without any session: a new one wakes us.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Runs until the stop, or until nobody listens any more.
pub async fn run(
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    tell: mpsc::Sender<Refreshed>,
    mut stop: Stop,
) {
    let mut asking = JoinSet::new();
    while !tell.is_closed() {
        let now = Instant::now();
        for (ticket, session) in sessions.due(now, MAX_AT_ONCE.saturating_sub(asking.len())) {
            asking.spawn(ask(Arc::clone(&providers), Arc::clone(&sessions), ticket, session, tell.clone()));
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

async fn ask(
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    ticket: Ticket,
    session: Session,
    tell: mpsc::Sender<Refreshed>,
) {
    let every = providers
        .configs()
        .find(|config| config.name == session.provider)
        .map_or(RETRY, |config| config.refresh);
    let answer = providers.refresh(&session.provider, &session.subject, &session.refresh).await;
    let Session { issuer, subject, .. } = session.clone();
    let settled =
        tokio::task::spawn_blocking(move || settle(&sessions, &ticket, session, every, answer)).await;
    let outcome = match settled {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(reason = %error, "a session could not be kept");
            return;
        }
    };
    // Nobody listens: the coordinator stops.
    let _ = tell.send(Refreshed { issuer, subject, outcome }).await;
}

/// Gives the session back; what there is to tell, if anything.
fn settle(
    sessions: &Sessions,
    ticket: &Ticket,
    session: Session,
    every: Duration,
    answer: Result<super::SignedIn, SsoError>,
) -> Option<RefreshOutcome> {
    let now = Instant::now();
    match answer {
        Ok(signed_in) => {
            let refresh = signed_in.refresh.unwrap_or(session.refresh);
            let session = Session { refresh, ..session };
            let current = sessions.renewed(ticket, &session, now + every).unwrap_or_else(|error| {
                tracing::error!(reason = %format!("{error:#}"), "a renewed session could not be kept");
                true
            });
            current.then(|| RefreshOutcome::Claims(Box::new(signed_in.claims)))
        }
        Err(error) if error.is_denied() => {
            ended(sessions, ticket).then(|| RefreshOutcome::Denied(error.to_string()))
        }
        Err(SsoError::NoProvider(_)) => {
            tracing::warn!(provider = %session.provider, "a session is of a provider that is no longer configured");
            ended(sessions, ticket);
            None
        }
        Err(error) => {
            tracing::warn!(provider = %session.provider, reason = %super::chain(&error), "a person's groups could not be asked for again");
            sessions.later(ticket, now + every.min(RETRY));
            None
        }
    }
}

fn ended(sessions: &Sessions, ticket: &Ticket) -> bool {
    sessions.end(ticket).unwrap_or_else(|error| {
        tracing::error!(reason = %format!("{error:#}"), "an ended session could not be removed");
        true
    })
}
