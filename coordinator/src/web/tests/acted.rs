//! The browser, and those it meets: an engine that knows one code, and a provider that vouches for Ada.

use crate::api::Transport;
use crate::web::Web;
use crate::web::seam::*;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bulkhead_coordinator_engine::{
    AdminRole, Claims, Class, Preview, Refusal, SignInOutcome, SignInPurpose, SignInView,
};
use bulkhead_identity::{IdentityKey, LabelKey, LabelValue, Labels, NodeName, Timestamp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

pub(super) const CODE: &str = "WDJB-MJHT";
pub(super) const STATE: &str = "canary-state";
/// Are found in no page.
pub(super) const SECRETS: [&str; 3] = ["canary-code", "canary-refresh", "canary-claim"];

/// What everybody says.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) asked: SignInView,
    pub(super) preview: Result<Preview, Refusal>,
    pub(super) outcome: SignInOutcome,
    pub(super) url: String,
    pub(super) finish: Result<String, SsoFault>,
}

pub(super) fn refusal(class: Class, message: &str) -> Refusal {
    let help = Some("do something else".to_owned());
    Refusal { class, code: "BH-C000", message: message.to_owned(), help, diagnostics: Vec::new() }
}

pub(super) fn laptop() -> NodeName {
    NodeName::parse("ada-laptop").unwrap()
}

fn labels() -> Labels {
    let label = |key, value| (LabelKey::parse(key).unwrap(), LabelValue::parse(value).unwrap());
    Labels::new([label("team", "eng"), label("site", "muc")]).unwrap()
}

/// Ada adds her laptop.
pub(super) fn script() -> Script {
    let hour = Duration::from_secs(3600);
    let key = IdentityKey::from_seed(Zeroizing::new([7; 32]));
    Script {
        asked: SignInView {
            purpose: SignInPurpose::Enrol,
            user_code: CODE.to_owned(),
            device: Some(laptop()),
            fingerprint: Some(key.public().fingerprint()),
            source: "192.0.2.7".parse().unwrap(),
            match_code: "42 17".to_owned(),
            expires: Timestamp(1_799_990_000),
        },
        preview: Ok(Preview::Enrol {
            name: laptop(),
            labels: labels(),
            lifetime: 8 * hour,
            session: 12 * hour,
            approval: false,
            again: false,
        }),
        outcome: SignInOutcome::Enrolled { name: laptop(), labels: labels() },
        url: format!("https://login.acme.example/authorize?client_id=b&state={STATE}"),
        finish: Ok("Ada".to_owned()),
    }
}

/// The same for a terminal.
pub(super) fn login() -> Script {
    let (user, role) = ("acme/u-1 (Ada)".to_owned(), AdminRole::Operator);
    let session = Duration::from_secs(90 * 60);
    let asked =
        SignInView { purpose: SignInPurpose::Login, device: None, fingerprint: None, ..script().asked };
    Script {
        asked,
        preview: Ok(Preview::Login { user: user.clone(), role, session }),
        outcome: SignInOutcome::LoggedIn { user, role },
        ..script()
    }
}

/// What was done.
#[derive(Clone, Default)]
pub(super) struct Deeds(Arc<Mutex<Vec<String>>>);

impl Deeds {
    fn note(&self, deed: impl Into<String>) {
        self.0.lock().unwrap().push(deed.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Until something that begins like this was done.
    pub(super) async fn done(&self, what: &str) {
        let waiting = async {
            while !self.all().iter().any(|deed| deed.starts_with(what)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }
}

struct Engine(Script, Deeds);

impl Engine {
    fn known(&self, code: &str) -> Result<(), Refusal> {
        match code.to_uppercase().as_str() {
            CODE => Ok(()),
            "TOO-MANY" => Err(refusal(Class::TooMany, "too many wrong codes")),
            _ => Err(refusal(Class::NotFound, "this code is not known here")),
        }
    }
}

impl SignIns for Engine {
    fn look<'a>(&'a self, code: &'a str, _: IpAddr) -> Answer<'a, Result<SignInView, Refusal>> {
        Box::pin(async { self.known(code).map(|()| self.0.asked.clone()) })
    }

    fn preview<'a>(
        &'a self,
        code: &'a str,
        _: &'a Claims,
        _: IpAddr,
    ) -> Answer<'a, Result<Preview, Refusal>> {
        Box::pin(async { self.known(code).and_then(|()| self.0.preview.clone()) })
    }

    fn confirm<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<SignInOutcome, Refusal>> {
        self.1.note(format!("confirmed by {} from {source}", claims.subject));
        Box::pin(async {
            // The journal is synced before there is an answer.
            tokio::task::yield_now().await;
            self.known(code).map(|()| self.0.outcome.clone())
        })
    }

    fn refuse<'a>(&'a self, code: &'a str, _: &'a Claims, _: IpAddr) -> Answer<'a, Result<(), Refusal>> {
        self.1.note(format!("refused {code}"));
        Box::pin(async { Ok(()) })
    }
}

