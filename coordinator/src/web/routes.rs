//! The pages' routes, in the order in which a browser comes by them.

use crate::api::Transport;
use crate::rarely::Rarely;
use crate::web::browsers::{Browsers, Ended};
use crate::web::cookie::Cookie;
use crate::web::limits::{MAX_CALLBACK_BYTES, MAX_FORM_BYTES};
use crate::web::seam::{Callback, RelyingParty, SignIns, SsoFault};
use crate::web::trouble::{Trouble, respond};
use crate::web::{headers, pages};
use axum::Router;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Form, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use bulkhead_coordinator_engine::Class;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use zeroize::Zeroizing;

/// Names of the forms, for their tokens.
const SIGN_IN: &str = "signin";
const CONFIRM: &str = "confirm";

/// The pages; cheap to clone.
#[derive(Clone)]
pub struct Web(Arc<Inner>);

struct Inner {
    /// The provider's name goes to its end.
    redirect_uri: String,
    sign_ins: Arc<dyn SignIns>,
    relying_party: Arc<dyn RelyingParty>,
    browsers: Mutex<Browsers>,
    warned: Rarely,
}

type Shown = Result<Response, Trouble>;

impl Web {
    /// Pages under `url`, which is `https://host[:port]` as browsers reach it.
    #[must_use]
    pub fn new(url: &str, sign_ins: Arc<dyn SignIns>, relying_party: Arc<dyn RelyingParty>) -> Self {
        Self(Arc::new(Inner {
            redirect_uri: format!("{url}/callback/"),
            sign_ins,
            relying_party,
            browsers: Mutex::default(),
            warned: Rarely::new(),
        }))
    }

    /// The router that serves them.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(async || Redirect::to("/device")))
            .route("/device", get(device))
            .route("/signin/{provider}", post(sign_in))
            .route("/callback/{provider}", get(callback))
            .route("/confirm", get(ask).post(confirm))
            .route("/done", get(ended))
            .route("/refused", get(ended))
            .route("/healthz", get(async || "ok\n"))
            .fallback(async || Trouble::NotFound)
            .method_not_allowed_fallback(async || {
                (StatusCode::METHOD_NOT_ALLOWED, Trouble::Malformed).into_response()
            })
            .layer(axum::middleware::map_response(headers::protect))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .with_state(self.clone())
    }

    fn browsers(&self) -> MutexGuard<'_, Browsers> {
        self.0.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what an administrator may have to act on; people see less.
    fn reported(&self, provider: &str, fault: SsoFault) -> Trouble {
        let reason = pages::shown(&fault.to_string());
        match fault {
            // Only a provider that is configured comes this far.
            SsoFault::Unreachable(_) | SsoFault::Invalid(_)
                if self.0.warned.may_tell(provider, Instant::now()) =>
            {
                tracing::warn!(provider = %pages::shown(provider), %reason, "a sign-in at a provider failed");
            }
            SsoFault::Unreachable(_) | SsoFault::Invalid(_) | SsoFault::Unknown | SsoFault::Refused(_) => {
                tracing::debug!(provider = %pages::shown(provider), %reason, "a sign-in at a provider ended");
            }
        }
        fault.into()
    }
}

/// The address that a request came from.
struct Source(IpAddr);

impl<S: Sync> FromRequestParts<S> for Source {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        match parts.extensions.get::<Transport>() {
            Some(Transport::Network(from)) => Ok(Self(from.ip().to_canonical())),
            Some(Transport::LocalRoot { .. }) | None => Err(Trouble::Malformed),
        }
    }
}

/// The cookie of a browser that has one.
struct Known(Cookie);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        Cookie::of(&parts.headers).map(Self).ok_or(Trouble::Over)
    }
}

#[derive(Deserialize)]
struct TypedCode {
    code: Option<String>,
}

