//! The label schema: which labels there are and which values they take.
//!
//! A misspelt key or value in a guard rail would silently guard nothing, so whatever the schema does not
//! know is an error. Labels named `idp.…` come from the identity provider and need no declaration; a policy
//! without any `[labels]` declares nothing and is not held to it.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_identity::{LabelKey, LabelValue};

use crate::{
    Code, Term,
    document::LabelStatement,
    place::{Findings, Located, Place},
};

/// Labels under this prefix are conferred by single sign-on.
const IDP_PREFIX: &str = "idp.";

/// The declared labels.
#[derive(Default)]
pub(crate) struct Schema {
    /// `None`: any value.
    labels: BTreeMap<LabelKey, Option<BTreeSet<LabelValue>>>,
}

impl Schema {
    pub(crate) fn new(statements: &[LabelStatement], findings: &mut Findings<'_>) -> Self {
        let mut schema = Self::default();
        for statement in statements {
            schema.declare(statement, findings);
        }
        schema
    }

    fn declare(&mut self, statement: &LabelStatement, findings: &mut Findings<'_>) {
        let Located { value: name, place } = &statement.key;
        let key = match LabelKey::parse(name) {
            Ok(key) => key,
            Err(error) => return findings.error(Code::BadName, place, error.to_string()),
        };
        if statement.sealed {
            let message = format!("label {key} is sealed, but this release does not enforce seals yet");
            findings.warning(Code::NotEnforced, place, message, None);
        }
        let values = statement.values.as_ref().map(|values| {
            let mut known = BTreeSet::new();
            for Located { value, place } in values {
                match LabelValue::parse(value) {
                    Ok(value) if known.contains(&value) => {
                        findings.error(Code::Duplicate, place, format!("value {value} stands here twice"));
                    }
                    Ok(value) => {
                        known.insert(value);
                    }
                    Err(error) => {
                        let help = advice(value);
                        findings.error_with_help(Code::BadName, place, error.to_string(), help);
                    }
                }
            }
            known
        });
        if self.labels.insert(key, values).is_some() {
            findings.error(Code::Duplicate, place, format!("label {name} is declared twice"));
        }
    }

    /// The values of `key`, when the schema lists them.
    pub(crate) fn values(&self, key: &LabelKey) -> Option<&BTreeSet<LabelValue>> {
        self.labels.get(key).and_then(Option::as_ref)
    }

    /// Reports what the schema does not know of `term`.
    pub(crate) fn check(&self, term: &Term, place: &Place, findings: &mut Findings<'_>) {
        if let Some(key) = term.key() {
            self.check_key(key, place, findings);
        }
        match term {
            Term::In(key, values) | Term::NotIn(key, values) => {
                for value in values {
                    self.check_value(key, value, place, findings);
                }
            }
            Term::Exists(_) | Term::Absent(_) | Term::Node(_) | Term::User { .. } => {}
        }
    }

    /// Reports a key that is not declared.
    pub(crate) fn check_key(&self, key: &LabelKey, place: &Place, findings: &mut Findings<'_>) {
        let free = self.labels.is_empty() || key.as_str().starts_with(IDP_PREFIX);
        if free || self.labels.contains_key(key) {
            return;
        }
        let help = findings
            .did_you_mean(key.as_str(), self.labels.keys().map(LabelKey::as_str))
            .unwrap_or_else(|| format!("declare it: [labels.{}]", quoted(key)));
        findings.error_with_help(
            Code::UnknownLabel,
            place,
            format!("no label {key} is declared"),
            Some(help),
        );
    }

    /// Reports a value that the key does not take.
    pub(crate) fn check_value(
        &self,
        key: &LabelKey,
        value: &LabelValue,
        place: &Place,
        findings: &mut Findings<'_>,
    ) {
        let Some(values) = self.values(key) else { return };
        if values.contains(value) {
            return;
        }
        let known = || values.iter().map(LabelValue::as_str);
        let help = findings.did_you_mean(value.as_str(), known()).unwrap_or_else(|| {
            let some: Vec<_> = known().take(8).collect();
            format!("known are {}{}", some.join(", "), if values.len() > some.len() { ", …" } else { "" })
        });
        let message = format!("label {key} has no value {value}");
        findings.error_with_help(Code::UnknownValue, place, message, Some(help));
    }
}

/// How a key is written in a TOML header.
fn quoted(key: &LabelKey) -> String {
    if key.as_str().contains('.') { format!("{:?}", key.as_str()) } else { key.to_string() }
}

/// Wrong case and look-alike letters are refused, not folded; but it is easily said what they are.
pub(crate) fn advice(text: &str) -> Option<String> {
    if let Some(stranger) = text.chars().find(|c| !c.is_ascii()) {
        return Some(format!("U+{:04X} is not a plain letter", u32::from(stranger)));
    }
    let lower = text.to_ascii_lowercase();
    (lower != text && LabelValue::parse(&lower).is_ok()).then(|| format!("write {lower:?}"))
}
