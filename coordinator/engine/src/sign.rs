//! Signing the policy. A coordinator that holds enough of the keys that the trust document names signs what it is
//! given (online). One that does not takes only what was signed elsewhere (offline): whoever copies its whole disk
//! cannot widen the policy of a single node.

use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::event::Actor;
use crate::policy::PolicyRecord;
use crate::refusal::{Class, Refusal};
use crate::revoke::Stride;
use crate::timing::{BACKDATE, POLICY_LIFETIME};
use bulkhead_acl::bundle::MAX_BUNDLE_BYTES;
use bulkhead_acl::{Bundle, RuleSet, SignedBundle, Sources};
use bulkhead_identity::{Generation, IdentityKey, Now, Timestamp};
use bulkhead_protocol::admin::Signing;

/// Most generations that a policy signed elsewhere may leave out: enough to overtake any restore, and never so many
/// that no generation is left.
const MAX_GENERATION_LEAP: u64 = 1 << 40;

/// A new generation about to be made.
pub(crate) struct Next {
    pub(crate) sources: Sources,
    pub(crate) rules: RuleSet,
    pub(crate) message: String,
    pub(crate) author: String,
}

/// Its signature.
struct Signature {
    generation: Generation,
    expires: Timestamp,
    bundle: Vec<u8>,
}

impl Next {
    fn signed(self, signature: Signature, time: Timestamp) -> PolicyRecord {
        let count = |rules: usize| u32::try_from(rules).unwrap_or(u32::MAX);
        PolicyRecord {
            generation: signature.generation,
            time,
            author: self.author,
            message: self.message,
            sources: self.sources,
            bundle: signature.bundle,
            expires: signature.expires,
            allow_rules: count(self.rules.allow.len()),
            never_rules: count(self.rules.never.len()),
            confirmation: None,
        }
    }
}

impl Coordinator {
    /// Where policy is signed.
    #[must_use]
    pub fn signing(&self) -> Signing {
        let enough = usize::from(self.config.trust.document().policy_threshold);
        if self.policy_signers().len() >= enough { Signing::Online } else { Signing::Offline }
    }

    /// Our keys that the trust document in force names.
    fn policy_signers(&self) -> Vec<&IdentityKey> {
        let named = &self.config.trust.document().policy_keys;
        self.config.policy_keys.iter().filter(|key| named.contains(&key.public())).collect()
    }

    /// Signs the next generation, and makes sure that nodes will accept it.
    pub(crate) fn sign_policy(&self, next: Next, stride: Stride, now: Now) -> Result<PolicyRecord, Refusal> {
        match self.signing() {
            Signing::Online => {}
            Signing::Offline => {
                let message = "this coordinator does not hold enough policy keys to sign a policy";
                return Err(Refusal::new(Class::Conflict, "BH-C158", message).help(
                    "sign it with `bulkheadctl policy sign` where the keys are, and apply the file it writes",
                ));
            }
        }
        let generation = Generation(stride.after(self.state.generation().0));
        let expires = now.wall.plus(POLICY_LIFETIME);
        let bundle = Bundle {
            trust_domain: self.config.trust.document().trust_domain.clone(),
            generation,
            not_before: Timestamp(now.wall.0.saturating_sub(BACKDATE.as_secs())),
            expires,
            rules: next.rules.clone(),
            seed: self.salt_seed(generation, &next.rules, now),
        };
        let bundle = bundle.sign(&self.policy_signers());
        if bundle.len() > MAX_BUNDLE_BYTES {
            let message = format!(
                "the compiled policy has {} bytes, more than {MAX_BUNDLE_BYTES} (MAX_BUNDLE_BYTES)",
                bundle.len()
            );
            return Err(
                Refusal::new(Class::Unprocessable, "BH-C153", message).help("use fewer or simpler rules")
            );
        }
        SignedBundle::verify(&bundle, &self.config.trust, generation, now.wall).map_err(|error| {
            Refusal::new(Class::Internal, "BH-C152", format!("nodes would refuse this bundle: {error}"))
        })?;
        Ok(next.signed(Signature { generation, expires, bundle }, now.wall))
    }

