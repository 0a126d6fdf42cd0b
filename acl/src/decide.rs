//! May this subject reach that one, and by which rule? Offline, on names and labels alone.
//!
//! A decision never comes without its reason: the rule that allowed or forbade, or the rule that came
//! nearest and what was missing for it.

use bulkhead_identity::{Labels, NodeName, Timestamp, VerifiedIdentity};

use crate::{
    Rule, RuleId, RuleSet, Service,
    grant::{Grants, Window},
    hours::outside,
    rule::{relation_holds, shares},
    selector::{Polarity, Term},
};

/// The two things rules speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The node's name.
    pub name: NodeName,
    /// Its certified labels.
    pub labels: Labels,
}

impl From<&VerifiedIdentity> for Subject {
    fn from(identity: &VerifiedIdentity) -> Self {
        Self { name: identity.name().clone(), labels: identity.labels().clone() }
    }
}

/// The answer, always with its reason.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Decision {
    /// `rule` is the smallest id of those that matched; `all` is all of them.
    Allowed {
        /// The smallest id.
        rule: RuleId,
        /// Every rule that allows it, ordered by id.
        all: Vec<RuleId>,
        /// Where `rule` was written.
        file: String,
        /// Where `rule` was written, from 1.
        line: usize,
    },
    /// A never rule matched; `rule` is the smallest id of those that did.
    Forbidden {
        /// The smallest id.
        rule: RuleId,
        /// Where it was written.
        file: String,
        /// Where it was written, from 1.
        line: usize,
    },
    /// No allow rule matched; `nearest` is the rule with fewest unmet conditions, `missing` says them.
    NoRule {
        /// The allow rule that came nearest, if there is any rule at all.
        nearest: Option<RuleId>,
        /// Its unmet conditions, one sentence each.
        missing: Vec<String>,
    },
}

impl Decision {
    /// Whether the flow may be.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl RuleSet {
    /// Whether `from` may open `service` to `to` at `wall`: by some allow rule, and by no never rule.
    #[must_use]
    pub fn decide(&self, from: &Subject, to: &Subject, service: Service, wall: Timestamp) -> Decision {
        let matched = |rules: &'_ [Rule], polarity| -> Vec<usize> {
            let decides = |&at: &usize| rules[at].decides(polarity, from, to, service, wall);
            let mut numbers: Vec<_> = (0..rules.len()).filter(decides).collect();
            numbers.sort_by(|&a, &b| rules[a].id.cmp(&rules[b].id));
            numbers
        };
        if let Some(&at) = matched(&self.never, Polarity::Never).first() {
            let rule = &self.never[at];
            return Decision::Forbidden { rule: rule.id.clone(), file: rule.file.clone(), line: rule.line };
        }
        let all = matched(&self.allow, Polarity::Allow);
        match all.first().map(|&at| &self.allow[at]) {
            Some(rule) => Decision::Allowed {
                rule: rule.id.clone(),
                all: all.iter().map(|&at| self.allow[at].id.clone()).collect(),
                file: rule.file.clone(),
                line: rule.line,
            },
            None => self.nearest(&Question { from, to, service, wall }),
        }
    }

    fn nearest(&self, question: &Question<'_>) -> Decision {
        // Of rules that lack as much, one that speaks of the service says more; of these the smallest id.
        let mut nearest: Option<((usize, bool), &Rule)> = None;
        for rule in &self.allow {
            // Whatever lacks more than the nearest so far need not be counted to the end.
            let most = nearest.map_or(usize::MAX, |((lacking, _), _)| lacking + 1);
            let lacking = question.unmet(Polarity::Allow, rule).take(most).count();
            let distance = (lacking, !rule.ports.contains(question.service));
            if nearest.is_none_or(|(least, other)| (distance, &rule.id) < (least, &other.id)) {
                nearest = Some((distance, rule));
            }
        }
        let nearest = nearest.map(|(_, rule)| rule);
        Decision::NoRule {
            nearest: nearest.map(|rule| rule.id.clone()),
            missing: nearest.map_or_else(Vec::new, |rule| question.missing(Polarity::Allow, rule)),
        }
    }

    /// Whether any service may ever (at `wall` or later, `until` not passed) flow from `from` to `to`.
    ///
    /// For many subjects use [`RuleSet::classes`].
    #[must_use]
    pub fn may_ever(&self, from: &Subject, to: &Subject, wall: Timestamp) -> bool {
        let joining = |rules: &'_ [Rule], polarity| -> Vec<Rule> {
            rules.iter().filter(|rule| rule.joins(polarity, from, to)).cloned().collect()
        };
        let allow = joining(&self.allow, Polarity::Allow);
        if allow.is_empty() {
            return false;
        }
        let never = joining(&self.never, Polarity::Never);
        Grants::new(allow.iter(), never.iter(), Window::ALWAYS).ever(wall)
    }
}

