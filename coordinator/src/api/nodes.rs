//! Nodes: list, show, label, switch offloads, revoke, remove.

use super::body::read;
use super::{Api, Caller, Problem, answer, done};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;
use bulkhead_identity::NodeName;

pub(super) fn node(name: &str) -> Result<NodeName, Problem> {
    NodeName::parse(name).map_err(|e| Problem::malformed(e.to_string()))
}

pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::NodeList).await?, Nodes)
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::NodeShow(node(&name)?)).await?, Node)
}

pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    done(&api.call(caller, AdminCall::NodeRemove(node(&name)?)).await?)
}

pub(super) async fn label(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = node(&name)?;
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
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = node(&name)?;
    let switch = read(request).await?;
    answer!(api.call(caller, AdminCall::OffloadsSwitch(Some(name), switch)).await?, Offloads)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let name = node(&name)?;
    let revoke = read(request).await?;
    answer!(api.call(caller, AdminCall::NodeRevoke(name, revoke)).await?, Revocation)
}

pub(super) async fn revocation(
    State(api): State<Api>,
    caller: Caller,
    Path(epoch): Path<String>,
) -> Result<Response, Problem> {
    let epoch = epoch.parse().map_err(|_| Problem::malformed("an epoch is a number"))?;
    answer!(api.call(caller, AdminCall::RevokeStatus(epoch)).await?, Revocation)
}
