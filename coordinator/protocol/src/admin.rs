//! The admin API's JSON bodies: HTTPS or the root-only unix socket, under `/api/v1`. Shared by the coordinator
//! and `bulkheadctl`. Requests refuse unknown fields; what shows a secret does so once and has no `Debug`.

mod audit;
mod flows;
mod nodes;
mod pending;
mod policy;
mod session;
mod tokens;
mod trust;

pub use audit::{AuditEntry, AuditPage, AuditVerified};
pub use flows::{LiveFlow, LiveFlows};
pub use nodes::{
    Node, NodeList, NodeState, OffloadsOff, ReceiptView, Revoke, RevokeStatus, SetLabels, SwitchOffloads,
    Waiting,
};
pub use pending::{OwnerView, PendingList, PendingNode, PendingOwner, Reject};
pub use policy::{
    AckStatus, Applied, Can, CanAnswer, CheckReport, Confirm, Overrides, PendingConfirmation, PolicyCurrent,
    PolicyEntry, PolicyHistory, PolicyText, Rollback, SIGNED_POLICY_SCHEMA, SignedPolicy, Signing,
};
pub use session::{Login, Session, WhoAmI};
pub use tokens::{CreateToken, CreatedToken, TokenList, TokenView};
pub use trust::{EndingSeal, RootView, SetSeal, TrustApply, TrustOverrides, TrustView};