struct Provider(Script, Deeds);

impl RelyingParty for Provider {
    fn providers(&self) -> Vec<String> {
        vec!["acme".to_owned(), "partner".to_owned()]
    }

    fn authorize<'a>(
        &'a self,
        provider: &'a str,
        redirect_uri: &'a str,
    ) -> Answer<'a, Result<Box<dyn Attempt>, SsoFault>> {
        self.1.note(format!("to {provider}, back to {redirect_uri}"));
        Box::pin(async move {
            match provider {
                "acme" => Ok(Box::new(Begun(self.0.clone())) as Box<dyn Attempt>),
                _ => Err(SsoFault::Unknown),
            }
        })
    }

    fn keep<'a>(&'a self, person: &'a SignedIn) -> Answer<'a, ()> {
        self.1.note(format!("kept {}", person.claims.subject));
        Box::pin(async {})
    }
}

struct Begun(Script);

impl Attempt for Begun {
    fn provider(&self) -> &str {
        "acme"
    }

    fn url(&self) -> &str {
        &self.0.url
    }

    fn state(&self) -> &str {
        STATE
    }

    fn finish(self: Box<Self>, callback: Callback) -> Answer<'static, Result<SignedIn, SsoFault>> {
        Box::pin(async move {
            if let Some(error) = callback.error_description {
                return Err(SsoFault::Refused(error));
            }
            assert_eq!(callback.code.unwrap().as_str(), "canary-code");
            self.0.finish.map(person)
        })
    }
}

fn person(name: String) -> SignedIn {
    let claims = Claims {
        provider: "acme".to_owned(),
        issuer: "https://login.acme.example".to_owned(),
        subject: "u-1".to_owned(),
        name,
        groups: ["engineering".to_owned(), "secret-group".to_owned()].into(),
        other: [("email".to_owned(), vec!["canary-claim@acme.example".to_owned()])].into(),
    };
    SignedIn { claims, refresh: Some("canary-refresh".to_owned().into()) }
}

/// What came back.
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) html: String,
}

impl Seen {
    /// The page without its style, a line for each element.
    pub(super) fn text(&self) -> String {
        let (head, rest) = self.html.split_once("<style>").unwrap();
        let (_, body) = rest.split_once("</style>").unwrap();
        format!("{} {head}{body}", self.status.as_u16()).replace("><", ">\n<")
    }

    /// The token in the page's form.
    pub(super) fn form(&self) -> String {
        let (_, rest) = self.html.split_once("name=\"form\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A browser with its one cookie, at an address.
pub(super) struct Browser {
    router: Router,
    pub(super) address: IpAddr,
    pub(super) cookie: Option<String>,
}

/// Pages with everybody behind them, and what they did.
pub(super) fn pages(script: Script) -> (Router, Deeds) {
    let deeds = Deeds::default();
    let engine = Arc::new(Engine(script.clone(), deeds.clone()));
    let provider = Arc::new(Provider(script, deeds.clone()));
    (Web::new("https://bulkhead.acme.example:8444", engine, provider).router(), deeds)
}

impl Browser {
    pub(super) fn new(router: &Router) -> Self {
        let address = Ipv4Addr::new(198, 51, 100, 9).into();
        Self { router: router.clone(), address, cookie: None }
    }

    pub(super) async fn send(&mut self, mut request: Request<Body>) -> Seen {
        let from = SocketAddr::new(self.address, 40_000);
        request.extensions_mut().insert(Transport::Network(from));
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            self.cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(SECRETS.iter().all(|secret| !html.contains(secret)), "{html}");
        Seen { status, headers, html }
    }

    pub(super) async fn get(&mut self, path: &str) -> Seen {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&mut self, path: &str, form: &str) -> Seen {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(form.to_owned()))
            .unwrap();
        self.send(request).await
    }

    /// To the provider.
    pub(super) async fn leave(&mut self) -> Seen {
        let choice = self.get(&format!("/device?code={CODE}")).await;
        self.post("/signin/acme", &format!("form={}", choice.form())).await
    }

    /// Back from it.
    pub(super) async fn arrive(&mut self) -> Seen {
        self.get(&format!("/callback/acme?state={STATE}&code=canary-code&iss=https://login.acme.example&x=y"))
            .await
    }

    /// As far as the question.
    pub(super) async fn sign_in(&mut self) -> Seen {
        self.leave().await;
        let back = self.arrive().await;
        assert_eq!(back.header(header::LOCATION), "/confirm", "{}", back.html);
        self.get("/confirm").await
    }
}
