//! One block of lines in /etc/resolv.conf that points the host at the mesh's resolver, and its exact removal.
//!
//! Property: the host's own DNS is never broken. Every original byte stays, below our block; our resolver
//! refuses what is not of the mesh, and a stub resolver that is refused asks the next server. What we wrote
//! is recorded before it is written, so that the original comes back byte for byte even after kill -9 in the
//! middle of a write; lines that others changed meanwhile are left as they made them.
//!
//! [`insert`] on start, [`restore`] on down, on leave, and on the next start without `--write-resolv-conf`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Where the C library looks.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A resolv.conf longer than this is not one.
const MAX_RESOLV_CONF_BYTES: usize = 64 * 1024;
/// The record of what we wrote, in the state directory.
const RECORD: &str = "resolv.conf.before";
/// The C library asks no more servers than this (`MAXNS` in resolv.h).
const MAX_NAMESERVERS: usize = 3;
/// What the C library asks when the file names no server.
const DEFAULT_NAMESERVER: &str = "127.0.0.1";

/// Why resolv.conf was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolvError {
    /// An operation on a file failed.
    #[error("cannot {act} {path}")]
    File {
        /// What we were doing.
        act: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is larger than any resolv.conf.
    #[error("{0} exceeds {MAX_RESOLV_CONF_BYTES} bytes (MAX_RESOLV_CONF_BYTES)")]
    TooLong(PathBuf),
    /// Our own record cannot be read.
    #[error("{0} is damaged; compare it with resolv.conf, then delete it")]
    Record(PathBuf),
}

/// What the file was and what we made of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    path: PathBuf,
    before: Vec<u8>,
    written: Vec<u8>,
}

/// Puts our server first in `path`; the record of it goes to `state`. Returns what the user should know.
///
/// # Errors
/// See [`ResolvError`]; the file is then as it was.
pub(crate) fn insert(path: &Path, state: &Path, server: IpAddr) -> Result<Vec<String>, ResolvError> {
    restore(path, state)?;
    let target = follow(path)?;
    let before = read(&target)?;
    let mut written = block(state, server, &before).into_bytes();
    written.extend_from_slice(&before);
    let record = Record { path: target.clone(), before, written };
    save(state, &record)?;
    replace(&target, &record.written).map_err(failed("write", &target))?;
    Ok(cautions(&record.before))
}

/// Removes what [`insert`] put there. Does nothing when nothing of ours is there.
///
/// # Errors
/// See [`ResolvError`]; the record is kept, so that it can be tried again.
pub(crate) fn restore(path: &Path, state: &Path) -> Result<(), ResolvError> {
    let record = load(state)?;
    let target = match &record {
        Some(record) => record.path.clone(),
        None => match follow(path) {
            Ok(target) => target,
            Err(_) => return Ok(()),
        },
    };
    let current = match read(&target) {
        Ok(current) => current,
        Err(ResolvError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return forget(state);
        }
        Err(error) => return Err(error),
    };
    if let Some(original) = original(&current, record.as_ref(), state) {
        replace(&target, &original).map_err(failed("restore", &target))?;
    }
    forget(state)
}

/// What `current` should become; `None` when it holds nothing of ours.
fn original(current: &[u8], record: Option<&Record>, state: &Path) -> Option<Vec<u8>> {
    // Whole, or cut short by a crash in the middle of inserting or of restoring.
    let ours = |record: &&Record| record.written.starts_with(current) || record.before.starts_with(current);
    match record.filter(ours) {
        Some(record) => (current != record.before).then(|| record.before.clone()),
        None => without_block(current, state),
    }
}

