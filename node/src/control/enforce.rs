//! Brings what is held into force: the one place where the daemon calls `Engine::apply`.
//!
//! Property: when [`Enforcer::enforce`] returns, nothing that what is held does not permit passes any more: the
//! engine lets none through (teardown law), and what it had let through before is handed over. Whatever is promised
//! to the coordinator is promised after that.

use crate::clock::Clock;
use crate::packets::transmit::Transmit;
use crate::state::held::{Held, Standing};
use bulkhead_node_engine::{Changes, Engine, Output};
use std::sync::Arc;

/// At most this many refused introductions are named in the log for one change (G9).
const MAX_REFUSALS_LOGGED: usize = 10;

/// The engine, and where its output goes.
#[derive(Clone)]
pub(crate) struct Enforcer {
    engine: Arc<Engine>,
    transmit: Transmit,
    clock: Clock,
}

impl Enforcer {
    /// Enforces by `engine`.
    pub(crate) fn new(engine: Arc<Engine>, transmit: Transmit, clock: Clock) -> Self {
        Self { engine, transmit, clock }
    }

    /// Makes `held` the world. Takes time in proportion to the number of peers; blocks meanwhile.
    pub(crate) fn enforce(&self, held: &Held) {
        let now = self.clock.now();
        let mut out = Output::new();
        let world = held.world(now.wall);
        let changes = self.transmit.carry(&mut out, |out| self.engine.apply(world, out, now));
        // A data thread may have let a packet through just before, and not yet have handed it over.
        self.transmit.settle();
        match held.standing(now.wall) {
            Standing::Good => {}
            Standing::Revoked => tracing::warn!("our certificate is revoked: no peer is admitted"),
            Standing::NotValidNow => tracing::warn!("our certificate is not valid now: no peer is admitted"),
            Standing::RevocationsLost => {
                tracing::warn!("the revocation list is older than one seen before: no peer is admitted");
            }
        }
        report(&changes);
    }
}

fn report(changes: &Changes) {
    tracing::info!(
        generation = changes.generation.0,
        epoch = changes.epoch.0,
        removed = changes.removed.len(),
        changed = changes.changed.len(),
        added = changes.added.len(),
        refused = changes.refused.len(),
        ended_flows = changes.ended_flows,
        "in force"
    );
    if let Some(why) = &changes.isolated {
        tracing::warn!(why, "this node talks to nobody");
    }
    for (name, reason) in changes.refused.iter().take(MAX_REFUSALS_LOGGED) {
        tracing::warn!(peer = %name, reason = reason.as_str(), "a peer of the map is refused");
    }
}
