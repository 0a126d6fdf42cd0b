//! A directory for secrets, entered once and held by its descriptor.
//!
//! Property: no other user's symlink, hard link, directory or loose mode decides what is read or where secrets are
//! written (E3, E4). A file is complete or absent: written aside, synced, renamed, and the directory synced. One
//! process holds the directory at a time (E8).
//!
//! How to use it: [`SecretDir::open`], then [`SecretDir::lock`] for whoever writes, then `read` and `write` by name.

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Largest file that is read; a map of ten thousand peers is about 10 MB.
pub(crate) const MAX_FILE_BYTES: u64 = 128 * 1024 * 1024;
/// How often a lock that is waited for is tried.
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// Owner reads and writes, nobody else anything.
const FILE_MODE: u32 = 0o600;
/// Owner only.
const DIR_MODE: u32 = 0o700;
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Any permission of group and others.
const OPEN_TO_OTHERS: u32 = 0o077;
/// In a sticky directory only an entry's owner may replace it.
const STICKY: u32 = 0o1000;

/// A directory that only this user can write.
#[derive(Debug)]
pub(crate) struct SecretDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Held as long as this process owns the directory; the kernel releases it with the process, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _fd: OwnedFd,
}

/// Why a directory or a file in it is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    /// The operating system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// The act.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Someone else could have put it there, or could change or read it.
    #[error("refusing {path}: {why}")]
    Unsafe {
        /// What.
        path: PathBuf,
        /// Why, and the remedy.
        why: String,
    },
    /// Another process holds the lock.
    #[error("{0} is in use by another bulkhead process; stop it first (`bulkhead down`)")]
    InUse(PathBuf),
    /// Longer than [`MAX_FILE_BYTES`].
    #[error("{0} exceeds the limit of {MAX_FILE_BYTES} bytes (MAX_FILE_BYTES)")]
    TooLong(PathBuf),
}

