//! A policy as its files say it.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::moment;
use crate::policy::{Kind, Policy, Ports, Protocol, Rule, Service, Term};

/// The files of a policy, and where each rule stands in them.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub files: BTreeMap<String, String>,
    /// Rule id to file and line.
    pub places: BTreeMap<String, (String, usize)>,
}

/// Rules go to the two files in turn; names that rules use are defined in the other.
const FILES: [&str; 2] = ["a.toml", "b.toml"];

impl Policy {
    pub fn text(&self) -> Text {
        let mut files = FILES.map(|_| "version = 1\n".to_owned());
        files[1] += &self.definitions();
        let mut places = BTreeMap::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let file = number % FILES.len();
            let line = files[file].lines().count() + 1;
            places.insert(rule.id.clone(), (FILES[file].to_owned(), line));
            files[file] += &rule_text(rule);
        }
        let files = FILES.iter().zip(files).map(|(name, text)| ((*name).to_owned(), text)).collect();
        Text { files, places }
    }

    fn definitions(&self) -> String {
        let mut text = String::new();
        for (key, values) in &self.labels {
            text += &format!("[labels.{key}]\n");
            text += &values.as_ref().map_or_else(String::new, |values| format!("values = {values:?}\n"));
        }
        text += "[groups]\n";
        for (name, selector) in &self.groups {
            text += &format!("{name} = {:?}\n", selector_text(selector));
        }
        text += "[services]\n";
        for (name, items) in &self.services {
            text += &format!("{name} = {:?}\n", ports_text(items));
        }
        text
    }
}

fn rule_text(rule: &Rule) -> String {
    let (kind, related) = match rule.kind {
        Kind::Allow => ("allow", "same"),
        Kind::Never => ("never", "differ"),
    };
    let mut text = format!("[[{kind}]]\nid = {:?}\n", rule.id);
    text += &format!("from = {:?}\nto = {:?}\n", selector_text(&rule.from), selector_text(&rule.to));
    if !rule.related.is_empty() {
        text += &format!("{related} = {:?}\n", rule.related);
    }
    if let Some(items) = &rule.ports {
        text += &format!("ports = {:?}\n", ports_text(items));
    }
    for (key, at) in [("not_before", rule.not_before), ("until", rule.until)] {
        text += &at.map_or_else(String::new, |at| format!("{key} = {}\n", moment(at)));
    }
    let hours: Vec<_> = rule.hours.iter().map(|span| span.text()).collect();
    match &hours[..] {
        [] => {}
        [one] => text += &format!("hours = {one:?}\n"),
        several => text += &format!("hours = {several:?}\n"),
    }
    text
}

pub fn selector_text(terms: &[Term]) -> String {
    let list = |values: &BTreeSet<&str>| values.iter().copied().collect::<Vec<_>>().join(", ");
    let texts = terms.iter().map(|term| match term {
        Term::In(key, values) if values.len() == 1 => format!("{key}={}", list(values)),
        Term::In(key, values) => format!("{key} in ({})", list(values)),
        Term::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", list(values)),
        Term::NotIn(key, values) => format!("{key} notin ({})", list(values)),
        Term::Has(key) => (*key).to_owned(),
        Term::Lacks(key) => format!("!{key}"),
        Term::Node(name) => format!("node:{name}"),
        Term::User(subject) => format!("user:https://idp.acme.example#{subject}"),
        Term::Group(name) => format!("@{name}"),
    });
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { "*".to_owned() } else { texts.join(", ") }
}

fn ports_text(items: &[Ports]) -> Vec<String> {
    let text = |item: &Ports| match item {
        Ports::Any => "any".to_owned(),
        Ports::Icmp => "icmp".to_owned(),
        Ports::One(protocol, port) => format!("{}/{port}", protocol.name()),
        Ports::Range(protocol, first, last) => format!("{}/{first}-{last}", protocol.name()),
        Ports::Whole(protocol) => format!("{}/*", protocol.name()),
        Ports::Named(name) => name.clone(),
    };
    items.iter().map(text).collect()
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Ip => "ip",
        }
    }
}

impl Service {
    pub fn text(self) -> String {
        match self {
            Self::Icmp => "icmp".to_owned(),
            Self::Port(protocol, port) => format!("{}/{port}", protocol.name()),
        }
    }
}
