//! The gate in front of every route. Who may not call it is refused before anything else of the request is looked at
//! (S1); and whatever is refused, here or behind, is written to the audit log with who tried it and from where,
//! before he is told.

use super::problem::Told;
use super::route::Route;
use super::{Access, Api, Problem};
use crate::engine::Stopped;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::{Actor, Command, Credential};
use bulkhead_protocol::token::{Token, TokenKind};
use data_encoding::BASE64URL_NOPAD;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest `authorization` header that is looked at: an API key with the addresses of as many coordinators as a
/// token may name.
const MAX_AUTHORIZATION_BYTES: usize = bulkhead_protocol::token::MAX_TOKEN_BYTES;

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

/// What the gate of one route knows.
#[derive(Clone)]
pub(super) struct Gate {
    api: Api,
    access: Access,
    /// Method and path pattern: what is written into the audit log, so never what somebody put into a path (S3).
    what: Arc<str>,
    /// Whether looking is all that the route permits.
    safe: bool,
}

impl Gate {
    pub(super) fn new(api: &Api, route: &Route) -> Self {
        let what = format!("{} {}", route.method, route.path).into();
        Self { api: api.clone(), access: route.access, what, safe: route.is_safe() }
    }

    /// Who calls, and whether he may.
    async fn judge(&self, credential: Credential, source: Option<IpAddr>) -> Result<Judged, Stopped> {
        let root = match credential {
            Credential::LocalRoot { uid } => Some(Actor::Root { uid }),
            Credential::ApiKey(_) | Credential::Anonymous => None,
        };
        let Some(role) = self.access.role() else {
            // Whoever he is, he acts as anybody may; enrolments do not wait for the engine twice.
            return Ok(Judged { actor: root.unwrap_or(Actor::Stranger), refusal: None });
        };
        let (actor, refusal) = self.api.engine.authorize(credential, source, role).await?;
        let refusal = match refusal {
            None if self.access == Access::LocalRoot && root.is_none() => Some(not_root()),
            None => None,
            Some(refusal) => Some(refusal.into()),
        };
        Ok(Judged { actor, refusal })
    }

    /// Looking for what is not there is nobody's business; asking for what one may not have is.
    fn records(&self, status: StatusCode) -> bool {
        let no_right = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        no_right || !self.safe
    }
}

struct Judged {
    actor: Actor,
    refusal: Option<Problem>,
}

fn not_root() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "BH-C160", "only root on the coordinator's host may do this")
        .help("call it over the unix socket there")
}

/// Lets through who may pass, and has refusals written down.
pub(super) async fn gate(State(gate): State<Gate>, caller: Caller, request: Request, next: Next) -> Response {
    let Caller { credential, source } = caller;
    let (actor, response) = match gate.judge(credential, source).await {
        Ok(Judged { actor, refusal: None }) => (actor, next.run(request).await),
        Ok(Judged { actor, refusal: Some(refusal) }) => (actor, refusal.into_response()),
        Err(stopped) => return Problem::from(stopped).into_response(),
    };
    if let Some(Told { code, message }) = response.extensions().get::<Told>().cloned()
        && gate.records(response.status())
    {
        let what = gate.what.to_string();
        let recorded = gate.api.engine.ask(|request, _| Command::Refused {
            request,
            actor,
            source,
            what,
            code,
            why: message,
        });
        // It is refused whether or not that could be written down; the engine logs when the disk is full.
        let _ = recorded.await;
    }
    response
}

/// With what right a request comes, and from where.
pub(super) struct Caller {
    pub(super) credential: Credential,
    /// None over the unix socket.
    pub(super) source: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(match parts.extensions.get::<Transport>() {
            Some(Transport::LocalRoot { uid }) => {
                Self { credential: Credential::LocalRoot { uid: *uid }, source: None }
            }
            Some(Transport::Network(from)) => {
                Self { credential: bearer(parts), source: Some(from.ip().to_canonical()) }
            }
            None => Self { credential: bearer(parts), source: None },
        })
    }
}

/// The key of `authorization: Bearer`, as its bare secret or as the whole text of an API key; whatever looks like
/// neither is no credential.
fn bearer(parts: &Parts) -> Credential {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Credential::Anonymous };
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= MAX_AUTHORIZATION_BYTES)
        .and_then(|text| text.strip_prefix("Bearer "));
    let key = text.and_then(|text| match Token::parse(text) {
        Ok(token) => (token.kind == TokenKind::ApiKey).then(|| Zeroizing::new(token.secret.to_vec())),
        Err(_) => BASE64URL_NOPAD.decode(text.as_bytes()).ok().map(Zeroizing::new),
    });
    key.map_or(Credential::Anonymous, Credential::ApiKey)
}
