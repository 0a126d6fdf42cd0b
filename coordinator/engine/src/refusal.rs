//! Refusals of requests. A refusal says what is wrong and what to do next, and changes nothing. What a
//! stranger is told about a token is one sentence for every cause.

use bulkhead_acl::Diagnostic;
use bulkhead_protocol::admin::AdminRole;
use bulkhead_protocol::enrol::ApiError;

/// What kind of refusal; each is one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request makes no sense: 400.
    BadRequest,
    /// No valid credential: 401.
    Unauthorized,
    /// A valid credential without this right: 403.
    Forbidden,
    /// There is no such thing: 404.
    NotFound,
    /// It contradicts what is: 409.
    Conflict,
    /// The text is well-formed and wrong: 422.
    Unprocessable,
    /// Too much at once: 429.
    TooMany,
    /// Our own failure: 500.
    Internal,
    /// Not now: 503.
    Unavailable,
}

impl Class {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unprocessable => 422,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Refusal {
    /// Its HTTP status.
    pub class: Class,
    /// Stable, for example `BH-C102`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// What is wrong with a policy text, when that is what was refused.
    pub diagnostics: Vec<Diagnostic>,
}

impl Refusal {
    pub(crate) fn new(class: Class, code: &'static str, message: impl Into<String>) -> Self {
        Self { class, code, message: message.into(), help: None, diagnostics: Vec::new() }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// The body of the HTTP answer.
    #[must_use]
    pub fn api_error(&self) -> ApiError {
        ApiError {
            code: self.code.to_owned(),
            message: self.message.clone(),
            help: self.help.clone(),
            diagnostics: (!self.diagnostics.is_empty()).then(|| self.diagnostics.clone()),
        }
    }

    /// The credential is missing or wrong; the same words for every cause (D2).
    pub(crate) fn unauthorized() -> Self {
        Self::new(Class::Unauthorized, "BH-C001", "this needs a valid credential")
            .help("log in with `bulkheadctl login`, or use the unix socket on the coordinator's host")
    }

    /// A valid credential whose role is not enough.
    pub(crate) fn role(needed: AdminRole) -> Self {
        Self::new(Class::Forbidden, "BH-C004", format!("this needs the role {needed}"))
    }

    /// Restored from a backup and not accepted yet, or behind the nodes.
    pub(crate) fn read_only(why: &str) -> Self {
        Self::new(Class::Unavailable, "BH-C002", format!("the coordinator is read-only: {why}"))
            .help("check that nothing revoked since the backup is active, then accept the restore as root on the coordinator's host: bulkhead-coordinator accept-restore")
    }

    pub(crate) fn no_such(what: &str, which: &str) -> Self {
        Self::new(Class::NotFound, "BH-C003", format!("there is no {what} {which:?}"))
    }
}
