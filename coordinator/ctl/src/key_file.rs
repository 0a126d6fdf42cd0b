//! Private keys of operators, roots and policy on an administrator's machine: PKCS#8, the same files that
//! `bulkhead-coordinator init` writes. A key is 0600 from the moment it exists, never takes another file's place, and
//! is not used while others could read it.

use anyhow::{Context as _, anyhow, ensure};
use bulkhead_identity::{IdentityKey, Serial};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

/// No key is near this.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Makes a new key in a new file.
pub(crate) fn create(path: &Path) -> anyhow::Result<IdentityKey> {
    let key = IdentityKey::from_seed(random()?);
    write_new(path, &key.to_pkcs8()).with_context(|| format!("making {}", path.display()))?;
    Ok(key)
}

/// Reads a key that is ours alone.
pub(crate) fn read(path: &Path) -> anyhow::Result<IdentityKey> {
    let open = || -> anyhow::Result<IdentityKey> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        // A pipe or a credential has no mode worth a look.
        ensure!(
            !found.is_file() || found.permissions().mode() & 0o077 == 0,
            "others may read this key (mode {:o}): chmod 600 it, and ask yourself who has",
            found.mode() & 0o7777
        );
        let mut der = Zeroizing::new(Vec::with_capacity(128));
        file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut der)?;
        Ok(IdentityKey::from_pkcs8(&der)?)
    };
    open().with_context(|| format!("reading the key {}", path.display()))
}

/// Writes a new file, 0600 and whole or not at all; what exists stays.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // tempfile creates with O_EXCL and mode 0600.
    let mut file = tempfile::Builder::new().prefix(".bulkhead-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// 32 bytes of the kernel's randomness.
pub(crate) fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|error| anyhow!("the kernel gives no randomness: {error}"))?;
    Ok(bytes)
}

/// A random serial number for a CA's certificate.
pub(crate) fn serial() -> anyhow::Result<Serial> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&random()?[..16]);
    Serial::from_entropy(bytes).context("the kernel's randomness is all zero")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_key_is_private_from_creation_and_never_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("operator.key");
        let key = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert!(create(&path).is_err(), "it is there already");
        assert_eq!(read(&path).unwrap().public(), key.public());
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("operator.key");
        create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", read(&path).err().unwrap()).contains("chmod 600"));
    }
}
