//! S1: every route with every kind of caller; S2, G5: bodies that are refused.
#![allow(clippy::unwrap_used)]

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
use bulkhead_identity::TrustDomain;
use bulkhead_protocol::enrol::ApiError;
use tower::ServiceExt;

struct Deployment {
    _directory: tempfile::TempDir,
    router: Router,
}

fn deployment() -> Deployment {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("state");
    let addresses = vec!["c.acme.example:8443".to_owned()];
    crate::init::init(&root, &TrustDomain::parse("acme.example").unwrap(), &addresses).unwrap();
    let state = StateDir::open(&root).unwrap();
    let options = Options { reserve_bytes: 4096, ..Options::default() };
    let recovered = boot::recover(&state, options).unwrap();
    let settings = Settings {
        addresses,
        listen: DEFAULT_LISTEN,
        socket: root.join("admin.sock"),
        certificate_lifetime: DEFAULT_CERTIFICATE_LIFETIME,
        renewal_grace: DEFAULT_RENEWAL_GRACE,
    };
    let clock = Clock::start();
    let coordinator = boot::coordinator(&state, recovered.state, &settings, &clock).unwrap();
    let trust = coordinator.trust().clone();
    let link_trust = LinkTrust {
        trust: trust.clone(),
        revocations: coordinator.link_revocations(),
        renewal_grace: DEFAULT_RENEWAL_GRACE,
    };
    let journal = recovered.journal.reader();
    let driver = Driver {
        coordinator,
        journal: recovered.journal,
        store: recovered.store,
        link_trust: Arc::new(ArcSwap::from_pointee(link_trust)),
        clock,
    };
    let (engine, _ended) = driver.spawn().unwrap();
    Deployment { _directory: directory, router: Api::new(engine, journal, trust.bytes().into()).router() }
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
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(transport);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn post(&self, transport: Transport, path: &str, json: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
        self.send(transport, request, Body::from(json.to_owned())).await
    }
}

/// A path that fits a route's pattern.
fn concrete(path: &str) -> String {
    path.replace("{name}", "web").replace("{id}", "abc").replace("{epoch}", "1").replace("{generation}", "1")
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
    for route in routes().into_iter().filter(|r| r.access == Access::Admin) {
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
async fn s1_root_is_let_through_on_every_route() {
    let deployment = deployment();
    for route in routes() {
        let request = Request::builder().method(route.method.clone()).uri(concrete(route.path));
        let (status, _) = deployment.send(ROOT, request, Body::empty()).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{} {}", route.method, route.path);
        assert_ne!(status, StatusCode::FORBIDDEN, "{} {}", route.method, route.path);
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{} {}", route.method, route.path);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{} {}", route.method, route.path);
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
