//! Policy: check, apply, show, history, rollback, can, and who enforces it.

use super::body::{read, read_policy};
use super::{Api, Caller, Problem, answer};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;

pub(super) async fn show(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::PolicyShow).await?, Policy)
}

pub(super) async fn apply(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let text = read_policy(&api, request).await?;
    answer!(api.call(caller, AdminCall::PolicyApply(text)).await?, Applied)
}

pub(super) async fn check(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let text = read_policy(&api, request).await?;
    answer!(api.call(caller, AdminCall::PolicyCheck(text)).await?, Checked)
}

pub(super) async fn history(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::PolicyHistory).await?, History)
}

pub(super) async fn rollback(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let rollback = read(request).await?;
    answer!(api.call(caller, AdminCall::PolicyRollback(rollback)).await?, Applied)
}

pub(super) async fn can(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let can = read(request).await?;
    answer!(api.call(caller, AdminCall::PolicyCan(can)).await?, Can)
}

pub(super) async fn acknowledged(
    State(api): State<Api>,
    caller: Caller,
    Path(generation): Path<String>,
) -> Result<Response, Problem> {
    let generation = generation.parse().map_err(|_| Problem::malformed("a generation is a number"))?;
    answer!(api.call(caller, AdminCall::PolicyAck(generation)).await?, Acknowledged)
}
