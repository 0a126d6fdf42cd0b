//! From what this reference speaks of to what the real evaluator takes.

use bulkhead_acl::{Checked, RuleSet, Sources, Subject, check};
use bulkhead_identity::{Labels, NodeName, Timestamp};

use crate::calendar::midnight;
use crate::policy::{Node, Policy, Service};
use crate::text::Text;

pub fn checked(text: &Text) -> Checked {
    let sources = Sources(text.files.clone());
    check(&sources, Timestamp(midnight(2026, 7, 1))).unwrap_or_else(|found| {
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        panic!("{}\n{:#?}", found.join("\n"), text.files)
    })
}

pub fn rules(policy: &Policy) -> RuleSet {
    checked(&policy.text()).rules
}

pub fn subject(node: &Node) -> Subject {
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Subject { name: NodeName::parse(node.name).unwrap(), labels: Labels::parse(&labels.join(",")).unwrap() }
}

pub fn service(service: Service) -> bulkhead_acl::Service {
    bulkhead_acl::Service::parse(&service.text()).unwrap()
}
