//! How a policy takes effect. Whatever would surprise is refused before anything changes: errors and failing tests,
//! an edit of something that is no longer in force, the loss of one's own way in. Each refusal names its override.
//! A bad policy never replaces a good one.

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::event::{Actor, Change};
use crate::lockout::Caller;
use crate::policy::PolicyRecord;
use crate::proposal::{Proposal, refused_text};
use crate::refusal::{Class, Refusal};
use crate::revoke::{Stride, remark};
use crate::sign::Next;
use bulkhead_acl::check::{FailingTests, Options, check_with};
use bulkhead_acl::{Checked, Code, Diagnostic, Names, Severity, Sources};
use bulkhead_identity::{Generation, LabelKey, Now};
use bulkhead_protocol::admin::{Applied, Overrides, Rollback};

/// Most bytes of one generation, text and signed bundles: one entry of the journal holds them.
const MAX_RECORD_BYTES: usize = 30 * 1024 * 1024;

impl Coordinator {
    pub(crate) fn policy_check(&self, mut proposal: Proposal) -> Reply {
        if let Ok(checked) = &mut proposal.compiled {
            checked.warnings.extend(self.unsealed(&checked.names));
        }
        Reply::Checked(proposal.report())
    }

    pub(crate) fn policy_apply(
        &mut self,
        caller: &Caller,
        proposal: Proposal,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let Proposal { text, compiled, bundle, fallback } = proposal;
        self.may_apply(bundle.is_some())?;
        self.nothing_pending()?;
        self.is_fresh(text.base)?;
        let message = remark(text.message)?;
        let Checked { rules, mut warnings, names, .. } = compiled.map_err(refused_text)?;
        warnings.extend(self.unsealed(&names));
        if !text.overrides.lockout {
            self.keeps_ways_in(caller, &rules, now)?;
        }
        let next = Next { sources: text.sources, rules, message, author: caller.actor.to_string() };
        let signed_elsewhere = bundle.is_some();
        let mut policy = match bundle {
            Some(bundle) => self.signed_policy(next, bundle, now)?,
            None => self.sign_policy(next, Stride::Next, now)?,
        };
        if let Some(seconds) = text.confirm_within {
            policy.confirmation = Some(self.confirmation(seconds, fallback, &policy, now)?);
        }
        fits_into_the_journal(&policy)?;
        let applied = self.put_in_force(caller.actor.clone(), policy, warnings, now, effects)?;
        if signed_elsewhere {
            self.follow_again(now, effects);
        }
        Ok(applied)
    }

    pub(crate) fn policy_rollback(
        &mut self,
        caller: &Caller,
        rollback: &Rollback,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let wanted = Generation(rollback.generation);
        let Overrides { failing_tests, lockout } = rollback.overrides;
        let message = format!("rollback to generation {}", wanted.0);
        if self.state.unconfirmed().is_some_and(|(_, confirmation)| confirmation.back_to == wanted) {
            self.may_apply(true)?;
            if !lockout {
                self.keeps_ways_in(caller, self.rules_before()?.rules(), now)?;
            }
            return self.go_back(caller.actor.clone(), message, now, effects);
        }
        self.may_apply(false)?;
        self.nothing_pending()?;
        let sources = self.text_of(wanted)?;
        let failing_tests = if failing_tests { FailingTests::Warn } else { FailingTests::Refuse };
        // This text was applied once: it is not hostile, and as small as the limits say.
        let checked = check_with(&sources, now.wall, Options { failing_tests, nodes: None });
        let Checked { rules, warnings, .. } = checked.map_err(refused_text)?;
        if !lockout {
            self.keeps_ways_in(caller, &rules, now)?;
        }
        let next = Next { sources, rules, message, author: caller.actor.to_string() };
        let policy = self.sign_policy(next, Stride::Next, now)?;
        self.put_in_force(caller.actor.clone(), policy, warnings, now, effects)
    }

    /// Journals a policy and enforces it.
    pub(crate) fn put_in_force(
        &mut self,
        actor: Actor,
        policy: PolicyRecord,
        warnings: Vec<Diagnostic>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let generation = policy.generation.0;
        self.commit(actor, Change::PolicyApplied { policy: Box::new(policy) }, now, effects)?;
        self.count_down(now);
        self.enforce(now, effects)?;
        Ok(Reply::Applied(Applied { generation, warnings }))
    }

    /// Whether the policy may change now. What its keys signed elsewhere is later than anything that nodes may hold
    /// of this coordinator, and how one that signs nothing itself catches up with them after a restore.
    fn may_apply(&self, signed_elsewhere: bool) -> Result<(), Refusal> {
        if signed_elsewhere && !self.state.restored {
            return Ok(());
        }
        self.writable()
    }

    /// Labels that the policy takes for sealed, and that the trust document does not seal: whoever steals the
    /// coordinator can confer them.
    fn unsealed(&self, names: &Names) -> Vec<Diagnostic> {
        let sealed = &self.config.trust.document().sealed;
        let open = names.schema().sealed().filter(|key| !sealed.contains(key));
        let warning = |key: &LabelKey| Diagnostic {
            severity: Severity::Warning,
            code: Code::NotEnforced.as_str().to_owned(),
            file: String::new(),
            line: 0,
            column: 0,
            message: format!("label {key} is sealed in this policy, but not in the trust document in force"),
            suggestion: Some(
                "have operators sign a trust document that seals it: bulkheadctl trust".to_owned(),
            ),
            excerpt: String::new(),
            length: 0,
        };
        open.map(warning).collect()
    }

    fn is_fresh(&self, base: Option<u64>) -> Result<(), Refusal> {
        let current = self.state.generation().0;
        let Some(base) = base.filter(|base| *base != current) else { return Ok(()) };
        let message = format!("this edit started from generation {base}, but {current} is in force");
        Err(Refusal::new(Class::Conflict, "BH-C150", message).help(format!(
            "look at what changed with `bulkheadctl policy show` and merge it, then apply with `--base {current}`",
        )))
    }

    fn text_of(&self, wanted: Generation) -> Result<Sources, Refusal> {
        if wanted == Generation(0) {
            return Ok(Sources::default());
        }
        let old = self.state.policies.iter().find(|policy| policy.generation == wanted);
        old.map(|policy| policy.sources.clone()).ok_or_else(|| {
            Refusal::no_such("generation", &wanted.0.to_string())
                .help("`bulkheadctl policy history` shows those that can be rolled back to")
        })
    }
}

fn fits_into_the_journal(policy: &PolicyRecord) -> Result<(), Refusal> {
    let fallback = policy.confirmation.as_ref().map_or(0, |confirmation| confirmation.fallback.len());
    let bytes = policy.text_bytes() + policy.bundle.len() + fallback;
    if bytes <= MAX_RECORD_BYTES {
        return Ok(());
    }
    let message = format!(
        "the policy with its signed bundles has {bytes} bytes, more than {MAX_RECORD_BYTES} (MAX_RECORD_BYTES)"
    );
    Err(Refusal::new(Class::Unprocessable, "BH-C153", message).help("use fewer or simpler rules"))
}
