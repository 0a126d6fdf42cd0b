//! Refresh tokens at rest: one sealed file per person, under a key of the state directory that no backup holds, and
//! nothing of it in the journal. A copy of the store, of the journal or of a backup holds no token that can be used
//! (S4), and a file under another person's name does not open.
//!
//! What is lost here costs a new sign-in, nothing more.

use super::RefreshToken;
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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use zeroize::{Zeroize, Zeroizing};

/// Persons whose tokens are kept.
pub const MAX_SESSIONS: usize = 100_000;
/// Bytes of one sealed file: a token and who it is of.
pub const MAX_SESSION_BYTES: usize = 64 * 1024;
const FOLDER: &str = "sso";
const KEY: &str = "sso/seal.key";
const SESSIONS: &str = "sso/sessions";
/// What is sealed, so that the key opens nothing else.
const PURPOSE: &[u8] = b"bulkhead sso session 1";

/// One person's session at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The person's issuer.
    pub issuer: String,
    /// The person.
    pub subject: String,
    /// To ask again with.
    pub refresh: RefreshToken,
}

/// A session that is being asked about. Stale as soon as the person signs in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    name: String,
    serial: u64,
}

/// All sessions.
pub struct Sessions {
    folder: PathBuf,
    key: LessSafeKey,
    index: Mutex<Index>,
    /// Told when there is a new session.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct Index {
    entries: BTreeMap<String, Entry>,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// When to ask; `None` while it is being asked.
    due: Option<Instant>,
}

