//! Sealing labels: operators sign which sealed labels one node has. Whose key they sign for comes from the
//! coordinator, which may lie: the fingerprint is shown, to be compared with what the node itself says.

use super::document;
use crate::Place;
use crate::command;
use crate::confirm::{Consent, approve};
use crate::failure::Failure;
use crate::policy::MAX_NODES_FILE_BYTES;
use crate::screen::{Screen, remark};
use crate::{key_file, moment, node, public_file};
use anyhow::{Context as _, anyhow};
use bulkhead_identity::seal::MAX_SEAL_BYTES;
use bulkhead_identity::{IdentityKey, IdentityPublicKey, Labels, NodeName, Seal, SealedLabels, Timestamp};
use bulkhead_protocol::admin::{Node, SetSeal};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What `--json` shows.
#[derive(Serialize)]
struct Sealed<'a> {
    node: &'a NodeName,
    /// Of the node's key.
    fingerprint: String,
    labels: &'a Labels,
    not_after: Timestamp,
    signers: Vec<IdentityPublicKey>,
}

/// `trust seal`.
pub(super) async fn run(place: &Place, arguments: command::Seal, screen: Screen) -> Result<(), Failure> {
    let keys = arguments.keys.iter().map(|path| key_file::read(path)).collect::<Result<Vec<_>, _>>()?;
    match (&arguments.input, &arguments.node) {
        (Some(file), _) if keys.is_empty() => send(place, &begun(file)?, screen).await,
        (Some(file), _) => {
            let mut seal = begun(file)?;
            require_right_key(&arguments, seal.statement())?;
            for key in &keys {
                seal.countersign(key).context("signing")?;
            }
            public_file::replace(file, &seal.encode())?;
            show(&seal, screen)
        }
        (None, Some(node)) => {
            let seal = make(place, &arguments, node, &keys).await?;
            match &arguments.out {
                Some(file) => {
                    public_file::write_new(file, &seal.encode())?;
                    show(&seal, screen)
                }
                None => send(place, &seal, screen).await,
            }
        }
        // The command line asks for one of them.
        (None, None) => {
            Err(Failure::usage("no node is named", "bulkheadctl trust seal NODE KEY=VALUE --key KEY"))
        }
    }
}

fn begun(file: &Path) -> anyhow::Result<Seal> {
    let bytes = public_file::read(file, ("MAX_SEAL_BYTES", MAX_SEAL_BYTES))?;
    Seal::decode(&bytes).with_context(|| format!("reading {}", file.display()))
}

async fn make(
    place: &Place,
    arguments: &command::Seal,
    name: &NodeName,
    keys: &[IdentityKey],
) -> Result<Seal, Failure> {
    let trust = document(place, arguments.trust.as_deref()).await?;
    let trust = trust.document();
    let labels = Labels::new(arguments.labels.iter().cloned()).context("the labels")?;
    for (key, _) in labels.iter().filter(|(key, _)| !trust.sealed.contains(key)) {
        remark(&format!(
            "note: label {key} is not sealed yet; the seal counts from the document on that seals it"
        ));
    }
    let identity_key = match &arguments.nodes {
        Some(file) => listed(file, name)?,
        None => known(&node::fetch(&mut place.client()?, name).await?)?,
    };
    let statement = SealedLabels {
        trust_domain: trust.trust_domain.clone(),
        name: name.clone(),
        identity_key,
        labels,
        not_after: moment::now().plus(arguments.lifetime),
    };
    require_right_key(arguments, &statement)?;
    Ok(Seal::sign(&statement, &keys.iter().collect::<Vec<_>>()).context("signing")?)
}

/// Shows for whose key, and what for, operators are about to sign. In a seal that others began, a key that was
/// compared says nothing about the labels: whoever signs it is asked all the same.
fn require_right_key(arguments: &command::Seal, statement: &SealedLabels) -> Result<(), Failure> {
    let SealedLabels { trust_domain, name, identity_key, labels, not_after } = statement;
    let fingerprint = identity_key.fingerprint().to_string();
    let expected = arguments.fingerprint.as_ref();
    if expected.is_some_and(|expected| *expected != fingerprint) {
        return Err(anyhow!("node {name} has another key here: {fingerprint}; nothing was signed").into());
    }
    let effect = format!(
        "{name} of {trust_domain} with the key {fingerprint} will have {} to {}.",
        said(labels),
        moment::show(*not_after)
    );
    if expected.is_some() {
        let consent = if arguments.input.is_some() { arguments.yes.into() } else { Consent::Given };
        return approve(consent, &effect, "Sign?");
    }
    let effect = format!("{effect} Compare the key with what `bulkhead status` shows on {name}.");
    approve(arguments.yes.into(), &effect, "Sign?")
}

fn said(labels: &Labels) -> String {
    if labels.is_empty() { "no sealed labels".to_owned() } else { labels.to_string() }
}

fn known(node: &Node) -> anyhow::Result<IdentityPublicKey> {
    node.identity_key.context("the coordinator does not say which key the node has")
}

#[derive(Deserialize)]
struct NodesFile {
    nodes: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    identity_key: Option<IdentityPublicKey>,
}

/// The key of a node in a file that `node list` made.
fn listed(file: &Path, name: &NodeName) -> anyhow::Result<IdentityPublicKey> {
    let text = public_file::read(file, ("MAX_NODES_FILE_BYTES", MAX_NODES_FILE_BYTES))?;
    let nodes: NodesFile =
        serde_json::from_slice(&text).with_context(|| format!("reading nodes from {}", file.display()))?;
    let node = nodes.nodes.iter().find(|node| node.name == name.as_str());
    node.and_then(|node| node.identity_key)
        .with_context(|| format!("{} does not say which key {name} has", file.display()))
}

async fn send(place: &Place, seal: &Seal, screen: Screen) -> Result<(), Failure> {
    let name = &seal.statement().name;
    let set = SetSeal { seal: seal.encode() };
    let _: Node = place.client()?.put(&format!("/api/v1/nodes/{name}/seal"), &set).await?;
    show(seal, screen)
}

fn show(seal: &Seal, screen: Screen) -> Result<(), Failure> {
    let statement = seal.statement();
    let sealed = Sealed {
        node: &statement.name,
        fingerprint: statement.identity_key.fingerprint().to_string(),
        labels: &statement.labels,
        not_after: statement.not_after,
        signers: seal.signers(),
    };
    screen.answer("seal", &sealed, |sealed| {
        let signers: Vec<String> = sealed.signers.iter().map(ToString::to_string).collect();
        format!(
            "{} with the key {}: {} to {}, signed by {}",
            sealed.node,
            sealed.fingerprint,
            said(sealed.labels),
            moment::show(sealed.not_after),
            signers.join(", ")
        )
    })
}
