//! The certificate that browsers see. Others issue and renew it, as files; a new pair is taken up when the files
//! change, or at a SIGHUP. A pair that does not fit is refused whole, and the one before stays.
//!
//! TLS 1.3 and 1.2. There is no client certificate here, so nothing rests on a handshake that a resumed session would
//! pass over.

use crate::stop::Stop;
use crate::web::limits::{CERTIFICATE_LOOK, MAX_PEM_BYTES};
use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// A certificate in two files, and what is in force of them.
#[derive(Debug)]
pub struct WebCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

/// Inode, size and time of change of the two files.
type Stamps = [Option<(u64, u64, i64, i64)>; 2];

impl WebCertificate {
    /// Reads the pair.
    ///
    /// # Errors
    /// A file cannot be read, or is no PEM of its kind, or the key is not the certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let current = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// TLS for browsers.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Takes up new files until the stop.
    pub async fn follow(self: Arc<Self>, mut stop: Stop) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(reason = %error, "SIGHUP is not heard; the certificate's files are looked at instead");
                None
            }
        };
        let mut seen = self.stamps();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                () = stop.requested() => return,
                asked = asked => asked,
                () = tokio::time::sleep(CERTIFICATE_LOOK) => false,
            };
            self.look(asked, &mut seen);
        }
    }

    /// Reads files that are not as they were `seen` when they were read. Those that could not be read, perhaps
    /// because only one of the two was there, are looked at again.
    fn look(&self, asked: bool, seen: &mut Stamps) {
        let now = self.stamps();
        if !asked && now == *seen {
            return;
        }
        match read(&self.certificate, &self.key) {
            Ok(next) => {
                *seen = now;
                self.current.store(Arc::new(next));
                tracing::info!("the certificate of the pages was taken up anew");
            }
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "the certificate of the pages stays as it was");
            }
        }
    }

    /// What changes when a file is replaced or written.
    fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
        })
    }
}

impl ResolvesServerCert for WebCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let pem = bounded(certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not PEM", certificate.display()))?;
    ensure!(!chain.is_empty(), "{} holds no certificate", certificate.display());
    let pem = bounded(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("{} holds no private key in PEM", key.display()))?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider())
        .with_context(|| format!("{} and {} do not fit together", certificate.display(), key.display()))
}

fn bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let open = || -> Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        std::fs::File::open(path)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= MAX_PEM_BYTES, "larger than {MAX_PEM_BYTES} bytes (MAX_PEM_BYTES)");
        Ok(bytes)
    };
    open().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::certificate::Serial;
    use bulkhead_identity::{Authority, IdentityKey, Timestamp, TrustDomain};
    use std::path::PathBuf;

    fn pem(label: &str, der: &[u8]) -> String {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    /// A certificate and its key, as PEM.
    fn pair(seed: u8) -> (String, String) {
        let key = || IdentityKey::from_seed(Zeroizing::new([seed; 32]));
        let domain = TrustDomain::parse("acme.example").unwrap();
        let (from, end) = (Timestamp(1_800_000_000), Timestamp(1_900_000_000));
        let authority = Authority::create(key(), &domain, Serial([1; 16]), from, end).unwrap();
        (pem("CERTIFICATE", authority.root_der()), pem("PRIVATE KEY", &key().to_pkcs8()))
    }

    fn write(place: &Path, (certificate, key): &(String, String)) -> (PathBuf, PathBuf) {
        let paths = (place.join("web.pem"), place.join("web.key"));
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        paths
    }

    fn shown(web: &WebCertificate) -> Vec<CertificateDer<'static>> {
        web.current.load().cert.clone()
    }

    #[test]
    fn a_pair_that_does_not_fit_is_refused_whole() {
        let place = tempfile::tempdir().unwrap();
        let ((certificate, key), (_, other_key)) = (pair(1), pair(2));
        let load = |pair: (String, String)| {
            let (certificate, key) = write(place.path(), &pair);
            WebCertificate::load(&certificate, &key).map(drop).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(load((certificate.clone(), key.clone())), Ok(()));
        assert!(load((certificate.clone(), other_key)).unwrap_err().contains("do not fit together"));
        assert!(load((String::new(), key.clone())).unwrap_err().contains("no certificate"));
        assert!(load((certificate.clone(), certificate)).unwrap_err().contains("no private key"));
        let long = "x".repeat(MAX_PEM_BYTES as usize + 1);
        assert!(load((long, key)).unwrap_err().contains("MAX_PEM_BYTES"));
    }

    #[test]
    fn new_files_are_taken_up_and_a_damaged_pair_leaves_what_was_in_force() {
        let place = tempfile::tempdir().unwrap();
        let (certificate, key) = write(place.path(), &pair(1));
        let web = WebCertificate::load(&certificate, &key).unwrap();
        let (first, mut seen) = (shown(&web), web.stamps());
        write(place.path(), &(pair(2).0, "damaged".to_owned()));
        web.look(false, &mut seen);
        assert_eq!(shown(&web), first);
        std::fs::remove_file(&key).unwrap();
        web.look(false, &mut seen);
        assert_eq!(shown(&web), first);
        write(place.path(), &pair(2));
        web.look(false, &mut seen);
        assert_ne!(shown(&web), first);
        let second = web.current.load_full();
        web.look(false, &mut seen);
        assert!(Arc::ptr_eq(&second, &web.current.load_full()), "it is read once");
    }

    #[test]
    fn files_that_could_not_be_read_once_are_tried_again() {
        let place = tempfile::tempdir().unwrap();
        let (certificate, key) = write(place.path(), &pair(1));
        let web = WebCertificate::load(&certificate, &key).unwrap();
        let (first, mut seen) = (shown(&web), web.stamps());
        let (new_certificate, new_key) = pair(2);
        write(place.path(), &(new_certificate, "x".repeat(new_key.len())));
        let stamp = std::fs::metadata(&key).unwrap().modified().unwrap();
        web.look(false, &mut seen);
        assert_eq!(shown(&web), first);
        // Readable now, which no stamp tells.
        std::fs::write(&key, new_key).unwrap();
        std::fs::File::options().write(true).open(&key).unwrap().set_modified(stamp).unwrap();
        web.look(false, &mut seen);
        assert_ne!(shown(&web), first);
    }
}
