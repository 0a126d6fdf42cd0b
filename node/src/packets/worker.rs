//! A data thread: one queue of the TUN device, one UDP socket, both directions.
//!
//! Both directions on one thread, because a bulk transfer one way is acknowledgements the other way: what the host
//! answers to a frame is there when the frame has been written, and goes out without waking anybody. On machines with
//! more cores there are more such threads; the kernel keeps a flow on one queue and a peer on one socket.
//!
//! Property: nothing stands between reading and writing but the engine: no queue, no await, and, once the buffers are
//! warm, no allocation for a packet of a known flow. A round is bounded, so that the engine's snapshot is loaded often
//! enough and neither direction starves; a thread that has work drains it before it sleeps.

use crate::packets::frames::Frames;
use crate::packets::intake::{Intake, Round};
use crate::packets::threads::Shared;
use crate::packets::transmit::Transmit;
use crate::packets::watch::Watch;
use bulkhead_node_engine::{Backlog, Handshake, Merge, Output};
use bulkhead_protocol::offload::{Offload, Offloads};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;

/// One data thread's own.
pub(crate) struct Worker {
    shared: Shared,
    transmit: Transmit,
    intake: Intake,
    frames: Frames,
    out: Output,
    offloads: Option<Offloads>,
    backlog: Backlog,
    watch: Watch,
    /// Bytes moved since the last wait.
    moved: usize,
}

impl Worker {
    pub(crate) fn new(shared: Shared, transmit: Transmit, handshakes: SyncSender<Handshake>) -> Self {
        let (intake, frames, out) = (Intake::new(handshakes), Frames::new(), Output::new());
        let (backlog, watch) = (Backlog::default(), Watch::default());
        Self { shared, transmit, intake, frames, out, offloads: None, backlog, watch, moved: 0 }
    }

    /// Moves packets until told to stop, or the interface is gone.
    pub(crate) fn run(mut self) {
        let (mut inside, mut outside) = (Round::More, Round::More);
        while !self.shared.stopping() {
            self.heed_switches();
            self.intake.heed_switches(&self.transmit);
            if inside == Round::More {
                inside = self.inbound();
            }
            if outside == Round::More {
                outside = match self.outbound() {
                    Ok(round) => round,
                    // The interface is gone: `down` removed it, or someone else did.
                    Err(_) if self.shared.stopping() => return,
                    Err(error) => return tracing::error!(%error, "the interface cannot be read"),
                };
            }
            if (inside, outside) == (Round::Drained, Round::Drained) {
                (inside, outside) = match self.wait() {
                    Ok(ready) => ready,
                    Err(error) => return tracing::error!(%error, "cannot wait for packets"),
                };
            }
        }
    }

    /// Waits until there is something to read, or it is time to look whether to stop.
    fn wait(&mut self) -> io::Result<(Round, Round)> {
        let sources = [self.transmit.socket.as_fd(), self.transmit.queue.as_fd(), self.shared.wake.as_fd()];
        let [socket, queue, _] = self.watch.wait(sources, mem::take(&mut self.moved))?;
        let round = |readable| if readable { Round::More } else { Round::Drained };
        Ok((round(socket), round(queue)))
    }

    /// Network to host.
    fn inbound(&mut self) -> Round {
        let (round, moved) = self.intake.receive(&self.shared, &self.transmit, &mut self.out);
        self.moved += moved;
        round
    }

    /// Host to network.
    fn outbound(&mut self) -> io::Result<Round> {
        let drained = self.frames.fill(&self.transmit.queue)?;
        self.moved += self.frames.bytes();
        let now = self.shared.clock.now();
        let long = self.backlog.read(self.frames.bytes(), drained, now.mono);
        if !self.frames.is_empty() {
            let (engine, frames, backlog) = (&self.shared.engine, &mut self.frames, &mut self.backlog);
            self.transmit.carry(&mut self.out, |out| {
                let batch = engine.batch(now);
                if long {
                    batch.tell_congestion();
                }
                batch.outbound(frames.iter_mut(), out);
                if long && batch.has_told() {
                    backlog.told(now.mono);
                }
            });
        }
        Ok(if drained { Round::Drained } else { Round::More })
    }

    /// Turns the kernel's part of the offloads on or off, when the switches say otherwise than before.
    fn heed_switches(&mut self) {
        let switches = &self.transmit.switches;
        let wanted = switches.effective();
        if self.offloads == Some(wanted) {
            return;
        }
        self.offloads = Some(wanted);
        if let Err(error) = self.transmit.queue.set_offloads(wanted.contains(Offload::TunTso)) {
            switches.failed(Offload::TunTso, &error);
        }
        let merge = wanted.contains(Offload::TunGro);
        let udp = merge && self.transmit.queue.can_offload_udp();
        self.out.merge = Merge { tcp: merge, udp };
    }
}
