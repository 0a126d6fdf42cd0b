//! Who may stand on one side of a flow, whether or not there is such a node: one set of values per label.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bulkhead_identity::{LabelKey, LabelValue, NodeName};

use crate::{
    Polarity, Schema, Selector, Subject,
    region::{Present, Region, Values},
};

/// A set of identities. Labels that it does not bound may be anything that the schema allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub(super) labels: BTreeMap<LabelKey, Values>,
    pub(super) node: Called,
}

/// What a node may be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Called {
    Only(NodeName),
    Except(BTreeSet<NodeName>),
}

impl Who {
    /// Everyone.
    pub(super) fn anyone() -> Self {
        Self { labels: BTreeMap::new(), node: Called::any() }
    }

    /// Those that `selector` matches, of all that the schema allows; `None` when it matches nobody.
    pub(super) fn of(selector: &Selector, polarity: Polarity, schema: &Schema) -> Option<Self> {
        let region = Region::of(selector, polarity, schema);
        if region.is_empty() {
            return None;
        }
        let node = region.node.map_or_else(Called::any, |name| Called::Only(name.clone()));
        // A value that the schema does not list, nobody has.
        let known = |(key, values): (&LabelKey, Values)| (key.clone(), values.and(&Values::all(key, schema)));
        let labels: BTreeMap<_, _> = region.labels.into_iter().map(known).collect();
        (!labels.values().any(Values::is_empty)).then_some(Self { labels, node })
    }

    /// Whether `subject`, which the schema allows, is one of them.
    #[must_use]
    pub fn admits(&self, subject: &Subject) -> bool {
        let node = match &self.node {
            Called::Only(name) => *name == subject.name,
            Called::Except(others) => !others.contains(&subject.name),
        };
        let allows = |(key, values): (&LabelKey, &Values)| values.allow(subject.labels.get(key.as_str()));
        node && self.labels.iter().all(allows)
    }

    /// Whether they have someone in common, as far as each label tells by itself.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let apart =
            |(key, values): (&LabelKey, &Values)| self.labels.get(key).is_some_and(|own| !own.meets(values));
        let node = match (&self.node, &other.node) {
            (Called::Only(a), Called::Only(b)) => a == b,
            (Called::Only(name), Called::Except(not)) | (Called::Except(not), Called::Only(name)) => {
                !not.contains(name)
            }
            (Called::Except(_), Called::Except(_)) => true,
        };
        node && !other.labels.iter().any(apart)
    }

    /// What the label may be.
    pub(super) fn values(&self, key: &LabelKey, schema: &Schema) -> Values {
        self.labels.get(key).cloned().unwrap_or_else(|| Values::all(key, schema))
    }

    /// The same set, its bounds written as short as the schema permits.
    pub(super) fn shortened(&self, schema: &Schema) -> Self {
        let labels = self.labels.iter().filter_map(|(key, values)| {
            let all = Values::all(key, schema);
            (*values != all).then(|| (key.clone(), values.shortened(schema.values(key))))
        });
        Self { labels: labels.collect(), node: self.node.clone() }
    }
}

impl Called {
    fn any() -> Self {
        Self::Except(BTreeSet::new())
    }

    /// The names in both; `None` when there are none.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => (a == b).then(|| self.clone()),
            (Self::Only(name), Self::Except(others)) | (Self::Except(others), Self::Only(name)) => {
                (!others.contains(name)).then(|| Self::Only(name.clone()))
            }
            (Self::Except(a), Self::Except(b)) => Some(Self::Except(a | b)),
        }
    }

    /// The names in this and not in `other`, as sets that do not overlap.
    pub(super) fn without(&self, other: &Self) -> Vec<Self> {
        match other {
            Self::Only(name) => self.and(&Self::Except([name.clone()].into())).into_iter().collect(),
            Self::Except(names) => {
                names.iter().filter_map(|name| self.and(&Self::Only(name.clone()))).collect()
            }
        }
    }
}

impl Values {
    fn allow(&self, value: Option<&LabelValue>) -> bool {
        match (value, &self.present) {
            (None, _) => self.missing,
            (Some(value), Present::Only(values)) => values.contains(value),
            (Some(value), Present::Except(values)) => !values.contains(value),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        let present = match (&self.present, &other.present) {
            (Present::Only(a), Present::Only(b)) => !a.is_disjoint(b),
            (Present::Only(only), Present::Except(not)) | (Present::Except(not), Present::Only(only)) => {
                !only.is_subset(not)
            }
            (Present::Except(_), Present::Except(_)) => true,
        };
        present || self.missing && other.missing
    }

    /// Names what is excluded where that is less than what is included.
    fn shortened(&self, known: Option<&BTreeSet<LabelValue>>) -> Self {
        match (&self.present, known) {
            (Present::Only(values), Some(known)) if known.len() < 2 * values.len() => {
                Self { missing: self.missing, present: Present::Except(known - values) }
            }
            (Present::Only(_) | Present::Except(_), _) => self.clone(),
        }
    }

    /// The first value that is not `other`.
    pub(super) fn pick(&self, other: Option<&LabelValue>) -> Option<LabelValue> {
        match &self.present {
            Present::Only(values) => values.iter().find(|value| Some(*value) != other).cloned(),
            Present::Except(values) => {
                let mut names =
                    std::iter::once("other".to_owned()).chain((2..).map(|n: u32| format!("other-{n}")));
                names.find_map(|name| {
                    let value = LabelValue::parse(&name).ok()?;
                    (!values.contains(&value) && Some(&value) != other).then_some(value)
                })
            }
        }
    }
}

/// As a selector reads, `*` for everyone; where a label may also be missing, that is said.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms: Vec<_> = self.labels.iter().map(|(key, values)| term(key, values)).collect();
        match &self.node {
            Called::Only(name) => terms.push(format!("node:{name}")),
            Called::Except(names) => terms.extend(names.iter().map(|name| format!("not node:{name}"))),
        }
        f.write_str(if terms.is_empty() { "*" } else { "" })?;
        f.write_str(&terms.join(", "))
    }
}

fn term(key: &LabelKey, values: &Values) -> String {
    let (sign, word, set) = match &values.present {
        Present::Only(set) => ("=", "in", set),
        Present::Except(set) => ("!=", "notin", set),
    };
    let texts: Vec<_> = set.iter().map(LabelValue::as_str).collect();
    let present = match (texts.as_slice(), sign) {
        ([], "=") => return format!("!{key}"),
        ([], _) => key.to_string(),
        ([one], _) => format!("{key}{sign}{one}"),
        (several, _) => format!("{key} {word} ({})", several.join(", ")),
    };
    if values.missing { format!("({present} or !{key})") } else { present }
}

impl serde::Serialize for Who {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
