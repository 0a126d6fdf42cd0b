//! Making the local socket where nobody else could have made it.
//!
//! Property: every directory above the socket belongs to root or to us and cannot be changed by others (unless
//! it is sticky, as /tmp), so what we find and make there is ours. The socket gets its owner and mode under
//! another name and then its own name at once: there is no moment in which others could connect.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Gid;

/// Directory: the group may enter, others not.
const DIRECTORY_MODE: u32 = 0o750;
/// Socket with a group that may read status.
const SHARED_SOCKET_MODE: u32 = 0o660;
/// Socket without one.
const ROOT_SOCKET_MODE: u32 = 0o600;
/// A group file longer than this is not searched.
const MAX_GROUP_FILE_BYTES: u64 = 8 * 1024 * 1024;
const GROUP_FILE: &str = "/etc/group";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another daemon answers there.
    #[error(
        "another bulkhead daemon listens on {0}: stop it with `bulkhead down`, or choose another --socket"
    )]
    InUse(PathBuf),
    /// Somebody else could have made, or could change, what is there.
    #[error("{path} is not safe to use: {why}; remove it, or choose another --socket")]
    Unsafe {
        /// The offending file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An operation failed.
    #[error("cannot {act} {path}")]
    File {
        /// What we were doing.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Binds `path`, readable for `group` if there is one.
///
/// # Errors
/// See [`SocketError`]; nothing that was there has been touched.
pub(crate) fn bind(path: &Path, group: Option<Gid>) -> Result<UnixListener, SocketError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    make_directory(directory, group)?;
    check_ancestors(directory)?;
    check_predecessor(path)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    // A process of our number died between binding and renaming; the directory is ours, so this is too.
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(failed("bind", &fresh))?;
    let mode = if group.is_some() { SHARED_SOCKET_MODE } else { ROOT_SOCKET_MODE };
    own(&fresh, group, mode)?;
    listener.set_nonblocking(true).map_err(failed("set up", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("name", path))?;
    Ok(listener)
}

/// The number of a group, from the local group file.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn group_id(name: &str) -> Result<Option<Gid>, SocketError> {
    use io::Read;
    let path = Path::new(GROUP_FILE);
    let mut text = String::new();
    match fs::File::open(path).and_then(|file| file.take(MAX_GROUP_FILE_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(group_in(&text, name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SocketError::File { act: "read", path: path.to_owned(), source }),
    }
}

fn group_in(text: &str, name: &str) -> Option<Gid> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let number = fields.nth(1)?.parse().ok()?;
        found.then(|| Gid::from_raw(number))
    })
}

/// Makes the directory with its owner and mode if it is not there. One that is there keeps its own.
fn make_directory(directory: &Path, group: Option<Gid>) -> Result<(), SocketError> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => own(directory, group, DIRECTORY_MODE),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(SocketError::File { act: "create", path: directory.to_owned(), source }),
    }
}

/// The directory of the socket must be ours, whole, and what is above it must not let others replace it.
pub(super) fn check_ancestors(directory: &Path) -> Result<(), SocketError> {
    let real = fs::canonicalize(directory).map_err(failed("find", directory))?;
    for (depth, ancestor) in real.ancestors().enumerate() {
        let metadata = fs::symlink_metadata(ancestor).map_err(failed("look at", ancestor))?;
        let refuse = |why| Err(SocketError::Unsafe { path: ancestor.to_owned(), why });
        if !is_ours(&metadata) {
            return refuse("it belongs to another user");
        }
        let sticky = metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && (depth == 0 || !sticky) {
            return refuse("others may write to it");
        }
    }
    Ok(())
}

/// A socket that was left behind may be replaced; anything else at this name may not.
fn check_predecessor(path: &Path) -> Result<(), SocketError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::File { act: "look at", path: path.to_owned(), source }),
    };
    let refuse = |why| Err(SocketError::Unsafe { path: path.to_owned(), why });
    if !metadata.file_type().is_socket() {
        return refuse("it is not a socket");
    }
    if !is_ours(&metadata) {
        return refuse("it belongs to another user");
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw()
}

fn own(path: &Path, group: Option<Gid>, mode: u32) -> Result<(), SocketError> {
    if group.is_some() {
        rustix::fs::chown(path, None, group)
            .map_err(io::Error::from)
            .map_err(failed("set the group of", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

fn failed(act: &'static str, path: &Path) -> impl Fn(io::Error) -> SocketError {
    move |source| SocketError::File { act, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tempfile::TempDir;

    /// Whatever the umask is.
    fn private() -> TempDir {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directory_and_socket_are_closed_to_others() {
        let dir = private();
        let path = dir.path().join("run/bulkhead.sock");
        let _listener = bind(&path, None).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o750, 0o600));
    }

    #[test]
    fn a_group_may_connect_when_there_is_one() {
        let dir = private();
        let path = dir.path().join("run/bulkhead.sock");
        let group = Gid::from_raw(fs::metadata(dir.path()).unwrap().gid());
        let _listener = bind(&path, Some(group)).unwrap();
        assert_eq!(mode(&path), 0o660);
    }

    #[test]
    fn a_second_daemon_is_refused_and_a_dead_socket_replaced() {
        let dir = private();
        let path = dir.path().join("bulkhead.sock");
        let first = bind(&path, None).unwrap();
        assert!(matches!(bind(&path, None), Err(SocketError::InUse(_))));
        drop(first);
        assert!(path.exists());
        bind(&path, None).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = private();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(bind(&open.join("bulkhead.sock"), None), Err(SocketError::Unsafe { .. })));
        let below = open.join("below");
        fs::create_dir(&below).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(bind(&below.join("bulkhead.sock"), None), Err(SocketError::Unsafe { .. })));
    }

    #[test]
    fn a_file_or_link_in_the_sockets_place_is_refused() {
        let dir = private();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(bind(&file, None), Err(SocketError::Unsafe { .. })));
        assert!(matches!(bind(&link, None), Err(SocketError::Unsafe { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let text = "root:x:0:\nbulkhead-x:x:5:\nbulkhead:x:77:ann,bob\nbroken\n";
        assert_eq!(group_in(text, "bulkhead"), Some(Gid::from_raw(77)));
        assert_eq!(group_in(text, "bulk"), None);
    }
}
