//! Nodes: list, show, approve, reject, label, switch offloads, revoke, remove.

use super::body::read;
use super::path::Segment;
use super::{Api, Caller, Problem, answer, done};
use axum::extract::{Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;
use bulkhead_identity::NodeName;

pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::NodeList).await?, Nodes)
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::NodeShow(name)).await?, Node)
}

pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
) -> Result<Response, Problem> {
    done(&api.call(caller, AdminCall::NodeRemove(name)).await?)
}

pub(super) async fn pending(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::PendingList).await?, Pending)
}

pub(super) async fn approve(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::NodeApprove(name)).await?, Node)
}

pub(super) async fn reject(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
    request: Request,
) -> Result<Response, Problem> {
    let reject = read(request).await?;
    done(&api.call(caller, AdminCall::NodeReject(name, reject)).await?)
}

pub(super) async fn label(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
    request: Request,
) -> Result<Response, Problem> {
    let labels = read(request).await?;
    answer!(api.call(caller, AdminCall::NodeLabel(name, labels)).await?, Node)
}

pub(super) async fn offloads(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::OffloadsShow).await?, Offloads)
}

pub(super) async fn switch_offloads(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let switch = read(request).await?;
    answer!(api.call(caller, AdminCall::OffloadsSwitch(None, switch)).await?, Offloads)
}

pub(super) async fn switch_offloads_of(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
    request: Request,
) -> Result<Response, Problem> {
    let switch = read(request).await?;
    answer!(api.call(caller, AdminCall::OffloadsSwitch(Some(name), switch)).await?, Offloads)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Segment(name): Segment<NodeName>,
    request: Request,
) -> Result<Response, Problem> {
    let revoke = read(request).await?;
    answer!(api.call(caller, AdminCall::NodeRevoke(name, revoke)).await?, Revocation)
}

pub(super) async fn revocation(
    State(api): State<Api>,
    caller: Caller,
    Segment(epoch): Segment<u64>,
) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::RevokeStatus(epoch)).await?, Revocation)
}
