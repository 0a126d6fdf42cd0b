//! The policies there are and were: one record for each generation, and what administrators ask about them. The
//! last one is in force. Generations only grow: going back is a new generation with an old text.

use crate::confirm::Confirmation;
use crate::coordinator::Coordinator;
use crate::effect::Reply;
use crate::refusal::{Class, Refusal};
use bulkhead_acl::{Service, Sources, Subject};
use bulkhead_identity::{Generation, NodeName, Now, Timestamp};
use bulkhead_protocol::admin::{Can, CanAnswer, PolicyCurrent, PolicyEntry, PolicyHistory};
use minicbor::{Decode, Encode};
use serde_json::{Value, json};

/// How many generations can be rolled back to; older ones are in the audit log only.
pub(crate) const MAX_HISTORY: usize = 256;
/// Most text that the history keeps.
pub(crate) const MAX_HISTORY_BYTES: usize = 64 * 1024 * 1024;

/// One generation of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PolicyRecord {
    /// Its number.
    #[n(0)]
    pub generation: Generation,
    /// Since when.
    #[n(1)]
    pub time: Timestamp,
    /// Who applied it.
    #[n(2)]
    pub author: String,
    /// Why.
    #[n(3)]
    pub message: String,
    /// The text.
    #[n(4)]
    pub sources: Sources,
    /// The complete signed bundle; empty once it is history that nothing goes back to by itself.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub bundle: Vec<u8>,
    /// When the bundle ends.
    #[n(6)]
    pub expires: Timestamp,
    /// Number of allow rules.
    #[n(7)]
    pub allow_rules: u32,
    /// Number of never rules.
    #[n(8)]
    pub never_rules: u32,
    /// What it waits for before it stays; none once it is confirmed, or history.
    #[n(9)]
    pub confirmation: Option<Confirmation>,
}

impl PolicyRecord {
    pub(crate) fn audit(&self) -> Value {
        let mut detail = json!({ "generation": self.generation, "message": self.message,
                "allow_rules": self.allow_rules, "never_rules": self.never_rules, "expires": self.expires });
        if let Some(Confirmation { by, back_to, expected, .. }) = &self.confirmation {
            detail["confirm_by"] = json!(by);
            detail["back_to"] = json!(back_to);
            detail["expected"] = json!(expected.len());
        }
        detail
    }

    fn entry(&self) -> PolicyEntry {
        PolicyEntry {
            generation: self.generation.0,
            time: self.time,
            author: self.author.clone(),
            message: self.message.clone(),
            allow_rules: self.allow_rules as usize,
            never_rules: self.never_rules as usize,
        }
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.sources.0.iter().map(|(file, text)| file.len() + text.len()).sum()
    }

    /// When the bundle is to be signed again.
    pub(crate) fn due(&self) -> Timestamp {
        self.time.plus(self.time.until(self.expires) / 2)
    }
}

/// Adds a generation to a history and drops what no longer fits: never the new one, nor the one it goes back to.
pub(crate) fn remember(history: &mut Vec<PolicyRecord>, policy: PolicyRecord) {
    for before in history.iter_mut() {
        before.confirmation = None;
    }
    history.push(policy);
    drop_bundles(history);
    let mut bytes: usize = history.iter().map(PolicyRecord::text_bytes).sum();
    while history.len() > 2 && (history.len() > MAX_HISTORY || bytes > MAX_HISTORY_BYTES) {
        let oldest =
            usize::from(history.last().and_then(back_to) == history.first().map(|old| old.generation));
        bytes -= history.remove(oldest).text_bytes();
    }
}

/// Drops the bundles that nothing needs any more: all but the one in force, and the one it may go back to.
pub(crate) fn drop_bundles(history: &mut [PolicyRecord]) {
    let Some(current) = history.last() else { return };
    let kept = [Some(current.generation), back_to(current)];
    for old in history.iter_mut().filter(|old| !kept.contains(&Some(old.generation))) {
        old.bundle = Vec::new();
    }
}

fn back_to(policy: &PolicyRecord) -> Option<Generation> {
    policy.confirmation.as_ref().map(|confirmation| confirmation.back_to)
}

impl Coordinator {
    pub(crate) fn policy_show(&self, now: Now) -> Reply {
        let policy = self.state.policy();
        Reply::Policy(PolicyCurrent {
            generation: self.state.generation().0,
            sources: policy.map(|policy| policy.sources.clone()).unwrap_or_default(),
            expires: policy.map(|policy| policy.expires),
            signing: self.signing(),
            pending: self.pending_confirmation(),
            coordinator_node: self.config.node.as_ref().map(NodeName::to_string),
            warnings: self.warnings(now),
        })
    }

    pub(crate) fn policy_history(&self) -> Reply {
        let entries = self.state.policies.iter().rev().map(PolicyRecord::entry).collect();
        Reply::History(PolicyHistory { entries })
    }

    pub(crate) fn policy_can(&self, can: &Can, now: Now) -> Result<Reply, Refusal> {
        let bad = |message: String| Refusal::new(Class::BadRequest, "BH-C154", message);
        let subject = |name: &str| -> Result<Subject, Refusal> {
            let name = NodeName::parse(name).map_err(|error| bad(error.to_string()))?;
            let node = self.state.node(&name)?;
            Ok(Subject { name, labels: node.labels.clone() })
        };
        let (from, to) = (subject(&can.from)?, subject(&can.to)?);
        let service = Service::parse(&can.service).map_err(|why| bad(why.to_string()))?;
        let wall = can.at.unwrap_or(now.wall);
        let decision = self.reach.rules().rules().decide(&from, &to, service, wall);
        let allowed = decision.is_allowed();
        let decision = serde_json::to_value(decision)
            .map_err(|error| Refusal::new(Class::Internal, "BH-C155", error.to_string()))?;
        Ok(Reply::Can(CanAnswer { allowed, generation: self.state.generation().0, decision }))
    }
}
