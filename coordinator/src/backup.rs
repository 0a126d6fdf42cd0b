//! `backup` and `restore`: the keys and the journal in one file.
//!
//! A backup is consistent although the coordinator goes on: it ends with a synced head (see
//! [`crate::journal::reader::plan_copy`]). A restore only ever fills an empty directory, verifies everything it
//! wrote, and records in the journal that what follows came from a backup: from there the coordinator is
//! read-only until an administrator accepts, and accepting jumps over every epoch and generation that a node
//! may have seen since. So yesterday's backup cannot silently un-revoke anything (P5, S5).
//!
//! ```text
//! magic [8] | (name length u16, name, length u64, bytes)* | 0 u16 | SHA-256 of all that [32]
//! ```

use crate::boot;
use crate::clock::wall;
use crate::driver::entry;
use crate::journal::reader::plan_copy;
use crate::journal::{Journal, Options, head, segment};
use crate::state_dir::{BACKED_UP, BACKED_UP_IF_THERE, Lock, StateDir, name_new, open_private};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_coordinator_engine::Event;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"BHKBACK1";
const MAX_NAME_BYTES: usize = 64;
const DIGEST_BYTES: u64 = 32;

/// What a backup or restore moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Files.
    pub files: usize,
    /// Entries of the journal.
    pub entries: u64,
}

/// Writes a backup of `root` to a new file, 0600: it holds the keys.
///
/// # Errors
/// The file exists, or something cannot be read or written.
pub fn backup(root: &Path, to: &Path) -> Result<Moved> {
    let state = StateDir::open(root)?;
    ensure!(!to.exists(), "{} exists; a backup never replaces one", to.display());
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(parent)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    let mut out = Hashing::new(file);
    out.write_all(MAGIC)?;
    let mut files = 0;
    let there = BACKED_UP_IF_THERE.iter().filter(|name| state.path(name).exists());
    for name in BACKED_UP.iter().chain(there) {
        let bytes = state.read(name)?;
        add(&mut out, name, bytes.len() as u64, bytes.as_slice())?;
        files += 1;
    }
    let plan = plan_copy(&state.journal())?;
    let record = plan.head.encode();
    add(&mut out, &format!("journal/{}", head::FILE_NAME), record.len() as u64, record.as_slice())?;
    for (first, length) in &plan.segments {
        let path = segment::path(&state.journal(), *first);
        let file = open_private(&path)?;
        add(&mut out, &segment_name(*first), *length, file)
            .with_context(|| format!("copying {}", path.display()))?;
    }
    out.write_all(&0_u16.to_be_bytes())?;
    let digest = out.digest();
    let mut file = out.inner;
    file.write_all(&digest)?;
    name_new(file, to)?;
    Ok(Moved { files: files + 1 + plan.segments.len(), entries: plan.head.link.sequence })
}

/// Restores a backup into an empty directory.
///
/// # Errors
/// The backup is damaged, the directory is not empty, or the journal in it does not verify.
pub fn restore(from: &Path, root: &Path) -> Result<Moved> {
    let mut file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    check_digest(&mut file).with_context(|| format!("{} is not a whole backup", from.display()))?;
    let state = StateDir::create(root)?;
    let files = extract(&mut BufReader::new(file), &state)?;
    let _lock = Lock::take(&state)?;
    let mut recovered = boot::recover(&state, Options::default())?;
    let entries = recovered.journal.end().sequence;
    recovered.journal.append(&entry(&Event::restored(wall())))?;
    recovered.journal.sync()?;
    Ok(Moved { files, entries })
}

fn segment_name(first: u64) -> String {
    format!("journal/{first:020}.{}", segment::EXTENSION)
}

fn add(out: &mut impl Write, name: &str, length: u64, from: impl Read) -> Result<()> {
    let name_length = u16::try_from(name.len()).context("the name is too long")?;
    out.write_all(&name_length.to_be_bytes())?;
    out.write_all(name.as_bytes())?;
    out.write_all(&length.to_be_bytes())?;
    let copied = io::copy(&mut from.take(length), out)?;
    ensure!(copied == length, "{name} ended after {copied} of {length} bytes");
    Ok(())
}

/// Reads the whole file once before a byte of it is used.
fn check_digest(file: &mut File) -> Result<()> {
    let length = file.metadata()?.len();
    let body = length.checked_sub(DIGEST_BYTES).context("it is too short")?;
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut BufReader::new(&mut *file).take(body), &mut hashing)?;
    file.seek(io::SeekFrom::Start(body))?;
    let mut digest = Vec::new();
    file.take(DIGEST_BYTES).read_to_end(&mut digest)?;
    ensure!(digest == hashing.digest(), "its checksum does not match");
    file.rewind()?;
    Ok(())
}

