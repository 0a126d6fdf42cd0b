//! How often one source may knock when we are under load: a single flooding address uses up its own share and nothing
//! else.
//!
//! Two tables of fixed size. [`Sources`] is for those that proved their addresses; [`Claims`] for those that have yet to, and
//! ask for the cookie to do it with. In both an address owns two places that a keyed hash picks, and uses the one that is used
//! less, so that a flood from many addresses has to hit both of an honest peer's to be in its way. A source is an
//! IPv4 address or an IPv6 /64, because one host owns a whole /64.

use crate::bucket::{Bucket, Rate};
use crate::limits::{
    COOKIE_COUNTERS, COOKIE_INTERVAL, COOKIE_PARTS, COOKIE_REDRAW, COOKIES_PER_SOURCE, SOURCE_BUCKETS,
    SOURCE_BURST, SOURCE_REFILL,
};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

const RATE: Rate = Rate { burst: SOURCE_BURST, refill: SOURCE_REFILL };

/// The two places of `source` in a table of `size`.
fn places(source: IpAddr, hasher: &RandomState, size: usize) -> [usize; 2] {
    let prefix = match source {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        // The upper half; tagged by its own nature: no global IPv6 /64 is below 2^32.
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    };
    let hash = hasher.hash_one(prefix);
    [hash as usize % size, (hash >> 32) as usize % size]
}

/// Token buckets by source.
#[derive(Debug)]
pub(crate) struct Sources {
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![Bucket::default(); SOURCE_BUCKETS].into(), hasher: RandomState::new() }
    }

    /// Whether `source` may be heard now.
    pub(crate) fn admit(&mut self, source: IpAddr, mono: Duration) -> bool {
        let [first, second] = places(source, &self.hasher, SOURCE_BUCKETS);
        let mut level = |at: usize| self.buckets[at].level(RATE, mono);
        let fuller = if level(first) >= level(second) { first } else { second };
        self.buckets[fuller].take(RATE, mono)
    }
}

/// Cookies given, by source, in one interval. The next one counts anew and elsewhere, so that whoever shared its
/// places with others does not for long. Intervals of the table's parts begin one after another: otherwise all of a
/// flood would be given its cookies in the same moment.
#[derive(Debug)]
pub(crate) struct Claims {
    parts: Box<[Part]>,
    hasher: RandomState,
    /// When it was last drawn.
    drawn: Duration,
}

/// The part of the table that some sources count in.
#[derive(Debug)]
struct Part {
    given: Box<[u8]>,
    hasher: RandomState,
    interval: u128,
    /// How much earlier its intervals begin than the first part's.
    ahead: Duration,
}

impl Claims {
    pub(crate) fn new() -> Self {
        let parts = (0..COOKIE_PARTS).map(|i| COOKIE_INTERVAL / COOKIE_PARTS * i).map(Part::new).collect();
        Self { parts, hasher: RandomState::new(), drawn: Duration::ZERO }
    }

    /// Whether there is a cookie for `source`.
    pub(crate) fn would_admit(&mut self, source: IpAddr, mono: Duration) -> bool {
        *self.given_to(source, mono) < COOKIES_PER_SOURCE
    }

    /// The same, and it is given.
    pub(crate) fn admit(&mut self, source: IpAddr, mono: Duration) -> bool {
        let given = self.given_to(source, mono);
        let admitted = *given < COOKIES_PER_SOURCE;
        *given += u8::from(admitted);
        admitted
    }

    fn given_to(&mut self, source: IpAddr, mono: Duration) -> &mut u8 {
        // Whoever has many addresses could find out which of them share a part.
        if mono.saturating_sub(self.drawn) > COOKIE_REDRAW {
            (self.hasher, self.drawn) = (RandomState::new(), mono);
        }
        let [part, _] = places(source, &self.hasher, self.parts.len());
        self.parts[part].given_to(source, mono)
    }
}

