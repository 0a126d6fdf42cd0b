//! Wrong user codes are counted by network: whoever guesses is soon refused, whatever they ask next (RFC 8628, section
//! 5.1). When too many networks guess at once for each to be counted, new ones are refused as well.

use crate::waiting::Network;
use bulkhead_identity::Now;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong codes of one network in [`GUESS_WINDOW`].
pub(crate) const MAX_GUESSES: u32 = 5;
/// See [`MAX_GUESSES`].
pub(crate) const GUESS_WINDOW: Duration = Duration::from_secs(60);
/// Networks that are counted at once.
const MAX_GUESSERS: usize = 16_384;

#[derive(Default)]
pub(crate) struct Guesses(BTreeMap<Network, (u32, Duration)>);

impl Guesses {
    /// Whether this network may try a code.
    pub(crate) fn admits(&self, source: IpAddr, now: Now) -> bool {
        match self.0.get(&Network::from(source)) {
            Some((wrong, since)) => *wrong < MAX_GUESSES || is_over(*since, now),
            None => self.0.len() < MAX_GUESSERS,
        }
    }

    /// One was wrong.
    pub(crate) fn count(&mut self, source: IpAddr, now: Now) {
        let (wrong, since) = self.0.entry(Network::from(source)).or_insert((0, now.mono));
        if is_over(*since, now) {
            (*wrong, *since) = (0, now.mono);
        }
        *wrong = wrong.saturating_add(1);
    }

    pub(crate) fn expire(&mut self, now: Now) {
        self.0.retain(|_, (_, since)| !is_over(*since, now));
    }
}

fn is_over(since: Duration, now: Now) -> bool {
    now.mono.saturating_sub(since) >= GUESS_WINDOW
}
