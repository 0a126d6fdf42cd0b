//! What the rim asks of the coordinator. Everything that the outside may say is parsed before it comes here;
//! randomness and time come along, so that the same commands always have the same effects.

use crate::{Actor, Claims, Entropy, Proposal};
use bulkhead_identity::{CertificateRequest, NodeName, VerifiedIdentity};
use bulkhead_protocol::admin::{
    Can, Confirm, CreateKey, CreateToken, Login, Reject, Revoke, Rollback, SetLabels, SetSeal,
    SwitchOffloads, TrustApply,
};
use bulkhead_protocol::control::ToCoordinator;
use minicbor::{Decode, Encode};
use std::net::{IpAddr, SocketAddr};
use zeroize::Zeroizing;

/// Names one HTTP request until its [`Reply`](crate::Reply). Chosen by the rim, never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one control link. Chosen by the rim, never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One thing that happened outside.
pub enum Command {
    /// A machine wants to join: answered by [`Reply::EnrolBegun`](crate::Reply::EnrolBegun).
    EnrolBegin {
        /// Whom to answer.
        request: RequestId,
        /// Address that asks, for the fairness of the table of pending enrolments.
        source: IpAddr,
        /// Makes the challenge.
        entropy: Entropy,
    },
    /// The proofs: answered by [`Reply::Enrolled`](crate::Reply::Enrolled).
    EnrolFinish {
        /// Whom to answer.
        request: RequestId,
        /// What `EnrolBegun` named.
        enrolment: String,
        /// Keys and proofs, decoded from the body.
        certificate_request: Box<CertificateRequest>,
        /// The join token's secret.
        secret: Zeroizing<Vec<u8>>,
        /// Wanted name.
        name: Option<String>,
        /// Address that asks, for the audit log.
        source: Option<IpAddr>,
        /// Makes the certificate's serial number.
        entropy: Entropy,
    },
    /// A control link finished its handshake; its identity was verified against
    /// [`Coordinator::link_revocations`](crate::Coordinator::link_revocations) with role node.
    Connected {
        /// The new link.
        connection: ConnectionId,
        /// Who holds the key that the handshake proved.
        identity: VerifiedIdentity,
        /// Source address of the link.
        observed: SocketAddr,
    },
    /// A whole frame arrived on a link.
    Message {
        /// The link.
        connection: ConnectionId,
        /// What it says.
        message: Box<ToCoordinator>,
        /// Unix milliseconds of arrival, for receipts.
        arrived_ms: u64,
        /// For challenges and serial numbers.
        entropy: Entropy,
    },
    /// A link ended, whoever ended it.
    Disconnected {
        /// The link.
        connection: ConnectionId,
    },
    /// Somebody at a machine wants to sign in at a provider: answered by
    /// [`Reply::SignInBegun`](crate::Reply::SignInBegun).
    SignInBegin {
        /// Whom to answer.
        request: RequestId,
        /// Address that asks: shown to whoever confirms, and for the fairness of the table of sign-ins.
        source: IpAddr,
        /// What for.
        purpose: Purpose,
        /// How it is to be confirmed, and no other way.
        road: Road,
        /// Makes the codes.
        entropy: Entropy,
    },
    /// Somebody typed a user code: answered by [`Reply::SignIn`](crate::Reply::SignIn).
    SignInLook {
        /// Whom to answer.
        request: RequestId,
        /// As typed.
        user_code: String,
        /// Address of the browser: wrong codes are counted.
        source: IpAddr,
    },
    /// What would confirming do? Does nothing of it, but what the provider says of somebody who is refused counts at
    /// once: answered by [`Reply::SignInPreview`](crate::Reply::SignInPreview).
    SignInPreview {
        /// Whom to answer.
        request: RequestId,
        /// As typed.
        user_code: String,
        /// Of whoever would confirm.
        claims: Box<Claims>,
        /// Address of the browser: wrong codes are counted.
        source: IpAddr,
        /// Makes serial numbers.
        entropy: Entropy,
    },
    /// A person confirms: answered by [`Reply::SignInDone`](crate::Reply::SignInDone).
    SignInConfirm {
        /// Whom to answer.
        request: RequestId,
        /// As typed.
        user_code: String,
        /// Of whoever confirms, verified.
        claims: Box<Claims>,
        /// How the person confirmed.
        road: Road,
        /// Address of the browser: wrong codes are counted.
        source: IpAddr,
        /// Makes the certificate's serial number.
        entropy: Entropy,
    },
    /// A person says that the machine is not theirs: answered by [`Reply::Done`](crate::Reply::Done).
    SignInRefuse {
        /// Whom to answer.
        request: RequestId,
        /// As typed.
        user_code: String,
        /// Of whoever says so, verified; none when a provider's own device flow came to nothing.
        claims: Option<Box<Claims>>,
        /// Address of the browser: wrong codes are counted.
        source: IpAddr,
    },
    /// A machine asks how far its sign-in is: answered by [`Reply::SignInState`](crate::Reply::SignInState).
    SignInPoll {
        /// Whom to answer.
        request: RequestId,
        /// What `SignInBegun` gave it.
        device_code: Zeroizing<Vec<u8>>,
        /// Address that asks; none over the unix socket.
        source: Option<IpAddr>,
        /// Makes an administrator's key when it is fetched.
        entropy: Entropy,
    },
    /// A workload showed a token that the rim verified: answered by [`Reply::Enrolled`](crate::Reply::Enrolled).
    EnrolWorkload {
        /// Whom to answer.
        request: RequestId,
        /// What `EnrolBegun` named.
        enrolment: String,
        /// Keys and proofs, decoded from the body.
        certificate_request: Box<CertificateRequest>,
        /// Of the workload.
        claims: Box<Claims>,
        /// Wanted name.
        name: Option<String>,
        /// Address that asks.
        source: IpAddr,
        /// Makes the certificate's serial number.
        entropy: Entropy,
    },
    /// A provider was asked about a person again: answered by `Refreshed` or `Refused`.
    Refreshed {
        /// Whom to answer.
        request: RequestId,
        /// Who vouches.
        issuer: String,
        /// For whom.
        subject: String,
        /// What it said.
        outcome: RefreshOutcome,
        /// Makes serial numbers.
        entropy: Entropy,
    },
    /// An administrator's call: answered by the [`Reply`](crate::Reply) that fits, or `Refused`.
    Admin {
        /// Whom to answer.
        request: RequestId,
        /// With what right.
        credential: Credential,
        /// Address that asks; none over the unix socket.
        source: Option<IpAddr>,
        /// What to do.
        call: AdminCall,
        /// For secrets, ids and serial numbers.
        entropy: Entropy,
    },
    /// A request was refused, by whomever: for the audit log. Answered by `Reply::Done`, once it is written or counted.
    Refused {
        /// Whom to answer.
        request: RequestId,
        /// Who was refused.
        actor: Actor,
        /// Address that asked; none over the unix socket.
        source: Option<IpAddr>,
        /// What he asked for: method and path of the route, never what he sent.
        what: String,
        /// Code of the refusal.
        code: String,
        /// Its message.
        why: String,
    },
    /// An API key was used, and [`Coordinator::unrecorded_use`](crate::Coordinator::unrecorded_use) said so.
    KeyUsed {
        /// Which.
        id: String,
        /// Address that used it.
        source: Option<IpAddr>,
    },
    /// Time passed. Due at [`Coordinator::next_timeout`](crate::Coordinator::next_timeout), harmless at any other time.
    Tick,
}

