//! How large a packet the path to a peer carries: path MTU discovery by probing (RFC 8899, whose names these
//! are), because nobody on the way may be believed about it.
//!
//! The property: a size is used only after a padded probe of exactly that size, with an id that cannot be
//! guessed, was answered on this path; until then, and whenever it turns out to be true no longer, packets
//! are at most [`MIN_MTU`] long. An ICMP message can neither raise nor lower it.
//!
//! - *Searching*: first the largest size, which most paths carry; if that fails, the sizes of well-known
//!   kinds of paths, halving what is left with every answer. A size fails when [`MTU_PROBES`] probes were
//!   lost. A loss counts only if the peer was heard since: silence says that the path is down, not that it is
//!   narrow.
//! - *Complete*: the size found is confirmed while packets flow, sooner when the peer falls silent. When that
//!   fails, the path has become a black hole (section 4.3) and the search begins anew from [`MIN_MTU`]. After
//!   [`MTU_RAISE_TIMER`] larger sizes are tried again.
//!
//! A path that does not carry [`MIN_MTU`] either is no path for IPv6, and beyond this: nothing smaller could be
//! told to our host.
//!
//! A probe is sent only when packets flowed since the last one, and never within [`MTU_PROBE_TIMER`] of it: an
//! idle peer costs nothing, and a peer that roams with every datagram cannot make us send more.

use crate::limits::{
    MIN_MTU, MTU_CONFIRMATION_TIMER, MTU_PROBE_TIMER, MTU_PROBES, MTU_RAISE_TIMER, MTU_SILENCE,
};
use std::time::Duration;

/// MTUs of paths as they are found: IPv6's own minimum with room for a tunnel, mobile networks and VPNs,
/// WireGuard, VXLAN, PPPoE over a leased line, Google's cloud, GRE, 6in4, PPPoE, Ethernet; then Wi-Fi, SONET,
/// the jumbo frames of Google's cloud and of Ethernet, and loopback (after RFC 1191, section 7.1).
const PLATEAUS: [u16; 18] = [
    1360, 1380, 1400, 1420, 1440, 1450, 1454, 1460, 1472, 1476, 1480, 1492, 1500, 2304, 4470, 8896, 9000,
    65_535,
];
/// Larger than every size: nothing has failed.
const NO_CEILING: u16 = u16::MAX;
/// How often [`MTU_PROBE_TIMER`] doubles while probes are lost.
const MAX_DOUBLINGS: u8 = 3;

/// What is known about the current path to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathMtu {
    phase: Phase,
    /// The largest inner packet that may be sent (PLPMTU).
    mtu: u16,
    /// The smallest size that is known to fail.
    ceiling: u16,
    /// When `mtu` was last answered for.
    confirmed: Duration,
    asked: Option<Asked>,
    /// The end of the probe timer.
    not_before: Duration,
    /// How many packets had been sent when the last probe was.
    sent: u64,
    /// A packet was too large since then.
    wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Searching,
    Complete { since: Duration },
}

/// A probe on its way. With the id and the time, its answer also tells the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    id: u64,
    size: u16,
    at: Duration,
    /// How often this size was asked for before.
    again: u8,
    lost: u8,
}

/// What the search goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) mono: Duration,
    /// The interface's MTU (MAX_PLPMTU).
    pub(crate) max: u16,
    /// What the headers around an inner packet take of the path's MTU.
    pub(crate) overhead: u16,
    /// Packets sent to the peer so far.
    pub(crate) sent: u64,
    /// When the peer was last heard.
    pub(crate) heard: Option<Duration>,
}

/// A probe to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    /// The inner packet's length.
    pub(crate) size: u16,
    /// A short question is to go beside it: if only that is answered, the size is the reason and not the path.
    pub(crate) paired: bool,
}

impl Default for PathMtu {
    fn default() -> Self {
        Self {
            phase: Phase::Searching,
            mtu: MIN_MTU,
            ceiling: NO_CEILING,
            confirmed: Duration::ZERO,
            asked: None,
            not_before: Duration::ZERO,
            sent: 0,
            wanted: false,
        }
    }
}

impl PathMtu {
    /// The largest inner packet that may be sent now.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether it is not known yet if the path carries more, and will be soon.
    pub(crate) fn is_undecided(&self, mono: Duration) -> bool {
        self.phase == Phase::Searching
            && (self.mtu, self.ceiling) == (MIN_MTU, NO_CEILING)
            && self.asked.map_or(mono >= self.not_before, |asked| asked.lost == 0)
    }

    /// A packet was refused because the path does not carry it: it counts as one that flowed.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// The path is another one. What limits the rate of probes stays.
    pub(crate) fn begin_anew(&mut self) {
        let (not_before, sent, wanted) = (self.not_before, self.sent, self.wanted);
        *self = Self { not_before, sent, wanted, ..Self::default() };
    }

