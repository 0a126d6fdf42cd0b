//! What one line of the table of routes says: method, path, who may call it, and what goes in and comes out. A line
//! without the access that it needs does not compile (S1); the OpenAPI document is made from the same lines.

use super::Api;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};
use bulkhead_coordinator_engine::AdminRole;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing: strangers may call it.
    Public,
    /// The credential of an administrator, of whatever role.
    Viewer,
    /// One of an operator or an admin.
    Operator,
    /// One of an admin.
    Admin,
    /// The unix socket, whose peer is the host's root.
    LocalRoot,
}

impl Access {
    /// As shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Viewer => AdminRole::Viewer.as_str(),
            Self::Operator => AdminRole::Operator.as_str(),
            Self::Admin => AdminRole::Admin.as_str(),
            Self::LocalRoot => "local root",
        }
    }

    /// The least role of a key that is let through; no key is enough for local root.
    #[must_use]
    pub const fn role(self) -> Option<AdminRole> {
        match self {
            Self::Public => None,
            Self::Viewer => Some(AdminRole::Viewer),
            Self::Operator => Some(AdminRole::Operator),
            Self::Admin | Self::LocalRoot => Some(AdminRole::Admin),
        }
    }
}

/// Makes the schema of one type, and of those that it names.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// What an answer is made of.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// `{}`: it is done.
    Done,
    /// JSON of this type.
    Json(Describe),
    /// Any JSON object.
    Object,
    /// CBOR.
    Cbor,
}

/// A number in the query, which may be left out.
#[derive(Clone, Copy)]
pub(super) struct QueryNumber {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
}

/// One line of the table of routes.
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path, with axum's placeholders.
    pub path: &'static str,
    /// What it needs.
    pub access: Access,
    /// What it does, in a few words.
    pub summary: &'static str,
    pub(super) handler: MethodRouter<Api>,
    pub(super) body: Option<Describe>,
    pub(super) answer: Answer,
    pub(super) query: &'static [QueryNumber],
    /// Statuses of refusals beside those that follow from access, path and body.
    pub(super) refusals: &'static [u16],
}

impl Route {
    fn new(
        (method, path): (Method, &'static str),
        access: Access,
        summary: &'static str,
        handler: MethodRouter<Api>,
    ) -> Self {
        Self {
            method,
            path,
            access,
            summary,
            handler,
            body: None,
            answer: Answer::Done,
            query: &[],
            refusals: &[],
        }
    }

    /// Takes JSON of this type.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(|generator| generator.subschema_for::<T>()), ..self }
    }

    /// Answers with JSON of this type.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        self.answers(Answer::Json(|generator| generator.subschema_for::<T>()))
    }

    pub(super) fn answers(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    pub(super) fn query(self, query: &'static [QueryNumber]) -> Self {
        Self { query, ..self }
    }

    pub(super) fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    /// Names of the placeholders in its path.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Whether it changes something, by HTTP's own distinction (RFC 9110, section 9.2.1).
    pub(super) fn is_safe(&self) -> bool {
        self.method.is_safe()
    }
}

macro_rules! methods {
    ($($function:ident => $method:ident;)*) => { $(
        /// A route of this method.
        pub(super) fn $function<T: 'static>(
            path: &'static str,
            access: Access,
            handler: impl Handler<T, Api>,
            summary: &'static str,
        ) -> Route {
            Route::new((Method::$method, path), access, summary, routing::$function(handler))
        }
    )* };
}

methods! {
    get => GET;
    post => POST;
    put => PUT;
    delete => DELETE;
}
