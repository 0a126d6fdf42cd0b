//! Labels of a node change: a new certificate for the same keys, and the old one ends by its serial number.
//! Maps go out before the revocation list: each peer then holds the new certificate, and judges by the new
//! labels, before the old one is void, and no tunnel is cut that may stay. The node itself gets its certificate
//! before the rules of its new labels: the rules that it holds until then are all that both labels have in common.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::refusal::Refusal;
use crate::registry::{Subject, relabelled};
use crate::revoke::Stride;
use crate::seal::{fits, refuse_sealed};
use bulkhead_identity::{Labels, NodeName, Now, Seal};
use bulkhead_protocol::admin::SetLabels;

impl Coordinator {
    pub(crate) fn node_label(
        &mut self,
        actor: Actor,
        (name, change): (&NodeName, &SetLabels),
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let node = self.state.active_node(name)?;
        refuse_sealed(change.labels.keys(), self.config.trust.document())?;
        let labels = relabelled(&node.labels, change)?;
        if labels == node.labels {
            return Ok(Reply::Node(self.node_view(node)));
        }
        let seal = node.seal.clone().filter(|seal| fits(seal, &labels));
        self.relabel(actor, (name, labels, seal), entropy, now, effects)
    }

    /// Gives an active node these labels, and this seal over those of them that are sealed.
    pub(crate) fn relabel(
        &mut self,
        actor: Actor,
        (name, labels, seal): (&NodeName, Labels, Option<Seal>),
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let node = self.state.node(name)?;
        let subject = Subject { labels: &labels, seal: seal.as_ref(), ..node.subject() };
        let certificate = self.certify(&subject, entropy.serial(), now)?;
        let old = node.certificate.clone();
        let revocation = self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&old))?;
        let change = Change::NodeRelabelled { name: name.clone(), labels, certificate, revocation, seal };
        self.commit(actor, change, now, effects)?;
        self.spread_labels(name, now, effects);
        Ok(Reply::Node(self.node_view(self.state.node(name)?)))
    }

    /// Tells everybody of a node whose labels were changed by a certificate and a revocation list.
    pub(crate) fn spread_labels(&mut self, name: &NodeName, now: Now, effects: &mut Effects) {
        self.receipts.track_epoch(self.state.revoked.epoch);
        // Those who could talk to it, and those who now may.
        self.mark_peers(name);
        let before = self.reach.groups_joined(name);
        self.admit(name, now);
        self.mark_moved(name, &before);
        self.send_certificate(name, effects);
        self.send_slice_of(name, effects);
        self.flush_maps(now, effects);
        self.push_revocations(effects, |_| true);
    }
}
