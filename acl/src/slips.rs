//! What to write instead of what habit writes: the selectors, ports and types of other languages.
//!
//! Advice only: nothing is accepted here that the grammar refuses. A text that is suggested whole has been read
//! back, so that taking the advice does not lead to the next error.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use bulkhead_identity::{LabelKey, LabelValue};
use toml::{de::DeValue, value::Datetime};

use crate::{
    PortSet, Term,
    schema::advice,
    syntax::{self, Atom, MAX_SELECTOR_BYTES},
};

/// Longer texts are not rewritten.
const MAX_REWRITTEN_BYTES: usize = 256;
/// Most values that a suggestion lists.
const MAX_SHOWN_VALUES: usize = 8;

/// What lists of ports are called.
const PORTS: [&str; 4] = ["ports", "a service", "allow", "deny"];

const ADDRESSES: &str = "rules name labels, never addresses: give those nodes a label and name that";
const JOINED: &str = "terms are joined by `,`, which is and";

/// What may have been meant by a selector that cannot be read from `at` on.
pub(crate) fn selector(text: &str, at: &Range<usize>) -> Option<String> {
    if text.len() > MAX_SELECTOR_BYTES {
        return None;
    }
    let (before, rest) = (text.get(..at.start)?.trim_end(), text.get(at.start..)?);
    if text.trim().is_empty() {
        return Some("write `*` for every identity".to_owned());
    }
    if text.split([',', ' ', '(', ')', '=']).any(|word| is_address(word.trim_start_matches("node:"))) {
        return Some(ADDRESSES.to_owned());
    }
    let marked = text.get(at.clone())?;
    connective(text, rest, marked)
        .or_else(|| colon(marked, text.get(at.end..)?))
        .or_else(|| sign(before, rest, marked))
        .or_else(|| advice(marked))
        .or_else(|| missing_sign(before, rest))
}

/// Whether `word` is an address or a network.
pub(crate) fn is_address(word: &str) -> bool {
    word.split_once('/').map_or(word, |(address, _)| address).parse::<IpAddr>().is_ok()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default().trim_end_matches(',')
}

/// Words and signs for and, or, not.
fn connective(text: &str, rest: &str, marked: &str) -> Option<String> {
    let found = |word, sign| marked.contains(sign) || first_word(rest).eq_ignore_ascii_case(word);
    // With spaces around them the signs are words too.
    let spaced = || text.replace("&&", " && ").replace("||", " || ");
    if found("and", '&') {
        let spaced = spaced();
        let words = spaced.split_whitespace();
        let is_and = |word: &str| word.eq_ignore_ascii_case("and") || word == "&&" || word == "&";
        let words: Vec<_> = words.map(|word| if is_and(word) { "," } else { word }).collect();
        return Some(rewritten(&words.join(" ").replace(" ,", ",")).unwrap_or_else(|| JOINED.to_owned()));
    }
    if found("or", '|') {
        let spaced = spaced();
        let words: Vec<_> = spaced.split_whitespace().collect();
        let is_or = |word: &&str| word.eq_ignore_ascii_case("or") || *word == "||" || *word == "|";
        let sides: Vec<_> = words.split(is_or).map(|side| side.join(" ")).collect();
        let either = in_either(sides.iter().map(String::as_str));
        return Some(either.map_or_else(
            || {
                "there is no `or`: write a second rule, or `role in (web, api)` for values of one label"
                    .to_owned()
            },
            |either| format!("there is no `or`: write `{either}`"),
        ));
    }
    (first_word(text).eq_ignore_ascii_case("not") && rest.len() < text.len()).then(|| {
        "write `env!=prod`, `env notin (prod, stage)`, or `!env` where the label is missing".to_owned()
    })
}

/// `role: db`, and prefixes that other languages have.
fn colon(marked: &str, after: &str) -> Option<String> {
    let (key, value) = marked.split_once(':')?;
    let value = if value.is_empty() { first_word(after) } else { value };
    let instead = match key {
        "group" => format!("@{value}"),
        "label" | "labels" => return Some("labels have no prefix: write `role=db`".to_owned()),
        "node" | "user" => format!("{key}:{value}"),
        key => format!("{key}={value}"),
    };
    rewritten(&instead)
}

/// Signs that mean something elsewhere.
fn sign(before: &str, rest: &str, marked: &str) -> Option<String> {
    let last = before.rsplit(',').next().unwrap_or_default().trim();
    let help = match rest.chars().next() {
        Some('=') if last.starts_with('!') => return rewritten(&format!("{}!{rest}", last[1..].trim())),
        Some('(') => "several values are written `env in (prod, stage)`",
        Some('*') if !last.is_empty() => {
            "there are no wildcards: name the label alone for any value, or list the values"
        }
        Some(',') => "remove the `,`",
        None if last.is_empty() => "remove the `,`",
        None if before.contains('(') => return rewritten(&format!("{before})")),
        _ if marked.contains(['\'', '"']) => "write it without quotes",
        _ if marked.contains(['<', '>']) => "labels are compared by =, !=, in and notin only",
        _ if marked.contains(';') => JOINED,
        _ if last.ends_with(" in") || last.ends_with(" notin") => {
            "write the values in parentheses, for example `role in (web, api)`"
        }
        _ => return None,
    };
    Some(help.to_owned())
}

