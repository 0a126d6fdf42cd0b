//! Commit-confirm: a policy that goes back by itself unless somebody confirms it in time, so that whoever cuts
//! himself off is cut off for minutes and not until somebody drives to the plant.
//!
//! The deadline, what to go back to, and the nodes that were connected are journalled with the policy, in one entry:
//! there is no moment in which a crash leaves the new policy in force without them. Nobody need be able to reach the
//! coordinator for it to go back, and no confirmation counts while a node is missing that was there before.

use crate::asks::Purpose;
use crate::command::RequestId;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::enforce::in_force;
use crate::event::{Actor, Change};
use crate::policy::PolicyRecord;
use crate::refusal::{Class, Refusal};
use crate::revoke::Stride;
use crate::sign::Next;
use crate::state::State;
use crate::timing::{MAX_CONFIRM_WITHIN, MIN_CONFIRM_WITHIN};
use bulkhead_acl::Classes;
use bulkhead_identity::{Generation, NodeName, Now, Timestamp};
use bulkhead_protocol::admin::{Applied, Confirm, PendingConfirmation, Signing};
use minicbor::{Decode, Encode};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How many missing nodes a sentence names.
const MAX_NAMED: usize = 8;

/// What a policy waits for before it stays.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Confirmation {
    /// When it goes back.
    #[n(0)]
    pub by: Timestamp,
    /// Whose text it goes back to; 0: the empty one.
    #[n(1)]
    pub back_to: Generation,
    /// The nodes that were connected when it was applied.
    #[n(2)]
    pub expected: BTreeSet<NodeName>,
    /// What to go back to as signed elsewhere; empty when the coordinator is to sign it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub fallback: Vec<u8>,
}

impl State {
    /// The policy in force, when nobody has confirmed it and it waits for that.
    pub(crate) fn unconfirmed(&self) -> Option<(&PolicyRecord, &Confirmation)> {
        let policy = self.policy()?;
        Some((policy, policy.confirmation.as_ref()?))
    }
}

impl Coordinator {
    /// What `policy` is to wait for.
    pub(crate) fn confirmation(
        &self,
        seconds: u64,
        fallback: Option<Vec<u8>>,
        policy: &PolicyRecord,
        now: Now,
    ) -> Result<Confirmation, Refusal> {
        let within = Duration::from_secs(seconds);
        if !(MIN_CONFIRM_WITHIN..=MAX_CONFIRM_WITHIN).contains(&within) {
            let message = format!(
                "a policy is to be confirmed within {} (MIN_CONFIRM_WITHIN) to {} (MAX_CONFIRM_WITHIN) seconds, not {seconds}",
                MIN_CONFIRM_WITHIN.as_secs(),
                MAX_CONFIRM_WITHIN.as_secs()
            );
            let help = "choose a window that you can reconnect and look around in, for example `--confirm-within 5m`";
            return Err(Refusal::new(Class::BadRequest, "BH-C164", message).help(help));
        }
        let by = now.wall.plus(within);
        match (&fallback, self.signing()) {
            (Some(fallback), Signing::Online | Signing::Offline) => {
                self.check_fallback(fallback, policy.generation, Now { wall: by, ..now })?;
            }
            (None, Signing::Online) => {}
            (None, Signing::Offline) => {
                let message = "this coordinator cannot sign what it would go back to";
                return Err(Refusal::new(Class::Conflict, "BH-C165", message).help(
                    "sign with `bulkheadctl policy sign --fallback`, or apply without `--confirm-within`",
                ));
            }
        }
        let expected = self.links.following().map(|(_, name)| name.clone()).collect();
        let back_to = self.state.generation();
        Ok(Confirmation { by, back_to, expected, fallback: fallback.unwrap_or_default() })
    }

    /// Whether this is the text in force, signed to follow on `generation`, and still valid then.
    fn check_fallback(&self, fallback: &[u8], generation: Generation, then: Now) -> Result<(), Refusal> {
        let following = Generation(generation.0.saturating_add(1));
        let signed = self.verify_signed(fallback, self.reach.rules().rules(), following, then);
        let signed = signed.map_err(|refusal| {
            let message = format!("the fallback cannot follow: {}", refusal.message);
            Refusal { message, ..refusal }
        })?;
        if signed.generation() != following {
            let message =
                format!("the fallback is generation {}, not {}", signed.generation().0, following.0);
            return Err(Refusal::new(Class::Unprocessable, "BH-C162", message)
                .help("sign both together: bulkheadctl policy sign --fallback"));
        }
        Ok(())
    }

    /// One change at a time: what a second one would go back to would be a guess. Only what should have gone back and
    /// cannot may be overtaken.
    pub(crate) fn nothing_pending(&self) -> Result<(), Refusal> {
        let unconfirmed = self.state.unconfirmed().filter(|_| self.stuck.is_none());
        let Some((policy, confirmation)) = unconfirmed else { return Ok(()) };
        let (generation, back_to) = (policy.generation.0, confirmation.back_to.0);
        let message = format!("generation {generation} waits to be confirmed until {}", confirmation.by);
        Err(Refusal::new(Class::Conflict, "BH-C166", message)
            .help(format!("first `bulkheadctl policy confirm`, or `bulkheadctl policy rollback {back_to}`")))
    }

