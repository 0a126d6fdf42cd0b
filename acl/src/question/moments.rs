//! Moments that stand for all others: a policy changes by itself only when a window or hours begin or end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bulkhead_identity::Timestamp;

use crate::{Hours, Rule, hours::Schedule};

/// Most moments at which the rules between two classes are looked at.
pub const MAX_MOMENTS: usize = 4096;

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// Clocks of one zone show every minute of the week within a week, or the one after when it is skipped.
const ONE_ZONE: u64 = 15 * DAY_SECONDS;
/// Zones that change their clocks on different days stand to each other in every way once a year.
const SEVERAL_ZONES: u64 = 400 * DAY_SECONDS;

/// The moments from `wall` on, for any set of rules; each set is worked out once.
#[derive(Debug)]
pub(super) struct Moments {
    wall: Timestamp,
    known: BTreeMap<Times, Arc<Found>>,
}

/// What the moments of a set of rules depend on.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    /// Ends of windows after `wall`, sorted.
    bounds: Vec<Timestamp>,
    /// Sorted.
    hours: Vec<Vec<Hours>>,
}

/// Moments in order, `wall` not among them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) moments: Vec<Timestamp>,
    /// Whether these are all: not when there are more than [`MAX_MOMENTS`].
    pub(super) complete: bool,
}

impl Moments {
    pub(super) fn after(wall: Timestamp) -> Self {
        Self { wall, known: BTreeMap::new() }
    }

    /// For each combination of `rules` that ever holds after `wall` and before the next window begins or
    /// ends, the first moment at which it does.
    pub(super) fn of<'a>(&mut self, rules: impl Iterator<Item = &'a Rule>) -> Arc<Found> {
        let times = Times::of(rules, self.wall);
        let wall = self.wall;
        let found = self.known.entry(times);
        Arc::clone(found.or_insert_with_key(|times| Arc::new(times.moments(wall))))
    }
}

impl Times {
    fn of<'a>(rules: impl Iterator<Item = &'a Rule>, wall: Timestamp) -> Self {
        let mut times = Self::default();
        // What is over stays over.
        for rule in rules.filter(|rule| rule.until.is_none_or(|end| wall < end)) {
            times.bounds.extend([rule.not_before, rule.until].into_iter().flatten().filter(|&at| at > wall));
            times.hours.extend((!rule.hours.is_empty()).then(|| rule.hours.clone()));
        }
        times.bounds.sort_unstable();
        times.bounds.dedup();
        times.hours.sort_unstable();
        times.hours.dedup();
        times
    }

    fn moments(&self, wall: Timestamp) -> Found {
        let schedules: Vec<_> = self.hours.iter().map(|hours| Schedule::of(hours)).collect();
        let mut found = Found { moments: Vec::new(), complete: true };
        let starts = std::iter::once(wall).chain(self.bounds.iter().copied());
        let ends = self.bounds.iter().copied().chain([Timestamp(u64::MAX)]);
        for (start, end) in starts.zip(ends) {
            if found.moments.len() >= MAX_MOMENTS {
                found.complete = false;
                break;
            }
            found.add(&schedules, start, end);
        }
        found.moments.retain(|&at| at != wall);
        found
    }
}

impl Found {
    /// Adds the first moment, from `start` on and before `end`, of each combination of `schedules`.
    fn add(&mut self, schedules: &[Schedule], start: Timestamp, end: Timestamp) {
        let horizon = Timestamp(start.0.saturating_add(horizon(schedules)).min(end.0));
        let combinations = u32::try_from(schedules.len()).ok().and_then(|count| 1_usize.checked_shl(count));
        let mut seen = BTreeSet::new();
        let mut at = start;
        for _ in 0..MAX_MOMENTS {
            let held: Vec<_> = schedules.iter().map(|schedule| schedule.contains(at)).collect();
            if seen.insert(held) {
                self.moments.push(at);
            }
            let next = schedules.iter().filter_map(|schedule| schedule.next_change(at)).min();
            match next.filter(|&next| next < horizon && Some(seen.len()) != combinations) {
                Some(next) => at = next,
                None => return,
            }
        }
        self.complete = false;
    }
}

/// How long the clocks must be watched to see all that they can show together.
fn horizon(schedules: &[Schedule]) -> u64 {
    let mut zones: Vec<_> = schedules.iter().flat_map(Schedule::zones).map(|(zone, _)| zone.name()).collect();
    zones.sort_unstable();
    zones.dedup();
    if zones.len() > 1 { SEVERAL_ZONES } else { ONE_ZONE }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rule::tests::rule;

    /// Monday, 2026-06-01T00:00:00Z.
    const MONDAY: u64 = 1_780_272_000;
    const HOUR: u64 = 3600;

    fn found(rules: &[Rule]) -> Vec<u64> {
        let found = Moments::after(Timestamp(MONDAY)).of(rules.iter());
        assert!(found.complete);
        found.moments.iter().map(|at| (at.0 - MONDAY) / HOUR).collect()
    }

    fn at(hours: &[&str]) -> Rule {
        let hours = hours.iter().map(|text| Hours::parse(text).unwrap()).collect();
        Rule { hours, ..rule("r", "*", "*", "any") }
    }

    #[test]
    fn a_rule_without_time_never_changes() {
        assert_eq!(found(&[rule("r", "*", "*", "any")]), [0; 0]);
    }

    #[test]
    fn windows_change_at_their_ends_and_not_once_they_are_over() {
        let until = |end| Rule { until: Some(Timestamp(end)), ..rule("r", "*", "*", "any") };
        assert_eq!(found(&[until(MONDAY + 5 * HOUR), until(MONDAY), until(MONDAY + 2 * HOUR)]), [2, 5]);
    }

    #[test]
    fn hours_stand_for_all_weeks_by_the_first() {
        assert_eq!(found(&[at(&["Mon-Fri 06:00-22:00 UTC"])]), [6]);
        assert_eq!(found(&[at(&["Mon 06:00-22:00 UTC"]), at(&["Tue 07:00-08:00 UTC"])]), [6, 31]);
    }

    #[test]
    fn hours_of_two_zones_are_watched_until_their_clocks_have_parted() {
        // In summer the two begin together; in March, for two weeks, an hour apart.
        let rules = [at(&["Mon 14:00-15:00 Europe/Berlin"]), at(&["Mon 08:00-09:00 America/New_York"])];
        assert_eq!(found(&rules).len(), 3);
    }

    #[test]
    fn each_window_begins_the_watch_anew() {
        let later = Rule { not_before: Some(Timestamp(MONDAY + 24 * HOUR)), ..rule("r", "*", "*", "any") };
        assert_eq!(found(&[at(&["Mon-Sun 06:00-22:00 UTC"]), later]), [6, 24, 30]);
    }
}
