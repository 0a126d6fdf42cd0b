//! Text to rules: parse, lints and the policy's own tests; all problems at once.
//!
//! A policy takes effect whole or not at all: any error, a failing test included, and there are no rules.

use std::collections::BTreeMap;

use bulkhead_identity::Timestamp;

use crate::{
    Code, Diagnostic, Polarity, RuleSet, Sources, Subject,
    bundle::MAX_BUNDLE_BYTES,
    compile::{Compiled, compile},
    document::Document,
    expectation,
    group::Groups,
    lint::Reading,
    names::{Names, Services},
    place::{Findings, Place},
    schema::Schema,
    source::{MAX_FILES, MAX_TEXT_BYTES, MAX_TOKENS, is_file_name},
};

/// Room that a bundle needs beside its rules: header and signatures.
const BUNDLE_ROOM_BYTES: usize = 16 * 1024;

/// A policy that may be applied.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The compiled rules.
    pub rules: RuleSet,
    /// What deserves a look, sorted by file and position.
    pub warnings: Vec<Diagnostic>,
    /// How many `[[test]]` expectations held.
    pub tests_passed: usize,
    /// What the policy defines beside its rules.
    pub names: Names,
}

/// What becomes of a policy of which a `[[test]]` does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailingTests {
    /// It is refused.
    #[default]
    Refuse,
    /// Each expectation that fails is a warning.
    Warn,
}

/// How to check. `default()` refuses failing tests and knows no nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Whether tests decide.
    pub failing_tests: FailingTests,
    /// The nodes that there are, for warnings about rules that speak of none of them.
    pub nodes: Option<&'a [Subject]>,
}

/// Reads, compiles and tests a policy. `wall` is when its tests are asked, unless they say `at`.
///
/// No files, or files without rules, are a policy that permits nobody.
///
/// # Errors
/// Every error of every file, sorted by file and position. Tests are run, and rules compared with each other,
/// once the files have no other error.
pub fn check(sources: &Sources, wall: Timestamp) -> Result<Checked, Vec<Diagnostic>> {
    check_with(sources, wall, Options::default())
}

/// As [`check()`], with `options`.
///
/// # Errors
/// As [`check()`]; failing tests are none under [`FailingTests::Warn`].
pub fn check_with(
    sources: &Sources,
    wall: Timestamp,
    options: Options<'_>,
) -> Result<Checked, Vec<Diagnostic>> {
    let mut findings = Findings::new(sources);
    check_text_size(sources, &mut findings);
    check_files(sources, &mut findings);
    if findings.has_errors() {
        return Err(findings.into_diagnostics());
    }
    let document = Document::read(sources, &mut findings);
    let schema = Schema::new(&document.labels, &mut findings);
    let groups = Groups::new(&document.groups, &schema, &mut findings);
    let services = Services::new(&document.services, &mut findings);
    let names = Names { schema, groups, services };
    let mut ids = BTreeMap::new();
    let allow = compile(&document.allow, Polarity::Allow, &names, &mut ids, &mut findings);
    let never = compile(&document.never, Polarity::Never, &names, &mut ids, &mut findings);
    // With rules missing for their errors, warnings would mislead and tests would fail that hold.
    let whole = !findings.has_errors();
    if whole {
        let (document, nodes) = (&document, options.nodes);
        let reading = Reading { document, allow: &allow, never: &never, names: &names, wall, nodes };
        reading.lint(&mut findings);
    }
    let rules = |compiled: Vec<Compiled<'_>>| compiled.into_iter().map(|each| each.rule).collect();
    let rules = RuleSet::new(rules(allow), rules(never));
    check_compiled_size(&rules, &mut findings);
    let judged = whole.then_some(&rules);
    let asked = (wall, options.failing_tests);
    let tests_passed = expectation::run(&document.tests, judged, &names, asked, &mut findings);
    if findings.has_errors() {
        return Err(findings.into_diagnostics());
    }
    Ok(Checked { rules, warnings: findings.into_diagnostics(), tests_passed, names })
}

/// Before anything is parsed.
pub(crate) fn check_text_size(sources: &Sources, findings: &mut Findings<'_>) {
    let bytes: usize = sources.0.values().map(String::len).sum();
    if bytes > MAX_TEXT_BYTES {
        let message = format!("{bytes} bytes of policy text, more than {MAX_TEXT_BYTES} (MAX_TEXT_BYTES)");
        findings.error_without_place(Code::Limit, message);
    }
    let tokens: usize = sources.0.values().map(|text| tokens(text)).sum();
    if tokens > MAX_TOKENS {
        let message = format!("{tokens} lines, brackets and signs, more than {MAX_TOKENS} (MAX_TOKENS)");
        findings.error_without_place(Code::Limit, message);
    }
}

fn check_files(sources: &Sources, findings: &mut Findings<'_>) {
    if sources.0.len() > MAX_FILES {
        let message = format!("{} policy files, more than {MAX_FILES} (MAX_FILES)", sources.0.len());
        findings.error_without_place(Code::Limit, message);
    }
    for (file, name) in sources.0.keys().enumerate() {
        if !is_file_name(name) {
            let message = "a policy file's name is 1 to 255 of [A-Za-z0-9._/+@ -]";
            findings.error(Code::BadName, &Place { file, span: 0..0 }, message);
        }
    }
}

/// At least as many as a parser finds, strings and comments aside.
fn tokens(text: &str) -> usize {
    let counts = |byte: &&u8| matches!(byte, b'\n' | b'\r' | b'[' | b']' | b'{' | b'}' | b'=' | b'.' | b',');
    text.as_bytes().iter().filter(counts).count()
}

/// What is checked here can be signed, sent and read back by every node.
fn check_compiled_size(rules: &RuleSet, findings: &mut Findings<'_>) {
    let bytes = minicbor::to_vec(rules).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > MAX_BUNDLE_BYTES - BUNDLE_ROOM_BYTES {
        let message =
            format!("the compiled rules take {bytes} bytes, too many for a bundle (MAX_BUNDLE_BYTES)");
        findings.error_without_place(Code::Limit, message);
    }
}