/// May `from` open `service` to `to` at `wall`?
pub(crate) struct Question<'a> {
    pub(crate) from: &'a Subject,
    pub(crate) to: &'a Subject,
    pub(crate) service: Service,
    pub(crate) wall: Timestamp,
}

/// One condition of a rule that does not hold.
#[derive(Clone, Copy)]
pub(crate) enum Unmet<'a> {
    From(&'a Term),
    To(&'a Term),
    Same(&'a str),
    Differ(&'a [String]),
    Service,
    NotYet(Timestamp),
    Over(Timestamp),
    Outside,
}

impl Question<'_> {
    /// What keeps `rule`, as one of `polarity`, from deciding; nothing when it decides.
    pub(crate) fn unmet<'r>(&self, polarity: Polarity, rule: &'r Rule) -> impl Iterator<Item = Unmet<'r>> {
        let (source, destination) = (self.from, self.to);
        let lacking = move |subject| move |term: &&Term| !Term::matches(term, subject, polarity);
        let from = rule.from.terms().iter().filter(lacking(source)).map(Unmet::From);
        let to = rule.to.terms().iter().filter(lacking(destination)).map(Unmet::To);
        let (same, differ) = match polarity {
            Polarity::Allow => (&rule.related[..], None),
            Polarity::Never => (&[][..], Some(&rule.related[..])),
        };
        let same = same.iter().filter(|key| !shares(source, destination, key)).map(|key| Unmet::Same(key));
        let related =
            |keys: &&[String]| relation_holds(polarity, keys, |key| shares(source, destination, key));
        let differ = differ.filter(|keys| !related(keys)).map(Unmet::Differ);
        let service = (!rule.ports.contains(self.service)).then_some(Unmet::Service);
        let not_yet = rule.not_before.filter(|&start| self.wall < start).map(Unmet::NotYet);
        let over = rule.until.filter(|&end| end <= self.wall).map(Unmet::Over);
        let hours = !rule.hours.is_empty() && !rule.hours.iter().any(|hours| hours.contains(self.wall));
        let outside = hours.then_some(Unmet::Outside);
        from.chain(to).chain(same).chain(differ).chain(service).chain(not_yet).chain(over).chain(outside)
    }

    /// As [`Question::unmet`], in words: one sentence for each condition.
    pub(crate) fn missing(&self, polarity: Polarity, rule: &Rule) -> Vec<String> {
        self.unmet(polarity, rule).map(|unmet| self.describe(rule, unmet)).collect()
    }

    fn describe(&self, rule: &Rule, unmet: Unmet<'_>) -> String {
        match unmet {
            Unmet::From(term) => lacks("source", self.from, term),
            Unmet::To(term) => lacks("destination", self.to, term),
            Unmet::Same(key) => format!(
                "both must share the label {key}: source {} has {}, destination {} has {}",
                self.from.name,
                value(self.from, key),
                self.to.name,
                value(self.to, key)
            ),
            Unmet::Differ(keys) => {
                let both: Vec<_> = keys.iter().map(|key| value(self.from, key)).collect();
                format!(
                    "they must differ in {}: source {} and destination {} both have {}",
                    keys.join(" or "),
                    self.from.name,
                    self.to.name,
                    both.join(", ")
                )
            }
            Unmet::Service => format!("{} is not among its ports: {}", self.service, rule.ports),
            Unmet::NotYet(start) => format!("it does not hold before {}", moment(start)),
            Unmet::Over(end) => format!("it held until {}", moment(end)),
            Unmet::Outside => outside(&rule.hours, self.wall),
        }
    }
}

fn lacks(side: &str, subject: &Subject, term: &Term) -> String {
    let has = match term.key() {
        Some(key) => format!(", has {}", value(subject, key.as_str())),
        None => String::new(),
    };
    format!("{side} {} must match `{term}`{has}", subject.name)
}

fn value(subject: &Subject, key: &str) -> String {
    subject.labels.get(key).map_or_else(|| format!("no label {key}"), |value| format!("{key}={value}"))
}

/// A moment as people write it, for example `2026-12-31T18:00:00Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    let civil = i64::try_from(at.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    civil.map_or_else(|| format!("second {}", at.0), |civil| civil.to_string())
}
