//! Labels of a node change: a new certificate for the same keys, and the old one ends by its serial number.
//! Maps go out before the revocation list: each peer then holds the new certificate, and judges by the new
//! labels, before the old one is void, and no tunnel is cut that may stay.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::registry::{Subject, relabelled};
use crate::revoke::Stride;
use bulkhead_identity::{NodeName, Now};
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
        let node = self.state.node(name)?;
        if !node.is_active() {
            return Err(Refusal::new(Class::Conflict, "BH-C112", format!("node {name} is revoked")));
        }
        let labels = relabelled(&node.labels, change)?;
        if labels == node.labels {
            return Ok(Reply::Node(self.node_view(node)));
        }
        let subject = Subject {
            name,
            identity_key: node.identity_key,
            tunnel_key: node.tunnel_key,
            addresses: node.addresses,
            labels: &labels,
        };
        let certificate = self.certify(&subject, entropy.serial(), now)?;
        let old = node.certificate.clone();
        let revocation = self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&old))?;
        let change = Change::NodeRelabelled { name: name.clone(), labels, certificate, revocation };
        self.commit(actor, change, now, effects)?;
        self.receipts.track_epoch(self.state.revoked.epoch);
        self.send_certificate(name, effects);
        // Those who could talk to it, and those who now may.
        self.mark_peers(name);
        self.admit(name, now);
        self.maps.mark(name);
        self.flush_maps(now, effects);
        self.push_revocations(effects, |_| true);
        Ok(Reply::Node(self.node_view(self.state.node(name)?)))
    }
}
