//! Wrong user codes, counted by network: whoever guesses has to stop long before guessing pays (RFC 8628, section
//! 5.1). The table is bounded; when it is full, the network whose window ends first is forgotten.

use crate::web::limits::{GUESS_WINDOW, MAX_GUESSING_NETWORKS, MAX_WRONG_CODES};
use crate::web::network::Network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

#[derive(Debug)]
struct Count {
    began: Instant,
    wrong: u32,
}

/// Who guessed wrong of late.
#[derive(Debug, Default)]
pub(super) struct Guesses(BTreeMap<Network, Count>);

impl Guesses {
    /// Whether this address may try (another) code.
    #[must_use]
    pub(super) fn may_try(&self, source: IpAddr, now: Instant) -> bool {
        match self.0.get(&Network::from(source)) {
            Some(count) => is_over(count, now) || count.wrong < MAX_WRONG_CODES,
            None => true,
        }
    }

    /// A code was wrong.
    pub(super) fn wrong(&mut self, source: IpAddr, now: Instant) {
        let network = Network::from(source);
        if !self.0.contains_key(&network) && self.0.len() >= MAX_GUESSING_NETWORKS {
            self.forget(now);
        }
        let count = self.0.entry(network).or_insert(Count { began: now, wrong: 0 });
        if is_over(count, now) {
            *count = Count { began: now, wrong: 0 };
        }
        count.wrong = count.wrong.saturating_add(1);
    }

    fn forget(&mut self, now: Instant) {
        self.0.retain(|_, count| !is_over(count, now));
        if self.0.len() >= MAX_GUESSING_NETWORKS {
            let oldest = self.0.iter().min_by_key(|(_, count)| count.began).map(|(network, _)| *network);
            oldest.map(|network| self.0.remove(&network));
        }
    }
}

fn is_over(count: &Count, now: Instant) -> bool {
    now.saturating_duration_since(count.began) >= GUESS_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v6(network: u64, host: u64) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host)).into()
    }

    #[test]
    fn d7_a_network_that_guesses_has_to_wait_and_others_do_not() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for host in 0..MAX_WRONG_CODES {
            assert!(guesses.may_try(v6(1, 0), now));
            guesses.wrong(v6(1, u64::from(host)), now);
        }
        assert!(!guesses.may_try(v6(1, 99), now), "all of a /64 is one network");
        assert!(guesses.may_try(v6(2, 0), now));
        assert!(guesses.may_try(Ipv4Addr::LOCALHOST.into(), now));
        assert!(guesses.may_try(v6(1, 99), now + GUESS_WINDOW));
        guesses.wrong(v6(1, 99), now + GUESS_WINDOW);
        assert!(guesses.may_try(v6(1, 99), now + GUESS_WINDOW), "a new window counts from one");
    }

    #[test]
    fn the_table_stays_within_its_bound() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for network in 0..=MAX_GUESSING_NETWORKS as u64 {
            guesses.wrong(v6(network, 0), now);
        }
        assert_eq!(guesses.0.len(), MAX_GUESSING_NETWORKS);
    }
}