/// What somebody signs in for.
pub enum Purpose {
    /// This machine is to be a node.
    Enrol {
        /// What `EnrolBegun` named.
        enrolment: String,
        /// Keys and proofs, decoded from the body.
        certificate_request: Box<CertificateRequest>,
        /// Wanted name; none: the name that the node has already.
        name: Option<String>,
    },
    /// An administrator's session.
    Login,
}

/// How a person confirmed a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Road {
    /// On our page, which showed the machine and its match code.
    #[n(0)]
    Page,
    /// At the provider's own device flow, which shows neither: an administrator has to approve.
    #[n(1)]
    ProviderDevice,
}

/// What a provider said of a person when it was asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// What it says now.
    Claims(Box<Claims>),
    /// It no longer vouches for the person.
    Denied(String),
}

impl Command {
    /// Address from which this was asked for; none for what nobody at an address asked for, and over the unix socket.
    /// What arrives on a control link comes from that link's.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::EnrolBegin { source, .. }
            | Self::SignInBegin { source, .. }
            | Self::SignInLook { source, .. }
            | Self::SignInPreview { source, .. }
            | Self::SignInConfirm { source, .. }
            | Self::SignInRefuse { source, .. }
            | Self::EnrolWorkload { source, .. } => Some(*source),
            Self::Admin { source, .. }
            | Self::EnrolFinish { source, .. }
            | Self::Refused { source, .. }
            | Self::KeyUsed { source, .. } => *source,
            Self::Connected { observed, .. } => Some(observed.ip()),
            Self::SignInPoll { source, .. } => *source,
            Self::Message { .. } | Self::Refreshed { .. } | Self::Disconnected { .. } | Self::Tick => None,
        }
    }
}

