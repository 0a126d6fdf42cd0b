//! People's sessions: how long a node goes on without its person. A certificate never outlives the session that it was
//! issued in. What becomes of it when the provider says something else is in [`crate::follow`].

use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::person::Owner;
use crate::refusal::{Class, Refusal};
use crate::registry::{Certified, NodeRecord, Subject};
use crate::revoke::Stride;
use crate::seal::fits;
use crate::state::{ReplayError, State};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Labels, NodeName, Now, Seal};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::time::Duration;

/// What a person's node is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedIn {
    /// The node.
    #[n(0)]
    pub name: NodeName,
    /// Whose it is.
    #[n(1)]
    pub owner: Owner,
    /// All its labels.
    #[n(2)]
    pub labels: Labels,
    /// The operators' word for those that are sealed.
    #[n(3)]
    pub seal: Option<Seal>,
    /// Of its certificates.
    #[n(4)]
    pub lifetime: Option<Duration>,
    /// Its certificate.
    #[n(5)]
    pub certificate: Certified,
    /// SHA-256 of the device code, after a sign-in at the machine.
    #[n(6)]
    pub device: Option<ByteArray<32>>,
}

impl SignedIn {
    pub(crate) fn audit(&self) -> Value {
        json!({ "name": self.name, "owner": self.owner.view(), "labels": self.labels,
                "serial": self.certificate.serial, "not_after": self.certificate.not_after })
    }
}

/// What changes about a node when its person does.
pub(crate) struct Regrant {
    pub(crate) owner: Owner,
    pub(crate) labels: Labels,
    pub(crate) seal: Option<Seal>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) device: Option<ByteArray<32>>,
}

impl State {
    /// Returns the certificate that was replaced.
    pub(crate) fn sign_in_node(&mut self, signed_in: &SignedIn) -> Result<Certified, ReplayError> {
        let SignedIn { name, owner, labels, seal, lifetime, certificate, device } = signed_in;
        let old = self.replace_certificate(name, certificate, |node| {
            node.owner = Some(owner.clone());
            node.labels.clone_from(labels);
            node.seal.clone_from(seal);
            node.lifetime = *lifetime;
        })?;
        if let Some(device) = device {
            self.devices.retain(|_, node| node != name);
            self.devices.insert(*device, name.clone());
        }
        Ok(old)
    }
}

impl Coordinator {
    /// A person signed in for a machine that is a node already. The labels of another owner go, wherever they were
    /// from, and sealed ones with them (D10); of the same owner, what administrators and operators gave stays.
    pub(crate) fn sign_in_again(
        &mut self,
        actor: Actor,
        name: &NodeName,
        (owner, lifetime, device): (Owner, Duration, ByteArray<32>),
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let node = self.state.active_node(name)?;
        let (labels, seal) = match &node.owner {
            Some(before) if before.person == owner.person => {
                regranted(node, &before.granted, &owner.granted)?
            }
            Some(_) | None => (owner.granted.clone(), None),
        };
        let (lifetime, device) = (Some(lifetime), Some(device));
        let regrant = Regrant { owner, labels, seal, lifetime, device };
        self.regrant(actor, name, regrant, entropy.serial(), now, effects)
    }

    /// Issues a certificate that says what the node is now. The old one ends if it says something else or lasts longer.
    pub(crate) fn regrant(
        &mut self,
        actor: Actor,
        name: &NodeName,
        regrant: Regrant,
        serial: Serial,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let node = self.state.active_node(name)?;
        let Regrant { owner, labels, seal, lifetime, device } = regrant;
        let subject = Subject {
            labels: &labels,
            seal: seal.as_ref(),
            lifetime,
            ends: Some(owner.session_until),
            ..node.subject()
        };
        let certificate = self.certify(&subject, serial, now)?;
        let (old, relabelled) = (node.certificate.clone(), labels != node.labels);
        let outdated = relabelled || old.not_after > certificate.not_after;
        let revocation =
            outdated.then(|| self.next_revocations(Stride::Next, now, |refused| refused.add_serial(&old)));
        let revocation = revocation.transpose()?;
        let name = name.clone();
        let signed_in =
            Box::new(SignedIn { name: name.clone(), owner, labels, seal, lifetime, certificate, device });
        self.commit(actor, Change::NodeSignedIn { signed_in, revocation }, now, effects)?;
        if outdated {
            self.spread_labels(&name, now, effects);
        } else {
            self.send_certificate(&name, effects);
            self.refresh(&name);
            self.flush_due_maps(now, effects);
        }
        Ok(())
    }

    /// Why a node is not renewed, when its person has to sign in first.
    pub(crate) fn refuse_after_session(&self, node: &NodeRecord, now: Now) -> Result<(), Refusal> {
        match &node.owner {
            Some(owner) if now.wall >= owner.session_until => Err(sign_in_first(owner)),
            Some(_) | None => Ok(()),
        }
    }
}

pub(crate) fn sign_in_first(owner: &Owner) -> Refusal {
    let message = format!("the session of {owner} ends at {}: sign in again", owner.session_until);
    Refusal::new(Class::Forbidden, "BH-C221", message).help("bulkhead up --sso")
}

/// A node's labels when its person is granted others than before: those go, these come, and the rest stays. The seal
/// stays with the labels that it is over.
pub(crate) fn regranted(
    node: &NodeRecord,
    before: &Labels,
    granted: &Labels,
) -> Result<(Labels, Option<Seal>), Refusal> {
    if before == granted {
        return Ok((node.labels.clone(), node.seal.clone()));
    }
    let own =
        node.labels.only(|key| before.get(key.as_str()).is_none() && granted.get(key.as_str()).is_none());
    let all = own.iter().chain(granted.iter()).map(|(key, value)| (key.clone(), value.clone()));
    let labels = Labels::new(all).map_err(|error| {
        Refusal::new(Class::Unprocessable, "BH-C222", error.to_string())
            .help("take labels from the node: bulkheadctl node label")
    })?;
    let seal = node.seal.clone().filter(|seal| fits(seal, &labels));
    Ok((labels, seal))
}
