//! The clocks and the random generator: the rim reads them, the engine is told.

use bulkhead_coordinator_engine::Entropy;
use bulkhead_identity::{Now, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks; `mono` counts from the clock's making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts counting.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The current moment.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: wall() }
    }
}

/// Wall-clock time. A clock before 1970 reads as 1970: nothing is valid then, which fails closed.
#[must_use]
pub fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Unix milliseconds.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no randomness: {0}")]
pub struct NoRandomness(getrandom::Error);

/// 32 fresh bytes.
///
/// # Errors
/// The operating system has none.
pub fn random() -> Result<zeroize::Zeroizing<[u8; 32]>, NoRandomness> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(NoRandomness)?;
    Ok(bytes)
}

/// Randomness for one command.
///
/// # Errors
/// The operating system has none.
pub fn entropy() -> Result<Entropy, NoRandomness> {
    random().map(|bytes| Entropy::new(*bytes))
}