/// `role web`, `env=prod role=db`, `env in (prod stage)`.
fn missing_sign(before: &str, rest: &str) -> Option<String> {
    let last = before.rsplit([',', ' ']).next().unwrap_or_default();
    if rest.is_empty() || before.is_empty() || before.ends_with([',', '=', '(', '!']) {
        return None;
    }
    if LabelKey::parse(last).is_ok() && !before.contains('(') {
        return rewritten(&format!("{last}={}", first_word(rest)));
    }
    Some(rewritten(&format!("{before}, {rest}")).unwrap_or_else(|| JOINED.to_owned()))
}

/// `text` as a suggestion, if it is a selector.
fn rewritten(text: &str) -> Option<String> {
    let fits = text.len() <= MAX_REWRITTEN_BYTES && syntax::parse(text).is_ok();
    fits.then(|| format!("write {text:?}"))
}

/// The one term for either of these selectors, where all are about values of one label.
fn in_either<'t>(selectors: impl Iterator<Item = &'t str>) -> Option<Term> {
    let mut terms = Vec::new();
    for selector in selectors {
        for part in syntax::parse(selector).ok()? {
            match part.atom {
                Atom::Term(term) => terms.push(term),
                Atom::Everyone | Atom::Group(_) => return None,
            }
        }
    }
    let (key, _) = values_of(terms.first()?)?;
    let all: Option<Vec<_>> =
        terms.iter().map(|term| values_of(term).filter(|(other, _)| *other == key)).collect();
    let values: BTreeSet<_> = all?.into_iter().flat_map(|(_, values)| values.iter().cloned()).collect();
    (values.len() <= MAX_SHOWN_VALUES).then(|| Term::In(key.clone(), values))
}

fn values_of(term: &Term) -> Option<(&LabelKey, &BTreeSet<LabelValue>)> {
    match term {
        Term::In(key, values) => Some((key, values)),
        Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::Node(_) | Term::User { .. } => None,
    }
}

/// Why no identity meets all of `terms`, and what may have been meant.
pub(crate) fn contradiction(terms: &[Term]) -> Option<(String, Option<String>)> {
    let nodes = terms.iter().filter(|term| matches!(term, Term::Node(_))).count();
    if nodes > 1 {
        let help = "write a rule for each, or give these nodes a label and name that";
        return Some(("a node has one name".to_owned(), Some(help.to_owned())));
    }
    terms.iter().filter_map(Term::key).find_map(|key| contradiction_of(key, terms))
}

fn contradiction_of(key: &LabelKey, terms: &[Term]) -> Option<(String, Option<String>)> {
    let mut common: Option<BTreeSet<&LabelValue>> = None;
    let mut listed = BTreeSet::new();
    let (mut present, mut absent, mut excluded) = (false, false, false);
    for term in terms.iter().filter(|term| term.key() == Some(key)) {
        match term {
            Term::In(_, values) => {
                present = true;
                listed.extend(values.iter().cloned());
                let known = common.get_or_insert_with(|| values.iter().collect());
                known.retain(|value| values.contains(*value));
            }
            Term::Exists(_) => present = true,
            Term::Absent(_) => absent = true,
            Term::NotIn(..) => excluded = true,
            Term::Node(_) | Term::User { .. } => {}
        }
    }
    if present && absent {
        return Some((
            format!("`!{key}` matches only where {key} is missing"),
            Some(format!("remove `!{key}`")),
        ));
    }
    if common.is_some_and(|common| common.is_empty()) {
        let either = (listed.len() <= MAX_SHOWN_VALUES).then(|| Term::In(key.clone(), listed).to_string());
        let either = either.unwrap_or_else(|| format!("{key} in (…)"));
        return Some((format!("a node has one {key}"), Some(format!("for either write `{either}`"))));
    }
    (present && excluded).then(|| (format!("no value of {key} is left"), None))
}

/// What may have been meant by an item of `ports` that cannot be read.
pub(crate) fn port(text: &str) -> Option<String> {
    let meant = meant_port(text)?;
    let bare = text.trim().starts_with(|first: char| first.is_ascii_digit());
    Some(match meant.strip_prefix("tcp/") {
        Some(number) if bare && !text.contains('/') => format!("write {meant:?} or \"udp/{number}\""),
        Some(_) | None => format!("write {meant:?}"),
    })
}

