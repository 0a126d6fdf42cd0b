//! A sign-in that has not ended: its keys and its device code, so that a reboot between a person's word and an
//! administrator's loses nothing.

use crate::enrol::entry::Entry;
use crate::state::dir::DirError;
use crate::state::{Keys, Store};
use bulkhead_identity::{NodeName, Timestamp};
use bulkhead_protocol::signin::DeviceAuthorization;
use zeroize::Zeroizing;

/// Is there as long as a sign-in waits; the service starts for it, too.
pub(crate) const SIGN_IN: &str = "signin.json";
const SCHEMA: &str = "bulkhead.signin/1";

/// What the person at this host asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// The name of the node.
    pub(crate) name: Option<NodeName>,
    /// The provider on whose own page to sign in, by its device flow; without it, on the coordinator's.
    pub(crate) provider: Option<String>,
}

/// What is kept of it. No `Debug`, because of the device code.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptSignIn {
    schema: String,
    /// Whom to ask.
    pub(crate) entry: Entry,
    /// In case it has to begin anew.
    pub(crate) wish: Wish,
    /// With what to ask, and what to show.
    pub(crate) authorization: DeviceAuthorization,
    /// Until when a person can confirm it.
    pub(crate) ends: Timestamp,
    /// The name under which it waits for an administrator.
    pub(crate) approval: Option<String>,
}

impl KeptSignIn {
    /// One that began just now.
    pub(crate) fn new(entry: Entry, wish: Wish, authorization: DeviceAuthorization, ends: Timestamp) -> Self {
        Self { schema: SCHEMA.into(), entry, wish, authorization, ends, approval: None }
    }
}

impl Store {
    /// Keeps a sign-in that just began, with its keys. The node is not enrolled by that: there is no certificate. What
    /// was kept before goes first, so that no keys ever stand beside the device code of others.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn begin_sign_in(&self, keys: &Keys, kept: &KeptSignIn) -> Result<(), DirError> {
        self.end_sign_in()?;
        self.write_keys(keys)?;
        self.keep_sign_in(kept)
    }

    /// Keeps what was learnt of a sign-in whose keys are on disk.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn keep_sign_in(&self, kept: &KeptSignIn) -> Result<(), DirError> {
        let text = serde_json::to_vec_pretty(kept);
        let text = Zeroizing::new(text.expect("strings and numbers always serialize"));
        self.dir.write(SIGN_IN, &text)
    }

    /// The sign-in that waits. One that cannot be understood is none: another one is begun in its place.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn sign_in(&self) -> Result<Option<KeptSignIn>, DirError> {
        let Some(text) = self.dir.read(SIGN_IN)? else { return Ok(None) };
        Ok(serde_json::from_slice(&text).ok().filter(|kept: &KeptSignIn| kept.schema == SCHEMA))
    }

    /// Whether one was kept. Says nothing about whether it can be understood.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn has_sign_in(&self) -> Result<bool, DirError> {
        Ok(self.dir.read(SIGN_IN)?.is_some())
    }

    /// Forgets it. Keys without a certificate stay, and are replaced by whatever comes next.
    ///
    /// # Errors
    /// See [`DirError`].
    pub(crate) fn end_sign_in(&self) -> Result<(), DirError> {
        self.dir.remove(SIGN_IN)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::TrustHash;
    use std::os::unix::fs::MetadataExt as _;

    pub(crate) fn wish() -> Wish {
        Wish { name: NodeName::parse("web").ok(), provider: Some("acme".into()) }
    }

    pub(crate) fn kept() -> KeptSignIn {
        let entry = Entry { coordinators: vec!["192.0.2.1:8443".into()], trust: TrustHash([7; 32]) };
        let authorization = DeviceAuthorization {
            device_code: vec![9; 32],
            user_code: "WDJB-MJHT".into(),
            verification_uri: "https://bulkhead.acme.example/device".into(),
            verification_uri_complete: "https://bulkhead.acme.example/device?code=WDJB-MJHT".into(),
            match_code: Some("42 17".into()),
            expires_in: 600,
            interval: 5,
        };
        KeptSignIn::new(entry, wish(), authorization, Timestamp(1_800_000_000))
    }

    #[test]
    fn a_sign_in_outlives_a_reboot_with_its_keys_and_is_closed_to_others() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let keys = Keys::generate().unwrap();
        assert!(store.sign_in().unwrap().is_none());
        store.begin_sign_in(&keys, &kept()).unwrap();
        store.keep_sign_in(&KeptSignIn { approval: Some("web".into()), ..kept() }).unwrap();
        assert_eq!(std::fs::metadata(temp.path().join(SIGN_IN)).unwrap().mode() & 0o7777, 0o600);
        assert!(!store.is_enrolled().unwrap());
        let read = store.sign_in().unwrap().unwrap();
        assert_eq!(read.approval.as_deref(), Some("web"));
        assert_eq!(read.wish, kept().wish);
        assert_eq!(read.authorization.device_code, vec![9; 32]);
        assert_eq!(store.load_keys().unwrap().public(), keys.public());
        store.end_sign_in().unwrap();
        assert!(store.sign_in().unwrap().is_none());
    }

    #[test]
    fn a_damaged_sign_in_is_none_and_leaving_removes_it() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        store.dir.write(SIGN_IN, b"{}").unwrap();
        assert!(store.sign_in().unwrap().is_none() && store.has_sign_in().unwrap());
        store.begin_sign_in(&Keys::generate().unwrap(), &kept()).unwrap();
        store.wipe().unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_crash_between_the_keys_and_the_device_code_pairs_no_keys_with_an_old_code() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        store.begin_sign_in(&Keys::generate().unwrap(), &kept()).unwrap();
        // The second of the two keys cannot be written: a directory is in its place.
        let tunnel = temp.path().join("tunnel.key");
        std::fs::remove_file(&tunnel).unwrap();
        std::fs::create_dir(&tunnel).unwrap();
        assert!(store.begin_sign_in(&Keys::generate().unwrap(), &kept()).is_err());
        assert!(!store.has_sign_in().unwrap());
    }
}
