//! Sealed labels in the registry. Where the trust document seals a key, nobody but operators confers that label:
//! tokens and relabelling leave it alone, and a node gets it, keeps it and loses it only by a seal. A seal that has
//! ended is not dropped in silence: the node would lose a label by which a rule may forbid. Its certificate is not
//! renewed until operators sealed its labels again. Before a key is sealed, the nodes that have such a label can be
//! given their seals: they mean nothing yet, and everything from the moment at which the next trust document counts.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::Actor;
use crate::refusal::{Class, Refusal};
use crate::registry::Subject;
use crate::timing::SEAL_WARNING;
use bulkhead_identity::{Claims, LabelKey, LabelValue, Labels, NodeName, Now, Seal, TrustDocument};
use bulkhead_protocol::admin::{EndingSeal, SetSeal};
use serde_json::{Value, json};

pub(crate) fn audit(seal: &Seal) -> Value {
    let statement = seal.statement();
    json!({ "labels": statement.labels, "not_after": statement.not_after, "operators": seal.signers() })
}

/// Refuses to let a sealed label be given or taken without a seal.
pub(crate) fn refuse_sealed<T: AsRef<str>>(
    keys: impl IntoIterator<Item = T>,
    trust: &TrustDocument,
) -> Result<(), Refusal> {
    let mut keys = keys.into_iter();
    let sealed = keys.find(|key| trust.sealed.iter().any(|sealed| sealed.as_str() == key.as_ref()));
    let Some(key) = sealed else { return Ok(()) };
    let message = format!("label {:?} is sealed: only operators give and take it", key.as_ref());
    Err(Refusal::new(Class::Forbidden, "BH-C180", message).help(
        "when the node has joined: bulkheadctl trust seal NODE KEY=VALUE… --key OPERATOR.key, with all its sealed labels",
    ))
}

/// Whether the seal is over labels that a node with `labels` has.
pub(crate) fn fits(seal: &Seal, labels: &Labels) -> bool {
    seal.statement().labels.iter().all(|(key, value)| labels.get(key.as_str()) == Some(value))
}

/// The seal that a certificate for `subject` has to carry; where none of its labels is sealed yet, the one it may.
pub(crate) fn seal_for<'a>(
    subject: &Subject<'a>,
    trust: &TrustDocument,
    now: Now,
) -> Result<Option<&'a Seal>, Refusal> {
    let sealed = trust.sealed_among(subject.labels);
    if sealed.is_empty() {
        let counts = |seal: &&Seal| now.wall < seal.statement().not_after && fits(seal, subject.labels);
        return Ok(subject.seal.filter(counts));
    }
    let refused = |why: String| Err(again(Refusal::new(Class::Conflict, "BH-C181", why), subject.name));
    match subject.seal {
        None => refused(format!("{} of node {} is sealed, and no operator sealed it", sealed, subject.name)),
        Some(seal) if now.wall >= seal.statement().not_after => {
            let end = seal.statement().not_after;
            refused(format!("the seal over {} of node {} ended at {end}", sealed, subject.name))
        }
        Some(seal) => Ok(Some(seal)),
    }
}

/// That everybody will take the seal in these claims for what it is meant to be.
pub(crate) fn require_seal(claims: &Claims, trust: &TrustDocument) -> Result<(), Refusal> {
    let checked = claims.check_seal(trust);
    checked
        .map_err(|error| again(Refusal::new(Class::Conflict, "BH-C181", error.to_string()), &claims.id.name))
}

fn again(refusal: Refusal, name: &NodeName) -> Refusal {
    refusal.help(format!(
        "have operators seal its labels: bulkheadctl trust seal {name} KEY=VALUE… --key OPERATOR.key"
    ))
}

impl Coordinator {
    /// Active nodes whose seals end soon, the most urgent first.
    pub(crate) fn ending_seals(&self, now: Now) -> Vec<EndingSeal> {
        let active = self.state.nodes.values().filter(|node| node.is_active());
        let sealed = active.filter_map(|node| Some((node, node.seal.as_ref()?.statement().not_after)));
        let soon = sealed.filter(|(_, end)| *end <= now.wall.plus(SEAL_WARNING));
        let mut ending: Vec<_> =
            soon.map(|(node, not_after)| EndingSeal { node: node.name.to_string(), not_after }).collect();
        ending.sort_by_key(|seal| seal.not_after);
        ending
    }

    /// Gives a node the labels of a seal, in place of all sealed labels that it has.
    pub(crate) fn node_seal(
        &mut self,
        actor: Actor,
        (name, set): (&NodeName, &SetSeal),
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let node = self.state.active_node(name)?;
        let refused = |why: String| Refusal::new(Class::Unprocessable, "BH-C182", why);
        let seal = Seal::decode(&set.seal).map_err(|error| refused(error.to_string()))?;
        let trust = self.config.trust.document();
        seal.verify(trust).map_err(|error| {
            refused(error.to_string())
                .help("let enough operators sign it: `bulkheadctl trust seal --in FILE --key KEY`")
        })?;
        let statement = seal.statement();
        if statement.name != *name || statement.identity_key != node.identity_key {
            return Err(refused(
                "the seal is over another node's labels, or over another key of this name".to_owned(),
            )
            .help(format!("`bulkheadctl node show {name}` shows the key")));
        }
        if now.wall >= statement.not_after {
            return Err(refused(format!("the seal ended at {}", statement.not_after)));
        }
        let conferred = |key: &LabelKey, value: &LabelValue| {
            trust.sealed.contains(key) || node.labels.get(key.as_str()) == Some(value)
        };
        if let Some((key, value)) = statement.labels.iter().find(|(key, value)| !conferred(key, value)) {
            return Err(refused(format!(
                "label {key} is not sealed, and node {name} does not have {key}={value}"
            ))
            .help(format!("give it with: bulkheadctl node label {name} {key}={value}")));
        }
        let sealed =
            |key: &LabelKey| trust.sealed.contains(key) || statement.labels.get(key.as_str()).is_some();
        let free = node.labels.only(|key| !sealed(key));
        let all = free.iter().chain(statement.labels.iter());
        let labels = Labels::new(all.map(|(key, value)| (key.clone(), value.clone())));
        let labels = labels.map_err(|error| refused(error.to_string()))?;
        let seal = (!statement.labels.is_empty()).then_some(seal);
        if labels == node.labels && seal == node.seal {
            return Ok(Reply::Node(self.node_view(node)));
        }
        self.relabel(actor, (name, labels, seal), entropy, now, effects)
    }
}
