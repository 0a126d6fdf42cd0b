//! Time as an argument. Pure code never reads a clock: it is told what time it is.

use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;

/// Seconds since the Unix epoch, as certificates and signed documents carry them.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
    minicbor::CborLen,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    /// This moment, `later` seconds on; saturates at the end of time.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later.as_secs()))
    }

    /// How long until `other`; zero when it has passed.
    #[must_use]
    pub fn until(self, other: Self) -> Duration {
        Duration::from_secs(other.0.saturating_sub(self.0))
    }

    /// As X.509 needs it; `None` beyond the year 9999, which X.509 cannot write.
    pub(crate) fn to_calendar(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()
    }
}

/// RFC 3339 in UTC, for example `2026-11-20T20:31:57Z`; beyond the year 9999 `@` and the seconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = self.to_calendar() else {
            return write!(f, "@{}", self.0);
        };
        let (date, time) = (at.date(), at.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = time.as_hms();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The two clocks: `mono` for intervals (time since an arbitrary start), `wall` for validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since the process started.
    pub mono: Duration,
    /// Wall-clock time.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        let check = |seconds, text: &str| assert_eq!(Timestamp(seconds).to_string(), text);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_795_206_717, "2026-11-20T20:31:57Z");
        check(253_402_300_799, "9999-12-31T23:59:59Z");
        check(253_402_300_800, "@253402300800");
        check(u64::MAX, "@18446744073709551615");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp(u64::MAX).plus(Duration::from_secs(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(9).until(Timestamp(4)), Duration::ZERO);
        assert_eq!(Timestamp(4).until(Timestamp(9)), Duration::from_secs(5));
    }
}
