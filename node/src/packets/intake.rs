//! Receiving: datagrams from a socket to the engine, and out what it made of them.

use crate::packets::socket::Inbox;
use crate::packets::threads::Shared;
use crate::packets::transmit::Transmit;
use crate::packets::watch::NOISE;
use crate::sys;
use bulkhead_node_engine::{Handshake, Output};
use bulkhead_protocol::offload::Offload;
use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// A pause after an error that is not the end, so that one that persists does not take the CPU.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// There was nothing more to read.
    Drained,
    /// There may be more.
    More,
}

/// What one thread receives into, and where handshakes go from there.
pub(crate) struct Intake {
    inbox: Inbox,
    handshakes: SyncSender<Handshake>,
    /// Whether the kernel is to join datagrams, as it was told.
    joins: Option<bool>,
}

impl Intake {
    pub(crate) fn new(handshakes: SyncSender<Handshake>) -> Self {
        Self { inbox: Inbox::new(), handshakes, joins: None }
    }

    /// Has the kernel join datagrams or not, when the switches say otherwise than before. Every socket of the port has to
    /// say the same: to find out whether it may join, the kernel asks any of them.
    pub(crate) fn heed_switches(&mut self, transmit: &Transmit) {
        let joins = transmit.switches.effective().contains(Offload::UdpGro);
        if self.joins == Some(joins) {
            return;
        }
        self.joins = Some(joins);
        if let Err(error) = sys::set_udp_gro(&*transmit.socket, joins) {
            transmit.switches.failed(Offload::UdpGro, &error);
        }
    }

    /// Receives once from the socket of `transmit`. The number is that of bytes received; [`NOISE`] if they
    /// were for nobody.
    pub(crate) fn receive(
        &mut self,
        shared: &Shared,
        transmit: &Transmit,
        out: &mut Output,
    ) -> (Round, usize) {
        if let Err(error) = transmit.socket.receive(&mut self.inbox) {
            return (cannot_receive(&error), 0);
        }
        let (engine, inbox) = (&shared.engine, &self.inbox);
        let mut noise = true;
        transmit.carry(out, |out| {
            engine.batch(shared.clock.now()).inbound(inbox.datagrams(), out);
            noise = out.is_empty();
            for handshake in out.handshakes() {
                if self.handshakes.try_send(*handshake).is_err() {
                    engine.forgot_handshake();
                }
            }
        });
        let round = if inbox.has_room() { Round::Drained } else { Round::More };
        (round, if noise { NOISE } else { inbox.bytes() })
    }
}

fn cannot_receive(error: &io::Error) -> Round {
    // ICMP errors about what was sent earlier, unauthenticated: they tell nothing (A9).
    let of_the_network = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::ConnectionReset,
    ];
    if of_the_network.contains(&error.kind()) {
        return Round::More;
    }
    if error.kind() != io::ErrorKind::WouldBlock {
        tracing::warn!(%error, "cannot receive datagrams");
        thread::park_timeout(ERROR_PAUSE);
    }
    Round::Drained
}
