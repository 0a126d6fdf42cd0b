//! The trust document in force. Operators make the next one, offline; the coordinator takes it as any node does, by
//! [`Trust::update`](bulkhead_identity::Trust::update), keeps it in the journal and hands it on. Every version is
//! kept: whoever is several behind gets each in turn, signed by the operators of the one before. A document that
//! would cut the deployment off from itself is refused, each refusal with an override by name.

use crate::coordinator::{Coordinator, StartError};
use crate::effect::{Effects, Reply};
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::registry::{Certified, NodeRecord};
use crate::state::{ReplayError, State, contradiction};
use crate::timing::TRUST_WARNING;
use bulkhead_acl::SignedBundle;
use bulkhead_identity::{Draft, Epoch, Generation, Now, Revocations, Timestamp, Trust, TrustHash, verify};
use bulkhead_protocol::admin::{RootView, TrustApply, TrustOverrides, TrustView};
use bulkhead_protocol::control::ToNode;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many trust documents follow the first: a deployment that changes its operators weekly has enough for a
/// lifetime.
pub(crate) const MAX_TRUST_DOCUMENTS: usize = 2048;
/// How many nodes a refusal names.
const MAX_NAMED: usize = 10;

/// A trust document after the first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TrustRecord {
    /// Its version.
    #[n(0)]
    pub version: Epoch,
    /// Since when it is in force.
    #[n(1)]
    pub time: Timestamp,
    /// As operators signed it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub document: Vec<u8>,
}

pub(crate) fn audit(document: &[u8]) -> Value {
    let Ok(draft) = Draft::read(document) else { return json!({}) };
    let (document, hash) = (draft.document(), TrustHash::of(document));
    json!({ "version": document.version, "hash": hash.to_string(), "operators": draft.signers(),
            "policy_keys": document.policy_keys, "sealed": document.sealed, "expires": document.expires })
}

impl State {
    /// The document in force: `first`, and all that followed, each judged as of the moment when it was taken.
    ///
    /// # Errors
    /// When one does not follow on the one before, or the last has expired at `wall`.
    pub fn trust_in_force(&self, first: &Trust, wall: Timestamp) -> Result<Trust, StartError> {
        let mut later = self.trusts.iter();
        let last = later.try_fold(first.clone(), |trust, next| trust.update(&next.document, next.time));
        let last = last.map_err(|error| StartError(format!("the journal's trust documents: {error}")))?;
        if last.valid_at(wall) {
            Ok(last)
        } else {
            Err(StartError(format!(
                "the trust document expired at {}; start with the clock set to before that, apply the next one that \
                 operators sign (`bulkheadctl trust apply`), and set the clock right",
                last.document().expires
            )))
        }
    }

    pub(crate) fn follow_trust(&mut self, document: &[u8], time: Timestamp) -> Result<(), ReplayError> {
        let Ok(draft) = Draft::read(document) else { return contradiction("a trust document is malformed") };
        let version = draft.document().version;
        if self.trusts.last().is_some_and(|last| version <= last.version) {
            return contradiction(format!("trust document {version} is not newer"));
        }
        self.trusts.push(TrustRecord { version, time, document: document.to_vec() });
        Ok(())
    }

    /// Until when the first trust document was in force; `None` if it still is.
    #[must_use]
    pub fn first_trust_until(&self) -> Option<Timestamp> {
        self.trusts.first().map(|next| next.time)
    }
}

impl Coordinator {
    /// Every trust document, oldest first.
    pub fn trust_documents(&self) -> impl Iterator<Item = &[u8]> {
        let later = self.state.trusts.iter().map(|record| record.document.as_slice());
        std::iter::once(self.first_trust.as_slice()).chain(later)
    }

    /// Those that a node which holds `version` lacks, oldest first.
    pub(crate) fn trust_after(&self, version: Epoch) -> impl Iterator<Item = Arc<ToNode>> {
        let later = self.state.trusts.iter().filter(move |record| record.version > version);
        later.map(|record| Arc::new(ToNode::Trust { document: record.document.clone() }))
    }

