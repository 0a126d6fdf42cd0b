//! Not to lock oneself out. A person or a node that reaches the coordinator through the overlay does so by the grace
//! of the policy: one that takes this way is refused, with whose way it is, unless the caller insists.
//!
//! Only ways that exist are kept: the caller's own, by the address that it calls from, and those of the control links
//! that are up. Who comes from outside the overlay owes its way to no policy.

use crate::coordinator::Coordinator;
use crate::event::Actor;
use crate::refusal::{Class, Refusal};
use bulkhead_acl::question::{Loss, lost_ways};
use bulkhead_acl::{PortSet, RuleSet, Service, Subject};
use bulkhead_identity::{NodeName, Now, range};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many lost ways a refusal names.
const MAX_NAMED: usize = 8;

/// Who asks for a change, and from where.
pub(crate) struct Caller {
    pub(crate) actor: Actor,
    /// The address that the request came from; none over the unix socket.
    pub(crate) source: Option<IpAddr>,
}

/// Who reaches the coordinator, by whatever way.
struct Comer {
    /// The caller, or a node's control link.
    whose: String,
    source: IpAddr,
    /// On what.
    service: Service,
}

/// Somebody's way to the coordinator through the overlay.
struct Way {
    /// Who would lose it: the caller, or a node's control link.
    whose: String,
    from: NodeName,
    service: Service,
}

impl Coordinator {
    /// Refuses `rules` when they end a way to the coordinator that the policy in force permits, now or later.
    pub(crate) fn keeps_ways_in(&self, caller: &Caller, rules: &RuleSet, now: Now) -> Result<(), Refusal> {
        let Some(own) = &self.config.node else { return self.all_are_outside(caller) };
        let ways = self.ways(caller, own);
        if ways.is_empty() {
            return Ok(());
        }
        let Some(to) = self.subject(own) else {
            let message = format!("`node` of coordinator.toml names {own}, which is not an active node");
            return Err(lockout(message));
        };
        let losses = self.losses(&ways, to, rules, now);
        let mut lost = Vec::new();
        for Way { whose, from, service } in &ways {
            let when = match losses.get(&(from, *service)) {
                None => continue,
                Some(Loss::Now) => String::new(),
                Some(Loss::Later(at)) => format!(" from {at}"),
                Some(Loss::Unknown) => " at a time that was not looked at".to_owned(),
            };
            lost.push(format!("{whose} from {from} to {own} on {service}{when}"));
        }
        if lost.is_empty() {
            return Ok(());
        }
        let more = lost.len().saturating_sub(MAX_NAMED);
        lost.truncate(MAX_NAMED);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        Err(lockout(format!("this policy cuts ways to the coordinator: {}{more}", lost.join("; "))))
    }

    /// When each way is lost, if it is: one that `rules` permit for a time only is lost when that is over, and who
    /// finds out then cannot come in to mend it.
    fn losses<'a>(
        &self,
        ways: &'a [Way],
        to: Subject,
        rules: &RuleSet,
        now: Now,
    ) -> BTreeMap<(&'a NodeName, Service), Loss> {
        let mut by_service: BTreeMap<Service, BTreeMap<&NodeName, Subject>> = BTreeMap::new();
        for way in ways {
            if let Some(from) = self.subject(&way.from) {
                by_service.entry(way.service).or_default().insert(&way.from, from);
            }
        }
        let mut losses = BTreeMap::new();
        for (service, from) in by_service {
            let names: Vec<_> = from.keys().copied().collect();
            let nodes: Vec<_> = from.into_values().chain([to.clone()]).collect();
            let ports = PortSet::from(service);
            let lost = lost_ways(self.reach.rules().rules(), rules, &nodes, &to.name, &ports, now.wall);
            for way in lost {
                let name = names.binary_search(&&way.node).ok().and_then(|at| names.get(at));
                // They come with the soonest first.
                name.map(|name| losses.entry((*name, service)).or_insert(way.loss));
            }
        }
        losses
    }

    /// Without knowing which node we run on, we cannot tell what whoever is inside the overlay would lose.
    fn all_are_outside(&self, caller: &Caller) -> Result<(), Refusal> {
        match self.comers(caller).find(|comer| self.is_overlay(comer.source)) {
            None => Ok(()),
            Some(Comer { whose, source, .. }) => Err(lockout(format!(
                "{whose} comes from {source} inside the overlay, and this coordinator does not know the node it runs on (`node` in coordinator.toml)"
            ))),
        }
    }

    /// The caller, and every control link that is up.
    fn comers<'a>(&'a self, caller: &Caller) -> impl Iterator<Item = Comer> + use<'a> {
        let port = self.config.port;
        let person = caller.source.map(|source| {
            let whose = caller.actor.to_string();
            Comer { whose, source, service: Service::Tcp(port) }
        });
        let links = self.links.following().filter_map(move |(connection, name)| {
            let source = self.links.link(connection)?.observed.ip();
            Some(Comer { whose: format!("the control link of {name}"), source, service: Service::Udp(port) })
        });
        person.into_iter().chain(links)
    }

    fn ways(&self, caller: &Caller, own: &NodeName) -> Vec<Way> {
        let inside: Vec<_> = self.comers(caller).filter(|comer| self.is_overlay(comer.source)).collect();
        if inside.is_empty() {
            return Vec::new();
        }
        let at = self.by_address();
        let ways = inside.into_iter().filter_map(|Comer { whose, source, service }| {
            let from = (*at.get(&source.to_canonical())?).clone();
            Some(Way { whose, from, service })
        });
        // What does not leave our own machine needs no policy.
        ways.filter(|way| way.from != *own).collect()
    }

    fn by_address(&self) -> BTreeMap<IpAddr, &NodeName> {
        let addresses = self.state.nodes.values().flat_map(|node| {
            [(IpAddr::V4(node.addresses.v4), &node.name), (IpAddr::V6(node.addresses.v6), &node.name)]
        });
        addresses.collect()
    }

    fn subject(&self, name: &NodeName) -> Option<Subject> {
        let node = self.state.nodes.get(name).filter(|node| node.is_active())?;
        Some(Subject { name: name.clone(), labels: node.labels.clone() })
    }

    fn is_overlay(&self, address: IpAddr) -> bool {
        let document = self.config.trust.document();
        match address.to_canonical() {
            IpAddr::V4(ip) => range::contains_v4(document.overlay_v4, ip),
            IpAddr::V6(ip) => range::contains_v6(document.overlay_v6, ip),
        }
    }
}

fn lockout(message: String) -> Refusal {
    Refusal::new(Class::Conflict, "BH-C159", message)
        .help("nothing was applied; permit these ways in the policy, or apply with `--allow-lockout`")
}
