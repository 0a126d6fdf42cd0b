//! Files that hold secrets. They are 0600 from the moment they exist, appear whole or not at all, and a symbolic
//! link in their place is replaced, never followed.

use crate::screen::remark;
use anyhow::{Context as _, bail};
use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

/// No token or session is near this.
pub(crate) const MAX_SECRET_FILE_BYTES: u64 = 1024 * 1024;

/// Writes `secret` to `path` by a synced temporary file beside it and a rename. Makes missing directories 0700.
pub(crate) fn write(path: &Path, secret: &[u8]) -> anyhow::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
    }
    let replace = || -> anyhow::Result<()> {
        // tempfile creates with O_EXCL and mode 0600.
        let mut file = tempfile::Builder::new().prefix(".bulkhead-").tempfile_in(directory)?;
        file.write_all(secret)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()?;
        Ok(())
    };
    replace().with_context(|| format!("writing {}", path.display()))
}

/// Reads a secret from a file, or from standard input when `path` is `-`. Warns when others could read it too.
pub(crate) fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    if path == Path::new("-") {
        return read_limited(std::io::stdin().lock()).context("reading standard input");
    }
    let open = || -> anyhow::Result<Zeroizing<String>> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        // A process substitution or credential socket is a pipe: only regular files have modes worth a warning.
        if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
            remark(&format!(
                "warning: others may read {}: chmod 600 it, or delete it after use",
                path.display()
            ));
        }
        read_limited(file)
    };
    open().with_context(|| format!("reading {}", path.display()))
}

fn read_limited(from: impl std::io::Read) -> anyhow::Result<Zeroizing<String>> {
    // Reserved in full, so that growing leaves no copies of the secret behind for small files.
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    from.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET_FILE_BYTES {
        bail!("larger than {MAX_SECRET_FILE_BYTES} bytes (MAX_SECRET_FILE_BYTES)");
    }
    Ok(text)
}

/// Removes a secret's file; that it is gone already is fine.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_0600_in_a_0700_directory_and_replaces_a_link_instead_of_following_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/token");
        write(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

        let target = place.path().join("victim");
        fs::write(&target, "untouched").unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, b"secret").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(read(&link).unwrap().as_str(), "secret");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(format!("{error:#}").contains("MAX_SECRET_FILE_BYTES"), "{error:#}");
    }
}
