//! Renewal over the control link. The link's own key must sign, so nobody renews with another node's (D14);
//! the certificate says what the registry says, whatever the request would like. A new tunnel key must be
//! nobody else's, and ends the certificate of the old one.
//!
//! A certificate that ended while the coordinator was away is renewed too, for the grace of the
//! [configuration](crate::Config): the registry still knows the node, so nothing is granted that it did not have.
//! Its peers refuse the old certificate all the same.

use crate::challenge::Open;
use crate::command::ConnectionId;
use crate::conversation::{Arrival, refuse};
use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::event::{Actor, Change};
use crate::links::Held;
use crate::refusal::{Class, Refusal};
use crate::registry::{NodeRecord, Subject};
use crate::revoke::Stride;
use crate::sessions::sign_in_first;
use bulkhead_identity::{CertificateRequest, NodeName, Now, Timestamp, VerifiedIdentity};
use bulkhead_protocol::control::ToNode;

impl Coordinator {
    /// Whether a certificate that has ended may still be renewed: soon enough, for the keys of this node, and by an
    /// issuer that may still speak, be it ours or the one before.
    pub(crate) fn may_still_renew(&self, node: &NodeRecord, identity: &VerifiedIdentity, now: Now) -> bool {
        let (claims, end) = (identity.claims(), identity.not_after());
        let in_time = end <= now.wall && now.wall < end.plus(self.config.renewal_grace);
        let issuer = identity.chain().certificates().get(1);
        let trusted = issuer.is_some_and(|der| {
            self.config.trust.check_issuer(der, &self.link_revocations(), now.wall).is_ok()
        });
        in_time
            && trusted
            && now.wall < self.config.issuer.not_after()
            && claims.tunnel_key == Some(node.tunnel_key)
    }

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
        let (identity_key, tunnel_key, binding) = open.answer(request, now).map_err(refused)?;
        let node = self.state.node(name)?;
        if !node.is_active() || node.identity_key != identity_key {
            return Err(refused("the request is not by the key of this link"));
        }
        self.refuse_after_session(node, now)?;
        let changed = node.tunnel_key != tunnel_key;
        let expired = self.links.link(arrival.connection).is_some_and(|link| link.expired);
        if changed && expired {
            return Err(refused("a certificate that has ended is renewed for the same tunnel key only"));
        }
        let taken = |other: &NodeRecord| other.name != *name && other.tunnel_key == tunnel_key;
        if changed && self.state.nodes.values().any(taken) {
            return Err(refused("the tunnel key belongs to another node"));
        }
        let subject = Subject { tunnel_key, binding, ..node.subject() };
        let certificate = self.certify(&subject, arrival.entropy.serial(), now)?;
        let old = node.certificate.clone();
        let gains = changed || certificate.not_after > old.not_after;
        let lacks = self.links.link(arrival.connection).is_some_and(|link| link.serial != old.serial);
        match &node.owner {
            Some(owner) if !gains && !lacks => return Err(sign_in_first(owner)),
            // Its owner signed in again when it could not be told. What came of that is as good as a new one.
            Some(_) if !gains => {}
            Some(_) | None => {
                let revocation = changed
                    .then(|| self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&old)));
                let (name, revocation) = (name.clone(), revocation.transpose()?);
                let actor = Actor::Node(name.clone());
                let change = Change::NodeRenewed { name, tunnel_key, certificate, revocation, binding };
                self.commit(actor, change, now, effects)?;
            }
        }
        let returned = self.end_expiry(arrival.connection);
        self.send_certificate(name, effects);
        self.refresh(name);
        if changed {
            self.flush_maps(now, effects);
            self.push_revocations(effects, |_| true);
        }
        match returned {
            // What it missed while its certificate had ended.
            Some(held) => self.bring_up_to_date(arrival.connection, held, now, effects),
            None => self.flush_due_maps(now, effects),
        }
        Ok(())
    }

    /// From now on an ordinary link; what its node holds, if it was none before.
    fn end_expiry(&mut self, connection: ConnectionId) -> Option<Held> {
        let link = self.links.link_mut(connection)?;
        std::mem::take(&mut link.expired).then_some(link.held).flatten()
    }

    /// Sends a node its own certificate, if it is connected.
    pub(crate) fn send_certificate(&mut self, name: &NodeName, effects: &mut Effects) {
        let Some(connection) = self.links.connection(name) else { return };
        let (Some(node), Some(link)) = (self.state.nodes.get(name), self.links.link_mut(connection)) else {
            return;
        };
        if !link.is_served() {
            return;
        }
        link.serial = node.certificate.serial;
        let chain = node.certificate.chain.clone();
        let session_until = self.session_until(name);
        effects.send(connection, ToNode::Certificate { chain, session_until });
    }

    /// When the session of a node's owner ends.
    pub(crate) fn session_until(&self, name: &NodeName) -> Option<Timestamp> {
        self.state.nodes.get(name)?.owner.as_ref().map(|owner| owner.session_until)
    }
}
