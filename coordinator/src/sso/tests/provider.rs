//! A provider on loopback, over real TLS. It is honest, and checks PKCE as it should, until a test has it be
//! otherwise.

use super::keys::Key;
use crate::https;
use crate::sso::oidc::Callback;
use crate::sso::{ProviderConfig, Providers};
use crate::stop::{Stopper, stop};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::digest::{SHA256, digest};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;

pub(super) const CLIENT: &str = "bulkhead";
pub(super) const AUDIENCE: &str = "bulkhead-workloads";
pub(super) const REDIRECT: &str = "https://bulkhead.acme.example:8444/callback";
pub(super) const SECRET: &str = "client secret: % and +";

/// Makes an ID token of honest claims.
type Mint = Box<dyn Fn(&Key, Value) -> String + Send>;
/// Answers a request in place of the honest provider.
type Reply = Box<dyn Fn(&str, &Fields) -> Option<Response> + Send>;
pub(super) type Fields = BTreeMap<String, String>;

pub(super) struct Provider {
    pub(super) issuer: String,
    behaviour: Arc<Mutex<Behaviour>>,
    folder: tempfile::TempDir,
    _stop: Stopper,
}

/// What the provider is and does; tests change it.
pub(super) struct Behaviour {
    pub(super) description: Value,
    pub(super) keys: Vec<Value>,
    pub(super) mint: Mint,
    pub(super) reply: Reply,
    /// What the person is, besides what every token has.
    pub(super) person: Value,
    /// Refresh tokens that are good.
    pub(super) refresh: Vec<String>,
    /// Whether there is an ID token in its answers.
    pub(super) with_id_token: bool,
    /// How the client has to show itself.
    pub(super) client: &'static str,
    /// How often each path was asked.
    pub(super) asked: BTreeMap<String, usize>,
    key: Key,
    issuer: String,
    codes: BTreeMap<String, Fields>,
}

pub(super) fn now() -> i64 {
    i64::try_from(crate::clock::wall().0).unwrap()
}

pub(super) fn fields(query: &str) -> Fields {
    let uri: Uri = format!("http://x/?{query}").parse().unwrap();
    Query::<Fields>::try_from_uri(&uri).unwrap().0
}

impl Provider {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pem = BASE64.encode(certified.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key.into())
                .unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour::honest(&issuer)));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&behaviour));
        let (stopper, stop) = stop();
        tokio::spawn(https::serve(listener, Arc::new(tls), router, stop));
        Self { issuer, behaviour, folder, _stop: stopper }
    }

    pub(super) fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    pub(super) fn config(&self, name: &str) -> ProviderConfig {
        ProviderConfig {
            name: name.to_owned(),
            issuer: self.issuer.clone(),
            client_id: Some(CLIENT.to_owned()),
            client_secret_file: Some(self.folder.path().join("secret")),
            audience: Some(AUDIENCE.to_owned()),
            scopes: vec!["groups".to_owned(), "offline_access".to_owned()],
            groups_claim: "groups".to_owned(),
            device_flow: true,
            ca: Some(self.folder.path().join("ca.pem")),
            private_addresses: true,
            refresh: Duration::from_secs(3600),
        }
    }

    pub(super) fn providers(&self) -> Providers {
        Providers::load(&[self.config("acme")]).unwrap()
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The person agrees on the provider's page; this is what the browser brings back.
    pub(super) fn agree(&self, url: &str) -> Callback {
        let (address, query) = url.split_once('?').unwrap();
        assert_eq!(address, format!("{}/authorize", self.issuer));
        let asked = fields(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["scope"], "openid profile groups offline_access");
        assert_eq!(asked["prompt"], "consent");
        let state = asked["state"].clone();
        let mut behaviour = self.behaviour();
        let code = format!("code-{}", behaviour.codes.len());
        behaviour.codes.insert(code.clone(), asked);
        Callback {
            state: Some(state),
            code: Some(code),
            iss: Some(self.issuer.clone()),
            ..Callback::default()
        }
    }

    /// How often `path` was asked.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.behaviour().asked.get(path).copied().unwrap_or_default()
    }
}

