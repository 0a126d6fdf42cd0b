//! `hours`: the part of every week in which a rule holds, by the clock on the wall of one place.
//!
//! `Mon-Fri 06:00-22:00 Europe/Berlin`. The local reading decides and nothing else, so the span keeps its
//! place in the working day when clocks are changed. A span whose end is not after its start runs into the
//! next day. There is one text for each value, and what cannot be read is an error, never "at all times".

use std::{fmt, ops::Range};

use bulkhead_identity::Timestamp;

use crate::{
    place::closest,
    week::{MINUTES_PER_DAY, MINUTES_PER_WEEK, Week, Zone},
};

/// Most spans in the `hours` of one rule.
pub const MAX_HOURS: usize = 16;
/// Longest text of one span, in bytes.
pub const MAX_HOURS_BYTES: usize = 128;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const SHAPE: &str = "days, times of day and a time zone, for example \"Mon-Fri 06:00-22:00 Europe/Berlin\"";

/// One span of every week: days, times of day, and the zone whose clock is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hours {
    days: Days,
    /// Minute of the day, below 1440.
    start: u16,
    /// Minute of the day, 1 to 1440; at or before `start` it is one of the next day.
    end: u16,
    zone: Zone,
}

/// Days of the week, one bit each from Monday on. Never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Days(u8);

/// Why a text is no span, the bytes to point at, and what to write instead.
#[derive(Debug)]
pub(crate) struct HoursError {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) span: Range<usize>,
}

impl Hours {
    /// Parses `Mon-Fri 06:00-22:00 Europe/Berlin`: days as names, ranges or a list of both joined by commas;
    /// two times of day, the second up to 24:00; a name of the tz database.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|error| match error.help {
            Some(help) => format!("{}; {help}", error.message),
            None => error.message,
        })
    }

    /// As [`Hours::parse`], of the one text that [`Display`](fmt::Display) writes for a value.
    ///
    /// # Errors
    /// When `text` is no span, or another spelling of one.
    pub fn parse_canonical(text: &str) -> Result<Self, String> {
        let hours = Self::parse(text)?;
        if hours.to_string() == text { Ok(hours) } else { Err(format!("{text:?} is written {hours}")) }
    }

    pub(crate) fn read(text: &str) -> Result<Self, HoursError> {
        if text.len() > MAX_HOURS_BYTES {
            let message = format!("hours have at most {MAX_HOURS_BYTES} bytes (MAX_HOURS_BYTES)");
            return Err(HoursError { message, help: None, span: 0..text.len() });
        }
        match words(text).as_slice() {
            [days, times, zone] => {
                let days = read_days(text, days)?;
                let (start, end) = read_times(text, times)?;
                Ok(Self { days, start, end, zone: read_zone(text, zone)? })
            }
            [_, times] if text[times.clone()].contains(':') => {
                let message = "hours need the time zone whose clock is read".to_owned();
                let help = Some(format!("write {SHAPE}"));
                Err(HoursError { message, help, span: times.end..times.end })
            }
            _ => Err(HoursError { message: format!("hours are {SHAPE}"), help: None, span: 0..text.len() }),
        }
    }

    /// Whether the clock shows a moment of the span.
    #[must_use]
    pub fn contains(&self, wall: Timestamp) -> bool {
        let minute = self.zone.minute(wall);
        let (day, time) = (minute / MINUTES_PER_DAY, minute % MINUTES_PER_DAY);
        if self.start < self.end {
            return self.days.contains(day) && (self.start..self.end).contains(&time);
        }
        let before = (day + 6) % 7;
        self.days.contains(day) && time >= self.start || self.days.contains(before) && time < self.end
    }

    /// When the span next begins or ends after `wall`; `None` when it is the whole week.
    #[must_use]
    pub fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        self.zone.next_change(&self.week(), wall)
    }

    fn week(&self) -> Week {
        let mut ranges = Vec::new();
        for day in (0..7).filter(|&day| self.days.contains(day)) {
            let midnight = day * MINUTES_PER_DAY;
            let length = if self.start < self.end { self.end } else { self.end + MINUTES_PER_DAY };
            let (start, end) = (midnight + self.start, midnight + length);
            ranges.push((start, end.min(MINUTES_PER_WEEK)));
            // Sunday night goes on in Monday morning.
            ranges.push((0, end.saturating_sub(MINUTES_PER_WEEK)));
        }
        Week::of(ranges)
    }
}

/// `Mon-Fri 06:00-22:00 Europe/Berlin`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { days, start, end, zone } = self;
        write!(f, "{days} {}-{} {}", Clock(*start), Clock(*end), zone.name())
    }
}

/// A minute of the day as a clock shows it.
struct Clock(u16);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Days {
    fn contains(self, day: u16) -> bool {
        self.0 & (1 << day) != 0
    }
}

/// Each run of days from Monday on: `Mon-Wed,Sat`.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut day = 0;
        while day < 7 {
            let run = (day..7).take_while(|&day| self.contains(day)).count();
            let names = DAYS.iter().skip(usize::from(day)).take(run);
            match names.copied().collect::<Vec<_>>().as_slice() {
                [] => {}
                [only] => write!(f, "{separator}{only}")?,
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
            }
            if run > 0 {
                separator = ",";
            }
            day += u16::try_from(run).unwrap_or(7).max(1);
        }
        Ok(())
    }
}

/// Where the words of `text` stand.
fn words(text: &str) -> Vec<Range<usize>> {
    let offset = |word: &str| word.as_ptr().addr() - text.as_ptr().addr();
    text.split_whitespace().map(|word| offset(word)..offset(word) + word.len()).collect()
}

