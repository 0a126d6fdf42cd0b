//! The state directory: this node's keys, and what it holds, so that it starts without a coordinator.
//!
//! Property: everything is verified again at every load by the code that verified it when it was received. What
//! does not verify is not in force: a bad policy is nobody, bad revocations are nobody, a bad certificate is an error.
//!
//! How to use it: [`Store::open`], [`Store::lock`]; then [`Store::load`], or the `save_*` of enrolment.

pub(crate) mod dir;
pub(crate) mod held;
pub(crate) mod signin;
#[cfg(test)]
mod stolen;

use crate::device::netlink::Prefix;
use crate::state::dir::{DirError, DirLock, SecretDir};
use crate::state::held::{CertificateError, Held, Marks, OwnKeys, OwnerSession};
use crate::state::signin::SIGN_IN;
use bulkhead_acl::Policy;
use bulkhead_identity::keys::KeyError;
use bulkhead_identity::trust::TrustError;
use bulkhead_identity::{Chain, Epoch, IdentityKey, Revocations, Timestamp, Trust, TunnelKey};
use bulkhead_protocol::control::{MapUpdate, PeerMap};
use bulkhead_protocol::offload::Offloads;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

const IDENTITY_KEY: &str = "identity.key";
const TUNNEL_KEY: &str = "tunnel.key";
/// Written last by enrolment: that it exists means that the node is enrolled.
pub(crate) const CERTIFICATE: &str = "certificate.cbor";
const TRUST: &str = "trust.cbor";
const POLICY: &str = "policy.cbor";
const REVOCATIONS: &str = "revocations.cbor";
const MAP: &str = "map.cbor";
const NODE: &str = "node.json";
/// In the order in which leaving removes them: first what makes the node enrolled.
const ALL: [&str; 9] =
    [CERTIFICATE, SIGN_IN, IDENTITY_KEY, TUNNEL_KEY, POLICY, REVOCATIONS, MAP, TRUST, NODE];
/// The remedy when nothing else helps.
const AGAIN: &str = "bulkhead leave --force, then bulkhead up --token-file FILE";
const SCHEMA: &str = "bulkhead.node/1";
/// Of the first revocation list; the coordinator sends none before.
const FIRST_EPOCH: Epoch = Epoch(1);

/// One file of what is held, to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The trust document.
    Trust,
    /// The revocation list.
    Revocations,
    /// The policy.
    Policy,
    /// The peer map.
    Map,
    /// After the documents: a power cut in between leaves one that is newer than its mark, which is in force. The
    /// other way round the node would wait for a document that it never had on disk, and admit nobody (P3).
    Marks,
    /// Our own certificate; last at enrolment, see [`CERTIFICATE`].
    Certificate,
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    dir: SecretDir,
}

/// A node's two keys.
pub(crate) struct Keys {
    /// Signs requests, receipts and TLS handshakes.
    pub(crate) identity: IdentityKey,
    /// WireGuard.
    pub(crate) tunnel: TunnelKey,
}

/// Everything loaded.
pub(crate) struct Loaded {
    /// The node's keys.
    pub(crate) keys: Keys,
    /// What it holds.
    pub(crate) held: Held,
    /// `host:port` of the control link, in the order to try.
    pub(crate) control: Vec<String>,
    /// Parts that did not verify and are not in force, for the log.
    pub(crate) dropped: Vec<String>,
}