/// With what right an administrator calls.
pub enum Credential {
    /// Over the unix socket, whose peer credentials the rim has checked.
    LocalRoot {
        /// Its user, for the audit log.
        uid: u32,
    },
    /// The bytes of an API key, from `authorization: Bearer`.
    ApiKey(Zeroizing<Vec<u8>>),
    /// None: enough for [`AdminCall::Login`] only.
    Anonymous,
}

/// What administrators can ask for. The audit log is the rim's to read: see
/// [`Coordinator::authorize`](crate::Coordinator::authorize).
pub enum AdminCall {
    /// Spend the bootstrap secret: `Reply::Session`.
    Login(Login),
    /// End the session of the calling key: `Reply::Done`.
    Logout,
    /// `Reply::WhoAmI`.
    WhoAmI,
    /// `Reply::Nodes`.
    NodeList,
    /// `Reply::Node`.
    NodeShow(NodeName),
    /// `Reply::Node`.
    NodeLabel(NodeName, SetLabels),
    /// Give a node the labels that operators sealed: `Reply::Node`.
    NodeSeal(NodeName, SetSeal),
    /// `Reply::Revocation`.
    NodeRevoke(NodeName, Revoke),
    /// Forget a revoked node: `Reply::Done`.
    NodeRemove(NodeName),
    /// `Reply::Offloads`.
    OffloadsShow,
    /// Nodes that wait for an administrator: `Reply::Pending`.
    PendingList,
    /// Make a pending node a node: `Reply::Node`.
    NodeApprove(NodeName),
    /// Refuse a pending node: `Reply::Done`.
    NodeReject(NodeName, Reject),
    /// Of one node, or of every node: `Reply::Offloads`.
    OffloadsSwitch(Option<NodeName>, SwitchOffloads),
    /// Receipts of the revocation that made this epoch: `Reply::Revocation`.
    RevokeStatus(u64),
    /// `Reply::TokenCreated`.
    TokenCreate(CreateToken),
    /// `Reply::Tokens`.
    TokenList,
    /// `Reply::Done`.
    TokenRevoke(String),
    /// `Reply::KeyCreated`.
    KeyCreate(CreateKey),
    /// `Reply::Keys`.
    KeyList,
    /// `Reply::Done`.
    KeyRevoke(String),
    /// `Reply::Checked`, also when the text has errors.
    PolicyCheck(Box<Proposal>),
    /// `Reply::Applied`.
    PolicyApply(Box<Proposal>),
    /// `Reply::Applied`.
    PolicyConfirm(Confirm),
    /// `Reply::Policy`.
    PolicyShow,
    /// `Reply::History`.
    PolicyHistory,
    /// `Reply::Applied`.
    PolicyRollback(Rollback),
    /// `Reply::Can`.
    PolicyCan(Can),
    /// Who enforces this generation: `Reply::Acknowledged`.
    PolicyAck(u64),
    /// `Reply::Trust`.
    TrustShow,
    /// Put the next trust document in force: `Reply::Trust`.
    TrustApply(TrustApply),
    /// Ask all connected nodes: `Reply::Flows`.
    Flows,
    /// Leave read-only mode after a restore; local root only: `Reply::Done`.
    AcceptRestore,
}
