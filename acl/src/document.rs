//! From TOML to statements: what each file says, before anything is looked up.
//!
//! The files of a policy are one set. A file that is not TOML contributes the names that it defines, so that
//! the others are not accused of naming unknown things, and nothing else.

use bulkhead_identity::Timestamp;
use toml::de::DeTable;

use crate::{
    Code, Polarity, Sources,
    place::{Findings, Located, Place},
    source::{MAX_PORTS, MAX_RELATED},
    table::{LocatedTable, Table, Value, place, text, texts, wrong_type},
};

/// Values that one label may list.
pub(crate) const MAX_LABEL_VALUES: usize = 10_000;

/// A file that is not TOML is searched for further errors only up to this size: the parser's recovery costs
/// far more than parsing.
pub(crate) const MAX_RECOVERED_BYTES: usize = 256 * 1024;

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

const RULE_KEYS: [&str; 9] =
    ["id", "from", "to", "ports", "not_before", "until", "owner", "why", "review_by"];

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
                Err(first) if text.len() > MAX_RECOVERED_BYTES || findings.are_full() => {
                    report_syntax(&[first], file, findings);
                }
                Err(_) => {
                    let (root, errors) = DeTable::parse_recoverable(text);
                    report_syntax(&errors, file, findings);
                    // What recovery made of a broken file is good for its names only.
                    let root = Table::new(root.get_ref(), file, "policy file");
                    document.read_definitions(root, file, &mut Findings::new(sources));
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
        for table in root.tables("allow", "allow rule", findings) {
            self.allow.push(read_rule(&table, Polarity::Allow, findings));
        }
        for table in root.tables("never", "never rule", findings) {
            self.never.push(read_rule(&table, Polarity::Never, findings));
        }
        for table in root.tables("test", "test", findings) {
            self.tests.push(read_test(&table, file, findings));
        }
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

fn report_syntax(errors: &[toml::de::Error], file: usize, findings: &mut Findings<'_>) {
    for error in errors {
        let span = error.span().unwrap_or_default();
        findings.error(Code::Syntax, &Place { file, span }, first_line(error.message()));
    }
}

/// The parser's messages may go on with the tokens that it expected, one per line.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
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
            None => wrong_type(findings, &place(file, value), "sealed", "true or false", value)?,
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
        review_by: table.day("review_by", findings),
    }
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
        return wrong_type(findings, &place(file, value), key, "a selector or { labels = { … } }", value);
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
