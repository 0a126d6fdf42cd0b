//! Who a person, or a workload, is: the word of a provider, verified by the rim. A person is an issuer and a subject
//! and nothing else: names and e-mail addresses change hands (D8).
//!
//! Claims are bounded before they come here, and checked once more: whatever outgrows a limit is refused whole, for a
//! list of groups with its end cut off could lack the one group that a rule looks for.

use crate::refusal::{Class, Refusal};
use bulkhead_identity::{Labels, Timestamp};
use bulkhead_protocol::admin::OwnerView;
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most groups of one person.
pub const MAX_GROUPS: usize = 2000;
/// Most claims besides groups, after objects were flattened.
pub const MAX_OTHER_CLAIMS: usize = 256;
/// Most values of one claim.
pub const MAX_CLAIM_VALUES: usize = 2000;
/// Longest name or value of a claim, and longest group.
pub const MAX_CLAIM_BYTES: usize = 1024;
/// Longest issuer, as a URL.
pub const MAX_ISSUER_BYTES: usize = 512;
/// Longest subject (OpenID Connect Core, section 2: it must not exceed 255 ASCII characters).
pub const MAX_SUBJECT_BYTES: usize = 255;
/// Longest name of a person that is kept.
pub const MAX_PERSON_NAME_BYTES: usize = 128;

/// What a provider says of somebody, or of some workload. The rim verified signature, issuer, audience and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The provider, as the configuration calls it.
    pub provider: String,
    /// Who vouches.
    pub issuer: String,
    /// For whom.
    pub subject: String,
    /// What to call the person; empty when the provider does not say.
    pub name: String,
    /// The person's groups.
    pub groups: BTreeSet<String>,
    /// Every other claim, objects flattened with dots in their names; numbers and booleans as JSON writes them.
    pub other: BTreeMap<String, Vec<String>>,
}

/// A person or workload as a key: the only thing that makes two of them one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Person {
    /// Who vouches.
    #[n(0)]
    pub issuer: String,
    /// For whom.
    #[n(1)]
    pub subject: String,
}

/// The person of a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Owner {
    /// Who it is.
    #[n(0)]
    pub person: Person,
    /// The provider, as the configuration calls it.
    #[n(1)]
    pub provider: String,
    /// What the provider called the person last; for people only.
    #[n(2)]
    pub name: String,
    /// The node's certificate is renewed until then.
    #[n(3)]
    pub session_until: Timestamp,
    /// What the rules granted last. When they grant something else, these go; labels from elsewhere stay.
    #[n(4)]
    pub granted: Labels,
    /// An administrator approved that this node is this person's.
    #[cbor(n(5), default)]
    pub approved: bool,
    /// The provider denied the person since they signed in at this node, or a backup was restored: nothing but another
    /// sign-in at this very node prolongs its session.
    #[cbor(n(6), default)]
    pub denied: bool,
}

impl Claims {
    /// As a key.
    #[must_use]
    pub fn person(&self) -> Person {
        Person { issuer: self.issuer.clone(), subject: self.subject.clone() }
    }

    /// That nothing is empty that must not be, and nothing larger than its limit (D3, D9).
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let short = |text: &String| text.len() <= MAX_CLAIM_BYTES;
        let fits = |values: &Vec<String>| values.len() <= MAX_CLAIM_VALUES && values.iter().all(short);
        let named = (1..=MAX_ISSUER_BYTES).contains(&self.issuer.len())
            && (1..=MAX_SUBJECT_BYTES).contains(&self.subject.len())
            && !self.provider.is_empty();
        let bounded = self.groups.len() <= MAX_GROUPS
            && self.groups.iter().all(short)
            && self.other.len() <= MAX_OTHER_CLAIMS
            && self.other.iter().all(|(key, values)| short(key) && fits(values));
        if named && bounded {
            return Ok(());
        }
        Err(Refusal::new(Class::Forbidden, "BH-C200", "the provider says more of this person than fits")
            .help("at most 2000 groups (MAX_GROUPS): let the provider send those only that concern this application"))
    }
}

impl Owner {
    /// Of whoever these claims are about.
    pub(crate) fn new(claims: &Claims, session_until: Timestamp, granted: Labels) -> Self {
        Self {
            person: claims.person(),
            provider: claims.provider.clone(),
            name: display(&claims.name),
            session_until,
            granted,
            approved: false,
            denied: false,
        }
    }

    pub(crate) fn view(&self) -> OwnerView {
        OwnerView {
            provider: self.provider.clone(),
            issuer: self.person.issuer.clone(),
            subject: self.person.subject.clone(),
            name: self.name.clone(),
            session_until: self.session_until,
        }
    }
}

/// `acme/u-123 (Ada)`: who it is comes first, for the name is whatever the person typed somewhere.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&who(&self.provider, &self.person.subject, &self.name))
    }
}

/// A person in one line of a log.
pub(crate) fn who(provider: &str, subject: &str, name: &str) -> String {
    let subject = printable(subject, MAX_SUBJECT_BYTES);
    match display(name) {
        name if name.is_empty() => format!("{provider}/{subject}"),
        name => format!("{provider}/{subject} ({name})"),
    }
}

/// A person's name, fit for a terminal and a page.
pub(crate) fn display(name: &str) -> String {
    printable(name.trim(), MAX_PERSON_NAME_BYTES)
}

/// Without what could break a line or turn its direction, cut at a character.
fn printable(text: &str, max: usize) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control() && !is_format(*character)) {
        if kept.len() + character.len_utf8() > max {
            break;
        }
        kept.push(character);
    }
    kept
}

/// Characters that show nothing and change how others show (Unicode, section 23.2 and UAX #9): joiners, marks and
/// overrides of direction, line and paragraph separators, and the byte order mark.
fn is_format(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            provider: "acme".to_owned(),
            issuer: "https://login.acme.example".to_owned(),
            subject: "u-1".to_owned(),
            name: "Ada".to_owned(),
            groups: BTreeSet::new(),
            other: BTreeMap::new(),
        }
    }

    #[test]
    fn ten_thousand_groups_are_refused_and_two_thousand_are_not() {
        let groups = |count: usize| (0..count).map(|number| format!("g{number}")).collect();
        assert!(Claims { groups: groups(MAX_GROUPS), ..claims() }.check().is_ok());
        assert!(Claims { groups: groups(10_000), ..claims() }.check().is_err());
        let long = BTreeSet::from(["x".repeat(MAX_CLAIM_BYTES + 1)]);
        assert!(Claims { groups: long, ..claims() }.check().is_err());
    }

    #[test]
    fn nobody_is_nobody() {
        for empty in [
            Claims { subject: String::new(), ..claims() },
            Claims { issuer: String::new(), ..claims() },
            Claims { provider: String::new(), ..claims() },
        ] {
            assert!(empty.check().is_err(), "{empty:?}");
        }
    }

    #[test]
    fn a_name_cannot_pass_for_a_subject_or_break_a_line() {
        assert_eq!(who("acme", "u-1", "Ada\n\u{202e}admin:root"), "acme/u-1 (Adaadmin:root)");
        assert_eq!(who("acme", "u-1", " \t"), "acme/u-1");
        assert!(display(&"é".repeat(500)).len() <= MAX_PERSON_NAME_BYTES);
    }
}
