//! The sessions of people at their providers: a sealed file for each, and when each is to be asked about again.
//!
//! What is lost here costs a new sign-in, nothing more.

use super::queue::{Name, Queue};
use super::sealed::{ReadError, Sealed};
use super::{ProviderConfig, RefreshToken};
use crate::state_dir::StateDir;
use anyhow::{Result, ensure};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub use super::queue::Ticket;

/// Persons whose tokens are kept.
pub const MAX_SESSIONS: usize = 100_000;
/// A file that cannot be read is looked at again after this.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// One person's session at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The person's issuer.
    pub issuer: String,
    /// For whom the token was made: it is shown to the provider in no other name.
    pub client_id: String,
    /// The person.
    pub subject: String,
    /// To ask again with.
    pub refresh: RefreshToken,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    /// Held while a file changes, so that what a file holds and whose tickets are stale change together. Taken before
    /// the queue, and never by a task of the runtime: syncs take long.
    files: Mutex<Sealed>,
    queue: Mutex<Queue>,
    /// Told when there is a new session.
    pub(super) changed: Notify,
}

impl Session {
    /// Whether its token is one for us at this provider.
    pub(super) fn is_for(&self, provider: &ProviderConfig) -> bool {
        self.issuer == provider.issuer && Some(&self.client_id) == provider.client_id.as_ref()
    }
}

impl Sessions {
    /// Opens the sessions of a state directory; all of them are due.
    ///
    /// # Errors
    /// Key or folder cannot be made or read.
    pub fn open(state: &StateDir) -> Result<Self> {
        let (files, mut queue, now) = (Sealed::open(state)?, Queue::default(), Instant::now());
        for name in files.names()?.into_iter().take(MAX_SESSIONS) {
            queue.admit(name, now);
        }
        Ok(Self { files: Mutex::new(files), queue: Mutex::new(queue), changed: Notify::new() })
    }

    /// Keeps a session in place of an earlier one of the same person.
    ///
    /// # Errors
    /// There are [`MAX_SESSIONS`], or it cannot be written.
    pub fn keep(&self, session: &Session, due: Instant) -> Result<()> {
        let name = Name::of(&session.issuer, &session.subject);
        let mut files = self.files();
        let room = self.queue().contains(&name) || self.queue().len() < MAX_SESSIONS;
        ensure!(room, "{MAX_SESSIONS} sessions are kept already (MAX_SESSIONS)");
        let written = files.replace(&name, session);
        // What cannot be written is asked about from memory.
        self.queue().admit(name, due);
        self.changed.notify_one();
        written
    }

    /// Takes the sessions that are due, of each provider no more than its slots. Each has to be given back with
    /// [`later`](Self::later) or [`end`](Self::end). What can never be opened is removed.
    pub fn due(&self, now: Instant) -> Vec<(Ticket, Session)> {
        let mut files = self.files();
        let tickets = self.queue().take_due(now);
        let mut taken = Vec::new();
        for ticket in tickets {
            match files.read(&ticket.name) {
                Ok(session) => taken.push((ticket, session)),
                Err(error @ ReadError::Disk(_)) => {
                    tracing::error!(reason = %super::chain(&error), "a session is looked at again in a minute");
                    self.queue().wait(&ticket, now + READ_AGAIN);
                }
                Err(error @ ReadError::Useless(_)) => {
                    tracing::warn!(reason = %super::chain(&error), "a session is removed; its person has to sign in again");
                    self.queue().remove(&ticket.name);
                    let _ = files.remove(&ticket.name);
                }
            }
        }
        taken
    }