    pub(crate) fn trust_show(&self, now: Now) -> Reply {
        let trust = &self.config.trust;
        let ours = trust.root_of(self.config.issuer.certificate(), &self.link_revocations(), now.wall);
        let mut roots: Vec<_> = trust
            .roots()
            .enumerate()
            .map(|(at, (key, not_after))| RootView {
                key,
                not_after,
                issuing: ours == Some(at),
                nodes: 0,
                connected: 0,
            })
            .collect();
        let mut known = BTreeMap::new();
        for node in self.state.nodes.values().filter(|node| node.is_active()) {
            let Some(issuer) = node.certificate.chain.certificates().get(1) else { continue };
            let root = *known
                .entry(issuer)
                .or_insert_with(|| trust.root_of(issuer, &self.link_revocations(), now.wall));
            if let Some(view) = root.and_then(|at| roots.get_mut(at))
                && self.may_come_back(&node.certificate, now)
            {
                view.nodes += 1;
                view.connected += usize::from(self.links.is_connected(&node.name));
            }
        }
        Reply::Trust(TrustView {
            version: trust.document().version.0,
            document: trust.bytes().to_vec(),
            coordinators: self.config.addresses.clone(),
            roots,
            behind: self.links.behind(trust.document().version),
            signing: self.signing(),
            ending_seals: self.ending_seals(now),
        })
    }

    /// That the trust document ends soon: nothing counts any more from then on.
    pub(crate) fn trust_warning(&self, now: Now) -> Option<String> {
        let document = self.config.trust.document();
        let (version, expires) = (document.version, document.expires);
        (expires <= now.wall.plus(TRUST_WARNING)).then(|| {
            format!(
                "trust document {version} ends at {expires}, and with it everything that rests on it: operators have to \
                 sign the next one (`bulkheadctl trust draft --expires`)"
            )
        })
    }

    /// Takes the operators' next document. Also while most nodes are ahead of a restored coordinator: it may be the
    /// very document that they hold.
    pub(crate) fn trust_apply(
        &mut self,
        actor: Actor,
        apply: &TrustApply,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        if self.state.restored {
            self.writable()?;
        }
        let next = self.config.trust.update(&apply.document, now.wall);
        let next = next.map_err(|error| self.trust_refused(&apply.document, &error.to_string()))?;
        if next.bytes() == self.config.trust.bytes() {
            return Ok(self.trust_show(now));
        }
        if self.state.trusts.len() >= MAX_TRUST_DOCUMENTS {
            let message =
                format!("{MAX_TRUST_DOCUMENTS} trust documents followed the first (MAX_TRUST_DOCUMENTS)");
            return Err(Refusal::new(Class::Unavailable, "BH-C174", message)
                .help("this deployment keeps the document in force; the next one needs a new deployment"));
        }
        self.require_harmless(&next, apply.overrides, now)?;
        let version = self.config.trust.document().version;
        self.commit(actor, Change::TrustUpdated { document: apply.document.clone() }, now, effects)?;
        self.config.trust = next;
        // Where operators took our issuer away on purpose, the list that was signed before still says whom to refuse.
        let _ = self.renew_link_revocations(now);
        for message in self.trust_after(version) {
            for (connection, _) in self.links.following() {
                effects.send(connection, message.clone());
            }
        }
        // Which keys count may have changed. What is in force compiled when it was applied, so this cannot fail; and the
        // document is taken whatever becomes of it.
        let _ = self.enforce(now, effects);
        self.follow_again(now, effects);
        Ok(self.trust_show(now))
    }

    fn trust_refused(&self, document: &[u8], why: &str) -> Refusal {
        let refusal = Refusal::new(Class::Unprocessable, "BH-C170", why);
        let Ok(draft) = Draft::read(document) else {
            return refusal.help("send a file that `bulkheadctl trust sign` wrote");
        };
        let before = draft.missing(self.config.trust.document());
        let own = draft.missing(draft.document());
        if before + own == 0 {
            return refusal
                .help("`bulkheadctl trust show` shows the one in force; draft the next one from it");
        }
        refusal.help(format!(
            "signatures that are missing: {before} of operators of the document in force, {own} of its own; \
             `bulkheadctl trust sign FILE --key KEY` adds one"
        ))
    }

