//! The way to the engine's thread: a bounded queue of what happened, and answers by request. Whoever sends more
//! than the engine can take, waits; nobody shares its state.

use crate::clock::{NoRandomness, entropy};
use crate::link::LinkSender;
use bulkhead_coordinator_engine::{
    Actor, AdminCall, AdminRole, Command, ConnectionId, Credential, Entropy, Refusal, Reply, RequestId,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// What reaches the engine's thread.
pub(crate) enum Input {
    /// A request with its answer's destination.
    Request { id: RequestId, command: Command, answer: oneshot::Sender<Reply> },
    /// A new control link.
    Link { connection: ConnectionId, link: LinkSender, command: Command },
    /// Anything else that happened on a link.
    Command(Command),
    /// Who comes with this credential, and may he do what this role may?
    Authorize {
        credential: Credential,
        source: Option<IpAddr>,
        role: AdminRole,
        answer: oneshot::Sender<(Actor, Option<Refusal>)>,
    },
    /// A clean stop.
    Stop,
}

/// The engine no longer takes commands: the process is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

/// Why a request could not even be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// See [`NoRandomness`].
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// The way to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inputs: mpsc::Sender<Input>,
    /// Names for requests and links.
    next: Arc<AtomicU64>,
}

impl Engine {
    pub(crate) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, next: Arc::new(AtomicU64::new(1)) }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The process is stopping: the request may or may not have been done.
    pub async fn ask(&self, make: impl FnOnce(RequestId, Entropy) -> Command) -> Result<Reply, AskError> {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let command = make(id, entropy()?);
        let (answer, reply) = oneshot::channel();
        self.send(Input::Request { id, command, answer }).await?;
        Ok(reply.await.map_err(|_| Stopped)?)
    }

    /// Asks an administrator's question. `source` is the address that it comes from; none over the unix socket.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn admin(
        &self,
        credential: Credential,
        source: Option<IpAddr>,
        call: AdminCall,
    ) -> Result<Reply, AskError> {
        self.ask(|request, entropy| Command::Admin { request, credential, source, call, entropy }).await
    }

    /// Who comes with this credential, and the refusal to answer with if that is not enough.
    ///
    /// # Errors
    /// The process is stopping.
    pub async fn authorize(
        &self,
        credential: Credential,
        source: Option<IpAddr>,
        role: AdminRole,
    ) -> Result<(Actor, Option<Refusal>), Stopped> {
        let (answer, reply) = oneshot::channel();
        self.send(Input::Authorize { credential, source, role, answer }).await?;
        reply.await.map_err(|_| Stopped)
    }

    /// A name for a new link.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Registers a link whose handshake is done.
    ///
    /// # Errors
    /// The process is stopping.
    pub async fn open_link(
        &self,
        connection: ConnectionId,
        link: LinkSender,
        command: Command,
    ) -> Result<(), Stopped> {
        self.send(Input::Link { connection, link, command }).await
    }

    /// Passes on what happened on a link.
    ///
    /// # Errors
    /// The process is stopping.
    pub async fn tell(&self, command: Command) -> Result<(), Stopped> {
        self.send(Input::Command(command)).await
    }

    /// Ends the engine's thread after what was sent before.
    pub async fn stop(&self) {
        // Already ended is what we want.
        let _ = self.send(Input::Stop).await;
    }

    async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }
}