    /// When the next session is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.queue().next_due()
    }

    /// Keeps the token that replaces a session's own. `false` if the person has signed in meanwhile: nothing is
    /// changed then.
    ///
    /// # Errors
    /// It cannot be written. It is used all the same, and written later.
    pub fn renewed(&self, ticket: &Ticket, session: &Session) -> Result<bool> {
        let mut files = self.files();
        if !self.is_current(ticket) {
            return Ok(false);
        }
        files.replace(&ticket.name, session)?;
        Ok(true)
    }

    /// Gives a session back, to be asked about again.
    pub fn later(&self, ticket: &Ticket, due: Instant) {
        self.queue().wait(ticket, due);
    }

    /// Whether the person has not signed in since.
    pub fn is_current(&self, ticket: &Ticket) -> bool {
        self.queue().is_current(ticket)
    }

    /// Ends a session. `false` if the person has signed in meanwhile: nothing is changed then.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn end(&self, ticket: &Ticket) -> Result<bool> {
        let mut files = self.files();
        if !self.is_current(ticket) {
            return Ok(false);
        }
        self.queue().remove(&ticket.name);
        files.remove(&ticket.name)?;
        Ok(true)
    }

    fn files(&self) -> MutexGuard<'_, Sealed> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sealed::{FOLDER, KEY, SESSIONS};
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    const SECRET: &str = "refresh-token-canary";

    fn scene() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    fn session(subject: &str, token: &str) -> Session {
        Session {
            issuer: "https://idp.example".into(),
            client_id: "bulkhead".into(),
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
        let due = Sessions::open(&state).unwrap().due(Instant::now());
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
            let victim = state.path(SESSIONS).join(Name::of("https://idp.example", "ada").to_string());
            match attack {
                "flip" => {
                    let mut bytes = std::fs::read(&victim).unwrap();
                    *bytes.last_mut().unwrap() ^= 1;
                    std::fs::write(&victim, bytes).unwrap();
                }
                "swap" => {
                    let other = state.path(SESSIONS).join(Name::of("https://idp.example", "eve").to_string());
                    std::fs::rename(&victim, other).unwrap();
                }
                "short" => std::fs::write(&victim, b"x").unwrap(),
                _ => std::fs::write(state.path(KEY), [7; 32]).unwrap(),
            }
            let sessions = Sessions::open(&state).unwrap();
            assert_eq!(sessions.due(Instant::now()), [], "{attack}");
            assert_eq!(files(&state), Vec::<PathBuf>::new(), "{attack}: of no use to anyone, so removed");
        }
    }

    #[test]
    fn a_new_sign_in_is_not_undone_by_what_came_of_the_old_one() {
        let (_parent, state) = scene();
        let (sessions, now) = (Sessions::open(&state).unwrap(), Instant::now());
        sessions.keep(&session("ada", "old"), now).unwrap();
        let (ticket, _) = sessions.due(now).remove(0);
        assert_eq!(sessions.due(now), [], "it is asked about once");
        sessions.keep(&session("ada", "new"), now).unwrap();
        assert!(!sessions.end(&ticket).unwrap());
        assert!(!sessions.renewed(&ticket, &session("ada", "rotated")).unwrap());
        sessions.later(&ticket, now + READ_AGAIN);
        let (ticket, kept) = sessions.due(now).remove(0);
        assert_eq!(kept.refresh.secret(), "new");
        let soon = now + Duration::from_secs(5);
        assert!(sessions.renewed(&ticket, &session("ada", "rotated")).unwrap());
        sessions.later(&ticket, soon);
        assert_eq!((sessions.next_due(), sessions.due(now).len()), (Some(soon), 0));
        assert_eq!(sessions.due(soon)[0].1.refresh.secret(), "rotated");
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
        let due = sessions.due(now);
        let (ada, _) = due.iter().find(|(_, session)| session.subject == "ada").unwrap();
        assert!(sessions.is_current(ada) && sessions.end(ada).unwrap());
        assert!(!sessions.is_current(ada) && !sessions.end(ada).unwrap());
        drop(sessions);
        let left = Sessions::open(&state).unwrap().due(Instant::now());
        assert_eq!(left.iter().map(|(_, session)| session.subject.as_str()).collect::<Vec<_>>(), ["bob"]);
        assert_ne!(Name::of("a", "bc").person, Name::of("ab", "c").person);
    }

    /// The folder of the sessions is replaced by a file: nothing in it can be read or written, whoever asks.
    fn without_disk<T>(state: &StateDir, act: impl FnOnce() -> T) -> T {
        let (folder, aside) = (state.path(SESSIONS), state.path("aside"));
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::write(&folder, b"").unwrap();
        let done = act();
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        done
    }

    #[test]
    fn a_file_that_cannot_be_read_now_is_read_later() {
        let (_parent, state) = scene();
        let (sessions, now) = (Sessions::open(&state).unwrap(), Instant::now());
        let ada = session("ada", SECRET);
        sessions.keep(&ada, now).unwrap();
        without_disk(&state, || assert_eq!(sessions.due(now), []));
        assert_eq!(files(&state).len(), 1, "it is not removed");
        assert_eq!(sessions.next_due(), Some(now + READ_AGAIN));
        assert_eq!(sessions.due(now + READ_AGAIN)[0].1, ada);
    }

    #[test]
    fn a_token_that_cannot_be_written_now_is_used_and_written_later() {
        let (_parent, state) = scene();
        let (sessions, now) = (Sessions::open(&state).unwrap(), Instant::now());
        sessions.keep(&session("ada", "old"), now).unwrap();
        let rotated = session("ada", "rotated");
        let (ticket, _) = sessions.due(now).remove(0);
        let ticket = without_disk(&state, || {
            sessions.renewed(&ticket, &rotated).unwrap_err();
            sessions.later(&ticket, now);
            let (ticket, used) = sessions.due(now).remove(0);
            assert_eq!(used, rotated, "the old one is worth nothing any more");
            ticket
        });
        assert_eq!(Sessions::open(&state).unwrap().due(Instant::now())[0].1.refresh.secret(), "old");
        sessions.later(&ticket, now);
        let (ticket, _) = sessions.due(now).remove(0);
        assert_eq!(
            Sessions::open(&state).unwrap().due(Instant::now())[0].1,
            rotated,
            "now it is on the disk"
        );
        assert!(sessions.end(&ticket).unwrap());
        assert_eq!(files(&state), Vec::<PathBuf>::new());
    }
}