/// `current` without our block, wherever in the file it is now; `None` when it is not there whole.
fn without_block(current: &[u8], state: &Path) -> Option<Vec<u8>> {
    let (begin, end) = markers(state);
    let start = find(current, begin.as_bytes())?;
    let length = find(&current[start..], end.as_bytes())? + end.len();
    let mut rest = current[..start].to_vec();
    rest.extend_from_slice(&current[start + length..]);
    Some(rest)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// First and last line of our block. They name the state directory, so that two daemons that share the file
/// (in two network namespaces of one host) each remove their own.
fn markers(state: &Path) -> (String, String) {
    let tag = state.display().to_string().escape_default().to_string();
    (format!("# begin bulkhead {tag}\n"), format!("# end bulkhead {tag}\n"))
}

fn block(state: &Path, server: IpAddr, before: &[u8]) -> String {
    let (begin, end) = markers(state);
    let mut block = format!(
        "{begin}# Names of the mesh only; everything else is refused here and asked of the servers below.\n\
         # `bulkhead down` removes these lines.\nnameserver {server}\n"
    );
    // Without any server the C library asks this one; naming ours would take that away.
    if nameservers(before) == 0 {
        block.push_str(&format!("nameserver {DEFAULT_NAMESERVER}\n"));
    }
    block + &end
}

fn nameservers(file: &[u8]) -> usize {
    lines(file).filter(|line| line.first().is_some_and(|word| *word == "nameserver")).count()
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.split_whitespace().collect())
}

/// What in the original file weakens or is weakened by our line.
fn cautions(before: &[u8]) -> Vec<String> {
    let mut cautions = Vec::new();
    if nameservers(before) >= MAX_NAMESERVERS {
        cautions.push(format!(
            "resolv.conf had {} servers; the C library asks only the first {MAX_NAMESERVERS}, ours among them",
            nameservers(before)
        ));
    }
    if lines(before).any(|line| line.first() == Some(&"options") && line.contains(&"rotate")) {
        cautions.push(
            "resolv.conf has `options rotate`: names of the mesh may be asked of other servers first".into(),
        );
    }
    cautions
}

/// The file behind any symbolic links, so that a link stays a link.
fn follow(path: &Path) -> Result<PathBuf, ResolvError> {
    fs::canonicalize(path).map_err(failed("find", path))
}

fn read(path: &Path) -> Result<Vec<u8>, ResolvError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_RESOLV_CONF_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(failed("read", path))?;
    if bytes.len() > MAX_RESOLV_CONF_BYTES {
        return Err(ResolvError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Atomically where that is possible; in place where the file is a mount of its own (containers, `ip netns exec`)
/// or its directory cannot be written. The record makes up for what an in-place write lacks.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match replace_by_rename(path, bytes) {
        Ok(()) => Ok(()),
        Err(error) if in_place_instead(&error) => {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        }
        Err(error) => Err(error),
    }
}

fn in_place_instead(error: &io::Error) -> bool {
    let in_place = [Errno::BUSY, Errno::XDEV, Errno::ROFS, Errno::ACCESS, Errno::PERM];
    Errno::from_io_error(error).is_some_and(|errno| in_place.contains(&errno))
}

fn replace_by_rename(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let before = fs::metadata(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".resolv.conf.").tempfile_in(directory)?;
    file.write_all(bytes)?;
    rustix::fs::fchown(
        &file,
        Some(rustix::fs::Uid::from_raw(before.uid())),
        Some(rustix::fs::Gid::from_raw(before.gid())),
    )?;
    file.as_file().set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

fn save(state: &Path, record: &Record) -> Result<(), ResolvError> {
    let path = state.join(RECORD);
    let bytes = serde_json::to_vec(record).map_err(|error| ResolvError::File {
        act: "encode",
        path: path.clone(),
        source: error.into(),
    })?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(state)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(state)?.sync_all()
    };
    write().map_err(failed("record the original in", &path))
}

fn load(state: &Path) -> Result<Option<Record>, ResolvError> {
    let path = state.join(RECORD);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| ResolvError::Record(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ResolvError::File { act: "read", path, source }),
    }
}