/// Asks for the code, or takes it from the link, and offers the providers.
async fn device(
    State(web): State<Web>,
    Source(source): Source,
    headers: HeaderMap,
    typed: Result<Query<TypedCode>, QueryRejection>,
) -> Shown {
    let Ok(Query(typed)) = typed else { return Err(Trouble::Malformed) };
    let Some(typed) = typed.code else { return Ok(respond(StatusCode::OK, pages::ask_code(None))) };
    let sign_in = match web.0.sign_ins.look(&typed, source).await {
        Ok(sign_in) => sign_in,
        Err(refusal) if refusal.class == Class::NotFound => {
            let page = pages::ask_code(Some(&refusal));
            return Ok(respond(StatusCode::NOT_FOUND, page));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let cookie = Cookie::new()?;
    let former = Cookie::of(&headers).map(|former| former.key());
    let code = sign_in.user_code;
    let page = pages::choose_provider(&code, &web.0.relying_party.providers(), &cookie.form(SIGN_IN));
    web.browsers().open(cookie.key(), former.as_deref(), code, source, Instant::now());
    Ok(with_cookie(respond(StatusCode::OK, page), &cookie))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInForm {
    form: String,
}

/// Sends the browser to its provider.
async fn sign_in(
    State(web): State<Web>,
    Known(cookie): Known,
    Path(provider): Path<String>,
    headers: HeaderMap,
    form: Result<Form<SignInForm>, FormRejection>,
) -> Shown {
    let Ok(Form(SignInForm { form })) = form else { return Err(Trouble::Malformed) };
    given(&cookie, &headers, SIGN_IN, &form)?;
    web.browsers().code(&cookie.key(), Instant::now()).ok_or(Trouble::Over)?;
    let redirect_uri = format!("{}{provider}", web.0.redirect_uri);
    let attempt = web.0.relying_party.authorize(&provider, &redirect_uri).await;
    let attempt = attempt.map_err(|fault| web.reported(&provider, fault))?;
    let url = attempt.url().to_owned();
    if !url.starts_with("https://") {
        let fault = SsoFault::Invalid("its authorization endpoint is not at an https address".to_owned());
        return Err(web.reported(&provider, fault));
    }
    let refresh = HeaderValue::from_str(&format!("0;url={url}")).map_err(|_| Trouble::NotVouched(None))?;
    if !web.browsers().depart(&cookie.key(), attempt, Instant::now()) {
        return Err(Trouble::Over);
    }
    let mut response = respond(StatusCode::OK, pages::leaving(&provider, &url));
    response.headers_mut().insert(header::REFRESH, refresh);
    Ok(response)
}

/// What a provider adds to the address; others than these are ignored (RFC 6749, section 4.1.2).
#[derive(Deserialize)]
struct CallbackQuery {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Takes the browser back. Each provider has an address of its own, so that one which says nothing of itself in its
/// answer (RFC 9207) is not taken for another (D4).
async fn callback(
    State(web): State<Web>,
    Known(cookie): Known,
    Path(provider): Path<String>,
    uri: Uri,
    query: Result<Query<CallbackQuery>, QueryRejection>,
) -> Shown {
    let Ok(Query(query)) = query else { return Err(Trouble::Malformed) };
    if uri.query().unwrap_or_default().len() > MAX_CALLBACK_BYTES {
        return Err(Trouble::Malformed);
    }
    let code = query.code.map(Zeroizing::new);
    let state = query.state.ok_or(Trouble::NotYours)?;
    let attempt = web.browsers().arrive(&cookie.key(), &state, Instant::now()).ok_or(Trouble::NotYours)?;
    let callback =
        Callback { code, issuer: query.iss, error: query.error, error_description: query.error_description };
    if provider != attempt.provider() {
        return Err(Trouble::NotYours);
    }
    let person = attempt.finish(callback).await.map_err(|fault| web.reported(&provider, fault))?;
    let fresh = Cookie::new()?;
    if !web.browsers().sign_in(&cookie.key(), fresh.key(), person, Instant::now()) {
        return Err(Trouble::Over);
    }
    Ok(with_cookie(Redirect::to("/confirm").into_response(), &fresh))
}

/// Shows what is asked.
async fn ask(State(web): State<Web>, Source(source): Source, Known(cookie): Known) -> Shown {
    let (code, person) = web.browsers().signed_in(&cookie.key(), Instant::now()).ok_or(Trouble::Over)?;
    let asked = web.0.sign_ins.look(&code, source).await?;
    let preview = web.0.sign_ins.preview(&code, &person.claims, source).await?;
    Ok(respond(StatusCode::OK, pages::confirm(&asked, &preview, &person.claims, &cookie.form(CONFIRM))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmForm {
    form: String,
    answer: Word,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Confirm,
    Refuse,
}

/// Takes the person's word.
async fn confirm(
    State(web): State<Web>,
    Source(source): Source,
    Known(cookie): Known,
    headers: HeaderMap,
    form: Result<Form<ConfirmForm>, FormRejection>,
) -> Shown {
    let Ok(Form(ConfirmForm { form, answer })) = form else { return Err(Trouble::Malformed) };
    given(&cookie, &headers, CONFIRM, &form)?;
    let (code, person) = web.browsers().decide(&cookie.key(), Instant::now()).ok_or(Trouble::Over)?;
    // A task of its own: a word that was given counts whole, also of a browser that hangs up now.
    let doing = tokio::spawn(async move {
        let (ended, page) = match answer {
            Word::Confirm => {
                let outcome = web.0.sign_ins.confirm(&code, &person.claims, source).await?;
                web.0.relying_party.keep(&person).await;
                (Ended::Done(outcome), "/done")
            }
            Word::Refuse => {
                web.0.sign_ins.refuse(&code, &person.claims, source).await?;
                (Ended::Refused, "/refused")
            }
        };
        web.browsers().end(&cookie.key(), ended, Instant::now());
        Ok(Redirect::to(page).into_response())
    });
    doing.await.unwrap_or(Err(Trouble::Unavailable("The coordinator")))
}

/// Says how it ended.
async fn ended(State(web): State<Web>, Known(cookie): Known) -> Shown {
    let ended = web.browsers().ended(&cookie.key(), Instant::now()).ok_or(Trouble::Over)?;
    let page = match ended {
        Ended::Done(outcome) => pages::done(&outcome),
        Ended::Refused => pages::refused(),
    };
    Ok(respond(StatusCode::OK, page))
}

/// Whether a form is one that we gave this browser, sent from a page of ours.
fn given(cookie: &Cookie, headers: &HeaderMap, name: &str, token: &str) -> Result<(), Trouble> {
    // Browsers that know this header cannot be made to send another (Fetch Metadata, section 2.3).
    let elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
    if elsewhere || !cookie.is_form(name, token) { Err(Trouble::NotYours) } else { Ok(()) }
}

fn with_cookie(mut response: Response, cookie: &Cookie) -> Response {
    response.headers_mut().insert(header::SET_COOKIE, cookie.header());
    response
}
