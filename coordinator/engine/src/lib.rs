//! The coordinator's mind: registry, enrolment, issuing, maps, policy and revocation.
//!
//! Pure and deterministic: a [`Command`] and a [`Now`](bulkhead_identity::Now) go in, [`Effect`]s come out.
//! What must outlive the process is an [`Event`]; it always comes before the replies and messages that
//! rest on it, so whoever writes events to disk before performing the rest never promises what it forgot.
//!
//! Life of a process: decode or make a [`State`], [`State::replay`] the journal's later events into it,
//! [`Coordinator::new`], then [`Coordinator::handle`] for as long as it lives.

mod admins;
mod allocate;
mod apply;
mod asks;
mod audit;
mod challenge;
mod command;
mod confirm;
mod conversation;
mod coordinator;
mod effect;
mod enforce;
mod enrol;
mod entropy;
mod event;
mod flows;
mod follow;
mod keys;
mod label;
mod links;
mod lockout;
mod maps;
mod newcomer;
mod offloads;
mod pending;
mod person;
mod policy;
mod proposal;
mod reach;
mod receipts;
mod refusal;
mod refused;
mod registry;
mod reissue;
mod renew;
mod restore;
mod revoke;
mod rules;
mod seal;
mod sessions;
mod sign;
mod signin;
mod slices;
mod state;
mod tally;
mod timing;
mod tokens;
mod trust;
mod waiting;
mod workload;

pub use admins::AdminRole;
pub use audit::AuditView;
pub use command::{AdminCall, Command, ConnectionId, Credential, Purpose, RefreshOutcome, RequestId, Road};
pub use confirm::Confirmation;
pub use coordinator::{Config, Coordinator, StartError};
pub use effect::{CloseReason, Effect, Reply};
pub use entropy::Entropy;
pub use event::{Actor, Change, Event};
pub use keys::{API_KEY_LIFETIME, ApiKey, KEY_USE_GRAIN, MAX_API_KEY_LIFETIME, MAX_API_KEYS};
pub use pending::PendingRecord;
pub use person::{
    Claims, MAX_CLAIM_BYTES, MAX_CLAIM_VALUES, MAX_GROUPS, MAX_ISSUER_BYTES, MAX_OTHER_CLAIMS,
    MAX_PERSON_NAME_BYTES, MAX_SUBJECT_BYTES, Owner, Person,
};
pub use policy::PolicyRecord;
pub use proposal::Proposal;
pub use refusal::{Class, Refusal};
pub use refused::{MAX_ADMINISTRATOR_REFUSALS, MAX_PERSON_REFUSALS, MAX_STRANGER_REFUSALS, REFUSAL_WINDOW};
pub use registry::{Certified, NodeRecord, NodeState};
pub use revoke::{Audience, RevocationStep};
pub use rules::{
    AdminGrant, AdminRule, EnrolRule, Grant, MAX_RULES, PERSON_CERTIFICATE_LIFETIME, PERSON_SESSION, Rules,
    Who,
};
pub use signin::{Preview, SignInOutcome, SignInPurpose, SignInView};
pub use state::{ReplayError, State};
pub use tokens::TokenRecord;
pub use trust::TrustRecord;
pub use waiting::{Network, Waiting};

#[cfg(test)]
mod tests;
