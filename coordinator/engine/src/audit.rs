//! Events as the audit log shows them. Every field is chosen here: what is not named, such as hashes of
//! secrets and whole signed lists, does not appear.

use crate::{AdminRole, Change, Event, NodeRecord, Owner};
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
            Change::NodeEnrolled { token, node } => {
                (AuditEvent::NodeEnrolled, node.audit("token", &json!(token)))
            }
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
            Change::NodePending { pending, device: _ } => (AuditEvent::NodePending, pending.audit()),
            Change::PendingEnded { name, reason } => {
                (AuditEvent::PendingEnded, json!({ "name": name, "reason": reason }))
            }
            Change::NodeApproved { node } => (AuditEvent::NodeApproved, node.audit("owner", &owner(node))),
            Change::PersonEnrolled { node, device: _ } => {
                (AuditEvent::PersonEnrolled, node.audit("owner", &owner(node)))
            }
            Change::WorkloadEnrolled { provider, workload, node } => (
                AuditEvent::WorkloadEnrolled,
                node.audit(
                    "workload",
                    &json!({ "provider": provider, "issuer": workload.issuer,
                                                "subject": workload.subject }),
                ),
            ),
            Change::NodeSignedIn { signed_in, revocation } => {
                let mut detail = signed_in.audit();
                detail["epoch"] = json!(revocation.as_ref().map(|step| step.epoch));
                (AuditEvent::NodeSignedIn, detail)
            }
            Change::PersonRefreshed { person, name, session_until, administrator, not_prolonged } => (
                AuditEvent::PersonRefreshed,
                json!({ "issuer": person.issuer, "subject": person.subject, "name": name,
                        "session_until": session_until, "not_prolonged": not_prolonged,
                        "administrator": administrator.map(AdminRole::as_str) }),
            ),
            Change::NodeSessionEnded { name, labels, revocation, reason } => (
                AuditEvent::NodeSessionEnded,
                json!({ "name": name, "labels": labels, "reason": reason,
                        "epoch": revocation.as_ref().map(|step| step.epoch) }),
            ),
            Change::PersonDenied { person, reason } => (
                AuditEvent::PersonDenied,
                json!({ "issuer": person.issuer, "subject": person.subject, "reason": reason }),
            ),
            Change::AdministratorSignedIn { key } => (AuditEvent::AdministratorSignedIn, key.audit()),
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
            Change::RefusalsCounted { strangers, administrators, people } => (
                AuditEvent::RefusalsCounted,
                json!({ "strangers": strangers, "administrators": administrators, "people": people }),
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

/// Whose a node is.
fn owner(node: &NodeRecord) -> Value {
    json!(node.owner.as_ref().map(Owner::view))
}
