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
use crate::packets::socket::Inbox;
use crate::packets::threads::Shared;
use crate::packets::transmit::Transmit;
use crate::sys;
use bulkhead_node_engine::{Backlog, Handshake, Merge, Output};
use bulkhead_protocol::offload::{Offload, Offloads};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// How long a thread sleeps at most before it looks whether it is to stop. Stopping normally wakes it.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// A pause after an error that is not the end, so that one that persists does not take the CPU.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There was nothing more to read.
    Drained,
    /// There may be more.
    More,
}

/// One data thread's own.
pub(crate) struct Worker {
    shared: Shared,
    transmit: Transmit,
    handshakes: SyncSender<Handshake>,
    inbox: Inbox,
    frames: Frames,
    out: Output,
    offloads: Option<Offloads>,
    backlog: Backlog,
}

impl Worker {
    pub(crate) fn new(shared: Shared, transmit: Transmit, handshakes: SyncSender<Handshake>) -> Self {
        let (inbox, frames, out) = (Inbox::new(), Frames::new(), Output::new());
        Self { shared, transmit, handshakes, inbox, frames, out, offloads: None, backlog: Backlog::default() }
    }

    /// Moves packets until told to stop, or the interface is gone.
    pub(crate) fn run(mut self) {
        let (mut inside, mut outside) = (Round::More, Round::More);
        while !self.shared.stopping() {
            self.heed_switches();
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

    /// Sleeps until there is something to read, or it is time to stop.
    fn wait(&self) -> io::Result<(Round, Round)> {
        let mut watched = [
            PollFd::new(&*self.transmit.socket, PollFlags::IN),
            PollFd::new(&*self.transmit.queue, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        match poll(&mut watched, Some(&PATIENCE)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((Round::Drained, Round::Drained)),
            Err(errno) => return Err(errno.into()),
        }
        let round = |at: usize| if watched[at].revents().is_empty() { Round::Drained } else { Round::More };
        Ok((round(0), round(1)))
    }

    /// Network to host.
    fn inbound(&mut self) -> Round {
        if let Err(error) = self.transmit.socket.receive(&mut self.inbox) {
            return self.cannot_receive(&error);
        }
        let (engine, clock, inbox) = (&self.shared.engine, &self.shared.clock, &self.inbox);
        let handshakes = &self.handshakes;
        self.transmit.carry(&mut self.out, |out| {
            engine.batch(clock.now()).inbound(inbox.datagrams(), out);
            for handshake in out.handshakes() {
                if handshakes.try_send(*handshake).is_err() {
                    engine.forgot_handshake();
                }
            }
        });
        if inbox.has_room() { Round::Drained } else { Round::More }
    }

    fn cannot_receive(&self, error: &io::Error) -> Round {
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

    /// Host to network.
    fn outbound(&mut self) -> io::Result<Round> {
        let drained = self.frames.fill(&self.transmit.queue)?;
        let now = self.shared.clock.now();
        let long = self.backlog.read(self.frames.bytes(), drained, now.mono);
        if !self.frames.is_empty() {
            let (engine, frames) = (&self.shared.engine, &mut self.frames);
            self.transmit.carry(&mut self.out, |out| {
                let batch = engine.batch(now);
                if long {
                    batch.tell_congestion();
                }
                batch.outbound(frames.iter_mut(), out);
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
        if let Err(error) = sys::set_udp_gro(&*self.transmit.socket, wanted.contains(Offload::UdpGro)) {
            switches.failed(Offload::UdpGro, &error);
        }
        let merge = wanted.contains(Offload::TunGro);
        let udp = merge && self.transmit.queue.can_offload_udp();
        self.out.merge = Merge { tcp: merge, udp };
    }
}
