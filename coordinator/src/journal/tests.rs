//! S6, S7, S11: every corrupted byte is found; what was synced is there; what is cut was never promised.
#![allow(clippy::unwrap_used)]

use super::file::walk;
use super::reader::{plan_copy, verify};
use super::*;
use bulkhead_identity::Timestamp;
use proptest::prelude::*;
use std::fs;

const SMALL: Options = Options { segment_bytes: 400, reserve_bytes: 4096 };

fn entry(n: u64) -> Entry {
    Entry {
        time: Timestamp(1_000 + n),
        actor: format!("actor-{n}"),
        event: vec![n as u8; 20 + (n % 7) as usize],
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Appends entries `from..=to`, one sync each.
fn append(journal: &mut FileJournal, from: u64, to: u64) {
    for n in from..=to {
        assert_eq!(journal.append(&entry(n)).unwrap().sequence, n);
        journal.sync().unwrap();
    }
}

fn written(entries: u64) -> tempfile::TempDir {
    let directory = directory();
    append(&mut FileJournal::create(directory.path(), SMALL).unwrap(), 1, entries);
    directory
}

fn open(directory: &Path) -> Result<(Vec<Frame>, Option<TornTail>), JournalError> {
    let mut frames = Vec::new();
    let opened = FileJournal::open(directory, SMALL, |frame| {
        frames.push(frame.clone());
        Ok::<(), JournalError>(())
    })?;
    Ok((frames, opened.torn))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = directory();
    for file in files(from) {
        fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

fn last_segment(directory: &Path) -> PathBuf {
    segment::path(directory, *segment::list(directory).unwrap().last().unwrap())
}

#[test]
fn what_was_synced_is_read_again() {
    let directory = written(30);
    assert!(segment::list(directory.path()).unwrap().len() > 3, "the test must cross segments");
    let (frames, torn) = open(directory.path()).unwrap();
    assert_eq!(torn, None);
    let expected: Vec<Entry> = (1..=30).map(entry).collect();
    assert_eq!(frames.into_iter().map(|f| f.entry).collect::<Vec<_>>(), expected);
}

#[test]
fn s6_every_flipped_byte_of_every_file_is_detected() {
    let directory = written(12);
    assert!(segment::list(directory.path()).unwrap().len() >= 3);
    for file in files(directory.path()) {
        let good = fs::read(&file).unwrap();
        for place in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[place] ^= flip;
                fs::write(&file, &bad).unwrap();
                let outcome = open(directory.path());
                assert!(
                    matches!(outcome, Err(JournalError::Damaged(_))),
                    "{}:{place} ^ {flip:#x}: {outcome:?}",
                    file.display()
                );
                assert!(verify(directory.path(), |_| {}).is_err());
            }
        }
        fs::write(&file, &good).unwrap();
    }
    assert_eq!(open(directory.path()).unwrap().0.len(), 12);
}

#[test]
fn s7_a_cut_at_any_length_keeps_what_was_synced_or_is_an_error() {
    let directory = written(9);
    let synced = Head::read(directory.path()).unwrap().unwrap();
    // Three more frames reach the file but not the head: the process dies before the sync returns.
    let mut journal =
        FileJournal::open(directory.path(), SMALL, |_| Ok::<(), JournalError>(())).unwrap().journal;
    let head_before = fs::read(directory.path().join(head::FILE_NAME)).unwrap();
    append(&mut journal, 10, 12);
    drop(journal);
    fs::write(directory.path().join(head::FILE_NAME), head_before).unwrap();

    for file in files(directory.path()).into_iter().filter(|f| f.extension().is_some()) {
        let good = fs::read(&file).unwrap();
        for length in 0..good.len() {
            let crashed = copy(directory.path());
            fs::write(crashed.path().join(file.file_name().unwrap()), &good[..length]).unwrap();
            match open(crashed.path()) {
                Ok((frames, _)) => {
                    assert!(frames.len() as u64 >= synced.link.sequence, "lost a synced frame");
                    let expected: Vec<Entry> = (1..=frames.len() as u64).map(entry).collect();
                    assert_eq!(frames.into_iter().map(|f| f.entry).collect::<Vec<_>>(), expected);
                    // Whatever was cut stays cut, and the journal goes on.
                    assert_eq!(open(crashed.path()).unwrap().1, None);
                }
                Err(JournalError::Damaged(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_torn_tail_is_cut_reported_and_written_over() {
    for tail in
        [vec![0_u8; 700], vec![0, 0, 0, 60, 1, 2], vec![0xff; 3], b"garbage that is no frame".to_vec()]
    {
        let directory = written(5);
        let segment = last_segment(directory.path());
        let mut bytes = fs::read(&segment).unwrap();
        let good = bytes.len() as u64;
        bytes.extend_from_slice(&tail);
        fs::write(&segment, bytes).unwrap();
        let (frames, torn) = open(directory.path()).unwrap();
        assert_eq!(frames.len(), 5);
        let torn = torn.unwrap();
        assert_eq!((torn.bytes, torn.damage.offset), (tail.len() as u64, good));
        let mut journal =
            FileJournal::open(directory.path(), SMALL, |_| Ok::<(), JournalError>(())).unwrap().journal;
        append(&mut journal, 6, 8);
        drop(journal);
        assert_eq!(open(directory.path()).unwrap().0.len(), 8);
    }
}

#[test]
fn s11_a_removed_or_replaced_segment_is_found() {
    let directory = written(30);
    for first in segment::list(directory.path()).unwrap() {
        let without = copy(directory.path());
        fs::remove_file(segment::path(without.path(), first)).unwrap();
        assert!(open(without.path()).is_err(), "segment {first} is missing and nobody noticed");
    }
    let mut other = entry(1);
    other.actor = "forger".to_owned();
    let forged = self::directory();
    let mut journal = FileJournal::create(forged.path(), SMALL).unwrap();
    journal.append(&other).unwrap();
    for n in 2..=5 {
        journal.append(&entry(n)).unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    let replaced = copy(directory.path());
    fs::copy(segment::path(forged.path(), 1), segment::path(replaced.path(), 1)).unwrap();
    assert!(matches!(open(replaced.path()), Err(JournalError::Damaged(_))));
}

#[test]
fn a_missing_head_or_journal_is_not_an_empty_one() {
    let directory = written(3);
    fs::remove_file(directory.path().join(head::FILE_NAME)).unwrap();
    assert!(matches!(open(directory.path()), Err(JournalError::Missing(_))));
    assert!(matches!(FileJournal::create(directory.path(), SMALL), Err(JournalError::Exists(_))));
    assert!(matches!(open(self::directory().path()), Err(JournalError::Missing(_))));
}

#[test]
fn pages_cross_segments_and_end_at_the_synced_head() {
    let directory = directory();
    let mut journal = FileJournal::create(directory.path(), SMALL).unwrap();
    append(&mut journal, 1, 200);
    journal.append(&entry(201)).unwrap();
    let reader = journal.reader();
    let numbers = |after, limit| -> Vec<u64> {
        reader.page(after, limit).unwrap().into_iter().map(|f| f.link.sequence).collect()
    };
    assert_eq!(numbers(0, 3), [1, 2, 3]);
    assert_eq!(numbers(63, 3), [64, 65, 66]);
    assert_eq!(numbers(130, 1000), (131..=200).collect::<Vec<_>>());
    assert_eq!(numbers(200, 10), [0; 0]);
    assert_eq!(numbers(u64::MAX, 10), [0; 0]);
    journal.sync().unwrap();
    assert_eq!(numbers(200, 10), [201]);
    assert_eq!(reader.verify(|_| {}).unwrap().end, journal.end());
}

#[test]
fn a_copy_up_to_the_head_verifies_although_the_writer_went_on() {
    let directory = written(25);
    let plan = plan_copy(directory.path()).unwrap();
    let mut journal =
        FileJournal::open(directory.path(), SMALL, |_| Ok::<(), JournalError>(())).unwrap().journal;
    append(&mut journal, 26, 60);
    let copied = self::directory();
    for (first, length) in &plan.segments {
        let bytes = fs::read(segment::path(directory.path(), *first)).unwrap();
        fs::write(segment::path(copied.path(), *first), &bytes[..*length as usize]).unwrap();
    }
    let walked = walk(copied.path(), &plan.head, |_, _, _| Ok::<(), JournalError>(())).unwrap();
    assert_eq!(walked.end.sequence, 25);
    assert_eq!(walked.torn, None);
}

#[test]
fn an_impossible_entry_is_refused_and_the_journal_goes_on() {
    let directory = directory();
    let mut journal = FileJournal::create(directory.path(), SMALL).unwrap();
    let huge = Entry { event: vec![0; frame::MAX_EVENT_BYTES + 1], ..entry(1) };
    assert!(matches!(journal.append(&huge), Err(JournalError::Frame(_))));
    append(&mut journal, 1, 2);
}

#[test]
fn room_that_no_disk_has_is_refused_as_full_and_reading_goes_on() {
    let directory = directory();
    let options = Options { reserve_bytes: 1 << 60, ..SMALL };
    let mut journal = FileJournal::create(directory.path(), options).unwrap();
    append(&mut journal, 1, 3);
    assert!(matches!(journal.reserve(), Err(JournalError::Full { .. })));
    assert_eq!(journal.reader().page(0, 10).unwrap().len(), 3);
    append(&mut journal, 4, 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_batches_give_the_same_chain(batches in prop::collection::vec(1_u64..6, 1..12), reopen: u8) {
        let directory = directory();
        let mut journal = FileJournal::create(directory.path(), SMALL).unwrap();
        let mut n = 0;
        for (place, batch) in batches.iter().enumerate() {
            for _ in 0..*batch {
                n += 1;
                journal.append(&entry(n)).unwrap();
            }
            journal.sync().unwrap();
            if place % (reopen as usize % 3 + 1) == 0 {
                drop(journal);
                journal = FileJournal::open(directory.path(), SMALL, |_| Ok::<(), JournalError>(())).unwrap().journal;
            }
        }
        let single = written(n);
        prop_assert_eq!(verify(directory.path(), |_| {}).unwrap().end, verify(single.path(), |_| {}).unwrap().end);
    }
}
