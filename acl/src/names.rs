//! What a policy defines beside its rules: labels, groups and services, to be asked by the same names on a
//! command line.
//!
//! A name that the policy does not know is an error with a suggestion, there as in the files.

use std::collections::BTreeMap;

use crate::{
    Code, PortSet, Selector, Sources,
    compile::selector,
    group::Groups,
    place::{Findings, Located, Place},
    ports::MAX_RANGES,
    schema::Schema,
    slips,
    source::MAX_SERVICES,
    syntax::is_name,
};

/// The definitions of one policy.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub(crate) schema: Schema,
    pub(crate) groups: Groups,
    pub(crate) services: Services,
}

impl Names {
    /// The labels that the policy declares.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The selector that `text` stands for, `@group` and all.
    ///
    /// # Errors
    /// What is wrong with `text`, as in a policy file, with a suggestion where there is one.
    pub fn selector(&self, text: &str) -> Result<Selector, String> {
        read(text, |text, findings| selector(text, self, findings))
    }

    /// The services that `text` stands for: ports and names of services, joined by commas.
    ///
    /// # Errors
    /// What is wrong with `text`, as in a policy file, with a suggestion where there is one.
    pub fn ports(&self, text: &str) -> Result<PortSet, String> {
        read(text, |text, findings| {
            let item = |item: &str| Located { value: item.trim().to_owned(), place: text.place.clone() };
            self.services.set_of(&text.value.split(',').map(item).collect::<Vec<_>>(), findings)
        })
    }
}

/// Reads one argument as if it stood in a file, for the findings.
fn read<T>(
    text: &str,
    parse: impl FnOnce(&Located<String>, &mut Findings<'_>) -> Option<T>,
) -> Result<T, String> {
    let nowhere = Sources([(String::new(), String::new())].into());
    let mut findings = Findings::new(&nowhere);
    let located = Located { value: text.to_owned(), place: Place { file: 0, span: 0..0 } };
    let value = parse(&located, &mut findings);
    match (value, findings.first_error()) {
        (Some(value), None) => Ok(value),
        (_, Some(error)) => Err(match &error.suggestion {
            Some(help) => format!("{}; {help}", error.message),
            None => error.message.clone(),
        }),
        (None, None) => Err(format!("{text:?} cannot be read")),
    }
}

/// Most ranges in one list of ports, its services written out, repetitions included.
const MAX_WRITTEN_RANGES: usize = 8 * MAX_RANGES;

/// Named protocol and port sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services(BTreeMap<String, PortSet>);

impl Services {
    pub(crate) fn new(
        statements: &[(Located<String>, Vec<Located<String>>)],
        findings: &mut Findings<'_>,
    ) -> Self {
        let (mut services, mut places) = (Self::default(), BTreeMap::new());
        if let Some((name, _)) = statements.get(MAX_SERVICES) {
            let message = format!("more than {MAX_SERVICES} services (MAX_SERVICES)");
            findings.error(Code::Limit, &name.place, message);
        }
        for (name, ports) in statements.iter().take(MAX_SERVICES) {
            if !is_name(&name.value) || ["any", "icmp"].contains(&name.value.as_str()) {
                let message = format!("{:?} cannot name a service", name.value);
                findings.error(Code::BadName, &name.place, message);
            }
            // Services are made of ports only, so that none depends on the order of others.
            let set = Self::default().set_of(ports, findings).unwrap_or_default();
            services.0.insert(name.value.clone(), set);
            if let Some(first) = places.insert(name.value.as_str(), &name.place) {
                findings.twice("service", name, first);
            }
        }
        services
    }

    /// The union of the items, each a service's name or ports; `None` when any was reported, or when a bundle
    /// could not carry it.
    pub(crate) fn set_of(&self, items: &[Located<String>], findings: &mut Findings<'_>) -> Option<PortSet> {
        let sets: Vec<_> = items.iter().map(|item| self.one(item, findings)).collect();
        let mut sets = sets.into_iter().collect::<Option<Vec<_>>>()?;
        let written: usize = sets.iter().map(PortSet::ranges).sum();
        // Two by two, so that a long list of large services costs no more than what is written out.
        while sets.len() > 1 && written <= MAX_WRITTEN_RANGES {
            sets = sets.chunks(2).map(|pair| pair[0].union(pair.last().unwrap_or(&pair[0]))).collect();
        }
        let all = sets.pop()?;
        if written > MAX_WRITTEN_RANGES || !all.fits_a_bundle() {
            let place = &items.first()?.place;
            let message = format!("more than {MAX_RANGES} ranges of ports of one protocol (MAX_RANGES)");
            findings.error(Code::Limit, place, message);
            return None;
        }
        Some(all)
    }

    pub(crate) fn one(&self, item: &Located<String>, findings: &mut Findings<'_>) -> Option<PortSet> {
        if let Some(set) = self.0.get(&item.value) {
            return Some(set.clone());
        }
        match own_protocol(&item.value).map_or_else(|| PortSet::parse(&item.value), Err) {
            Ok(set) => Some(set),
            Err(_) if is_name(&item.value) && findings.is_excused(&item.value) => None,
            Err(message) => {
                let known = self.0.keys().map(String::as_str).chain(["any", "icmp"]);
                let help = slips::port(&item.value).or_else(|| findings.did_you_mean(&item.value, known));
                findings.error_with_help(Code::Ports, &item.place, message, help);
                None
            }
        }
    }
}

/// `ip/6` would read as "all TCP" and match none of it.
fn own_protocol(text: &str) -> Option<String> {
    let instead = match text {
        "ip/6" => "tcp/*",
        "ip/17" => "udp/*",
        "ip/132" => "sctp/*",
        "ip/1" | "ip/58" => "icmp",
        _ => return None,
    };
    Some(format!("{text} has a syntax of its own: write {instead}"))
}
