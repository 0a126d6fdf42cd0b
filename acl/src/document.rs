//! From TOML to statements: what each file says, before anything is looked up.
//!
//! The files of a policy are one set. Of a file that is not TOML the first error is reported and nothing else
//! is read; the others are not accused of naming what may be defined in it.

use bulkhead_identity::Timestamp;
use toml::de::{DeTable, DeValue};

use crate::{
    Code, Polarity, Sources,
    hours::MAX_HOURS,
    place::{Findings, Located, Place},
    slips,
    source::{MAX_PORTS, MAX_RELATED, MAX_RULES, MAX_TESTS},
    table::{LocatedTable, Table, Value, place, text, texts, wrong_type},
};

/// Values that one label may list.
pub(crate) const MAX_LABEL_VALUES: usize = 10_000;

/// Everything that all files say.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) labels: Vec<LabelStatement>,
    pub(crate) groups: Vec<(Located<String>, Located<String>)>,
    pub(crate) services: Vec<(Located<String>, Vec<Located<String>>)>,
    pub(crate) allow: Vec<RuleStatement>,
    pub(crate) never: Vec<RuleStatement>,
    pub(crate) tests: Vec<TestStatement>,
}

/// `[labels.KEY]`.
pub(crate) struct LabelStatement {
    pub(crate) key: Located<String>,
    /// `None`: any value.
    pub(crate) values: Option<Vec<Located<String>>>,
    pub(crate) sealed: bool,
}

/// `[[allow]]` or `[[never]]`. What is missing or malformed is `None`, and has been reported.
pub(crate) struct RuleStatement {
    pub(crate) place: Place,
    pub(crate) id: Option<Located<String>>,
    pub(crate) from: Option<Located<String>>,
    pub(crate) to: Option<Located<String>>,
    pub(crate) related: Vec<Located<String>>,
    pub(crate) ports: Option<Vec<Located<String>>>,
    pub(crate) not_before: Option<Located<Timestamp>>,
    pub(crate) until: Option<Located<Timestamp>>,
    pub(crate) hours: Vec<Located<String>>,
    pub(crate) review_by: Option<Located<Timestamp>>,
}

/// `[[test]]`.
pub(crate) struct TestStatement {
    pub(crate) name: Option<Located<String>>,
    pub(crate) from: Option<TestSide>,
    pub(crate) to: Option<TestSide>,
    pub(crate) allow: Vec<Located<String>>,
    pub(crate) deny: Vec<Located<String>>,
    pub(crate) at: Option<Timestamp>,
}

/// Whom a test speaks of.
pub(crate) enum TestSide {
    Selector(Located<String>),
    Labels(Vec<(Located<String>, Located<String>)>),
}

const RULE_KEYS: [&str; 10] =
    ["id", "from", "to", "ports", "not_before", "until", "hours", "owner", "why", "review_by"];

impl Document {
    /// Reads all files.
    pub(crate) fn read(sources: &Sources, findings: &mut Findings<'_>) -> Self {
        let mut document = Self::default();
        for (file, (_, text)) in sources.0.iter().enumerate() {
            match DeTable::parse(text) {
                Ok(root) => {
                    let root = Table::new(root.get_ref(), file, "policy file");
                    document.read_file(root, file, findings);
                }
                Err(error) => {
                    report_syntax(&error, file, findings);
                    findings.excuse_names_of(file);
                }
            }
        }
        document
    }

    fn read_file(&mut self, root: Table<'_>, file: usize, findings: &mut Findings<'_>) {
        let known = ["version", "labels", "groups", "services", "allow", "never", "test"];
        root.refuse_others(&known, findings);
        check_version(root, file, findings);
        self.read_definitions(root, file, findings);
        let (allow, never) =
            (root.tables("allow", "allow rule", findings), root.tables("never", "never rule", findings));
        let known = self.allow.len() + self.never.len();
        if let Some(table) = allow.iter().chain(&never).nth(MAX_RULES - known) {
            let message = format!("more than {MAX_RULES} rules (MAX_RULES)");
            return findings.error(Code::Limit, &table.place, message);
        }
        self.allow.extend(allow.iter().map(|table| read_rule(table, Polarity::Allow, findings)));
        self.never.extend(never.iter().map(|table| read_rule(table, Polarity::Never, findings)));
        let tests = root.tables("test", "test", findings);
        if let Some(table) = tests.get(MAX_TESTS - self.tests.len()) {
            let message = format!("more than {MAX_TESTS} tests (MAX_TESTS)");
            return findings.error(Code::Limit, &table.place, message);
        }
        self.tests.extend(tests.iter().map(|table| read_test(table, file, findings)));
    }

    fn read_definitions(&mut self, root: Table<'_>, file: usize, findings: &mut Findings<'_>) {
        for (key, value) in definitions(root, "labels", file, findings) {
            self.labels.extend(read_label(key, value, file, findings));
        }
        for (name, value) in definitions(root, "groups", file, findings) {
            self.groups.extend(text(file, value, "a group", findings).map(|selector| (name, selector)));
        }
        for (name, value) in definitions(root, "services", file, findings) {
            let ports = texts(file, value, "a service", ("MAX_PORTS", MAX_PORTS), findings);
            self.services.extend(ports.map(|ports| (name, ports)));
        }
    }
}

/// Only the first: what a parser makes of the rest of a broken file accuses what is right.
fn report_syntax(error: &toml::de::Error, file: usize, findings: &mut Findings<'_>) {
    let place = Place { file, span: error.span().unwrap_or_default() };
    let help = slips::syntax(error.message());
    let message = format!("not TOML: {}", first_line(error.message()));
    findings.error_with_help(Code::Syntax, &place, message, help);
}

