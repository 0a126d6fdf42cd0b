//! Hours by the clock on the wall: against a clock that is read every minute, over every kind of transition.
#![allow(clippy::unwrap_used)]

use bulkhead_acl::{Decision, Hours, RuleSet, Service, Sources, Subject, check};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use jiff::{civil::Weekday, tz::TimeZone};
use proptest::prelude::*;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: u64 = 24 * 60 * 60;

/// Zones with a kind of transition each, and a moment shortly before one.
const TURNS: [(&str, &str); 10] = [
    ("Europe/Berlin", "2027-03-27T12:00:00Z"),
    ("Europe/Berlin", "2027-10-30T12:00:00Z"),
    ("America/New_York", "2027-11-06T12:00:00Z"),
    // Half an hour, at two in the morning.
    ("Australia/Lord_Howe", "2027-10-01T12:00:00Z"),
    // Two hours.
    ("Antarctica/Troll", "2027-03-27T12:00:00Z"),
    // No Friday in that week.
    ("Pacific/Apia", "2011-12-28T12:00:00Z"),
    // At midnight, so that a day begins at one.
    ("America/Santiago", "2026-09-05T12:00:00Z"),
    // Off and on again within weeks.
    ("Africa/Casablanca", "2027-02-06T12:00:00Z"),
    ("Asia/Kathmandu", "2027-01-01T12:00:00Z"),
    ("UTC", "2027-01-01T12:00:00Z"),
];

fn at(text: &str) -> Timestamp {
    Timestamp(u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_second()).unwrap())
}

