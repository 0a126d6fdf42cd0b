//! What is left of the allow rules for one ordered pair of subjects once every never rule is subtracted.
//!
//! Rules that hold for a time stay separate, so that the node can enforce `until` and `hours` with no
//! coordinator and no recompiling; nothing is decided here that [`crate::rule`] would decide otherwise.

use bulkhead_identity::Timestamp;

use crate::{
    PortSet, Rule, RuleId, Service,
    hours::Schedule,
    week::{Week, Zone},
};

/// One direction's grants, ordered by rule id. `default()` grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    allow: Vec<Grant>,
    /// Only what is bounded in time: the others are already subtracted.
    never: Vec<Grant>,
    /// When a window opens or closes, ascending.
    edges: Vec<Timestamp>,
    /// Whether any of them holds in some hours of the week only.
    hourly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    rule: RuleId,
    ports: PortSet,
    window: Window,
    schedule: Schedule,
}

/// From `start` on, until just before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Window {
    pub(crate) const ALWAYS: Self = Self { start: Timestamp(0), end: Timestamp(u64::MAX) };

    fn of(rule: &Rule) -> Self {
        Self {
            start: rule.not_before.unwrap_or(Self::ALWAYS.start),
            end: rule.until.unwrap_or(Self::ALWAYS.end),
        }
    }

    fn clipped(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    fn contains(self, wall: Timestamp) -> bool {
        self.start <= wall && wall < self.end
    }
}

impl Grant {
    fn holds_at(&self, wall: Timestamp) -> bool {
        self.window.contains(wall) && self.schedule.contains(wall)
    }
}

impl Grants {
    /// `allow` and `never` are the rules that join the pair, ordered by id; grants hold within `validity` only.
    pub(crate) fn new<'a>(
        allow: impl Iterator<Item = &'a Rule>,
        never: impl Iterator<Item = &'a Rule>,
        validity: Window,
    ) -> Self {
        let mut forbidden = PortSet::default();
        let mut passing = Vec::new();
        for rule in never {
            let (window, schedule) = (Window::of(rule), Schedule::of(&rule.hours));
            if window == Window::ALWAYS && schedule.is_always() {
                forbidden = forbidden.union(&rule.ports);
            } else {
                passing.push(Grant { rule: rule.id.clone(), ports: rule.ports.clone(), window, schedule });
            }
        }
        let mut allow: Vec<_> = allow
            .map(|rule| Grant {
                rule: rule.id.clone(),
                ports: rule.ports.difference(&forbidden),
                window: Window::of(rule).clipped(validity),
                schedule: Schedule::of(&rule.hours),
            })
            .filter(|grant| !grant.ports.is_empty() && grant.window.start < grant.window.end)
            .collect();
        if allow.is_empty() {
            return Self::default();
        }
        allow.shrink_to_fit();
        let windows = allow.iter().chain(&passing).map(|grant| grant.window);
        let mut edges: Vec<_> = windows
            .flat_map(|window| [window.start, window.end])
            .filter(|&edge| edge < Window::ALWAYS.end)
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let hourly = allow.iter().chain(&passing).any(|grant| !grant.schedule.is_always());
        Self { allow, never: passing, edges, hourly }
    }

    /// How many rules it is made of.
    pub(crate) fn len(&self) -> usize {
        self.allow.len() + self.never.len()
    }

    /// The smallest id of the rules that allow `service` at `wall`, unless a never rule forbids it.
    pub(crate) fn allows(&self, service: Service, wall: Timestamp) -> Option<&RuleId> {
        let decides = |grant: &&Grant| grant.ports.contains(service) && grant.holds_at(wall);
        if self.never.iter().any(|grant| decides(&grant)) {
            return None;
        }
        self.allow.iter().find(decides).map(|grant| &grant.rule)
    }

    /// Whether any service is granted at `wall` or at any later moment.
    ///
    /// Exact, but for one case: hours by the clocks of different zones are not weighed against each other,
    /// so a grant that only the two together would rule out counts as possible. That errs towards "yes", and
    /// every flow is still judged by [`Grants::allows`].
    pub(crate) fn ever(&self, wall: Timestamp) -> bool {
        // Which windows are open changes at these moments only.
        let windows = self.allow.iter().chain(&self.never).map(|grant| grant.window);
        let edges = windows.flat_map(|window| [window.start, window.end]).filter(|&edge| edge > wall);
        let mut edges: Vec<_> = edges.chain([wall, Window::ALWAYS.end]).collect();
        edges.sort_unstable();
        edges.dedup();
        edges.windows(2).any(|pair| self.ever_within(Window { start: pair[0], end: pair[1] }))
    }

    /// As [`Grants::ever`], for a time in which no window opens or closes.
    fn ever_within(&self, time: Window) -> bool {
        let open = |grant: &&Grant| grant.window.contains(time.start);
        let (never, hourly): (Vec<_>, Vec<_>) =
            self.never.iter().filter(open).partition(|grant| grant.schedule.is_always());
        let forbidden = never.iter().fold(PortSet::default(), |set, grant| set.union(&grant.ports));
        self.allow.iter().filter(open).any(|grant| {
            let ports = grant.ports.difference(&forbidden);
            let against: Vec<_> =
                hourly.iter().copied().filter(|never| !never.ports.intersection(&ports).is_empty()).collect();
            let possible = |zone: &Zone, week: &Week| time.reaches(zone, &left(&ports, zone, week, &against));
            match grant.schedule.zones() {
                _ if ports.is_empty() => false,
                // Of a grant at all times something must be left by the clock of every zone.
                [] => against
                    .iter()
                    .flat_map(|never| never.schedule.zones())
                    .all(|(zone, _)| possible(zone, &Week::always())),
                zones => zones.iter().any(|(zone, week)| possible(zone, week)),
            }
        })
    }

    /// The next moment after `wall` at which a rule begins or ceases to hold.
    pub(crate) fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        let edge = self.edges.get(self.edges.partition_point(|&edge| edge <= wall)).copied();
        if !self.hourly {
            return edge;
        }
        let open = self.allow.iter().chain(&self.never).filter(|grant| grant.window.contains(wall));
        let turn = open.filter_map(|grant| grant.schedule.next_change(wall)).min();
        edge.into_iter().chain(turn).min()
    }
}