/// The parser's messages may go on with the tokens that it expected, one per line.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

fn check_version(root: Table<'_>, file: usize, findings: &mut Findings<'_>) {
    let top = Place { file, span: 0..0 };
    let Some(value) = root.get("version") else {
        let help = Some("begin each file with `version = 1`".to_owned());
        return findings.error_with_help(Code::Version, &top, "the file does not say its version", help);
    };
    let number = value.get_ref().as_integer();
    if number.is_none_or(|number| number.radix() != 10 || number.as_str() != "1") {
        let message = "this release reads policy version 1 only";
        let help = Some("write `version = 1`".to_owned());
        findings.error_with_help(Code::Version, &place(file, value), message, help);
    }
}

/// The entries of the top-level table `key`.
fn definitions<'t>(
    root: Table<'t>,
    key: &'static str,
    file: usize,
    findings: &mut Findings<'_>,
) -> Vec<(Located<String>, &'t Value<'t>)> {
    let table = root.get(key).and_then(|value| Table::from_value(value, file, key, findings));
    table.map_or_else(Vec::new, |table| table.value.entries().collect())
}

fn read_label(
    key: Located<String>,
    value: &Value<'_>,
    file: usize,
    findings: &mut Findings<'_>,
) -> Option<LabelStatement> {
    let table = Table::from_value(value, file, "label", findings)?.value;
    table.refuse_others(&["values", "sealed"], findings);
    let values = table.texts("values", ("MAX_LABEL_VALUES", MAX_LABEL_VALUES), findings);
    let sealed = match table.get("sealed") {
        None => false,
        Some(value) => match value.get_ref().as_bool() {
            Some(sealed) => sealed,
            None => wrong_type(findings, &place(file, value), "sealed", "true or false", value, None)?,
        },
    };
    Some(LabelStatement { key, values, sealed })
}

fn read_rule(table: &LocatedTable<'_>, polarity: Polarity, findings: &mut Findings<'_>) -> RuleStatement {
    let Located { value: table, place } = table;
    let (related, required) = match polarity {
        Polarity::Allow => ("same", &["id", "from", "to", "ports"][..]),
        // A guard rail without ports guards all of them.
        Polarity::Never => ("differ", &["id", "from", "to"][..]),
    };
    let known: Vec<_> = RULE_KEYS.into_iter().chain([related]).collect();
    table.refuse_others(&known, findings);
    for key in required {
        table.required(key, place, findings);
    }
    // Text for people; kept in the sources, not in the compiled rule.
    table.text("owner", findings);
    table.text("why", findings);
    RuleStatement {
        place: place.clone(),
        id: table.text("id", findings),
        from: table.text("from", findings),
        to: table.text("to", findings),
        related: table.texts(related, ("MAX_RELATED", MAX_RELATED), findings).unwrap_or_default(),
        ports: table.texts("ports", ("MAX_PORTS", MAX_PORTS), findings),
        not_before: table.moment("not_before", findings),
        until: table.moment("until", findings),
        hours: read_hours(table, findings),
        review_by: table.day("review_by", findings),
    }
}

/// One span, or a list of them.
fn read_hours(table: &Table<'_>, findings: &mut Findings<'_>) -> Vec<Located<String>> {
    let Some(value) = table.get("hours") else { return Vec::new() };
    let read = match value.get_ref() {
        DeValue::String(_) => table.text("hours", findings).map(|span| vec![span]),
        DeValue::Array(_) => table.texts("hours", ("MAX_HOURS", MAX_HOURS), findings),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => {
            let place = table.place_of(value);
            wrong_type(findings, &place, "hours", "text in quotes or a list of texts", value, None)
        }
    };
    read.unwrap_or_default()
}

fn read_test(table: &LocatedTable<'_>, file: usize, findings: &mut Findings<'_>) -> TestStatement {
    let Located { value: table, place } = table;
    table.refuse_others(&["name", "from", "to", "allow", "deny", "at"], findings);
    table.required("name", place, findings);
    let mut side = |key| {
        let value = table.required(key, place, findings)?;
        read_side(value, file, key, findings)
    };
    let (from, to) = (side("from"), side("to"));
    if table.get("allow").or(table.get("deny")).is_none() {
        findings.error(Code::MissingKey, place, "test needs \"allow\" or \"deny\"");
    }
    let limit = ("MAX_PORTS", MAX_PORTS);
    TestStatement {
        name: table.text("name", findings),
        from,
        to,
        allow: table.texts("allow", limit, findings).unwrap_or_default(),
        deny: table.texts("deny", limit, findings).unwrap_or_default(),
        at: table.moment("at", findings).map(|at| at.value),
    }
}

fn read_side(value: &Value<'_>, file: usize, key: &str, findings: &mut Findings<'_>) -> Option<TestSide> {
    if value.get_ref().is_str() {
        return text(file, value, key, findings).map(TestSide::Selector);
    }
    if !value.get_ref().is_table() {
        let help = slips::one_text(key, value.get_ref());
        return wrong_type(
            findings,
            &place(file, value),
            key,
            "a selector or { labels = { … } }",
            value,
            help,
        );
    }
    let side = Table::from_value(value, file, "a side of a test", findings)?;
    side.value.refuse_others(&["labels"], findings);
    let labels = side.value.required("labels", &side.place, findings)?;
    let labels = Table::from_value(labels, file, "labels", findings)?.value;
    let mut pairs = Vec::new();
    for (key, value) in labels.entries() {
        pairs.push((key, text(file, value, "a label's value", findings)?));
    }
    Some(TestSide::Labels(pairs))
}
