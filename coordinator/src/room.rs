//! A full disk. Whatever may write to the journal is refused with a clear error while there is no room for it;
//! everything else goes on: links, maps, lists, and what administrators look up.

use crate::journal::JournalError;
use bulkhead_coordinator_engine::{
    AdminCall, Class, Command, ConnectionId, Effect, Refusal, Reply, RequestId,
};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use std::sync::Arc;

/// Whom to tell that there is no room.
pub(crate) enum Writer {
    /// The caller of a request.
    Request(RequestId),
    /// The node of a link.
    Link(ConnectionId),
    /// Nobody, although a request waits: what it asked for was refused already.
    Record(RequestId),
    /// Nobody: it is tried again by itself, or only the record loses it.
    Nobody,
}

/// Who asks, if the command may write to the journal; reading goes on when the disk is full.
pub(crate) fn writer(command: &Command) -> Option<Writer> {
    match command {
        Command::EnrolFinish { request, .. }
        // Of whoever is refused, what the provider said is followed, and the refusal is written down.
        | Command::SignInPreview { request, .. }
        | Command::SignInLook { request, .. }
        | Command::SignInRefuse { request, .. }
        | Command::SignInConfirm { request, .. }
        // It makes an administrator's key when one is fetched.
        | Command::SignInPoll { request, .. }
        | Command::EnrolWorkload { request, .. }
        | Command::Refreshed { request, .. } => Some(Writer::Request(*request)),
        Command::Refused { request, .. } => Some(Writer::Record(*request)),
        Command::KeyUsed { .. } => Some(Writer::Nobody),
        Command::Admin { request, call, .. } => changes(call).then_some(Writer::Request(*request)),
        Command::Message { connection, message, .. } => match message.as_ref() {
            ToCoordinator::RenewFinish { .. } | ToCoordinator::Leave => Some(Writer::Link(*connection)),
            ToCoordinator::Hello { .. }
            | ToCoordinator::Endpoints { .. }
            | ToCoordinator::Acknowledge { .. }
            | ToCoordinator::WantSnapshot
            | ToCoordinator::RenewBegin
            | ToCoordinator::Refused { .. }
            | ToCoordinator::Flows { .. } => None,
        },
        // A tick renews the policy's signature once in a long while, or takes an unconfirmed one back, which fits
        // into the room that is kept; not to tick would keep maps from nodes.
        Command::Tick
        | Command::EnrolBegin { .. }
        | Command::SignInBegin { .. }
        | Command::Connected { .. }
        | Command::Disconnected { .. } => None,
    }
}

fn changes(call: &AdminCall) -> bool {
    match call {
        AdminCall::Login(_)
        | AdminCall::Logout
        | AdminCall::NodeLabel(..)
        | AdminCall::NodeSeal(..)
        | AdminCall::OffloadsSwitch(..)
        | AdminCall::NodeRevoke(..)
        | AdminCall::NodeRemove(_)
        | AdminCall::NodeApprove(_)
        | AdminCall::NodeReject(..)
        | AdminCall::TokenCreate(_)
        | AdminCall::TokenRevoke(_)
        | AdminCall::KeyCreate(_)
        | AdminCall::KeyRevoke(_)
        | AdminCall::PolicyApply(_)
        | AdminCall::PolicyConfirm(_)
        | AdminCall::TrustApply(_)
        | AdminCall::PolicyRollback(_)
        | AdminCall::AcceptRestore => true,
        AdminCall::WhoAmI
        | AdminCall::NodeList
        | AdminCall::NodeShow(_)
        | AdminCall::PendingList
        | AdminCall::OffloadsShow
        | AdminCall::RevokeStatus(_)
        | AdminCall::TokenList
        | AdminCall::KeyList
        | AdminCall::TrustShow
        | AdminCall::PolicyCheck(_)
        | AdminCall::PolicyShow
        | AdminCall::PolicyHistory
        | AdminCall::PolicyCan(_)
        | AdminCall::PolicyAck(_)
        | AdminCall::Flows => false,
    }
}

/// What to answer instead of the change.
pub(crate) fn refusal(who: Writer, full: &JournalError) -> Option<Effect> {
    Some(match who {
        Writer::Nobody => return None,
        Writer::Record(id) => Effect::Reply(id, Box::new(Reply::Done)),
        Writer::Request(id) => {
            let refusal = Refusal {
                class: Class::Unavailable,
                code: "BH-R001",
                message: format!("nothing can be changed now: {full}"),
                help: Some("free space on the coordinator's disk and try again; reading goes on".to_owned()),
                diagnostics: Vec::new(),
            };
            Effect::Reply(id, Box::new(Reply::Refused(refusal)))
        }
        Writer::Link(connection) => {
            let refused = ToNode::Refused {
                what: "change".to_owned(),
                why: "the coordinator's disk is full".to_owned(),
            };
            Effect::Send(connection, Arc::new(refused))
        }
    })
}
