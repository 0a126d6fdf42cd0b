//! The policy language: what is accepted prints, travels and reads back as the same, and every way to ask gives
//! the same answer.

use std::collections::BTreeMap;

use bulkhead_acl::format::format;
use bulkhead_acl::{
    Bundle, Checked, Diagnostic, Hours, Polarity, Policy, PortSet, Rule, RuleSet, Selector, Service,
    Severity, Sources, Subject, check,
};
use bulkhead_identity::{Generation, Labels, NodeName, Timestamp};

use super::deployment::{ACME, END, START, WALL};

/// Longest selector text that is read (`acl::syntax`).
const MAX_SELECTOR_BYTES: usize = 4096;

/// Files of policy text, parted by lines of `---`.
pub fn policy_text(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let files: Vec<&str> = text.split("\n---\n").take(4).collect();
    let forward = checked(&files, ["a.toml", "b.toml", "c.toml", "d.toml"]);
    let backward = checked(&files, ["d.toml", "c.toml", "b.toml", "a.toml"]);
    match (&forward, &backward) {
        (Ok(forward), Ok(backward)) => {
            assert_eq!(
                without_places(&forward.rules),
                without_places(&backward.rules),
                "order of files counts"
            );
            assert!(forward.warnings.iter().all(|found| found.severity == Severity::Warning));
            assert_travels(&forward.rules);
            assert_one_answer(&forward.rules);
            assert_formatting_changes_nothing(&files, &forward.rules);
        }
        (Err(found), Err(_)) => {
            assert!(found.iter().any(|found| found.severity == Severity::Error), "refused without an error");
        }
        (Ok(_), Err(found)) | (Err(found), Ok(_)) => panic!("order of files counts: {found:?}"),
    }
    for formatted in files.iter().filter_map(|text| format(text).ok()) {
        assert_eq!(format(&formatted).as_ref(), Ok(&formatted), "formatted twice is not formatted once");
    }
    let shown = forward.as_ref().map_or_else(|found| found, |checked| &checked.warnings);
    shown.iter().for_each(|found| assert_shows(found, &files));
    forward.is_ok()
}

fn checked(files: &[&str], names: [&str; 4]) -> Result<Checked, Vec<Diagnostic>> {
    let named = names.iter().zip(files).map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    check(&Sources(named.collect::<BTreeMap<_, _>>()), WALL)
}

fn assert_formatting_changes_nothing(files: &[&str], rules: &RuleSet) {
    let formatted: Vec<_> = files.iter().map(|text| format(text).unwrap()).collect();
    let formatted: Vec<_> = formatted.iter().map(String::as_str).collect();
    let again = checked(&formatted, ["a.toml", "b.toml", "c.toml", "d.toml"]).unwrap();
    assert_eq!(without_places(&again.rules), without_places(rules), "the layout counts");
}

fn without_places(rules: &RuleSet) -> RuleSet {
    let strip = |rules: &[Rule]| {
        rules.iter().map(|rule| Rule { file: String::new(), line: 0, ..rule.clone() }).collect()
    };
    RuleSet { allow: strip(&rules.allow), never: strip(&rules.never) }
}

/// What was checked can be signed, and every node reads in it what was checked.
fn assert_travels(rules: &RuleSet) {
    let bundle = Bundle {
        trust_domain: ACME.domain.clone(),
        generation: Generation(1),
        not_before: START,
        expires: END,
        rules: rules.clone(),
        seed: [7; 32],
    };
    let bytes = bundle.whole_slice(&[&ACME.policy_key]);
    let policy = Policy::verify(&bytes, &ACME.trust, Generation(0), WALL).unwrap();
    assert_eq!(policy.rules(), rules);
}

/// `decide` and the compiled classes agree, no rule permits without `allow`, and a `never` only takes away.
fn assert_one_answer(rules: &RuleSet) {
    let classes = rules.classes();
    let unguarded = RuleSet { never: Vec::new(), ..rules.clone() };
    let nobody = RuleSet { allow: Vec::new(), ..rules.clone() };
    let subjects = subjects();
    for (from, to) in subjects.iter().flat_map(|from| subjects.iter().map(move |to| (from, to))) {
        let ever = rules.may_ever(from, to, WALL);
        assert_eq!(classes.may_ever(&classes.of(from), &classes.of(to), WALL), ever);
        for service in SERVICES {
            let allowed = rules.decide(from, to, service, WALL).is_allowed();
            assert!(!allowed || ever, "{service} is allowed now, and never");
            assert!(!allowed || unguarded.decide(from, to, service, WALL).is_allowed());
            assert!(!nobody.decide(from, to, service, WALL).is_allowed());
        }
    }
}

const SERVICES: [Service; 6] = [
    Service::Tcp(5432),
    Service::Tcp(22),
    Service::Udp(5050),
    Service::Sctp(7),
    Service::Echo,
    Service::Ip(47),
];

fn subjects() -> [Subject; 4] {
    let subject = |name: &str, labels: &str| Subject {
        name: NodeName::parse(name).unwrap(),
        labels: Labels::parse(labels).unwrap(),
    };
    [
        Subject::from(&ACME.web),
        Subject::from(&ACME.db),
        subject("stranger", ""),
        subject("guest", "env=stage,role=guest"),
    ]
}

