//! Join tokens: list, create, revoke. A secret is shown once, in the answer that creates it.

use super::body::read;
use super::path::Segment;
use super::{Api, Caller, Problem, answer, done};
use axum::extract::{Request, State};
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;

pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::TokenList).await?, Tokens)
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let token = read(request).await?;
    answer!(api.call(caller, AdminCall::TokenCreate(token)).await?, TokenCreated)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Segment(id): Segment<String>,
) -> Result<Response, Problem> {
    done(&api.call(caller, AdminCall::TokenRevoke(id)).await?)
}
