//! Events as the audit log shows them. Every field is chosen here: what is not named, such as hashes of
//! secrets and whole signed lists, does not appear.

use crate::{Change, Event};
use bulkhead_protocol::admin::AuditEvent;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

/// An event as the audit log shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditView {
    /// What kind.
    pub event: AuditEvent,
    /// Its particulars, without secrets.
    pub detail: Value,
}

impl Event {
    /// For the audit log.
    #[must_use]
    pub fn audit(&self) -> AuditView {
        let (event, detail) = match &self.change {
            Change::Initialised { trust, bootstrap: _ } => {
                (AuditEvent::Initialised, json!({ "trust": HEXLOWER.encode(trust) }))
            }
            Change::TokenCreated { token } => (AuditEvent::TokenCreated, token.audit()),
            Change::TokenRevoked { id } => (AuditEvent::TokenRevoked, json!({ "id": id })),
            Change::NodeEnrolled { token, node } => (AuditEvent::NodeEnrolled, node.audit(token)),
            Change::NodeRenewed { name, certificate, revocation, tunnel_key: _, binding: _ } => (
                AuditEvent::NodeRenewed,
                json!({ "name": name, "serial": certificate.serial, "not_after": certificate.not_after,
                        "new_tunnel_key": revocation.is_some() }),
            ),
            Change::NodeRelabelled { name, labels, certificate, revocation, seal } => (
                AuditEvent::NodeRelabelled,
                json!({ "name": name, "labels": labels, "serial": certificate.serial,
                        "epoch": revocation.epoch, "seal": seal.as_ref().map(crate::seal::audit) }),
            ),
            Change::TrustUpdated { document } => (AuditEvent::TrustUpdated, crate::trust::audit(document)),
            Change::RevocationsSigned { revocation } => {
                (AuditEvent::RevocationsSigned, json!({ "epoch": revocation.epoch }))
            }
            Change::NodeRevoked { name, reason, audience, revocation, removed } => (
                AuditEvent::NodeRevoked,
                json!({ "name": name, "reason": reason, "epoch": revocation.epoch,
                        "audience": audience.0.len(), "left": removed }),
            ),
            Change::NodeRemoved { name } => (AuditEvent::NodeRemoved, json!({ "name": name })),
            Change::PolicyApplied { policy } => (AuditEvent::PolicyApplied, policy.audit()),
            Change::SessionOpened { key } => (AuditEvent::SessionOpened, key.audit()),
            Change::SessionClosed { id } => (AuditEvent::SessionClosed, json!({ "id": id })),
            Change::KeyCreated { key } => (AuditEvent::KeyCreated, key.audit()),
            Change::KeyRevoked { id } => (AuditEvent::KeyRevoked, json!({ "id": id })),
            Change::KeyUsed { id } => (AuditEvent::KeyUsed, json!({ "id": id })),
            Change::Refused { what, code, why } => {
                (AuditEvent::Refused, json!({ "what": what, "code": code, "why": why }))
            }
            Change::RefusalsCounted { strangers, administrators } => (
                AuditEvent::RefusalsCounted,
                json!({ "strangers": strangers, "administrators": administrators }),
            ),
            Change::Restored => (AuditEvent::Restored, json!({})),
            Change::RestoreAccepted { revocation, policy } => (
                AuditEvent::RestoreAccepted,
                json!({ "epoch": revocation.epoch,
                        "generation": policy.as_ref().map(|policy| policy.generation) }),
            ),
            Change::OffloadsSwitched { node, off } => {
                (AuditEvent::OffloadsSwitched, json!({ "node": node, "off": off }))
            }
            Change::PolicyConfirmed { generation, without } => {
                (AuditEvent::PolicyConfirmed, json!({ "generation": generation, "without": without }))
            }
        };
        AuditView { event, detail }
    }
}
