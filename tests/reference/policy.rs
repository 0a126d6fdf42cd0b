//! The policy language, as a person reads its description, and what it says of one question.
//!
//! Naive on purpose: every rule is looked at for every question, groups and services are looked up by name
//! each time, ports are compared one with another. Nothing of the real evaluator is used.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::Span;

#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Declared labels; the values of each, or `None` for any. Empty: nothing is declared.
    pub labels: BTreeMap<&'static str, Option<Vec<&'static str>>>,
    pub groups: BTreeMap<String, Selector>,
    pub services: BTreeMap<String, Vec<Ports>>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Allow,
    Never,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: Kind,
    pub id: String,
    pub from: Selector,
    pub to: Selector,
    /// `same` of an allow, `differ` of a never.
    pub related: Vec<&'static str>,
    /// `None` in a never only: all of them.
    pub ports: Option<Vec<Ports>>,
    pub not_before: Option<u64>,
    pub until: Option<u64>,
    pub hours: Vec<Span>,
}

/// Terms joined by `,`; none: `*`.
pub type Selector = Vec<Term>;

#[derive(Clone, Debug)]
pub enum Term {
    In(&'static str, BTreeSet<&'static str>),
    NotIn(&'static str, BTreeSet<&'static str>),
    Has(&'static str),
    Lacks(&'static str),
    Node(&'static str),
    User(&'static str),
    Group(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Ip,
}

/// One item of a list of ports.
#[derive(Clone, Debug)]
pub enum Ports {
    Any,
    Icmp,
    One(Protocol, u16),
    Range(Protocol, u16, u16),
    Whole(Protocol),
    Named(String),
}

/// What one flow asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Port(Protocol, u16),
    Icmp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: &'static str,
    pub labels: BTreeMap<&'static str, &'static str>,
}

/// Ids in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allowed(Vec<String>),
    Forbidden(Vec<String>),
    NoRule,
}

impl Answer {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The smallest id of those that matched.
    pub fn named(&self) -> Option<&str> {
        match self {
            Self::Allowed(ids) | Self::Forbidden(ids) => ids.first().map(String::as_str),
            Self::NoRule => None,
        }
    }
}

impl Policy {
    /// "Decision = matched by some `allow` and by no `never`."
    pub fn decide(&self, from: &Node, to: &Node, service: Service, wall: u64) -> Answer {
        let matching = |kind| -> Vec<String> {
            let rules = self.rules.iter().filter(|rule| rule.kind == kind);
            let matching = rules.filter(|rule| self.matches(rule, from, to, service, wall));
            let mut ids: Vec<_> = matching.map(|rule| rule.id.clone()).collect();
            ids.sort();
            ids
        };
        let (never, allow) = (matching(Kind::Never), matching(Kind::Allow));
        match (never.is_empty(), allow.is_empty()) {
            (false, _) => Answer::Forbidden(never),
            (true, false) => Answer::Allowed(allow),
            (true, true) => Answer::NoRule,
        }
    }

    pub fn matches(&self, rule: &Rule, from: &Node, to: &Node, service: Service, wall: u64) -> bool {
        let selected = self.selects(&rule.from, from, rule.kind) && self.selects(&rule.to, to, rule.kind);
        let ports = rule.ports.as_ref().is_none_or(|items| self.speaks_of(items, service));
        let begun = rule.not_before.is_none_or(|start| wall >= start);
        let over = rule.until.is_some_and(|end| wall >= end);
        let open = rule.hours.is_empty() || rule.hours.iter().any(|span| span.contains(wall));
        selected && related(rule, from, to) && ports && begun && !over && open
    }

    pub fn selects(&self, selector: &[Term], node: &Node, kind: Kind) -> bool {
        selector.iter().all(|term| self.holds(term, node, kind))
    }

    /// "A missing label never equals anything. A negative term about a label that is missing does not match
    /// in `allow`, and does match in `never`."
    fn holds(&self, term: &Term, node: &Node, kind: Kind) -> bool {
        match term {
            Term::In(key, values) => node.labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => match node.labels.get(key) {
                Some(value) => !values.contains(value),
                None => kind == Kind::Never,
            },
            Term::Has(key) => node.labels.contains_key(key),
            Term::Lacks(key) => !node.labels.contains_key(key),
            Term::Node(name) => node.name == *name,
            // No identity carries a person yet.
            Term::User(_) => false,
            Term::Group(name) => self.selects(&self.groups[name], node, kind),
        }
    }

    pub fn speaks_of(&self, items: &[Ports], service: Service) -> bool {
        items.iter().any(|item| match item {
            Ports::Any => true,
            Ports::Icmp => service == Service::Icmp,
            Ports::One(protocol, port) => service == Service::Port(*protocol, *port),
            Ports::Range(protocol, first, last) => match service {
                Service::Port(asked, port) => asked == *protocol && *first <= port && port <= *last,
                Service::Icmp => false,
            },
            Ports::Whole(protocol) => match service {
                Service::Port(asked, _) => asked == *protocol,
                Service::Icmp => false,
            },
            Ports::Named(name) => self.speaks_of(&self.services[name], service),
        })
    }
}

/// `same`: "source and destination must share this label", and a missing one is never shared. `differ`: they
/// "carry different values, or one carries none". Of several keys, `same` needs each, `differ` any.
fn related(rule: &Rule, from: &Node, to: &Node) -> bool {
    let shared = |key: &&'static str| match (from.labels.get(key), to.labels.get(key)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        (Some(_), None) | (None, Some(_)) | (None, None) => false,
    };
    match rule.kind {
        Kind::Allow => rule.related.iter().all(shared),
        Kind::Never => rule.related.is_empty() || rule.related.iter().any(|key| !shared(key)),
    }
}
