//! The audit log: the journal as people read it.

use bulkhead_identity::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `GET /api/v1/audit?after=SEQ&limit=N`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Sequence of the journal's last entry.
    pub last: u64,
}

/// One entry of the journal.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct AuditEntry {
    /// Its number.
    pub sequence: u64,
    /// When.
    #[schemars(with = "u64")]
    pub time: Timestamp,
    /// By whom.
    pub actor: String,
    /// From which address; none over the unix socket, and when nobody outside caused it.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// What kind, for example `node_revoked`: the name of an [`AuditEvent`], or of one that is newer than this
    /// program.
    pub event: String,
    /// Its particulars, without secrets.
    pub detail: serde_json::Value,
    /// Hex of this entry's hash in the chain.
    pub hash: String,
}

/// `GET /api/v1/audit/verify`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerified {
    /// How many entries were checked.
    pub entries: u64,
    /// Hex of the last one's hash.
    pub head: String,
}

macro_rules! audit_events {
    ($($(#[$doc:meta])* $event:ident = $name:literal,)*) => {
        /// Every kind of entry that this program writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AuditEvent { $($(#[$doc])* $event,)* }

        impl AuditEvent {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$event,)*];

            /// The stable name, as in [`AuditEntry::event`].
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$event => $name,)* }
            }
        }
    };
}

audit_events! {
    /// The journal began.
    Initialised = "initialised",
    /// A join token exists.
    TokenCreated = "token_created",
    /// A join token ended before its time.
    TokenRevoked = "token_revoked",
    /// A node exists.
    NodeEnrolled = "node_enrolled",
    /// A person signed in for a machine that now waits for an administrator.
    NodePending = "node_pending",
    /// A machine waits no longer, and is no node.
    PendingEnded = "pending_ended",
    /// An administrator made a node of a machine that waited.
    NodeApproved = "node_approved",
    /// A person signed in for a machine, which is a node.
    PersonEnrolled = "person_enrolled",
    /// A workload showed its platform's token and is a node.
    WorkloadEnrolled = "workload_enrolled",
    /// What a person's node is follows again from what the provider says.
    NodeSignedIn = "node_signed_in",
    /// A provider still vouches for a person.
    PersonRefreshed = "person_refreshed",
    /// A provider no longer vouches for a person.
    PersonDenied = "person_denied",
    /// What a person's node is cannot be certified any more: session and certificate end.
    NodeSessionEnded = "node_session_ended",
    /// A person signed in as an administrator.
    AdministratorSignedIn = "administrator_signed_in",
    /// A node holds a new certificate.
    NodeRenewed = "node_renewed",
    /// A node's labels changed.
    NodeRelabelled = "node_relabelled",
    /// A node is refused for good.
    NodeRevoked = "node_revoked",
    /// A revoked node's record is gone.
    NodeRemoved = "node_removed",
    /// A policy is in force.
    PolicyApplied = "policy_applied",
    /// Somebody confirmed the policy in force.
    PolicyConfirmed = "policy_confirmed",
    /// Operators changed whom everybody trusts.
    TrustUpdated = "trust_updated",
    /// The revocation list was signed again.
    RevocationsSigned = "revocations_signed",
    /// Nodes leave other offloads off than before.
    OffloadsSwitched = "offloads_switched",
    /// An administrator spent the bootstrap secret for an API key.
    SessionOpened = "session_opened",
    /// Whoever holds an API key ended it.
    SessionClosed = "session_closed",
    /// An API key exists.
    KeyCreated = "key_created",
    /// An administrator ended an API key.
    KeyRevoked = "key_revoked",
    /// An API key was used, for the first time or again after an hour.
    KeyUsed = "key_used",
    /// A request was refused.
    Refused = "refused",
    /// So many more requests were refused than were written down.
    RefusalsCounted = "refusals_counted",
    /// The journal before this entry came from a backup.
    Restored = "restored",
    /// An administrator takes the restored state as true.
    RestoreAccepted = "restore_accepted",
}

impl AuditEvent {
    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_no_two_share_one() {
        for event in AuditEvent::ALL {
            assert_eq!(AuditEvent::named(event.as_str()), Some(*event));
        }
        assert_eq!(AuditEvent::named("unknown"), None);
    }

    #[test]
    fn an_entry_of_an_older_coordinator_has_no_source() {
        let text = r#"{"sequence":1,"time":7,"actor":"system","event":"restored","detail":{},"hash":""}"#;
        assert_eq!(serde_json::from_str::<AuditEntry>(text).map(|entry| entry.source).ok(), Some(None));
    }
}
