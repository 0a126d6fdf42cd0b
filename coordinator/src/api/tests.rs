//! A deployment in a directory of its own; S1: what strangers may write into `authorization`; G5: bodies that are
//! refused. Roles, the record of refusals and the OpenAPI document have files of their own.
#![allow(clippy::unwrap_used)]

mod document;
mod record;
mod roles;

use super::*;
use crate::boot;
use crate::clock::Clock;
use crate::config::{DEFAULT_CERTIFICATE_LIFETIME, DEFAULT_LISTEN, DEFAULT_RENEWAL_GRACE, Settings};
use crate::driver::Driver;
use crate::journal::Options;
use crate::state_dir::StateDir;
use crate::tls::LinkTrust;
use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::Request;
use bulkhead_coordinator_engine::Event;
use bulkhead_identity::{Epoch, Trust, TrustDomain, TrustHash};
use bulkhead_protocol::enrol::{ApiError, TrustPath};
use bulkhead_protocol::offload::Offloads;
use data_encoding::BASE64URL_NOPAD;
use tower::ServiceExt;

struct Deployment {
    directory: tempfile::TempDir,
    router: Router,
    api: Api,
}

fn deployment() -> Deployment {
    deployment_after([])
}

/// One that these have happened to, in memory.
fn deployment_after(events: impl IntoIterator<Item = Event>) -> Deployment {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    let addresses = vec!["c.acme.example:8443".to_owned()];
    crate::init::init(&root, &TrustDomain::parse("acme.example").unwrap(), &addresses).unwrap();
    let state = StateDir::open(&root).unwrap();
    let options = Options { reserve_bytes: 4096, ..Options::default() };
    let mut recovered = boot::recover(&state, options).unwrap();
    for event in events {
        recovered.state.replay(&event).unwrap();
    }
    let settings = Settings {
        addresses,
        listen: DEFAULT_LISTEN,
        node: None,
        socket: root.join("admin.sock"),
        certificate_lifetime: DEFAULT_CERTIFICATE_LIFETIME,
        renewal_grace: DEFAULT_RENEWAL_GRACE,
        offloads_off: Offloads::NONE,
        people: crate::config::People::default(),
    };
    let clock = Clock::start();
    let coordinator = boot::coordinator(&state, recovered.state, &settings, &clock).unwrap();
    let trust = coordinator.trust().clone();
    let link_trust = LinkTrust {
        trust: trust.clone(),
        revocations: coordinator.link_revocations(),
        renewal_grace: DEFAULT_RENEWAL_GRACE,
        documents: crate::tls::documents(&coordinator),
    };
    let link_trust = Arc::new(ArcSwap::from_pointee(link_trust));
    let journal = recovered.journal.reader();
    let driver = Driver {
        coordinator,
        journal: recovered.journal,
        store: recovered.store,
        link_trust: Arc::clone(&link_trust),
        clock,
    };
    let (engine, _ended) = driver.spawn().unwrap();
    let desk = crate::people::Desk::open(&state, &crate::config::People::default()).unwrap();
    let flows = desk.device_flows(&engine);
    let api = Api::new(engine, journal, link_trust, desk.providers, flows);
    Deployment { directory, router: api.router(), api }
}

const STRANGER: Transport = Transport::Network(DEFAULT_LISTEN);
const ROOT: Transport = Transport::LocalRoot { uid: 0 };

impl Deployment {
    async fn send(
        &self,
        transport: Transport,
        request: axum::http::request::Builder,
        body: Body,
    ) -> (StatusCode, Vec<u8>) {
        let router = self.router.clone().layer(axum::middleware::map_response(async |response: Response| {
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            response
        }));
        self.send_to(&router, transport, request, body).await
    }

