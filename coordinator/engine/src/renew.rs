//! Renewal over the control link. The link's own key must sign, so nobody renews with another node's (D14);
//! the certificate says what the registry says, whatever the request would like. A new tunnel key must be
//! nobody else's, and ends the certificate of the old one.

use crate::challenge::Open;
use crate::conversation::{Arrival, refuse};
use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::registry::Subject;
use crate::revoke::Stride;
use bulkhead_identity::{CertificateRequest, NodeName, Now};
use bulkhead_protocol::control::ToNode;

impl Coordinator {
    pub(crate) fn renew_begin(&mut self, arrival: &Arrival<'_>, now: Now, effects: &mut Effects) {
        let Some(link) = self.links.link_mut(arrival.connection) else { return };
        let open = Open::new(arrival.entropy, now);
        let (challenge, key) = (open.challenge(), open.key());
        link.challenge = Some(open);
        effects.send(arrival.connection, ToNode::RenewChallenge { challenge, key });
    }

    pub(crate) fn renew_finish(
        &mut self,
        arrival: &Arrival<'_>,
        name: &NodeName,
        request: &CertificateRequest,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(refusal) = self.renew(arrival, name, request, now, effects) {
            refuse(arrival.connection, "renew", &refusal.message, effects);
        }
    }

    fn renew(
        &mut self,
        arrival: &Arrival<'_>,
        name: &NodeName,
        request: &CertificateRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        // Restored from a backup, we might renew what was revoked since.
        self.writable()?;
        let refused = |why: &str| Refusal::new(Class::Forbidden, "BH-C140", why);
        let open = self.links.link_mut(arrival.connection).and_then(|link| link.challenge.take());
        let open = open.ok_or_else(|| refused("there is no challenge to answer"))?;
        if !self.links.spend_renewal(name, now) {
            return Err(refused("too many renewals in a short time"));
        }
        let (identity_key, tunnel_key) = open.answer(request, now).map_err(refused)?;
        let node = self.state.node(name)?;
        if !node.is_active() || node.identity_key != identity_key {
            return Err(refused("the request is not by the key of this link"));
        }
        let changed = node.tunnel_key != tunnel_key;
        let taken = |other: &crate::NodeRecord| other.name != *name && other.tunnel_key == tunnel_key;
        if changed && self.state.nodes.values().any(taken) {
            return Err(refused("the tunnel key belongs to another node"));
        }
        let (addresses, labels) = (node.addresses, node.labels.clone());
        let subject = Subject { name, identity_key, tunnel_key, addresses, labels: &labels };
        let certificate = self.certify(&subject, arrival.entropy.serial(), now)?;
        let old = node.certificate.clone();
        let revocation =
            changed.then(|| self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&old)));
        let revocation = revocation.transpose()?;
        let change = Change::NodeRenewed { name: name.clone(), tunnel_key, certificate, revocation };
        self.commit(Actor::Node(name.clone()), change, now, effects)?;
        self.send_certificate(name, effects);
        self.refresh(name);
        if changed {
            self.flush_maps(now, effects);
            self.push_revocations(effects, |_| true);
        }
        self.flush_due_maps(now, effects);
        Ok(())
    }

    /// Sends a node its own certificate, if it is connected.
    pub(crate) fn send_certificate(&mut self, name: &NodeName, effects: &mut Effects) {
        let Some(connection) = self.links.connection(name) else { return };
        let (Some(node), Some(link)) = (self.state.nodes.get(name), self.links.link_mut(connection)) else {
            return;
        };
        if link.held.is_none() || link.set_aside {
            return;
        }
        link.serial = node.certificate.serial;
        effects.send(connection, ToNode::Certificate { chain: node.certificate.chain.clone() });
    }
}
