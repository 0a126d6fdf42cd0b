//! A policy that goes back by itself unless somebody confirms it: keeping it, and saying that it waits.

use super::print_diagnostics;
use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{Applied, Confirm, PendingConfirmation, PolicyCurrent};

/// `policy confirm`.
pub(super) async fn confirm(
    client: &mut Client,
    asked: command::Confirm,
    screen: Screen,
) -> Result<(), Failure> {
    let generation = match asked.generation {
        Some(generation) => generation,
        None => pending(client).await?.generation,
    };
    let without = asked.without.iter().map(ToString::to_string).collect();
    let applied: Applied = client.post("/api/v1/policy/confirm", &Confirm { generation, without }).await?;
    print_diagnostics(&applied.warnings);
    screen.answer("policy-confirmed", &applied, |applied| {
        format!("policy {} stays in force", applied.generation)
    })
}

async fn pending(client: &mut Client) -> Result<PendingConfirmation, Failure> {
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    current.pending.ok_or_else(|| {
        Failure::usage(
            format!("policy {} does not wait to be confirmed", current.generation),
            "either it was confirmed, or it went back: bulkheadctl policy history",
        )
    })
}

/// What `show` and `history` say of it.
pub(super) fn lines(pending: &PendingConfirmation, now: Timestamp) -> Vec<String> {
    let PendingConfirmation { generation, confirm_by, back_to, waiting } = pending;
    let mut lines = vec![
        format!(
            "policy {generation} goes back to {} at {} ({}) unless confirmed",
            whose(*back_to),
            moment::show(*confirm_by),
            moment::show_left(*confirm_by, now)
        ),
        format!("to keep it: {}", command(*generation)),
    ];
    if !waiting.is_empty() {
        lines.push(format!("not back yet under it: {}", waiting.join(", ")));
    }
    lines
}

/// The rules of a generation, as people name them.
pub(super) fn whose(generation: u64) -> String {
    if generation == 0 { "no policy (nobody may talk)".to_owned() } else { format!("policy {generation}") }
}

/// What keeps `generation`.
pub(super) fn command(generation: u64) -> String {
    format!("bulkheadctl policy confirm {generation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_policy_says_until_when_and_what_keeps_it() {
        let pending = PendingConfirmation {
            generation: 8,
            confirm_by: Timestamp(1_796_126_700),
            back_to: 7,
            waiting: vec!["plc".to_owned()],
        };
        insta::assert_snapshot!(lines(&pending, Timestamp(1_796_126_400)).join("\n"), @r"
        policy 8 goes back to policy 7 at 2026-12-01T12:05:00Z (5m left) unless confirmed
        to keep it: bulkheadctl policy confirm 8
        not back yet under it: plc
        ");
    }
}
