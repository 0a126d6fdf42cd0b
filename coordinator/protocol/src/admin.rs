//! The admin API's JSON bodies: HTTPS or the root-only unix socket, under `/api/v1`. Shared by the coordinator
//! and `bulkheadctl`. Requests refuse unknown fields; what shows a secret does so once and has no `Debug`.

mod audit;
mod nodes;
mod policy;
mod session;
mod tokens;

pub use audit::{AuditEntry, AuditPage, AuditVerified};
pub use nodes::{Node, NodeList, NodeState, ReceiptView, Revoke, RevokeStatus, SetLabels, Waiting};
pub use policy::{
    AckStatus, Applied, Can, CanAnswer, CheckReport, PolicyCurrent, PolicyEntry, PolicyHistory, PolicyText,
    Rollback,
};
pub use session::{Login, Session, WhoAmI};
pub use tokens::{CreateToken, CreatedToken, TokenList, TokenView};
