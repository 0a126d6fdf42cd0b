//! Nodes, as the coordinator knows them.

use crate::client::Client;
use crate::command::{self, LabelChange};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::{Table, printable};
use crate::{moment, offloads, pending, revoke};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use bulkhead_protocol::admin::{Node, NodeList, NodeState, SetLabels};
use std::collections::BTreeMap;

/// `node …`.
pub(crate) async fn run(client: &mut Client, verb: command::Node, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Node::List { pending: false } => list(client, screen).await,
        command::Node::List { pending: true } => pending::list(client, screen).await,
        command::Node::Approve { name } => pending::approve(client, &name, screen).await,
        command::Node::Reject { name, reason } => pending::reject(client, &name, reason, screen).await,
        command::Node::Show { name } => {
            let node = fetch(client, &name).await?;
            screen.answer("node", &node, show)
        }
        command::Node::Label { name, changes } => label(client, &name, changes, screen).await,
        command::Node::Offloads(arguments) => offloads::run(client, arguments, screen).await,
        command::Node::Revoke(arguments) => revoke::run(client, arguments, screen).await,
        command::Node::Remove { name, yes } => {
            let effect = format!("{name} will be forgotten: its name and addresses may go to another node.");
            confirm(yes.into(), &effect, &format!("Remove {name}?"))?;
            client.delete(&format!("/api/v1/nodes/{name}")).await?;
            screen.line(&format!("{name} is removed"))
        }
    }
}

/// One node.
pub(crate) async fn fetch(client: &mut Client, name: &NodeName) -> Result<Node, Failure> {
    client.get(&format!("/api/v1/nodes/{name}")).await
}

/// `k=v,k=v`.
pub(crate) fn show_labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

async fn list(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let nodes: NodeList = client.get("/api/v1/nodes").await?;
    screen.answer("nodes", &nodes, |list| {
        let now = moment::now();
        let mut table =
            Table::new(&["name", "address", "state", "seen", "policy", "certificate", "peers", "labels"]);
        for node in &list.nodes {
            table.row([
                node.name.clone(),
                node.ipv4.clone(),
                show_state(node.state).to_owned(),
                show_seen(node, now),
                node.generation.map(|generation| generation.to_string()).unwrap_or_default(),
                moment::show_left(node.certificate_expires, now),
                node.permitted_peers.to_string(),
                show_labels(&node.labels),
            ]);
        }
        table.to_string()
    })
}

async fn label(
    client: &mut Client,
    name: &NodeName,
    changes: Vec<LabelChange>,
    screen: Screen,
) -> Result<(), Failure> {
    let mut labels = BTreeMap::new();
    for LabelChange { key, value } in changes {
        if labels.insert(String::from(key.clone()), value.map(String::from)).is_some() {
            return Err(Failure::usage(format!("{key} is named twice"), "give each label once"));
        }
    }
    let node: Node = client.put(&format!("/api/v1/nodes/{name}/labels"), &SetLabels { labels }).await?;
    screen.answer("node", &node, |node| {
        let labels = show_labels(&node.labels);
        let labels = if labels.is_empty() { "no labels" } else { &labels };
        printable(&format!("{}: {labels}; it may talk to {}", node.name, peers(node.permitted_peers)))
    })
}

fn show(node: &Node) -> String {
    let now = moment::now();
    let mut facts = Table::facts();
    facts.fact("name", &node.name);
    facts.fact("state", show_state(node.state));
    facts.fact("labels", show_labels(&node.labels));
    facts.fact("addresses", format!("{}  {}", node.ipv4, node.ipv6));
    facts.fact("identity key", &node.fingerprint);
    facts.fact("enrolled", moment::show(node.enrolled));
    let certificate_expires = moment::show(node.certificate_expires);
    facts.fact(
        "certificate",
        format!("{}, to {certificate_expires}", moment::show_left(node.certificate_expires, now)),
    );
    facts.fact("control link", show_seen(node, now));
    facts.fact("observed at", node.observed.as_deref().unwrap_or_default());
    facts.fact("policy", node.generation.map(|generation| generation.to_string()).unwrap_or_default());
    facts.fact("epoch", node.epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
    facts.fact("may talk to", peers(node.permitted_peers));
    facts.to_string()
}

/// `3 nodes`.
pub(crate) fn peers(count: usize) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

fn show_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Active => "active",
        NodeState::Revoked => "revoked",
    }
}

fn show_seen(node: &Node, now: Timestamp) -> String {
    match (node.connected, node.last_seen) {
        (true, _) => "connected".to_owned(),
        (false, Some(at)) => moment::show_ago(at, now),
        (false, None) => "never".to_owned(),
    }
}
