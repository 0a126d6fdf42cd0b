//! The threads of the data plane: one or more that move packets, one that receives initiations, one that answers handshakes,
//! one for the timers.
//!
//! How to use it: [`DataThreads::start`]; to end, [`DataThreads::announce_stop`], remove the interface, [`DataThreads::stop`].

use crate::clock::Clock;
use crate::packets::door::Door;
use crate::packets::socket::WireSocket;
use crate::packets::transmit::Transmit;
use crate::packets::worker::Worker;
use bulkhead_node_engine::{Engine, Handshake, Output};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;
use tokio::sync::Notify;

/// Handshake messages that wait for their thread. What comes when so many wait is dropped; its sender tries again.
const HANDSHAKES: usize = 256;
/// How long the timers sleep at most: data threads start new ones without telling.
const TIMER_PATIENCE: Duration = Duration::from_millis(250);
/// Data threads, at most.
pub(crate) const MAX_QUEUES: usize = 8;

/// How many data threads suit this machine: half of its cores, so that the applications have the rest.
pub(crate) fn queues_for_this_machine() -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cores / 2).clamp(1, MAX_QUEUES)
}

/// What every thread needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    /// Readable once the data threads are to stop.
    pub(crate) wake: Arc<OwnedFd>,
    stopping: Arc<AtomicBool>,
    failed: Arc<Notify>,
}

impl Shared {
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// The running threads.
pub(crate) struct DataThreads {
    shared: Shared,
    threads: Vec<JoinHandle<()>>,
    timers: Thread,
}

impl DataThreads {
    /// Starts one data thread for each of `transmits`, each over a queue and a socket of its own, and the others.
    /// `door`: the socket that initiations come to, if they have one.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        engine: Arc<Engine>,
        transmits: Vec<Transmit>,
        door: Option<WireSocket>,
        clock: Clock,
    ) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (stopping, failed) = (Arc::default(), Arc::default());
        let shared = Shared { engine, clock, wake, stopping, failed };
        let any = transmits.first().cloned().ok_or(io::ErrorKind::InvalidInput)?;
        let (sender, receiver) = sync_channel(HANDSHAKES);
        let mut threads = Vec::new();
        for (i, transmit) in transmits.into_iter().enumerate() {
            let worker = Worker::new(shared.clone(), transmit, sender.clone());
            threads.push(spawn(&format!("bulkhead-data-{i}"), &shared, || worker.run())?);
        }
        if let Some(socket) = door {
            let door = Door::new(shared.clone(), any.through(socket), sender);
            threads.push(spawn("bulkhead-door", &shared, || door.run())?);
        }
        let (engine, clock, transmit) = (Arc::clone(&shared.engine), shared.clock.clone(), any.clone());
        threads.push(spawn("bulkhead-handshakes", &shared, move || {
            handshakes(&engine, &clock, &transmit, &receiver);
        })?);
        let own = shared.clone();
        let timing = spawn("bulkhead-timers", &shared, move || timers(&own, &any))?;
        let timers = timing.thread().clone();
        threads.push(timing);
        Ok(Self { shared, threads, timers })
    }

    /// Notified when a thread ended without being told to. Half a data plane looks like a fault of the network; none
    /// at all is noticed, and the service manager starts it again.
    pub(crate) fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.failed)
    }

    /// Errors from now on are the end that was asked for. Call it before the interface is removed.
    pub(crate) fn announce_stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(self) {
        self.announce_stop();
        // The counter can only be full when it has been woken already.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        self.timers.unpark();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data thread had panicked");
            }
        }
    }
}

fn spawn(name: &str, shared: &Shared, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let alarm = Alarm(shared.clone());
    thread::Builder::new().name(name.into()).spawn(move || {
        let _alarm = alarm;
        body();
    })
}

/// Sounds when its thread ends for whatever reason, a panic included, but that of being told to.
struct Alarm(Shared);

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.0.stopping() {
            self.0.failed.notify_one();
        }
    }
}

/// Exchanges of keys, until the last thread that receives has ended.
fn handshakes(engine: &Engine, clock: &Clock, transmit: &Transmit, queue: &Receiver<Handshake>) {
    let mut out = Output::new();
    for message in queue {
        transmit.carry(&mut out, |out| engine.handshake(&message, clock.now(), out));
    }
}

/// Retries, keepalives and expiry.
fn timers(shared: &Shared, transmit: &Transmit) {
    let mut out = Output::new();
    while !shared.stopping() {
        let now = shared.clock.now();
        transmit.carry(&mut out, |out| shared.engine.handle_timeout(now, out));
        let next = shared.engine.next_timeout(now).unwrap_or(TIMER_PATIENCE);
        thread::park_timeout(next.clamp(Duration::from_millis(1), TIMER_PATIENCE));
    }
}
