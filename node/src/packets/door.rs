//! The thread that receives initiations.
//!
//! Property: a flood of them costs the data plane CPU and nothing else; and less of that than if each were received when it
//! comes. The first is, those that follow within a moment are received together.

use crate::packets::intake::{Intake, Round};
use crate::packets::threads::Shared;
use crate::packets::transmit::Transmit;
use crate::packets::watch;
use bulkhead_node_engine::{Handshake, Merge, Output};
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// How long more initiations are waited for; on a slow host it takes as long to answer one.
const GATHERING: Duration = Duration::from_millis(1);

/// That thread's own.
pub(crate) struct Door {
    shared: Shared,
    transmit: Transmit,
    intake: Intake,
    out: Output,
}

impl Door {
    pub(crate) fn new(shared: Shared, transmit: Transmit, handshakes: SyncSender<Handshake>) -> Self {
        let intake = Intake::new(handshakes);
        let mut out = Output::new();
        // Data that was joined behind an initiation is rare, and not worth a promise of the kernel's.
        out.merge = Merge { tcp: false, udp: false };
        Self { shared, transmit, intake, out }
    }

    /// Receives until told to stop.
    pub(crate) fn run(mut self) {
        while !self.shared.stopping() {
            self.intake.heed_switches(&self.transmit);
            let sources = [self.transmit.socket.as_fd(), self.shared.wake.as_fd()];
            if let Err(error) = watch::sleep(sources) {
                return tracing::error!(%error, "cannot wait for handshakes");
            }
            let (round, _) = self.intake.receive(&self.shared, &self.transmit, &mut self.out);
            if round == Round::Drained {
                thread::park_timeout(GATHERING);
            }
        }
    }
}
