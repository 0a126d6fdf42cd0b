//! Enrolment, for strangers: the trust document, a challenge, and the proofs.

use super::body::read;
use super::path::Segment;
use super::{Api, Caller, Problem, answer};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::{Command, Reply};
use bulkhead_identity::{CertificateRequest, TrustHash};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::enrol::{BeginRequest, FinishRequest, TrustPath};
use bulkhead_protocol::signin::{MAX_WORKLOAD_TOKEN_BYTES, WorkloadEnrolment};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The trust document with this hash, and those that followed; whoever fetches them believes none that is not signed
/// by the operators of the one before.
pub(super) async fn trust(
    State(api): State<Api>,
    Segment(hash): Segment<TrustHash>,
) -> Result<Response, Problem> {
    let documents = Arc::clone(&api.link_trust.load().documents);
    let known = documents.iter().map(|(hash, document)| (*hash, document.as_slice()));
    let path = TrustPath::from(known, hash).ok_or_else(|| {
        let what = "there is no trust document with this hash here";
        Problem::new(StatusCode::NOT_FOUND, "BH-R088", what)
            .help("the token is for another deployment, or was made from one: ask for a new token")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/cbor")], path.encode()).into_response())
}

/// A challenge.
pub(super) async fn begin(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let body: BeginRequest = read(request).await?;
    if body.protocol != PROTOCOL_VERSION {
        let what = format!("protocol {} is not spoken here, only {PROTOCOL_VERSION}", body.protocol);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "BH-R087", what)
            .help("install the same release on node and coordinator"));
    }
    let source = source(&caller);
    let reply = api.engine.ask(|request, entropy| Command::EnrolBegin { request, source, entropy }).await?;
    answer!(refused(reply)?, EnrolBegun)
}

/// The proofs, and the token's secret.
pub(super) async fn finish(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let body: FinishRequest = read(request).await?;
    let secret = Zeroizing::new(body.secret);
    let certificate_request = certificate_request(&body.request)?;
    let (enrolment, name) = (body.enrolment, body.name);
    let reply = api
        .engine
        .ask(|request, entropy| Command::EnrolFinish {
            request,
            enrolment,
            certificate_request,
            secret,
            name,
            source: caller.source,
            entropy,
        })
        .await?;
    answer!(refused(reply)?, Enrolled)
}

/// The proofs, and the token that a workload's platform gave it.
pub(super) async fn workload(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let WorkloadEnrolment { enrolment, request, token, name } = read(request).await?;
    let token = Zeroizing::new(token);
    if token.len() > MAX_WORKLOAD_TOKEN_BYTES {
        let what = format!("a token has at most {MAX_WORKLOAD_TOKEN_BYTES} bytes (MAX_WORKLOAD_TOKEN_BYTES)");
        return Err(Problem::malformed(what));
    }
    let certificate_request = certificate_request(&request)?;
    let claims = Box::new(api.providers.workload(&token).await?);
    let source = source(&caller);
    let reply = api
        .engine
        .ask(|request, entropy| Command::EnrolWorkload {
            request,
            enrolment,
            certificate_request,
            claims,
            name,
            source,
            entropy,
        })
        .await?;
    answer!(refused(reply)?, Enrolled)
}

/// The address that asks; over the unix socket this host's own.
pub(super) fn source(caller: &Caller) -> IpAddr {
    caller.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

pub(super) fn certificate_request(bytes: &[u8]) -> Result<Box<CertificateRequest>, Problem> {
    let request = minicbor::decode(bytes);
    request.map(Box::new).map_err(|_| Problem::malformed("`request` is not a certificate request"))
}

pub(super) fn refused(reply: Reply) -> Result<Reply, Problem> {
    if let Reply::Refused(refusal) = reply { Err(refusal.into()) } else { Ok(reply) }
}