    /// The kernel did not send an inner packet of `size`: the first link is too narrow for it.
    pub(crate) fn too_big(&mut self, size: u16) {
        if self.asked.is_some_and(|asked| asked.size >= size) {
            self.asked = None;
        }
        self.ceiling = self.ceiling.min(size);
        if self.mtu >= size {
            self.mtu = MIN_MTU;
            self.phase = Phase::Searching;
        }
    }

    /// Takes the answer that a probe arrived with `size`. One that was not asked for changes nothing.
    pub(crate) fn answered(&mut self, id: u64, size: u16, mono: Duration) {
        let Some(asked) = self.asked.filter(|asked| (asked.id, asked.size) == (id, size)) else { return };
        self.asked = None;
        self.mtu = size;
        self.confirmed = mono;
        self.not_before = asked.at + MTU_PROBE_TIMER;
    }

    /// Whether a probe is to be sent now; `id` draws one that nobody can guess.
    pub(crate) fn poll(&mut self, seen: Seen, id: impl FnOnce() -> u64) -> Option<Ask> {
        let flowed = self.wanted || seen.sent != self.sent;
        if !flowed || seen.mono < self.not_before {
            return None;
        }
        let repeated = self.asked.take().and_then(|asked| self.lost(asked, seen));
        let (size, again, lost) = match repeated {
            Some(asked) => (asked.size, asked.again.saturating_add(1), asked.lost),
            None => (self.next_size(seen)?, 0, 0),
        };
        let asked = Asked { id: id(), size, at: seen.mono, again, lost };
        self.asked = Some(asked);
        self.not_before = seen.mono + MTU_PROBE_TIMER * (1 << again.min(MAX_DOUBLINGS));
        (self.sent, self.wanted) = (seen.sent, false);
        // The first probe of a search is alone: it mostly arrives, and if not, the next is not.
        Some(Ask { id: asked.id, size, paired: again > 0 || size == self.mtu })
    }

    /// No answer came in time. The same again, unless its size has failed now.
    fn lost(&mut self, asked: Asked, seen: Seen) -> Option<Asked> {
        let heard = seen.heard.is_some_and(|heard| heard >= asked.at);
        let lost = asked.lost + u8::from(heard);
        if lost < MTU_PROBES {
            return Some(Asked { lost, ..asked });
        }
        if asked.size == self.mtu {
            self.begin_anew();
        } else {
            self.ceiling = self.ceiling.min(asked.size);
        }
        None
    }

    fn next_size(&mut self, seen: Seen) -> Option<u16> {
        if let Phase::Complete { since } = self.phase {
            let is_old = seen.mono.saturating_sub(since) >= MTU_RAISE_TIMER;
            if self.mtu >= seen.max || !is_old {
                return self.is_in_doubt(seen).then_some(self.mtu);
            }
            (self.phase, self.ceiling) = (Phase::Searching, NO_CEILING);
        }
        let larger = self.larger_size(seen);
        if larger.is_none() {
            self.phase = Phase::Complete { since: seen.mono };
        }
        larger
    }

    /// Whether the size found has to be confirmed.
    fn is_in_doubt(&self, seen: Seen) -> bool {
        let age = seen.mono.saturating_sub(self.confirmed);
        let is_silent = seen.heard.is_none_or(|heard| seen.mono.saturating_sub(heard) >= MTU_SILENCE);
        self.mtu > MIN_MTU && (age >= MTU_CONFIRMATION_TIMER || (is_silent && age >= MTU_SILENCE))
    }

