//! A snapshot of the engine's state, so that a start need not replay the whole journal. The only file that
//! names sled.
//!
//! Nothing here is believed: a snapshot counts only if its checksum holds and the journal has that very frame
//! at its position. Missing, stale or damaged, it is rebuilt from the journal, so the directory can be deleted
//! at any time.

use crate::journal::{ChainHash, Link};
use bulkhead_coordinator_engine::State;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const SNAPSHOT: &[u8] = b"snapshot/1";
/// Memory that sled may use for its cache: one value is all there is.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// State up to a frame of the journal.
#[derive(Debug)]
pub struct Snapshot {
    /// The last frame that it contains.
    pub link: Link,
    /// What the frames up to there add up to.
    pub state: State,
}

/// The embedded store; without one (a full disk, say) everything still works, only starts are slower.
#[derive(Debug)]
pub struct Store {
    database: Option<sled::Db>,
}

impl Store {
    /// Opens the store in `directory`, making it anew when it cannot be used.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let database = open(directory).or_else(|why| {
            tracing::warn!(reason = %why, path = %directory.display(), "index is unusable and is rebuilt from the journal");
            discard(directory).and_then(|()| open(directory))
        });
        match database {
            Ok(database) => Self { database: Some(database) },
            Err(why) => {
                tracing::warn!(reason = %why, "running without an index; starts will be slower");
                Self { database: None }
            }
        }
    }

    /// The last snapshot, if there is one that checks.
    #[must_use]
    pub fn load(&self) -> Option<Snapshot> {
        let database = self.database.as_ref()?;
        let value = guarded(|| database.get(SNAPSHOT)).ok()??;
        let snapshot = decode(&value);
        if snapshot.is_none() {
            tracing::warn!("snapshot is damaged or of another version, and is rebuilt from the journal");
        }
        snapshot
    }

    /// Keeps a snapshot, durably. Failing to is not an error: the journal has everything.
    pub fn save(&self, link: Link, state: &State) {
        let Some(database) = &self.database else { return };
        let value = encode(link, state);
        let saved = guarded(|| database.insert(SNAPSHOT, value)).and_then(|_| guarded(|| database.flush()));
        match saved {
            Ok(_) => tracing::debug!(sequence = link.sequence, "snapshot saved"),
            Err(why) => tracing::warn!(reason = %why, "snapshot could not be saved"),
        }
    }
}

fn open(directory: &Path) -> Result<sled::Db, String> {
    let config =
        sled::Config::default().path(directory).cache_capacity(CACHE_BYTES).mode(sled::Mode::LowSpace);
    guarded(|| config.open())
}

/// sled 0.34 panics on some damage; a store that can be rebuilt must not stop the coordinator.
fn guarded<T>(act: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the store gave up on a damaged file".to_owned()),
    }
}

fn discard(directory: &Path) -> Result<(), String> {
    let gone: PathBuf = directory.to_owned();
    match std::fs::symlink_metadata(&gone) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(&gone).map_err(|e| e.to_string()),
        Ok(_) => std::fs::remove_file(&gone).map_err(|e| e.to_string()),
        Err(_) => Ok(()),
    }
}

/// checksum u32 | sequence u64 | hash [32] | state
fn encode(link: Link, state: &State) -> Vec<u8> {
    let mut value = vec![0; 4];
    value.extend_from_slice(&link.sequence.to_be_bytes());
    value.extend_from_slice(&link.hash.0);
    // Writing to a vector cannot fail.
    let _ = minicbor::encode(state, &mut value);
    let checksum = crc32c::crc32c(&value[4..]).to_be_bytes();
    value[..4].copy_from_slice(&checksum);
    value
}

fn decode(value: &[u8]) -> Option<Snapshot> {
    let (checksum, body) = value.split_first_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (sequence, rest) = body.split_first_chunk::<8>()?;
    let (hash, state) = rest.split_first_chunk::<32>()?;
    let link = Link { sequence: u64::from_be_bytes(*sequence), hash: ChainHash(*hash) };
    Some(Snapshot { link, state: minicbor::decode(state).ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    const LINK: Link = Link { sequence: 7, hash: ChainHash([3; 32]) };

    #[test]
    fn a_snapshot_comes_back_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.sled");
        Store::open(&path).save(LINK, &State::default());
        assert_eq!(Store::open(&path).load().unwrap().link, LINK);
    }

    #[test]
    fn a_damaged_snapshot_is_no_snapshot() {
        let good = encode(LINK, &State::default());
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(decode(&bad).is_none());
            assert!(decode(&good[..place]).is_none());
        }
    }

    #[test]
    fn a_store_of_garbage_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.sled");
        Store::open(&path).save(LINK, &State::default());
        for file in fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
            fs::write(file, b"garbage garbage garbage garbage").unwrap();
        }
        let store = Store::open(&path);
        assert!(store.load().is_none());
        store.save(LINK, &State::default());
        assert!(store.load().is_some());
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.sled");
        fs::write(&path, b"not a directory").unwrap();
        let store = Store::open(&path);
        store.save(LINK, &State::default());
        assert!(store.load().is_some());
    }
}
