//! From the state directory to a coordinator: keys, trust document, and the state that the journal adds up to.
//!
//! The snapshot only saves time. It counts if the journal has that very frame at its position; otherwise every
//! event is replayed. An event that cannot be read or does not fit refuses the start.

use crate::clock::Clock;
use crate::config::Settings;
use crate::journal::{FileJournal, Frame, Journal, JournalError, Link, Opened, Options};
use crate::state_dir::StateDir;
use crate::store::{Snapshot, Store};
use anyhow::{Context, Result};
use bulkhead_coordinator_engine::{Config, Coordinator, Event, ReplayError, State};
use bulkhead_identity::{Issuer, Timestamp, Trust};

/// Why the journal cannot be turned into a state.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    /// The journal itself.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry is not an event of this version.
    #[error("entry {sequence} of the journal cannot be read by this version: {reason}")]
    Unreadable {
        /// Its number.
        sequence: u64,
        /// Why.
        reason: String,
    },
    /// An entry contradicts the ones before.
    #[error("entry {sequence} of the journal does not fit the ones before")]
    Unfit {
        /// Its number.
        sequence: u64,
        /// Why.
        source: ReplayError,
    },
}

/// State and journal, in agreement.
pub struct Recovered {
    /// What the journal adds up to.
    pub state: State,
    /// Open for appending.
    pub journal: FileJournal,
    /// For later snapshots.
    pub store: Store,
    /// Whether the snapshot could be used.
    pub from_snapshot: bool,
}

/// Opens journal and store, and replays.
///
/// # Errors
/// Damage, or entries that make no sense.
pub fn recover(state: &StateDir, options: Options) -> Result<Recovered, ReplayFailure> {
    let store = Store::open(&state.index());
    let mut from_snapshot = false;
    let mut recovered = None;
    if let Some(snapshot) = store.load() {
        let (opened, replayed, confirmed) = replay(state, options, snapshot)?;
        if confirmed {
            from_snapshot = true;
            recovered = Some((opened, replayed));
        } else {
            tracing::warn!("the snapshot is of another journal and is rebuilt");
        }
    }
    let (opened, replayed) = match recovered {
        Some(recovered) => recovered,
        None => {
            let nothing = Snapshot { link: Link::default(), state: State::default() };
            let (opened, replayed, _) = replay(state, options, nothing)?;
            (opened, replayed)
        }
    };
    if let Some(torn) = &opened.torn {
        tracing::warn!(bytes = torn.bytes, at = %torn.damage, "a torn tail of the journal was cut; nothing in it was ever acknowledged");
    }
    let end = opened.journal.end();
    if !from_snapshot {
        store.save(end, &replayed);
    }
    tracing::info!(sequence = end.sequence, from_snapshot, "journal verified");
    Ok(Recovered { state: replayed, journal: opened.journal, store, from_snapshot })
}

/// Replays what comes after the snapshot; the last value says whether the journal has the snapshot's frame.
fn replay(
    directory: &StateDir,
    options: Options,
    snapshot: Snapshot,
) -> Result<(Opened, State, bool), ReplayFailure> {
    let Snapshot { link: base, mut state } = snapshot;
    let mut confirmed = base.sequence == 0;
    let opened = FileJournal::open(&directory.journal(), options, |frame: &Frame| {
        if frame.link.sequence < base.sequence {
            return Ok(());
        }
        if frame.link.sequence == base.sequence {
            confirmed = frame.link == base;
            return Ok(());
        }
        if confirmed { apply(&mut state, frame) } else { Ok(()) }
    })?;
    Ok((opened, state, confirmed))
}

fn apply(state: &mut State, frame: &Frame) -> Result<(), ReplayFailure> {
    let sequence = frame.link.sequence;
    let event: Event = minicbor::decode(&frame.entry.event)
        .map_err(|e| ReplayFailure::Unreadable { sequence, reason: e.to_string() })?;
    state.replay(&event).map_err(|source| ReplayFailure::Unfit { sequence, source })
}

/// Loads the trust document.
///
/// # Errors
/// It is missing or does not verify.
pub fn trust(state: &StateDir, wall: Timestamp) -> Result<Trust> {
    let bytes = state.read("trust.cbor")?;
    Trust::stored(&bytes, wall).context("trust.cbor does not verify")
}

/// Loads the issuing CA.
///
/// # Errors
/// Key or certificate are missing or do not fit each other.
pub fn issuer(state: &StateDir) -> Result<Issuer> {
    let certificate = state.read("issuer.der")?;
    Issuer::load(state.key("issuer.key")?, certificate.to_vec()).context("issuer.key and issuer.der")
}

/// Makes the coordinator.
///
/// # Errors
/// Keys, trust document and state contradict each other.
pub fn coordinator(
    directory: &StateDir,
    state: State,
    settings: &Settings,
    clock: &Clock,
) -> Result<Coordinator> {
    let now = clock.now();
    let config = Config {
        trust: trust(directory, now.wall)?,
        issuer: issuer(directory)?,
        policy_keys: vec![directory.key("policy.key")?],
        certificate_lifetime: settings.certificate_lifetime,
        renewal_grace: settings.renewal_grace,
        addresses: settings.addresses.clone(),
        control: settings.addresses.clone(),
    };
    Coordinator::new(config, state, now).context("the coordinator cannot start from this state directory")
}
