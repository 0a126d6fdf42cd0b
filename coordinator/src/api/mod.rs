//! The HTTP API: enrolment for strangers, administration for those with a credential.
//!
//! Every route stands in one table with the access that it needs, and that access is checked before the
//! handler runs and before a body is read: a route that is not in the table does not exist, and one that does
//! not say `Public` needs a credential (S1). The engine checks again for what it does itself.

mod audit;
mod body;
mod enrol;
mod flows;
mod nodes;
mod policy;
mod problem;
mod session;
mod tokens;
mod trust;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use audit::entry as audit_entry;
pub use problem::Problem;

use crate::engine::Engine;
use crate::journal::Reader;
use crate::tls::SharedLinkTrust;
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use bulkhead_coordinator_engine::{AdminCall, Credential, Reply};
use data_encoding::BASE64URL_NOPAD;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Large bodies that are read at once, over all connections; others wait their turn.
pub const MAX_LARGE_BODIES: usize = 4;
/// Policy texts that are compiled at once, over all connections; others wait their turn.
pub const MAX_COMPILATIONS: usize = 2;
/// Policy texts that were read and are not answered yet, over all connections: those that are compiled, those that
/// wait for it, and those that wait for the engine. More are refused, because each may take as much memory as its body.
pub const MAX_POLICY_TEXTS: usize = 8;
/// Longest `authorization` header that is looked at.
const MAX_AUTHORIZATION_BYTES: usize = 1024;

/// By which road a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS, from this address.
    Network(SocketAddr),
    /// The unix socket, whose peer is root.
    LocalRoot {
        /// Its user id.
        uid: u32,
    },
}

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Decides.
    pub engine: Engine,
    /// Reads the audit log.
    pub journal: Reader,
    /// Its trust documents are for strangers who know the hash of one.
    pub link_trust: SharedLinkTrust,
    large_bodies: Arc<Semaphore>,
    compilations: Arc<Semaphore>,
    policy_texts: Arc<Semaphore>,
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: strangers may call it.
    Public,
    /// The credential of an administrator.
    Admin,
}

/// One line of the table of routes.
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path, with axum's placeholders.
    pub path: &'static str,
    /// What it needs.
    pub access: Access,
    handler: MethodRouter<Api>,
}

/// Every route there is.
#[must_use]
pub fn routes() -> Vec<Route> {
    use Access::{Admin, Public};
    let route = |method: Method, path, access, handler| Route { method, path, access, handler };
    vec![
        route(Method::GET, "/api/v1/health", Public, get(health)),
        route(Method::GET, "/enrol/v1/trust/{hash}", Public, get(enrol::trust)),
        route(Method::POST, "/enrol/v1/begin", Public, post(enrol::begin)),
        route(Method::POST, "/enrol/v1/finish", Public, post(enrol::finish)),
        route(Method::POST, "/api/v1/session", Public, post(session::login)),
        route(Method::DELETE, "/api/v1/session", Admin, delete(session::logout)),
        route(Method::GET, "/api/v1/whoami", Admin, get(session::whoami)),
        route(Method::POST, "/api/v1/restore/accept", Admin, post(session::accept_restore)),
        route(Method::GET, "/api/v1/nodes", Admin, get(nodes::list)),
        route(Method::GET, "/api/v1/nodes/{name}", Admin, get(nodes::show)),
        route(Method::DELETE, "/api/v1/nodes/{name}", Admin, delete(nodes::remove)),
        route(Method::PUT, "/api/v1/nodes/{name}/labels", Admin, put(nodes::label)),
        route(Method::PUT, "/api/v1/nodes/{name}/seal", Admin, put(trust::seal)),
        route(Method::POST, "/api/v1/nodes/{name}/revoke", Admin, post(nodes::revoke)),
        route(Method::PUT, "/api/v1/nodes/{name}/offloads", Admin, put(nodes::switch_offloads_of)),
        route(Method::GET, "/api/v1/offloads", Admin, get(nodes::offloads)),
        route(Method::PUT, "/api/v1/offloads", Admin, put(nodes::switch_offloads)),
        route(Method::GET, "/api/v1/revocations/{epoch}", Admin, get(nodes::revocation)),
        route(Method::GET, "/api/v1/tokens", Admin, get(tokens::list)),
        route(Method::POST, "/api/v1/tokens", Admin, post(tokens::create)),
        route(Method::DELETE, "/api/v1/tokens/{id}", Admin, delete(tokens::revoke)),
        route(Method::GET, "/api/v1/policy", Admin, get(policy::show)),
        route(Method::POST, "/api/v1/policy", Admin, post(policy::apply)),
        route(Method::POST, "/api/v1/policy/check", Admin, post(policy::check)),
        route(Method::POST, "/api/v1/policy/confirm", Admin, post(policy::confirm)),
        route(Method::GET, "/api/v1/policy/history", Admin, get(policy::history)),
        route(Method::POST, "/api/v1/policy/rollback", Admin, post(policy::rollback)),
        route(Method::POST, "/api/v1/policy/can", Admin, post(policy::can)),
        route(Method::GET, "/api/v1/policy/ack/{generation}", Admin, get(policy::acknowledged)),
        route(Method::GET, "/api/v1/flows", Admin, get(flows::live)),
        route(Method::GET, "/api/v1/trust", Admin, get(trust::show)),
        route(Method::POST, "/api/v1/trust", Admin, post(trust::apply)),
        route(Method::GET, "/api/v1/audit", Admin, get(audit::page)),
        route(Method::GET, "/api/v1/audit/verify", Admin, get(audit::verify)),
    ]
}