/// Why the node cannot start from its state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// No certificate.
    #[error("this node is not enrolled; run: bulkhead up --token-file FILE, or bulkhead up --sso")]
    NotEnrolled,
    /// The directory or a file in it.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A file is missing that every enrolled node has.
    #[error("{0} is missing; enrol again: {AGAIN}")]
    Missing(&'static str),
    /// A file cannot be understood.
    #[error("{0} is damaged: {1}; enrol again: {AGAIN}")]
    Damaged(&'static str, String),
    /// The stored trust document does not verify.
    #[error("the stored trust document is not in force; enrol again: {AGAIN}")]
    Trust(#[from] TrustError),
    /// The stored certificate does not verify.
    #[error("the stored certificate is not in force; enrol again: {AGAIN}")]
    Certificate(#[from] CertificateError),
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    schema: String,
    control: Vec<String>,
    marks: Marks,
    // Not there when nothing is off, so that an earlier version can read the file.
    #[serde(default, skip_serializing_if = "Offloads::is_empty")]
    offloads_off: Offloads,
    // Not there for a node without an owner, for the same reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<OwnerSession>,
}

impl Store {
    /// Opens the state directory, making it if need be.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn open(path: &Path) -> Result<Self, DirError> {
        Ok(Self { dir: SecretDir::open_or_make(path)? })
    }

    /// Takes it for this process.
    ///
    /// # Errors
    /// [`DirError::InUse`].
    pub(crate) fn lock(&self) -> Result<DirLock, DirError> {
        self.dir.lock()
    }

    /// As [`Store::lock`], but waits a little for a process that is just ending.
    ///
    /// # Errors
    /// [`DirError::InUse`].
    pub(crate) fn lock_within(&self, patience: Duration) -> Result<DirLock, DirError> {
        self.dir.lock_within(patience)
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether there is a certificate. Says nothing about its validity.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn is_enrolled(&self) -> Result<bool, DirError> {
        Ok(self.dir.read(CERTIFICATE)?.is_some())
    }

    /// Loads and verifies everything.
    ///
    /// # Errors
    /// See [`LoadError`]. Policy, revocations and map that do not verify are not errors but [`Loaded::dropped`].
    pub(crate) fn load(&self, system: Timestamp) -> Result<Loaded, LoadError> {
        let certificate = self.dir.read(CERTIFICATE)?.ok_or(LoadError::NotEnrolled)?;
        let node = self.load_node()?;
        let wall = system.max(node.marks.wall);
        let keys = self.load_keys()?;
        let trust = Trust::stored(&self.need(TRUST)?, wall)?;
        let chain = Chain::decode(&certificate).map_err(|error| damaged(CERTIFICATE, &error))?;
        let me = keys.public().verify_mine(&chain, &trust, wall)?;
        let mut held = Held::enrolled(trust, me);
        (held.marks, held.offloads_off, held.session) = (node.marks, node.offloads_off, node.session);
        let mut dropped = Vec::new();
        if let Some(bytes) = self.dir.read(REVOCATIONS)? {
            match Revocations::verify(&bytes, &held.trust, node.marks.epoch, wall) {
                Ok(revocations) => {
                    held.marks.epoch = held.marks.epoch.max(revocations.epoch());
                    held.revocations = Arc::new(revocations);
                }
                Err(error) => {
                    // There was a list, even if its mark was never written.
                    held.marks.epoch = held.marks.epoch.max(FIRST_EPOCH);
                    dropped.push(error.to_string());
                }
            }
        }
        if let Some(bytes) = self.dir.read(POLICY)? {
            match Policy::verify(&bytes, &held.trust, node.marks.generation, wall) {
                Ok(policy) => {
                    held.marks.generation = held.marks.generation.max(policy.generation());
                    held.policy = Arc::new(policy);
                }
                Err(error) => dropped.push(error.to_string()),
            }
        }
        if let Some(bytes) = self.dir.read(MAP)? {
            match decode_map(&bytes) {
                Ok(map) => held.map = Arc::new(map),
                Err(error) => dropped.push(format!("{MAP} is damaged: {error}")),
            }
        }
        Ok(Loaded { keys, held, control: node.control, dropped })
    }

    /// The overlay prefixes, if the stored trust document can be read at all: also one that has expired still says
    /// what must not leak.
    pub(crate) fn prefixes(&self) -> Option<[Prefix; 2]> {
        let bytes = self.dir.read(TRUST).ok()??;
        let trust = Trust::stored(&bytes, Timestamp(0)).ok()?;
        Some(Prefix::overlay(&trust))
    }

    /// Saves what enrolment brought; the certificate last, because it is what makes the node enrolled.
    ///
    /// # Errors
    /// See [`DirError`]; the node is not enrolled then.
    pub(crate) fn save_enrolment(
        &self,
        keys: &Keys,
        held: &Held,
        control: &[String],
    ) -> Result<(), DirError> {
        self.dir.remove(CERTIFICATE)?;
        self.write_keys(keys)?;
        for stale in [POLICY, REVOCATIONS, MAP] {
            self.dir.remove(stale)?;
        }
        self.save(held, control, &BTreeSet::from([Part::Marks, Part::Trust, Part::Certificate]))
    }

    /// Saves some parts, in the order of [`Part`].
    ///
    /// # Errors
    /// See [`DirError`]; parts before the failing one are saved.
    pub(crate) fn save(
        &self,
        held: &Held,
        control: &[String],
        parts: &BTreeSet<Part>,
    ) -> Result<(), DirError> {
        for part in parts {
            match part {
                Part::Marks => self.save_node(control, held)?,
                Part::Trust => self.dir.write(TRUST, held.trust.bytes())?,
                Part::Revocations => self.dir.write(REVOCATIONS, held.revocations.bytes())?,
                Part::Policy => self.dir.write(POLICY, held.policy.bytes())?,
                Part::Map => self.dir.write(MAP, &encode_map(&held.map))?,
                Part::Certificate => self.dir.write(CERTIFICATE, &held.me.chain().encode())?,
            }
        }
        Ok(())
    }

    /// Saves a certificate that a daemon did not receive itself, with the trust document under which it was verified.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn save_certificate(&self, held: &Held) -> Result<(), DirError> {
        self.save(held, &[], &BTreeSet::from([Part::Trust, Part::Certificate]))
    }

    /// Removes everything, so that nothing of this identity is left.
    ///
    /// # Errors
    /// See [`DirError`]; what stands before the failing file is gone.
    pub(crate) fn wipe(&self) -> Result<(), DirError> {
        ALL.into_iter().try_for_each(|name| self.dir.remove(name))
    }

    fn write_keys(&self, keys: &Keys) -> Result<(), DirError> {
        self.dir.write(IDENTITY_KEY, &keys.identity.to_pkcs8())?;
        self.dir.write(TUNNEL_KEY, keys.tunnel.to_bytes().as_slice())
    }

    fn save_node(&self, control: &[String], held: &Held) -> Result<(), DirError> {
        let Held { marks, offloads_off, session, .. } = *held;
        let file =
            NodeFile { schema: SCHEMA.into(), control: control.to_vec(), marks, offloads_off, session };
        let text = serde_json::to_vec_pretty(&file).expect("strings and numbers always serialize");
        self.dir.write(NODE, &text)
    }

    fn load_node(&self) -> Result<NodeFile, LoadError> {
        let file: NodeFile =
            serde_json::from_slice(&self.need(NODE)?).map_err(|error| damaged(NODE, &error))?;
        if file.schema != SCHEMA {
            return Err(LoadError::Damaged(NODE, format!("schema {:?} is not {SCHEMA}", file.schema)));
        }
        Ok(file)
    }

    /// The node's keys, enrolled or not.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load_keys(&self) -> Result<Keys, LoadError> {
        let refused = |name| move |error: KeyError| damaged(name, &error);
        let identity = IdentityKey::from_pkcs8(&self.need(IDENTITY_KEY)?).map_err(refused(IDENTITY_KEY))?;
        let bytes = self.need(TUNNEL_KEY)?;
        let bytes = <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| LoadError::Damaged(TUNNEL_KEY, "it is not 32 bytes".into()))?;
        Ok(Keys { identity, tunnel: TunnelKey::from_bytes(Zeroizing::new(bytes)) })
    }

    fn need(&self, name: &'static str) -> Result<Zeroizing<Vec<u8>>, LoadError> {
        self.dir.read(name)?.ok_or(LoadError::Missing(name))
    }
}

