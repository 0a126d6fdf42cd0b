//! A token bucket: some at once, then one per interval.

use std::time::Duration;

/// How many at once, and how fast they come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) refill: Duration,
}

/// Eight bytes per bucket, so that tables of them stay small. Starts full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// Tokens taken and not yet come back.
    taken: u32,
    /// When `taken` was last brought up to date, in milliseconds of monotonic time; wraps after 49 days,
    /// which can only make an idle bucket refill late by one call.
    at_ms: u32,
}

/// Threads take the time once per batch, so that one may come with a time a little before another's. What
/// reads as less than this in the past is that, and not most of 49 days gone by.
const BEHIND_MS: u32 = 60_000;

impl Bucket {
    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, rate: Rate, mono: Duration) -> bool {
        self.refill(rate, mono);
        let available = self.taken < rate.burst;
        if available {
            self.taken += 1;
        }
        available
    }

    /// Gives back everything.
    pub(crate) fn fill(&mut self) {
        self.taken = 0;
    }

    pub(crate) fn level(&mut self, rate: Rate, mono: Duration) -> u32 {
        self.refill(rate, mono);
        rate.burst.saturating_sub(self.taken)
    }

    fn refill(&mut self, rate: Rate, mono: Duration) {
        let now_ms = mono.as_millis() as u32;
        if self.taken == 0 {
            self.at_ms = now_ms;
            return;
        }
        let interval_ms = (rate.refill.as_millis() as u32).max(1);
        let elapsed_ms = now_ms.wrapping_sub(self.at_ms);
        if elapsed_ms > u32::MAX - BEHIND_MS {
            return;
        }
        let back = elapsed_ms / interval_ms;
        self.taken = self.taken.saturating_sub(back);
        self.at_ms = self.at_ms.wrapping_add(back.wrapping_mul(interval_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_interval() {
        let rate = Rate { burst: 3, refill: Duration::from_millis(100) };
        let mut bucket = Bucket::default();
        let start = Duration::from_secs(1000);
        assert_eq!((0..10).filter(|_| bucket.take(rate, start)).count(), 3);
        assert!(!bucket.take(rate, start + Duration::from_millis(99)));
        assert!(bucket.take(rate, start + Duration::from_millis(100)));
        assert!(!bucket.take(rate, start + Duration::from_millis(199)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(rate, later)).count(), 3);
    }

    #[test]
    fn a_thread_whose_clock_is_a_little_behind_earns_nothing_back() {
        let rate = Rate { burst: 3, refill: Duration::from_millis(100) };
        let mut bucket = Bucket::default();
        let start = Duration::from_secs(1000);
        assert_eq!((0..10).filter(|_| bucket.take(rate, start)).count(), 3);
        assert!(!bucket.take(rate, start - Duration::from_millis(1)));
        assert!(!bucket.take(rate, start + Duration::from_millis(99)));
        assert!(bucket.take(rate, start + Duration::from_millis(100)));
    }
}
