//! Which offloads the data path uses now, and why it does not use the others.
//!
//! Property: an offload is on only while this host's configuration and the coordinator both allow it, the kernel was
//! found to have it, and it has not failed. Nothing that a packet does can switch one on again: what failed stays
//! off until the daemon restarts.
//!
//! How to use it: the data threads ask [`Switches::effective`] once per batch, which is one load of one byte, and
//! call [`Switches::failed`] when the kernel refuses one. Everything else is for the control task and for status.

use bulkhead_protocol::offload::{Offload, Offloads};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The switches of one daemon.
#[derive(Debug)]
pub(crate) struct Switches {
    /// What follows from `causes`, for the data threads.
    effective: AtomicU8,
    causes: Mutex<Causes>,
}

/// Everything that decides.
#[derive(Debug)]
struct Causes {
    /// Off by this host's configuration.
    configured_off: Offloads,
    /// Off by the coordinator's last word.
    coordinator_off: Offloads,
    /// What the kernel was found to have.
    supported: Offloads,
    /// What it refused later, and how.
    failed: BTreeMap<Offload, String>,
}

/// How one offload stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Position {
    /// In use.
    On {},
    /// This host's configuration leaves it off.
    OffByConfiguration {},
    /// The coordinator does.
    OffByCoordinator {},
    /// The kernel does not have it.
    NotSupported {},
    /// The kernel has it, and refused it.
    Failed {
        /// How.
        why: String,
    },
}

impl Switches {
    /// All off, until [`Self::found`] says what the kernel has.
    pub(crate) fn new(configured_off: Offloads, coordinator_off: Offloads) -> Self {
        let (supported, failed) = (Offloads::NONE, BTreeMap::new());
        let causes = Mutex::new(Causes { configured_off, coordinator_off, supported, failed });
        Self { effective: AtomicU8::new(Offloads::NONE.to_bits()), causes }
    }

    /// What to use for the next batch.
    pub(crate) fn effective(&self) -> Offloads {
        // Nothing else is published with it: whichever value a batch sees was right when the batch began.
        Offloads::from_bits(self.effective.load(Ordering::Relaxed))
    }

    /// The kernel has these, and no others.
    pub(crate) fn found(&self, supported: Offloads) {
        self.change(|causes| causes.supported = supported);
    }

    /// The kernel refused this one: it is off from now on.
    pub(crate) fn failed(&self, offload: Offload, why: impl ToString) {
        let why = why.to_string();
        let first = self.change(|causes| {
            // Of many batches that fail at once, the first says why.
            let first = !causes.failed.contains_key(&offload);
            causes.failed.entry(offload).or_insert_with(|| why.clone());
            first
        });
        if first {
            tracing::warn!(%offload, why, "offload switched off until the daemon restarts");
        }
    }

    /// The coordinator wants these left off, and no others.
    pub(crate) fn ask_from_coordinator(&self, off: Offloads) {
        self.change(|causes| causes.coordinator_off = off);
    }

    /// How each stands.
    pub(crate) fn report(&self) -> [(Offload, Position); 4] {
        let causes = self.causes();
        Offload::ALL.map(|offload| (offload, causes.position(offload)))
    }

    fn causes(&self) -> MutexGuard<'_, Causes> {
        // Every change is one assignment or one insertion: a panic leaves nothing half done.
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Causes) -> R) -> R {
        let mut causes = self.causes();
        let result = change(&mut causes);
        // Within the lock, so that of two changes the later one is seen last.
        self.effective.store(causes.effective().to_bits(), Ordering::Relaxed);
        result
    }
}

impl Causes {
    fn effective(&self) -> Offloads {
        let on = |offload: &Offload| self.position(*offload) == Position::On {};
        Offload::ALL.into_iter().filter(on).collect()
    }

    /// What a person decided is named before what the kernel cannot do.
    fn position(&self, offload: Offload) -> Position {
        if self.configured_off.contains(offload) {
            Position::OffByConfiguration {}
        } else if self.coordinator_off.contains(offload) {
            Position::OffByCoordinator {}
        } else if !self.supported.contains(offload) {
            Position::NotSupported {}
        } else if let Some(why) = self.failed.get(&offload) {
            Position::Failed { why: why.clone() }
        } else {
            Position::On {}
        }
    }
}

/// As it follows the name of the offload: `on`, or what has it off.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On {} => f.write_str("on"),
            Self::OffByConfiguration {} => f.write_str("by this host's configuration"),
            Self::OffByCoordinator {} => f.write_str("by the coordinator"),
            Self::NotSupported {} => f.write_str("not supported here"),
            Self::Failed { why } => write!(f, "failed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const GSO: Offloads = Offloads::NONE.with(Offload::UdpGso);

    fn position(switches: &Switches, offload: Offload) -> Position {
        switches.report().into_iter().find_map(|(one, how)| (one == offload).then_some(how)).unwrap()
    }

    #[test]
    fn nothing_is_on_before_the_kernel_was_asked() {
        let switches = Switches::new(Offloads::NONE, Offloads::NONE);
        assert_eq!(switches.effective(), Offloads::NONE);
        switches.found(Offloads::ALL);
        assert_eq!(switches.effective(), Offloads::ALL);
    }

    #[test]
    fn the_coordinator_switches_off_and_on_again_but_never_against_the_configuration() {
        let switches = Switches::new(GSO, Offloads::NONE);
        switches.found(Offloads::ALL);
        switches.ask_from_coordinator(Offloads::ALL);
        assert_eq!(switches.effective(), Offloads::NONE);
        assert_eq!(position(&switches, Offload::UdpGso), Position::OffByConfiguration {});
        assert_eq!(position(&switches, Offload::UdpGro), Position::OffByCoordinator {});
        switches.ask_from_coordinator(Offloads::NONE);
        assert_eq!(switches.effective(), Offloads::ALL.minus(GSO));
    }

    #[test]
    fn what_failed_stays_off_for_its_first_reason() {
        let switches = Switches::new(Offloads::NONE, Offloads::NONE);
        switches.found(Offloads::ALL);
        switches.failed(Offload::UdpGso, "Input/output error");
        switches.failed(Offload::UdpGso, "Invalid argument");
        switches.ask_from_coordinator(GSO);
        switches.ask_from_coordinator(Offloads::NONE);
        assert_eq!(switches.effective(), Offloads::ALL.minus(GSO));
        let why = "Input/output error".to_owned();
        assert_eq!(position(&switches, Offload::UdpGso), Position::Failed { why });
    }

    proptest! {
        #[test]
        fn what_is_reported_as_on_is_what_is_used(configured in 0u8..16, coordinator in 0u8..16, has in 0u8..16) {
            let [configured, coordinator, has] = [configured, coordinator, has].map(Offloads::from_bits);
            let switches = Switches::new(configured, Offloads::ALL);
            switches.found(has);
            prop_assert_eq!(switches.effective(), Offloads::NONE);
            switches.ask_from_coordinator(coordinator);
            prop_assert_eq!(switches.effective(), has.minus(configured).minus(coordinator));
            for (offload, position) in switches.report() {
                prop_assert_eq!(position == Position::On {}, switches.effective().contains(offload));
            }
        }
    }
}
