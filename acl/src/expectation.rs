//! The policy's own tests.
//!
//! A side is either exact labels or a selector. A selector stands for the identities that carry just the
//! labels it names, one for each value that it and the schema leave open; all of them are asked. A selector
//! that stands for no particular identity is an error, never a test that passes.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_identity::{LabelKey, LabelValue, Labels, NodeName, Timestamp};

use crate::{
    Class, Classes, Code, Decision, RuleSet, Selector, Service, Subject, Term,
    check::FailingTests,
    compile::selector,
    document::{TestSide, TestStatement},
    grant::Window,
    names::Names,
    place::{Findings, Located, Place},
    schema::{Schema, advice},
    slips,
};

/// Most identities that one side of a test may stand for.
pub(crate) const MAX_IDENTITIES: usize = 256;

/// Most pairs of identities that all tests together may ask about.
pub(crate) const MAX_TEST_PAIRS: usize = 500_000;

/// Most rules that all tests together may weigh: those that join a pair, and a few of all for each identity.
pub(crate) const MAX_TEST_RULES: usize = 2_000_000;

/// To find the rules of one identity is as much work as to weigh this part of all rules.
const RULES_PER_IDENTITY: usize = 32;

/// Reads every test and, where `rules` are given, runs it; returns how many expectations held.
pub(crate) fn run(
    tests: &[TestStatement],
    rules: Option<&RuleSet>,
    names: &Names,
    (wall, failing): (Timestamp, FailingTests),
    findings: &mut Findings<'_>,
) -> usize {
    let stranger = stranger(rules);
    let classes = rules.map(RuleSet::classes);
    let (mut held, mut pairs, mut weighed) = (0, 0, 0);
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for test in tests {
        if findings.are_full() {
            break;
        }
        let Some(name) = &test.name else { continue };
        if let Some(first) = seen.insert(&name.value, &name.place) {
            findings.twice("test", name, first);
        }
        let mut side = |side: &Option<TestSide>| -> Option<Vec<Subject>> {
            side.as_ref().and_then(|side| identities(side, names, &stranger, findings))
        };
        let (from, to) = (side(&test.from), side(&test.to));
        let questions = questions(test, names, findings);
        let (Some(from), Some(to), Some(classes)) = (from, to, &classes) else { continue };
        pairs += from.len() * to.len();
        if pairs > MAX_TEST_PAIRS {
            let message =
                format!("all tests together ask about more than {MAX_TEST_PAIRS} pairs (MAX_TEST_PAIRS)");
            findings.error(Code::Limit, &name.place, message);
            break;
        }
        let (name, place, wall, stranger) = (&name.value, &name.place, test.at.unwrap_or(wall), &stranger);
        let case = Case { name, from, to, classes, wall, stranger };
        let Some(failed) = case.run(&questions, &mut weighed) else {
            let message =
                format!("all tests together weigh more than {MAX_TEST_RULES} rules (MAX_TEST_RULES)");
            findings.error(Code::Limit, place, message);
            break;
        };
        held += case.report(&questions, &failed, failing, findings);
    }
    held
}

/// One service, whether it should be allowed, and where the policy says so.
struct Question<'t> {
    service: Service,
    allowed: bool,
    place: &'t Place,
}

fn questions<'t>(test: &'t TestStatement, names: &Names, findings: &mut Findings<'_>) -> Vec<Question<'t>> {
    let mut questions = Vec::new();
    for (items, allowed) in [(&test.allow, true), (&test.deny, false)] {
        for item in items {
            let place = &item.place;
            let services = services(item, names, findings).into_iter();
            questions.extend(services.map(|service| Question { service, allowed, place }));
        }
    }
    questions
}

/// Two identities, as a question asked for them.
type Pair<'a> = (&'a Subject, &'a Subject);

/// One test with its sides resolved.
struct Case<'a> {
    name: &'a str,
    from: Vec<Subject>,
    to: Vec<Subject>,
    classes: &'a Classes,
    wall: Timestamp,
    /// The name of those that were asked about by their labels.
    stranger: &'a NodeName,
}

