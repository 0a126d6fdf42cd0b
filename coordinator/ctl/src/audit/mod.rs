//! The journal, as the coordinator tells it: every change, who made it, and the hash that chains it to the one
//! before.

mod export;
mod ocsf;

use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::printable;
use bulkhead_protocol::admin::{AuditEntry, AuditPage, AuditVerified};
use hyper::StatusCode;
use std::collections::VecDeque;
use std::time::Duration;

/// Entries asked for at once.
const PAGE: u64 = 1_000;
/// How often following asks for news.
const POLL: Duration = Duration::from_millis(500);

/// `audit …`.
pub(crate) async fn run(client: &mut Client, verb: command::Audit, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Audit::Tail { follow, lines } => tail(client, lines, follow, screen).await,
        command::Audit::Export(asked) => export::run(client, asked, screen).await,
        command::Audit::Verify => {
            let verified: AuditVerified = client.get("/api/v1/audit/verify").await.map_err(damaged)?;
            screen.answer("audit-verified", &verified, |verified| {
                printable(&format!("{} entries, the chain holds; head {}", verified.entries, verified.head))
            })
        }
    }
}

// A journal that does not check is the answer to the question, not a failure to ask it.
fn damaged(failure: Failure) -> Failure {
    if let Failure::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, error } = &failure {
        return Failure::ChecksFailed(printable(&error.message));
    }
    failure
}

async fn tail(client: &mut Client, lines: u32, follow: bool, screen: Screen) -> Result<(), Failure> {
    let head: AuditPage = page(client, 0, 1).await?;
    let mut after = head.last.saturating_sub(u64::from(lines));
    let mut latest = VecDeque::new();
    loop {
        let news = page(client, after, PAGE).await?.entries;
        match news.last() {
            Some(last) if last.sequence > after => after = last.sequence,
            Some(_) | None => break,
        }
        latest.extend(news);
        latest.drain(..latest.len().saturating_sub(lines as usize));
    }
    let entries = AuditPage { entries: latest.into(), last: after };
    if !follow {
        return screen.answer("audit", &entries, |page| page.entries.iter().map(line).collect());
    }
    show_each(&entries.entries, screen)?;
    loop {
        tokio::time::sleep(POLL).await;
        let news = match page(client, after, PAGE).await {
            Ok(page) => page.entries,
            Err(failure) if failure.is_transient() => continue,
            Err(failure) => return Err(failure),
        };
        after = news.last().map_or(after, |entry| entry.sequence.max(after));
        show_each(&news, screen)?;
    }
}

async fn page(client: &mut Client, after: u64, limit: u64) -> Result<AuditPage, Failure> {
    client.get(&format!("/api/v1/audit?after={after}&limit={limit}")).await
}

// A stream has no end, so under --json each entry is a document of its own.
fn show_each(entries: &[AuditEntry], screen: Screen) -> Result<(), Failure> {
    for entry in entries {
        match screen {
            Screen::Text => screen.text(&line(entry))?,
            Screen::Json => screen.json_line("audit-entry", entry)?,
        }
    }
    Ok(())
}

fn line(entry: &AuditEntry) -> String {
    let detail = match entry.detail.as_object() {
        Some(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        None => plain(&entry.detail),
    };
    let line = format!(
        "{:>6}  {}  {:<12}  {:<15}  {:<18}  {detail}",
        entry.sequence,
        moment::show(entry.time),
        entry.actor,
        entry.source.map_or_else(|| "-".to_owned(), |source| source.to_string()),
        entry.event
    );
    format!("{}\n", printable(line.trim_end()))
}

// Text without quotes where it cannot be mistaken for anything else.
fn plain(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => text.to_owned(),
        Some(_) | None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_identity::Timestamp;

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        let entry = AuditEntry {
            sequence: 7,
            time: Timestamp(1_796_126_400),
            actor: "root".into(),
            source: None,
            event: "node-revoked".into(),
            detail: serde_json::json!({"name": "web", "reason": "lost\nlaptop \u{1b}[2J"}),
            hash: String::new(),
        };
        let line = line(&entry);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            line.starts_with("     7  2026-12-01T12:00:00Z  root") && !line.contains('\u{1b}'),
            "{line:?}"
        );
        assert!(line.contains("name=web"), "{line:?}");
    }
}
