//! Policy in force: text to signed bundle, its history, and who enforces it. A bad text never replaces a good
//! one, and generations only grow: going back is a new generation with an old text.

use crate::coordinator::{Coordinator, StartError};
use crate::effect::{Effects, Reply};
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::revoke::{Stride, remark};
use crate::timing::{BACKDATE, POLICY_LIFETIME};
use bulkhead_acl::bundle::MAX_BUNDLE_BYTES;
use bulkhead_acl::{Bundle, Classes, Policy, RuleSet, Service, Severity, Sources, Subject, check};
use bulkhead_identity::{Generation, IdentityKey, NodeName, Now, Timestamp};
use bulkhead_protocol::admin::{
    AckStatus, Applied, Can, CanAnswer, CheckReport, PolicyCurrent, PolicyEntry, PolicyHistory, PolicyText,
    Rollback,
};
use bulkhead_protocol::control::ToNode;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// The signed bundle; empty once it is history.
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
}

impl PolicyRecord {
    pub(crate) fn audit(&self) -> Value {
        json!({ "generation": self.generation, "message": self.message, "allow_rules": self.allow_rules,
                "never_rules": self.never_rules, "expires": self.expires })
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

    fn text_bytes(&self) -> usize {
        self.sources.0.iter().map(|(file, text)| file.len() + text.len()).sum()
    }

    /// When the bundle is to be signed again.
    fn due(&self) -> Timestamp {
        self.time.plus(self.time.until(self.expires) / 2)
    }
}

/// Adds a generation to a history and drops what no longer fits; never the new one.
pub(crate) fn remember(history: &mut Vec<PolicyRecord>, policy: PolicyRecord) {
    if let Some(before) = history.last_mut() {
        before.bundle = Vec::new();
    }
    history.push(policy);
    let mut bytes: usize = history.iter().map(PolicyRecord::text_bytes).sum();
    while history.len() > 1 && (history.len() > MAX_HISTORY || bytes > MAX_HISTORY_BYTES) {
        bytes -= history.remove(0).text_bytes();
    }
}

/// The rules of the policy in force, from its bundle. It was verified when it was made; when it does not
/// verify any more, its text is compiled again. Without either nothing starts: empty maps would cut the
/// network that nodes keep up by themselves.
pub(crate) fn rules_in_force(
    policy: Option<&PolicyRecord>,
    trust: &bulkhead_identity::Trust,
    now: Now,
) -> Result<Classes, StartError> {
    let Some(policy) = policy else { return Ok(RuleSet::default().classes()) };
    let verified = [now.wall, policy.time]
        .into_iter()
        .find_map(|wall| Policy::verify(&policy.bundle, trust, Generation(0), wall).ok());
    if let Some(verified) = verified {
        return Ok(verified.classes().clone());
    }
    let compiled = check(&policy.sources, policy.time).map(|checked| checked.rules.classes());
    compiled.map_err(|_| {
        StartError(format!("policy generation {} neither verifies nor compiles", policy.generation.0))
    })
}

/// A new generation about to be made.
struct Next {
    sources: Sources,
    rules: RuleSet,
    message: String,
    author: String,
}

impl Coordinator {
    pub(crate) fn policy_check(&self, text: &PolicyText, now: Now) -> Reply {
        let report = match check(&text.sources, now.wall) {
            Ok(checked) => CheckReport {
                ok: true,
                tests_passed: checked.tests_passed,
                allow_rules: checked.rules.allow.len(),
                never_rules: checked.rules.never.len(),
                diagnostics: checked.warnings,
            },
            Err(diagnostics) => {
                CheckReport { ok: false, diagnostics, tests_passed: 0, allow_rules: 0, never_rules: 0 }
            }
        };
        Reply::Checked(report)
    }

    pub(crate) fn policy_apply(
        &mut self,
        actor: Actor,
        text: PolicyText,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let current = self.state.generation().0;
        if let Some(base) = text.base.filter(|base| *base != current) {
            let message = format!("this edit started from generation {base}, but {current} is in force");
            return Err(Refusal::new(Class::Conflict, "BH-C150", message).help(
                "look at what changed with `bulkheadctl policy show`, merge it, and apply with `--base`",
            ));
        }
        let message = remark(text.message)?;
        self.apply_text(actor, text.sources, message, now, effects)
    }

    pub(crate) fn policy_rollback(
        &mut self,
        actor: Actor,
        rollback: &Rollback,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let wanted = rollback.generation;
        let old = self.state.policies.iter().find(|policy| policy.generation.0 == wanted);
        let Some(sources) = old.map(|policy| policy.sources.clone()) else {
            return Err(Refusal::no_such("generation", &wanted.to_string())
                .help("`bulkheadctl policy history` shows those that can be rolled back to"));
        };
        self.apply_text(actor, sources, format!("rollback to generation {wanted}"), now, effects)
    }

    fn apply_text(
        &mut self,
        actor: Actor,
        sources: Sources,
        message: String,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let checked = check(&sources, now.wall).map_err(|diagnostics| {
            let errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
            Refusal::new(Class::Unprocessable, "BH-C151", format!("the policy has {errors} errors"))
                .help("nothing was applied; `bulkheadctl policy check DIR` shows them all")
                .diagnostics(diagnostics)
        })?;
        let next = Next { sources, rules: checked.rules, message, author: actor.to_string() };
        let policy = self.sign_policy(next, Stride::Next, now)?;
        let generation = policy.generation.0;
        self.commit(actor, Change::PolicyApplied { policy: Box::new(policy) }, now, effects)?;
        self.enforce(now, effects)?;
        Ok(Reply::Applied(Applied { generation, warnings: checked.warnings }))
    }

