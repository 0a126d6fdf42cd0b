//! The journal on a local disk: what is acknowledged was synced, and opening never serves a guess.
//!
//! Opening walks the whole chain. Up to the head record everything has to check: else
//! [`JournalError::Damaged`] with file and offset. Beyond it, complete frames that continue the chain are kept
//! (a crash came between their sync and the head record), and the first bytes that do not are a torn tail: cut,
//! and reported in [`Opened`].
//!
//! Room is reserved ahead (`fallocate`), so that a full disk is noticed before a change is accepted and not in
//! the middle of writing one.

use super::frame::{self, Entry, Frame, Link};
use super::head::{Head, HeadFile};
use super::reader::{Index, Reader};
use super::segment::{self, GENESIS, SEGMENT_HEADER_BYTES, SegmentReader};
use super::{Damage, Journal, JournalError};
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that has reached this length is finished, and the next one is begun.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Room that is kept ahead of the end: the largest policy as text and compiled, and a batch of small entries.
pub const RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// Sizes, smaller in tests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// See [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// See [`RESERVE_BYTES`].
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, reserve_bytes: RESERVE_BYTES }
    }
}

/// Bytes that were cut off the end when the journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where the first bad frame was, and why it was bad.
    pub damage: Damage,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// An opened journal, and what opening it found.
#[derive(Debug)]
pub struct Opened {
    /// Ready to append.
    pub journal: FileJournal,
    /// What was cut, if anything.
    pub torn: Option<TornTail>,
}

/// Appends to segment files in one directory. One process at a time: the state directory's lock sees to it.
#[derive(Debug)]
pub struct FileJournal {
    directory: PathBuf,
    options: Options,
    head: HeadFile,
    segment: OpenSegment,
    /// Frames that are encoded but not yet written.
    pending: Vec<u8>,
    end: Link,
    index: Arc<Index>,
    /// Set by the first failed write or sync; nothing works afterwards.
    broken: bool,
}

#[derive(Debug)]
struct OpenSegment {
    first: u64,
    path: PathBuf,
    file: File,
    /// Length including what is written but not synced.
    length: u64,
    /// Up to where room is reserved.
    reserved: u64,
}

impl FileJournal {
    /// Makes an empty journal.
    ///
    /// # Errors
    /// There is one, or the directory cannot be written.
    pub fn create(directory: &Path, options: Options) -> Result<Self, JournalError> {
        if Head::read(directory)?.is_some() || !segment::list(directory)?.is_empty() {
            return Err(JournalError::Exists(directory.to_owned()));
        }
        let head = HeadFile::create(directory)?;
        let segment = OpenSegment::create(directory, GENESIS)?;
        Ok(Self::assemble(directory, options, head, segment, GENESIS, Index::default()))
    }

    /// Opens a journal, verifies it, and calls `replay` with every frame in order.
    ///
    /// # Errors
    /// Damage, or a file that cannot be used. An error of `replay` ends the opening and is returned.
    pub fn open<E: From<JournalError>>(
        directory: &Path,
        options: Options,
        mut replay: impl FnMut(&Frame) -> Result<(), E>,
    ) -> Result<Opened, E> {
        let recorded = Head::read(directory)?.ok_or_else(|| JournalError::Missing(directory.to_owned()))?;
        let index = Index::default();
        let walk = walk(directory, &recorded, |first, offset, frame| {
            index.note(first, offset, frame.link.sequence);
            replay(frame)
        })?;
        let head = HeadFile::open(directory)?;
        let segment = match walk.segment {
            Some((first, length)) => OpenSegment::open(directory, first, length)?,
            // A crash right after `create` wrote the head: there is nothing yet, and nothing was promised.
            None => OpenSegment::create(directory, GENESIS)?,
        };
        let torn = walk.torn.map(|damage| segment.cut(damage)).transpose()?;
        let mut journal = Self::assemble(directory, options, head, segment, walk.end, index);
        // Frames beyond the head may be in the page cache only. They are served from now on, so they must stay.
        journal.sync()?;
        Ok(Opened { journal, torn })
    }

