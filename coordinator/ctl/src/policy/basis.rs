//! What a question is asked of: a policy and the nodes it speaks of, from files or from the coordinator. Past this
//! point nothing knows which of the two it was, so both are answered by the same code.

use super::{count, directory, inventory, print_diagnostics};
use crate::Place;
use crate::client::Client;
use crate::command::{About, Schemed};
use crate::failure::Failure;
use crate::moment;
use crate::table::printable;
use anyhow::Context as _;
use bulkhead_acl::question::When;
use bulkhead_acl::{
    Checked, Diagnostic, FailingTests, Options, PortSet, Selector, Severity, Sources, Subject,
};
use bulkhead_identity::{NodeName, Timestamp};
use bulkhead_protocol::admin::{NodeList, NodeState, PolicyCurrent};
use std::path::Path;

/// How many names an error about a name repeats.
const MAX_NAMES_SHOWN: usize = 20;

/// A policy, nodes, and the moment to ask about.
pub(super) struct Basis {
    /// The policy.
    pub(super) checked: Checked,
    /// In order of names; none where a question does without.
    pub(super) nodes: Vec<Subject>,
    /// Of the policy in force; `None` for files. Text names it; JSON is the same whichever was asked.
    pub(super) generation: Option<u64>,
    /// When, for a question about one moment.
    pub(super) at: Timestamp,
    /// For a question that no moment was named for: all from that one on.
    pub(super) is_now: bool,
}

impl Basis {
    /// The policy and nodes that `about` names, or else those of the coordinator.
    pub(super) async fn of(place: &Place, about: &About) -> Result<Self, Failure> {
        Self::new(place, about.policy.as_deref(), about.nodes.as_deref(), about.at).await
    }

    /// As [`Basis::of`], for a question that nodes are only examples for.
    pub(super) async fn of_schema(place: &Place, about: &Schemed) -> Result<Self, Failure> {
        Self::new(place, about.policy.as_deref(), about.nodes.as_deref(), about.at).await
    }

    async fn new(
        place: &Place,
        policy: Option<&Path>,
        nodes: Option<&Path>,
        at: Option<Timestamp>,
    ) -> Result<Self, Failure> {
        let (at, is_now) = (at.unwrap_or_else(moment::now), at.is_none());
        if let Some(policy) = policy {
            let checked = understood(&directory::read(policy)?, at, &policy.display().to_string())?;
            let nodes = nodes.map(inventory::read).transpose()?.unwrap_or_default();
            return Ok(Self { checked, nodes, generation: None, at, is_now });
        }
        let mut client = place.client()?;
        let current: PolicyCurrent = client.get("/api/v1/policy").await?;
        let checked = understood(&current.sources, at, &format!("policy {}", current.generation))?;
        let nodes = self::nodes(&mut client).await?;
        Ok(Self { checked, nodes, generation: Some(current.generation), at, is_now })
    }

    /// What a proof is about: the moment that was named, or else every one from now on.
    pub(super) fn when(&self) -> When {
        if self.is_now { When::EverAfter(self.at) } else { When::At(self.at) }
    }

    /// The moment that was named for a proof; `None`: any from now on.
    pub(super) fn named_moment(&self) -> Option<Timestamp> {
        (!self.is_now).then_some(self.at)
    }

    /// `at any time`, or the moment that was named.
    pub(super) fn at_some_time(&self) -> String {
        self.named_moment().map_or_else(|| "at any time".to_owned(), at)
    }

    /// The node of this name.
    pub(super) fn node(&self, name: &NodeName) -> Result<&Subject, Failure> {
        self.nodes.iter().find(|node| node.name == *name).ok_or_else(|| unknown_node(&self.nodes, name))
    }

    /// Ports as typed; services of the policy are known.
    pub(super) fn ports(&self, text: Option<&str>) -> Result<Option<PortSet>, Failure> {
        let read = |text| self.checked.names.ports(text).map_err(|reason| mistyped("ports", reason));
        text.map(read).transpose()
    }

    /// A selector as typed; groups of the policy are known.
    pub(super) fn selector(&self, text: &str) -> Result<Selector, Failure> {
        self.checked.names.selector(text).map_err(|reason| mistyped("selector", reason))
    }

