//! From the state directory to a coordinator: keys, trust document, and the state that the journal adds up to.
//!
//! The snapshot only saves time. It counts if the journal has that very frame at its position; otherwise every
//! event is replayed. An event that cannot be read or does not fit refuses the start.

use crate::clock::Clock;
use crate::config::Settings;
use crate::issuer;
use crate::journal::{FileJournal, Frame, Journal, JournalError, Link, Opened, Options};
use crate::state_dir::{POLICY_KEY, StateDir};
use crate::store::{Snapshot, Store};
use anyhow::{Context, Result};
use bulkhead_coordinator_engine::{Config, Coordinator, Event, ReplayError, State};
use bulkhead_identity::{Draft, IdentityKey, Timestamp, Trust};

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

/// The trust document that `init` made, judged as of the last moment at which it was in force: when another followed
/// on it, or when it expired, whichever was first. Whether the last of all has expired is for
/// [`State::trust_in_force`] to say.
fn first_trust(directory: &StateDir, state: &State, wall: Timestamp) -> Result<Trust> {
    let bytes = directory.read("trust.cbor")?;
    let draft = Draft::read(&bytes).context("trust.cbor is damaged")?;
    let last = Timestamp(draft.document().expires.0.saturating_sub(1));
    let judged = state.first_trust_until().unwrap_or(wall).min(last);
    Trust::stored(&bytes, judged).context("trust.cbor does not verify")
}

/// The trust document in force, read from the journal beside a coordinator that may be running.
///
/// # Errors
/// Damage, or none that verifies.
pub fn trust_in_force(directory: &StateDir, wall: Timestamp) -> Result<Trust> {
    let mut state = State::default();
    let mut replayed = Ok(());
    crate::journal::reader::verify(&directory.journal(), |frame| {
        if replayed.is_ok() {
            replayed = apply(&mut state, frame);
        }
    })?;
    replayed?;
    Ok(state.trust_in_force(&first_trust(directory, &state, wall)?, wall)?)
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
    let trust = first_trust(directory, &state, now.wall)?;
    issuer::promote(directory, &state.trust_in_force(&trust, now.wall)?, now.wall)?;
    let config = Config {
        trust,
        issuer: issuer::load(directory)?,
        policy_keys: policy_keys(directory)?,
        certificate_lifetime: settings.certificate_lifetime,
        renewal_grace: settings.renewal_grace,
        addresses: settings.addresses.clone(),
        control: settings.addresses.clone(),
        node: settings.node.clone(),
        port: settings.listen.port(),
        offloads_off: settings.offloads_off,
        rules: settings.people.rules.clone(),
        web: settings.people.web.as_ref().map(|web| web.url.clone()),
    };
    Coordinator::new(config, state, now).context("the coordinator cannot start from this state directory")
}

/// The policy key, unless it moved to another machine: then policy is signed there.
fn policy_keys(directory: &StateDir) -> Result<Vec<IdentityKey>> {
    if directory.path(POLICY_KEY).exists() {
        return Ok(vec![directory.key(POLICY_KEY)?]);
    }
    tracing::info!("there is no {POLICY_KEY}: policy is signed elsewhere (`bulkheadctl policy sign`)");
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{first_trust, trust_in_force};
    use crate::init::init;
    use crate::state_dir::StateDir;
    use bulkhead_coordinator_engine::{Actor, Change, Event, State};
    use bulkhead_identity::{Draft, Epoch, IdentityKey, Timestamp, TrustDomain};
    use std::time::Duration;
    use zeroize::Zeroizing;

    #[test]
    fn a_first_trust_document_that_expired_before_another_followed_refuses_no_later_start() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        init(&root, &TrustDomain::parse("acme.example").unwrap(), &["c:1".to_owned()]).unwrap();
        let directory = StateDir::open(&root).unwrap();
        let draft = Draft::read(&directory.read("trust.cbor").unwrap()).unwrap();
        let expires = draft.document().expires;
        let after = expires.plus(Duration::from_secs(10));
        let why = trust_in_force(&directory, after).unwrap_err().to_string();
        assert!(why.contains("expired at") && why.contains("bulkheadctl trust apply"), "{why}");

        // What it says is not asked for here; the journal keeps what was taken.
        let mut next = draft.document().clone();
        (next.version, next.expires) = (Epoch(2), Timestamp(after.0 + 1000));
        let document = next.sign(&[&IdentityKey::from_seed(Zeroizing::new([9; 32]))]);
        let mut state = State::default();
        let change = Change::TrustUpdated { document };
        state.replay(&Event { time: after, actor: Actor::System, change, source: None }).unwrap();
        assert!(first_trust(&directory, &state, after).is_ok());
    }
}
