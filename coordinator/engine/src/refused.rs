//! The record of what was refused: who tried what, from where, and why not. Whoever is refused decides how often that
//! happens, so only so many refusals a minute get an entry of their own; the rest are counted, and the count is one
//! entry (G9). Strangers, people and administrators have a budget each: nobody can hide what an administrator tries.

use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::event::{Actor, Change};
use crate::refusal::Refusal;
use bulkhead_identity::Now;
use std::time::Duration;

/// Refusals of strangers that get an entry of their own, per [`REFUSAL_WINDOW`] and over all sources.
pub const MAX_STRANGER_REFUSALS: u32 = 60;
/// Refusals of people who sign in that get an entry of their own, per [`REFUSAL_WINDOW`] and over all of them.
pub const MAX_PERSON_REFUSALS: u32 = 60;
/// Refusals of administrators that get an entry of their own, per [`REFUSAL_WINDOW`] and over all of them.
pub const MAX_ADMINISTRATOR_REFUSALS: u32 = 600;
/// What these are counted over.
pub const REFUSAL_WINDOW: Duration = Duration::from_secs(60);
/// Longest reason that is written down.
const MAX_WHY_BYTES: usize = 256;

/// One request that was refused.
pub(crate) struct Refused {
    pub(crate) actor: Actor,
    pub(crate) what: String,
    pub(crate) code: String,
    pub(crate) why: String,
}

/// Refusals of the window at hand.
#[derive(Default)]
pub(crate) struct Refusals {
    /// When the window ends, on the monotonic clock.
    ends: Option<Duration>,
    strangers: Count,
    people: Count,
    administrators: Count,
}

#[derive(Default)]
struct Count {
    recorded: u32,
    unrecorded: u64,
}

impl Count {
    /// Whether one more may have an entry.
    fn take(&mut self, most: u32) -> bool {
        let fits = self.recorded < most;
        match fits {
            true => self.recorded += 1,
            false => self.unrecorded = self.unrecorded.saturating_add(1),
        }
        fits
    }
}

impl Refusals {
    /// When a count is to be written, on the monotonic clock.
    pub(crate) fn due(&self) -> Option<Duration> {
        let all = [&self.strangers, &self.people, &self.administrators];
        self.ends.filter(|_| all.iter().any(|count| count.unrecorded > 0))
    }
}

impl Coordinator {
    pub(crate) fn refused(&mut self, refused: Refused, now: Now, effects: &mut Effects) {
        self.end_refusal_window(now, effects);
        self.refusals.ends.get_or_insert(now.mono + REFUSAL_WINDOW);
        let Refused { actor, what, code, why } = refused;
        let fits = match actor {
            Actor::Stranger => self.refusals.strangers.take(MAX_STRANGER_REFUSALS),
            Actor::Person { .. } => self.refusals.people.take(MAX_PERSON_REFUSALS),
            Actor::System
            | Actor::Root { .. }
            | Actor::Admin { .. }
            | Actor::Node(_)
            | Actor::JoinToken { .. } => self.refusals.administrators.take(MAX_ADMINISTRATOR_REFUSALS),
        };
        if fits {
            let why = shortened(why);
            // It changes nothing, so it contradicts nothing.
            let _ = self.commit(actor, Change::Refused { what, code, why }, now, effects);
        }
    }

    /// A step of a sign-in was refused.
    pub(crate) fn refused_step(
        &mut self,
        actor: Actor,
        step: &str,
        refusal: &Refusal,
        now: Now,
        effects: &mut Effects,
    ) {
        let (code, why) = (refusal.code.to_owned(), refusal.message.clone());
        self.refused(Refused { actor, what: format!("sign-in: {step}"), code, why }, now, effects);
    }

    /// Writes what was only counted, once its window is over.
    pub(crate) fn end_refusal_window(&mut self, now: Now, effects: &mut Effects) {
        if self.refusals.ends.is_none_or(|ends| now.mono < ends) {
            return;
        }
        let over = std::mem::take(&mut self.refusals);
        if over.due().is_some() {
            let [strangers, people, administrators] =
                [over.strangers, over.people, over.administrators].map(|count| count.unrecorded);
            let change = Change::RefusalsCounted { strangers, administrators, people };
            let _ = self.commit(Actor::System, change, now, effects);
        }
    }

    /// Whether a tick now would write a count of refusals.
    #[must_use]
    pub fn counts_refusals(&self, now: Now) -> bool {
        self.refusals.due().is_some_and(|due| due <= now.mono)
    }

    /// The journal has no room for it: not now.
    pub fn postpone_refusals(&mut self, now: Now) {
        self.refusals.ends = Some(now.mono + REFUSAL_WINDOW);
    }
}

fn shortened(mut why: String) -> String {
    while why.len() > MAX_WHY_BYTES {
        why.pop();
    }
    why
}
