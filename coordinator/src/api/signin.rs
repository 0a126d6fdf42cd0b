//! Signing in at a provider, as the machine sees it: it asks for a code to show and polls until a person has confirmed
//! it on a page, or refused (RFC 8628). The pages are elsewhere.

use super::body::read;
use super::enrol::{certificate_request, refused, source};
use super::{Api, Caller, Problem, answer};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::{Command, Purpose, Road};
use bulkhead_protocol::signin::{DEVICE_CODE_BYTES, EnrolSignIn, LoginSignIn, Poll};
use zeroize::Zeroizing;

/// For a machine that is to be a node.
pub(super) async fn enrol(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let EnrolSignIn { enrolment, request, name, provider } = read(request).await?;
    let certificate_request = certificate_request(&request)?;
    let purpose = Purpose::Enrol { enrolment, certificate_request, name };
    match provider {
        None => begin(&api, &caller, purpose).await,
        Some(provider) => {
            Ok(Json(api.device_flows.begin(&provider, purpose, source(&caller)).await?).into_response())
        }
    }
}

/// For an administrator.
pub(super) async fn login(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let LoginSignIn {} = read(request).await?;
    begin(&api, &caller, Purpose::Login).await
}

async fn begin(api: &Api, caller: &Caller, purpose: Purpose) -> Result<Response, Problem> {
    let source = source(caller);
    let road = Road::Page;
    let ask = |request, entropy| Command::SignInBegin { request, source, purpose, road, entropy };
    answer!(refused(api.engine.ask(ask).await?)?, SignInBegun)
}

/// How far it is. What was refused is an answer, not an error.
pub(super) async fn poll(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let device_code = Zeroizing::new(read::<Poll>(request).await?.device_code);
    if device_code.len() != DEVICE_CODE_BYTES {
        return Err(Problem::malformed(format!("a device code has {DEVICE_CODE_BYTES} bytes")));
    }
    let source = caller.source;
    let ask = |request, entropy| Command::SignInPoll { request, device_code, source, entropy };
    answer!(refused(api.engine.ask(ask).await?)?, SignInState)
}