impl Keys {
    /// Fresh keys from the kernel's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self {
            identity: IdentityKey::from_seed(random_32()?),
            tunnel: TunnelKey::from_bytes(random_32()?),
        })
    }

    /// The public halves.
    pub(crate) fn public(&self) -> OwnKeys {
        OwnKeys { identity: self.identity.public(), tunnel: self.tunnel.public() }
    }
}

fn random_32() -> Result<Zeroizing<[u8; 32]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}

fn damaged(name: &'static str, error: &dyn std::error::Error) -> LoadError {
    LoadError::Damaged(name, error.to_string())
}

fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}

/// A map is stored as the snapshot that would make it, so that loading applies it by the one function that does.
fn encode_map(map: &PeerMap) -> Vec<u8> {
    encode(&map.snapshot())
}

fn decode_map(bytes: &[u8]) -> Result<PeerMap, String> {
    let update: MapUpdate = minicbor::decode(bytes).map_err(|error| error.to_string())?;
    PeerMap::default().apply(update).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{Domain, NOW, Person};
    use crate::state::held::Standing;

    const CONTROL: &str = "192.0.2.1:8443";

    fn enrolled(domain: &Domain, me: &Person) -> (tempfile::TempDir, Store, Held) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let held = Held::enrolled(domain.trust(1), domain.verified(me));
        store.save_enrolment(&me.keys(), &held, &[CONTROL.into()]).unwrap();
        (temp, store, held)
    }

    fn save(store: &Store, held: &Held, part: Part) {
        store.save(held, &[CONTROL.into()], &BTreeSet::from([Part::Marks, part])).unwrap();
    }

    #[test]
    fn what_was_saved_is_loaded_and_verified() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, held) = enrolled(&domain, &me);
        let held = held.with_policy(&domain.policy(3, 0), NOW).unwrap();
        let held = held.with_revocations(&domain.revocations(2, &[]), NOW).unwrap();
        let held = held.with_map(domain.map(9, &[&Person::new("db", 2)]));
        for part in [Part::Policy, Part::Revocations, Part::Map] {
            save(&store, &held, part);
        }
        let loaded = store.load(NOW).unwrap();
        assert!(loaded.dropped.is_empty(), "{:?}", loaded.dropped);
        assert_eq!(loaded.held.policy.generation().0, 3);
        assert_eq!(loaded.held.revocations.epoch().0, 2);
        assert_eq!(loaded.held.map, held.map);
        assert_eq!(loaded.control, [CONTROL]);
        assert_eq!(loaded.held.standing(NOW), Standing::Good);
    }

    #[test]
    fn what_is_known_of_the_owners_session_outlives_the_daemon() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, mut held) = enrolled(&domain, &me);
        let before = store.dir.read(NODE).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&before).contains("session"), "an earlier version reads it");
        held.session = Some(OwnerSession { until: NOW.plus(Duration::from_secs(3600)), is_long: true });
        save(&store, &held, Part::Marks);
        assert_eq!(store.load(NOW).unwrap().held.session, held.session);
    }

    #[test]
    fn the_coordinators_last_word_on_offloads_outlives_the_daemon() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, mut held) = enrolled(&domain, &me);
        let before = store.dir.read(NODE).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&before).contains("offloads"), "an earlier version reads it");
        assert_eq!(store.load(NOW).unwrap().held.offloads_off, Offloads::NONE);
        held.offloads_off = Offloads::ALL;
        save(&store, &held, Part::Marks);
        assert_eq!(store.load(NOW).unwrap().held.offloads_off, Offloads::ALL);
    }

    #[test]
    fn a_node_without_certificate_is_not_enrolled_and_wiping_makes_it_so() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (temp, store, _) = enrolled(&domain, &me);
        assert!(store.is_enrolled().unwrap());
        store.wipe().unwrap();
        assert!(!store.is_enrolled().unwrap());
        assert!(matches!(store.load(NOW), Err(LoadError::NotEnrolled)));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing of the identity is left");
    }

    #[test]
    fn yesterdays_files_put_back_admit_nobody_s5() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, held) = enrolled(&domain, &me);
        let old = held.with_policy(&domain.policy(1, 0), NOW).unwrap();
        let old = old.with_revocations(&domain.revocations(1, &[]), NOW).unwrap();
        let new = old.with_policy(&domain.policy(2, 0), NOW).unwrap();
        let new = new.with_revocations(&domain.revocations(2, &[]), NOW).unwrap();
        save(&store, &new, Part::Policy);
        store.dir.write(POLICY, old.policy.bytes()).unwrap();
        store.dir.write(REVOCATIONS, old.revocations.bytes()).unwrap();
        let loaded = store.load(NOW).unwrap();
        assert_eq!(loaded.dropped.len(), 2);
        assert_eq!(loaded.held.policy.generation().0, 0);
        assert_eq!(loaded.held.standing(NOW), Standing::RevocationsLost);
    }

    #[test]
    fn a_power_cut_between_two_files_leaves_what_was_in_force() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (temp, store, held) = enrolled(&domain, &me);
        let old = held.with_policy(&domain.policy(1, 0), NOW).unwrap();
        let old = old.with_revocations(&domain.revocations(1, &[]), NOW).unwrap();
        save(&store, &old, Part::Policy);
        save(&store, &old, Part::Revocations);
        // A directory in the way makes the second file of the next save fail.
        std::fs::create_dir(temp.path().join(".policy.cbor.new")).unwrap();
        let new = old.with_policy(&domain.policy(2, 0), NOW).unwrap();
        let new = new.with_revocations(&domain.revocations(2, &[]), NOW).unwrap();
        let parts = BTreeSet::from([Part::Marks, Part::Policy, Part::Revocations]);
        assert!(store.save(&new, &[CONTROL.into()], &parts).is_err());

        let loaded = store.load(NOW).unwrap();
        assert_eq!(loaded.dropped, Vec::<String>::new());
        assert_eq!(loaded.held.policy.generation().0, 1);
        assert_eq!(loaded.held.standing(NOW), Standing::Good);
        assert_eq!(loaded.held.marks.epoch.0, 2, "what is on disk counts as seen");
    }

    #[test]
    fn a_clock_set_back_does_not_revive_a_certificate() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, mut held) = enrolled(&domain, &me);
        held.marks.wall = held.me.not_after().plus(Duration::from_secs(1));
        save(&store, &held, Part::Marks);
        // It is loaded, to be renewed; until it is, nobody is admitted.
        let loaded = store.load(NOW).unwrap();
        let wall = NOW.max(loaded.held.marks.wall);
        assert_eq!(loaded.held.standing(wall), Standing::NotValidNow);
        assert!(loaded.held.world(wall).peers.is_empty());
    }

    #[test]
    fn any_damaged_file_is_an_error_or_in_nobodys_favour() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let (_temp, store, held) = enrolled(&domain, &me);
        let held = held.with_policy(&domain.policy(1, 0), NOW).unwrap();
        save(&store, &held, Part::Policy);
        for name in [IDENTITY_KEY, TUNNEL_KEY, CERTIFICATE, TRUST, NODE] {
            let whole = store.dir.read(name).unwrap().unwrap();
            let mut flipped = whole.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            store.dir.write(name, &flipped).unwrap();
            assert!(store.load(NOW).is_err(), "{name}");
            store.dir.write(name, &whole).unwrap();
        }
        store.dir.write(POLICY, b"garbage").unwrap();
        assert_eq!(store.load(NOW).unwrap().held.policy.generation().0, 0);
        assert_eq!(store.load(NOW).unwrap().held.standing(NOW), Standing::Good);
        store.dir.write(REVOCATIONS, b"garbage").unwrap();
        assert_eq!(store.load(NOW).unwrap().held.standing(NOW), Standing::RevocationsLost);
    }
}