/// What is in a file, once it is open.
#[derive(Serialize, Deserialize)]
struct Content {
    provider: String,
    issuer: String,
    subject: String,
    token: String,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Opens the sessions of a state directory; all of them are due.
    ///
    /// # Errors
    /// Key or folder cannot be made or read.
    pub fn open(state: &StateDir) -> Result<Self> {
        make_private(&state.path(FOLDER))?;
        make_private(&state.path(SESSIONS))?;
        if !state.path(KEY).try_exists().context("cannot look for the sealing key")? {
            state.write_new(KEY, clock::random()?.as_ref())?;
        }
        let key = state.read(KEY)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key)
            .map_err(|_| anyhow!("{KEY} is not a key of 32 bytes"))?;
        let folder = state.path(SESSIONS);
        let (mut index, now) = (Index::default(), Instant::now());
        for file in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let name = file.context("cannot read the sessions")?.file_name().to_string_lossy().into_owned();
            // A temporary file of a write that was cut off is none of ours.
            if is_name(&name) && index.entries.len() < MAX_SESSIONS {
                index.admit(name, now);
            }
        }
        let (key, index) = (LessSafeKey::new(key), Mutex::new(index));
        Ok(Self { folder, key, index, changed: Notify::new() })
    }

    /// Keeps a session in place of an earlier one of the same person.
    ///
    /// # Errors
    /// There are [`MAX_SESSIONS`], or it cannot be written.
    pub fn keep(&self, session: &Session, due: Instant) -> Result<()> {
        let name = name(&session.issuer, &session.subject);
        let mut index = self.index();
        let known = index.entries.contains_key(&name);
        ensure!(
            known || index.entries.len() < MAX_SESSIONS,
            "{MAX_SESSIONS} sessions are kept already (MAX_SESSIONS)"
        );
        self.write(&name, session)?;
        index.admit(name, due);
        drop(index);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes up to `limit` sessions that are due. Each has to be given back with [`renewed`](Self::renewed),
    /// [`later`](Self::later) or [`end`](Self::end). What cannot be opened is removed.
    pub fn due(&self, now: Instant, limit: usize) -> Vec<(Ticket, Session)> {
        let mut index = self.index();
        let due =
            index.entries.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now)).take(limit);
        let tickets = due.map(|(name, entry)| {
            entry.due = None;
            Ticket { name: name.clone(), serial: entry.serial }
        });
        let mut taken = Vec::new();
        for ticket in tickets.collect::<Vec<_>>() {
            match self.read(&ticket.name) {
                Ok(session) => taken.push((ticket, session)),
                Err(error) => {
                    tracing::warn!(reason = %format!("{error:#}"), "a session cannot be opened; its person has to sign in again");
                    index.entries.remove(&ticket.name);
                    let _ = self.remove(&ticket.name);
                }
            }
        }
        taken
    }

    /// When the next session is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.index().entries.values().filter_map(|entry| entry.due).min()
    }

    /// Gives a session back, with the token that replaces its own. `false` if the person has signed in meanwhile:
    /// nothing is changed then.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn renewed(&self, ticket: &Ticket, session: &Session, due: Instant) -> Result<bool> {
        let mut index = self.index();
        let Some(entry) = index.held(ticket) else { return Ok(false) };
        entry.due = Some(due);
        self.write(&ticket.name, session)?;
        Ok(true)
    }

    /// Gives a session back unchanged.
    pub fn later(&self, ticket: &Ticket, due: Instant) {
        if let Some(entry) = self.index().held(ticket) {
            entry.due = Some(due);
        }
    }

    /// Whether the person has not signed in since.
    pub fn is_current(&self, ticket: &Ticket) -> bool {
        self.index().held(ticket).is_some()
    }

    /// Ends a session. `false` if the person has signed in meanwhile: nothing is changed then.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn end(&self, ticket: &Ticket) -> Result<bool> {
        let mut index = self.index();
        if index.held(ticket).is_none() {
            return Ok(false);
        }
        index.entries.remove(&ticket.name);
        self.remove(&ticket.name)?;
        Ok(true)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: &str, session: &Session) -> Result<()> {
        let content = Content {
            provider: session.provider.clone(),
            issuer: session.issuer.clone(),
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
        let path = self.folder.join(name);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).context("cannot write a session")?;
        file.write_all(&nonce).and_then(|()| file.write_all(&sealed)).context("cannot write a session")?;
        file.as_file().sync_all().context("cannot sync a session")?;
        file.persist(path).map_err(|error| error.error).context("cannot name a session")?;
        sync_directory(&self.folder)
    }

    fn read(&self, name: &str) -> Result<Session> {
        let mut sealed = Zeroizing::new(Vec::new());
        open_private(&self.folder.join(name))?.take(MAX_SESSION_BYTES as u64).read_to_end(&mut sealed)?;
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).context("it is too short")?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| anyhow!("it is too short"))?;
        let opened = self.key.open_in_place(nonce, bound_to(name), sealed);
        let mut content: Content = serde_json::from_slice(opened.map_err(|_| anyhow!("it does not open"))?)?;
        Ok(Session {
            provider: std::mem::take(&mut content.provider),
            issuer: std::mem::take(&mut content.issuer),
            subject: std::mem::take(&mut content.subject),
            refresh: RefreshToken::new(std::mem::take(&mut content.token)),
        })
    }

    fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove a session")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Index {
    fn admit(&mut self, name: String, due: Instant) {
        self.serial += 1;
        self.entries.insert(name, Entry { serial: self.serial, due: Some(due) });
    }

    /// The entry that a ticket is of, unless the person has signed in since.
    fn held(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(&ticket.name).filter(|entry| entry.serial == ticket.serial)
    }
}

/// A file's name tells nobody who the person is.
fn name(issuer: &str, subject: &str) -> String {
    let mut digest = Digest::new(&SHA256);
    // With its length: no two persons are the same bytes.
    digest.update(&(issuer.len() as u64).to_be_bytes());
    digest.update(issuer.as_bytes());
    digest.update(subject.as_bytes());
    HEXLOWER.encode(digest.finish().as_ref())
}

