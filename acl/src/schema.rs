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
    source::MAX_DECLARED_LABELS,
};

/// Labels under this prefix are conferred by single sign-on.
const IDP_PREFIX: &str = "idp.";

/// The declared labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    labels: BTreeMap<LabelKey, Label>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    /// `None`: any value.
    values: Option<BTreeSet<LabelValue>>,
    sealed: bool,
}

impl Schema {
    /// The declared keys, sorted. None: the policy declares no labels and is held to none.
    pub fn keys(&self) -> impl Iterator<Item = &LabelKey> {
        self.labels.keys()
    }

    /// The values of `key`, when the schema lists them.
    #[must_use]
    pub fn values(&self, key: &LabelKey) -> Option<&BTreeSet<LabelValue>> {
        self.labels.get(key).and_then(|label| label.values.as_ref())
    }

    /// The keys that only operators' keys can confer, sorted. The trust document says which those are; here
    /// the policy says which it relies upon.
    pub fn sealed(&self) -> impl Iterator<Item = &LabelKey> {
        self.labels.iter().filter(|(_, label)| label.sealed).map(|(key, _)| key)
    }

    /// Whether a node may carry this label: one that is not declared, or has another value, no question about
    /// everyone there may be reckons with.
    #[must_use]
    pub fn knows(&self, key: &LabelKey, value: &LabelValue) -> bool {
        let free = self.labels.is_empty() || key.as_str().starts_with(IDP_PREFIX);
        free || self.labels.contains_key(key) && self.values(key).is_none_or(|known| known.contains(value))
    }

    pub(crate) fn new(statements: &[LabelStatement], findings: &mut Findings<'_>) -> Self {
        let (mut schema, mut places) = (Self::default(), BTreeMap::new());
        if let Some(statement) = statements.get(MAX_DECLARED_LABELS) {
            let message = format!("more than {MAX_DECLARED_LABELS} labels (MAX_DECLARED_LABELS)");
            findings.error(Code::Limit, &statement.key.place, message);
        }
        for statement in statements.iter().take(MAX_DECLARED_LABELS) {
            schema.declare(statement, &mut places, findings);
        }
        schema
    }

    fn declare<'s>(
        &mut self,
        statement: &'s LabelStatement,
        places: &mut BTreeMap<&'s str, &'s Place>,
        findings: &mut Findings<'_>,
    ) {
        let Located { value: name, place } = &statement.key;
        if let Some(first) = places.insert(name, place) {
            findings.twice("label", &statement.key, first);
        }
        let key = match LabelKey::parse(name) {
            Ok(key) => key,
            Err(error) => return findings.error(Code::BadName, place, error.to_string()),
        };
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
        self.labels.insert(key, Label { values, sealed: statement.sealed });
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
        if free || self.labels.contains_key(key) || findings.is_excused(key.as_str()) {
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
