//! Everything that can go wrong on the way, each as a page with its status: what is wrong, and what to do next.
//! Nothing in it says more to a stranger than he knows already.

use crate::clock::NoRandomness;
use crate::web::pages::{self, Outside};
use crate::web::seam::SsoFault;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bulkhead_coordinator_engine::{Class, Refusal};
use maud::html;

/// Why there is no other page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Too many wrong codes, or too much of something else.
    TooMany(Refusal),
    /// No sign-in belongs to this browser, or not any more.
    Over,
    /// The form, or the provider's answer, is none that this browser was given.
    NotYours,
    /// The request is not what our pages send.
    Malformed,
    /// There is no such page.
    NotFound,
    /// The rules do not let this person.
    Denied(Refusal),
    /// The provider does not vouch for the person; in its words, or in ours.
    NotVouched(Option<String>),
    /// Something that is needed does not answer.
    Unavailable(&'static str),
}

const AGAIN: &str = "Start again at your device or terminal.";

/// After which a network that guessed may try again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal.class {
            Class::TooMany => Self::TooMany(refusal),
            Class::NotFound => Self::Over,
            Class::BadRequest
            | Class::Unauthorized
            | Class::Forbidden
            | Class::Conflict
            | Class::Unprocessable => Self::Denied(refusal),
            Class::Internal | Class::Unavailable => {
                tracing::warn!(reason = %refusal, "a sign-in could not go on");
                Self::Unavailable("The coordinator")
            }
        }
    }
}

impl From<SsoFault> for Trouble {
    fn from(fault: SsoFault) -> Self {
        match fault {
            SsoFault::Unknown => Self::NotFound,
            SsoFault::Refused(said) => Self::NotVouched(Some(said)),
            SsoFault::Unreachable(_) => Self::Unavailable("The provider"),
            SsoFault::Invalid(_) => Self::NotVouched(None),
        }
    }
}

impl From<NoRandomness> for Trouble {
    fn from(why: NoRandomness) -> Self {
        tracing::error!(reason = %why, "a sign-in could not go on");
        Self::Unavailable("The coordinator")
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = match &self {
            Self::TooMany(refusal) => respond(StatusCode::TOO_MANY_REQUESTS, pages::ask_code(Some(refusal))),
            Self::Over => respond(
                StatusCode::GONE,
                pages::trouble(
                    "This sign-in is over",
                    &html! { "It ended, or it was begun in another browser." },
                    AGAIN,
                ),
            ),
            Self::NotYours => respond(
                StatusCode::FORBIDDEN,
                pages::trouble(
                    "This does not belong together",
                    &html! { "What your browser sent belongs to another sign-in, or to none. Nothing was done." },
                    "If you opened two sign-ins at once, go on with the newer one. Otherwise start again at your device \
                     or terminal.",
                ),
            ),
            Self::Malformed => respond(
                StatusCode::BAD_REQUEST,
                pages::trouble(
                    "Not understood",
                    &html! { "Your browser sent what no page here asks for." },
                    AGAIN,
                ),
            ),
            Self::NotFound => respond(
                StatusCode::NOT_FOUND,
                pages::trouble("Nothing here", &html! { "There is no such page." }, AGAIN),
            ),
            Self::Denied(refusal) => respond(
                StatusCode::FORBIDDEN,
                pages::trouble(
                    "Not permitted",
                    &pages::refusal(refusal),
                    "Nothing was done. Ask your administrator if you think that you should be allowed.",
                ),
            ),
            Self::NotVouched(said) => respond(
                StatusCode::FORBIDDEN,
                pages::trouble(
                    "Your provider did not sign you in",
                    &html! {
                        @match said {
                            Some(said) => { "It says: " (Outside(said)) }
                            None => { "Its answer does not pass our checks. The coordinator's log says why." }
                        }
                    },
                    AGAIN,
                ),
            ),
            Self::Unavailable(who) => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                pages::trouble(
                    "Not now",
                    &html! { (who) " does not answer at the moment." },
                    "Try again in a minute.",
                ),
            ),
        };
        if matches!(self, Self::TooMany(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// A page with a status.
pub(super) fn respond(status: StatusCode, page: maud::Markup) -> Response {
    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, HTML)], page.into_string()).into_response()
}
