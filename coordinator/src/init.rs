//! `init`: makes a new deployment on one machine. Every key is fresh, nothing has a default secret (P6), and
//! nothing that exists is touched. The journal comes last: without it the directory is not a coordinator's.

use crate::clock;
use crate::driver::entry;
use crate::journal::{FileJournal, Journal, Options};
use crate::state_dir::{StateDir, make_private};
use anyhow::{Context, Result, ensure};
use bulkhead_coordinator_engine::Event;
use bulkhead_identity::issue::default_ranges;
use bulkhead_identity::{
    Authority, Epoch, IdentityKey, IssuerLimits, Serial, Timestamp, Trust, TrustDocument, TrustDomain,
};
use bulkhead_protocol::token::{MAX_COORDINATORS, Token, TokenKind, is_address, secret_hash};
use std::path::Path;
use std::time::Duration;

/// How long roots, issuers and the trust document of `init` are valid.
pub const TRUST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of nodes may be this far behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// File name of the bootstrap secret.
pub const BOOTSTRAP_TOKEN: &str = "bootstrap-token";

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The deployment's name.
    pub trust_domain: TrustDomain,
    /// SHA-256 of the trust document, as tokens carry it.
    pub trust_hash: String,
}

/// Makes a deployment in `root`.
///
/// # Errors
/// The directory is used already, an address is malformed, or something cannot be written.
pub fn init(root: &Path, domain: &TrustDomain, addresses: &[String]) -> Result<Made> {
    check_addresses(addresses)?;
    let state = StateDir::create(root)?;
    let wall = clock::wall();
    let trust = make_keys(&state, domain, wall)?;
    state.write_new("init.toml", recorded(addresses).as_bytes())?;

    let token = Token {
        kind: TokenKind::Admin,
        trust: trust.hash(),
        coordinators: addresses.to_vec(),
        secret: clock::random()?,
    };
    let mut text = token.encode();
    text.push('\n');
    state.write_new(BOOTSTRAP_TOKEN, text.as_bytes())?;

    let first = Event::initialised(trust.hash(), secret_hash(token.secret.as_ref()), wall);
    make_private(&state.journal())?;
    let mut journal = FileJournal::create(&state.journal(), Options::default())?;
    journal.append(&entry(&first))?;
    journal.sync()?;
    Ok(Made { trust_domain: domain.clone(), trust_hash: data_encoding::HEXLOWER.encode(&trust.hash().0) })
}

/// # Errors
/// None, too many, or one that is not `host:port`.
pub fn check_addresses(addresses: &[String]) -> Result<()> {
    ensure!(!addresses.is_empty(), "no address is given: nodes need at least one --address HOST:PORT");
    ensure!(
        addresses.len() <= MAX_COORDINATORS,
        "{} addresses are given, {MAX_COORDINATORS} fit into a token (MAX_COORDINATORS)",
        addresses.len()
    );
    for address in addresses {
        ensure!(
            is_address(address),
            "{address:?} is not host:port, for example coordinator.acme.example:8443"
        );
    }
    Ok(())
}

fn make_keys(state: &StateDir, domain: &TrustDomain, wall: Timestamp) -> Result<Trust> {
    let not_before = Timestamp(wall.0.saturating_sub(BACKDATE.as_secs()));
    let not_after = wall.plus(TRUST_LIFETIME);
    let (root, operator, issuer, policy, identity) = (key()?, key()?, key()?, key()?, key()?);
    state.write_key("operator/root.key", &root)?;
    state.write_key("operator/operator.key", &operator)?;
    state.write_key("issuer.key", &issuer)?;
    state.write_key("policy.key", &policy)?;
    state.write_key("identity.key", &identity)?;

    let (v6, v4) = default_ranges(domain);
    let authority = Authority::create(root, domain, serial()?, not_before, not_after)?;
    let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
    let certificate = authority.sign_issuer(issuer.public(), &limits, serial()?, not_before, not_after)?;
    state.write_new("issuer.der", &certificate)?;

    let document = TrustDocument {
        version: Epoch(1),
        trust_domain: domain.clone(),
        roots: vec![authority.root_der().to_vec()],
        operator_keys: vec![operator.public()],
        operator_threshold: 1,
        policy_keys: vec![policy.public()],
        policy_threshold: 1,
        sealed: Vec::new(),
        overlay_v6: v6,
        overlay_v4: v4,
        issued: not_before,
        expires: not_after,
    };
    let signed = document.sign(&[&operator]);
    let trust = Trust::stored(&signed, wall).context("the new trust document does not verify")?;
    state.write_new("trust.cbor", &signed)?;
    Ok(trust)
}