    fn assemble(
        directory: &Path,
        options: Options,
        head: HeadFile,
        segment: OpenSegment,
        end: Link,
        index: Index,
    ) -> Self {
        let at = Head { link: end, segment: segment.first, offset: segment.length };
        index.advance(at);
        Self {
            directory: directory.to_owned(),
            options,
            head,
            segment,
            pending: Vec::new(),
            end,
            index: Arc::new(index),
            broken: false,
        }
    }

    /// A reader of the synced part, for other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::shared(&self.directory, Arc::clone(&self.index))
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        // The finished segment must be whole on the disk before its successor exists: only the last segment
        // may ever be torn.
        self.segment.write(&mut self.pending)?;
        self.segment.sync()?;
        self.segment.release_reserve();
        self.segment = OpenSegment::create(&self.directory, self.end)?;
        Ok(())
    }

    fn try_append(&mut self, entry: &Entry) -> Result<Link, JournalError> {
        if self.segment.length + self.pending.len() as u64 >= self.options.segment_bytes {
            self.rotate()?;
        }
        let offset = self.segment.length + self.pending.len() as u64;
        self.end = frame::encode(self.end, entry, &mut self.pending)?;
        self.index.note(self.segment.first, offset, self.end.sequence);
        Ok(self.end)
    }

    fn try_sync(&mut self) -> Result<(), JournalError> {
        self.segment.write(&mut self.pending)?;
        self.segment.sync()?;
        let head = Head { link: self.end, segment: self.segment.first, offset: self.segment.length };
        self.head.record(&head)?;
        self.index.advance(head);
        Ok(())
    }

    fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        if self.broken {
            let source = std::io::Error::other("an earlier write failed");
            return Err(JournalError::Sync { path: self.directory.clone(), source });
        }
        let outcome = act(self);
        self.broken = !matches!(outcome, Ok(_) | Err(JournalError::Frame(_) | JournalError::Full { .. }));
        outcome
    }
}

impl Journal for FileJournal {
    fn end(&self) -> Link {
        self.end
    }

    fn reserve(&mut self) -> Result<(), JournalError> {
        let needed = self.options.reserve_bytes;
        self.segment.reserve(needed).map_err(|()| JournalError::Full { path: self.directory.clone(), needed })
    }

    fn append(&mut self, entry: &Entry) -> Result<Link, JournalError> {
        self.guarded(|journal| journal.try_append(entry))
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.guarded(Self::try_sync)
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        // A clean stop leaves an exact head even if the power fails right after it. Failure only means that
        // the head is a little old.
        if !self.broken {
            let _ = self.head.sync();
        }
    }
}

impl OpenSegment {
    fn create(directory: &Path, link: Link) -> Result<Self, JournalError> {
        let file = segment::create(directory, link)?;
        let first = link.sequence + 1;
        Self::at_end(first, segment::path(directory, first), file, SEGMENT_HEADER_BYTES)
    }

