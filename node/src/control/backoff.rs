//! Pauses between attempts: exponential, capped, with full jitter.
//!
//! Property: ten thousand nodes that lost one coordinator at one moment do not come back at one moment (G7).
//! Full jitter is the best of the variants in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// The first pause is at most this.
const BASE: Duration = Duration::from_millis(250);
/// No pause is longer than this.
const CAP: Duration = Duration::from_secs(20);
/// No pause is shorter than this, so that luck does not make a tight loop.
const FLOOR: Duration = Duration::from_millis(50);

/// How often it failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        jitter(ceiling).max(FLOOR)
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(&self) -> Duration {
        BASE.saturating_mul(2_u32.saturating_pow(self.failures)).min(CAP)
    }
}

/// A random duration below `ceiling`. Without randomness it is the ceiling: late is better than all at once.
pub(crate) fn jitter(ceiling: Duration) -> Duration {
    let mut random = [0; 4];
    match getrandom::fill(&mut random) {
        Ok(()) => ceiling.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => ceiling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let ceiling = backoff.ceiling();
            let pause = backoff.pause();
            assert!(pause >= FLOOR && pause <= ceiling, "{pause:?} of {ceiling:?}");
        }
        assert_eq!(backoff.ceiling(), CAP);
        backoff.reset();
        assert_eq!(backoff.ceiling(), BASE);
    }
}
