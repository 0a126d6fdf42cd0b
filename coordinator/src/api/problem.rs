//! Every error of the API, as one JSON shape with the right status: what is wrong, and what to do next.

use super::Access;
use super::route::Route;
use crate::clock::NoRandomness;
use crate::engine::{AskError, Stopped};
use crate::journal::JournalError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::Refusal;
use bulkhead_protocol::enrol::ApiError;

/// What an error answer says, beside it for the audit log.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) code: String,
    pub(super) message: String,
}

/// An error answer.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    body: Box<ApiError>,
}

impl Problem {
    /// An error with a stable code and a sentence.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = ApiError { code: code.to_owned(), message: message.into(), help: None, diagnostics: None };
        Self { status, body: Box::new(body) }
    }

    /// What to do next.
    #[must_use]
    pub fn help(mut self, help: &str) -> Self {
        self.body.help = Some(help.to_owned());
        self
    }

    /// No such path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BH-R080", "there is nothing at this path")
    }

    /// The path exists, but not with this method.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "BH-R081", "this path does not take that method")
    }

    /// The body, the path or the query cannot be understood.
    #[must_use]
    pub fn malformed(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BH-R082", what)
    }

    /// The request took too long.
    #[must_use]
    pub fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "BH-R084", "the request took too long")
    }
}

/// Every status of an error answer of this route: what it says itself, and what follows from who may call it and
/// from what it reads.
pub(super) fn statuses(route: &Route) -> impl Iterator<Item = u16> {
    let guarded = match route.access {
        Access::Public => &[][..],
        Access::Viewer | Access::Operator | Access::Admin | Access::LocalRoot => &[401, 403],
    };
    let reads = match route.body {
        Some(_) => &[400, 408, 413, 415][..],
        None => &[],
    };
    let is_written = route.placeholders().next().is_some() || !route.query.is_empty();
    let path = if is_written { &[400][..] } else { &[] };
    // Our own failure; and a stop, a full disk, a restore that nobody has accepted.
    let always = &[500, 503];
    [guarded, reads, path, always, route.refusals].into_iter().flatten().copied()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let told = Told { code: self.body.code.clone(), message: self.body.message.clone() };
        let mut response = (self.status, axum::Json(*self.body)).into_response();
        response.extensions_mut().insert(told);
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1: a 401 says how to come back.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status =
            StatusCode::from_u16(refusal.class.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: Box::new(refusal.api_error()) }
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "BH-R092", stopped.to_string())
            .help("look whether it was done before trying again")
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "BH-R093", error.to_string())
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Stopped(stopped) => stopped.into(),
            AskError::NoRandomness(error) => error.into(),
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        tracing::error!(reason = %error, "the journal could not be read");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "BH-R094", error.to_string())
            .help("run `bulkhead-coordinator journal verify` on the coordinator's host")
    }
}
