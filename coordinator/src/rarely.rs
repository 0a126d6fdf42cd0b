//! Warnings that strangers can cause, each at most once a minute: nobody fills the log by asking often (G9).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two warnings of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// When each was told last. What they are about is ours, never a stranger's, so they are few.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Mutex<BTreeMap<String, Instant>>);

impl Rarely {
    /// Whether it is time to tell of `what` again; if so, it counts as told.
    pub(crate) fn may_tell(&self, what: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(what).is_some_and(|last| now.saturating_duration_since(*last) < INTERVAL) {
            return false;
        }
        told.insert(what.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_a_minute() {
        let (rarely, now) = (Rarely::default(), Instant::now());
        assert!(rarely.may_tell("acme", now) && rarely.may_tell("partner", now));
        for second in 0..60 {
            assert!(!rarely.may_tell("acme", now + Duration::from_secs(second)));
        }
        assert!(rarely.may_tell("acme", now + INTERVAL));
    }
}
