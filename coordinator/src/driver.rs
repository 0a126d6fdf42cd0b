//! The one thread that owns engine and journal. What leaves this process was written down before: a batch of
//! commands is handled, their events are appended and synced once, and only then are replies, messages and
//! closes performed. When a write or sync fails the thread ends and the process with it; nothing that was not
//! synced has been told to anyone.

use crate::clock::Clock;
use crate::engine::{Engine, Input};
use crate::journal::{Entry, Journal, JournalError, Link};
use crate::link::LinkSender;
use crate::rarely::Rarely;
use crate::room::{Writer, refusal, writer};
use crate::store::Store;
use crate::tls::{LinkTrust, SharedLinkTrust, documents};
use bulkhead_coordinator_engine::{Command, ConnectionId, Coordinator, Effect, Event, Reply, RequestId};
use bulkhead_protocol::control::ToNode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the engine; whoever sends more, waits.
pub const MAX_WAITING_COMMANDS: usize = 4096;
/// Commands per sync.
pub const MAX_BATCH: usize = 512;
/// Events after which the state is saved as a snapshot.
pub const SNAPSHOT_EVERY: u64 = 2000;
/// Longest wait without a look at the clock.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// Why the engine's thread ended other than by request. The process must stop.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What is on the disk is no longer known.
    #[error("the journal failed; the coordinator stops rather than acknowledge what may not be on the disk")]
    Journal(#[from] JournalError),
}

/// Everything the engine's thread owns.
pub struct Driver<J> {
    /// Decides.
    pub coordinator: Coordinator,
    /// Remembers.
    pub journal: J,
    /// Speeds up the next start.
    pub store: Store,
    /// What handshakes are verified against.
    pub link_trust: SharedLinkTrust,
    /// Tells the time.
    pub clock: Clock,
}

impl<J: Journal + 'static> Driver<J> {
    /// Starts the thread. The receiver tells how it ended.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn spawn(self) -> std::io::Result<(Engine, oneshot::Receiver<Result<(), DriverError>>)> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_COMMANDS);
        let (ended, end) = oneshot::channel();
        let timer = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let outcome = Running::new(self).run(receiver, &timer);
            // Nobody listening means that the process is on its way out already.
            let _ = ended.send(outcome);
        })?;
        Ok((Engine::new(sender), end))
    }
}

struct Running<J> {
    driver: Driver<J>,
    answers: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    links: BTreeMap<ConnectionId, LinkSender>,
    /// Of the batch at hand: what to do once it is synced.
    perform: Vec<Effect>,
    appended: bool,
    saved: u64,
    /// Warnings of the engine that were logged and still hold.
    warned: Vec<String>,
    /// Errors that come as often as strangers like (G9).
    rarely: Rarely,
    /// The message that was encoded last, and its frame: a broadcast is encoded once.
    encoded: Option<(Arc<ToNode>, bytes::Bytes)>,
}

impl<J: Journal> Running<J> {
    fn new(driver: Driver<J>) -> Self {
        let saved = driver.journal.end().sequence;
        Self {
            driver,
            answers: BTreeMap::new(),
            links: BTreeMap::new(),
            perform: Vec::new(),
            appended: false,
            saved,
            warned: Vec::new(),
            rarely: Rarely::default(),
            encoded: None,
        }
    }

    fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        timer: &tokio::runtime::Handle,
    ) -> Result<(), DriverError> {
        loop {
            let wait = self.wait();
            // The runtime lends its timer; this thread itself runs no tasks.
            let first = timer.block_on(async { tokio::time::timeout(wait, inputs.recv()).await });
            let mut next = match first {
                Ok(Some(input)) => Some(input),
                Ok(None) => return self.finish(),
                Err(_) => None,
            };
            let mut left = MAX_BATCH;
            let mut stopping = false;
            while let Some(input) = next {
                stopping |= self.take(input)?;
                left -= 1;
                next = if left > 0 && !stopping { inputs.try_recv().ok() } else { None };
            }
            self.tick()?;
            self.commit()?;
            if stopping {
                return self.finish();
            }
        }
    }

    /// How long until the engine wants to be asked again.
    fn wait(&self) -> Duration {
        let now = self.driver.clock.now().mono;
        let due = self.driver.coordinator.next_timeout().saturating_sub(now);
        due.min(MAX_IDLE)
    }

    fn tick(&mut self) -> Result<(), DriverError> {
        let now = self.driver.clock.now();
        if self.driver.coordinator.next_timeout() <= now.mono {
            // Many certificates may be due at once, which is more than the room that is kept for ticks.
            let coordinator = &mut self.driver.coordinator;
            let writes = coordinator.reissues(now) || coordinator.counts_refusals(now);
            if writes && self.driver.journal.reserve().is_err() {
                coordinator.postpone_reissue(now);
                coordinator.postpone_refusals(now);
            }
            self.handle(Command::Tick)?;
            self.warn();
        }
        Ok(())
    }

    /// Logs what needs somebody's attention, once (G9).
    fn warn(&mut self) {
        let warnings = self.driver.coordinator.warnings(self.driver.clock.now());
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warned = warnings;
    }

    /// Takes one input; true for a stop.
    fn take(&mut self, input: Input) -> Result<bool, DriverError> {
        match input {
            Input::Request { id, command, answer } => {
                self.answers.insert(id, answer);
                self.handle(command)?;
            }
            Input::Link { connection, link, command } => {
                self.links.insert(connection, link);
                self.handle(command)?;
            }
            Input::Command(command) => {
                if let Command::Disconnected { connection } = &command {
                    self.links.remove(connection);
                }
                self.handle(command)?;
            }
            Input::Authorize { credential, source, role, answer } => {
                let now = self.driver.clock.now();
                let coordinator = &self.driver.coordinator;
                let actor = coordinator.whose(&credential, now);
                let refusal = coordinator.authorize(&credential, role, now).err();
                let used = coordinator.unrecorded_use(&credential, now);
                // A caller that went away needs no answer.
                let _ = answer.send((actor, refusal));
                if let Some(id) = used {
                    self.handle(Command::KeyUsed { id, source })?;
                }
            }
            Input::Stop => return Ok(true),
        }
        Ok(false)
    }

    fn handle(&mut self, command: Command) -> Result<(), DriverError> {
        if let Some(who) = writer(&command)
            && let Err(full) = self.driver.journal.reserve()
        {
            let lost = !matches!(who, Writer::Record(_) | Writer::Nobody);
            if lost && self.rarely.may_tell("no room", Instant::now()) {
                tracing::error!(reason = %full, "change refused: no room for the journal");
            }
            self.perform.extend(refusal(who, &full));
            return Ok(());
        }
        let now = self.driver.clock.now();
        for effect in self.driver.coordinator.handle(command, now) {
            match effect {
                Effect::Persist(event) => self.append(&event)?,
                Effect::Reply(..) | Effect::Send(..) | Effect::Close(..) => self.perform.push(effect),
            }
        }
        Ok(())
    }

    fn append(&mut self, event: &Event) -> Result<(), DriverError> {
        self.driver.journal.append(&entry(event))?;
        self.appended = true;
        Ok(())
    }

    /// Syncs what the batch wrote, then does what it decided.
    fn commit(&mut self) -> Result<(), DriverError> {
        if std::mem::take(&mut self.appended) {
            self.driver.journal.sync()?;
        }
        self.publish();
        for effect in std::mem::take(&mut self.perform) {
            self.perform_one(effect);
        }
        self.encoded = None;
        let end = self.driver.journal.end();
        if end.sequence - self.saved >= SNAPSHOT_EVERY {
            self.save(end);
        }
        Ok(())
    }

    /// Handshakes from now on are verified against what is now in force.
    fn publish(&self) {
        let revocations = self.driver.coordinator.link_revocations();
        let trust = self.driver.coordinator.trust();
        let published = self.driver.link_trust.load();
        if published.revocations.bytes() != revocations.bytes() || published.trust.bytes() != trust.bytes() {
            let documents = match published.trust.bytes() == trust.bytes() {
                true => Arc::clone(&published.documents),
                false => documents(&self.driver.coordinator),
            };
            let renewal_grace = published.renewal_grace;
            let next = LinkTrust { trust: trust.clone(), revocations, renewal_grace, documents };
            self.driver.link_trust.store(Arc::new(next));
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(id, reply) => {
                if let Some(answer) = self.answers.remove(&id) {
                    // A caller that hung up does not undo what was done.
                    let _ = answer.send(*reply);
                }
            }
            Effect::Send(connection, message) => self.send(connection, &message),
            Effect::Close(connection, reason) => {
                if let Some(link) = self.links.get(&connection) {
                    link.close(reason.code(), reason.as_str());
                }
            }
            // Appended when it was decided.
            Effect::Persist(_) => {}
        }
    }

    fn send(&mut self, connection: ConnectionId, message: &Arc<ToNode>) {
        let Some(link) = self.links.get(&connection) else { return };
        let frame = match &self.encoded {
            Some((last, frame)) if Arc::ptr_eq(last, message) => frame.clone(),
            _ => match bulkhead_protocol::frame::encode(message.as_ref()) {
                Ok(frame) => bytes::Bytes::from(frame),
                Err(error) => {
                    tracing::error!(reason = %error, "message is too large for a frame; link closed");
                    link.close(0, "a message does not fit into a frame");
                    return;
                }
            },
        };
        self.encoded = Some((Arc::clone(message), frame.clone()));
        link.send(frame, message);
    }

    fn save(&mut self, end: Link) {
        self.driver.store.save(end, self.driver.coordinator.state());
        self.saved = end.sequence;
    }

    fn finish(mut self) -> Result<(), DriverError> {
        let end = self.driver.journal.end();
        if end.sequence != self.saved {
            self.save(end);
        }
        tracing::info!(sequence = end.sequence, "engine stopped");
        Ok(())
    }
}

/// An event as a journal entry.
#[must_use]
pub fn entry(event: &Event) -> Entry {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = minicbor::encode(event, &mut bytes);
    Entry { time: event.time, actor: event.actor.to_string(), event: bytes }
}