    /// Takes up a policy that was signed elsewhere.
    pub(crate) fn signed_policy(
        &self,
        next: Next,
        bundle: Vec<u8>,
        now: Now,
    ) -> Result<PolicyRecord, Refusal> {
        let current = self.state.generation().0;
        let signed = self.verify_signed(&bundle, &next.rules, Generation(current.saturating_add(1)), now)?;
        let generation = signed.generation();
        if generation.0 - current > MAX_GENERATION_LEAP {
            let message = format!(
                "generation {} is more than {MAX_GENERATION_LEAP} (MAX_GENERATION_LEAP) after {current}",
                generation.0
            );
            return Err(Refusal::new(Class::Unprocessable, "BH-C162", message));
        }
        Ok(next.signed(Signature { generation, expires: signed.expires(), bundle }, now.wall))
    }

    /// Whether the policy keys signed exactly these rules, for this generation or a later one.
    pub(crate) fn verify_signed(
        &self,
        bundle: &[u8],
        rules: &RuleSet,
        floor: Generation,
        now: Now,
    ) -> Result<SignedBundle, Refusal> {
        let signed = SignedBundle::verify(bundle, &self.config.trust, floor, now.wall).map_err(|error| {
            Refusal::new(Class::Unprocessable, "BH-C162", error.to_string())
                .help("sign it again: bulkheadctl policy sign")
        })?;
        if signed.rules() != rules {
            let message = "the text does not compile to the rules that were signed";
            return Err(Refusal::new(Class::Unprocessable, "BH-C163", message)
                .help("sign this text: bulkheadctl policy sign"));
        }
        Ok(signed)
    }

    /// The text in force under the next generation, with what it waits for. Without one it is the empty text, which
    /// permits nobody.
    pub(crate) fn resign_policy(
        &self,
        actor: &Actor,
        message: &str,
        stride: Stride,
        now: Now,
    ) -> Result<PolicyRecord, Refusal> {
        let current = self.state.policy();
        let next = Next {
            sources: current.map(|policy| policy.sources.clone()).unwrap_or_default(),
            rules: self.reach.rules().rules().clone(),
            message: message.to_owned(),
            author: actor.to_string(),
        };
        let mut policy = self.sign_policy(next, stride, now)?;
        policy.confirmation = self.confirmation_left(now);
        Ok(policy)
    }

    /// Signs the policy again when half of its bundle's life is over.
    pub(crate) fn renew_policy(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        if self.writable().is_err() || self.policy_due(now).is_none_or(|due| now.wall < due) {
            return Ok(());
        }
        let why = "signed again before its end";
        let policy = self.resign_policy(&Actor::System, why, Stride::Next, now)?;
        self.put_in_force(Actor::System, policy, Vec::new(), now, effects).map(drop)
    }

    /// When to sign again, if that is ours to do: at once when nodes would not accept the bundle that there is, because
    /// it was written for another version of the language, by keys that count no more, or under a clock that was ahead.
    pub(crate) fn policy_due(&self, now: Now) -> Option<Timestamp> {
        let has_begun = self.slices.not_before().is_some_and(|begins| begins <= now.wall);
        let due = |policy: &PolicyRecord| if has_begun { policy.due() } else { now.wall };
        match self.signing() {
            Signing::Online => self.state.policy().map(due),
            Signing::Offline => None,
        }
    }

    /// What is wrong with the policy's signature, in a sentence.
    pub(crate) fn signature_warning(&self, now: Now) -> Option<String> {
        let policy = self.state.policy()?;
        let (generation, expires) = (policy.generation.0, policy.expires);
        match self.signing() {
            Signing::Online => return None,
            Signing::Offline => {}
        }
        let Some(begins) = self.slices.not_before() else {
            return Some(format!(
                "nodes do not accept the signatures of policy generation {generation} under the trust document in force: sign it again with `bulkheadctl policy sign`"
            ));
        };
        if now.wall < begins {
            return Some(format!(
                "the signature of policy generation {generation} begins at {begins}, and nodes refuse it until then: check the clock, and sign it again with `bulkheadctl policy sign`"
            ));
        }
        if now.wall >= expires {
            return Some(format!(
                "the signature of policy generation {generation} ended at {expires}: nodes permit nothing until a new one is signed (`bulkheadctl policy sign`)"
            ));
        }
        (now.wall >= policy.due()).then(|| {
            format!(
                "the signature of policy generation {generation} ends at {expires}, and this coordinator cannot renew it: sign it again with `bulkheadctl policy sign`"
            )
        })
    }
}
