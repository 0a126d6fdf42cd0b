//! Reading beside a running writer: pages for the audit log, verification, and consistent copies.
//!
//! A reader never sees past the synced head: what it shows is what survives a power loss. It opens the files
//! itself and shares only a small index with the writer, so a long read holds nobody up.

use super::file::walk;
use super::frame::{Frame, Link};
use super::head::Head;
use super::segment::{self, SegmentReader};
use super::{Damage, JournalError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One frame in this many is indexed: a page is found by reading over at most this many frames.
const INDEX_EVERY: u64 = 64;
/// Largest number of frames in one page.
pub const MAX_PAGE_FRAMES: usize = 1000;
/// A page ends early when its events together are larger than this.
pub const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Where frames are, sparsely, and how far they are synced. Written by the journal, read by readers.
#[derive(Debug, Default)]
pub(super) struct Index {
    inner: Mutex<IndexInner>,
}

#[derive(Debug, Default)]
struct IndexInner {
    /// `(sequence, first sequence of its segment, offset)`, ascending.
    places: Vec<(u64, u64, u64)>,
    head: Head,
}

impl Index {
    pub(super) fn note(&self, segment: u64, offset: u64, sequence: u64) {
        if (sequence - 1).is_multiple_of(INDEX_EVERY) || sequence == segment {
            self.lock().places.push((sequence, segment, offset));
        }
    }

    pub(super) fn advance(&self, head: Head) {
        self.lock().head = head;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, IndexInner> {
        // A panic cannot leave the two fields half-changed: each change is one assignment or push.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The synced head, and the best place at or before `sequence`.
    fn locate(&self, sequence: u64) -> (Head, Option<(u64, u64)>) {
        let inner = self.lock();
        let after = inner.places.partition_point(|(at, _, _)| *at <= sequence);
        let place = after.checked_sub(1).and_then(|i| inner.places.get(i));
        (inner.head, place.map(|(_, segment, offset)| (*segment, *offset)))
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// End of the chain.
    pub end: Link,
    /// Bytes beyond it that are not frames: what the next start will cut.
    pub torn: Option<Damage>,
}

/// A handle for reading one journal; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
    index: Arc<Index>,
}

impl Reader {
    pub(super) fn shared(directory: &Path, index: Arc<Index>) -> Self {
        Self { directory: directory.to_owned(), index }
    }

    /// The synced head.
    #[must_use]
    pub fn head(&self) -> Head {
        self.index.lock().head
    }

    /// Up to `limit` frames after `after`, oldest first.
    ///
    /// # Errors
    /// A file cannot be read, or does not check.
    pub fn page(&self, after: u64, limit: usize) -> Result<Vec<Frame>, JournalError> {
        let (head, place) = self.index.locate(after.saturating_add(1));
        let limit = limit.min(MAX_PAGE_FRAMES);
        let mut page = Vec::new();
        let mut bytes = 0;
        let Some((mut segment, offset)) = place else { return Ok(page) };
        if after >= head.link.sequence {
            return Ok(page);
        }
        let mut reader = SegmentReader::open_at(&self.directory, segment, offset)?;
        let mut end = None;
        while page.len() < limit
            && bytes < MAX_PAGE_BYTES
            && end.is_none_or(|e: Link| e.sequence < head.link.sequence)
        {
            let Some(frame) = reader.next_frame()? else {
                // The end of a finished segment: the next one starts with the next frame.
                let Some(link) = end else { break };
                segment = link.sequence + 1;
                reader = SegmentReader::open(&self.directory, segment, link)?;
                continue;
            };
            end = Some(frame.link);
            if frame.link.sequence > after {
                bytes += frame.entry.event.len();
                page.push(frame);
            }
        }
        Ok(page)
    }

    /// Verifies everything, calling `visit` with each frame.
    ///
    /// # Errors
    /// Damage with file and offset.
    pub fn verify(&self, visit: impl FnMut(&Frame)) -> Result<Verified, JournalError> {
        verify(&self.directory, visit)
    }
}

/// Verifies the journal in `directory` without changing it; also while a coordinator is running.
///
/// # Errors
/// Damage with file and offset, or no journal.
pub fn verify(directory: &Path, mut visit: impl FnMut(&Frame)) -> Result<Verified, JournalError> {
    // The head is read first: the writer may go on, but what this head promises must be there.
    let head = Head::read(directory)?.ok_or_else(|| JournalError::Missing(directory.to_owned()))?;
    let walk = walk(directory, &head, |_, _, frame| {
        visit(frame);
        Ok::<(), JournalError>(())
    })?;
    Ok(Verified { end: walk.end, torn: walk.torn })
}

/// What a consistent copy of a journal consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// The head that the copy ends with.
    pub head: Head,
    /// First sequence number and length to copy, per segment, in order.
    pub segments: Vec<(u64, u64)>,
}

/// Plans a copy that is consistent although the writer goes on: segments only grow, so a copy up to the head
/// is the journal as it was when the head was read.
///
/// # Errors
/// No journal, or a segment that the head needs is missing.
pub fn plan_copy(directory: &Path) -> Result<CopyPlan, JournalError> {
    let head = Head::read(directory)?.ok_or_else(|| JournalError::Missing(directory.to_owned()))?;
    let mut segments = Vec::new();
    for first in segment::list(directory)?.into_iter().filter(|first| *first <= head.segment.max(1)) {
        let path = segment::path(directory, first);
        let length = std::fs::metadata(&path).map_err(|e| JournalError::io("read", &path, e))?.len();
        segments.push((first, if first == head.segment { head.offset } else { length }));
    }
    Ok(CopyPlan { head, segments })
}
