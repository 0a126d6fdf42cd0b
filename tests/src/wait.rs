//! Waiting for a condition with a deadline: the only way a test lets time pass.

use std::time::{Duration, Instant};

/// For what happens by itself in a moment. The machines that tests run on are shared, and may stand still for a while.
pub const SOON: Duration = Duration::from_secs(60);
/// Between two looks at a condition, while it may hold any moment.
const POLL: Duration = Duration::from_millis(20);
/// After this it may take longer.
const LATER: Duration = Duration::from_secs(2);
/// Between two looks from then on: one may start a program, and the tests beside this one want to go on.
const SLOW_POLL: Duration = Duration::from_millis(150);

/// Waits until `condition` holds, or panics naming `what` after `limit`.
///
/// # Panics
/// When the deadline passes.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, limit, || condition().then_some(()));
}

/// Waits until `probe` yields a value, or panics naming `what` after `limit`.
///
/// # Panics
/// When the deadline passes.
pub fn until_some<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        let waited = started.elapsed();
        assert!(waited < limit, "not within {limit:?}: {what}");
        std::thread::park_timeout(if waited < LATER { POLL } else { SLOW_POLL });
    }
}
