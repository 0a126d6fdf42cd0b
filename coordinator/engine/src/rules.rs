//! Who may do what, by the word of a provider: rules of the configuration over claims. The default is nobody, and a
//! condition that names nothing matches nobody; that everyone matches has to be said.
//!
//! Every rule that matches applies. What rules grant adds up (labels: the earlier rule wins a key), and so does what
//! they demand: the shortest lifetime and session that any of them sets, and an approval if any of them wants one.

use crate::AdminRole;
use crate::person::Claims;
use bulkhead_identity::{LabelKey, LabelValue, Labels};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most rules of one kind.
pub const MAX_RULES: usize = 256;
/// How long the certificate of a person's device lives, unless a rule says otherwise.
pub const PERSON_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// How long a person's session lasts, unless a rule says otherwise.
pub const PERSON_SESSION: Duration = Duration::from_secs(12 * 3600);

/// All rules of the configuration. `default()` lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may enrol what.
    pub enrol: Vec<EnrolRule>,
    /// Who is an administrator.
    pub administrators: Vec<AdminRule>,
}

/// Of whom a rule speaks: everybody of a provider, or those who meet each condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The provider, by its name in the configuration.
    pub provider: String,
    /// All of that provider; the conditions are empty then.
    pub everyone: bool,
    /// In any of these groups.
    pub groups: BTreeSet<String>,
    /// Any of these subjects.
    pub subjects: BTreeSet<String>,
    /// Each of these claims has any of its values.
    pub claims: BTreeMap<String, BTreeSet<String>>,
}

/// `[[enrol]]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrolRule {
    /// Whom it concerns.
    pub who: Who,
    /// What their nodes are.
    pub labels: Labels,
    /// Of the certificate.
    pub lifetime: Option<Duration>,
    /// Until the next sign-in.
    pub session: Option<Duration>,
    /// Whether an administrator has to approve.
    pub approval: bool,
}

/// `[[administrator]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminRule {
    /// Whom it concerns.
    pub who: Who,
    /// What they may do.
    pub role: AdminRole,
    /// How long a session lasts.
    pub session: Option<Duration>,
}

/// What somebody may enrol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of the node.
    pub labels: Labels,
    /// Of its certificate, when a rule sets it.
    pub lifetime: Option<Duration>,
    /// Until the next sign-in of a person.
    pub session: Duration,
    /// Whether an administrator has to approve.
    pub approval: bool,
    /// The rules that matched, by their place in the configuration, from 0.
    pub rules: Vec<usize>,
}

/// What somebody may administer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminGrant {
    /// The highest of those that matched.
    pub role: AdminRole,
    /// How long a session lasts.
    pub session: Duration,
    /// The rule that gave the role, by its place in the configuration, from 0.
    pub rule: usize,
}

impl Who {
    /// Whether these claims are of somebody it speaks of.
    #[must_use]
    pub fn matches(&self, claims: &Claims) -> bool {
        if self.provider != claims.provider {
            return false;
        }
        let conditions = !(self.groups.is_empty() && self.subjects.is_empty() && self.claims.is_empty());
        if !conditions {
            return self.everyone;
        }
        let has = |(key, values): (&String, &BTreeSet<String>)| {
            claims.other.get(key).is_some_and(|own| own.iter().any(|value| values.contains(value)))
        };
        (self.groups.is_empty() || !self.groups.is_disjoint(&claims.groups))
            && (self.subjects.is_empty() || self.subjects.contains(&claims.subject))
            && self.claims.iter().all(has)
    }
}

impl Rules {
    /// What whoever these claims are of may enrol; `None`: nothing.
    #[must_use]
    pub fn enrolment(&self, claims: &Claims) -> Option<Grant> {
        self.adding_up(claims, |_| true)
    }

    /// What of it nobody has to approve.
    #[must_use]
    pub fn enrolment_at_once(&self, claims: &Claims) -> Option<Grant> {
        self.adding_up(claims, |rule| !rule.approval)
    }

