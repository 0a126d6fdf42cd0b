//! What strangers began and have not finished: a bounded table in which no single network can crowd others out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

/// The part of a source address that one tenant holds: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(source: IpAddr) -> Self {
        Self(match source.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

/// At most `MAX` things by id. When one more comes, the network that holds most loses its oldest.
pub struct Waiting<T, const MAX: usize> {
    open: BTreeMap<String, (Network, T)>,
    /// Ids by network, oldest first.
    order: BTreeMap<Network, VecDeque<String>>,
}

impl<T, const MAX: usize> Default for Waiting<T, MAX> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), order: BTreeMap::new() }
    }
}

impl<T, const MAX: usize> Waiting<T, MAX> {
    /// Adds a thing, in place of one with the same id. `source` is whose it is.
    pub fn insert(&mut self, id: String, source: IpAddr, thing: T) {
        self.take(&id);
        if self.open.len() >= MAX {
            self.evict();
        }
        let network = Network::from(source);
        self.order.entry(network).or_default().push_back(id.clone());
        self.open.insert(id, (network, thing));
    }

    /// The thing with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&T> {
        self.open.get(id).map(|(_, thing)| thing)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.open.get_mut(id).map(|(_, thing)| thing)
    }

    /// All of them, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.open.iter_mut().map(|(id, (_, thing))| (id.as_str(), thing))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.open.iter().map(|(id, (_, thing))| (id.as_str(), thing))
    }

    /// Removes the thing with this id.
    pub fn take(&mut self, id: &str) -> Option<T> {
        let (network, thing) = self.open.remove(id)?;
        if let Some(order) = self.order.get_mut(&network) {
            order.retain(|other| other != id);
            if order.is_empty() {
                self.order.remove(&network);
            }
        }
        Some(thing)
    }

    /// Drops what is over.
    pub fn expire(&mut self, is_over: impl Fn(&T) -> bool) {
        let over: Vec<_> =
            self.open.iter().filter(|(_, (_, thing))| is_over(thing)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.take(&id);
        }
    }

    fn evict(&mut self) {
        let most = self.order.values().max_by_key(|order| order.len());
        if let Some(oldest) = most.and_then(|order| order.front().cloned()) {
            self.take(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whoever_holds_most_loses_first() {
        let mut waiting = Waiting::<u32, 4>::default();
        waiting.insert("quiet".to_owned(), "192.0.2.1".parse().unwrap(), 0);
        for number in 0..100u32 {
            // One tenant, however many addresses it uses.
            let source = format!("2001:db8::{number:x}").parse().unwrap();
            waiting.insert(format!("flood {number}"), source, number);
        }
        assert_eq!(waiting.iter().count(), 4);
        assert_eq!(waiting.take("quiet"), Some(0));
        assert_eq!(waiting.get("flood 99"), Some(&99));
        assert_eq!(waiting.get("flood 0"), None);
    }

    #[test]
    fn an_id_is_there_once() {
        let mut waiting = Waiting::<u32, 4>::default();
        for source in ["192.0.2.1", "192.0.2.2"] {
            waiting.insert("one".to_owned(), source.parse().unwrap(), 1);
        }
        waiting.expire(|_| true);
        assert!(waiting.order.is_empty() && waiting.open.is_empty());
    }
}
