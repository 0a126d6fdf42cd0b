//! Sets of minutes of the local week, and the zones whose clocks they are read on.
//!
//! What a clock on the wall shows decides, so a minute that daylight saving skips never comes and one that it
//! repeats comes twice; [`Zone::next_change`] steps over both without missing either. Zone data is compiled
//! in: every node of one release decides alike, whatever its system knows about zones.

use std::{cmp::Ordering, hash, sync::LazyLock};

use bulkhead_identity::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

pub(crate) const MINUTES_PER_DAY: u16 = 24 * 60;
pub(crate) const MINUTES_PER_WEEK: u16 = 7 * MINUTES_PER_DAY;
const SECONDS_PER_WEEK: i64 = MINUTES_PER_WEEK as i64 * 60;
/// The first of January 1970 was a Thursday.
const EPOCH_IN_ITS_WEEK: i64 = 3 * 24 * 60 * 60;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Minutes since Monday 00:00 as sorted ranges that neither touch nor overlap, each without its end: one set
/// has one representation. `default()` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Week(Vec<(u16, u16)>);

impl Week {
    /// The whole week.
    pub(crate) fn always() -> Self {
        Self(vec![(0, MINUTES_PER_WEEK)])
    }

    /// The union of ranges, in any order, that lie within the week.
    pub(crate) fn of(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                Some(_) | None => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    pub(crate) fn is_always(&self) -> bool {
        *self == Self::always()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, minute: u16) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= minute);
        after > 0 && minute < self.0[after - 1].1
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::of([self.0.as_slice(), &other.0].concat())
    }

    /// Whether `other` contains every minute of this set.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.union(other) == *other
    }

    /// The ranges, without their ends.
    pub(crate) fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// How long after `second` of the week membership next changes; `None` when it never does.
    fn until_change(&self, second: i64) -> Option<i64> {
        if self.is_empty() || self.is_always() {
            return None;
        }
        // A range that ends with the week may go on with the next one, so each edge is asked.
        let inside = self.holds_at_second(second);
        let edges = self.0.iter().flat_map(|&(start, end)| [start, end]).map(|minute| i64::from(minute) * 60);
        let changes = edges.filter(|&edge| self.holds_at_second(edge) != inside);
        let distances = changes.map(|edge| (edge - second).rem_euclid(SECONDS_PER_WEEK));
        distances.min()
    }

    fn holds_at_second(&self, second: i64) -> bool {
        let minute = second.rem_euclid(SECONDS_PER_WEEK) / 60;
        u16::try_from(minute).is_ok_and(|minute| self.contains(minute))
    }
}

/// A time zone of the tz database; two are equal when their names are.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// The zone of exactly this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let zone = ZONES.get(name).ok()?;
        (!zone.is_unknown() && zone.iana_name() == Some(name)).then_some(Self(zone))
    }

    /// All names there are, in no order.
    pub(crate) fn names() -> Vec<String> {
        ZONES.available().map(|name| name.as_str().to_owned()).collect()
    }

    pub(crate) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or_default()
    }

    /// The minute of the week that a clock in this zone shows.
    pub(crate) fn minute(&self, wall: Timestamp) -> u16 {
        let minute = self.second(instant(wall)) / 60;
        u16::try_from(minute).expect("a week has 10080 minutes")
    }

    /// The next moment after `wall` at which the clock enters or leaves `week`.
    pub(crate) fn next_change(&self, week: &Week, wall: Timestamp) -> Option<Timestamp> {
        let inside = week.contains(self.minute(wall));
        let mut from = instant(wall);
        loop {
            // Until the zone's next transition its clock runs evenly.
            let change = from.as_second() + week.until_change(self.second(from))?;
            let turn = self.0.following(from).next().map(|turn| turn.timestamp());
            match turn {
                Some(turn) if turn.as_second() <= change => {
                    if week.holds_at_second(self.second(turn)) != inside {
                        return timestamp(turn.as_second());
                    }
                    from = turn;
                }
                Some(_) | None => return timestamp(change),
            }
        }
    }

    /// The first moment, `wall` or later, at which the clock shows a minute of `week`.
    pub(crate) fn first_in(&self, week: &Week, wall: Timestamp) -> Option<Timestamp> {
        if week.contains(self.minute(wall)) { Some(wall) } else { self.next_change(week, wall) }
    }

    /// The second of the local week.
    fn second(&self, at: jiff::Timestamp) -> i64 {
        let local = at.as_second() + i64::from(self.0.to_offset(at).seconds());
        (local + EPOCH_IN_ITS_WEEK).rem_euclid(SECONDS_PER_WEEK)
    }
}

/// Beyond the year 9999 the clock stands still.
fn instant(wall: Timestamp) -> jiff::Timestamp {
    let second = i64::try_from(wall.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX)
}

fn timestamp(second: i64) -> Option<Timestamp> {
    let reachable = second <= jiff::Timestamp::MAX.as_second();
    reachable.then(|| u64::try_from(second).ok().map(Timestamp)).flatten()
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl hash::Hash for Zone {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}