    async fn send_to(
        &self,
        router: &Router,
        transport: Transport,
        request: axum::http::request::Builder,
        body: Body,
    ) -> (StatusCode, Vec<u8>) {
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(transport);
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn post(&self, transport: Transport, path: &str, json: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
        self.send(transport, request, Body::from(json.to_owned())).await
    }
}

/// A path that fits a route's pattern.
fn concrete(path: &str) -> String {
    let path = path.replace("{name}", "web").replace("{id}", "abc").replace("{hash}", &"00".repeat(32));
    path.replace("{epoch}", "1").replace("{generation}", "1")
}

fn error(body: &[u8]) -> ApiError {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn s1_every_route_but_the_public_ones_refuses_strangers_before_reading_the_body() {
    let deployment = deployment();
    let strangers: [&[&str]; 6] = [
        &[],
        &["Bearer AAAA"],
        &["Bearer "],
        &["Basic cm9vdDo="],
        &["Bearer AAAA", "Bearer AAAA"],
        &["bearer \u{1f600}"],
    ];
    for route in routes().into_iter().filter(|r| r.access != Access::Public) {
        for headers in strangers {
            let mut request = Request::builder().method(route.method.clone()).uri(concrete(route.path));
            for value in headers {
                request = request.header("authorization", value.as_bytes());
            }
            // A body that would be refused too, if anyone looked at it.
            let (status, body) = deployment.send(STRANGER, request, Body::from("{")).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {} {headers:?}", route.method, route.path);
            assert!(!error(&body).message.is_empty());
        }
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_does_not_exist() {
    let deployment = deployment();
    for path in
        ["/", "/api/v1", "/api/v1/nodes/", "/api/v2/nodes", "//api/v1/nodes", "/api/v1/nodes/../tokens"]
    {
        let (status, body) = deployment.send(ROOT, Request::builder().uri(path), Body::empty()).await;
        assert!(status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST, "{path}: {status}");
        assert!(!error(&body).code.is_empty());
    }
    let request = Request::builder().method("PATCH").uri("/api/v1/nodes");
    assert_eq!(deployment.send(ROOT, request, Body::empty()).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn s2_unknown_fields_duplicate_keys_and_huge_numbers_are_refused() {
    let deployment = deployment();
    for bad in [
        r#"{"uses":1,"admin":true}"#,
        r#"{"uses":1,"uses":2}"#,
        r#"{"uses":99999999999999999999}"#,
        r#"{"uses":-1}"#,
        r#"{"labels":{"role":["a"]}}"#,
        "[]",
        "",
        "{",
    ] {
        let (status, body) = deployment.post(ROOT, "/api/v1/tokens", bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(!error(&body).message.is_empty());
    }
    let nested = format!("{{\"labels\":{}", "[".repeat(30_000));
    assert_eq!(deployment.post(ROOT, "/api/v1/tokens", &nested).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn g5_large_and_compressed_bodies_are_refused_to_strangers() {
    let deployment = deployment();
    let announced = Request::builder()
        .method("POST")
        .uri("/enrol/v1/begin")
        .header("content-type", "application/json")
        .header("content-length", "1073741824");
    assert_eq!(deployment.send(STRANGER, announced, Body::empty()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let long = " ".repeat(body::MAX_BODY_BYTES + 1);
    assert_eq!(deployment.post(STRANGER, "/enrol/v1/begin", &long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let bomb = Request::builder()
        .method("POST")
        .uri("/enrol/v1/begin")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip");
    assert_eq!(deployment.send(STRANGER, bomb, Body::from("x")).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let form = Request::builder().method("POST").uri("/enrol/v1/begin").header("content-type", "text/plain");
    assert_eq!(deployment.send(STRANGER, form, Body::from("{}")).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn the_audit_log_pages_and_verifies() {
    let deployment = deployment();
    assert_eq!(deployment.post(ROOT, "/api/v1/tokens", "{}").await.0, StatusCode::OK);
    let request = Request::builder().uri("/api/v1/audit?after=1&limit=10");
    let (status, body) = deployment.send(ROOT, request, Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    let page: bulkhead_protocol::admin::AuditPage = serde_json::from_slice(&body).unwrap();
    assert_eq!((page.last, page.entries[0].event.as_str()), (2, "token_created"));
    assert_eq!(page.entries[0].actor, "root:0");
    let (status, body) =
        deployment.send(ROOT, Request::builder().uri("/api/v1/audit/verify"), Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    let verified: bulkhead_protocol::admin::AuditVerified = serde_json::from_slice(&body).unwrap();
    assert_eq!((verified.entries, verified.head), (2, page.entries[0].hash.clone()));
    for bad in ["after=x", "limit=1&limit=2", "before=3", "after=-1"] {
        let request = Request::builder().uri(format!("/api/v1/audit?{bad}"));
        assert_eq!(deployment.send(ROOT, request, Body::empty()).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn health_is_public_and_asks_the_engine() {
    let (status, body) =
        deployment().send(STRANGER, Request::builder().uri("/api/v1/health"), Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with(b"{"));
}

fn policy(rules: usize) -> serde_json::Value {
    let rule = |number| {
        format!(
            "\n[[allow]]\nid = \"r{number}\"\nfrom = \"role=a{number}\"\nto = \"role=b\"\nports = [\"tcp/1\"]\n"
        )
    };
    let text: String = (0..rules).map(rule).collect();
    serde_json::json!({ "main.toml": format!("version = 1\n{text}") })
}

#[tokio::test]
async fn a_policy_is_checked_applied_to_be_confirmed_and_confirmed() {
    use bulkhead_protocol::admin::{Applied, CheckReport, PolicyCurrent, Signing};
    let deployment = deployment();
    let sources = policy(1);
    let body = serde_json::json!({ "sources": sources }).to_string();
    let (status, body) = deployment.post(ROOT, "/api/v1/policy/check", &body).await;
    assert_eq!(status, StatusCode::OK);
    assert!(serde_json::from_slice::<CheckReport>(&body).unwrap().ok);

    let body = serde_json::json!({ "sources": sources, "base": 0, "confirm_within": 60 }).to_string();
    let (status, body) = deployment.post(ROOT, "/api/v1/policy", &body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_slice::<Applied>(&body).unwrap().generation, 1);
    let show = || deployment.send(ROOT, Request::builder().uri("/api/v1/policy"), Body::empty());
    let current: PolicyCurrent = serde_json::from_slice(&show().await.1).unwrap();
    assert_eq!((current.signing, current.pending.unwrap().back_to), (Signing::Online, 0));

    let (status, _) = deployment.post(ROOT, "/api/v1/policy/confirm", r#"{"generation":1}"#).await;
    assert_eq!(status, StatusCode::OK);
    let current: PolicyCurrent = serde_json::from_slice(&show().await.1).unwrap();
    assert_eq!((current.generation, current.pending), (1, None));
    let (status, body) = deployment.post(ROOT, "/api/v1/policy/confirm", r#"{"generation":1}"#).await;
    assert_eq!((status, error(&body).code.as_str()), (StatusCode::CONFLICT, "BH-C167"));
}

#[tokio::test]
async fn offloads_are_switched_by_name_and_shown() {
    use bulkhead_protocol::admin::OffloadsOff;
    let deployment = deployment();
    let put = async |path: &str, json: &str| {
        let request = Request::builder().method("PUT").uri(path).header("content-type", "application/json");
        deployment.send(ROOT, request, Body::from(json.to_owned())).await
    };
    let (status, _) = put("/api/v1/offloads", r#"{"off":["udp-gso"]}"#).await;
    assert_eq!(status, StatusCode::OK);
    for wrong in [r#"{"off":["gso"]}"#, r#"{"off":["udp-gso"],"on":["udp-gso"]}"#, r#"{"of":[]}"#] {
        assert_eq!(put("/api/v1/offloads", wrong).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let (status, _) = put("/api/v1/nodes/web/offloads", r#"{"off":["udp-gso"]}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, body) = deployment.send(ROOT, Request::builder().uri("/api/v1/offloads"), Body::empty()).await;
    let shown: OffloadsOff = serde_json::from_slice(&body).unwrap();
    assert_eq!(shown.everywhere.to_string(), "udp-gso");
}

#[tokio::test]
async fn live_flows_of_nobody_are_an_answer() {
    let (status, body) =
        deployment().send(ROOT, Request::builder().uri("/api/v1/flows"), Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    let flows: bulkhead_protocol::admin::LiveFlows = serde_json::from_slice(&body).unwrap();
    assert_eq!(flows, bulkhead_protocol::admin::LiveFlows::default());
}

/// L13: while the compiler is busy with the largest texts, the engine answers.
#[tokio::test]
async fn large_texts_keep_nobody_else_waiting() {
    let deployment = deployment();
    let body = serde_json::json!({ "sources": policy(40_000) }).to_string();
    let check = || deployment.post(ROOT, "/api/v1/policy/check", &body);
    let (first, second, third) = (check(), check(), check());
    let health = deployment.send(STRANGER, Request::builder().uri("/api/v1/health"), Body::empty());
    tokio::pin!(first, second, third, health);
    tokio::select! {
        biased;
        _ = &mut first => panic!("the compiler was faster than the engine"),
        _ = &mut second => panic!("the compiler was faster than the engine"),
        _ = &mut third => panic!("more texts are compiled at once than MAX_COMPILATIONS"),
        (status, _) = &mut health => assert_eq!(status, StatusCode::OK),
    }
    let ((first, _), (second, _), (third, _)) = tokio::join!(first, second, third);
    assert_eq!([first, second, third], [StatusCode::OK; 3]);
}

/// G5: texts that nobody has answered yet do not pile up.
#[tokio::test]
async fn a_policy_text_too_many_is_refused_and_the_next_is_not() {
    let deployment = deployment();
    let body = serde_json::json!({ "sources": policy(1), "base": 0 }).to_string();
    let all = u32::try_from(MAX_POLICY_TEXTS).unwrap();
    let taken = deployment.api.policy_texts.try_acquire_many(all).unwrap();
    for path in ["/api/v1/policy/check", "/api/v1/policy"] {
        let (status, body) = deployment.post(ROOT, path, &body).await;
        assert_eq!((status, error(&body).code.as_str()), (StatusCode::TOO_MANY_REQUESTS, "BH-R095"));
        assert!(error(&body).message.contains("MAX_POLICY_TEXTS") && error(&body).help.is_some());
    }
    drop(taken);
    for path in ["/api/v1/policy/check", "/api/v1/policy"] {
        assert_eq!(deployment.post(ROOT, path, &body).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(deployment.api.policy_texts.available_permits(), MAX_POLICY_TEXTS);
}

#[tokio::test]
async fn c1_strangers_who_know_a_trust_document_by_its_hash_are_led_to_the_newest() {
    let deployment = deployment();
    let state = StateDir::open(&deployment.directory.path().join("state")).unwrap();
    let wall = crate::clock::wall();
    let first = Trust::stored(&state.read("trust.cbor").unwrap(), wall).unwrap();
    let fetch = async |hash: String| {
        let request = Request::builder().uri(format!("/enrol/v1/trust/{hash}"));
        deployment.send(STRANGER, request, Body::empty()).await
    };
    let path =
        |body: &[u8]| TrustPath::decode(body).unwrap().documents().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (status, body) = fetch(first.hash().to_string()).await;
    assert_eq!((status, path(&body)), (StatusCode::OK, vec![first.bytes().to_vec()]));
    assert_eq!(fetch("00".repeat(32)).await.0, StatusCode::NOT_FOUND);
    for malformed in ["x".to_owned(), "00".to_owned(), "00".repeat(33), "ZZ".repeat(32)] {
        assert_eq!(fetch(malformed).await.0, StatusCode::BAD_REQUEST);
    }

    let operator = state.key("operator/operator.key").unwrap();
    let mut document = first.document().clone();
    document.version = Epoch(2);
    document.sealed = vec!["env".parse().unwrap()];
    let next = document.sign(&[&operator]);
    let apply = serde_json::json!({ "document": BASE64URL_NOPAD.encode(&next) }).to_string();
    assert_eq!(deployment.post(ROOT, "/api/v1/trust", &apply).await.0, StatusCode::OK);
    let (_, body) = fetch(first.hash().to_string()).await;
    assert_eq!(first.follow(TrustPath::decode(&body).unwrap().documents(), wall).unwrap().bytes(), next);
    let (_, body) = fetch(TrustHash::of(&next).to_string()).await;
    assert_eq!(path(&body), [next]);
    let (status, body) = deployment.post(ROOT, "/api/v1/tokens", r#"{"labels":{"env":"prod"}}"#).await;
    assert_eq!((status, error(&body).code.as_str()), (StatusCode::FORBIDDEN, "BH-C180"));
}