fn read_days(text: &str, span: &Range<usize>) -> Result<Days, HoursError> {
    let mut days = 0;
    let mut at = span.start;
    for item in text[span.clone()].split(',') {
        let item_span = at..at + item.len();
        at = item_span.end + 1;
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (day(first, &item_span)?, day(last, &item_span)?);
        // A range may pass the end of the week: Sat-Mon.
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            days |= 1 << ((first + step) % 7);
        }
    }
    Ok(Days(days))
}

fn day(name: &str, span: &Range<usize>) -> Result<usize, HoursError> {
    if let Some(day) = DAYS.iter().position(|known| *known == name) {
        return Ok(day);
    }
    let lower = name.to_lowercase();
    // `Monday` and `mon` begin as the day does; others may be misspelt.
    let begun = DAYS.iter().find(|known| lower.starts_with(&known.to_lowercase())).copied();
    let help = match begun.or_else(|| closest(name, DAYS.into_iter())) {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("days are {}", DAYS.join(", ")),
    };
    Err(HoursError { message: format!("{name:?} is no day"), help: Some(help), span: span.clone() })
}

fn read_times(text: &str, span: &Range<usize>) -> Result<(u16, u16), HoursError> {
    let word = &text[span.clone()];
    let error = |message: String, help: Option<String>| HoursError { message, help, span: span.clone() };
    let times = word.split_once('-').and_then(|(start, end)| Some((time(start)?, time(end)?)));
    let Some((start, end)) = times else {
        let help = Some("times of day are two numbers each, for example 06:00-22:00".to_owned());
        return Err(error(format!("{word:?} are no times of day"), help));
    };
    if start == MINUTES_PER_DAY {
        return Err(error("a span cannot start at 24:00".to_owned(), Some("write 00:00".to_owned())));
    }
    // Midnight at the end of a day has one spelling.
    Ok((start, if end == 0 { MINUTES_PER_DAY } else { end }))
}

/// The minute of the day of `HH:MM`, up to 24:00.
fn time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let time = hour * 60 + minute;
    (minute < 60 && time <= MINUTES_PER_DAY).then_some(time)
}

fn read_zone(text: &str, span: &Range<usize>) -> Result<Zone, HoursError> {
    let name = &text[span.clone()];
    Zone::named(name).ok_or_else(|| HoursError {
        message: format!("{name:?} is no time zone"),
        help: Some(match similar_zone(name) {
            Some(known) => format!("did you mean {known:?}?"),
            None => "time zones are named as in the tz database, for example Europe/Berlin or UTC".to_owned(),
        }),
        span: span.clone(),
    })
}

/// A city alone, another case, or a misspelling.
fn similar_zone(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut names = Zone::names();
    // Names like EST5 or GMT-3 are fixed offsets: no guess should lead there.
    names.retain(|known| known == "UTC" || (known.contains('/') && !known.starts_with("Etc/")));
    names.sort_unstable();
    let is_city = |known: &&String| {
        let known = known.to_lowercase();
        known == lower || known.rsplit('/').next() == Some(&lower)
    };
    let found = names.iter().find(is_city).map(String::as_str);
    found.or_else(|| closest(name, names.iter().map(String::as_str))).map(str::to_owned)
}

/// The hours of one rule as sets of minutes, one for each zone; none: at all times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule(Vec<(Zone, Week)>);

impl Schedule {
    pub(crate) fn of(hours: &[Hours]) -> Self {
        let mut zones: Vec<(Zone, Week)> = Vec::new();
        for span in hours {
            match zones.iter_mut().find(|(zone, _)| *zone == span.zone) {
                Some((_, week)) => *week = week.union(&span.week()),
                None => zones.push((span.zone.clone(), span.week())),
            }
        }
        if zones.iter().any(|(_, week)| week.is_always()) {
            return Self::default();
        }
        zones.sort_by(|a, b| a.0.cmp(&b.0));
        Self(zones)
    }

    pub(crate) fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, wall: Timestamp) -> bool {
        self.is_always() || self.0.iter().any(|(zone, week)| week.contains(zone.minute(wall)))
    }

    /// The next moment after `wall` at which membership changes.
    pub(crate) fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        let inside = self.contains(wall);
        let next = |at| self.0.iter().filter_map(|(zone, week)| zone.next_change(week, at)).min();
        let mut at = next(wall)?;
        // What one zone leaves another may still hold. Zones that together hold always never change, so the
        // search has an end: to be judged again for nothing does no harm.
        for _ in 0..MAX_HOURS * 16 {
            if self.contains(at) != inside {
                break;
            }
            at = next(at)?;
        }
        Some(at)
    }

    /// The set for each zone; none: at all times.
    pub(crate) fn zones(&self) -> &[(Zone, Week)] {
        &self.0
    }

    /// Whether this holds whenever `other` does, as far as zones can be compared: each with itself only.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let covered = |(zone, week): &(Zone, Week)| {
            self.0.iter().any(|(own_zone, own_week)| own_zone == zone && week.is_within(own_week))
        };
        self.is_always() || !other.is_always() && other.0.iter().all(covered)
    }
}

/// What to say of a rule outside its hours: when it holds, and what the clocks there show.
pub(crate) fn outside(hours: &[Hours], wall: Timestamp) -> String {
    let spans: Vec<_> = hours.iter().map(ToString::to_string).collect();
    let schedule = Schedule::of(hours);
    let clocks = schedule.zones().iter().map(|(zone, _)| {
        let minute = zone.minute(wall);
        let day = DAYS[usize::from(minute / MINUTES_PER_DAY)];
        let place =
            if schedule.zones().len() == 1 { "there".to_owned() } else { format!("in {}", zone.name()) };
        format!("{day} {} {place}", Clock(minute % MINUTES_PER_DAY))
    });
    format!("it holds {}; it is {}", spans.join(" or "), clocks.collect::<Vec<_>>().join(", "))
}
