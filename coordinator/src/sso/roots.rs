//! Whose certificates a provider may show: roots that the configuration names, or those of the system.

use anyhow::{Context, Result, ensure};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file of roots; distributions ship about 250 KiB.
pub const MAX_ROOTS_BYTES: u64 = 4 * 1024 * 1024;
/// Names a file of roots in place of the system's, as it does for OpenSSL.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Where distributions keep their roots: Debian and Arch, Fedora and RHEL, SUSE, Alpine.
const SYSTEM: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The roots in `file`, or the system's.
///
/// # Errors
/// There is no such file, or no root in it.
pub fn load(file: Option<&Path>) -> Result<RootCertStore> {
    let file = file.map_or_else(system, |file| Ok(file.to_owned()))?;
    let pem = read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    // One root that rustls cannot use must not take the others with it.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    ensure!(!roots.is_empty(), "{} holds no certificate in PEM", file.display());
    Ok(roots)
}

fn system() -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let known = || SYSTEM.iter().map(PathBuf::from).find(|file| file.exists());
    named
        .or_else(known)
        .context("this system has no roots of its own: install ca-certificates, or name a file in `ca`")
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    std::fs::File::open(file)?.take(MAX_ROOTS_BYTES).read_to_end(&mut pem)?;
    Ok(pem)
}
