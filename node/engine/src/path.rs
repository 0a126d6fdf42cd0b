//! Where a peer is. Candidates are hints from the coordinator; the endpoint is what the last authentic
//! datagram came from. A handshake initiation goes to all of them, data only to the endpoint, and no larger than the
//! way there is known to carry.

use crate::address::is_usable_endpoint;
use crate::limits::{MAX_ENDPOINTS, MIN_MTU};
use crate::pathmtu::{Ask, PathMtu, Seen};
use std::net::SocketAddr;

/// The candidates and the endpoint of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    candidates: Box<[SocketAddr]>,
    endpoint: Option<SocketAddr>,
    /// Made when the first packet flows: an idle peer's path has no need of it.
    search: Option<Box<PathMtu>>,
}

impl Paths {
    /// Keeps the usable ones of `hints`, each once. `is_overlay` names addresses that would lead into our own
    /// tunnel.
    pub(crate) fn new(hints: &[SocketAddr], is_overlay: impl Fn(SocketAddr) -> bool) -> Self {
        let mut candidates = Vec::new();
        for &hint in hints {
            if candidates.len() == MAX_ENDPOINTS {
                break;
            }
            if is_usable_endpoint(hint) && !is_overlay(hint) && !candidates.contains(&hint) {
                candidates.push(hint);
            }
        }
        Self { candidates: candidates.into(), endpoint: None, search: None }
    }

    /// Takes the candidates of `newer`; what was learned from the peer itself stays. Whether anything
    /// changed.
    pub(crate) fn update(&mut self, newer: Self) -> bool {
        let changed = self.candidates != newer.candidates;
        self.candidates = newer.candidates;
        changed
    }

    /// An authentic datagram came from there: roam, onto a path of which nothing is known.
    pub(crate) fn authenticated(&mut self, from: SocketAddr) {
        if self.endpoint.replace(from) != Some(from)
            && let Some(search) = &mut self.search
        {
            search.begin_anew();
        }
    }

    /// The largest inner packet that the path to the endpoint is known to carry.
    pub(crate) fn mtu(&self) -> u16 {
        self.search.as_ref().map_or(MIN_MTU, |search| search.mtu())
    }

    /// What is known of the path's MTU.
    pub(crate) fn search(&mut self) -> &mut PathMtu {
        self.search.get_or_insert_default()
    }

    /// Whether a probe of the path's MTU is to be sent now.
    pub(crate) fn discover(&mut self, seen: Seen, id: impl FnOnce() -> u64) -> Option<Ask> {
        if self.search.is_none() && seen.sent == 0 {
            return None;
        }
        self.search().poll(seen, id)
    }

    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    pub(crate) fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// Everywhere an initiation goes, each once.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = SocketAddr> {
        let others =
            self.candidates.iter().copied().filter(move |&candidate| Some(candidate) != self.endpoint);
        self.endpoint.into_iter().chain(others)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_bounded_and_usable_and_the_learned_endpoint_stays() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let hints = [
            at("192.0.2.1:51820"),
            at("192.0.2.1:51820"),
            at("0.0.0.0:1"),
            at("192.0.2.2:0"),
            at("239.1.1.1:9"),
            at("100.64.0.10:51820"),
            at("[::ffff:192.0.2.9]:1"),
            at("[2001:db8::1]:51820"),
        ];
        let overlay = |endpoint: SocketAddr| endpoint.ip().to_string().starts_with("100.64.");
        let mut paths = Paths::new(&hints, overlay);
        assert_eq!(paths.candidates(), [at("192.0.2.1:51820"), at("[2001:db8::1]:51820")]);
        paths.authenticated(at("192.0.2.1:51820"));
        assert_eq!(paths.everywhere().count(), 2);
        assert!(paths.update(Paths::new(&[], overlay)));
        assert_eq!(paths.everywhere().collect::<Vec<_>>(), [at("192.0.2.1:51820")]);

        let many: Vec<SocketAddr> = (1..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        assert_eq!(Paths::new(&many, overlay).candidates().len(), MAX_ENDPOINTS);
    }
}
