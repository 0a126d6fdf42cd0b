//! The journal: the append-only, checksummed, hash-chained log of every change; the source of truth.
//!
//! What is acknowledged is in it and survives kill -9 and power loss, and any corrupted byte in it is found:
//! the engine's events are written here and synced before any of their effects leaves the process, and on
//! start everything up to the durable head must check, or the coordinator refuses to serve a guess. Only what
//! lies beyond the head, which nobody was told about, may be cut (see [`head`]).
//!
//! | file | concept |
//! |---|---|
//! | [`frame`] | one entry as bytes |
//! | [`segment`] | a file of frames |
//! | [`head`] | how far was synced |
//! | [`mod@file`] | the journal on a local disk |
//! | [`reader`] | pages, verification and copies, beside a running writer |
//!
//! [`Journal`] is small on purpose: a replicated store can be a second implementation of it.

pub mod file;
pub mod frame;
pub mod head;
pub mod reader;
pub mod segment;

#[cfg(test)]
mod tests;

pub use file::{FileJournal, Opened, Options, TornTail};
pub use frame::{ChainHash, Entry, Frame, Link};
pub use head::Head;
pub use reader::{Reader, Verified};

use std::io;
use std::path::{Path, PathBuf};

/// A log of entries that only grows.
///
/// `append` any number of entries, then `sync` once; only then are they said to be there. After any error but
/// [`JournalError::Full`] and [`JournalError::Frame`] the journal is unusable and the process has to stop: a
/// failed sync is never retried as if nothing had happened, because the kernel may have dropped the pages.
pub trait Journal: Send {
    /// End of the chain, including entries that are not synced yet.
    fn end(&self) -> Link;

    /// Makes sure that the next batch of entries has room.
    ///
    /// # Errors
    /// [`JournalError::Full`]: nothing that writes can be accepted now.
    fn reserve(&mut self) -> Result<(), JournalError>;

    /// Adds one entry.
    ///
    /// # Errors
    /// [`JournalError::Frame`] when the entry itself is impossible: nothing was added.
    fn append(&mut self, entry: &Entry) -> Result<Link, JournalError>;

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// It may or may not be durable: stop.
    fn sync(&mut self) -> Result<(), JournalError>;
}

/// Where the journal does not check, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// File that is damaged.
    pub path: PathBuf,
    /// Offset of the frame that does not check.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at offset {}: {}", self.path.display(), self.offset, self.what)
    }
}

/// Why the journal cannot be used, or not now.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal does not check. It is never repaired by guessing.
    #[error("the journal is damaged: {0}; restore a backup, or move the journal aside after keeping a copy")]
    Damaged(Damage),
    /// There is no journal here.
    #[error("there is no journal in {0}: run `bulkhead-coordinator init` or `restore` first")]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a journal in {0} already")]
    Exists(PathBuf),
    /// A file could not be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A write or sync failed; what is on the disk is unknown.
    #[error("the journal could not be written to {path}")]
    Sync {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No space for further changes. Nothing was written; reading goes on.
    #[error("the disk that holds {path} is full: free {needed} bytes")]
    Full {
        /// The journal's directory.
        path: PathBuf,
        /// What a batch may need.
        needed: u64,
    },
    /// The entry cannot be written.
    #[error("the change cannot be recorded")]
    Frame(#[from] frame::FrameError),
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
