//! Days and clocks, counted out: no calendar library, no zone data.
//!
//! The few zones are written from their laws: Europe changes at 01:00 UTC on the last Sundays of March and
//! October (directive 2000/84/EC), the United States at 2:00 local time on the second Sunday of March and the
//! first of November (Energy Policy Act of 2005, section 110).

const DAY: u64 = 24 * 3600;
const MINUTE: u64 = 60;

/// Monday is 0.
const SUNDAY: u64 = 6;

/// A zone whose clock is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Utc,
    /// Three hours ahead, under the name with the wrong sign that POSIX gives it.
    GmtMinus3,
    Kolkata,
    Berlin,
    NewYork,
}

impl Zone {
    pub const ALL: [Self; 5] = [Self::Utc, Self::GmtMinus3, Self::Kolkata, Self::Berlin, Self::NewYork];

    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::GmtMinus3 => "Etc/GMT-3",
            Self::Kolkata => "Asia/Kolkata",
            Self::Berlin => "Europe/Berlin",
            Self::NewYork => "America/New_York",
        }
    }

    /// What its clocks are ahead of UTC by at `wall`, in minutes.
    fn ahead(self, wall: u64) -> i64 {
        let (year, ..) = date(wall / DAY);
        match self {
            Self::Utc => 0,
            Self::GmtMinus3 => 180,
            Self::Kolkata => 330,
            Self::Berlin => {
                let spring = last_sunday(year, 3) * DAY + 3600;
                let autumn = last_sunday(year, 10) * DAY + 3600;
                if (spring..autumn).contains(&wall) { 120 } else { 60 }
            }
            Self::NewYork => {
                // 2:00 standard time is 7:00 UTC; 2:00 daylight time is 6:00 UTC.
                let spring = (first_sunday(year, 3) + 7) * DAY + 7 * 3600;
                let autumn = first_sunday(year, 11) * DAY + 6 * 3600;
                if (spring..autumn).contains(&wall) { -240 } else { -300 }
            }
        }
    }

    /// The weekday (Monday is 0) and the second of the day that its clocks show at `wall`.
    pub fn clock(self, wall: u64) -> (u64, u64) {
        let shown = wall.checked_add_signed(self.ahead(wall) * 60).unwrap();
        (weekday(shown / DAY), shown % DAY)
    }
}

/// `hours`: on these days from `start` to `end`, in minutes of the day; into the next day if `end` is not later.
#[derive(Clone, Debug)]
pub struct Span {
    /// First and last day of each run of days.
    pub days: Vec<(u64, u64)>,
    pub start: u64,
    pub end: u64,
    pub zone: Zone,
}

impl Span {
    /// Whether the clocks of its zone show a time within it.
    pub fn contains(&self, wall: u64) -> bool {
        let (today, second) = self.zone.clock(wall);
        let yesterday = (today + 6) % 7;
        let on = |day: u64| self.days.iter().any(|&run| within_run(run, day));
        let (start, end) = (self.start * MINUTE, self.end * MINUTE);
        if start < end {
            on(today) && start <= second && second < end
        } else {
            on(today) && start <= second || on(yesterday) && second < end
        }
    }

    /// As the policy says it, for example `Mon-Fri 06:00-22:00 Europe/Berlin`.
    pub fn text(&self) -> String {
        const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let name = |day: u64| NAMES[day as usize];
        let runs = self.days.iter().map(|&(first, last)| match first == last {
            true => name(first).to_owned(),
            false => format!("{}-{}", name(first), name(last)),
        });
        let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let days: Vec<_> = runs.collect();
        format!("{} {}-{} {}", days.join(","), clock(self.start), clock(self.end), self.zone.name())
    }
}

/// From the first day on, day by day, around the end of the week if need be.
fn within_run((first, last): (u64, u64), day: u64) -> bool {
    let mut at = first;
    loop {
        if at == day {
            return true;
        }
        if at == last {
            return false;
        }
        at = (at + 1) % 7;
    }
}

/// `wall` as TOML writes it.
pub fn moment(wall: u64) -> String {
    let (year, month, day) = date(wall / DAY);
    let second = wall % DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Midnight UTC of a day.
pub fn midnight(year: u64, month: u64, day: u64) -> u64 {
    day_number(year, month, day) * DAY
}

/// 1970-01-01, day 0, was a Thursday.
fn weekday(day: u64) -> u64 {
    (day + 3) % 7
}

fn last_sunday(year: u64, month: u64) -> u64 {
    let mut day = day_number(year, month, days_in(year, month));
    while weekday(day) != SUNDAY {
        day -= 1;
    }
    day
}

fn first_sunday(year: u64, month: u64) -> u64 {
    let mut day = day_number(year, month, 1);
    while weekday(day) != SUNDAY {
        day += 1;
    }
    day
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn day_number(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

/// Year, month and day of a day number.
fn date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while day >= if is_leap(year) { 366 } else { 365 } {
        day -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

#[test]
fn the_calendar_knows_some_days() {
    assert_eq!(moment(0), "1970-01-01T00:00:00Z");
    assert_eq!(moment(1_798_740_000), "2026-12-31T18:00:00Z");
    assert_eq!(midnight(2028, 3, 1) - midnight(2028, 2, 28), 2 * DAY);
    // 2026-10-25: Berlin goes from 02:59:59 back to 02:00.
    let change = midnight(2026, 10, 25) + 3600;
    assert_eq!(Zone::Berlin.clock(change - 1), (SUNDAY, 3 * 3600 - 1));
    assert_eq!(Zone::Berlin.clock(change), (SUNDAY, 2 * 3600));
    // 2027-03-14: New York goes from 01:59:59 to 03:00.
    let change = midnight(2027, 3, 14) + 7 * 3600;
    assert_eq!(Zone::NewYork.clock(change - 1), (SUNDAY, 2 * 3600 - 1));
    assert_eq!(Zone::NewYork.clock(change), (SUNDAY, 3 * 3600));
    assert_eq!(Zone::Kolkata.clock(0), (3, 5 * 3600 + 1800));
    assert_eq!(Zone::GmtMinus3.clock(22 * 3600), (4, 3600));
}
