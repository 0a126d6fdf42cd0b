//! Fragments follow their first. The first must hold the whole transport header and is judged like any
//! packet; its verdict serves the others of the same datagram for thirty seconds.
//!
//! The property: a later fragment passes only behind a first that passed, and never covers a byte that
//! another covered, so what the receiver puts together is what was judged. A fragment that comes before its
//! first is dropped; the sender's stack keeps order, and the underlay hardly ever breaks it.

use crate::Reason;
use crate::flow::Way;
use crate::limits::{FRAGMENT_LIFETIME, MAX_FRAGMENTED, MAX_RANGES};
use crate::packet::Fragment;
use std::ops::Range;
use std::time::Duration;

/// Which datagram a fragment belongs to; the addresses are the peer's and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) way: Way,
    pub(crate) v6: bool,
    /// IPv4 only (RFC 791); zero in IPv6, where the identification alone counts (RFC 8200, section 4.5).
    pub(crate) protocol: u8,
    pub(crate) id: u32,
}

/// The fragmented datagrams exchanged with one peer.
#[derive(Debug, Default)]
pub(crate) struct Fragments(Vec<Followed>);

#[derive(Debug)]
struct Followed {
    datagram: Datagram,
    since: Duration,
    /// Bytes seen, sorted, disjoint, never touching each other.
    seen: Vec<Range<u32>>,
    /// Where the datagram ends, once its last fragment was seen.
    end: Option<u32>,
    poisoned: bool,
}

impl Fragments {
    /// A first fragment passed the filter. A second first of a datagram that is followed is an overlap.
    pub(crate) fn begin(
        &mut self,
        datagram: Datagram,
        piece: Fragment,
        mono: Duration,
    ) -> Result<(), Reason> {
        self.0.retain(|followed| mono.saturating_sub(followed.since) <= FRAGMENT_LIFETIME);
        if let Some(followed) = self.0.iter_mut().find(|followed| followed.datagram == datagram) {
            followed.poisoned = true;
            return Err(Reason::Fragment);
        }
        if self.0.len() >= MAX_FRAGMENTED {
            // The oldest of the same peer, and what is left of it is dropped.
            self.0.remove(0);
        }
        let mut followed = Followed { datagram, since: mono, seen: Vec::new(), end: None, poisoned: false };
        followed.insert(piece.offset..piece.offset + piece.len);
        self.0.push(followed);
        Ok(())
    }

    /// Whether a later fragment may follow.
    pub(crate) fn follow(
        &mut self,
        datagram: Datagram,
        piece: Fragment,
        mono: Duration,
    ) -> Result<(), Reason> {
        let at = self
            .0
            .iter()
            .position(|followed| followed.datagram == datagram)
            .filter(|&at| mono.saturating_sub(self.0[at].since) <= FRAGMENT_LIFETIME)
            .ok_or(Reason::Fragment)?;
        self.0[at].take(piece)?;
        if self.0[at].is_complete() {
            self.0.remove(at);
        }
        Ok(())
    }

    /// Forgets one way: what waited for a session is judged a second time when it leaves, and must not be taken
    /// for a repetition of itself.
    pub(crate) fn forget(&mut self, way: Way) {
        self.0.retain(|followed| followed.datagram.way != way);
    }

    /// Forgets all: what was judged before has to be judged again.
    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

impl Followed {
    fn take(&mut self, piece: Fragment) -> Result<(), Reason> {
        let range = piece.offset..piece.offset + piece.len;
        let overlaps = self.seen.iter().any(|seen| seen.start < range.end && range.start < seen.end);
        let behind_end = self.end.is_some_and(|end| range.end > end || !piece.more);
        let before_seen = !piece.more && self.seen.last().is_some_and(|last| last.end > range.end);
        if self.poisoned || overlaps || behind_end || before_seen || self.seen.len() >= MAX_RANGES {
            self.poisoned = true;
            return Err(Reason::Fragment);
        }
        if !piece.more {
            self.end = Some(range.end);
        }
        self.insert(range);
        Ok(())
    }

