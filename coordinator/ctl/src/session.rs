//! The session file: which coordinators, under which trust document, as whom. 0600, written whole or not at all;
//! its trust document is verified again at every load, by the same code as anywhere else.

use crate::failure::Failure;
use crate::{moment, secret_file};
use anyhow::{Context as _, bail};
use bulkhead_identity::{Timestamp, Trust};
use bulkhead_protocol::enrol::b64;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

const SCHEMA: &str = "bulkhead.session/1";

/// What `login` leaves behind. No `Debug`: `key` is a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    schema: String,
    /// `host:port` of each coordinator's HTTPS.
    pub(crate) coordinators: Vec<String>,
    /// The signed trust document.
    #[serde(with = "b64")]
    pub(crate) trust: Vec<u8>,
    /// Who we are to the coordinator.
    pub(crate) user: String,
    /// `viewer`, `operator` or `admin`.
    pub(crate) role: String,
    /// What `authorization: Bearer` carries.
    #[serde(with = "b64")]
    pub(crate) key: Vec<u8>,
    /// When the coordinator stops accepting `key`.
    pub(crate) expires: Timestamp,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Session {
    /// A session with the coordinators of this trust document.
    pub(crate) fn new(
        coordinators: Vec<String>,
        trust: &Trust,
        granted: bulkhead_protocol::admin::Session,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            coordinators,
            trust: trust.bytes().to_vec(),
            user: granted.user,
            role: granted.role,
            key: granted.key,
            expires: granted.expires,
        }
    }

    /// Reads the session at `path`; `None` when there is none.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = secret_file::read(path)?;
        let session: Self = serde_json::from_str(&text)
            // serde's message may quote what it stumbled on: name the place, not the content.
            .map_err(|error| anyhow::anyhow!("line {} column {}", error.line(), error.column()))
            .with_context(|| format!("{} is not a session file", path.display()))?;
        if session.schema != SCHEMA {
            bail!("{} was written by another version of bulkheadctl: log in again", path.display());
        }
        Ok(Some(session))
    }

    /// Writes the session to `path`.
    pub(crate) fn store(&self, path: &Path) -> anyhow::Result<()> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(self).context("writing JSON")?);
        secret_file::write(path, &text)
    }

    /// The verified trust document, or that the session is of no more use.
    pub(crate) fn verified_trust(&self) -> Result<Trust, Failure> {
        let now = moment::now();
        if self.expires <= now {
            return Err(Failure::usage(
                format!("the session of {} {}", self.user, moment::show_left(self.expires, now)),
                "log in again: bulkheadctl login --sso, or login --token-file FILE",
            ));
        }
        Ok(Trust::stored(&self.trust, now).context("the session file's trust document")?)
    }
}

/// Where the session is kept when neither option nor environment says.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    let configuration = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
        .context("no home directory: say where the session file is with BULKHEADCTL_SESSION")?;
    Ok(configuration.join("bulkhead/session.json"))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn session(expires: Timestamp) -> Session {
        Session {
            schema: SCHEMA.to_owned(),
            coordinators: vec!["10.0.0.1:8443".into()],
            trust: vec![1, 2, 3],
            user: "ann".into(),
            role: "admin".into(),
            key: b"canary-secret-of-the-session-key".to_vec(),
            expires,
        }
    }

    #[test]
    fn a_session_reads_back_and_a_missing_one_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bulkhead/session.json");
        assert!(Session::load(&path).unwrap().is_none());
        session(Timestamp(7)).store(&path).unwrap();
        let read = Session::load(&path).unwrap().unwrap();
        assert_eq!((read.user.as_str(), read.expires), ("ann", Timestamp(7)));
        assert_eq!(read.key, b"canary-secret-of-the-session-key");
    }

    #[test]
    fn a_damaged_session_is_refused_without_quoting_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("session.json");
        secret_file::write(&path, br#"{"key": canary}"#).unwrap();
        let error = format!("{:#}", Session::load(&path).err().unwrap());
        assert!(error.contains("line 1") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn an_ended_session_says_log_in_again() {
        let failure = session(Timestamp(7)).verified_trust().unwrap_err();
        assert!(failure.help().unwrap().contains("login"));
    }
}