fn meant_port(text: &str) -> Option<String> {
    if text.len() > MAX_REWRITTEN_BYTES || PortSet::parse(text).is_ok() {
        return None;
    }
    let lower = text.trim().to_ascii_lowercase();
    let swapped = lower.split_once('/').map(|(number, protocol)| format!("{protocol}/{number}"));
    let candidates = [
        Some(lower.replacen([':', ' '], "/", 1)),
        Some(lower.replace(':', "-")),
        Some(format!("{lower}/*")),
        ["*", "all"].contains(&lower.as_str()).then(|| "any".to_owned()),
        Some(format!("tcp/{lower}")),
        swapped,
    ];
    candidates.into_iter().flatten().find(|candidate| PortSet::parse(candidate).is_ok())
}

/// What to write instead of `value` where `what` is one text.
pub(crate) fn one_text(what: &str, value: &DeValue<'_>) -> Option<String> {
    match (what, value) {
        ("from" | "to" | "a group", DeValue::Array(items)) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            let texts = texts
                .filter(|texts| texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_REWRITTEN_BYTES);
            let either = texts.and_then(|texts| in_either(texts.into_iter()));
            Some(either.map_or_else(
                || {
                    "write one text: terms joined by `,` must all hold; for either write a second rule"
                        .to_owned()
                },
                |either| format!("write {:?} for either", either.to_string()),
            ))
        }
        ("from" | "to" | "a group", DeValue::Table(entries)) => {
            let term = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                Some(format!("{}={}", key.get_ref(), value.get_ref().as_str()?))
            };
            let terms: Option<Vec<_>> = entries.iter().take(MAX_SHOWN_VALUES + 1).map(term).collect();
            rewritten(&terms?.join(", "))
        }
        (what, DeValue::Integer(number)) if PORTS.contains(&what) => port(number.as_str()),
        _ => None,
    }
}

/// What to write instead of `value` where `what` is a list of texts.
pub(crate) fn list(what: &str, value: &DeValue<'_>) -> Option<String> {
    let ports = PORTS.contains(&what);
    let text = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) if ports => number.as_str(),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return None,
    };
    if text.len() > MAX_REWRITTEN_BYTES {
        return None;
    }
    let meant = |item: &str| if ports { meant_port(item) } else { None };
    let items = text.split(',').map(str::trim);
    let items: Vec<_> = items.map(|item| meant(item).unwrap_or_else(|| item.to_owned())).collect();
    Some(format!("write {items:?}"))
}

/// What to write instead of `value` where `key` is a day or a moment.
pub(crate) fn time(key: &str, value: &DeValue<'_>) -> Option<String> {
    let text = value.as_str()?;
    let example = if key == "review_by" { "2027-06-30" } else { "2027-06-30T18:00:00Z" };
    Some(match text.parse::<Datetime>() {
        Ok(_) => format!("write {key} = {text}"),
        Err(_) => format!("write it like {key} = {example}"),
    })
}

/// The key that is meant by one that other languages have, or where it belongs.
pub(crate) fn key(what: &str, key: &str) -> Option<String> {
    let meant = match (what, key) {
        ("policy file", "deny" | "drop" | "reject" | "block") => {
            return Some("did you mean \"never\"? What no rule allows is denied anyway".to_owned());
        }
        ("policy file", "rule" | "rules" | "permit" | "accept") => "allow",
        ("allow rule" | "never rule", "name") => "id",
        ("allow rule" | "never rule" | "test", "source" | "src") => "from",
        ("allow rule" | "never rule" | "test", "destination" | "dest" | "dst") => "to",
        ("allow rule" | "never rule", "description" | "comment" | "reason") => "why",
        ("allow rule" | "never rule", "expires") => "until",
        ("allow rule" | "never rule", "service" | "services" | "protocol") => "ports",
        ("allow rule" | "never rule", "action") => {
            return Some("remove it: [[allow]] permits, [[never]] forbids".to_owned());
        }
        ("test", "id") => "name",
        (_, "same" | "differ") => return Some("`same` belongs to allow, `differ` to never".to_owned()),
        _ => return None,
    };
    Some(format!("did you mean {meant:?}?"))
}

/// How to mend what keeps a file from being TOML, by the parser's message.
pub(crate) fn syntax(message: &str) -> Option<String> {
    let help = if message.contains("array") {
        "a list begins with `[`, ends with `]`, and has `,` between its elements; look at the line before too"
    } else if message.contains("must be quoted") || message.contains("invalid boolean") {
        "write texts in quotes"
    } else if message.contains("string") {
        "a text begins and ends with `\"`, on one line"
    } else if message.contains("duplicate key") {
        "remove one of the two, or begin a second [[allow]], [[never]] or [[test]] above it"
    } else {
        return None;
    };
    Some(help.to_owned())
}