impl SecretDir {
    /// Opens `path`, making it (0700) if it is missing; its parent must exist, or is made as well.
    ///
    /// # Errors
    /// [`DirError::Unsafe`] for symlinks, foreign owners, and modes that let others write.
    pub(crate) fn open_or_make(path: &Path) -> Result<Self, DirError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
        match made {
            Ok(()) => Self::open(path),
            // A file or a dangling symlink: `open` says what is wrong with it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::open(path),
            Err(source) => Err(DirError::Io { what: "make directory", path: path.into(), source }),
        }
    }

    /// Opens `path`, which must exist.
    ///
    /// # Errors
    /// As [`SecretDir::open_or_make`].
    pub(crate) fn open(path: &Path) -> Result<Self, DirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => {
                unsafe_path(path, "it is not a directory, or a symbolic link".into())
            }
            other => DirError::Io { what: "open directory", path: path.into(), source: other.into() },
        })?;
        let dir = Self { fd, path: path.into() };
        dir.check(path, &dir.stat(&dir.fd, path)?, WRITABLE_BY_OTHERS)?;
        dir.check_ancestors()?;
        Ok(dir)
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`DirError::InUse`].
    pub(crate) fn lock(&self) -> Result<DirLock, DirError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let io = |errno: Errno| DirError::Io { what: "lock", path: self.path.clone(), source: errno.into() };
        // A description of its own, so that the lock ends when the guard does.
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(io)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirLock { _fd: fd }),
            Err(Errno::WOULDBLOCK) => Err(DirError::InUse(self.path.clone())),
            Err(errno) => Err(io(errno)),
        }
    }

    /// As [`SecretDir::lock`], but waits a little for a process that is just ending: one that was killed keeps its
    /// lock until the kernel has taken its interface apart.
    ///
    /// # Errors
    /// [`DirError::InUse`].
    pub(crate) fn lock_within(&self, patience: Duration) -> Result<DirLock, DirError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lock() {
                Err(DirError::InUse(_)) if Instant::now() < deadline => std::thread::park_timeout(LOCK_LOOK),
                outcome => return outcome,
            }
        }
    }

    /// The whole of a file; `None` when there is none.
    ///
    /// # Errors
    /// [`DirError::Unsafe`] for anything but a regular file with one name, of this user, closed to others.
    pub(crate) fn read(&self, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, DirError> {
        let path = self.path.join(name);
        // Not blocking: opening a FIFO that someone left here must not hang the daemon.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unsafe_path(&path, "it is a symbolic link".into())),
            Err(errno) => return Err(DirError::Io { what: "open", path, source: errno.into() }),
        };
        let stat = self.stat(&fd, &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unsafe_path(&path, "it is not a regular file".into()));
        }
        if stat.st_nlink != 1 {
            return Err(unsafe_path(&path, "it has a second name (hard link)".into()));
        }
        self.check(&path, &stat, OPEN_TO_OTHERS)?;
        let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if length > MAX_FILE_BYTES {
            return Err(DirError::TooLong(path));
        }
        // Sized in advance, because growing would leave copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
        match File::from(fd).take(MAX_FILE_BYTES).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(DirError::Io { what: "read", path, source }),
        }
    }

    /// Replaces a file, or makes it: mode 0600 from the first moment, synced before it gets its name.
    ///
    /// # Errors
    /// [`DirError::Io`]; the old file, if there was one, is whole and in place.
    pub(crate) fn write(&self, name: &'static str, bytes: &[u8]) -> Result<(), DirError> {
        let aside = aside(name);
        let io = |what| {
            let path = self.path.join(name);
            move |source: io::Error| DirError::Io { what, path, source }
        };
        // Left behind by a process that was killed while writing.
        self.unlink(&aside)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, aside.as_str(), flags, Mode::from_raw_mode(FILE_MODE))
            .map_err(|errno| io("create")(errno.into()))?;
        let mut file = File::from(fd);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(source) = written {
            // A full disk: do not hold on to the part that fitted.
            let _ = self.unlink(&aside);
            return Err(io("write")(source));
        }
        rustix::fs::renameat(&self.fd, aside.as_str(), &self.fd, name)
            .and_then(|()| rustix::fs::fsync(&self.fd))
            .map_err(|errno| io("put in place")(errno.into()))
    }

    /// Removes a file, and what a process that was killed while writing it left; one that is not there is removed
    /// already.
    ///
    /// # Errors
    /// [`DirError::Io`].
    pub(crate) fn remove(&self, name: &'static str) -> Result<(), DirError> {
        self.unlink(name)?;
        self.unlink(&aside(name))?;
        rustix::fs::fsync(&self.fd).map_err(|errno| DirError::Io {
            what: "sync",
            path: self.path.clone(),
            source: errno.into(),
        })
    }

    fn unlink(&self, name: &str) -> Result<(), DirError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(DirError::Io { what: "remove", path: self.path.join(name), source: errno.into() })
            }
        }
    }

    fn stat(&self, fd: impl AsFd, path: &Path) -> Result<Stat, DirError> {
        rustix::fs::fstat(fd).map_err(|errno| DirError::Io {
            what: "stat",
            path: path.into(),
            source: errno.into(),
        })
    }

    fn check(&self, path: &Path, stat: &Stat, forbidden: u32) -> Result<(), DirError> {
        let me = rustix::process::geteuid().as_raw();
        if stat.st_uid != me {
            return Err(unsafe_path(path, format!("it belongs to user {}, not to user {me}", stat.st_uid)));
        }
        let mode = stat.st_mode & 0o7777;
        if mode & forbidden != 0 {
            let right = mode & !forbidden;
            let why =
                format!("its mode {mode:o} opens it to other users; run: chmod {right:o} {}", path.display());
            return Err(unsafe_path(path, why));
        }
        Ok(())
    }

    /// Whoever may rename in a directory above may swap the whole of this one.
    fn check_ancestors(&self) -> Result<(), DirError> {
        let real = std::fs::canonicalize(&self.path).map_err(|source| DirError::Io {
            what: "find the real path of",
            path: self.path.clone(),
            source,
        })?;
        real.ancestors().skip(1).try_for_each(check_ancestor)
    }
}