    fn insert(&mut self, range: Range<u32>) {
        let at = self.seen.partition_point(|seen| seen.start < range.start);
        self.seen.insert(at, range);
        self.seen.dedup_by(|next, held| {
            let touch = held.end == next.start;
            if touch {
                held.end = next.end;
            }
            touch
        });
    }

    fn is_complete(&self) -> bool {
        matches!((&self.seen[..], self.end), ([only], Some(end)) if only.start == 0 && only.end == end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(100);

    fn datagram(id: u32) -> Datagram {
        Datagram { way: Way::In, v6: false, protocol: 17, id }
    }

    fn piece(offset: u32, len: u32, more: bool) -> Fragment {
        Fragment { id: 1, offset, len, more }
    }

    #[test]
    fn later_fragments_pass_behind_their_first_in_any_order_and_once() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.follow(datagram(1), piece(8, 8, true), AT), Err(Reason::Fragment));
        assert_eq!(fragments.begin(datagram(1), piece(0, 8, true), AT), Ok(()));
        assert_eq!(fragments.follow(datagram(1), piece(24, 4, false), AT), Ok(()));
        assert_eq!(fragments.follow(datagram(2), piece(8, 8, true), AT), Err(Reason::Fragment));
        assert_eq!(fragments.follow(datagram(1), piece(16, 8, true), AT), Ok(()));
        assert_eq!(fragments.follow(datagram(1), piece(8, 8, true), AT), Ok(()));
        assert!(fragments.0.is_empty(), "a complete datagram is forgotten");
        assert_eq!(fragments.follow(datagram(1), piece(8, 8, true), AT), Err(Reason::Fragment));
    }

    #[test]
    fn any_overlap_poisons_the_whole_datagram() {
        for bad in [
            piece(0, 16, true),
            piece(8, 8, true),
            piece(12, 16, true),
            piece(64, 8, true),
            piece(48, 24, false),
            piece(24, 8, false),
        ] {
            let mut fragments = Fragments::default();
            assert_eq!(fragments.begin(datagram(1), piece(0, 16, true), AT), Ok(()));
            assert_eq!(fragments.follow(datagram(1), piece(32, 16, true), AT), Ok(()));
            assert_eq!(fragments.follow(datagram(1), piece(56, 8, false), AT), Ok(()));
            assert_eq!(fragments.follow(datagram(1), bad, AT), Err(Reason::Fragment), "{bad:?}");
            assert_eq!(fragments.follow(datagram(1), piece(16, 16, true), AT), Err(Reason::Fragment));
        }
        let mut fragments = Fragments::default();
        assert_eq!(fragments.begin(datagram(1), piece(0, 16, true), AT), Ok(()));
        assert_eq!(fragments.begin(datagram(1), piece(0, 16, true), AT), Err(Reason::Fragment));
        assert_eq!(fragments.follow(datagram(1), piece(16, 8, false), AT), Err(Reason::Fragment));
    }

    #[test]
    fn a_flood_is_bounded_and_a_verdict_ends_after_its_time() {
        let mut fragments = Fragments::default();
        for id in 0..10_000 {
            assert_eq!(fragments.begin(datagram(id), piece(0, 8, true), AT), Ok(()));
        }
        assert_eq!(fragments.0.len(), MAX_FRAGMENTED);
        let late = AT + FRAGMENT_LIFETIME + Duration::from_millis(1);
        assert_eq!(fragments.follow(datagram(9_999), piece(8, 8, true), late), Err(Reason::Fragment));

        let mut holes = Fragments::default();
        assert_eq!(holes.begin(datagram(1), piece(0, 8, true), AT), Ok(()));
        let passed =
            (1..1000).filter(|i| holes.follow(datagram(1), piece(i * 16, 8, true), AT).is_ok()).count();
        assert_eq!(passed, MAX_RANGES - 1);
    }
}
