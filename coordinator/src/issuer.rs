//! `issuer`: how the issuing CA is replaced. Its next key is made here and never leaves; whoever holds a root's key
//! signs a certificate for it elsewhere; from the next start on it issues.
//!
//! Key and certificate change together, whenever the power fails: the next pair lies beside the one in use, the
//! certificate is written last, and a start that finds it finishes the change or does not begin it.

use crate::boot;
use crate::clock;
use crate::state_dir::{StateDir, open_private, sync_directory, write_new};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_identity::certificate::MAX_CERTIFICATE_BYTES;
use bulkhead_identity::{IdentityKey, Issuer, IssuerRequest, Revocations, Timestamp, Trust};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Key of the issuing CA in use.
pub const KEY: &str = "issuer.key";
/// Its certificate.
pub const CERTIFICATE: &str = "issuer.der";
/// Key of the one that is to follow.
pub const NEXT_KEY: &str = "issuer.next.key";
/// Its certificate; when it is there, the next start puts both in use.
pub const NEXT_CERTIFICATE: &str = "issuer.next.der";

/// The issuing CA in use.
///
/// # Errors
/// Key or certificate are missing or do not fit each other.
pub fn load(state: &StateDir) -> Result<Issuer> {
    let certificate = state.read(CERTIFICATE)?;
    Issuer::load(state.key(KEY)?, certificate.to_vec()).context("issuer.key and issuer.der")
}

/// Makes the next key, unless there is one, and writes the request for its certificate to a new file.
///
/// # Errors
/// A certificate is installed already, or something cannot be written.
pub fn request(root: &Path, file: &Path) -> Result<()> {
    let state = StateDir::open(root)?;
    ensure!(
        !state.path(NEXT_CERTIFICATE).exists(),
        "a certificate is installed already: restart the coordinator first"
    );
    let limits = load(&state)?.limits().clone();
    if !state.path(NEXT_KEY).exists() {
        state.write_key(NEXT_KEY, &IdentityKey::from_seed(clock::random()?))?;
    }
    write_new(file, &IssuerRequest::create(&state.key(NEXT_KEY)?, &limits))
}

/// Installs the certificate that was made for the next key. The running coordinator goes on with the old pair.
///
/// # Errors
/// It is of another key, or not one that everybody believes under the trust document in force.
pub fn install(root: &Path, file: &Path) -> Result<()> {
    let state = StateDir::open(root)?;
    ensure!(
        state.path(NEXT_KEY).exists(),
        "no certificate was asked for: run `bulkhead-coordinator issuer request` first"
    );
    let mut certificate = Vec::new();
    File::open(file)
        .and_then(|file| file.take(MAX_CERTIFICATE_BYTES as u64 + 1).read_to_end(&mut certificate))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let wall = clock::wall();
    let trust = boot::trust_in_force(&state, wall)?;
    check(&state, NEXT_KEY, &certificate, &trust, wall)?;
    let (now, next) = (load(&state)?, Issuer::load(state.key(NEXT_KEY)?, certificate.clone())?);
    if now.limits() != next.limits() {
        bail!(
            "its limits are not those that were asked for: nodes that are there could lose their certificates"
        );
    }
    state.write_new(NEXT_CERTIFICATE, &certificate)
}

fn check(state: &StateDir, key: &str, certificate: &[u8], trust: &Trust, wall: Timestamp) -> Result<()> {
    Issuer::load(state.key(key)?, certificate.to_vec())
        .context("the certificate is not for the key that was made here")?;
    trust.check_issuer(certificate, &Revocations::default(), wall).context(
        "nobody would believe this issuer: first apply a trust document with its root (`bulkheadctl trust`)",
    )
}

/// Puts an installed pair in use, at a start, with the directory's lock held. Whether it did.
///
/// # Errors
/// What lies there does not fit, or cannot be renamed.
pub fn promote(state: &StateDir, trust: &Trust, wall: Timestamp) -> Result<bool> {
    if !state.path(NEXT_CERTIFICATE).exists() {
        return Ok(false);
    }
    let certificate = state.read(NEXT_CERTIFICATE)?;
    // Without its key, the power failed between the two renames of an earlier start.
    if state.path(NEXT_KEY).exists() {
        if let Err(error) = check(state, NEXT_KEY, &certificate, trust, wall) {
            tracing::error!(
                reason = format!("{error:#}"),
                "the installed issuer is not put in use; the old one goes on"
            );
            return Ok(false);
        }
        rename(state, NEXT_KEY, KEY)?;
    } else {
        check(state, KEY, &certificate, trust, wall)?;
    }
    rename(state, NEXT_CERTIFICATE, CERTIFICATE)?;
    tracing::info!("the installed issuer is in use; nodes get certificates of it as they connect");
    Ok(true)
}