fn key() -> Result<IdentityKey> {
    Ok(IdentityKey::from_seed(clock::random()?))
}

fn serial() -> Result<Serial> {
    let random = clock::random()?;
    let mut serial = [0; 16];
    serial.copy_from_slice(&random[..16]);
    // RFC 5280, section 4.1.2.2: positive, at most 20 octets; never zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(Serial(serial))
}

/// What `serve` has to know besides its own configuration, in the same format.
fn recorded(addresses: &[String]) -> String {
    let list: Vec<String> = addresses.iter().map(|a| format!("{a:?}")).collect();
    format!(
        "# Written by `bulkhead-coordinator init`. The configuration file overrides what stands here.\naddresses = [{}]\n",
        list.join(", ")
    )
}

/// What to do next, for people.
#[must_use]
pub fn next_steps(made: &Made, root: &Path) -> String {
    let state = if root == Path::new(crate::config::DEFAULT_STATE) {
        String::new()
    } else {
        format!(" --state {}", root.display())
    };
    format!(
        "trust domain  {domain}\ntrust hash    {hash}\nstate         {root}\n\n\
         next steps:\n\
         1. start it           bulkhead-coordinator{state} serve\n\
         2. administer here    bulkheadctl node list        (as root, over the unix socket)\n\
         \x20  or from elsewhere  bulkheadctl login --token-file {token}   (once; copy the file safely, then delete it)\n\
         3. let a node join    bulkheadctl token create --label role=web --out web.token\n\
         \x20                     on the node: bulkhead up --token-file web.token\n\
         4. keep safe          {root}/operator holds the keys that change the trust document: move it to another machine,\n\
         \x20                     where `bulkheadctl trust` signs with them, from files to files\n\
         5. when it matters    move {root}/policy.key there too: then `bulkheadctl policy sign` signs policy, and whoever\n\
         \x20                     takes this whole disk cannot widen it. `bulkheadctl trust draft --add-policy-key`,\n\
         \x20                     later `--remove-policy-key`, replace a key that was ever copied\n",
        domain = made.trust_domain,
        hash = made.trust_hash,
        root = root.display(),
        token = root.join(BOOTSTRAP_TOKEN).display(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::parse("acme.example").unwrap()
    }

    #[test]
    fn a_second_init_changes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("state");
        let addresses = ["c.acme.example:8443".to_owned()];
        init(&root, &domain(), &addresses).unwrap();
        let before = std::fs::read(root.join("trust.cbor")).unwrap();
        assert!(init(&root, &domain(), &addresses).is_err());
        assert_eq!(std::fs::read(root.join("trust.cbor")).unwrap(), before);
    }

    #[test]
    fn malformed_addresses_are_refused_before_anything_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("state");
        for bad in ["", "host", "host:0", "host:99999", "a b:1", "host:1\n"] {
            assert!(init(&root, &domain(), &[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(!root.exists());
    }

    #[test]
    fn every_file_is_private_and_no_two_deployments_share_a_key() {
        use std::os::unix::fs::MetadataExt;
        let parent = tempfile::tempdir().unwrap();
        let mut identities = std::collections::BTreeSet::new();
        for name in ["a", "b"] {
            let root = parent.path().join(name);
            init(&root, &domain(), &["c:1".to_owned()]).unwrap();
            let elsewhere_later = ["operator/root.key", "operator/operator.key", "policy.key"];
            for file in crate::state_dir::BACKED_UP.iter().chain(&elsewhere_later).chain(&[BOOTSTRAP_TOKEN]) {
                assert_eq!(std::fs::metadata(root.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
            }
            identities.insert(std::fs::read(root.join("identity.key")).unwrap());
        }
        assert_eq!(identities.len(), 2);
    }
}