    /// Starts the clock of what is in force and unconfirmed. A wall clock that is set back does not give it longer
    /// than it was given.
    pub(crate) fn count_down(&mut self, now: Now) {
        self.stuck = None;
        self.countdown = self.state.unconfirmed().map(|(policy, confirmation)| {
            let (left, given) = (now.wall.until(confirmation.by), policy.time.until(confirmation.by));
            now.mono.saturating_add(left.min(given))
        });
    }

    /// When an unconfirmed policy goes back, on the monotonic clock: at its end on either clock, whichever is first.
    pub(crate) fn goes_back_at(&self, now: Now) -> Option<Duration> {
        let (_, confirmation) = self.state.unconfirmed()?;
        let by_wall = now.mono.saturating_add(now.wall.until(confirmation.by));
        Some(self.countdown.map_or(by_wall, |ends| ends.min(by_wall)))
    }

    /// What is in force waits for, as the same policy signed anew waits for it: a wall clock that was ahead when it was
    /// applied, and was set back since, leaves it no longer than it was given.
    pub(crate) fn confirmation_left(&self, now: Now) -> Option<Confirmation> {
        let (_, confirmation) = self.state.unconfirmed()?;
        let ends = self.goes_back_at(now)?.saturating_sub(now.mono);
        Some(Confirmation { by: confirmation.by.min(now.wall.plus(ends)), ..confirmation.clone() })
    }

    fn is_too_late(&self, now: Now) -> bool {
        self.goes_back_at(now).is_some_and(|at| now.mono >= at)
    }

    /// Asks every node that has to be there for a sign of life, and confirms when all have given it: a link that the
    /// new policy cut looks alive until it is used.
    pub(crate) fn policy_confirm(
        &mut self,
        request: RequestId,
        actor: Actor,
        confirm: Confirm,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let (needed, _) = self.may_confirm(&confirm, now)?;
        self.ask(request, needed, Purpose::Confirm { actor, confirm }, now, effects)
    }

    /// The nodes that have to be there, and those that need not. Refuses what cannot be confirmed now.
    fn may_confirm(
        &self,
        confirm: &Confirm,
        now: Now,
    ) -> Result<(BTreeSet<NodeName>, BTreeSet<NodeName>), Refusal> {
        self.writable()?;
        let conflict = |message: String| Refusal::new(Class::Conflict, "BH-C167", message);
        let (generation, current) = (Generation(confirm.generation), self.state.generation());
        let Some((_, confirmation)) = self.state.unconfirmed().filter(|_| current == generation) else {
            let message = match current == generation {
                true => format!("generation {generation} waits for no confirmation: it is in force to stay"),
                false => format!("generation {generation} is not in force; {current} is"),
            };
            return Err(conflict(message).help("`bulkheadctl policy history` shows what happened"));
        };
        if self.is_too_late(now) {
            let message = format!("generation {generation} goes back now: its time is over");
            return Err(conflict(message).help("apply it once more, with a longer `--confirm-within`"));
        }
        if confirm.without.len() > confirmation.expected.len() {
            let message = format!(
                "{} nodes are not to be waited for, but only {} were connected",
                confirm.without.len(),
                confirmation.expected.len()
            );
            return Err(Refusal::new(Class::BadRequest, "BH-C169", message).help("name each of them once"));
        }
        let without = confirm.without.iter().map(|name| {
            let known = confirmation.expected.get(name.as_str()).cloned();
            known.ok_or_else(|| Refusal::no_such("node that is waited for", name))
        });
        let without: BTreeSet<NodeName> = without.collect::<Result<_, _>>()?;
        let missing: BTreeSet<_> = self.missing(generation, confirmation).cloned().collect();
        refuse_missing(generation, &missing - &without)?;
        let active = self.expected(confirmation).filter(|name| !without.contains(*name));
        Ok((active.cloned().collect(), without))
    }

    /// The nodes have answered, or their time to do so is over. Meanwhile anything may have happened.
    pub(crate) fn conclude_confirmation(
        &mut self,
        actor: Actor,
        confirm: &Confirm,
        silent: &BTreeSet<NodeName>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let (needed, without) = self.may_confirm(confirm, now)?;
        let generation = Generation(confirm.generation);
        refuse_missing(generation, &needed & silent)?;
        let without = without.into_iter().collect();
        self.commit(actor, Change::PolicyConfirmed { generation, without }, now, effects)?;
        self.count_down(now);
        Ok(Reply::Applied(Applied { generation: generation.0, warnings: Vec::new() }))
    }

    /// The nodes that were there before; a revoked one is not waited for.
    fn expected<'a>(&'a self, confirmation: &'a Confirmation) -> impl Iterator<Item = &'a NodeName> {
        let active = |name: &&NodeName| self.state.nodes.get(*name).is_some_and(|node| node.is_active());
        confirmation.expected.iter().filter(active)
    }