    fn adding_up(&self, claims: &Claims, counts: impl Fn(&EnrolRule) -> bool) -> Option<Grant> {
        let all = || self.enrol.iter().enumerate();
        let matching = || all().filter(|(_, rule)| counts(rule) && rule.who.matches(claims));
        let rules: Vec<usize> = matching().map(|(place, _)| place).collect();
        if rules.is_empty() {
            return None;
        }
        Some(Grant {
            // Too many labels for one node: no node rather than some of its labels.
            labels: merged(matching().map(|(_, rule)| &rule.labels))?,
            lifetime: matching().filter_map(|(_, rule)| rule.lifetime).min(),
            session: matching().filter_map(|(_, rule)| rule.session).min().unwrap_or(PERSON_SESSION),
            approval: matching().any(|(_, rule)| rule.approval),
            rules,
        })
    }

    /// What whoever these claims are of may administer; `None`: nothing.
    #[must_use]
    pub fn administrator(&self, claims: &Claims) -> Option<AdminGrant> {
        let matching = || self.administrators.iter().enumerate().filter(|(_, rule)| rule.who.matches(claims));
        // Of equal roles the earlier rule counts.
        let (rule, highest) = matching().rev().max_by_key(|(_, rule)| rule.role)?;
        let session = matching().filter_map(|(_, rule)| rule.session).min().unwrap_or(PERSON_SESSION);
        Some(AdminGrant { role: highest.role, session, rule })
    }
}

