//! The head record: how far the journal was synced. It is what tells a torn tail from damage.
//!
//! After a crash the last bytes of the journal may be incomplete, and cutting them is right: nobody was told
//! that they are there. A flipped bit in the last frame looks the same from inside the segment, and cutting
//! *that* would silently lose a revocation. So after each `fdatasync` of the frames, and before any effect is
//! performed, the end of the synced chain is written here, in place. On open, everything up to the head must
//! check; only what lies beyond it may be cut.
//!
//! The record is not itself synced at each commit. It survives the death of the process (it is in the page
//! cache); after a power loss it may be a few seconds old, which is harmless: complete frames beyond the head
//! that continue the chain are accepted. It is smaller than a disk sector and never moves, so it is either the
//! old record or the new one. A record that does not check is damage, and damage refuses to start.

use super::frame::{ChainHash, Link};
use super::{Damage, JournalError};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"BHKHEAD1";
/// Magic, sequence, hash, segment, offset, checksum.
const RECORD_BYTES: usize = 8 + 8 + 32 + 8 + 8 + 4;
/// File name in the journal's directory.
pub const FILE_NAME: &str = "head";
/// A reader beside a running daemon may meet a record that is just being replaced.
const READ_ATTEMPTS: usize = 3;

/// The end of what was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Last synced frame.
    pub link: Link,
    /// First sequence number of the segment that holds the end.
    pub segment: u64,
    /// Length of that segment up to the end.
    pub offset: u64,
}

impl Head {
    /// Reads the record of the journal in `directory`; `None` when there is none.
    ///
    /// # Errors
    /// The record cannot be read or does not check.
    pub fn read(directory: &Path) -> Result<Option<Self>, JournalError> {
        let path = directory.join(FILE_NAME);
        let mut outcome = Ok(None);
        for _ in 0..READ_ATTEMPTS {
            outcome = read_once(&path);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The record as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        let fields = [
            MAGIC.as_slice(),
            &self.link.sequence.to_be_bytes(),
            &self.link.hash.0,
            &self.segment.to_be_bytes(),
            &self.offset.to_be_bytes(),
        ];
        let body = fields.concat();
        record[..body.len()].copy_from_slice(&body);
        record[body.len()..].copy_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        record
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let (body, checksum) = record.split_last_chunk::<4>()?;
        if record.len() != RECORD_BYTES || crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (offset, _) = rest.split_first_chunk::<8>()?;
        (magic == MAGIC).then(|| Self {
            link: Link { sequence: u64::from_be_bytes(*sequence), hash: ChainHash(*hash) },
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(*offset),
        })
    }
}

fn read_once(path: &Path) -> Result<Option<Head>, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("open", path, error)),
    };
    let mut record = Vec::with_capacity(RECORD_BYTES);
    // One byte more than a record, so that a longer file is noticed.
    let limit = RECORD_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut record).map_err(|error| JournalError::io("read", path, error))?;
    let damage =
        || Damage { path: path.to_owned(), offset: 0, what: "the head record does not check".to_owned() };
    Head::decode(&record).map(Some).ok_or_else(|| JournalError::Damaged(damage()))
}

/// The open record of a journal that is being written.
#[derive(Debug)]
pub struct HeadFile {
    path: PathBuf,
    file: File,
}

impl HeadFile {
    /// Makes the record of a new journal, durably.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn create(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(FILE_NAME);
        let mut temporary =
            tempfile::NamedTempFile::new_in(directory).map_err(|e| JournalError::io("create", &path, e))?;
        temporary.write_all(&Head::default().encode()).map_err(|e| JournalError::io("write", &path, e))?;
        temporary.as_file().sync_all().map_err(|e| JournalError::io("sync", &path, e))?;
        let file =
            temporary.persist_noclobber(&path).map_err(|e| JournalError::io("create", &path, e.error))?;
        Ok(Self { path, file })
    }

    /// Opens the record of an existing journal for writing.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(FILE_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|e| JournalError::io("open", &path, e))?;
        Ok(Self { path, file })
    }

    /// Records that the journal is synced up to `head`.
    ///
    /// # Errors
    /// The record cannot be written: the journal must not be used any longer.
    pub fn record(&self, head: &Head) -> Result<(), JournalError> {
        self.file
            .write_all_at(&head.encode(), 0)
            .map_err(|e| JournalError::Sync { path: self.path.clone(), source: e })
    }

    /// Makes the record durable, at a clean stop and when a segment is finished.
    ///
    /// # Errors
    /// The sync failed.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|e| JournalError::Sync { path: self.path.clone(), source: e })
    }
}
