//! A directory of `*.toml` files as policy sources. A directory without any is refused: an empty policy cuts
//! everybody off, and a mistyped path must not be read as one.

use crate::failure::Failure;
use anyhow::{Context as _, anyhow, bail};
use bulkhead_acl::Sources;
use bulkhead_acl::source::MAX_TEXT_BYTES;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// More files than any policy needs; a wrong directory shows itself before it is read.
pub(crate) const MAX_POLICY_FILES: usize = 10_000;

/// Reads every `*.toml` directly inside `directory`; hidden files (editors' leftovers) are passed over.
pub(crate) fn read(directory: &Path) -> Result<Sources, Failure> {
    let sources =
        collect(directory).with_context(|| format!("reading policy from {}", directory.display()))?;
    if sources.0.is_empty() {
        return Err(Failure::usage(
            format!("{} holds no *.toml file", directory.display()),
            "to permit nobody anything, say so: a file that holds only `version = 1`",
        ));
    }
    Ok(sources)
}

fn collect(directory: &Path) -> anyhow::Result<Sources> {
    let mut sources = BTreeMap::new();
    let mut room = MAX_TEXT_BYTES;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let name = name.to_str().ok_or_else(|| anyhow!("{} is not named in UTF-8", path.display()))?;
        if name.starts_with('.') || !name.ends_with(".toml") {
            continue;
        }
        if sources.len() == MAX_POLICY_FILES {
            bail!("more than {MAX_POLICY_FILES} files (MAX_POLICY_FILES)");
        }
        let text = text(&path, room).with_context(|| name.to_owned())?;
        room -= text.len();
        sources.insert(name.to_owned(), text);
    }
    Ok(Sources(sources))
}

/// The text of one file of at most `room` bytes.
pub(super) fn text(path: &Path, room: usize) -> anyhow::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        bail!("not a regular file");
    }
    let mut bytes = Vec::new();
    file.take(room as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > room {
        bail!("the files together exceed {MAX_TEXT_BYTES} bytes (MAX_TEXT_BYTES)");
    }
    String::from_utf8(bytes)
        .map_err(|error| anyhow!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_toml_files_are_policy() {
        let place = tempfile::tempdir().unwrap();
        for name in ["20-db.toml", "10-web.toml", ".10-web.toml", "README.md", "10-web.toml~"] {
            fs::write(place.path().join(name), name).unwrap();
        }
        let names: Vec<_> = read(place.path()).unwrap().0.into_keys().collect();
        assert_eq!(names, ["10-web.toml", "20-db.toml"]);
    }

    #[test]
    fn an_empty_or_missing_directory_is_an_error_and_not_an_empty_policy() {
        let place = tempfile::tempdir().unwrap();
        assert!(read(place.path()).unwrap_err().help().unwrap().contains("version = 1"));
        assert!(read(&place.path().join("missing")).is_err());
    }

    #[test]
    fn text_is_limited_and_must_be_utf8() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a.toml"), vec![b'#'; MAX_TEXT_BYTES]).unwrap();
        read(place.path()).unwrap();
        fs::write(place.path().join("b.toml"), "#").unwrap();
        assert!(read(place.path()).unwrap_err().sentence().contains("MAX_TEXT_BYTES"));
        fs::write(place.path().join("a.toml"), b"a\xff").unwrap();
        assert!(read(place.path()).unwrap_err().sentence().contains("not UTF-8 at byte 1"));
        fs::remove_file(place.path().join("a.toml")).unwrap();
        fs::create_dir(place.path().join("a.toml")).unwrap();
        assert!(read(place.path()).unwrap_err().sentence().contains("not a regular file"));
    }
}
