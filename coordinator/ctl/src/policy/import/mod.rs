//! `policy import k8s`: NetworkPolicies as a policy of ours, pods as nodes.
//!
//! The result permits exactly what the NetworkPolicies permit between the pods of the manifests, or there is none:
//! whatever cannot be said is refused with file, object and reason, all at once. Its limits: no addresses (`ipBlock`),
//! no traffic of a pod with itself, and pods of other namespaces or with other named ports than the manifests show
//! need another import, because isolation and named ports are labels of the nodes.

mod constraint;
mod encode;
mod join;
mod manifest;
mod nodes;
mod objects;
mod ports;
mod selection;
mod text;
mod translate;

use super::count_of;
use crate::command::ImportK8s;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::table::{printable, printable_lines};
use crate::{moment, public_file};
use anyhow::{Context as _, anyhow};
use bulkhead_acl::Sources;
use manifest::{Cluster, Problem, Problems};
use nodes::Node;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The file in the policy directory.
const FILE: &str = "k8s.toml";
/// The nodes file's `schema`: as of `node list`.
const NODES_SCHEMA: &str = "bulkhead.nodes/1";

/// What `--json` shows.
#[derive(Serialize)]
struct Imported {
    ok: bool,
    problems: Vec<Problem>,
    /// Kinds of objects that decide nothing here, and how many of each.
    passed_over: BTreeMap<String, usize>,
    policies: usize,
    rules: usize,
    sources: Sources,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct NodesFile<'a> {
    schema: &'a str,
    nodes: &'a [Node],
}

/// `policy import k8s`.
pub(super) fn run(asked: &ImportK8s, screen: Screen) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let cluster = manifest::read(&asked.files, &mut problems)?;
    let imported = import(&cluster, problems)?;
    for problem in &imported.problems {
        remark(&printable(&problem.to_string()));
    }
    for (kind, count) in &imported.passed_over {
        remark(&printable(&format!("passed over: {count} {kind}")));
    }
    if imported.ok {
        write(asked, &imported)?;
        return screen.answer("policy-import", &imported, |imported| summary(asked, imported));
    }
    if screen == Screen::Json {
        screen.answer("policy-import", &imported, |_| String::new())?;
    }
    let found = count_of(imported.problems.len(), "problem");
    Err(Failure::ChecksFailed(format!("{found}; nothing was written")))
}

fn import(cluster: &Cluster, mut problems: Problems) -> Result<Imported, Failure> {
    let translation = translate::translate(cluster, &mut problems);
    let nodes = nodes::nodes(cluster, translation.pods, &mut problems);
    let mut imported = Imported {
        ok: problems.0.is_empty(),
        problems: problems.0,
        passed_over: cluster.passed_over.clone(),
        policies: cluster.policies.len(),
        rules: 0,
        sources: Sources::default(),
        nodes: Vec::new(),
    };
    if imported.ok {
        imported.rules = translation.rules.len();
        imported.sources = text::write(FILE, &translation.rules)?;
        imported.nodes = nodes;
        let checked = bulkhead_acl::check(&imported.sources, moment::now());
        let first = checked.err().and_then(|found| found.first().map(ToString::to_string));
        if let Some(first) = first {
            return Err(anyhow!("the translation does not pass its own check: {first}").into());
        }
    }
    Ok(imported)
}

fn write(asked: &ImportK8s, imported: &Imported) -> Result<(), Failure> {
    // Either may be refused: both are looked at before anything is written.
    let policy = match &asked.out {
        Some(directory) => policy_files(directory, imported)?,
        None => Vec::new(),
    };
    let nodes = match &asked.nodes_out {
        Some(path) => nodes_file(path, imported)?,
        None => None,
    };
    if let Some(directory) = &asked.out {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    policy.iter().chain(&nodes).try_for_each(NewFile::write).map_err(Failure::from)
}

/// A file that is to be there, whole or not at all.
struct NewFile {
    path: PathBuf,
    text: String,
    /// The file that is there is an earlier import.
    replaces: bool,
}

impl NewFile {
    /// Beside its place, and then into it: what appeared there in between stays.
    fn write(&self) -> anyhow::Result<()> {
        let Self { path, text, replaces } = self;
        let write = || -> anyhow::Result<()> {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let mode = Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new()
                .prefix(".bulkhead-")
                .permissions(mode)
                .tempfile_in(parent.unwrap_or(Path::new(".")))?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            if *replaces {
                file.persist(path)?
            } else {
                file.persist_noclobber(path)?
            };
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// Never in place of a file that a person made.
fn policy_files(directory: &Path, imported: &Imported) -> Result<Vec<NewFile>, Failure> {
    let file = |(name, text): (&String, &String)| {
        let path = directory.join(name);
        let replaces = fs::read_to_string(&path).is_ok_and(|text| text.starts_with(text::HEADER));
        if fs::symlink_metadata(&path).is_ok() && !replaces {
            return Err(Failure::usage(
                format!("{} exists and is not from an import", path.display()),
                "name another directory with --out",
            ));
        }
        Ok(NewFile { path, text: text.clone(), replaces })
    };
    imported.sources.0.iter().map(file).collect()
}

/// Never in place of another file: nothing in a list of nodes says who made it. `None` when it is there already.
fn nodes_file(path: &Path, imported: &Imported) -> Result<Option<NewFile>, Failure> {
    let file = NodesFile { schema: NODES_SCHEMA, nodes: &imported.nodes };
    let text = serde_json::to_string_pretty(&file).context("writing JSON")? + "\n";
    if fs::symlink_metadata(path).is_err() {
        return Ok(Some(NewFile { path: path.to_owned(), text, replaces: false }));
    }
    // One that is longer is another, and no more of it is read.
    match public_file::read(path, ("what is to be written", text.len())) {
        Ok(held) if held == text.as_bytes() => Ok(None),
        Ok(_) | Err(_) => Err(Failure::usage(
            format!("{} exists, with other nodes", path.display()),
            "move it away, or name another file with --nodes-out",
        )),
    }
}

fn summary(asked: &ImportK8s, imported: &Imported) -> String {
    let Some(directory) = &asked.out else {
        return imported.sources.0.values().map(|text| printable_lines(text)).collect::<Vec<_>>().join("\n");
    };
    format!(
        "{}: {} from {}; {}",
        directory.join(FILE).display(),
        count_of(imported.rules, "rule"),
        if imported.policies == 1 {
            "1 NetworkPolicy".to_owned()
        } else {
            format!("{} NetworkPolicies", imported.policies)
        },
        count_of(imported.nodes.len(), "node"),
    )
}

#[cfg(test)]
mod tests;
