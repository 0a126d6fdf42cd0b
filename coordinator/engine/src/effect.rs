//! What the rim has to do. Order is the promise: every `Persist` of a command comes before its first `Reply`,
//! `Send` or `Close`; the rim syncs the former before it performs the latter.

use crate::signin::{Preview, SignInOutcome, SignInView};
use crate::{ConnectionId, Event, Refusal, RequestId};
use bulkhead_protocol::admin::{
    AckStatus, Applied, CanAnswer, CheckReport, CreatedKey, CreatedToken, KeyList, LiveFlows, Node, NodeList,
    OffloadsOff, PendingList, PolicyCurrent, PolicyHistory, RevokeStatus, Session, TokenList, TrustView,
    WhoAmI,
};
use bulkhead_protocol::control::ToNode;
use bulkhead_protocol::enrol::{BeginResponse, FinishResponse};
use bulkhead_protocol::signin::{DeviceAuthorization, PollState};
use std::sync::Arc;

/// One thing for the rim to do.
pub enum Effect {
    /// Append to the journal.
    Persist(Box<Event>),
    /// Answer an HTTP request.
    Reply(RequestId, Box<Reply>),
    /// Send over a control link. One message to many links is one allocation.
    Send(ConnectionId, Arc<ToNode>),
    /// Close a control link, after what was sent before.
    Close(ConnectionId, CloseReason),
}

/// Why a control link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The node was revoked, or left.
    Revoked,
    /// The registry knows no node of this name with this key.
    Unknown,
    /// The same node opened a newer link.
    Replaced,
    /// It speaks a version of the protocol that we do not.
    Protocol,
    /// Its certificate ended, and is not one that may still be renewed.
    Expired,
    /// It broke the rules of the conversation.
    Misbehaved(&'static str),
}

impl CloseReason {
    /// The application error code of the QUIC close.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Revoked => 1,
            Self::Unknown => 2,
            Self::Replaced => 3,
            Self::Protocol => 4,
            Self::Misbehaved(_) => 5,
            Self::Expired => 6,
        }
    }

    /// In words, for the close frame and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "this node is revoked",
            Self::Unknown => "this node is not enrolled here",
            Self::Replaced => "this node opened a newer link",
            Self::Protocol => "this version of the protocol is not spoken here",
            Self::Expired => "the certificate ended too long ago to be renewed: enrol again",
            Self::Misbehaved(how) => how,
        }
    }
}

/// The answer to a request.
#[allow(clippy::large_enum_variant)] // Boxed in its effect.
pub enum Reply {
    /// It was refused; nothing changed.
    Refused(Refusal),
    /// Done, nothing more to say.
    Done,
    /// A challenge for the joining machine.
    EnrolBegun(BeginResponse),
    /// The node exists; here is its certificate.
    Enrolled(FinishResponse),
    /// What to show to whoever is to confirm.
    SignInBegun(DeviceAuthorization),
    /// What a user code stands for.
    SignIn(SignInView),
    /// What confirming would do.
    SignInPreview(Preview),
    /// A person confirmed.
    SignInDone(SignInOutcome),
    /// How far a sign-in is.
    SignInState(PollState),
    /// What a provider said of a person again is taken up; whether anything here hangs on that person still.
    Refreshed(bool),
    /// Nodes that wait for an administrator.
    Pending(PendingList),
    /// A key for further calls.
    Session(Session),
    /// Who the caller is.
    WhoAmI(WhoAmI),
    /// One node.
    Node(Node),
    /// All nodes.
    Nodes(NodeList),
    /// What nodes leave off.
    Offloads(OffloadsOff),
    /// A revocation and its receipts.
    Revocation(RevokeStatus),
    /// A token with its secret.
    TokenCreated(CreatedToken),
    /// The trust document in force.
    Trust(TrustView),
    /// All tokens, without secrets.
    Tokens(TokenList),
    /// An API key with its secret.
    KeyCreated(CreatedKey),
    /// All API keys, without secrets.
    Keys(KeyList),
    /// Findings about a policy text.
    Checked(CheckReport),
    /// A policy is in force.
    Applied(Applied),
    /// The policy in force.
    Policy(PolicyCurrent),
    /// Earlier policies.
    History(PolicyHistory),
    /// May A reach B?
    Can(CanAnswer),
    /// Who enforces a generation.
    Acknowledged(AckStatus),
    /// What the nodes said of their flows.
    Flows(LiveFlows),
}

/// Collects effects in the promised order.
#[derive(Default)]
pub(crate) struct Effects {
    persist: Vec<Effect>,
    perform: Vec<Effect>,
}

impl Effects {
    pub(crate) fn persist(&mut self, event: Event) {
        self.persist.push(Effect::Persist(Box::new(event)));
    }

    pub(crate) fn answer(&mut self, request: RequestId, answer: Result<Reply, Refusal>) {
        let reply = answer.unwrap_or_else(Reply::Refused);
        self.perform.push(Effect::Reply(request, Box::new(reply)));
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, message: impl Into<Arc<ToNode>>) {
        self.perform.push(Effect::Send(connection, message.into()));
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.perform.push(Effect::Close(connection, reason));
    }

    pub(crate) fn into_vec(self) -> Vec<Effect> {
        let mut all = self.persist;
        all.extend(self.perform);
        all
    }
}
