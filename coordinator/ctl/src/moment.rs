//! Times as people write and read them: `1h`, `2026-12-01T12:00:00Z`, `17h left`.

use bulkhead_identity::Timestamp;
use std::time::{Duration, SystemTime};

/// The wall clock, in whole seconds. A clock before 1970 reads as 1970: every certificate is then not yet valid.
pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// `90s`, `15m`, `1h`, `7d`; a bare number is refused because its unit would be a guess.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse =
        || format!("{text:?} is not a duration: write a number and s, m, h or d, for example 90s or 1h");
    let unit_secs = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some(_) | None => return Err(refuse()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    count.checked_mul(unit_secs).map(Duration::from_secs).ok_or_else(refuse)
}

/// RFC 3339, for example `2026-12-01T12:00:00Z`.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    let parsed: jiff::Timestamp =
        text.parse().map_err(|_| format!("{text:?} is not a time: write it as 2026-12-01T12:00:00Z"))?;
    u64::try_from(parsed.as_second()).map(Timestamp).map_err(|_| format!("{text:?} is before 1970"))
}

/// `2026-12-01T12:00:00Z`.
pub(crate) fn show(at: Timestamp) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|secs| jiff::Timestamp::from_second(secs).ok())
        .map_or_else(|| format!("{} s after 1970", at.0), |time| time.to_string())
}

/// Time of day with milliseconds, of milliseconds since the Unix epoch.
pub(crate) fn show_ms(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{at_ms} ms after 1970"), |time| time.strftime("%H:%M:%S%.3fZ").to_string())
}

/// `17h left`, or `ended 3m ago`.
pub(crate) fn show_left(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("{} left", span(now.until(at)))
    } else {
        format!("ended {} ago", span(at.until(now)))
    }
}

/// `3m ago`.
pub(crate) fn show_ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(at.until(now)))
}

/// One unit, rounded down: nobody plans by the seconds of a day.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs}s"),
        secs @ 120..7_200 => format!("{}m", secs / 60),
        secs @ 7_200..172_800 => format!("{}h", secs / 3600),
        secs => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in
            ["", "90", "s", "-1s", "1.5h", "1w", "é", "99999999999999999999d", "18446744073709551615h"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        let at = parse_timestamp("2026-12-01T12:00:00Z").unwrap();
        assert_eq!(show(at), "2026-12-01T12:00:00Z");
        assert_eq!(show_ms(at.0 * 1000 + 7), "12:00:00.007Z");
        assert!(parse_timestamp("1969-12-31T23:59:59Z").is_err());
        assert!(parse_timestamp("tomorrow").is_err());
    }

    #[test]
    fn what_has_ended_says_so() {
        let now = Timestamp(1_000_000);
        assert_eq!(show_left(Timestamp(1_000_000 + 61_200), now), "17h left");
        assert_eq!(show_left(Timestamp(1_000_000 - 200), now), "ended 3m ago");
        assert_eq!(show(Timestamp(u64::MAX)), "18446744073709551615 s after 1970");
    }
}
