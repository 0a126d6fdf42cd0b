//! Refresh tokens at rest: one sealed file per person, under a key of the state directory that no backup holds, and
//! nothing of it in the journal. A copy of the store, of the journal or of a backup holds no token that can be used
//! (S4), and a file under another person's name does not open.
//!
//! Only what can never be opened is removed. A token that cannot be written now is kept in memory, because the one on
//! the disk is worth nothing any more.

use super::RefreshToken;
use super::queue::Name;
use super::sessions::Session;
use crate::clock;
use crate::state_dir::{StateDir, make_private, open_private, sync_directory};
use anyhow::{Context, Result, anyhow, ensure};
use data_encoding::HEXLOWER;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context as Digest, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of one sealed file: a token and who it is of.
pub(super) const MAX_SESSION_BYTES: usize = 64 * 1024;
pub(super) const FOLDER: &str = "sso";
pub(super) const KEY: &str = "sso/seal.key";
pub(super) const SESSIONS: &str = "sso/sessions";
/// What is sealed, so that the key opens nothing else.
const PURPOSE: &[u8] = b"bulkhead sso session 1";

/// The sealed files.
pub(super) struct Sealed {
    folder: PathBuf,
    key: LessSafeKey,
    /// What replaces a file and could not be written.
    unwritten: BTreeMap<Name, Session>,
}

/// Why a session cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Now; perhaps later.
    #[error("a session cannot be read")]
    Disk(#[source] anyhow::Error),
    /// Never.
    #[error("a session cannot be opened")]
    Useless(#[source] anyhow::Error),
}

/// What is in a file, once it is open.
#[derive(Serialize, Deserialize)]
struct Content {
    issuer: String,
    client_id: String,
    subject: String,
    token: String,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl Sealed {
    /// Opens or makes key and folder.
    pub(super) fn open(state: &StateDir) -> Result<Self> {
        make_private(&state.path(FOLDER))?;
        make_private(&state.path(SESSIONS))?;
        if !state.path(KEY).try_exists().context("cannot look for the sealing key")? {
            state.write_new(KEY, clock::random()?.as_ref())?;
        }
        let key = state.read(KEY)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key)
            .map_err(|_| anyhow!("{KEY} is not a key of 32 bytes"))?;
        let (folder, key) = (state.path(SESSIONS), LessSafeKey::new(key));
        Ok(Self { folder, key, unwritten: BTreeMap::new() })
    }

    /// Of whom there are files. A temporary file of a write that was cut off is none of ours.
    pub(super) fn names(&self) -> Result<Vec<Name>> {
        let files = std::fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        let mut names = Vec::new();
        for file in files {
            let file = file.context("cannot read the sessions")?.file_name();
            names.extend(Name::parse(&file.to_string_lossy()));
        }
        Ok(names)
    }

    /// Writes a session in place of an earlier one.
    pub(super) fn write(&mut self, name: &Name, session: &Session) -> Result<()> {
        let content = Content {
            issuer: session.issuer.clone(),
            client_id: session.client_id.clone(),
            subject: session.subject.clone(),
            token: session.refresh.secret().to_owned(),
        };
        let mut sealed = Zeroizing::new(serde_json::to_vec(&content).context("cannot write a session")?);
        ensure!(sealed.len() + 64 <= MAX_SESSION_BYTES, "a session is longer than {MAX_SESSION_BYTES} bytes");
        // Random nonces of 96 bits under one key: safe for 2^32 of them (NIST SP 800-38D, section 8.3), which is a
        // refresh of every session each hour for five years.
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&clock::random()?[..NONCE_LEN]);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound_to(name), &mut *sealed)
            .map_err(|_| anyhow!("cannot seal a session"))?;
        let path = self.path(name);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).context("cannot write a session")?;
        file.write_all(&nonce).and_then(|()| file.write_all(&sealed)).context("cannot write a session")?;
        file.as_file().sync_all().context("cannot sync a session")?;
        file.persist(path).map_err(|error| error.error).context("cannot name a session")?;
        self.unwritten.remove(name);
        sync_directory(&self.folder)
    }

    /// The same for a session whose earlier token is worth nothing any more: what cannot be written is used from
    /// memory, and written as soon as that is possible.
    pub(super) fn replace(&mut self, name: &Name, session: &Session) -> Result<()> {
        self.unwritten.insert(name.clone(), session.clone());
        self.write(name, session)
    }

    /// The session of `name`.
    pub(super) fn read(&mut self, name: &Name) -> Result<Session, ReadError> {
        let Some(session) = self.unwritten.get(name).cloned() else { return self.read_file(name) };
        if let Err(error) = self.write(name, &session) {
            tracing::error!(reason = %format!("{error:#}"), "a session is still not on the disk; it is lost with this process");
        }
        Ok(session)
    }

    fn read_file(&self, name: &Name) -> Result<Session, ReadError> {
        let mut sealed = Zeroizing::new(Vec::new());
        let read = open_private(&self.path(name))
            .and_then(|file| Ok(file.take(MAX_SESSION_BYTES as u64).read_to_end(&mut sealed)?));
        if let Err(error) = read {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            return Err(match kind {
                Some(ErrorKind::NotFound) => ReadError::Useless(error),
                Some(_) | None => ReadError::Disk(error),
            });
        }
        self.unseal(name, &mut sealed).map_err(ReadError::Useless)
    }

    fn unseal(&self, name: &Name, sealed: &mut [u8]) -> Result<Session> {
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).context("it is too short")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| anyhow!("it is too short"))?;
        let opened = self.key.open_in_place(nonce, bound_to(name), sealed);
        let mut content: Content = serde_json::from_slice(opened.map_err(|_| anyhow!("it does not open"))?)?;
        Ok(Session {
            issuer: std::mem::take(&mut content.issuer),
            client_id: std::mem::take(&mut content.client_id),
            subject: std::mem::take(&mut content.subject),
            refresh: RefreshToken::new(std::mem::take(&mut content.token)),
        })
    }

    /// Forgets a session.
    pub(super) fn remove(&mut self, name: &Name) -> Result<()> {
        self.unwritten.remove(name);
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove a session")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(name.to_string())
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A file's name tells nobody who the person is.
impl Name {
    pub(super) fn of(issuer: &str, subject: &str) -> Self {
        let mut person = Digest::new(&SHA256);
        // With its length: no two persons are the same bytes.
        person.update(&(issuer.len() as u64).to_be_bytes());
        person.update(issuer.as_bytes());
        person.update(subject.as_bytes());
        let issuer = ring::digest::digest(&SHA256, issuer.as_bytes());
        let hex = |digest: ring::digest::Digest| HEXLOWER.encode(digest.as_ref());
        Self { issuer: hex(issuer), person: hex(person.finish()) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (issuer, person) = text.split_once('-')?;
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_digest(issuer) && is_digest(person))
            .then(|| Self { issuer: issuer.to_owned(), person: person.to_owned() })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.issuer, self.person)
    }
}

fn bound_to(name: &Name) -> Aad<Vec<u8>> {
    Aad::from([PURPOSE, name.to_string().as_bytes()].concat())
}
