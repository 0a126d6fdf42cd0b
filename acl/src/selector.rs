//! Selectors: Kubernetes label-selector syntax, with our own meaning of a missing label.
//!
//! A missing label never equals anything. A negative term (`!=`, `notin`) about a missing label does not
//! match in `allow` and does match in `never`, so an unlabelled node gets nothing by accident and escapes no
//! guard rail. There is no empty selector: "everyone" is a term of its own, written `*`.

use std::{collections::BTreeSet, fmt};

use bulkhead_identity::{LabelKey, LabelValue, NodeName};

use crate::{Subject, syntax};

/// Most terms in one selector, its groups resolved.
pub const MAX_TERMS: usize = 64;
/// Most values in one `in (…)` or `notin (…)`.
pub const MAX_VALUES: usize = 256;

/// A selector with its groups resolved: a conjunction of terms (`,` is and), sorted, without repetition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Empty only for `*`; constructors and the decoder see to that.
    terms: Vec<Term>,
}

/// One condition on one subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// `key=value`, `key in (a, b)`.
    In(LabelKey, BTreeSet<LabelValue>),
    /// `key!=value`, `key notin (a, b)`.
    NotIn(LabelKey, BTreeSet<LabelValue>),
    /// `key`.
    Exists(LabelKey),
    /// `!key`.
    Absent(LabelKey),
    /// `node:NAME`.
    Node(NodeName),
    /// `user:ISSUER#SUBJECT`. Matches nobody until identities carry a user.
    User {
        /// The identity provider's issuer URL.
        issuer: String,
        /// The provider's own id of the person.
        subject: String,
    },
}

/// Which kind of rule asks: a negative term about a missing label matches in `Never` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// An `allow` rule: when in doubt it does not match.
    Allow,
    /// A `never` rule: when in doubt it matches.
    Never,
}

impl Selector {
    /// `*`: every identity.
    #[must_use]
    pub fn everyone() -> Self {
        Self { terms: Vec::new() }
    }

    /// The conjunction of `terms`; `None` when there are none (which would mean everyone) or more than
    /// [`MAX_TERMS`].
    #[must_use]
    pub fn all_of(terms: impl IntoIterator<Item = Term>) -> Option<Self> {
        let terms: BTreeSet<_> = terms.into_iter().collect();
        let fits = (1..=MAX_TERMS).contains(&terms.len());
        fits.then(|| Self { terms: terms.into_iter().collect() })
    }

    /// As [`Selector::all_of`], of terms that are in order and without repetition.
    pub(crate) fn all_of_sorted(terms: Vec<Term>) -> Option<Self> {
        let fits = (1..=MAX_TERMS).contains(&terms.len()) && terms.is_sorted_by(|a, b| a < b);
        fits.then_some(Self { terms })
    }

    /// Parses a selector typed on a command line: labels, `node:` or `*`, no groups.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = syntax::parse(text).map_err(|error| error.message)?;
        let mut terms = Vec::with_capacity(parts.len());
        for part in parts {
            match part.atom {
                syntax::Atom::Everyone => return Ok(Self::everyone()),
                syntax::Atom::Term(term) => terms.push(term),
                syntax::Atom::Group(name) => {
                    return Err(format!("@{name}: groups are known only inside a policy"));
                }
            }
        }
        Self::all_of(terms).ok_or_else(|| format!("a selector has at most {MAX_TERMS} terms (MAX_TERMS)"))
    }

    /// Whether this is `*`.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.terms.is_empty()
    }

    /// The conditions, all of which must hold; none for `*`.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether `subject` meets every term.
    #[must_use]
    pub fn matches(&self, subject: &Subject, polarity: Polarity) -> bool {
        self.terms.iter().all(|term| term.matches(subject, polarity))
    }
}

impl Term {
    /// Whether `subject` meets this condition in a rule of this polarity.
    #[must_use]
    pub fn matches(&self, subject: &Subject, polarity: Polarity) -> bool {
        let label = |key: &LabelKey| subject.labels.get(key.as_str());
        match self {
            Self::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => match label(key) {
                Some(value) => !values.contains(value),
                None => polarity == Polarity::Never,
            },
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
            Self::Node(name) => subject.name == *name,
            Self::User { .. } => false,
        }
    }

    /// How much there is to write: the term and its values.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::In(_, values) | Self::NotIn(_, values) => 1 + values.len(),
            Self::Exists(_) | Self::Absent(_) | Self::Node(_) | Self::User { .. } => 1,
        }
    }

    /// The label that this term is about.
    #[must_use]
    pub fn key(&self) -> Option<&LabelKey> {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Absent(key) => Some(key),
            Self::Node(_) | Self::User { .. } => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everyone() {
            return f.write_str("*");
        }
        for (position, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(key, values) => write_values(f, key, values, "=", "in"),
            Self::NotIn(key, values) => write_values(f, key, values, "!=", "notin"),
            Self::Exists(key) => write!(f, "{key}"),
            Self::Absent(key) => write!(f, "!{key}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::User { issuer, subject } => write!(f, "user:{issuer}#{subject}"),
        }
    }
}

fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &LabelKey,
    values: &BTreeSet<LabelValue>,
    sign: &str,
    word: &str,
) -> fmt::Result {
    let texts: Vec<_> = values.iter().map(LabelValue::as_str).collect();
    match texts.as_slice() {
        [one] => write!(f, "{key}{sign}{one}"),
        several => write!(f, "{key} {word} ({})", several.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use bulkhead_identity::Labels;
    use proptest::prelude::*;

    use super::*;

    fn subject(name: &str, labels: &str) -> Subject {
        Subject { name: NodeName::parse(name).unwrap(), labels: Labels::parse(labels).unwrap() }
    }

    /// Whether `selector` matches in an allow rule and in a never rule.
    fn check(selector: &str, labels: &str, allow: bool, never: bool) {
        let selector = Selector::parse(selector).unwrap();
        let subject = subject("web", labels);
        assert_eq!(selector.matches(&subject, Polarity::Allow), allow, "{selector} on {labels:?} in allow");
        assert_eq!(selector.matches(&subject, Polarity::Never), never, "{selector} on {labels:?} in never");
    }

    #[test]
    fn each_form_matches_as_kubernetes_does_when_the_label_is_there() {
        check("env=prod", "env=prod", true, true);
        check("env==prod", "env=prod", true, true);
        check("env=prod", "env=stage", false, false);
        check("env!=prod", "env=stage", true, true);
        check("env!=prod", "env=prod", false, false);
        check("env in (prod, stage)", "env=stage", true, true);
        check("env in (prod, stage)", "env=ot", false, false);
        check("env notin (prod, stage)", "env=ot", true, true);
        check("env notin (prod, stage)", "env=prod", false, false);
        check("env", "env=prod", true, true);
        check("!env", "env=prod", false, false);
        check("env=prod,role=web", "env=prod,role=web", true, true);
        check("env=prod,role=web", "env=prod,role=db", false, false);
    }

    #[test]
    fn a_missing_label_equals_nothing() {
        check("env=prod", "", false, false);
        check("env in (prod, stage)", "role=web", false, false);
        check("env", "", false, false);
    }

    #[test]
    fn a_negative_term_about_a_missing_label_matches_in_never_only() {
        check("role!=historian", "", false, true);
        check("role notin (historian, plc)", "env=ot", false, true);
    }

    #[test]
    fn absence_is_written_with_an_exclamation_mark() {
        check("!env", "", true, true);
        check("!env", "role=web", true, true);
    }

    #[test]
    fn the_star_is_every_identity_and_node_is_one() {
        check("*", "", true, true);
        check("node:web", "", true, true);
        check("node:db", "", false, false);
    }

    #[test]
    fn a_user_selector_matches_nobody_yet() {
        check("user:https://idp.acme.example#00u1", "idp.group=sre", false, false);
    }

    #[test]
    fn an_empty_selector_is_not_everyone() {
        assert!(Selector::parse("").is_err());
        assert!(Selector::parse(" ").is_err());
        assert!(Selector::all_of([]).is_none());
    }

    #[test]
    fn look_alike_and_wrong_case_values_are_refused_not_folded() {
        for text in ["env=Prod", "ENV=prod", "env=pr\u{43e}d", "env=prod\u{200b}", "env=\u{ff50}rod"] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_selector_has_a_limit_on_terms() {
        let text = |count: usize| (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>().join(",");
        assert!(Selector::parse(&text(MAX_TERMS)).is_ok());
        assert!(Selector::parse(&text(MAX_TERMS + 1)).unwrap_err().contains("MAX_TERMS"));
    }

    pub(crate) fn term() -> impl Strategy<Value = Term> {
        let key = || "[abc]".prop_map(|text| LabelKey::parse(&text).unwrap());
        let values = || {
            proptest::collection::btree_set("[xyz]", 1..4).prop_map(|texts| -> BTreeSet<LabelValue> {
                texts.iter().map(|text| LabelValue::parse(text).unwrap()).collect()
            })
        };
        prop_oneof![
            3 => (key(), values()).prop_map(|(key, values)| Term::In(key, values)),
            3 => (key(), values()).prop_map(|(key, values)| Term::NotIn(key, values)),
            1 => key().prop_map(Term::Exists),
            1 => key().prop_map(Term::Absent),
            1 => "n[12]".prop_map(|text| Term::Node(NodeName::parse(&text).unwrap())),
            1 => "[a-z]{1,8}".prop_map(|subject| Term::User {
                issuer: "https://idp.acme.example/a?b=(c)".to_owned(), subject
            }),
        ]
    }

    proptest! {
        #[test]
        fn parse_after_print_is_the_same_selector(terms in proptest::collection::vec(term(), 0..6)) {
            let selector = Selector::all_of(terms).unwrap_or_else(Selector::everyone);
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[a-z=!,() *@:#]{0,40}") {
            let _ = Selector::parse(&text);
        }
    }
}
