//! The policy in force, those before it, and the way back to one of them.

use super::{confirmation, print_diagnostics};
use crate::client::Client;
use crate::command;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::{Table, printable, printable_lines};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{
    Applied, Overrides, PendingConfirmation, PolicyCurrent, PolicyHistory, Rollback, Signing,
};
use serde::Serialize;

/// What `history --json` shows.
#[derive(Serialize)]
struct Generations {
    #[serde(flatten)]
    history: PolicyHistory,
    pending: Option<PendingConfirmation>,
}

/// `policy history`.
pub(super) async fn history(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let history: PolicyHistory = client.get("/api/v1/policy/history").await?;
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    let generations = Generations { history, pending: current.pending };
    screen.answer("policy-history", &generations, |generations| table(generations, moment::now()))
}

fn table(generations: &Generations, now: Timestamp) -> String {
    let mut table = Table::new(&["generation", "time", "author", "allow", "never", "message"]);
    for entry in &generations.history.entries {
        table.row([
            entry.generation.to_string(),
            moment::show(entry.time),
            entry.author.clone(),
            entry.allow_rules.to_string(),
            entry.never_rules.to_string(),
            entry.message.clone(),
        ]);
    }
    let pending = generations.pending.iter().flat_map(|pending| confirmation::lines(pending, now));
    let pending: String = pending.map(|line| format!("# {}\n", printable(&line))).collect();
    format!("{table}{pending}")
}

/// `policy rollback`.
pub(super) async fn rollback(
    client: &mut Client,
    asked: &command::Rollback,
    screen: Screen,
) -> Result<(), Failure> {
    let generation = asked.generation;
    let effect = format!(
        "The rules of {} will be in force everywhere, as a new generation. Connections that they do not permit end \
         at once.",
        confirmation::whose(generation)
    );
    confirm(asked.yes.into(), &effect, "Roll back?")?;
    let overrides = Overrides { failing_tests: asked.allow_failing_tests, lockout: asked.allow_lockout };
    let applied: Applied =
        client.post("/api/v1/policy/rollback", &Rollback { generation, overrides }).await?;
    print_diagnostics(&applied.warnings);
    screen.answer("policy-applied", &applied, |applied| {
        format!("policy {} is in force, with the rules of {generation}", applied.generation)
    })
}

/// `policy show`.
pub(super) async fn show(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    screen.answer("policy", &current, |current| text(current, moment::now()))
}

fn text(current: &PolicyCurrent, now: Timestamp) -> String {
    let mut lines = vec![format!("generation {}", current.generation)];
    let signed = match current.signing {
        Signing::Online => "by the coordinator",
        Signing::Offline => "elsewhere: bulkheadctl policy sign",
    };
    lines.push(format!("signed {signed}"));
    lines.extend(current.expires.map(|expires| {
        format!("good until {} ({})", moment::show(expires), moment::show_left(expires, now))
    }));
    lines.extend(current.pending.iter().flat_map(|pending| confirmation::lines(pending, now)));
    lines.extend(current.warnings.iter().map(|warning| format!("warning: {warning}")));
    let mut text: String = lines.iter().map(|line| format!("# {}\n", printable(line))).collect();
    for (name, source) in &current.sources.0 {
        text.push_str(&format!("\n# {}\n{}\n", printable(name), printable_lines(source)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{NOON, sources};
    use bulkhead_protocol::admin::PolicyEntry;

    fn pending() -> PendingConfirmation {
        let confirm_by = Timestamp(NOON.0 + 300);
        PendingConfirmation { generation: 8, confirm_by, back_to: 7, waiting: Vec::new() }
    }

    #[test]
    fn the_policy_in_force_says_how_it_is_signed_and_what_it_waits_for() {
        let current = PolicyCurrent {
            generation: 8,
            sources: sources("version = 1\n"),
            expires: Some(Timestamp(NOON.0 + 86_400 * 7)),
            signing: Signing::Offline,
            pending: Some(pending()),
            coordinator_node: None,
            warnings: vec!["the signature ends in 7 days".to_owned()],
        };
        insta::assert_snapshot!(text(&current, NOON), @r"
        # generation 8
        # signed elsewhere: bulkheadctl policy sign
        # good until 2026-12-08T12:00:00Z (7d left)
        # policy 8 goes back to policy 7 at 2026-12-01T12:05:00Z (5m left) unless confirmed
        # to keep it: bulkheadctl policy confirm 8
        # warning: the signature ends in 7 days

        # base.toml
        version = 1
        ");
    }

    #[test]
    fn history_is_a_table_and_says_what_waits() {
        let entry = |generation| PolicyEntry {
            generation,
            time: NOON,
            author: "ana".to_owned(),
            message: String::new(),
            allow_rules: 3,
            never_rules: 1,
        };
        let history = PolicyHistory { entries: vec![entry(8), entry(7)] };
        insta::assert_snapshot!(table(&Generations { history, pending: Some(pending()) }, NOON), @r"
        GENERATION  TIME                  AUTHOR  ALLOW  NEVER  MESSAGE
        8           2026-12-01T12:00:00Z  ana     3      1      -
        7           2026-12-01T12:00:00Z  ana     3      1      -
        # policy 8 goes back to policy 7 at 2026-12-01T12:05:00Z (5m left) unless confirmed
        # to keep it: bulkheadctl policy confirm 8
        ");
    }
}
