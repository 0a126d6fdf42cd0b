//! From the policy in force to the nodes: what is sent when it changes, and who enforces it.

use crate::coordinator::{Coordinator, StartError};
use crate::effect::{Effects, Reply};
use crate::policy::PolicyRecord;
use crate::refusal::{Class, Refusal};
use crate::slices::Slices;
use bulkhead_acl::{Classes, FailingTests, Options, SignedBundle, check_with};
use bulkhead_identity::{Generation, Now, Trust};
use bulkhead_protocol::admin::AckStatus;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The policy in force, from its bundle. It was verified when it was made; when it does not verify any more, its
/// text is compiled again, and nodes keep what they hold. Without either nothing starts: empty maps would cut the
/// network that nodes keep up by themselves.
pub(crate) fn in_force(
    policy: Option<&PolicyRecord>,
    trust: &Trust,
    now: Now,
) -> Result<(Arc<Classes>, Slices), StartError> {
    let Some(policy) = policy else { return Ok(Default::default()) };
    let verified = [now.wall, policy.time]
        .into_iter()
        .find_map(|wall| SignedBundle::verify(&policy.bundle, trust, Generation(0), wall).ok());
    if let Some(bundle) = verified {
        return Ok((bundle.classes().clone(), Slices::of(Some(bundle))));
    }
    // It was applied, perhaps although tests failed.
    let options = Options { failing_tests: FailingTests::Warn, nodes: None };
    match check_with(&policy.sources, policy.time, options) {
        Ok(checked) => Ok((Arc::new(checked.rules.classes()), Slices::default())),
        Err(_) => {
            let generation = policy.generation;
            Err(StartError(format!("policy generation {generation} neither verifies nor compiles")))
        }
    }
}

impl Coordinator {
    /// Pushes the policy in force, then the maps that follow from it: what is lost ends before what is gained
    /// begins.
    pub(crate) fn enforce(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        let Some(policy) = self.state.policy() else { return Ok(()) };
        let generation = policy.generation;
        self.receipts.track_generation(generation);
        let (rules, slices) = in_force(Some(policy), &self.config.trust, now)
            .map_err(|error| Refusal::new(Class::Internal, "BH-C152", error.to_string()))?;
        self.slices = slices;
        self.reclass(rules, now);
        self.send_slices(effects);
        self.flush_maps(now, effects);
        self.links.prove_by_maps(generation);
        Ok(())
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
