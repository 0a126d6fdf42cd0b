//! The HTTP API: enrolment for strangers, administration for those with a credential.
//!
//! Every route stands in one table with the access that it needs, and that access is checked before the
//! handler runs and before a body is read: a route that is not in the table does not exist, one that does not say
//! what it needs does not compile, and one that does not say `Public` needs a credential (S1). The engine checks
//! again for what it does itself.

mod access;
mod audit;
mod body;
mod enrol;
mod flows;
mod keys;
mod nodes;
mod openapi;
mod path;
mod policy;
mod problem;
mod route;
mod routes;
mod session;
mod signin;
mod tokens;
mod trust;

#[cfg(test)]
mod tests;

pub use access::Transport;
#[cfg(test)]
pub(crate) use audit::entry as audit_entry;
pub use problem::Problem;
pub use route::{Access, Route};
pub use routes::routes;

use crate::device_flow::DeviceFlows;
use crate::engine::Engine;
use crate::journal::Reader;
use crate::sso::Providers;
use crate::tls::SharedLinkTrust;
use access::{Caller, Gate};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::{AdminCall, AdminRole, Credential, Reply};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Large bodies that are read at once, over all connections; others wait their turn.
pub const MAX_LARGE_BODIES: usize = 4;
/// Policy texts that are compiled at once, over all connections; others wait their turn.
pub const MAX_COMPILATIONS: usize = 2;
/// Policy texts that were read and are not answered yet, over all connections: those that are compiled, those that
/// wait for it, and those that wait for the engine. More are refused, because each may take as much memory as its body.
pub const MAX_POLICY_TEXTS: usize = 8;
/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Decides.
    pub engine: Engine,
    /// Reads the audit log.
    pub journal: Reader,
    /// Its trust documents are for strangers who know the hash of one.
    pub link_trust: SharedLinkTrust,
    /// Vouch for workloads.
    pub providers: Arc<Providers>,
    pub(crate) device_flows: DeviceFlows,
    large_bodies: Arc<Semaphore>,
    compilations: Arc<Semaphore>,
    policy_texts: Arc<Semaphore>,
}

impl Api {
    /// An API over a running engine.
    #[must_use]
    pub(crate) fn new(
        engine: Engine,
        journal: Reader,
        link_trust: SharedLinkTrust,
        providers: Arc<Providers>,
        device_flows: DeviceFlows,
    ) -> Self {
        let large_bodies = Arc::new(Semaphore::new(MAX_LARGE_BODIES));
        let compilations = Arc::new(Semaphore::new(MAX_COMPILATIONS));
        let policy_texts = Arc::new(Semaphore::new(MAX_POLICY_TEXTS));
        Self {
            engine,
            journal,
            link_trust,
            providers,
            device_flows,
            large_bodies,
            compilations,
            policy_texts,
        }
    }

    /// The router that serves the table.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in routes() {
            let gate = from_fn_with_state(Gate::new(self, &route), access::gate);
            router = router.route(route.path, route.handler.route_layer(gate));
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

async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether this coordinator answers: asks the engine, so that a stuck one does not look healthy.
async fn health(State(api): State<Api>) -> Result<Response, Problem> {
    // That there is an answer is the point: it came from the engine.
    api.engine.authorize(Credential::Anonymous, None, AdminRole::Viewer).await?;
    Ok(axum::Json(serde_json::json!({ "schema": "bulkhead.health/1", "status": "ok" })).into_response())
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
