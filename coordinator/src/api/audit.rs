//! The audit log: the journal's frames as administrators read them, and the verification of the whole chain.
//! Both read the files themselves and do not hold up the engine.

use super::{Api, Problem};
use crate::journal::{Frame, JournalError};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::Event;
use bulkhead_protocol::admin::{AuditEntry, AuditPage, AuditVerified};

/// Entries in one page when the caller does not say.
const DEFAULT_PAGE: usize = 100;

#[derive(Default)]
struct Range {
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn page(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let range = parse(query.as_deref().unwrap_or_default())?;
    let journal = api.journal.clone();
    let frames =
        blocking(move || journal.page(range.after.unwrap_or(0), range.limit.unwrap_or(DEFAULT_PAGE)));
    let entries = frames.await?.iter().map(entry).collect();
    let last = api.journal.head().link.sequence;
    Ok(axum::Json(AuditPage { entries, last }).into_response())
}

pub(super) async fn verify(State(api): State<Api>) -> Result<Response, Problem> {
    let journal = api.journal.clone();
    let verified = blocking(move || journal.verify(|_| {})).await?;
    let answer = AuditVerified { entries: verified.end.sequence, head: verified.end.hash.to_string() };
    Ok(axum::Json(answer).into_response())
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(super::unexpected()),
    }
}

/// A frame as the audit log shows it. An event of another version is shown by its hash alone.
pub(crate) fn entry(frame: &Frame) -> AuditEntry {
    let view = minicbor::decode::<Event>(&frame.entry.event).map(|event| (event.audit(), event.source));
    let (event, detail, source) = match view {
        Ok((view, source)) => (view.event.as_str().to_owned(), view.detail, source),
        Err(_) => ("unknown".to_owned(), serde_json::Value::Null, None),
    };
    AuditEntry {
        sequence: frame.link.sequence,
        time: frame.entry.time,
        actor: frame.entry.actor.clone(),
        source,
        event,
        detail,
        hash: frame.link.hash.to_string(),
    }
}

/// `after=SEQ&limit=N`; anything else is refused.
fn parse(query: &str) -> Result<Range, Problem> {
    let mut range = Range::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number =
            || value.parse::<u64>().map_err(|_| Problem::malformed(format!("`{key}` must be a number")));
        match key {
            "after" if range.after.is_none() => range.after = Some(number()?),
            "limit" if range.limit.is_none() => {
                range.limit = Some(usize::try_from(number()?).unwrap_or(usize::MAX));
            }
            _ => return Err(Problem::malformed("the query takes `after` and `limit`, once each")),
        }
    }
    Ok(range)
}