impl Behaviour {
    fn honest(issuer: &str) -> Self {
        let key = Key::ec();
        Self {
            description: json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "device_authorization_endpoint": format!("{issuer}/device"),
                "jwks_uri": format!("{issuer}/keys"),
                "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"],
                "authorization_response_iss_parameter_supported": true,
            }),
            keys: vec![key.jwk("first")],
            mint: Box::new(|key, claims| key.token("first", &claims)),
            reply: Box::new(|_, _| None),
            person: json!({ "sub": "u-123", "name": "Ada", "groups": ["engineering"] }),
            refresh: Vec::new(),
            with_id_token: true,
            client: "basic",
            asked: BTreeMap::new(),
            key,
            issuer: issuer.to_owned(),
            codes: BTreeMap::new(),
        }
    }

    /// Claims of an honest token.
    pub(super) fn claims(&self, audience: &str, nonce: Option<&str>) -> Value {
        let mut claims = json!({ "iss": self.issuer, "aud": audience, "iat": now(), "exp": now() + 300 });
        for (name, value) in self.person.as_object().unwrap() {
            claims[name] = value.clone();
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        claims
    }

    /// A token of a workload, as the provider mints tokens now.
    pub(super) fn workload(&self) -> String {
        (self.mint)(&self.key, self.claims(AUDIENCE, None))
    }

    fn answer(&mut self, path: &str, form: &Fields) -> Response {
        *self.asked.entry(path.to_owned()).or_default() += 1;
        if let Some(reply) = (self.reply)(path, form) {
            return reply;
        }
        match path {
            "/.well-known/openid-configuration" => Json(&self.description).into_response(),
            "/keys" => Json(json!({ "keys": self.keys })).into_response(),
            "/device" => Json(json!({
                "device_code": "device", "user_code": "ABCD-EFGH", "verification_uri": format!("{}/link", self.issuer),
                "expires_in": 600, "interval": 1,
            }))
            .into_response(),
            "/token" => self.exchange(form).unwrap_or_else(refuse),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn exchange(&mut self, form: &Fields) -> Result<Response, &'static str> {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let nonce = match field("grant_type") {
            "authorization_code" => {
                // Removed: a code is good once.
                let asked = self.codes.remove(field("code")).ok_or("invalid_grant")?;
                let verifier = digest(&SHA256, field("code_verifier").as_bytes());
                let pkce = BASE64URL_NOPAD.encode(verifier.as_ref()) == asked["code_challenge"];
                if !pkce || field("redirect_uri") != asked["redirect_uri"] {
                    return Err("invalid_grant");
                }
                Some(asked["nonce"].clone())
            }
            "refresh_token" => {
                let good = self.refresh.iter().position(|token| token == field("refresh_token"));
                self.refresh.remove(good.ok_or("invalid_grant")?);
                None
            }
            "urn:ietf:params:oauth:grant-type:device_code" if field("device_code") == "device" => {
                if self.asked["/token"] == 1 {
                    return Err("authorization_pending");
                }
                None
            }
            _ => return Err("unsupported_grant_type"),
        };
        let refresh = format!("refresh-{}", self.asked["/token"]);
        self.refresh.push(refresh.clone());
        let token = (self.mint)(&self.key, self.claims(CLIENT, nonce.as_deref()));
        let mut answer = json!({
            "access_token": "access", "token_type": "Bearer", "expires_in": 60, "refresh_token": refresh,
        });
        if self.with_id_token {
            answer["id_token"] = token.into();
        }
        Ok(Json(answer).into_response())
    }
}

pub(super) fn refuse(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "error_description": "told\nso" })))
        .into_response()
}

async fn serve(
    State(shared): State<Arc<Mutex<Behaviour>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = fields(std::str::from_utf8(&body).unwrap());
    if uri.path() == "/token" && shown(&headers, &form) != shared.lock().unwrap().client {
        return refuse("invalid_client");
    }
    shared.lock().unwrap().answer(uri.path(), &form)
}

/// How a client showed itself.
fn shown(headers: &HeaderMap, form: &Fields) -> &'static str {
    // RFC 6749, section 2.3.1: both parts are encoded as in forms.
    let basic =
        format!("Basic {}", BASE64.encode(format!("{CLIENT}:client+secret%3A+%25+and+%2B").as_bytes()));
    let header = headers.get("authorization").map(|value| value.to_str().unwrap());
    let secret = form.get("client_secret").map(String::as_str);
    match (header, secret) {
        (Some(header), None) if header == basic => "basic",
        (None, Some(SECRET)) => "post",
        (None, None) if form.get("client_id").is_some_and(|id| id == CLIENT) => "public",
        (Some(_) | None, Some(_) | None) => "stranger",
    }
}
