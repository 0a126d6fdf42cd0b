//! Events as the audit log shows them. Every field is chosen here: what is not named, such as hashes of
//! secrets and whole signed lists, does not appear.

use crate::{AdminRole, Change, Event, NodeRecord, Owner};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

/// An event as the audit log shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditView {
    /// Stable name, for example `node_revoked`.
    pub event: &'static str,
    /// Its particulars, without secrets.
    pub detail: Value,
}

impl Event {
    /// For the audit log.
    #[must_use]
    pub fn audit(&self) -> AuditView {
        let (event, detail) = match &self.change {
            Change::Initialised { trust, bootstrap: _ } => {
                ("initialised", json!({ "trust": HEXLOWER.encode(trust) }))
            }
            Change::TokenCreated { token } => ("token_created", token.audit()),
            Change::TokenRevoked { id } => ("token_revoked", json!({ "id": id })),
            Change::NodeEnrolled { token, node } => ("node_enrolled", node.audit("token", &json!(token))),
            Change::NodeRenewed { name, certificate, revocation, tunnel_key: _, binding: _ } => (
                "node_renewed",
                json!({ "name": name, "serial": certificate.serial, "not_after": certificate.not_after,
                        "new_tunnel_key": revocation.is_some() }),
            ),
            Change::NodeRelabelled { name, labels, certificate, revocation, seal } => (
                "node_relabelled",
                json!({ "name": name, "labels": labels, "serial": certificate.serial,
                        "epoch": revocation.epoch, "seal": seal.as_ref().map(crate::seal::audit) }),
            ),
            Change::NodePending { pending, device: _ } => ("node_pending", pending.audit()),
            Change::PendingEnded { name, reason } => {
                ("pending_ended", json!({ "name": name, "reason": reason }))
            }
            Change::NodeApproved { node } => ("node_approved", node.audit("owner", &owner(node))),
            Change::PersonEnrolled { node, device: _ } => {
                ("person_enrolled", node.audit("owner", &owner(node)))
            }
            Change::WorkloadEnrolled { provider, workload, node } => (
                "workload_enrolled",
                node.audit(
                    "workload",
                    &json!({ "provider": provider, "issuer": workload.issuer,
                                                "subject": workload.subject }),
                ),
            ),
            Change::NodeSignedIn { signed_in, revocation } => {
                let mut detail = signed_in.audit();
                detail["epoch"] = json!(revocation.as_ref().map(|step| step.epoch));
                ("node_signed_in", detail)
            }
            Change::PersonRefreshed { person, name, session_until, administrator } => (
                "person_refreshed",
                json!({ "issuer": person.issuer, "subject": person.subject, "name": name,
                        "session_until": session_until,
                        "administrator": administrator.map(AdminRole::as_str) }),
            ),
            Change::PersonDenied { person, reason } => (
                "person_denied",
                json!({ "issuer": person.issuer, "subject": person.subject, "reason": reason }),
            ),
            Change::AdministratorSignedIn { key } => ("administrator_signed_in", key.audit()),
            Change::TrustUpdated { document } => ("trust_updated", crate::trust::audit(document)),
            Change::RevocationsSigned { revocation } => {
                ("revocations_signed", json!({ "epoch": revocation.epoch }))
            }
            Change::NodeRevoked { name, reason, audience, revocation, removed } => (
                "node_revoked",
                json!({ "name": name, "reason": reason, "epoch": revocation.epoch,
                        "audience": audience.0.len(), "left": removed }),
            ),
            Change::NodeRemoved { name } => ("node_removed", json!({ "name": name })),
            Change::PolicyApplied { policy } => ("policy_applied", policy.audit()),
            Change::SessionOpened { key } => ("session_opened", key.audit()),
            Change::SessionClosed { id } => ("session_closed", json!({ "id": id })),
            Change::Restored => ("restored", json!({})),
            Change::RestoreAccepted { revocation, policy } => (
                "restore_accepted",
                json!({ "epoch": revocation.epoch,
                        "generation": policy.as_ref().map(|policy| policy.generation) }),
            ),
            Change::OffloadsSwitched { node, off } => {
                ("offloads_switched", json!({ "node": node, "off": off }))
            }
            Change::PolicyConfirmed { generation, without } => {
                ("policy_confirmed", json!({ "generation": generation, "without": without }))
            }
        };
        AuditView { event, detail }
    }
}

/// Whose a node is.
fn owner(node: &NodeRecord) -> Value {
    json!(node.owner.as_ref().map(Owner::view))
}