    /// Signs the next generation, and makes sure that nodes will accept it.
    fn sign_policy(&self, next: Next, stride: Stride, now: Now) -> Result<PolicyRecord, Refusal> {
        let internal = |why: String| Refusal::new(Class::Internal, "BH-C152", why);
        let generation = Generation(stride.after(self.state.generation().0));
        let count = |rules: usize| u32::try_from(rules).unwrap_or(u32::MAX);
        let (allow_rules, never_rules) = (count(next.rules.allow.len()), count(next.rules.never.len()));
        let expires = now.wall.plus(POLICY_LIFETIME);
        let bundle = Bundle {
            trust_domain: self.config.trust.document().trust_domain.clone(),
            generation,
            not_before: Timestamp(now.wall.0.saturating_sub(BACKDATE.as_secs())),
            expires,
            rules: next.rules,
        };
        let keys: Vec<&IdentityKey> = self.config.policy_keys.iter().collect();
        let bundle = bundle.sign(&keys);
        if bundle.len() > MAX_BUNDLE_BYTES {
            let message = format!(
                "the compiled policy has {} bytes, more than {MAX_BUNDLE_BYTES} (MAX_BUNDLE_BYTES)",
                bundle.len()
            );
            return Err(
                Refusal::new(Class::Unprocessable, "BH-C153", message).help("use fewer or simpler rules")
            );
        }
        Policy::verify(&bundle, &self.config.trust, generation, now.wall)
            .map_err(|error| internal(format!("nodes would refuse this bundle: {error}")))?;
        Ok(PolicyRecord {
            generation,
            time: now.wall,
            author: next.author,
            message: next.message,
            sources: next.sources,
            bundle,
            expires,
            allow_rules,
            never_rules,
        })
    }

    /// The text in force under the next generation. Without one it is the empty text, which permits nobody.
    pub(crate) fn resign_policy(
        &self,
        actor: &Actor,
        message: &str,
        stride: Stride,
        now: Now,
    ) -> Result<PolicyRecord, Refusal> {
        let sources = self.state.policy().map(|policy| policy.sources.clone()).unwrap_or_default();
        let next = Next {
            sources,
            rules: self.reach.rules().rules().clone(),
            message: message.to_owned(),
            author: actor.to_string(),
        };
        self.sign_policy(next, stride, now)
    }

    /// Signs the policy again when half of its bundle's life is over.
    pub(crate) fn renew_policy(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        if self.writable().is_err() || self.policy_due().is_none_or(|due| now.wall < due) {
            return Ok(());
        }
        let policy = self.resign_policy(&Actor::System, "signed again before its end", Stride::Next, now)?;
        self.commit(Actor::System, Change::PolicyApplied { policy: Box::new(policy) }, now, effects)?;
        self.enforce(now, effects)
    }

    pub(crate) fn policy_due(&self) -> Option<Timestamp> {
        self.state.policy().map(PolicyRecord::due)
    }

    /// Pushes the policy in force, then the maps that follow from it: what is lost ends before what is gained
    /// begins.
    pub(crate) fn enforce(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        let Some(policy) = self.state.policy() else { return Ok(()) };
        self.receipts.track_generation(policy.generation);
        let rules = rules_in_force(Some(policy), &self.config.trust, now);
        let rules = rules.map_err(|error| Refusal::new(Class::Internal, "BH-C152", error.to_string()))?;
        let message = Arc::new(ToNode::Policy { bundle: policy.bundle.clone() });
        for (connection, _) in self.links.following() {
            effects.send(connection, message.clone());
        }
        let generation = policy.generation;
        self.reindex(rules, now);
        self.flush_maps(now, effects);
        self.links.prove_by_maps(generation);
        Ok(())
    }

    pub(crate) fn policy_show(&self) -> Reply {
        let sources = self.state.policy().map(|policy| policy.sources.clone()).unwrap_or_default();
        Reply::Policy(PolicyCurrent { generation: self.state.generation().0, sources })
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

    pub(crate) fn policy_ack(&self, generation: u64) -> Result<Reply, Refusal> {
        if generation > self.state.generation().0 {
            return Err(Refusal::no_such("generation", &generation.to_string()));
        }
        let acknowledged = self.receipts.of_generation(Generation(generation));
        let heard: BTreeSet<_> = acknowledged.iter().map(|view| view.node.as_str()).collect();
        let silent =
            self.state.nodes.values().filter(|node| node.is_active() && !heard.contains(node.name.as_str()));
        let (connected, offline): (Vec<_>, Vec<_>) =
            silent.partition(|node| self.links.is_connected(&node.name));
        let names =
            |nodes: Vec<&crate::NodeRecord>| nodes.into_iter().map(|node| node.name.to_string()).collect();
        let (waiting, offline) = (names(connected), names(offline));
        Ok(Reply::Acknowledged(AckStatus { generation, acknowledged, waiting, offline }))
    }
}
