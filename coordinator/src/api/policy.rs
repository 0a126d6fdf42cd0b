//! Policy: check, apply, confirm, show, history, rollback, can, and who enforces it.
//!
//! A text is compiled here, a few at a time and on threads of their own: the largest and most hostile one that the
//! limits permit keeps other texts waiting, but not the engine.

use super::body::{MAX_POLICY_BODY_BYTES, MAX_SIGNED_BODY_BYTES, read, read_large};
use super::{Api, Caller, Problem, answer};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bulkhead_coordinator_engine::{AdminCall, Proposal};
use bulkhead_protocol::admin::PolicyText;
use std::sync::Arc;

/// The text with what it compiles to. Whoever hangs up meanwhile does not free the place before it is done.
async fn compile(api: &Api, text: PolicyText) -> Result<Box<Proposal>, Problem> {
    let turn = Arc::clone(&api.compilations).acquire_owned().await;
    let compiled = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Proposal::new(text, crate::clock::wall()).map(Box::new)
    });
    let failed = |_| {
        tracing::error!("the policy compiler panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "BH-R092", "the policy could not be compiled")
    };
    Ok(compiled.await.map_err(failed)??)
}

pub(super) async fn show(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::PolicyShow).await?, Policy)
}

pub(super) async fn apply(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let text = read_large(&api, request, MAX_SIGNED_BODY_BYTES).await?;
    let proposal = compile(&api, text).await?;
    answer!(api.call(caller, AdminCall::PolicyApply(proposal)).await?, Applied)
}

pub(super) async fn confirm(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let confirm = read_large(&api, request, MAX_POLICY_BODY_BYTES).await?;
    answer!(api.call(caller, AdminCall::PolicyConfirm(confirm)).await?, Applied)
}

pub(super) async fn check(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let text = read_large(&api, request, MAX_POLICY_BODY_BYTES).await?;
    let proposal = compile(&api, text).await?;
    answer!(api.call(caller, AdminCall::PolicyCheck(proposal)).await?, Checked)
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