impl Window {
    /// Whether a clock in `zone` shows a minute of `week` within the window.
    fn reaches(self, zone: &Zone, week: &Week) -> bool {
        !week.is_empty() && zone.first_in(week, self.start).is_some_and(|first| first < self.end)
    }
}

/// The minutes of `week` in which `never` rules leave any of `ports`, by the clock of `zone`.
fn left(ports: &PortSet, zone: &Zone, week: &Week, never: &[&Grant]) -> Week {
    let in_zone = |(own, _): &&(Zone, Week)| own == zone;
    let never: Vec<_> = never
        .iter()
        .filter_map(|grant| grant.schedule.zones().iter().find(in_zone).map(|(_, week)| (&grant.ports, week)))
        .collect();
    let weeks = never.iter().map(|(_, week)| *week).chain([week]);
    let mut edges: Vec<_> = weeks.flat_map(Week::ranges).flat_map(|&(start, end)| [start, end]).collect();
    edges.sort_unstable();
    edges.dedup();
    // Between two edges nothing changes.
    let spans = edges.windows(2).map(|pair| (pair[0], pair[1])).filter(|&(start, _)| {
        let holding = never.iter().filter(|(_, week)| week.contains(start));
        let forbidden = holding.fold(PortSet::default(), |set, (ports, _)| set.union(ports));
        week.contains(start) && !ports.difference(&forbidden).is_empty()
    });
    Week::of(spans.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::rule::tests::rule;

    fn timed(rule: Rule, start: u64, end: u64) -> Rule {
        Rule { not_before: Some(Timestamp(start)), until: Some(Timestamp(end)), ..rule }
    }

    fn grants(allow: &[Rule], never: &[Rule]) -> Grants {
        Grants::new(allow.iter(), never.iter(), Window::ALWAYS)
    }

    fn allowed(grants: &Grants, port: u16, wall: u64) -> Option<&str> {
        grants.allows(Service::Tcp(port), Timestamp(wall)).map(|id| &*id.0)
    }

    #[test]
    fn every_never_is_subtracted() {
        let left = grants(
            &[rule("a", "*", "*", "tcp/1-100")],
            &[rule("n", "*", "*", "tcp/20-30"), rule("o", "*", "*", "tcp/31")],
        );
        let ports: Vec<_> = (0..=101).filter(|&port| allowed(&left, port, 0).is_some()).collect();
        assert_eq!(ports, (1..=19).chain(32..=100).collect::<Vec<_>>());
    }

    #[test]
    fn the_smallest_id_of_those_that_hold_is_named() {
        let left = grants(&[timed(rule("a", "*", "*", "tcp/1"), 10, 20), rule("b", "*", "*", "tcp/1")], &[]);
        assert_eq!(allowed(&left, 1, 9), Some("b"));
        assert_eq!(allowed(&left, 1, 10), Some("a"));
        assert_eq!(allowed(&left, 1, 20), Some("b"));
    }

    #[test]
    fn a_never_for_a_time_forbids_for_that_time() {
        let left = grants(&[rule("a", "*", "*", "tcp/1-2")], &[timed(rule("n", "*", "*", "tcp/1"), 10, 20)]);
        assert_eq!(allowed(&left, 1, 9), Some("a"));
        assert_eq!(allowed(&left, 1, 10), None);
        assert_eq!(allowed(&left, 2, 10), Some("a"));
        assert_eq!(left.next_change(Timestamp(0)), Some(Timestamp(10)));
        assert_eq!(left.next_change(Timestamp(10)), Some(Timestamp(20)));
        assert_eq!(left.next_change(Timestamp(20)), None);
    }

    #[test]
    fn ever_sees_the_future_and_not_the_past() {
        let later = grants(&[timed(rule("a", "*", "*", "tcp/1"), 10, 20)], &[]);
        assert!(later.ever(Timestamp(0)));
        assert!(later.ever(Timestamp(19)));
        assert!(!later.ever(Timestamp(20)));
        let covered = grants(
            &[timed(rule("a", "*", "*", "tcp/1"), 10, 20)],
            &[timed(rule("n", "*", "*", "any"), 5, 20)],
        );
        assert!(!covered.ever(Timestamp(0)));
        let between = grants(&[rule("a", "*", "*", "tcp/1")], &[timed(rule("n", "*", "*", "any"), 0, 20)]);
        assert!(between.ever(Timestamp(0)));
    }

    #[test]
    fn nothing_holds_outside_the_validity_of_the_bundle() {
        let validity = Window { start: Timestamp(10), end: Timestamp(20) };
        let rules = [rule("a", "*", "*", "tcp/1")];
        let left = Grants::new(rules.iter(), [].iter(), validity);
        assert_eq!([9, 10, 19, 20].map(|wall| allowed(&left, 1, wall).is_some()), [false, true, true, false]);
        assert_eq!(left.next_change(Timestamp(10)), Some(Timestamp(20)));
    }

    fn hourly(rule: Rule, hours: &[&str]) -> Rule {
        Rule { hours: hours.iter().map(|text| crate::Hours::parse(text).unwrap()).collect(), ..rule }
    }

    /// 2027-03-27T12:00:00Z, a Saturday, the day before clocks in Berlin skip 02:00 to 03:00.
    const BEFORE_THE_GAP: u64 = 1_806_148_800;

    #[test]
    fn hours_open_and_close_within_the_window_only() {
        let six_to_seven = hourly(rule("a", "*", "*", "tcp/1"), &["Mon-Sun 06:00-07:00 UTC"]);
        let day = 24 * 3600;
        let left = grants(&[timed(six_to_seven, 0, day + 6 * 3600 + 60)], &[]);
        assert_eq!(allowed(&left, 1, 6 * 3600), Some("a"));
        assert_eq!(allowed(&left, 1, 7 * 3600), None);
        let mut changes = vec![0];
        while let Some(next) = left.next_change(Timestamp(*changes.last().unwrap())) {
            changes.push(next.0);
        }
        assert_eq!(changes[1..], [6 * 3600, 7 * 3600, day + 6 * 3600, day + 6 * 3600 + 60]);
    }

    #[test]
    fn an_allow_within_the_hours_of_a_never_never_grants() {
        let allow = |hours: &str| [hourly(rule("a", "*", "*", "tcp/1"), &[hours])];
        let never = [hourly(
            rule("n", "*", "*", "any"),
            &["Mon-Fri 18:00-08:00 Europe/Berlin", "Sat-Sun 00:00-24:00 Europe/Berlin"],
        )];
        let night = grants(&allow("Mon-Fri 20:00-06:00 Europe/Berlin"), &never);
        assert!(!night.ever(Timestamp(BEFORE_THE_GAP)));
        let evening = grants(&allow("Mon-Fri 17:00-06:00 Europe/Berlin"), &never);
        assert!(evening.ever(Timestamp(BEFORE_THE_GAP)));
        // Two zones are not weighed against each other.
        let elsewhere = grants(&allow("Mon-Fri 20:00-06:00 Europe/Paris"), &never);
        assert!(elsewhere.ever(Timestamp(BEFORE_THE_GAP)));
    }

    #[test]
    fn hours_that_the_clock_skips_are_no_hours_before_the_window_ends() {
        let skipped = hourly(rule("a", "*", "*", "tcp/1"), &["Sun 02:15-02:45 Europe/Berlin"]);
        let week = 7 * 24 * 3600;
        let start = BEFORE_THE_GAP;
        assert!(!grants(&[timed(skipped.clone(), 0, start + week)], &[]).ever(Timestamp(start)));
        assert!(grants(&[timed(skipped, 0, start + week + week / 7)], &[]).ever(Timestamp(start)));
    }

    fn spans() -> impl Strategy<Value = Vec<String>> {
        let day = || proptest::sample::select(vec!["Mon", "Fri", "Sat", "Sun"]);
        let time = || (0u16..24, proptest::sample::select(vec![0u16, 30]));
        let span = (day(), day(), time(), time()).prop_map(|(first, last, start, end)| {
            let ((h, m), (i, n)) = (start, end);
            format!("{first}-{last} {h:02}:{m:02}-{i:02}:{n:02} Europe/Berlin")
        });
        proptest::collection::vec(span, 0..3)
    }

    fn any_rule(id: &'static str) -> impl Strategy<Value = Rule> {
        let ports = proptest::sample::select(vec!["tcp/1", "tcp/2", "tcp/1-2"]);
        let edge = || proptest::option::of((0u64..10 * 48).prop_map(|half| BEFORE_THE_GAP + half * 1800));
        (ports, spans(), edge(), edge()).prop_map(move |(ports, hours, start, end)| Rule {
            not_before: start.map(Timestamp),
            until: end.map(Timestamp),
            ..hourly(rule(id, "*", "*", ports), &hours.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }

    proptest! {
        /// Half hours of sixteen days say all there is to say: every edge lies on one.
        #[test]
        fn ever_and_next_change_agree_with_asking_all_the_time(
            allow in (any_rule("a"), any_rule("b")), never in (any_rule("n"), any_rule("o")), from in 0u64..48
        ) {
            let (allow, never) = ([allow.0, allow.1], [never.0, never.1]);
            let left = grants(&allow, &never);
            let moments = (from..16 * 48).map(|half| BEFORE_THE_GAP + half * 1800);
            let granted = |wall: u64| [1, 2].map(|port| allowed(&left, port, wall).map(str::to_owned));
            let states: Vec<_> = moments.map(|wall| (wall, granted(wall))).collect();
            let ever = states.iter().any(|(_, state)| state.iter().any(Option::is_some));
            prop_assert_eq!(left.ever(Timestamp(states[0].0)), ever);
            for pair in states.windows(2) {
                let next = left.next_change(Timestamp(pair[0].0));
                let changed = pair[0].1 != pair[1].1;
                prop_assert!(!changed || next == Some(Timestamp(pair[1].0)), "missed {}", pair[1].0);
            }
        }
    }
}
