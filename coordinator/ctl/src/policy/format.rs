//! `policy fmt`: one stable layout, comments kept. A file is written whole or not at all, and none is written when any
//! cannot be read.

use super::{count_of, directory, print_diagnostics};
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::{printable, printable_lines};
use anyhow::Context as _;
use bulkhead_acl::Diagnostic;
use bulkhead_acl::source::MAX_TEXT_BYTES;
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file and its layout.
#[derive(Debug, Serialize)]
struct Laid {
    path: PathBuf,
    /// Whether the layout differs from the file.
    changed: bool,
    text: String,
}

#[derive(Serialize)]
struct Answer {
    files: Vec<Laid>,
}

/// `policy fmt`.
pub(super) fn run(asked: &command::Format, screen: Screen) -> Result<(), Failure> {
    let answer = Answer { files: lay_out(&asked.paths)? };
    if asked.mode.write {
        for file in answer.files.iter().filter(|file| file.changed) {
            replace(&file.path, &file.text)?;
        }
    }
    let only_paths = asked.mode.check || asked.mode.write;
    screen.answer(
        "policy-format",
        &answer,
        |answer| if only_paths { changed(answer) } else { texts(answer) },
    )?;
    let differ = answer.files.iter().filter(|file| file.changed).count();
    if asked.mode.check && differ > 0 {
        let files = count_of(differ, "file");
        return Err(Failure::ChecksFailed(format!("{files} would change: bulkheadctl policy fmt --write")));
    }
    Ok(())
}

fn changed(answer: &Answer) -> String {
    let changed = answer.files.iter().filter(|file| file.changed);
    changed.map(|file| printable(&file.path.display().to_string()) + "\n").collect()
}

fn texts(answer: &Answer) -> String {
    answer.files.iter().map(|file| printable_lines(&file.text) + "\n").collect()
}

fn lay_out(paths: &[PathBuf]) -> Result<Vec<Laid>, Failure> {
    let mut files = Vec::new();
    let mut wrong: Vec<Diagnostic> = Vec::new();
    for path in paths {
        for (path, text) in texts_of(path)? {
            match bulkhead_acl::format::format(&text) {
                Ok(laid) => files.push(Laid { changed: laid != text, path, text: laid }),
                Err(found) => wrong.push(Diagnostic { file: path.display().to_string(), ..*found }),
            }
        }
    }
    if wrong.is_empty() {
        return Ok(files);
    }
    print_diagnostics(&wrong);
    Err(Failure::ChecksFailed(format!("{}; nothing was changed", count_of(wrong.len(), "error"))))
}

fn texts_of(path: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    if path.is_dir() {
        let sources = directory::read(path)?;
        return Ok(sources.0.into_iter().map(|(name, text)| (path.join(name), text)).collect());
    }
    let text =
        directory::text(path, MAX_TEXT_BYTES).with_context(|| format!("reading {}", path.display()))?;
    Ok(vec![(path.to_owned(), text)])
}

/// With the permissions of the file that it replaces.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> anyhow::Result<()> {
        // A link stays a link: what it points at is replaced.
        let path = fs::canonicalize(path)?;
        let place = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(place)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::metadata(&path)?.permissions())?;
        file.persist(&path)?;
        Ok(())
    };
    Ok(write().with_context(|| format!("writing {}", path.display()))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::policy_verb;

    const CROOKED: &str = "version=1\n# who pays\n[groups]\nweb=\"role=web\"   # the shop\n";

    fn verb(words: &str, place: &Path) -> Result<(), Failure> {
        let command::Policy::Fmt(asked) = policy_verb(&format!("fmt {words} {}", place.display())) else {
            panic!()
        };
        run(&asked, Screen::Json)
    }

    #[test]
    fn what_was_written_needs_no_further_change() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.toml");
        fs::write(&path, CROOKED).unwrap();
        assert!(matches!(verb("--check", place.path()), Err(Failure::ChecksFailed(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), CROOKED);
        verb("", &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), CROOKED);
        verb("--write", &path).unwrap();
        verb("--check", place.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("# who pays") && text.contains("# the shop"), "{text}");
    }

    #[test]
    fn one_wrong_file_keeps_all_as_they_are() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a.toml"), CROOKED).unwrap();
        fs::write(place.path().join("b.toml"), "version = \n").unwrap();
        assert!(verb("--write", place.path()).is_err());
        assert_eq!(fs::read_to_string(place.path().join("a.toml")).unwrap(), CROOKED);
    }
}
