//! `audit export`: entries as one JSON document per line, for programs that collect them. Line after line in the
//! order of the journal, each entry once; a reader that was cut off goes on with `--after` and the last sequence
//! number it has.

use super::{PAGE, POLL, ocsf, page};
use crate::client::Client;
use crate::command::{ExportAudit, ExportFormat};
use crate::failure::Failure;
use crate::screen::Screen;
use anyhow::Context as _;
use bulkhead_protocol::admin::AuditEntry;

/// `audit export`.
pub(super) async fn run(client: &mut Client, asked: ExportAudit, screen: Screen) -> Result<(), Failure> {
    let mut after = asked.after;
    loop {
        let news = match page(client, after, PAGE).await {
            Ok(page) => page.entries,
            Err(failure) if asked.follow && failure.is_transient() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        for entry in &news {
            if asked.until.is_some_and(|until| entry.time >= until) {
                return Ok(());
            }
            if asked.since.is_none_or(|since| entry.time >= since) {
                screen.text(&line(entry, asked.format)?)?;
            }
        }
        match news.last() {
            Some(last) if last.sequence > after => after = last.sequence,
            Some(_) | None if asked.follow => tokio::time::sleep(POLL).await,
            Some(_) | None => return Ok(()),
        }
    }
}

fn line(entry: &AuditEntry, format: ExportFormat) -> Result<String, Failure> {
    let json = match format {
        ExportFormat::Ocsf => serde_json::to_string(&ocsf::event(entry)),
        ExportFormat::Native => serde_json::to_string(entry),
    };
    Ok(json.context("writing JSON")?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::Timestamp;

    #[test]
    fn an_entry_is_one_line_in_either_format_whatever_is_in_it() {
        let entry = AuditEntry {
            sequence: 1,
            time: Timestamp(7),
            actor: "admin:a".into(),
            source: None,
            event: "node_revoked".into(),
            detail: serde_json::json!({ "reason": "a\nb\u{2028}\u{1b}" }),
            hash: String::new(),
        };
        for format in [ExportFormat::Ocsf, ExportFormat::Native] {
            let line = line(&entry, format).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert!(serde_json::from_str::<serde_json::Value>(&line).unwrap().is_object());
        }
    }
}
