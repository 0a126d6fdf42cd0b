//! Nodes that wait for an administrator: who they are, and the word that lets them in or not.

use crate::client::Client;
use crate::failure::Failure;
use crate::moment;
use crate::node::show_labels;
use crate::screen::Screen;
use crate::table::{Table, printable};
use bulkhead_identity::NodeName;
use bulkhead_protocol::admin::{Node, PendingList, PendingOwner, Reject};
use serde_json::json;

/// `node list --pending`.
pub(crate) async fn list(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let pending: PendingList = client.get("/api/v1/nodes/pending").await?;
    screen.answer("pending", &pending, |list| {
        let now = moment::now();
        let mut table = Table::new(&["name", "owner", "fingerprint", "from", "left", "labels"]);
        for node in &list.nodes {
            table.row([
                node.name.clone(),
                show_owner(&node.owner),
                node.fingerprint.clone(),
                node.source.clone(),
                moment::show_left(node.until, now),
                show_labels(&node.labels),
            ]);
        }
        table.to_string()
    })
}

/// Subject first: it is who somebody is, the name is what they call themselves.
fn show_owner(owner: &PendingOwner) -> String {
    let PendingOwner { provider, subject, name, seen, .. } = owner;
    let unseen = if *seen { "" } else { ", did not see the machine's fingerprint" };
    printable(&format!("{provider}/{subject} ({name}){unseen}"))
}

/// `node approve`.
pub(crate) async fn approve(client: &mut Client, name: &NodeName, screen: Screen) -> Result<(), Failure> {
    let node: Node = client.post(&format!("/api/v1/nodes/{name}/approve"), &json!({})).await?;
    screen.answer("node", &node, |node| format!("{} is a node: {}\n", node.name, show_labels(&node.labels)))
}

/// `node reject`.
pub(crate) async fn reject(
    client: &mut Client,
    name: &NodeName,
    reason: String,
    screen: Screen,
) -> Result<(), Failure> {
    let _: serde_json::Value =
        client.post(&format!("/api/v1/nodes/{name}/reject"), &Reject { reason }).await?;
    screen.line(&format!("{name} is refused"))
}
