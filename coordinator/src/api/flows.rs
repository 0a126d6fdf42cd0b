//! Live flows, asked of every connected node.

use super::{Api, Caller, Problem, answer};
use axum::extract::State;
use axum::response::Response;
use bulkhead_coordinator_engine::AdminCall;

pub(super) async fn live(State(api): State<Api>, caller: Caller) -> Result<Response, Problem> {
    answer!(api.call(caller, AdminCall::Flows).await?, Flows)
}
