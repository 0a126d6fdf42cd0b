//! Files without secrets that go from machine to machine: trust documents, requests, certificates, seals. Read with a
//! limit, written whole or not at all.

use crate::{key_file, secret_file};
use anyhow::{Context as _, bail};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Reads a file of at most so many bytes, a limit with its name.
pub(crate) fn read(path: &Path, (limit, most): (&str, usize)) -> anyhow::Result<Vec<u8>> {
    let open = || -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            bail!("larger than {most} bytes ({limit})");
        }
        Ok(bytes)
    };
    open().with_context(|| format!("reading {}", path.display()))
}

/// Writes a file that must not exist yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    key_file::write_new(path, bytes).with_context(|| format!("making {}", path.display()))
}

/// Writes a file in place of an earlier version of itself.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    secret_file::write(path, bytes)
}