/// A finding stands within its file and cannot move a terminal's cursor.
fn assert_shows(found: &Diagnostic, files: &[&str]) {
    let shown = found.to_string();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(shown.lines().count() <= 4, "{shown:?}");
    if let Some(at) = ["a.toml", "b.toml", "c.toml", "d.toml"].iter().position(|name| *name == found.file) {
        let lines = files[at].split('\n').count();
        assert!((1..=lines).contains(&found.line), "line {} of {lines}", found.line);
        let line = files[at].split('\n').nth(found.line - 1).unwrap_or_default();
        assert!((1..=line.chars().count() + 1).contains(&found.column), "column {}", found.column);
    } else {
        assert_eq!((found.file.as_str(), found.line), ("", 0));
    }
}

/// Hours as text: one value has one text, and a change is where the answer changes.
pub fn hours(data: &[u8]) -> bool {
    let Ok(hours) = Hours::parse(&String::from_utf8_lossy(data)) else { return false };
    let shown = hours.to_string();
    assert_eq!(Hours::parse_canonical(&shown).as_ref(), Ok(&hours), "{shown:?}");
    let mut wall = WALL;
    for _ in 0..8 {
        let Some(change) = hours.next_change(wall) else { break };
        assert!(wall < change && hours.contains(change) != hours.contains(wall), "{shown:?} at {change:?}");
        assert_eq!(hours.contains(Timestamp(change.0 - 1)), hours.contains(wall), "{shown:?} at {change:?}");
        wall = change;
    }
    // Without a change it is the whole week.
    assert!(wall > WALL || hours.contains(wall), "{shown:?}");
    true
}

/// A selector as text, or as it stands in a bundle.
pub fn selector(data: &[u8]) -> bool {
    let typed = Selector::parse(&String::from_utf8_lossy(data)).ok();
    let sent = minicbor::decode::<Selector>(data).ok();
    let found = [typed, sent].into_iter().flatten();
    found.inspect(assert_selector_survives).count() > 0
}

fn assert_selector_survives(selector: &Selector) {
    let shown = selector.to_string();
    if shown.len() <= MAX_SELECTOR_BYTES {
        assert_eq!(Selector::parse(&shown).as_ref(), Ok(selector), "{shown:?}");
    }
    let sent = minicbor::to_vec(selector).unwrap();
    assert_eq!(minicbor::decode::<Selector>(&sent).unwrap(), *selector);
    for subject in subjects() {
        // An allow rule is never more generous than the same selector in a guard rail.
        assert!(!selector.matches(&subject, Polarity::Allow) || selector.matches(&subject, Polarity::Never));
    }
}

/// Two sets of ports as text, parted by `|`, or one as it stands in a bundle.
pub fn ports(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let sets: Vec<PortSet> = text.split('|').take(2).filter_map(|set| PortSet::parse(set).ok()).collect();
    let sent = minicbor::decode::<PortSet>(data).ok();
    for set in sets.iter().chain(&sent) {
        assert_ports_survive(set);
    }
    if let [left, right] = &sets[..] {
        assert_algebra(left, right, &text);
    }
    for one in text.split(['|', ',']).filter_map(|text| Service::parse(text).ok()) {
        assert_eq!(Service::parse(&one.to_string()), Ok(one));
        assert!(PortSet::parse(&one.to_string()).is_ok_and(|set| set.contains(one)));
    }
    sent.is_some() || !sets.is_empty()
}

fn assert_ports_survive(set: &PortSet) {
    if !set.is_empty() {
        assert_eq!(PortSet::parse(&set.to_string()).as_ref(), Ok(set));
    }
    let sent = minicbor::to_vec(set).unwrap();
    assert_eq!(minicbor::decode::<PortSet>(&sent).unwrap(), *set);
}

fn assert_algebra(left: &PortSet, right: &PortSet, text: &str) {
    let (both, either, only_left) = (left.intersection(right), left.union(right), left.difference(right));
    for service in borders(text) {
        let (in_left, in_right) = (left.contains(service), right.contains(service));
        assert_eq!(both.contains(service), in_left && in_right, "{service}");
        assert_eq!(either.contains(service), in_left || in_right, "{service}");
        assert_eq!(only_left.contains(service), in_left && !in_right, "{service}");
    }
    assert_eq!(only_left.union(&both), *left);
    assert_eq!(both, right.intersection(left));
    assert!(only_left.intersection(right).is_empty());
}

/// The services where a mistake by one would show.
fn borders(text: &str) -> Vec<Service> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u16>().ok());
    let mut services = vec![Service::Echo];
    for number in numbers.take(64).chain([0, 255, u16::MAX]) {
        for port in [number.wrapping_sub(1), number, number.wrapping_add(1)] {
            services.extend([Service::Tcp(port), Service::Udp(port), Service::Sctp(port)]);
            services.extend(u8::try_from(port).map(Service::Ip));
        }
    }
    services
}
