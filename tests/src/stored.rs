//! What a program keeps on disk, looked at while it runs.

use std::fs::{read, read_dir, symlink_metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{SOON, until_some};

/// A file, a folder, or something else that has a name.
#[derive(Debug)]
pub struct Stored {
    /// Where.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it; of a file only.
    pub bytes: Option<Vec<u8>>,
}

/// Everything below `folder`. Programs replace their files by renaming new ones: where something is gone between being
/// listed and being looked at, everything is looked at again.
///
/// # Panics
/// When something cannot be read, or there is no such folder.
#[must_use]
pub fn stored(folder: &Path) -> Vec<Stored> {
    until_some(&format!("a look at {}", folder.display()), SOON, || {
        let mut found = Vec::new();
        match look(folder, &mut found) {
            Ok(()) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", folder.display()),
        }
    })
}

fn look(folder: &Path, found: &mut Vec<Stored>) -> Result<(), Error> {
    for entry in read_dir(folder)? {
        let path = entry?.path();
        let meta = symlink_metadata(&path)?;
        let bytes = meta.is_file().then(|| read(&path)).transpose()?;
        if meta.is_dir() {
            look(&path, found)?;
        }
        found.push(Stored { path, mode: meta.permissions().mode() & 0o7777, bytes });
    }
    Ok(())
}