fn is_name(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from([PURPOSE, name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::time::Duration;

    const SECRET: &str = "refresh-token-canary";

    fn scene() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    fn session(subject: &str, token: &str) -> Session {
        Session {
            provider: "acme".into(),
            issuer: "https://idp.example".into(),
            subject: subject.into(),
            refresh: RefreshToken::new(token.into()),
        }
    }

    fn files(state: &StateDir) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(state.path(SESSIONS)).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        files
    }

    fn holds(file: &Path, text: &str) -> bool {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
            || file.to_string_lossy().contains(text)
    }

    #[test]
    fn s4_what_is_kept_is_sealed_private_and_opens_again() {
        let (_parent, state) = scene();
        let ada = session("ada@acme", SECRET);
        Sessions::open(&state).unwrap().keep(&ada, Instant::now()).unwrap();
        let kept = files(&state);
        assert_eq!(kept.len(), 1);
        assert!(!holds(&kept[0], SECRET) && !holds(&kept[0], "ada"));
        for path in [&kept[0], &state.path(KEY)] {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }
        let due = Sessions::open(&state).unwrap().due(Instant::now(), 10);
        assert_eq!(due.iter().map(|(_, session)| session).collect::<Vec<_>>(), [&ada]);
        assert!(!format!("{ada:?}").contains(SECRET));
    }

    #[test]
    fn s4_no_backup_holds_the_key() {
        assert!(!crate::state_dir::BACKED_UP.iter().any(|path| path.starts_with(FOLDER)));
        assert!(!crate::state_dir::BACKED_UP_IF_THERE.iter().any(|path| path.starts_with(FOLDER)));
    }

    #[test]
    fn a_file_that_was_changed_or_moved_to_another_person_does_not_open() {
        for attack in ["flip", "swap", "short", "key"] {
            let (_parent, state) = scene();
            let sessions = Sessions::open(&state).unwrap();
            sessions.keep(&session("ada", SECRET), Instant::now()).unwrap();
            let victim = state.path(SESSIONS).join(name("https://idp.example", "ada"));
            match attack {
                "flip" => {
                    let mut bytes = std::fs::read(&victim).unwrap();
                    *bytes.last_mut().unwrap() ^= 1;
                    std::fs::write(&victim, bytes).unwrap();
                }
                "swap" => {
                    let other = state.path(SESSIONS).join(name("https://idp.example", "eve"));
                    std::fs::rename(&victim, other).unwrap();
                }
                "short" => std::fs::write(&victim, b"x").unwrap(),
                _ => std::fs::write(state.path(KEY), [7; 32]).unwrap(),
            }
            let sessions = Sessions::open(&state).unwrap();
            assert_eq!(sessions.due(Instant::now(), 10), [], "{attack}");
            assert_eq!(files(&state), Vec::<PathBuf>::new(), "{attack}: of no use to anyone, so removed");
        }
    }

    #[test]
    fn a_new_sign_in_is_not_undone_by_what_came_of_the_old_one() {
        let (_parent, state) = scene();
        let (sessions, now) = (Sessions::open(&state).unwrap(), Instant::now());
        sessions.keep(&session("ada", "old"), now).unwrap();
        let (ticket, _) = sessions.due(now, 10).remove(0);
        assert_eq!(sessions.due(now, 10), [], "it is asked about once");
        sessions.keep(&session("ada", "new"), now).unwrap();
        assert!(!sessions.end(&ticket).unwrap());
        assert!(!sessions.renewed(&ticket, &session("ada", "rotated"), now).unwrap());
        let (ticket, kept) = sessions.due(now, 10).remove(0);
        assert_eq!(kept.refresh.secret(), "new");
        let soon = now + Duration::from_secs(5);
        assert!(sessions.renewed(&ticket, &session("ada", "rotated"), soon).unwrap());
        assert_eq!((sessions.next_due(), sessions.due(now, 10).len()), (Some(soon), 0));
        assert_eq!(sessions.due(soon, 10)[0].1.refresh.secret(), "rotated");
        assert!(sessions.end(&ticket).unwrap());
        assert_eq!(files(&state), Vec::<PathBuf>::new());
    }

    #[test]
    fn who_is_ended_is_forgotten_and_nobody_else() {
        let (_parent, state) = scene();
        let (sessions, now) = (Sessions::open(&state).unwrap(), Instant::now());
        for subject in ["ada", "bob"] {
            sessions.keep(&session(subject, subject), now).unwrap();
        }
        let due = sessions.due(now, 10);
        let (ada, _) = due.iter().find(|(_, session)| session.subject == "ada").unwrap();
        assert!(sessions.is_current(ada) && sessions.end(ada).unwrap());
        assert!(!sessions.is_current(ada) && !sessions.end(ada).unwrap());
        drop(sessions);
        let left = Sessions::open(&state).unwrap().due(Instant::now(), 10);
        assert_eq!(left.iter().map(|(_, session)| session.subject.as_str()).collect::<Vec<_>>(), ["bob"]);
        assert_ne!(name("a", "bc"), name("ab", "c"));
    }
}
