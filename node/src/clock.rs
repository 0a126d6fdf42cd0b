//! The two clocks of the daemon.
//!
//! Property: a wall clock that is set back cannot bring an expired certificate, rule or policy back to life. Time
//! never reads earlier than the latest moment that this host's clock and the coordinator once agreed had passed.
//! (Both must agree, so that neither a wrong clock here nor a lying coordinator can push the mark into the future
//! and make everything expire for good.)

use bulkhead_identity::{Now, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Cheap to clone; all clones share the mark.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    mark: Arc<AtomicU64>,
}

impl Clock {
    /// Starts at the stored mark.
    pub(crate) fn new(mark: Timestamp) -> Self {
        Self { start: Instant::now(), mark: Arc::new(AtomicU64::new(mark.0)) }
    }

    /// Both clocks, now.
    pub(crate) fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), wall: system().max(self.mark()) }
    }

    /// The latest moment vouched for.
    pub(crate) fn mark(&self) -> Timestamp {
        Timestamp(self.mark.load(Ordering::Relaxed))
    }

    /// An authenticated coordinator says that it is `theirs`: what both clocks agree has passed, has passed.
    pub(crate) fn vouch(&self, theirs: Timestamp) {
        self.mark.fetch_max(system().min(theirs).0, Ordering::Relaxed);
    }

    /// How far the host's clock is behind the mark.
    pub(crate) fn behind(&self) -> Duration {
        system().until(self.mark())
    }

    /// The host's own clock minus `theirs`, in seconds.
    pub(crate) fn skew_secs(theirs: Timestamp) -> i64 {
        let (ours, theirs) = (i128::from(system().0), i128::from(theirs.0));
        i64::try_from(ours - theirs).unwrap_or(i64::MAX)
    }
}

/// The host's clock as it is. Before 1970 reads as 1970, at which no certificate is valid.
fn system() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_reads_below_the_mark() {
        let future = system().plus(Duration::from_secs(3600));
        let clock = Clock::new(future);
        assert_eq!(clock.now().wall, future);
        assert!(clock.behind() > Duration::from_secs(3500));
    }

    #[test]
    fn a_lying_coordinator_cannot_push_time_forward() {
        let clock = Clock::new(Timestamp(0));
        clock.vouch(Timestamp(u64::MAX));
        assert!(clock.now().wall <= system().plus(Duration::from_secs(1)));
    }
}
