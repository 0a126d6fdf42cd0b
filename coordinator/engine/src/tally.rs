//! How often something was done in a while, by whom. When too many do it at once for each to be counted, new ones are
//! refused as well.

use bulkhead_identity::Now;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who may do something `MOST` times in `SECONDS`; of `KEYS` at once.
pub(crate) struct Tally<K, const MOST: u32, const SECONDS: u64, const KEYS: usize>(
    /// With the beginning of the while.
    BTreeMap<K, (u32, Duration)>,
);

impl<K, const MOST: u32, const SECONDS: u64, const KEYS: usize> Default for Tally<K, MOST, SECONDS, KEYS> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, const MOST: u32, const SECONDS: u64, const KEYS: usize> Tally<K, MOST, SECONDS, KEYS> {
    /// Whether this one may do it.
    pub(crate) fn admits(&self, who: &K, now: Now) -> bool {
        match self.0.get(who) {
            Some((times, since)) => *times < MOST || Self::is_over(*since, now),
            None => self.0.len() < KEYS,
        }
    }

    /// They did.
    pub(crate) fn count(&mut self, who: K, now: Now) {
        let (times, since) = self.0.entry(who).or_insert((0, now.mono));
        if Self::is_over(*since, now) {
            (*times, *since) = (0, now.mono);
        }
        *times = times.saturating_add(1);
    }

    pub(crate) fn expire(&mut self, now: Now) {
        self.0.retain(|_, (_, since)| !Self::is_over(*since, now));
    }

    fn is_over(since: Duration, now: Now) -> bool {
        now.mono.saturating_sub(since) >= Duration::from_secs(SECONDS)
    }
}