    fn open(directory: &Path, first: u64, length: u64) -> Result<Self, JournalError> {
        let path = segment::path(directory, first);
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().write(true), flags)
            .open(&path)
            .map_err(|e| JournalError::io("open", &path, e))?;
        Self::at_end(first, path, file, length)
    }

    fn at_end(first: u64, path: PathBuf, mut file: File, length: u64) -> Result<Self, JournalError> {
        file.seek(SeekFrom::Start(length)).map_err(|e| JournalError::io("open", &path, e))?;
        Ok(Self { first, path, file, length, reserved: length })
    }

    /// Cuts what lies beyond the last good frame.
    fn cut(&self, damage: Damage) -> Result<TornTail, JournalError> {
        let failed = |source| JournalError::Sync { path: self.path.clone(), source };
        let before = self.file.metadata().map_err(failed)?.len();
        self.file.set_len(self.length).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        Ok(TornTail { damage, bytes: before.saturating_sub(self.length) })
    }

    fn write(&mut self, pending: &mut Vec<u8>) -> Result<(), JournalError> {
        let written = self.file.write_all(pending);
        written.map_err(|source| JournalError::Sync { path: self.path.clone(), source })?;
        self.length += pending.len() as u64;
        pending.clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| JournalError::Sync { path: self.path.clone(), source })
    }

    /// Reserves room without changing the file's length, so that a reader never sees zeros.
    fn reserve(&mut self, room: u64) -> Result<(), ()> {
        // Half is enough to go on: reserving anew for every small batch would cost a call each time.
        if self.reserved.saturating_sub(self.length) >= room / 2 && room > 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, room.max(1)) {
            Ok(()) => {
                self.reserved = self.length + room;
                Ok(())
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.probe(room),
            Err(error) => {
                tracing::warn!(error = %error, "no room can be reserved for the journal");
                Err(())
            }
        }
    }

    /// For file systems that cannot reserve: ask how much is free.
    fn probe(&self, room: u64) -> Result<(), ()> {
        match rustix::fs::fstatvfs(&self.file) {
            Ok(status) if status.f_bavail.saturating_mul(status.f_frsize) >= room => Ok(()),
            Ok(_) | Err(_) => Err(()),
        }
    }

    /// Gives unused room of a finished segment back to the disk; best effort.
    fn release_reserve(&self) {
        let _ = self.file.set_len(self.length);
    }
}

/// What a walk over all segments found.
pub(super) struct Walk {
    /// End of the good part.
    pub(super) end: Link,
    /// Last segment: its first sequence number and the length of its good part.
    pub(super) segment: Option<(u64, u64)>,
    /// Why the bytes after that are not frames.
    pub(super) torn: Option<Damage>,
}

/// Walks the whole chain against the recorded head; the one place that tells torn from damaged.
pub(super) fn walk<E: From<JournalError>>(
    directory: &Path,
    recorded: &Head,
    mut visit: impl FnMut(u64, u64, &Frame) -> Result<(), E>,
) -> Result<Walk, E> {
    let segments = segment::list(directory)?;
    let mut walk = Walk { end: GENESIS, segment: None, torn: None };
    for (place, first) in segments.iter().enumerate() {
        let last = place + 1 == segments.len();
        let mut reader = SegmentReader::open(directory, *first, walk.end)?;
        loop {
            let offset = reader.offset();
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(JournalError::Damaged(damage)) if last && walk.end.sequence >= recorded.link.sequence => {
                    walk.torn = Some(damage);
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            agrees_with_head(directory, recorded, *first, &reader, &frame)?;
            visit(*first, offset, &frame)?;
            walk.end = frame.link;
        }
        walk.segment = Some((*first, reader.offset()));
    }
    if walk.end.sequence < recorded.link.sequence {
        let what = format!(
            "{} frames were synced, but the journal ends after {}: a segment is gone or cut",
            recorded.link.sequence, walk.end.sequence
        );
        let path = segment::path(directory, recorded.segment);
        let offset = walk.segment.map_or(0, |(_, length)| length);
        return Err(JournalError::Damaged(Damage { path, offset, what }).into());
    }
    Ok(walk)
}

/// The frame that the head names must be the very frame that was synced, at its place.
fn agrees_with_head(
    directory: &Path,
    recorded: &Head,
    segment: u64,
    reader: &SegmentReader,
    frame: &Frame,
) -> Result<(), JournalError> {
    let at = Head { link: frame.link, segment, offset: reader.offset() };
    if frame.link.sequence != recorded.link.sequence || at == *recorded {
        return Ok(());
    }
    let path = segment::path(directory, segment);
    let what = "the frame is not the one that the head record names".to_owned();
    Err(JournalError::Damaged(Damage { path, offset: reader.offset(), what }))
}
