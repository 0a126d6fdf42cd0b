//! A node that was away while the root changed. It cannot verify the coordinator any more, and so is not told of the
//! trust document by which it could.
//!
//! Property: it asks whoever answers at the coordinator's address for the documents that follow the one it holds,
//! and believes only what its own operators signed ([`crate::enrol::trust`]); nothing else is asked, and nothing is
//! said, before the coordinator is verified under the newest.

use crate::control::Control;
use crate::enrol;
use crate::state::Part;
use bulkhead_identity::Trust;
use std::sync::Arc;

impl Control {
    /// The newest trust document that an address of ours leads to; `None` when it is the one that is held.
    pub(super) async fn newer_trust(&self) -> Option<Trust> {
        let (held, wall) = (self.daemon.held(), self.daemon.now().wall);
        for address in &self.addresses {
            match enrol::trust::newest(address, &held.trust, wall).await {
                Ok(trust) if trust.document().version > held.trust.document().version => return Some(trust),
                Ok(_) => {}
                Err(error) => tracing::debug!(address, %error, "no newer trust document"),
            }
        }
        None
    }

    /// Brings it into force. It is acknowledged by the next hello.
    pub(super) fn take_newer_trust(&mut self, found: Option<Trust>) {
        let Some(trust) = found else { return };
        tracing::info!(version = trust.document().version.0, "operators changed whom to trust");
        let next = self.daemon.held().under(trust, self.daemon.now().wall);
        self.unsaved.extend([Part::Trust, Part::Marks]);
        tokio::task::block_in_place(|| self.enforcer.enforce(&next));
        self.daemon.0.held.store(Arc::new(next));
        self.save();
    }
}