    /// The next size worth a probe: the largest, while nothing has failed; then the middle one of the
    /// plateaus between what passes and what fails.
    fn larger_size(&self, seen: Seen) -> Option<u16> {
        if self.mtu >= seen.max {
            return None;
        }
        if self.ceiling > seen.max {
            return Some(seen.max);
        }
        let left = || {
            let sizes = PLATEAUS.iter().map(|plateau| plateau.saturating_sub(seen.overhead));
            sizes.filter(|&size| self.mtu < size && size < self.ceiling)
        };
        left().nth(left().count() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u16 = 1420;

    /// A path that carries inner packets of `carries`, with a packet every tick of a quarter of a second.
    struct Path {
        search: PathMtu,
        carries: u16,
        ticks: u32,
        ids: u64,
        asked: Vec<(Duration, Ask)>,
    }

    impl Path {
        fn new(carries: u16) -> Self {
            Self { search: PathMtu::default(), carries, ticks: 0, ids: 7, asked: Vec::new() }
        }

        fn mono(&self) -> Duration {
            Duration::from_millis(250) * self.ticks
        }

        fn seen(&self) -> Seen {
            let sent = u64::from(self.ticks);
            Seen { mono: self.mono(), max: MAX, overhead: 60, sent, heard: Some(self.mono()) }
        }

        /// A tick, and the answer if what was asked arrives.
        fn tick(&mut self) -> Option<Ask> {
            self.ticks += 1;
            self.ids += 1;
            let (seen, id) = (self.seen(), self.ids);
            let ask = self.search.poll(seen, || id)?;
            self.asked.push((seen.mono, ask));
            if ask.size <= self.carries {
                self.search.answered(ask.id, ask.size, seen.mono);
            }
            Some(ask)
        }

        fn minutes(&mut self, minutes: u32) {
            (0..minutes * 240).for_each(|_| {
                self.tick();
            });
        }

        /// The best that the search can find.
        fn best(&self) -> u16 {
            let sizes = PLATEAUS.iter().map(|plateau| plateau.saturating_sub(60)).chain([MAX, MIN_MTU]);
            sizes.filter(|&size| size <= self.carries.min(MAX)).max().unwrap_or(MIN_MTU)
        }
    }

    #[test]
    fn only_the_answer_to_the_last_question_counts() {
        let mut path = Path::new(0);
        let ask = path.tick();
        let Some(Ask { id, size: MAX, paired: false }) = ask else { panic!("{ask:?}") };
        for (id, size) in [(id, MAX - 1), (id, MAX + 1), (id, 0), (id + 1, MAX), (0, MAX)] {
            path.search.answered(id, size, path.mono());
            assert_eq!(path.search.mtu(), MIN_MTU);
        }
        path.minutes(1);
        path.search.answered(id, MAX, path.mono());
        assert_eq!(path.search.mtu(), MIN_MTU, "too late");
        assert!(!path.search.is_undecided(path.mono()));
    }

    #[test]
    fn an_answer_from_the_former_path_does_not_count() {
        let mut path = Path::new(0);
        let Some(ask) = path.tick() else { panic!("the first packet asks") };
        path.search.begin_anew();
        path.search.answered(ask.id, ask.size, path.mono());
        assert_eq!(path.search.mtu(), MIN_MTU);
        assert!(!path.search.is_undecided(path.mono()), "a probe may not be sent yet: the host is told");
        assert!(path.search.is_undecided(path.mono() + MTU_PROBE_TIMER));
    }

    #[test]
    fn silence_is_no_evidence() {
        let mut path = Path::new(0);
        for ticks in 1..1000 {
            path.ticks = ticks;
            let seen = Seen { heard: None, ..path.seen() };
            if let Some(ask) = path.search.poll(seen, || 1) {
                assert_eq!((ask.size, ask.paired), (MAX, ticks > 1));
            }
        }
        assert!(path.search.is_undecided(path.mono()));
    }

    #[test]
    fn a_path_of_the_smallest_interface_is_never_probed() {
        let mut search = PathMtu::default();
        for ticks in 1..1000 {
            let mono = Duration::from_secs(ticks);
            let seen = Seen { mono, max: MIN_MTU, overhead: 80, sent: ticks, heard: None };
            assert_eq!(search.poll(seen, || 1), None);
        }
    }

    proptest! {
        #[test]
        fn the_best_size_is_found_and_found_again_after_any_change(
            first in 0u16..1600,
            then in 0u16..1600,
        ) {
            let mut path = Path::new(first);
            path.minutes(2);
            prop_assert_eq!(path.search.mtu(), path.best());
            path.carries = then;
            path.minutes(13);
            prop_assert_eq!(path.search.mtu(), path.best());
        }

        #[test]
        fn whatever_happens_a_size_was_answered_and_probes_keep_their_distance(
            events in proptest::collection::vec((0u8..12, 1200u16..1600), 1..400),
        ) {
            let mut path = Path::new(MAX);
            let mut answered = vec![MIN_MTU];
            for (event, size) in events {
                match event {
                    0 => path.search.begin_anew(),
                    1 => path.search.too_big(size),
                    2 => path.search.want(),
                    3 => path.search.answered(u64::from(size), size, path.mono()),
                    4 => path.carries = size,
                    _ => answered.extend(path.tick().filter(|ask| ask.size <= path.carries).map(|ask| ask.size)),
                }
                prop_assert!(answered.contains(&path.search.mtu()));
                prop_assert!((MIN_MTU..=MAX).contains(&path.search.mtu()));
                if event == 1 {
                    prop_assert!(path.search.mtu() < size.max(MIN_MTU + 1));
                }
            }
            for pair in path.asked.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= MTU_PROBE_TIMER);
            }
        }
    }
}
