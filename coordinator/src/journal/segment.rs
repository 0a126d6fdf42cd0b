//! A segment: one file of the journal, named after its first sequence number.
//!
//! ```text
//! magic [8] | first sequence u64 | hash before it [32] | crc32c u32 | frame | frame | …
//! ```
//!
//! A segment appears under its name complete with its header and synced, and only after the segment before it
//! was synced to its end. So only the last segment can have a torn tail, and no header is ever torn.

use super::frame::{self, ChainHash, Frame, FrameError, HEADER_BYTES, Link};
use super::{Damage, JournalError};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"BHKJRNL1";
/// Length of a segment's header.
pub const SEGMENT_HEADER_BYTES: u64 = 8 + 8 + 32 + 4;
/// Ending of segment names.
pub const EXTENSION: &str = "segment";

/// Path of the segment that starts with `first`.
#[must_use]
pub fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.{EXTENSION}"))
}

/// First sequence numbers of the segments in `directory`, in order. Other files are not the journal's and are
/// left alone.
///
/// # Errors
/// The directory cannot be read, or a segment's name is not a sequence number.
pub fn list(directory: &Path) -> Result<Vec<u64>, JournalError> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(|e| JournalError::io("read", directory, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| JournalError::io("read", directory, e))?;
        let candidate = entry.path();
        if candidate.extension().is_none_or(|e| e != EXTENSION) {
            continue;
        }
        let first = candidate.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        match first {
            Some(first) if path(directory, first) == candidate => found.push(first),
            _ => {
                let what = "the name is not that of a segment".to_owned();
                return Err(JournalError::Damaged(Damage { path: candidate, offset: 0, what }));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the segment that continues `link` and opens it for appending.
///
/// # Errors
/// It exists already, or cannot be written and synced.
pub fn create(directory: &Path, link: Link) -> Result<File, JournalError> {
    let path = path(directory, link.sequence + 1);
    let header = encode_header(link);
    let mut temporary =
        tempfile::NamedTempFile::new_in(directory).map_err(|e| JournalError::io("create", &path, e))?;
    temporary.write_all(&header).map_err(|e| JournalError::io("write", &path, e))?;
    temporary.as_file().sync_all().map_err(|e| JournalError::io("sync", &path, e))?;
    let file = temporary.persist_noclobber(&path).map_err(|e| JournalError::io("create", &path, e.error))?;
    sync_directory(directory)?;
    Ok(file)
}

/// Makes names in `directory` durable.
///
/// # Errors
/// The sync failed.
pub fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|e| JournalError::Sync { path: directory.to_owned(), source: e })
}

fn encode_header(link: Link) -> Vec<u8> {
    let mut header = [MAGIC.as_slice(), &(link.sequence + 1).to_be_bytes(), &link.hash.0].concat();
    header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
    header
}

/// Reads the frames of one segment in order, each checked.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
    /// What the next frame must continue; `None` until the first frame of a reader that started inside.
    link: Option<Link>,
}

impl SegmentReader {
    /// Opens the segment that must continue `link`, at its start.
    ///
    /// # Errors
    /// It cannot be read, or its header is not that of the segment that belongs here.
    pub fn open(directory: &Path, first: u64, link: Link) -> Result<Self, JournalError> {
        let path = path(directory, first);
        let mut file = BufReader::new(File::open(&path).map_err(|e| JournalError::io("open", &path, e))?);
        let damage = |what: &str| {
            JournalError::Damaged(Damage { path: path.clone(), offset: 0, what: what.to_owned() })
        };
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                return Err(damage("the segment's header is cut off"));
            }
            Err(e) => return Err(JournalError::io("read", &path, e)),
        }
        if first != link.sequence + 1 {
            return Err(damage(&format!(
                "frame {} is missing: the segment before is gone or cut",
                link.sequence + 1
            )));
        }
        if header.as_slice() != encode_header(link) {
            return Err(damage("the segment's header does not continue the chain"));
        }
        Ok(Self { path, file, offset: SEGMENT_HEADER_BYTES, link: Some(link) })
    }

    /// Opens a segment at a frame that is known to start at `offset`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open_at(directory: &Path, first: u64, offset: u64) -> Result<Self, JournalError> {
        let path = path(directory, first);
        let mut file = BufReader::new(File::open(&path).map_err(|e| JournalError::io("open", &path, e))?);
        file.seek(SeekFrom::Start(offset)).map_err(|e| JournalError::io("read", &path, e))?;
        Ok(Self { path, file, offset, link: None })
    }

    /// Where the next frame starts; after the last good one when a frame does not check.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, or `None` at the exact end of the file.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when the bytes here are not the next frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, JournalError> {
        let mut header = [0; HEADER_BYTES];
        let got = self.fill(&mut header)?;
        if got == 0 {
            return Ok(None);
        }
        if got < HEADER_BYTES {
            return Err(self.damage(FrameError::Short));
        }
        let length = frame::body_length(header).map_err(|e| self.damage(e))?;
        // `take` bounds what a lying length can make us read to what the file holds.
        let mut body = Vec::new();
        let read = self.file.by_ref().take(length as u64).read_to_end(&mut body);
        read.map_err(|e| JournalError::io("read", &self.path, e))?;
        if body.len() < length {
            return Err(self.damage(FrameError::Short));
        }
        let frame = frame::decode(header, &body, self.link).map_err(|e| self.damage(e))?;
        self.link = Some(frame.link);
        self.offset += (HEADER_BYTES + length) as u64;
        Ok(Some(frame))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, JournalError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(JournalError::io("read", &self.path, e)),
            }
        }
        Ok(filled)
    }

    fn damage(&self, error: FrameError) -> JournalError {
        JournalError::Damaged(Damage {
            path: self.path.clone(),
            offset: self.offset,
            what: error.to_string(),
        })
    }
}

/// The hash that precedes the first frame of a journal.
pub const GENESIS: Link = Link { sequence: 0, hash: ChainHash([0; 32]) };