fn hours(text: &str) -> Hours {
    Hours::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the sentence says, on the local reading.
fn shown(days: &[usize], start: u16, end: u16, zone: &TimeZone, wall: Timestamp) -> bool {
    let instant = jiff::Timestamp::from_second(i64::try_from(wall.0).unwrap()).unwrap();
    let local = zone.to_datetime(instant);
    let minute = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
    let number = |day: Weekday| usize::try_from(day.to_monday_zero_offset()).unwrap();
    let (today, yesterday) = (number(local.weekday()), number(local.weekday().previous()));
    if start < end {
        days.contains(&today) && start <= minute && minute < end
    } else {
        days.contains(&today) && start <= minute || days.contains(&yesterday) && minute < end
    }
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn membership_and_changes_are_those_of_a_clock_read_every_minute(
        turn in proptest::sample::select(&TURNS[..]),
        days in proptest::sample::subsequence((0..7).collect::<Vec<usize>>(), 1..8),
        start in prop_oneof![0u16..1440, 60u16..240], end in prop_oneof![1u16..=1440, 60u16..240],
        offset in 0u64..2 * DAY / 60,
    ) {
        let (name, near) = turn;
        let names: Vec<_> = days.iter().map(|&day| DAYS[day]).collect();
        let hours = hours(&format!("{} {}-{} {name}", names.join(","), clock(start), clock(end)));
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap();
        let wall = Timestamp(at(near).0 + offset * 60);
        let inside = shown(&days, start, end, &zone, wall);
        prop_assert_eq!(hours.contains(wall), inside);
        let later = (1..16 * DAY / 60).map(|minutes| Timestamp(wall.0 + minutes * 60));
        let change = later.into_iter().find(|&at| shown(&days, start, end, &zone, at) != inside);
        prop_assert_eq!(hours.next_change(wall), change);
        // From within the minute as well.
        prop_assert_eq!(hours.next_change(Timestamp(wall.0 + 59)), change);
        if let Some(change) = change {
            prop_assert_eq!(hours.contains(change), !inside);
        }
    }

    #[test]
    fn parse_after_print_is_the_same_span(
        days in proptest::sample::subsequence(DAYS.to_vec(), 1..8), start in 0u16..1440, end in 0u16..=1440,
        zone in proptest::sample::select(vec!["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"]),
    ) {
        let text = format!("{} {}-{} {zone}", days.join(","), clock(start), clock(end));
        let parsed = hours(&text);
        prop_assert_eq!(Hours::parse_canonical(&parsed.to_string()).unwrap(), parsed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[MonFri,0-9: -]{0,30}( [A-Za-z/]{0,12})?") {
        if let Ok(hours) = Hours::parse(&text) {
            prop_assert!(Hours::parse_canonical(&hours.to_string()).is_ok());
        }
    }
}

#[test]
fn one_value_has_one_text() {
    for (text, canonical) in [
        ("Mon-Fri 06:00-22:00 Europe/Berlin", "Mon-Fri 06:00-22:00 Europe/Berlin"),
        ("Fri,Mon,Tue,Wed,Thu  06:00-22:00\tEurope/Berlin", "Mon-Fri 06:00-22:00 Europe/Berlin"),
        ("Sat-Mon 22:00-06:00 UTC", "Mon,Sat-Sun 22:00-06:00 UTC"),
        ("Mon 22:00-00:00 UTC", "Mon 22:00-24:00 UTC"),
        ("Mon-Sun 00:00-24:00 Etc/UTC", "Mon-Sun 00:00-24:00 Etc/UTC"),
    ] {
        assert_eq!(hours(text).to_string(), canonical);
        assert_eq!(Hours::parse_canonical(text).is_ok(), text == canonical, "{text}");
    }
}

#[test]
fn a_span_that_ends_before_it_starts_ends_the_next_day() {
    let night = hours("Fri 22:00-06:00 Europe/Berlin");
    let held =
        ["2026-11-20T20:59:00Z", "2026-11-20T21:00:00Z", "2026-11-21T04:59:59Z", "2026-11-21T05:00:00Z"]
            .map(|text| night.contains(at(text)));
    assert_eq!(held, [false, true, true, false]);
    // A whole day from six to six.
    let day = hours("Sun 06:00-06:00 UTC");
    assert!(day.contains(at("2026-11-23T05:59:00Z")) && !day.contains(at("2026-11-23T06:00:00Z")));
}

#[test]
fn a_minute_that_comes_twice_is_in_the_span_twice_and_one_that_never_comes_is_not() {
    let fold = hours("Sun 02:15-02:45 Europe/Berlin");
    let changes: Vec<_> =
        std::iter::successors(fold.next_change(at("2026-10-25T00:00:00Z")), |&at| fold.next_change(at))
            .take(4)
            .collect();
    let expected =
        ["2026-10-25T00:15:00Z", "2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:45:00Z"];
    assert_eq!(changes, expected.map(at));
    // On the Sunday of the gap it does not come; on the next it does.
    assert_eq!(fold.next_change(at("2027-03-28T00:00:00Z")), Some(at("2027-04-04T00:15:00Z")));
}

#[test]
fn the_whole_week_never_changes_and_the_end_of_time_is_no_panic() {
    let always = hours("Mon-Sun 00:00-24:00 Europe/Berlin");
    assert!(always.contains(at("2026-10-25T00:00:00Z")) && always.contains(Timestamp(u64::MAX)));
    assert_eq!(always.next_change(Timestamp(0)), None);
    let morning = hours("Mon 06:00-07:00 America/New_York");
    assert_eq!(morning.next_change(Timestamp(u64::MAX)), None);
    assert!(morning.next_change(Timestamp(253_402_207_199)).is_none());
    assert!(morning.next_change(Timestamp(0)).is_some());
}

#[test]
fn what_cannot_be_read_is_refused_with_a_suggestion() {
    for (text, reason) in [
        ("", "for example"),
        ("Mon-Fri", "for example"),
        ("Mon-Fri 06:00-22:00", "time zone"),
        ("Mon-Fri 06:00-22:00 Europe/Berln", "did you mean \"Europe/Berlin\"?"),
        ("Mon-Fri 06:00-22:00 europe/berlin", "did you mean \"Europe/Berlin\"?"),
        ("Mon-Fri 06:00-22:00 Berlin", "did you mean \"Europe/Berlin\"?"),
        ("Mon-Fri 06:00-22:00 Etc/Unknown", "no time zone"),
        ("Mon-Fri 06:00-22:00 Local", "no time zone"),
        ("Monday-Fri 06:00-22:00 UTC", "did you mean \"Mon\"?"),
        ("mon 06:00-22:00 UTC", "did you mean \"Mon\"?"),
        ("Mno 06:00-22:00 UTC", "did you mean \"Mon\"?"),
        ("Mon, 06:00-22:00 UTC", "no day"),
        ("Mon-Tue-Wed 06:00-22:00 UTC", "no day"),
        ("Mon 6:00-22:00 UTC", "06:00-22:00"),
        ("Mon 06:00-24:01 UTC", "no times"),
        ("Mon 06:00-22:60 UTC", "no times"),
        ("Mon 24:00-06:00 UTC", "write 00:00"),
        ("Mon 06:00 UTC", "no times"),
        ("Mon +6:00-22:00 UTC", "no times"),
        ("Mon 06:00-22:00 UTC UTC", "for example"),
        (&format!("Mon 06:00-22:00 {}", "a".repeat(200)), "MAX_HOURS_BYTES"),
    ] {
        let error = Hours::parse(text).unwrap_err();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

const PLANT: &str = r#"
version = 1

[[allow]]
id = "shift"
from = "role=operator"
to = "role=plc"
ports = ["tcp/502"]
hours = "Mon-Fri 06:00-22:00 Europe/Berlin"

[[allow]]
id = "vendor"
from = "role=vendor"
to = "role=plc"
ports = ["tcp/22"]
hours = ["Mon 08:00-12:00 Europe/Berlin", "Sat 09:00-17:00 America/New_York"]
until = 2027-01-01T00:00:00Z

[[never]]
id = "freeze"
from = "*"
to = "role=plc"
hours = "Wed 12:00-13:00 UTC"

[[test]]
name = "on a Wednesday"
from = "role=operator"
to = "role=plc"
allow = ["tcp/502"]
at = 2026-11-18T11:59:59Z

[[test]]
name = "at noon"
from = "role=operator"
to = "role=plc"
deny = ["tcp/502"]
at = 2026-11-18T12:00:00Z
"#;

fn plant() -> RuleSet {
    let sources = Sources([("plant.toml".to_owned(), PLANT.to_owned())].into());
    check(&sources, at("2026-11-18T08:00:00Z")).unwrap_or_else(|errors| panic!("{}", errors[0])).rules
}

/// Whether `role` reaches the PLC at `moment`, and why not.
fn reaches(role: &str, service: &str, moment: &str) -> Result<(), Vec<String>> {
    let subject = |role: &str| Subject {
        name: NodeName::parse(role).unwrap(),
        labels: Labels::parse(&format!("role={role}")).unwrap(),
    };
    match plant().decide(&subject(role), &subject("plc"), Service::parse(service).unwrap(), at(moment)) {
        Decision::Allowed { .. } => Ok(()),
        Decision::Forbidden { rule, .. } => Err(vec![rule.to_string()]),
        Decision::NoRule { missing, .. } => Err(missing),
    }
}

#[test]
fn rules_hold_within_their_hours_and_say_so_outside() {
    assert_eq!(reaches("operator", "tcp/502", "2026-11-20T20:59:59Z"), Ok(()));
    assert_eq!(
        reaches("operator", "tcp/502", "2026-11-21T02:10:00Z").unwrap_err(),
        ["it holds Mon-Fri 06:00-22:00 Europe/Berlin; it is Sat 03:10 there"]
    );
    assert_eq!(reaches("operator", "tcp/502", "2026-11-18T12:30:00Z").unwrap_err(), ["freeze"]);
    assert_eq!(reaches("vendor", "tcp/22", "2026-11-23T07:00:00Z"), Ok(()));
    assert_eq!(reaches("vendor", "tcp/22", "2026-11-21T21:59:59Z"), Ok(()));
    assert_eq!(
        reaches("vendor", "tcp/22", "2026-11-21T22:00:00Z").unwrap_err(),
        ["it holds Mon 08:00-12:00 Europe/Berlin or Sat 09:00-17:00 America/New_York; \
          it is Sat 17:00 in America/New_York, Sat 23:00 in Europe/Berlin"]
    );
    assert_eq!(
        reaches("vendor", "tcp/22", "2027-01-02T15:00:00Z").unwrap_err(),
        ["it held until 2027-01-01T00:00:00Z"]
    );
}

#[test]
fn hours_are_signed_with_the_rule_in_their_one_spelling() {
    let rules = plant();
    let bytes = minicbor::to_vec(&rules).unwrap();
    assert_eq!(minicbor::decode::<RuleSet>(&bytes).unwrap(), rules);
    // Another spelling of the same hours, and a zone that this release does not know.
    for (text, other) in
        [(&b"Mon-Fri"[..], &b"Fri-Mon"[..]), (b"Mon-Fri", b"Mon-Mon"), (b"/Berlin", b"/Merlin")]
    {
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + text.len()].copy_from_slice(other);
        assert!(minicbor::decode::<RuleSet>(&changed).is_err());
    }
}