    /// `  (policy 7)` for the policy in force, nothing for files.
    pub(super) fn under(&self) -> String {
        self.generation.map(|generation| format!("  (policy {generation})")).unwrap_or_default()
    }
}

/// `at 2026-12-01T12:00:00Z`
pub(super) fn at(moment: Timestamp) -> String {
    format!("at {}", moment::show(moment))
}

fn mistyped(what: &str, reason: String) -> Failure {
    Failure::usage(format!("{what}: {}", printable(&reason)), "bulkheadctl policy --help")
}

/// No such node, with some that there are.
pub(super) fn unknown_node(nodes: &[Subject], name: &NodeName) -> Failure {
    let known: Vec<_> = nodes.iter().map(|node| node.name.as_str()).take(MAX_NAMES_SHOWN).collect();
    let more = if nodes.len() > known.len() { ", …" } else { "" };
    let help = if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}{more}", known.join(", "))
    };
    Failure::usage(format!("no node {name}"), help)
}

/// Reads a policy for questions. Its own tests are no business of theirs: what is in force is asked as it is.
pub(super) fn understood(sources: &Sources, at: Timestamp, whence: &str) -> Result<Checked, Failure> {
    let options = Options { failing_tests: FailingTests::Warn, nodes: None };
    bulkhead_acl::check_with(sources, at, options).map_err(|diagnostics| {
        let errors: Vec<Diagnostic> =
            diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
        let (errors, warnings) = print_diagnostics(&errors);
        Failure::ChecksFailed(format!("{} in {whence}", count(errors, warnings)))
    })
}

/// The coordinator's nodes. Who has been revoked is nobody.
pub(super) async fn nodes(client: &mut Client) -> Result<Vec<Subject>, Failure> {
    let list: NodeList = client.get("/api/v1/nodes").await?;
    let active = list.nodes.into_iter().filter(|node| node.state == NodeState::Active);
    let subject = |node: bulkhead_protocol::admin::Node| -> anyhow::Result<Subject> {
        let name = NodeName::parse(&node.name).context("the coordinator's list of nodes")?;
        Ok(Subject { name, labels: node.labels })
    };
    let mut nodes = active.map(subject).collect::<anyhow::Result<Vec<_>>>()?;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::tests::{Scripted, http};
    use crate::policy::fixture::{NOON, POLICY};
    use serde_json::json;

    fn node(name: &str, state: &str) -> serde_json::Value {
        json!({
            "name": name, "labels": {"env": "prod", "role": "web"}, "ipv4": "100.64.0.1", "ipv6": "fd5a::1",
            "fingerprint": "f", "state": state, "enrolled": 0, "certificate_expires": 0, "connected": true,
            "last_seen": null, "observed": null, "generation": null, "epoch": null, "permitted_peers": 0,
        })
    }

    #[tokio::test]
    async fn the_coordinators_answers_are_a_basis_like_files() {
        let place = tempfile::tempdir().unwrap();
        let (policy, nodes) = (place.path().join("policy.d"), place.path().join("nodes.json"));
        std::fs::create_dir(&policy).unwrap();
        std::fs::write(policy.join("base.toml"), POLICY).unwrap();
        let list = json!({"nodes": [node("web-1", "active"), node("gone", "revoked")]}).to_string();
        std::fs::write(&nodes, &list).unwrap();
        let current = json!({
            "generation": 7, "sources": {"base.toml": POLICY}, "expires": null, "signing": "online",
            "pending": null, "coordinator_node": null,
        });

        let server = Scripted::start(vec![http("200 OK", &current.to_string()), http("200 OK", &list)]);
        let place = Place { socket: Some(server.socket()), key_file: None, session: None };
        let online = Basis::of(&place, &About { at: Some(NOON), ..About::default() }).await.unwrap();
        let about = About { policy: Some(policy), nodes: Some(nodes), at: Some(NOON) };
        let offline =
            Basis::of(&Place { socket: None, key_file: None, session: None }, &about).await.unwrap();
        assert_eq!((online.generation, offline.generation), (Some(7), None));
        assert_eq!(online.nodes, offline.nodes);
        assert_eq!(online.nodes.len(), 1);
        assert_eq!(online.checked.rules, offline.checked.rules);
    }
}