fn forget(state: &Path) -> Result<(), ResolvError> {
    let path = state.join(RECORD);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(act: &'static str, path: &Path) -> impl Fn(io::Error) -> ResolvError {
    move |source| ResolvError::File { act, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 127, 255, 53));

    fn host(original: &[u8]) -> (TempDir, PathBuf, PathBuf) {
        let dir = TempDir::new().unwrap();
        let (path, state) = (dir.path().join("resolv.conf"), dir.path().join("state"));
        fs::write(&path, original).unwrap();
        fs::create_dir(&state).unwrap();
        (dir, path, state)
    }

    fn check_round_trip(original: &[u8]) {
        let (_dir, path, state) = host(original);
        insert(&path, &state, SERVER).unwrap();
        let written = fs::read(&path).unwrap();
        assert!(written.ends_with(original));
        assert!(find(&written, b"nameserver 100.127.255.53\n").is_some());
        restore(&path, &state).unwrap();
        assert_eq!(fs::read(&path).unwrap(), original);
        assert!(!state.join(RECORD).exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_original_comes_back_byte_for_byte(original in proptest::collection::vec(any::<u8>(), 0..400)) {
            check_round_trip(&original);
        }
    }

    #[test]
    fn the_original_servers_stay_below_ours() {
        let (_dir, path, state) = host(b"search acme.example\nnameserver 10.0.0.2\n");
        insert(&path, &state, SERVER).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let servers: Vec<_> = text.lines().filter(|line| line.starts_with("nameserver")).collect();
        assert_eq!(servers, ["nameserver 100.127.255.53", "nameserver 10.0.0.2"]);
    }

    #[test]
    fn a_file_without_servers_keeps_the_library_default() {
        let (_dir, path, state) = host(b"# nothing\n");
        insert(&path, &state, SERVER).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("nameserver 127.0.0.1\n"));
    }

    #[test]
    fn inserting_twice_leaves_one_block() {
        let (_dir, path, state) = host(b"nameserver 10.0.0.2\n");
        insert(&path, &state, SERVER).unwrap();
        let once = fs::read(&path).unwrap();
        insert(&path, &state, SERVER).unwrap();
        assert_eq!(fs::read(&path).unwrap(), once);
    }

    #[test]
    fn a_write_cut_short_is_undone_from_the_record() {
        let original = b"nameserver 10.0.0.2\n";
        let (_dir, path, state) = host(original);
        insert(&path, &state, SERVER).unwrap();
        let written = fs::read(&path).unwrap();
        for length in (0..written.len()).step_by(9) {
            insert(&path, &state, SERVER).unwrap();
            fs::write(&path, &written[..length]).unwrap();
            restore(&path, &state).unwrap();
            assert_eq!(fs::read(&path).unwrap(), original, "inserting was cut at {length}");
        }
        for length in (0..original.len()).step_by(5) {
            insert(&path, &state, SERVER).unwrap();
            fs::write(&path, &original[..length]).unwrap();
            restore(&path, &state).unwrap();
            assert_eq!(fs::read(&path).unwrap(), original, "restoring was cut at {length}");
        }
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let (_dir, path, state) = host(b"nameserver 10.0.0.2\n");
        insert(&path, &state, SERVER).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("nameserver 10.0.0.3\n");
        fs::write(&path, &text).unwrap();
        restore(&path, &state).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 10.0.0.2\nnameserver 10.0.0.3\n");

        insert(&path, &state, SERVER).unwrap();
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        restore(&path, &state).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn two_daemons_on_one_file_each_remove_their_own() {
        let (dir, path, first) = host(b"nameserver 10.0.0.2\n");
        let second = dir.path().join("second");
        fs::create_dir(&second).unwrap();
        insert(&path, &first, SERVER).unwrap();
        insert(&path, &second, SERVER).unwrap();
        restore(&path, &first).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("100.127.255.53"));
        restore(&path, &second).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 10.0.0.2\n");
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let (dir, real, state) = host(b"nameserver 10.0.0.2\n");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        insert(&link, &state, SERVER).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("100.127.255.53"));
        restore(&link, &state).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "nameserver 10.0.0.2\n");
    }
}
