//! Cutting a node off. What `--wait` reports is what other nodes signed, not what the coordinator hopes; for each
//! node that has not signed it says when certificates make it stop by itself.

use crate::client::Client;
use crate::command;
use crate::confirm::{Consent, confirm};
use crate::failure::Failure;
use crate::receipts::{self, Acknowledgements};
use crate::screen::{Screen, remark};
use crate::table::printable;
use crate::{moment, node};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{self, NodeState, ReceiptView, RevokeStatus, Waiting};

impl Acknowledgements for RevokeStatus {
    fn receipts(&self) -> &[ReceiptView] {
        &self.receipts
    }

    fn missing(&self) -> usize {
        self.waiting.len()
    }
}

/// `node revoke`.
pub(crate) async fn run(
    client: &mut Client,
    arguments: command::Revoke,
    screen: Screen,
) -> Result<(), Failure> {
    let name = &arguments.name;
    let consent = Consent::from(arguments.yes);
    if consent == Consent::Ask {
        let victim = node::fetch(client, name).await?;
        confirm(consent, &effect(&victim), &format!("Revoke {name}?"))?;
    }
    let request = admin::Revoke { reason: arguments.reason.clone() };
    let mut status: RevokeStatus = client.post(&format!("/api/v1/nodes/{name}/revoke"), &request).await?;
    screen.line(&format!("{name} is revoked, epoch {}", status.epoch))?;
    if arguments.wait {
        let path = format!("/api/v1/revocations/{}", status.epoch);
        status = receipts::watch(client, &path, status, arguments.timeout, screen).await?;
    }
    if screen == Screen::Json {
        screen.answer("revocation", &status, |_| String::new())?;
    }
    if arguments.wait { verdict(&status, screen) } else { Ok(()) }
}

fn effect(victim: &admin::Node) -> String {
    let now = match victim.state {
        NodeState::Active => {
            format!("It may talk to {} now", node::peers(victim.permitted_peers))
        }
        NodeState::Revoked => "It is revoked already".to_owned(),
    };
    printable(&format!(
        "{} ({}, {}) will be cut off everywhere, live connections included. {now}. This cannot be undone: it comes \
         back only by enrolling anew.",
        victim.name,
        victim.ipv4,
        node::show_labels(&victim.labels)
    ))
}

fn verdict(status: &RevokeStatus, screen: Screen) -> Result<(), Failure> {
    if status.waiting.is_empty() {
        return screen.line(&format!(
            "acknowledged by every node that could talk to {}: {} in all",
            status.name,
            receipts::count(status.receipts.len())
        ));
    }
    let now = moment::now();
    for waiting in &status.waiting {
        remark(&absent(waiting, now));
    }
    Err(Failure::Unacknowledged(printable(&format!(
        "{} is revoked, but not yet acknowledged by {} of {}",
        status.name,
        status.waiting.len(),
        node::peers(status.waiting.len() + status.receipts.len())
    ))))
}

fn absent(waiting: &Waiting, now: Timestamp) -> String {
    let link = if waiting.connected { "connected" } else { "not connected" };
    let stops = if waiting.stops_at > now {
        format!(
            "stops by itself at {} ({})",
            moment::show(waiting.stops_at),
            moment::show_left(waiting.stops_at, now)
        )
    } else {
        "its certificates have ended".to_owned()
    };
    printable(&format!("{}  has not acknowledged ({link}); {stops}", waiting.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_acknowledged_is_named_with_the_time_it_stops() {
        let waiting = Waiting { node: "db".into(), stops_at: Timestamp(1_796_126_400), connected: false };
        assert_eq!(
            absent(&waiting, Timestamp(1_796_126_400 - 7_200)),
            "db  has not acknowledged (not connected); stops by itself at 2026-12-01T12:00:00Z (2h left)"
        );
        assert!(absent(&waiting, Timestamp(1_796_126_401)).ends_with("its certificates have ended"));
    }

    #[test]
    fn a_missing_receipt_is_a_failure_with_exit_code_three() {
        let status = RevokeStatus {
            name: "metrics".into(),
            epoch: 7,
            receipts: Vec::new(),
            waiting: vec![Waiting { node: "db".into(), stops_at: Timestamp(0), connected: true }],
        };
        let failure = verdict(&status, Screen::Json).err();
        assert!(matches!(failure, Some(Failure::Unacknowledged(text)) if text.contains("by 1 of 1 node")));
    }
}