fn rename(state: &StateDir, from: &str, to: &str) -> Result<()> {
    // Only what is ours alone takes the place of a key.
    open_private(&state.path(from))?;
    std::fs::rename(state.path(from), state.path(to))
        .with_context(|| format!("cannot rename {from} to {to}"))?;
    sync_directory(state.root())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::init::init;
    use bulkhead_identity::certificate::Serial;
    use bulkhead_identity::{Authority, TrustDomain};
    use std::fs;
    use std::time::Duration;

    struct Scene {
        directory: tempfile::TempDir,
        state: StateDir,
        trust: Trust,
    }

    fn scene() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        init(&root, &TrustDomain::parse("acme.example").unwrap(), &["c:1".to_owned()]).unwrap();
        let state = StateDir::open(&root).unwrap();
        let trust = boot::trust_in_force(&state, clock::wall()).unwrap();
        Scene { directory, state, trust }
    }

    impl Scene {
        /// Asks, and has the root with this key answer into a file.
        fn answer(&self, root_key: IdentityKey, root: Vec<u8>) -> std::path::PathBuf {
            let asked = self.directory.path().join("request");
            let _ = fs::remove_file(&asked);
            request(self.state.root(), &asked).unwrap();
            let request = IssuerRequest::read(&fs::read(&asked).unwrap()).unwrap();
            let authority = Authority::load(root_key, root).unwrap();
            let wall = clock::wall();
            let end = wall.plus(Duration::from_secs(3600));
            let der =
                authority.sign_issuer(request.key, &request.limits, Serial([7; 16]), wall, end).unwrap();
            let file = self.directory.path().join("issuer.der");
            fs::write(&file, der).unwrap();
            file
        }

        fn own_root(&self) -> (IdentityKey, Vec<u8>) {
            (self.state.key("operator/root.key").unwrap(), self.trust.document().roots[0].clone())
        }

        fn promote(&self) -> bool {
            promote(&self.state, &self.trust, clock::wall()).unwrap()
        }
    }

    #[test]
    fn an_installed_issuer_is_in_use_from_the_next_start_on() {
        let scene = scene();
        let before = load(&scene.state).unwrap().certificate().to_vec();
        let (key, root) = scene.own_root();
        let answer = scene.answer(key, root);
        install(scene.state.root(), &answer).unwrap();
        assert_eq!(load(&scene.state).unwrap().certificate(), before, "the running one goes on");
        assert!(request(scene.state.root(), &scene.directory.path().join("again")).is_err());
        assert!(scene.promote());
        assert_eq!(load(&scene.state).unwrap().certificate(), fs::read(&answer).unwrap());
        assert!(!scene.promote(), "once");
    }

    #[test]
    fn power_failure_between_the_two_files_is_made_good() {
        let scene = scene();
        let (key, root) = scene.own_root();
        let answer = scene.answer(key, root);
        install(scene.state.root(), &answer).unwrap();
        fs::rename(scene.state.path(NEXT_KEY), scene.state.path(KEY)).unwrap();
        assert!(load(&scene.state).is_err(), "half changed");
        assert!(scene.promote());
        assert_eq!(load(&scene.state).unwrap().certificate(), fs::read(&answer).unwrap());
    }

    #[test]
    fn an_issuer_that_nobody_would_believe_is_not_installed() {
        let scene = scene();
        let wall = clock::wall();
        let domain = scene.trust.document().trust_domain.clone();
        let key = || IdentityKey::from_seed(zeroize::Zeroizing::new([9; 32]));
        let end = wall.plus(Duration::from_secs(7200));
        let rogue = Authority::create(key(), &domain, Serial([3; 16]), wall, end).unwrap();
        let answer = scene.answer(key(), rogue.root_der().to_vec());
        assert!(install(scene.state.root(), &answer).is_err());
        assert!(!scene.promote());
        load(&scene.state).unwrap();
    }

    #[test]
    fn a_certificate_for_another_key_is_not_installed() {
        let scene = scene();
        let (key, root) = scene.own_root();
        let answer = scene.answer(key, root);
        fs::remove_file(scene.state.path(NEXT_KEY)).unwrap();
        assert!(install(scene.state.root(), &answer).is_err(), "nobody asked");
        scene.state.write_key(NEXT_KEY, &IdentityKey::from_seed(clock::random().unwrap())).unwrap();
        assert!(install(scene.state.root(), &answer).is_err());
    }
}
