//! What each node is sent of the policy in force: the slice of its labels. Nodes of one class have one slice, so it is
//! cut once for all of them.

use crate::ConnectionId;
use crate::coordinator::Coordinator;
use crate::effect::Effects;
use bulkhead_acl::{Class, RuleSet, SignedBundle, Subject};
use bulkhead_identity::{Generation, NodeName, Now, Timestamp};
use bulkhead_protocol::control::ToNode;
use ring::{digest, hmac};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of slices that are kept; when those of one generation are more, they are cut again as they are needed.
const MAX_CUT_BYTES: usize = 64 * 1024 * 1024;
/// Context of the signature that salts are drawn from. It is never published.
const CONTEXT_SALTS: &str = "bulkhead policy salts v1";

/// The bundle in force, and what was cut from it.
#[derive(Default)]
pub(crate) struct Slices {
    bundle: Option<SignedBundle>,
    cut: BTreeMap<Class, Arc<ToNode>>,
    cut_bytes: usize,
}

impl Slices {
    /// `None` when no bundle is in force that nodes would accept: they are sent none.
    pub(crate) fn of(bundle: Option<SignedBundle>) -> Self {
        Self { bundle, ..Self::default() }
    }

    /// When nodes begin to accept the bundle; `None` without one.
    pub(crate) fn not_before(&self) -> Option<Timestamp> {
        self.bundle.as_ref().map(SignedBundle::not_before)
    }

    /// What a node of this class is sent.
    fn cut(&mut self, class: &Class, subject: &Subject) -> Option<Arc<ToNode>> {
        if let Some(cut) = self.cut.get(class) {
            return Some(cut.clone());
        }
        let slice = self.bundle.as_ref()?.slice(subject);
        if self.cut_bytes + slice.len() > MAX_CUT_BYTES {
            self.cut.clear();
            self.cut_bytes = 0;
        }
        self.cut_bytes += slice.len();
        let message = Arc::new(ToNode::Policy { slice });
        self.cut.insert(class.clone(), message.clone());
        Some(message)
    }
}

impl Coordinator {
    /// Sends a node that follows us its part of the policy in force.
    pub(crate) fn send_slice_of(&mut self, name: &NodeName, effects: &mut Effects) {
        let Some(connection) = self.links.connection(name) else { return };
        if self.links.link(connection).is_some_and(|link| link.is_served()) {
            self.send_slice(connection, name, effects);
        }
    }

    /// Sends a node its part of the policy in force, over a link that may be told.
    pub(crate) fn send_slice(&mut self, connection: ConnectionId, name: &NodeName, effects: &mut Effects) {
        let (Some(node), Some(class)) = (self.state.nodes.get(name), self.reach.class(name)) else { return };
        let subject = Subject { name: name.clone(), labels: node.labels.clone() };
        if let Some(slice) = self.slices.cut(class, &subject) {
            effects.send(connection, slice);
        }
    }

    /// Sends every node that follows us its part of the policy in force.
    pub(crate) fn send_slices(&mut self, effects: &mut Effects) {
        let following: Vec<_> = self.links.following().map(|(link, name)| (link, name.clone())).collect();
        for (connection, name) in following {
            self.send_slice(connection, &name, effects);
        }
    }

    /// The seed of the salts of one bundle: nobody without the issuing key can tell it from a random one. It comes
    /// from a signature that is never published, over everything that tells this bundle from others, so that a
    /// generation that is made as time passes, without a draw of randomness, has one as well.
    pub(crate) fn salt_seed(&self, generation: Generation, rules: &RuleSet, now: Now) -> [u8; 32] {
        let rules = minicbor::to_vec(rules).expect("writing to a Vec does not fail");
        let mut about = digest::digest(&digest::SHA256, &rules).as_ref().to_vec();
        about.extend_from_slice(&generation.0.to_be_bytes());
        about.extend_from_slice(&now.wall.0.to_be_bytes());
        let secret = self.config.issuer.key().sign(CONTEXT_SALTS, &about);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mut seed = [0; 32];
        seed.copy_from_slice(hmac::sign(&key, CONTEXT_SALTS.as_bytes()).as_ref());
        seed
    }
}
