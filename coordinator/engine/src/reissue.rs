//! After a change of the issuing CA, every node gets a certificate of the new one: the same keys, addresses and
//! labels under another signature, so that no tunnel is touched. A node's turn comes after it connected; a named
//! pace keeps a whole deployment that reconnects at once from waiting for it. The revocation list is signed again
//! too, as a new epoch, before anybody has to believe it without the old root.

use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::registry::NodeRecord;
use crate::revoke::Stride;
use crate::state::State;
use crate::timing::{REISSUE_BATCH, REISSUE_INTERVAL, RETRY_INTERVAL};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Issuer, NodeName, Now, RevocationList};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whose certificate is still by another issuer, and has to be replaced.
pub(crate) struct Reissue {
    /// Each with the serial number that was drawn for it.
    waiting: BTreeMap<NodeName, Serial>,
    /// The revocation list in force is by another issuer.
    list: bool,
    /// Nothing is done before, on the monotonic clock.
    not_before: Duration,
}

impl Reissue {
    /// What is to be done under `issuer`; nodes are asked as they connect.
    pub(crate) fn starting(issuer: &Issuer, state: &State) -> Self {
        let list = &state.revoked.list;
        let ours = |list| RevocationList::issuer_of(list).is_some_and(|der| der == issuer.certificate());
        Self { waiting: BTreeMap::new(), list: !list.is_empty() && !ours(list), not_before: Duration::ZERO }
    }
}

impl Coordinator {
    /// A node said hello: if its certificate is by another issuer, its turn for a new one will come.
    pub(crate) fn plan_reissue(&mut self, name: &NodeName, entropy: &Entropy) {
        let link = self.links.connection(name).and_then(|connection| self.links.link(connection));
        let served = link.is_some_and(|link| link.is_served());
        if served && self.state.nodes.get(name).is_some_and(|node| self.is_by_another_issuer(node)) {
            self.reissue.waiting.insert(name.clone(), entropy.serial());
        }
    }

    fn is_by_another_issuer(&self, node: &NodeRecord) -> bool {
        let issuer = node.certificate.chain.certificates().get(1);
        node.is_active() && issuer.is_some_and(|der| **der != *self.config.issuer.certificate())
    }

    /// When [`Self::reissue_due`] has something to do.
    pub(crate) fn reissue_at(&self) -> Option<Duration> {
        (self.reissue.list || !self.reissue.waiting.is_empty()).then_some(self.reissue.not_before)
    }

    /// Whether the next tick would write certificates to the journal.
    #[must_use]
    pub fn reissues(&self, now: Now) -> bool {
        self.reissue_at().is_some_and(|at| at <= now.mono)
    }

    /// The journal has no room for them: not now.
    pub fn postpone_reissue(&mut self, now: Now) {
        self.reissue.not_before = now.mono + RETRY_INTERVAL;
    }

    /// Replaces the next few certificates, and the revocation list.
    pub(crate) fn reissue_due(&mut self, now: Now, effects: &mut Effects) {
        if self.reissue_at().is_none_or(|at| now.mono < at) {
            return;
        }
        if self.writable().is_err() {
            self.postpone_reissue(now);
            return;
        }
        self.reissue.not_before = now.mono + REISSUE_INTERVAL;
        if self.reissue.list && self.resign_revocations(now, effects).is_ok() {
            self.reissue.list = false;
        }
        for _ in 0..REISSUE_BATCH {
            let Some((name, serial)) = self.reissue.waiting.pop_first() else { break };
            self.reissue(&name, serial, now, effects);
        }
    }

    /// What cannot be issued, because a seal ended, stays as it is: the node renews by itself, and is told why not.
    fn reissue(&mut self, name: &NodeName, serial: Serial, now: Now, effects: &mut Effects) {
        // It may have renewed, or been revoked, since it was put in line.
        let Some(node) = self.state.nodes.get(name).filter(|node| self.is_by_another_issuer(node)) else {
            return;
        };
        let Ok(certificate) = self.certify(&node.subject(), serial, now) else { return };
        let (tunnel_key, binding) = (node.tunnel_key, node.binding);
        let change =
            Change::NodeRenewed { name: name.clone(), tunnel_key, certificate, revocation: None, binding };
        if self.commit(Actor::System, change, now, effects).is_ok() {
            self.send_certificate(name, effects);
            self.refresh(name);
        }
    }

    fn resign_revocations(&mut self, now: Now, effects: &mut Effects) -> Result<(), crate::Refusal> {
        let revocation = self.next_revocations(Stride::Next, now, |_| {})?;
        self.commit(Actor::System, Change::RevocationsSigned { revocation }, now, effects)?;
        self.receipts.track_epoch(self.state.revoked.epoch);
        self.push_revocations(effects, |_| true);
        Ok(())
    }
}
