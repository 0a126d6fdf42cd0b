//! The company's own certificate authority for web servers: of the OpenID provider, of the coordinator's pages.
//! Who trusts it has been given its certificate; nothing in the laboratory overlooks an untrusted one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

/// An authority with its files; they go with the folder that it was made in.
#[derive(Debug)]
pub struct WebCa {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server serves with, both PEM.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The key of it.
    pub key: PathBuf,
}

impl WebCa {
    /// A new authority in `folder`, which it makes.
    ///
    /// # Errors
    /// When a key or a file cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder).context("making the authority's folder")?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Acme test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key)?;
        write_pem(&folder.join("ca.pem"), "CERTIFICATE", certificate.der())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Its certificate, PEM: who is given it trusts its servers.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A key and a certificate for the server at `address`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn issue(&self, name: &str, address: IpAddr) -> Result<ServerFiles> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::IpAddress(address));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = ServerFiles {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        write_pem(&files.certificate, "CERTIFICATE", certificate.der())?;
        write_pem(&files.key, "PRIVATE KEY", &key.serialize_der())?;
        Ok(files)
    }
}

/// Writes one object as PEM (RFC 7468, section 2).
///
/// # Errors
/// When the file cannot be written.
pub fn write_pem(path: &Path, label: &str, der: &[u8]) -> Result<()> {
    let text = BASE64.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    std::fs::write(path, pem).with_context(|| format!("writing {}", path.display()))
}
