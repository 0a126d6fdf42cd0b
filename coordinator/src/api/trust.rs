//! Trust: the document in force, its successors, and the seals that operators make.

use super::body::{MAX_BODY_BYTES, read, read_large};
use super::path::Segment;
use super::{Api, Caller, Problem, answer};
use axum::extract::{Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;
use bulkhead_identity::NodeName;
use bulkhead_identity::trust::MAX_TRUST_BYTES;

/// Largest body that carries a trust document: its base64, and what is around it.
const MAX_TRUST_BODY_BYTES: usize = MAX_BODY_BYTES + MAX_TRUST_BYTES * 4 / 3;

pub(super) async fn show(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::TrustShow).await?, Trust)
}

pub(super) async fn apply(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let apply = read_large(&api, request, MAX_TRUST_BODY_BYTES).await?;
    answer!(api.call(caller, AdminCall::TrustApply(apply)).await?, Trust)
}

pub(super) async fn seal(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
    request: Request,
) -> Result<Response, Problem> {
    let seal = read(request).await?;
    answer!(api.call(caller, AdminCall::NodeSeal(name, seal)).await?, Node)
}