impl Case<'_> {
    /// For each question one pair for which it does not hold, if there is any; `None` when that is more work
    /// than [`MAX_TEST_RULES`].
    fn run(&self, questions: &[Question<'_>], weighed: &mut usize) -> Option<Vec<Option<Pair<'_>>>> {
        let rules = self.classes.rules();
        let identities = self.from.len() + self.to.len();
        *weighed += identities * ((rules.allow.len() + rules.never.len()) / RULES_PER_IDENTITY);
        if *weighed > MAX_TEST_RULES {
            return None;
        }
        let mut failed = vec![None; questions.len()];
        let to_classes = self.by_class(&self.to);
        for (from_class, from) in self.by_class(&self.from) {
            for (to_class, to) in &to_classes {
                let grants = self.classes.grants(&from_class, to_class, Window::ALWAYS);
                // The grants are put together once, and gone through for each question.
                *weighed += 1 + grants.len() * (8 + questions.len()) / 8;
                if *weighed > MAX_TEST_RULES {
                    return None;
                }
                for (question, failed) in questions.iter().zip(&mut failed) {
                    if grants.allows(question.service, self.wall).is_some() != question.allowed {
                        failed.get_or_insert((from, *to));
                    }
                }
            }
        }
        Some(failed)
    }

    /// One subject of each class, for all of them; in the order of the subjects.
    fn by_class<'s>(&self, subjects: &'s [Subject]) -> Vec<(Class, &'s Subject)> {
        let mut known = BTreeSet::new();
        let classed = subjects.iter().map(|subject| (self.classes.of(subject), subject));
        classed.filter(|(class, _)| known.insert(class.clone())).collect()
    }

    /// Reports each question that failed; returns how many did not.
    fn report(
        &self,
        questions: &[Question<'_>],
        failed: &[Option<Pair<'_>>],
        failing: FailingTests,
        findings: &mut Findings<'_>,
    ) -> usize {
        for (question, pair) in questions.iter().zip(failed) {
            if let Some((from, to)) = pair {
                let message = self.explain(question.service, from, to);
                match failing {
                    FailingTests::Refuse => findings.error(Code::TestFailed, question.place, message),
                    FailingTests::Warn => findings.warning(Code::TestFailed, question.place, message, None),
                }
            }
        }
        failed.iter().filter(|pair| pair.is_none()).count()
    }

    fn explain(&self, service: Service, from: &Subject, to: &Subject) -> String {
        let because = match self.classes.rules().decide(from, to, service, self.wall) {
            Decision::Allowed { rule, file, line, .. } => format!("allowed by {rule} ({file}:{line})"),
            Decision::Forbidden { rule, file, line } => format!("forbidden by {rule} ({file}:{line})"),
            Decision::NoRule { nearest: None, .. } => "denied: there are no allow rules".to_owned(),
            Decision::NoRule { nearest: Some(rule), missing } => {
                let nameless = |why: &String| why.replace(&format!(" {}", self.stranger), "");
                let missing: Vec<_> = missing.iter().map(nameless).collect();
                format!("denied; nearest is {rule}: {}", missing.join("; "))
            }
        };
        let (from, to) = (self.shown(from), self.shown(to));
        format!("test {:?} does not hold: {service} from {from} to {to} is {because}", self.name)
    }

    /// The labels that were asked about, and the name if one was.
    fn shown(&self, subject: &Subject) -> String {
        let labels: Vec<_> = subject.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = labels.join(", ");
        match (subject.name == *self.stranger, labels.as_str()) {
            (true, labels) => format!("{{{labels}}}"),
            (false, "") => format!("node:{}", subject.name),
            (false, labels) => format!("node:{} {{{labels}}}", subject.name),
        }
    }
}

/// The services that an item of `allow` or `deny` names: one service, or a named set with single ports.
fn services(item: &Located<String>, names: &Names, findings: &mut Findings<'_>) -> Vec<Service> {
    if let Ok(service) = Service::parse(&item.value) {
        return vec![service];
    }
    let Some(set) = names.services.one(item, findings) else { return Vec::new() };
    let services: Result<Vec<_>, _> = set.to_string().split(", ").map(Service::parse).collect();
    services.unwrap_or_else(|_| {
        let message = format!("a test asks about single services; {:?} is more than that", item.value);
        let help = Some("name single ports, for example \"tcp/443\"".to_owned());
        findings.error_with_help(Code::Ports, &item.place, message, help);
        Vec::new()
    })
}

/// A name that no rule knows, so that no `node:` term matches by accident.
fn stranger(rules: Option<&RuleSet>) -> NodeName {
    let rules = rules.into_iter();
    let selectors = rules
        .flat_map(|rules| rules.allow.iter().chain(&rules.never))
        .flat_map(|rule| [&rule.from, &rule.to]);
    let named: BTreeSet<_> = selectors
        .flat_map(Selector::terms)
        .filter_map(|term| match term {
            Term::Node(name) => Some(name.as_str()),
            Term::In(..) | Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::User { .. } => None,
        })
        .collect();
    let mut candidates = (0_u64..).map(|number| format!("identity-{number}"));
    let free = candidates.find(|name| !named.contains(name.as_str())).unwrap_or_default();
    NodeName::parse(&free).expect("letters, a dash and digits make a node name")
}

fn identities(
    side: &TestSide,
    names: &Names,
    stranger: &NodeName,
    findings: &mut Findings<'_>,
) -> Option<Vec<Subject>> {
    match side {
        TestSide::Labels(pairs) => {
            let labels = labels(pairs, &names.schema, findings)?;
            Some(vec![Subject { name: stranger.clone(), labels }])
        }
        TestSide::Selector(text) => {
            let selector = selector(text, names, findings)?;
            match representatives(&selector, &names.schema, stranger) {
                Ok(subjects) => Some(subjects),
                Err(why) => {
                    let message = format!("`{}` {why}", text.value);
                    let help = Some("write { labels = { … } } with exact labels".to_owned());
                    findings.error_with_help(Code::TestSide, &text.place, message, help);
                    None
                }
            }
        }
    }
}

fn labels(
    pairs: &[(Located<String>, Located<String>)],
    schema: &Schema,
    findings: &mut Findings<'_>,
) -> Option<Labels> {
    let mut entries = Vec::new();
    for (key, value) in pairs {
        let parsed = LabelKey::parse(&key.value);
        let parsed = parsed.map_err(|error| report(&key.place, &key.value, &error.to_string(), findings));
        let chosen = LabelValue::parse(&value.value);
        let chosen = chosen.map_err(|error| report(&value.place, &value.value, &error.to_string(), findings));
        let (key_place, value_place) = (&key.place, &value.place);
        if let (Ok(key), Ok(value)) = (parsed, chosen) {
            schema.check_key(&key, key_place, findings);
            schema.check_value(&key, &value, value_place, findings);
            entries.push((key, value));
        }
    }
    let whole = entries.len() == pairs.len();
    match Labels::new(entries) {
        Ok(labels) => whole.then_some(labels),
        Err(error) => {
            findings.error(Code::Limit, &pairs.first()?.0.place, error.to_string());
            None
        }
    }
}

fn report(place: &Place, text: &str, message: &str, findings: &mut Findings<'_>) {
    findings.error_with_help(Code::BadName, place, message, advice(text));
}

/// The identities that carry just the labels that `selector` names.
fn representatives(
    selector: &Selector,
    schema: &Schema,
    stranger: &NodeName,
) -> Result<Vec<Subject>, String> {
    if selector.is_everyone() {
        return Err("is every identity and so none in particular".to_owned());
    }
    let nobody = || match slips::contradiction(selector.terms()) {
        Some((why, _)) => format!("matches nobody: {why}"),
        None => "matches nobody".to_owned(),
    };
    let mut name = None;
    let mut open: BTreeMap<&LabelKey, BTreeSet<LabelValue>> = BTreeMap::new();
    for term in selector.terms() {
        let (key, values) = match term {
            Term::Node(node) if name.is_none_or(|other| other == node) => {
                name = Some(node);
                continue;
            }
            Term::Node(_) | Term::User { .. } => return Err(nobody()),
            Term::Absent(_) => continue,
            Term::In(key, values) => (key, values.clone()),
            Term::Exists(key) => (key, schema_values(schema, key)?),
            // A negative term narrows what another one or the schema offers.
            Term::NotIn(key, _) => match positive(selector, key) {
                true => continue,
                false => (key, schema_values(schema, key)?),
            },
        };
        open.entry(key).and_modify(|known| known.retain(|value| values.contains(value))).or_insert(values);
    }
    let name = name.unwrap_or(stranger);
    let subjects = combine(&open)?.into_iter().map(|labels| Subject { name: name.clone(), labels });
    // What remains (`!key`, `key!=value`) is asked of the result itself.
    let subjects: Vec<_> =
        subjects.filter(|subject| selector.matches(subject, crate::Polarity::Allow)).collect();
    if subjects.is_empty() { Err(nobody()) } else { Ok(subjects) }
}

fn positive(selector: &Selector, key: &LabelKey) -> bool {
    selector.terms().iter().any(|term| match term {
        Term::In(other, _) | Term::Exists(other) => other == key,
        Term::NotIn(..) | Term::Absent(_) | Term::Node(_) | Term::User { .. } => false,
    })
}

fn schema_values(schema: &Schema, key: &LabelKey) -> Result<BTreeSet<LabelValue>, String> {
    let values = schema.values(key).cloned();
    values.ok_or_else(|| format!("leaves the value of {key} open, and [labels] does not list its values"))
}

/// Every choice of one value per key, at most [`MAX_IDENTITIES`].
fn combine(open: &BTreeMap<&LabelKey, BTreeSet<LabelValue>>) -> Result<Vec<Labels>, String> {
    let count = open.values().try_fold(1_usize, |count, values| count.checked_mul(values.len()));
    if count.is_none_or(|count| count > MAX_IDENTITIES) {
        return Err(format!("stands for more than {MAX_IDENTITIES} identities (MAX_IDENTITIES)"));
    }
    let mut choices = vec![Vec::new()];
    for (key, values) in open {
        let extended = choices.iter().flat_map(|choice: &Vec<(LabelKey, LabelValue)>| {
            values.iter().map(move |value| {
                let pair = ((*key).clone(), value.clone());
                choice.iter().cloned().chain([pair]).collect()
            })
        });
        choices = extended.collect();
    }
    choices.into_iter().map(|choice| Labels::new(choice).map_err(|error| error.to_string())).collect()
}