    /// Refuses a document that would cut something off which works now.
    fn require_harmless(&self, next: &Trust, may: TrustOverrides, now: Now) -> Result<(), Refusal> {
        let cut =
            |code, message: String, help: &str| Err(Refusal::new(Class::Conflict, code, message).help(help));
        let ours = &self.config.trust;
        let signers =
            |trust: &Trust| (trust.document().policy_keys.clone(), trust.document().policy_threshold);
        // What should have gone back and cannot is not waited for.
        let waits = self.stuck.is_none() && self.state.unconfirmed().is_some();
        if waits && signers(next) != signers(ours) {
            let message = "a policy waits for its confirmation, and what it would go back to is signed by the keys of now";
            let help = "confirm it with `bulkheadctl policy confirm`, or wait until it went back";
            return cut("BH-C175", message.to_owned(), help);
        }
        if let Some(policy) = self.state.policy().filter(|_| !may.policy) {
            let verifies =
                |trust| SignedBundle::verify(&policy.bundle, trust, Generation(0), now.wall).is_ok();
            if verifies(ours) && !verifies(next) {
                let message = format!(
                    "under this document nodes would drop the policy in force, generation {}: too few of its \
                     signatures are by keys that stay",
                    policy.generation
                );
                let help = "sign the policy with the new keys first (`bulkheadctl policy sign`, `policy apply`), \
                            under a document that has both; or take it with --without-policy";
                return cut("BH-C171", message, help);
            }
        }
        if !may.issuer && !self.would_believe_us(next, now) {
            let message = "under this document nobody would believe this coordinator's certificates and revocation \
                           lists: none of its roots is the issuer's";
            let help = "install an issuer under a root that stays (`bulkhead-coordinator issuer request`), restart, \
                        and wait until `bulkheadctl trust show` counts no node under the old one; or take it with \
                        --without-issuer";
            return cut("BH-C172", message.to_owned(), help);
        }
        let lost = if may.nodes { Vec::new() } else { self.lost_under(next, now) };
        if lost.is_empty() {
            return Ok(());
        }
        let named = lost.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if lost.len() > MAX_NAMED { ", …" } else { "" };
        let message = format!(
            "under this document the certificates of {} active nodes would not verify: {named}{more}",
            lost.len()
        );
        let help = "nodes under an old root get new certificates while they are connected; nodes with labels that this \
                    document seals, or whose operators it removes, have to be sealed before (`bulkheadctl trust seal`); \
                    or cut them with --without-nodes";
        cut("BH-C173", message, help)
    }

    fn would_believe_us(&self, next: &Trust, now: Now) -> bool {
        let list = &self.state.revoked.list;
        let takes = |trust: &Trust| Revocations::verify(list, trust, Epoch(0), now.wall).is_ok();
        let keeps_list = list.is_empty() || takes(next) || !takes(&self.config.trust);
        let issuer = self.config.issuer.certificate();
        keeps_list && next.check_issuer(issuer, &self.link_revocations(), now.wall).is_ok()
    }

    /// Whether a node with this certificate is one of us: it is valid, or ended so lately that it can still be renewed.
    fn may_come_back(&self, certificate: &Certified, now: Now) -> bool {
        now.wall < certificate.not_after.plus(self.config.renewal_grace)
    }

    /// Active nodes whose certificates verify, or would for a renewal, and would not any more. A node that has not been
    /// given its latest one on the link it has, or has none, may hold the one before, and could not even come to fetch
    /// the latest.
    fn lost_under(&self, next: &Trust, now: Now) -> Vec<String> {
        let judged = |trust: &Trust| {
            let document = trust.document().clone();
            let ranges = (document.overlay_v6, document.overlay_v4);
            (document.roots, document.operator_keys, document.operator_threshold, document.sealed, ranges)
        };
        if judged(next) == judged(&self.config.trust) {
            return Vec::new();
        }
        let revocations = self.link_revocations();
        let verifies = |certificate: &Certified, trust: &Trust| {
            let last = Timestamp(certificate.not_after.0.saturating_sub(1));
            verify(&certificate.chain, trust, &revocations, now.wall.min(last)).is_ok()
        };
        let is_lost = |certificate: &Certified| {
            self.may_come_back(certificate, now)
                && !verifies(certificate, next)
                && verifies(certificate, &self.config.trust)
        };
        let has_latest = |node: &NodeRecord| {
            let link = self.links.connection(&node.name).and_then(|connection| self.links.link(connection));
            link.is_some_and(|link| link.serial == node.certificate.serial)
        };
        let active = self.state.nodes.values().filter(|node| node.is_active());
        let lost = active.filter(|node| {
            let before = node.previous.as_ref().filter(|_| !has_latest(node));
            is_lost(&node.certificate) || before.is_some_and(is_lost)
        });
        lost.map(|node| node.name.to_string()).collect()
    }
}
