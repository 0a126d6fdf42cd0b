//! Policy: check, apply, confirm, show, history, rollback, can, and who enforces it.
//!
//! A text is compiled here, a few at a time and on threads of their own: the largest and most hostile one that the
//! limits permit keeps other texts waiting, but not the engine. Few wait: whoever comes then is told to come again.

use super::body::{MAX_POLICY_BODY_BYTES, MAX_SIGNED_BODY_BYTES, read, read_large};
use super::path::Segment;
use super::{Api, Caller, MAX_POLICY_TEXTS, Problem, answer};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bulkhead_coordinator_engine::{AdminCall, Proposal};
use bulkhead_protocol::admin::PolicyText;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The text with what it compiles to, and its place among [`MAX_POLICY_TEXTS`], to be kept until the request is
/// answered. Whoever hangs up meanwhile frees neither before the compiler is done.
async fn compile(api: &Api, text: PolicyText) -> Result<(Box<Proposal>, OwnedSemaphorePermit), Problem> {
    let place = Arc::clone(&api.policy_texts).try_acquire_owned().map_err(|_| too_many())?;
    let turn = Arc::clone(&api.compilations).acquire_owned().await;
    let compiled = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Proposal::new(text, crate::clock::wall()).map(|proposal| (Box::new(proposal), place))
    });
    let failed = |_| {
        tracing::error!("the policy compiler panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "BH-R092", "the policy could not be compiled")
    };
    Ok(compiled.await.map_err(failed)??)
}

fn too_many() -> Problem {
    let message = format!("{MAX_POLICY_TEXTS} policy texts are being looked at already (MAX_POLICY_TEXTS)");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "BH-R095", message)
        .help("nothing was checked or applied; try again in a moment")
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
    let (proposal, _place) = compile(&api, text).await?;
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
    let (proposal, _place) = compile(&api, text).await?;
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
    Segment(generation): Segment<u64>,
) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::PolicyAck(generation)).await?, Acknowledged)
}