fn merged<'a>(all: impl Iterator<Item = &'a Labels>) -> Option<Labels> {
    let mut merged: BTreeMap<LabelKey, LabelValue> = BTreeMap::new();
    for (key, value) in all.flat_map(Labels::iter) {
        merged.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Labels::new(merged).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")].prop_map(str::to_owned)
    }

    fn who() -> impl Strategy<Value = Who> {
        let conditions = (
            btree_set(word(), 0..3),
            btree_set(word(), 0..2),
            btree_map(word(), btree_set(word(), 0..3), 0..3),
        );
        (prop_oneof![Just("p"), Just("q")], any::<bool>(), conditions).prop_map(
            |(provider, everyone, (groups, subjects, claims))| Who {
                provider: provider.to_owned(),
                everyone,
                groups,
                subjects,
                claims,
            },
        )
    }

    fn claims() -> impl Strategy<Value = Claims> {
        let other = btree_map(word(), vec(word(), 0..3), 0..3);
        (prop_oneof![Just("p"), Just("q")], word(), btree_set(word(), 0..4), other).prop_map(
            |(provider, subject, groups, other)| {
                let (provider, issuer) = (provider.to_owned(), "i".to_owned());
                Claims { provider, issuer, subject, name: String::new(), groups, other }
            },
        )
    }

    fn rule() -> impl Strategy<Value = EnrolRule> {
        let hours = || proptest::option::of((1u64..5).prop_map(|hours| Duration::from_secs(hours * 3600)));
        (who(), btree_map(word(), word(), 0..3), hours(), hours(), any::<bool>()).prop_map(
            |(who, labels, lifetime, session, approval)| {
                let parse = |(key, value): (String, String)| {
                    (LabelKey::parse(&key).unwrap(), LabelValue::parse(&value).unwrap())
                };
                let labels = Labels::new(labels.into_iter().map(parse)).unwrap();
                EnrolRule { who, labels, lifetime, session, approval }
            },
        )
    }

    /// Condition by condition, with loops.
    fn naively_matches(who: &Who, claims: &Claims) -> bool {
        if who.provider != claims.provider {
            return false;
        }
        let mut conditions = 0;
        if !who.groups.is_empty() {
            conditions += 1;
            if !who.groups.iter().any(|group| claims.groups.iter().any(|own| own == group)) {
                return false;
            }
        }
        if !who.subjects.is_empty() {
            conditions += 1;
            if !who.subjects.iter().any(|subject| *subject == claims.subject) {
                return false;
            }
        }
        for (key, values) in &who.claims {
            conditions += 1;
            let mut found = false;
            for (own_key, own_values) in &claims.other {
                found |=
                    own_key == key && own_values.iter().any(|own| values.iter().any(|value| value == own));
            }
            if !found {
                return false;
            }
        }
        conditions > 0 || who.everyone
    }

    proptest! {
        #[test]
        fn rules_grant_what_a_naive_evaluator_grants(rules in vec(rule(), 0..6), claims in claims()) {
            let all = Rules { enrol: rules.clone(), administrators: Vec::new() };
            let matching: Vec<usize> =
                (0..rules.len()).filter(|place| naively_matches(&rules[*place].who, &claims)).collect();
            let Some(grant) = all.enrolment(&claims) else {
                prop_assert!(matching.is_empty());
                return Ok(());
            };
            prop_assert_eq!(&grant.rules, &matching);
            for key in ["a", "b", "c", "d"] {
                let first = matching.iter().find_map(|place| rules[*place].labels.get(key));
                prop_assert_eq!(grant.labels.get(key), first, "an earlier rule wins a key");
            }
            for place in &matching {
                prop_assert!(rules[*place].lifetime.is_none_or(|lifetime| grant.lifetime.unwrap() <= lifetime));
                prop_assert!(rules[*place].session.is_none_or(|session| grant.session <= session));
                prop_assert!(grant.approval || !rules[*place].approval);
            }
            let set = |of: fn(&EnrolRule) -> Option<Duration>| matching.iter().any(|place| of(&rules[*place]).is_some());
            prop_assert_eq!(grant.lifetime.is_some(), set(|rule| rule.lifetime));
            prop_assert!(set(|rule| rule.session) || grant.session == PERSON_SESSION);
            prop_assert_eq!(grant.approval, matching.iter().any(|place| rules[*place].approval));
            // Without an approval it is as if the rules that want one were not there.
            let free = rules.iter().filter(|rule| !rule.approval).cloned().collect();
            let without = Rules { enrol: free, administrators: Vec::new() }.enrolment(&claims);
            let parts = |grant: Grant| (grant.labels, grant.lifetime, grant.session, grant.approval);
            prop_assert_eq!(all.enrolment_at_once(&claims).map(parts), without.map(parts));
        }

        #[test]
        fn an_administrator_has_the_highest_role_that_matches(
            rules in vec((who(), 0usize..3), 0..6), claims in claims()
        ) {
            let roles = [AdminRole::Viewer, AdminRole::Operator, AdminRole::Admin];
            let administrators: Vec<_> = rules.iter()
                .map(|(who, role)| AdminRule { who: who.clone(), role: roles[*role], session: None }).collect();
            let grant = Rules { enrol: Vec::new(), administrators }.administrator(&claims);
            let highest = rules.iter().filter(|(who, _)| naively_matches(who, &claims)).map(|(_, role)| *role).max();
            prop_assert_eq!(grant.map(|grant| grant.role), highest.map(|role| roles[role]));
        }

        #[test]
        fn another_provider_never_matches(rules in vec(rule(), 0..6), claims in claims()) {
            let claims = Claims { provider: "r".to_owned(), ..claims };
            let all = Rules { enrol: rules, administrators: Vec::new() };
            prop_assert_eq!(all.enrolment(&claims), None);
        }
    }

    #[test]
    fn the_default_is_nobody_and_a_rule_without_conditions_is_nobody_too() {
        let claims = Claims {
            provider: "p".to_owned(),
            issuer: "i".to_owned(),
            subject: "s".to_owned(),
            name: String::new(),
            groups: BTreeSet::from(["g".to_owned()]),
            other: BTreeMap::new(),
        };
        assert_eq!(Rules::default().enrolment(&claims), None);
        assert_eq!(Rules::default().administrator(&claims), None);
        let who = Who { provider: "p".to_owned(), ..Who::default() };
        assert!(!who.matches(&claims));
        assert!(Who { everyone: true, ..who }.matches(&claims));
    }
}