fn check_ancestor(path: &Path) -> Result<(), DirError> {
    let stat = rustix::fs::stat(path).map_err(|errno| DirError::Io {
        what: "stat",
        path: path.into(),
        source: errno.into(),
    })?;
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != me && stat.st_uid != 0 {
        return Err(unsafe_path(path, format!("it belongs to user {}", stat.st_uid)));
    }
    if stat.st_mode & WRITABLE_BY_OTHERS != 0 && stat.st_mode & STICKY == 0 {
        return Err(unsafe_path(path, "other users may write in it".into()));
    }
    Ok(())
}

/// Where a file is written before it gets its name.
fn aside(name: &str) -> String {
    format!(".{name}.new")
}

fn unsafe_path(path: &Path, why: String) -> DirError {
    DirError::Unsafe { path: path.into(), why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn dir() -> (tempfile::TempDir, SecretDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = SecretDir::open(temp.path()).unwrap();
        (temp, dir)
    }

    fn check_refused(result: Result<impl std::fmt::Debug, DirError>) {
        assert!(matches!(result, Err(DirError::Unsafe { .. })), "{result:?}");
    }

    #[test]
    fn what_is_written_is_read_and_is_closed_to_others_e4() {
        let (temp, dir) = dir();
        let before = rustix::process::umask(Mode::empty());
        let written = dir.write("a", b"one").and_then(|()| dir.write("a", b"two"));
        rustix::process::umask(before);
        written.unwrap();
        assert_eq!(dir.read("a").unwrap().unwrap().as_slice(), b"two");
        let meta = std::fs::metadata(temp.path().join("a")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o600, 1));
    }

    #[test]
    fn a_missing_file_is_none_and_can_be_removed() {
        let (_temp, dir) = dir();
        assert!(dir.read("a").unwrap().is_none());
        dir.remove("a").unwrap();
    }

    #[test]
    fn symlinks_are_neither_read_nor_written_through_e3() {
        let (temp, dir) = dir();
        let victim = temp.path().join("victim");
        std::fs::write(&victim, b"victim").unwrap();
        symlink(&victim, temp.path().join("a")).unwrap();
        symlink(&victim, temp.path().join(".a.new")).unwrap();
        check_refused(dir.read("a"));
        dir.write("a", b"secret").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
        assert_eq!(dir.read("a").unwrap().unwrap().as_slice(), b"secret");
    }

    #[test]
    fn hard_links_and_loose_modes_are_refused_e3() {
        let (temp, dir) = dir();
        dir.write("a", b"x").unwrap();
        std::fs::hard_link(temp.path().join("a"), temp.path().join("b")).unwrap();
        check_refused(dir.read("a"));
        std::fs::remove_file(temp.path().join("b")).unwrap();
        std::fs::set_permissions(temp.path().join("a"), PermissionsExt::from_mode(0o640)).unwrap();
        check_refused(dir.read("a"));
    }

    #[test]
    fn a_directory_that_is_a_symlink_or_writable_by_others_is_refused_e3() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink(&real, temp.path().join("link")).unwrap();
        check_refused(SecretDir::open(&temp.path().join("link")));
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o770)).unwrap();
        check_refused(SecretDir::open(&real));
    }

    #[test]
    fn a_directory_below_one_that_others_may_rename_in_is_refused_e3() {
        let temp = tempfile::tempdir().unwrap();
        let state = temp.path().join("shared/mine/state");
        std::fs::create_dir_all(&state).unwrap();
        SecretDir::open(&state).unwrap();
        let shared = temp.path().join("shared");
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        check_refused(SecretDir::open(&state));
        std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o1777)).unwrap();
        SecretDir::open(&state).unwrap();
    }

    #[test]
    fn removing_a_file_removes_what_a_killed_write_left_of_it() {
        let (temp, dir) = dir();
        std::fs::write(temp.path().join(".a.new"), b"a key").unwrap();
        dir.remove("a").unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_directory_is_locked_once_e8() {
        let (_temp, dir) = dir();
        let lock = dir.lock().unwrap();
        assert!(matches!(dir.lock(), Err(DirError::InUse(_))));
        drop(lock);
        dir.lock().unwrap();
    }
}
