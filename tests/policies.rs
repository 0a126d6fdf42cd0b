//! What the linter says of a corpus of small policies, word for word.
//!
//! `policies/NAME.toml`, or the files of `policies/NAME/`, is one policy; `NAME.nodes.json` beside it are the nodes
//! that it is looked at with. What is said of it stands in `NAME.snap`; of a policy named `clean-…` nothing is
//! said. `INSTA_UPDATE=always cargo test -p bulkhead-tests --test policies` writes what is said now.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bulkhead_acl::check::Options;
use bulkhead_acl::{Code, Diagnostic, Sources, Subject, check_with};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use bulkhead_tests::source_root;

/// 2026-12-01T12:00:00Z, a Tuesday.
const WALL: Timestamp = Timestamp(1_796_126_400);

/// What an audience of the issue was promised.
const LEAST_POLICIES: usize = 60;
const LEAST_CLEAN: usize = 12;

fn folder() -> PathBuf {
    source_root().join("tests/policies")
}

/// Every policy by its name.
fn corpus() -> BTreeMap<String, Sources> {
    let mut corpus = BTreeMap::new();
    for path in entries(&folder()) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            corpus.insert(name, Sources(entries(&path).iter().map(|file| text(file)).collect()));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            corpus.insert(name, Sources([text(&path)].into()));
        }
    }
    corpus.insert("pairs-not-compared".to_owned(), two_thousand_rules());
    corpus
}

/// Too many to compare each with each, and too much text for a corpus.
fn two_thousand_rules() -> Sources {
    let rule = |n| format!("[[allow]]\nid = \"r{n}\"\nfrom = \"a\"\nto = \"b\"\nports = [\"tcp/{n}\"]\n");
    let text = (0..2100).map(rule).collect::<String>();
    Sources([("pairs-not-compared.toml".to_owned(), format!("version = 1\n{text}"))].into())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn text(file: &Path) -> (String, String) {
    (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(file).unwrap())
}

/// As `--nodes` of the command line reads them.
#[derive(serde::Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
}

#[derive(serde::Deserialize)]
struct Node {
    name: NodeName,
    labels: Labels,
}

fn nodes(name: &str) -> Option<Vec<Subject>> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.nodes.json"))).ok()?;
    let Nodes { nodes } = serde_json::from_str(&text).unwrap();
    Some(nodes.into_iter().map(|Node { name, labels }| Subject { name, labels }).collect())
}

fn findings(name: &str, sources: &Sources) -> Vec<Diagnostic> {
    let nodes = nodes(name);
    let options = Options { nodes: nodes.as_deref(), ..Options::default() };
    check_with(sources, WALL, options).map_or_else(|found| found, |checked| checked.warnings)
}

#[test]
fn the_linter_says_what_it_said() {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _here = settings.bind_to_scope();
    let mut seen = BTreeSet::new();
    for (name, sources) in corpus() {
        let found = findings(&name, &sources);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        if name.starts_with("clean-") {
            assert!(shown.is_empty(), "{name} is clean, but:\n{}", shown.join("\n\n"));
            continue;
        }
        assert!(!shown.is_empty(), "nothing is said of {name}: is it clean?");
        seen.extend(found.into_iter().map(|finding| finding.code));
        insta::assert_snapshot!(name, shown.join("\n\n"));
    }
    let unseen: Vec<_> = Code::ALL.iter().filter(|code| !seen.contains(code.as_str())).collect();
    assert!(unseen.is_empty(), "claimed, and found nowhere in the corpus: {unseen:?}");
}

#[test]
fn the_corpus_is_as_large_as_it_should_be() {
    let names: Vec<_> = corpus().into_keys().collect();
    let clean = names.iter().filter(|name| name.starts_with("clean-")).count();
    assert!(names.len() >= LEAST_POLICIES && clean >= LEAST_CLEAN, "{} and {clean}", names.len());
    for path in entries(&folder()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let policy = name.split('.').next().unwrap();
        assert!(names.iter().any(|known| known == policy), "{name} belongs to no policy");
    }
}

/// A finding can be pasted into a chat: where, what, and the line with its mark.
#[test]
fn every_finding_stands_somewhere_or_names_a_limit() {
    for (name, sources) in corpus() {
        for finding in findings(&name, &sources) {
            let placeless = finding.file.is_empty();
            assert!(
                !placeless
                    || [Code::Limit, Code::PairsNotCompared].iter().any(|code| finding.code == code.as_str()),
                "{name}: {finding}"
            );
            let shown = finding.to_string();
            let lines: Vec<_> = shown.lines().collect();
            assert!(lines[0].contains(&finding.code), "{name}: {shown}");
            assert!(placeless || lines[0].starts_with(&finding.file) && lines.len() >= 3, "{name}: {shown}");
            let words = finding.message.split_whitespace().count();
            assert!((3..=60).contains(&words), "{name}: is this a sentence? {}", finding.message);
            assert!(!finding.message.ends_with(['.', '!']), "{name}: {}", finding.message);
        }
    }
}
