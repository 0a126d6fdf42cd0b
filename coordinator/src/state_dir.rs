//! The state directory: where everything is, and how secrets come onto the disk and off it again.
//!
//! A secret is never readable by anyone else, not even for a moment: files are made 0600 under a temporary name
//! whatever the umask says, synced, and only then given their name, which they never take from another file.
//! What we read must still be ours alone (E3, E4).

use crate::issuer;
use anyhow::{Context, Result, bail, ensure};
use bulkhead_identity::IdentityKey;
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest key, certificate or document that is read from the state directory.
pub const MAX_STATE_FILE_BYTES: u64 = 1024 * 1024;
/// Permission bits of group and others.
const NOT_OWNER: u32 = 0o077;

/// Paths below one state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// Every single file below the state directory that a backup has to hold, besides the journal.
pub const BACKED_UP: &[&str] = &["trust.cbor", issuer::KEY, issuer::CERTIFICATE, "identity.key", "init.toml"];
/// Files that a backup holds if they are there: keys that may have moved to other machines, and an issuer that is to
/// follow.
pub const BACKED_UP_IF_THERE: &[&str] =
    &["operator/root.key", "operator/operator.key", POLICY_KEY, issuer::NEXT_KEY, issuer::NEXT_CERTIFICATE];
/// The policy key, as long as policy is signed here.
pub const POLICY_KEY: &str = "policy.key";

impl StateDir {
    /// Makes the directory for a new coordinator, 0700.
    ///
    /// # Errors
    /// It cannot be made, or holds something already.
    pub fn create(root: &Path) -> Result<Self> {
        make_private(root)?;
        let mut entries =
            std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
        if let Some(entry) = entries.next() {
            let found = entry.map(|e| e.file_name().display().to_string()).unwrap_or_default();
            bail!(
                "{} is not empty (it holds {found}); nothing was changed. Give another directory with --state, or move it away",
                root.display()
            );
        }
        Self::open(root)
    }

    /// Opens an existing state directory.
    ///
    /// # Errors
    /// It is missing, is not ours, or others may read or change it.
    pub fn open(root: &Path) -> Result<Self> {
        let found = std::fs::symlink_metadata(root).with_context(|| {
            format!("cannot use {}: run `bulkhead-coordinator init` first", root.display())
        })?;
        ensure!(found.is_dir(), "{} is not a directory", root.display());
        ensure!(
            found.uid() == rustix::process::geteuid().as_raw(),
            "{} belongs to user {}, but this process runs as {}",
            root.display(),
            found.uid(),
            rustix::process::geteuid().as_raw()
        );
        ensure!(
            found.mode() & NOT_OWNER == 0,
            "{} is open to other users (mode {:o}): chmod 0700 it",
            root.display(),
            found.mode() & 0o7777
        );
        Ok(Self { root: root.to_owned() })
    }

    /// A path below the directory.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The journal's directory.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path("journal")
    }

    /// sled's directory: can be deleted at any time.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.path("index.sled")
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// It is missing, not ours alone, or no key.
    pub fn key(&self, relative: &str) -> Result<IdentityKey> {
        let der = self.read(relative)?;
        IdentityKey::from_pkcs8(&der)
            .with_context(|| format!("{} is not a key", self.path(relative).display()))
    }

    /// Writes a private key that must not exist yet.
    ///
    /// # Errors
    /// It exists or cannot be written.
    pub fn write_key(&self, relative: &str, key: &IdentityKey) -> Result<()> {
        self.write_new(relative, &key.to_pkcs8())
    }

    /// Writes a file that must not exist yet: 0600, synced, then named.
    ///
    /// # Errors
    /// It exists or cannot be written.
    pub fn write_new(&self, relative: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            make_private(parent)?;
        }
        write_new(&path, bytes)
    }

    /// Reads a file that must be ours alone.
    ///
    /// # Errors
    /// It is missing, a link, larger than [`MAX_STATE_FILE_BYTES`], or open to other users.
    pub fn read(&self, relative: &str) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.path(relative);
        let mut bytes = Zeroizing::new(Vec::new());
        let file = open_private(&path)?;
        file.take(MAX_STATE_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            bytes.len() as u64 <= MAX_STATE_FILE_BYTES,
            "{} is larger than {MAX_STATE_FILE_BYTES} bytes (MAX_STATE_FILE_BYTES)",
            path.display()
        );
        Ok(bytes)
    }
}

/// Makes a directory that only its owner can enter, unless it is there.
///
/// # Errors
/// It cannot be made.
pub fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a new file: 0600 from its first moment, synced, and never in place of another.
///
/// # Errors
/// It exists or cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    name_new(file, path)
}

/// Gives a written temporary file its name, durably.
///
/// # Errors
/// The name is taken, or a sync failed.
pub fn name_new(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.as_file().sync_all().with_context(|| format!("cannot sync {}", path.display()))?;
    file.persist_noclobber(path)
        .map_err(|e| e.error)
        .with_context(|| format!("cannot create {}", path.display()))?;
    sync_directory(parent)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The sync failed.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).with_context(|| format!("cannot sync {}", path.display()))
}

/// Opens a file for reading that must be a plain file of ours that no one else can touch.
///
/// # Errors
/// It is missing, a link, or not ours alone.
pub fn open_private(path: &Path) -> Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let found = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(found.is_file(), "{} is not a plain file", path.display());
    ensure!(
        found.uid() == rustix::process::geteuid().as_raw() && found.mode() & NOT_OWNER == 0,
        "{} must belong to the user of the coordinator and be closed to all others (chmod 0600)",
        path.display()
    );
    Ok(file)
}

/// Held while one daemon uses a state directory; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a state directory.
    ///
    /// # Errors
    /// Another process holds it (E8).
    pub fn take(state: &StateDir) -> Result<Self> {
        let path = state.path("lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file.into() }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                bail!("another coordinator is using {}; stop it first", state.root().display())
            }
            Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    #[test]
    fn e4_directories_and_files_are_private_from_creation() {
        let (_parent, state) = fresh();
        state.write_new("operator/x.key", b"secret").unwrap();
        assert_eq!(fs::metadata(state.root()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.path("operator")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.path("operator/x.key")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(*state.read("operator/x.key").unwrap(), b"secret");
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let (_parent, state) = fresh();
        state.write_new("a", b"1").unwrap();
        assert!(state.write_new("a", b"2").is_err());
        assert_eq!(*state.read("a").unwrap(), b"1");
        assert!(StateDir::create(state.root()).is_err(), "a used directory is not initialised again");
    }

    #[test]
    fn e3_links_and_open_files_are_refused() {
        let (_parent, state) = fresh();
        state.write_new("real", b"1").unwrap();
        std::os::unix::fs::symlink(state.path("real"), state.path("link")).unwrap();
        assert!(state.read("link").is_err());
        fs::set_permissions(state.path("real"), Permissions::from_mode(0o640)).unwrap();
        assert!(state.read("real").is_err());
        fs::set_permissions(state.root(), Permissions::from_mode(0o755)).unwrap();
        assert!(StateDir::open(state.root()).is_err());
    }

    #[test]
    fn e8_a_second_daemon_is_refused_until_the_first_ends() {
        let (_parent, state) = fresh();
        let first = Lock::take(&state).unwrap();
        assert!(Lock::take(&state).is_err());
        drop(first);
        Lock::take(&state).unwrap();
    }
}