impl Part {
    fn new(ahead: Duration) -> Self {
        let given = vec![0; COOKIE_COUNTERS / COOKIE_PARTS as usize].into();
        Self { given, hasher: RandomState::new(), interval: 0, ahead }
    }

    fn given_to(&mut self, source: IpAddr, mono: Duration) -> &mut u8 {
        let interval = (mono + self.ahead).as_nanos() / COOKIE_INTERVAL.as_nanos();
        // Threads take the time once per batch: one may come with that of an interval that is over.
        if self.interval < interval {
            self.interval = interval;
            self.hasher = RandomState::new();
            self.given.fill(0);
        }
        let [first, second] = places(source, &self.hasher, self.given.len());
        &mut self.given[if self.given[first] <= self.given[second] { first } else { second }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flooding_source_uses_up_only_its_own_share() {
        let mut sources = Sources::new();
        let at = Duration::from_secs(5);
        let admitted = (0..10_000).filter(|_| sources.admit([192, 0, 2, 1].into(), at)).count();
        // Two buckets at most.
        assert!(admitted <= 2 * SOURCE_BURST as usize, "{admitted}");
        let honest = (0..100u8).filter(|&i| sources.admit([198, 51, 100, i].into(), at)).count();
        assert!(honest >= 99, "{honest}");
    }

    #[test]
    fn addresses_of_one_64_share() {
        let mut sources = Sources::new();
        let at = Duration::from_secs(5);
        let admitted = (0..1000u16)
            .filter(|&i| sources.admit(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, i).into(), at))
            .count();
        assert!(admitted <= 2 * SOURCE_BURST as usize, "{admitted}");
    }

    #[test]
    fn ten_thousand_that_ask_for_all_the_cookies_they_can_leave_others_theirs() {
        let mut claims = Claims::new();
        let at = Duration::from_secs(7);
        let flood = |i: u32| IpAddr::from(0xcb00_7100_u32.wrapping_add(i).to_be_bytes());
        let given = (0..100_000).filter(|i| claims.admit(flood(i % 10_000), at)).count();
        assert!(given <= 10_000 * 2 * usize::from(COOKIES_PER_SOURCE), "{given}");
        // One in two thousand is refused on average; more than fifteen of these would be one chance in billions.
        let refused = (0..4000_u32).filter(|&i| !claims.admit(flood(1 << 20 | i), at)).count();
        assert!(refused <= 15, "{refused}");
        let later = at + COOKIE_INTERVAL;
        assert!(!claims.would_admit(flood(0), at));
        assert!(claims.would_admit(flood(0), later) && claims.admit(flood(0), later));
        // A thread that is late does not begin the interval anew.
        assert!(claims.would_admit(flood(1), later));
        let all = |claims: &mut Claims| (0..100).filter(|_| claims.admit(flood(1), at)).count();
        assert!(all(&mut claims) > 0 && all(&mut claims) == 0 && !claims.would_admit(flood(1), later));
    }

    #[test]
    fn a_flood_that_lasts_is_given_its_cookies_evenly() {
        let mut claims = Claims::new();
        let mut given_at = |tenth: u64| {
            let at = Duration::from_millis(tenth * 100);
            let source = |i: u32| IpAddr::from((0xcb00_7100 + i).to_be_bytes());
            (0..2000).filter(|&i| claims.admit(source(i), at)).count()
                + (0..2000).filter(|&i| claims.admit(source(i), at)).count()
        };
        let first = given_at(0);
        assert!(first > 3900, "{first}: what is new is given at once");
        let interval = COOKIE_INTERVAL.as_secs() * 10;
        let _: usize = (1..interval).map(&mut given_at).sum();
        for second in (interval..2 * interval).step_by(10) {
            // A fifth of what all of them may have is 750 to 813, with a standard deviation of 36.
            let given: usize = (second..second + 10).map(&mut given_at).sum();
            assert!((550..1050).contains(&given), "{given}");
        }
    }
}