    /// Those of them that, as far as this process knows, do not enforce `generation` on a live link.
    fn missing<'a>(
        &'a self,
        generation: Generation,
        confirmation: &'a Confirmation,
    ) -> impl Iterator<Item = &'a NodeName> {
        let is_back = move |name: &NodeName| {
            let receipt = self.receipts.latest(name);
            self.links.is_connected(name) && receipt.is_some_and(|view| view.generation >= generation.0)
        };
        self.expected(confirmation).filter(move |name| !is_back(name))
    }

    pub(crate) fn pending_confirmation(&self) -> Option<PendingConfirmation> {
        let (policy, confirmation) = self.state.unconfirmed()?;
        Some(PendingConfirmation {
            generation: policy.generation.0,
            confirm_by: confirmation.by,
            back_to: confirmation.back_to.0,
            waiting: self.missing(policy.generation, confirmation).map(NodeName::to_string).collect(),
        })
    }

    /// Goes back when the time to confirm is over, for whatever reason nobody did. Nodes that claim to be ahead of us
    /// do not stop it; a restore that nobody has accepted does, as it stops everything.
    pub(crate) fn expire_confirmation(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        let Some((policy, confirmation)) = self.state.unconfirmed() else { return Ok(()) };
        if self.state.restored || !self.is_too_late(now) {
            return Ok(());
        }
        let missing: BTreeSet<_> = self.missing(policy.generation, confirmation).cloned().collect();
        let mut why = format!(
            "back to generation {}: nobody confirmed generation {} by {}",
            confirmation.back_to.0, policy.generation.0, confirmation.by
        );
        if !missing.is_empty() {
            why.push_str(&format!("; {} nodes had not come back: {}", missing.len(), named(&missing)));
        }
        self.go_back(Actor::System, why, now, effects).map(drop)
    }

    /// Puts the text before the unconfirmed policy in force again, as a new generation.
    pub(crate) fn go_back(
        &mut self,
        actor: Actor,
        message: String,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let rules = self.rules_before()?.rules().clone();
        let (before, fallback) = self.before().ok_or_else(nothing_before)?;
        let sources = before.map(|policy| policy.sources.clone()).unwrap_or_default();
        let next = || Next {
            sources: sources.clone(),
            rules: rules.clone(),
            message: message.clone(),
            author: actor.to_string(),
        };
        let signed = (!fallback.is_empty()).then(|| self.signed_policy(next(), fallback.clone(), now));
        let policy = match (signed, self.signing()) {
            (Some(Ok(policy)), Signing::Online | Signing::Offline) => policy,
            (Some(Err(refusal)), Signing::Offline) => return Err(refusal),
            // What was signed elsewhere is overtaken: a renewal or a restore moved the generation meanwhile.
            (Some(Err(_)), Signing::Online) | (None, Signing::Online | Signing::Offline) => {
                self.sign_policy(next(), Stride::Next, now)?
            }
        };
        self.put_in_force(actor, policy, Vec::new(), now, effects)
    }

    /// What the unconfirmed policy goes back to: `None` inside for the empty policy; and how that is signed.
    fn before(&self) -> Option<(Option<&PolicyRecord>, &Vec<u8>)> {
        let (_, Confirmation { back_to, fallback, .. }) = self.state.unconfirmed()?;
        if *back_to == Generation(0) {
            return Some((None, fallback));
        }
        let before = self.state.policies.iter().find(|policy| policy.generation == *back_to)?;
        Some((Some(before), fallback))
    }

    /// The rules that the unconfirmed policy goes back to: those of the bundle that was in force.
    pub(crate) fn rules_before(&self) -> Result<Arc<Classes>, Refusal> {
        let (before, _) = self.before().ok_or_else(nothing_before)?;
        let Some(before) = before else { return Ok(Arc::default()) };
        let then = Now { mono: Duration::ZERO, wall: before.time };
        in_force(Some(before), &self.config.trust, then)
            .map(|(rules, _)| rules)
            .map_err(|error| Refusal::new(Class::Internal, "BH-C152", error.to_string()))
    }

    /// A policy that should have gone back and could not.
    pub(crate) fn confirmation_warning(&self) -> Option<String> {
        let ((policy, _), reason) = self.state.unconfirmed().zip(self.stuck.as_ref())?;
        let generation = policy.generation;
        Some(format!(
            "nobody confirmed policy generation {generation}, and it cannot go back: {reason}; apply another policy"
        ))
    }
}

fn nothing_before() -> Refusal {
    Refusal::new(Class::Internal, "BH-C152", "there is nothing to go back to")
}

fn refuse_missing(generation: Generation, missing: BTreeSet<NodeName>) -> Result<(), Refusal> {
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} nodes that were connected have not come back with generation {generation}: {}",
        missing.len(),
        named(&missing)
    );
    Err(Refusal::new(Class::Conflict, "BH-C168", message)
        .help("wait for them, or confirm with `--without NAME` for each whose silence you accept"))
}

/// The first of these names, and how many more there are.
fn named(names: &BTreeSet<NodeName>) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(|name| name.as_str()).collect();
    match names.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