fn extract(from: &mut impl Read, state: &StateDir) -> Result<usize> {
    ensure!(read_array::<8>(from)? == *MAGIC, "this is not a backup of a coordinator");
    let mut files = 0;
    loop {
        let name_length = usize::from(u16::from_be_bytes(read_array(from)?));
        if name_length == 0 {
            return Ok(files);
        }
        ensure!(name_length <= MAX_NAME_BYTES, "a name in the backup is too long");
        let mut name = vec![0; name_length];
        from.read_exact(&mut name)?;
        let name = String::from_utf8(name).context("a name in the backup is not text")?;
        // Only names that a backup can have: a crafted one must not write elsewhere.
        if !is_known(&name) {
            bail!("{name:?} does not belong in a backup");
        }
        let length = u64::from_be_bytes(read_array(from)?);
        write_file(&state.path(&name), from, length)?;
        files += 1;
    }
}

fn is_known(name: &str) -> bool {
    let journal = name.strip_prefix("journal/").is_some_and(|file| {
        let first = file.strip_suffix(segment::EXTENSION).and_then(|f| f.strip_suffix('.'));
        file == head::FILE_NAME
            || first.is_some_and(|f| f.len() == 20 && f.bytes().all(|b| b.is_ascii_digit()))
    });
    journal || BACKED_UP.contains(&name) || BACKED_UP_IF_THERE.contains(&name)
}

fn write_file(path: &Path, from: &mut impl Read, length: u64) -> Result<()> {
    let parent = path.parent().context("a path without a directory")?;
    crate::state_dir::make_private(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    let copied = io::copy(&mut from.take(length), &mut file)?;
    ensure!(copied == length, "the backup ends inside {}", path.display());
    name_new(file, path)
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).context("the backup ends early")?;
    Ok(bytes)
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    inner: W,
    context: ring::digest::Context,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, context: ring::digest::Context::new(&ring::digest::SHA256) }
    }

    fn digest(&self) -> Vec<u8> {
        self.context.clone().finish().as_ref().to_vec()
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::TrustDomain;
    use std::fs;
    use std::path::PathBuf;

    fn deployment() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("state");
        crate::init::init(&root, &TrustDomain::parse("acme.example").unwrap(), &["c:1".to_owned()]).unwrap();
        (parent, root)
    }

    #[test]
    fn a_backup_restores_the_keys_and_the_journal_and_says_so_in_it() {
        let (parent, root) = deployment();
        let file = parent.path().join("backup");
        assert_eq!(backup(&root, &file).unwrap().entries, 1);
        assert!(backup(&root, &file).is_err(), "a backup never replaces one");
        let restored = parent.path().join("restored");
        restore(&file, &restored).unwrap();
        for name in BACKED_UP {
            assert_eq!(fs::read(root.join(name)).unwrap(), fs::read(restored.join(name)).unwrap(), "{name}");
        }
        let mut events = Vec::new();
        crate::journal::reader::verify(&restored.join("journal"), |frame| {
            events.push(crate::api::audit_entry(frame).event);
        })
        .unwrap();
        assert_eq!(events, ["initialised", "restored"]);
        assert!(restore(&file, &restored).is_err(), "a restore never replaces a deployment");
    }

    #[test]
    fn a_backup_with_any_changed_or_missing_byte_is_refused() {
        let (parent, root) = deployment();
        let file = parent.path().join("backup");
        backup(&root, &file).unwrap();
        let good = fs::read(&file).unwrap();
        let bad = parent.path().join("bad");
        let target = parent.path().join("restored");
        for place in (0..good.len()).step_by(7) {
            let mut bytes = good.clone();
            bytes[place] ^= 0x20;
            fs::write(&bad, &bytes).unwrap();
            assert!(restore(&bad, &target).is_err(), "byte {place}");
            fs::write(&bad, &good[..place]).unwrap();
            assert!(restore(&bad, &target).is_err(), "length {place}");
        }
        assert!(!target.exists(), "nothing was written");
    }

    #[test]
    fn e3_a_crafted_name_does_not_leave_the_directory() {
        for name in ["../x", "/etc/passwd", "journal/../x", "journal/x.segment", "lock", "operator/", ""] {
            assert!(!is_known(name), "{name:?}");
        }
        assert!(is_known("journal/00000000000000000001.segment") && is_known("journal/head"));
    }
}