impl Api {
    /// An API over a running engine.
    #[must_use]
    pub fn new(engine: Engine, journal: Reader, link_trust: SharedLinkTrust) -> Self {
        let large_bodies = Arc::new(Semaphore::new(MAX_LARGE_BODIES));
        let compilations = Arc::new(Semaphore::new(MAX_COMPILATIONS));
        let policy_texts = Arc::new(Semaphore::new(MAX_POLICY_TEXTS));
        Self { engine, journal, link_trust, large_bodies, compilations, policy_texts }
    }

    /// The router that serves the table.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in routes() {
            let handler = match route.access {
                Access::Public => route.handler,
                Access::Admin => route.handler.route_layer(from_fn_with_state(self.clone(), admins_only)),
            };
            router = router.route(route.path, handler);
        }
        router
            .fallback(async || Problem::not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(axum::middleware::map_response(uncached))
            // Limits are enforced where bodies are read, per kind of route.
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(self.clone())
    }

    async fn call(&self, caller: Caller, call: AdminCall) -> Result<Reply, Problem> {
        let reply = self.engine.admin(caller.credential, caller.source, call).await?;
        if let Reply::Refused(refusal) = reply { Err(refusal.into()) } else { Ok(reply) }
    }
}

/// Refuses whoever is no administrator, before anything else of the request is looked at.
async fn admins_only(State(api): State<Api>, caller: Caller, request: Request, next: Next) -> Response {
    match api.engine.authorize(caller.credential).await {
        Ok(Ok(_)) => next.run(request).await,
        Ok(Err(refusal)) => Problem::from(refusal).into_response(),
        Err(stopped) => Problem::from(stopped).into_response(),
    }
}

async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether this coordinator answers: asks the engine, so that a stuck one does not look healthy.
async fn health(State(api): State<Api>) -> Result<Response, Problem> {
    // The answer is a refusal, and that is the point: it came from the engine.
    let _ = api.engine.authorize(Credential::Anonymous).await?;
    Ok(axum::Json(serde_json::json!({ "schema": "bulkhead.health/1", "status": "ok" })).into_response())
}

/// With what right a request comes, and from where.
struct Caller {
    credential: Credential,
    /// None over the unix socket.
    source: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(match parts.extensions.get::<Transport>() {
            Some(Transport::LocalRoot { uid }) => {
                Self { credential: Credential::LocalRoot { uid: *uid }, source: None }
            }
            Some(Transport::Network(from)) => Self { credential: bearer(parts), source: Some(from.ip()) },
            None => Self { credential: bearer(parts), source: None },
        })
    }
}

/// The key of `authorization: Bearer`; whatever does not look like one is no credential.
fn bearer(parts: &Parts) -> Credential {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Credential::Anonymous };
    let key = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= MAX_AUTHORIZATION_BYTES)
        .and_then(|text| text.strip_prefix("Bearer "))
        .and_then(|key| BASE64URL_NOPAD.decode(key.as_bytes()).ok());
    key.map_or(Credential::Anonymous, |key| Credential::ApiKey(Zeroizing::new(key)))
}

/// A reply that does not belong to the question: a bug of ours, told as one.
fn unexpected() -> Problem {
    tracing::error!("the engine answered another question than was asked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "BH-R091", "the coordinator gave itself a wrong answer")
}

/// Takes the one variant of [`Reply`] that answers, as JSON.
macro_rules! answer {
    ($reply:expr, $variant:ident) => {
        match $reply {
            bulkhead_coordinator_engine::Reply::$variant(value) => {
                Ok(axum::response::IntoResponse::into_response(axum::Json(value)))
            }
            #[allow(clippy::wildcard_enum_match_arm)] // Any other answer is the same bug.
            _ => Err($crate::api::unexpected()),
        }
    };
}
pub(crate) use answer;

/// Takes a reply that says nothing but that it is done.
fn done(reply: &Reply) -> Result<Response, Problem> {
    match matches!(reply, Reply::Done) {
        true => Ok(axum::Json(serde_json::json!({})).into_response()),
        false => Err(unexpected()),
    }
}
