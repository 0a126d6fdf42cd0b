//! S1: every route with every role, with keys that are good no more, without one, and as root; generated from the
//! table. S2: no body is taken with something in it that nobody asked for.

use super::*;
use axum::http::Method;
use bulkhead_coordinator_engine::{Actor, AdminRole, ApiKey, Change, Event};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::token::secret_hash;

/// Codes by which somebody is refused for who he is.
const NO_CREDENTIAL: &str = "BH-C001";
const ROLE_TOO_LOW: &str = "BH-C004";
const NOT_ROOT: &str = "BH-C160";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    Unknown,
    Expired,
    Revoked,
    Key(AdminRole),
    Root,
}

const EVERYBODY: [Who; 8] = [
    Who::Nobody,
    Who::Unknown,
    Who::Expired,
    Who::Revoked,
    Who::Key(AdminRole::Viewer),
    Who::Key(AdminRole::Operator),
    Who::Key(AdminRole::Admin),
    Who::Root,
];

impl Who {
    fn secret(self) -> Option<[u8; 32]> {
        match self {
            Self::Nobody | Self::Root => None,
            Self::Unknown => Some([1; 32]),
            Self::Expired => Some([2; 32]),
            Self::Revoked => Some([3; 32]),
            Self::Key(role) => Some([10 + role as u8; 32]),
        }
    }

    pub(super) fn transport(self) -> Transport {
        if self == Self::Root { ROOT } else { STRANGER }
    }

    pub(super) fn authorize(self, request: axum::http::request::Builder) -> axum::http::request::Builder {
        match self.secret() {
            Some(secret) => {
                request.header("authorization", format!("Bearer {}", BASE64URL_NOPAD.encode(&secret)))
            }
            None => request,
        }
    }

    /// Whether the table lets him pass.
    fn may(self, access: Access) -> bool {
        match (self, access) {
            (Self::Root, _) | (_, Access::Public) => true,
            (Self::Key(_), Access::LocalRoot) => false,
            (Self::Key(role), _) => access.role().is_none_or(|needed| role.covers(needed)),
            (Self::Nobody | Self::Unknown | Self::Expired | Self::Revoked, _) => false,
        }
    }

    /// By which code he is refused, if he may not.
    fn refusal(self, access: Access) -> &'static str {
        match self {
            Self::Key(AdminRole::Admin) if access == Access::LocalRoot => NOT_ROOT,
            Self::Key(_) => ROLE_TOO_LOW,
            Self::Nobody | Self::Unknown | Self::Expired | Self::Revoked | Self::Root => NO_CREDENTIAL,
        }
    }
}

/// A deployment where all of them have been.
pub(super) fn staffed() -> Deployment {
    let wall = crate::clock::wall();
    let key = |who: Who, role: AdminRole, expires: Timestamp| ApiKey {
        id: format!("{who:?}").to_lowercase().replace(['(', ')'], "-"),
        hash: secret_hash(&who.secret().unwrap()),
        name: format!("{who:?}").to_lowercase().replace(['(', ')'], "-"),
        role,
        created: Timestamp(wall.0 - 100),
        expires,
        created_by: "root:0".to_owned(),
        last_used: Some(wall),
        person: None,
    };
    let later = Timestamp(wall.0 + 3600);
    let mut keys: Vec<_> = AdminRole::ALL.map(|role| key(Who::Key(role), role, later)).into();
    keys.push(key(Who::Expired, AdminRole::Admin, Timestamp(wall.0 - 1)));
    let revoked = key(Who::Revoked, AdminRole::Admin, later);
    let id = revoked.id.clone();
    keys.push(revoked);
    let created = keys.into_iter().map(|key| Change::KeyCreated { key });
    deployment_after(created.chain([Change::KeyRevoked { id }]).map(|change| Event {
        time: Timestamp(wall.0 - 50),
        actor: Actor::Root { uid: 0 },
        change,
        source: None,
    }))
}

/// A body that the route takes; what comes of it is another question.
pub(super) fn sample(route: &Route) -> serde_json::Value {
    use serde_json::json;
    if route.body.is_none() {
        return serde_json::Value::Null;
    }
    match (route.path.rsplit_once('/').unwrap().1, &route.method) {
        ("begin", _) => json!({ "protocol": bulkhead_protocol::PROTOCOL_VERSION }),
        ("finish", _) => json!({ "enrolment": "e", "request": "", "secret": "", "name": null }),
        ("signin", _) if route.path.starts_with("/enrol/") => {
            json!({ "enrolment": "e", "request": "", "name": null })
        }
        ("signin", _) => json!({}),
        ("poll", _) => json!({ "device_code": "A".repeat(43) }),
        ("workload", _) => json!({ "enrolment": "e", "request": "", "token": "", "name": null }),
        ("reject", _) => json!({ "reason": "not ours" }),
        ("session", _) => json!({ "secret": "AAAA", "name": "alice" }),
        ("labels", _) => json!({ "labels": { "env": "prod", "old": null } }),
        ("seal", _) => json!({ "seal": "AAAA" }),
        ("revoke", _) => json!({ "reason": "lost" }),
        ("offloads", _) => json!({ "off": ["udp-gso"] }),
        ("tokens", _) => json!({ "uses": 2 }),
        ("keys", _) => json!({ "name": "ci", "role": "viewer" }),
        ("policy" | "check", _) => json!({ "sources": policy(1) }),
        ("confirm", _) => json!({ "generation": 1 }),
        ("rollback", _) => json!({ "generation": 1 }),
        ("can", _) => json!({ "from": "a", "to": "b", "service": "tcp/1" }),
        ("trust", &Method::POST) => json!({ "document": "AAAA" }),
        other => panic!("write a sample of the body of {other:?}"),
    }
}

/// Sends the sample, through the gate or past it.
async fn call(deployment: &Deployment, router: &Router, route: &Route, who: Who) -> (StatusCode, ApiError) {
    let request = Request::builder().method(route.method.clone()).uri(concrete(route.path));
    let request = who.authorize(request).header("content-type", "application/json");
    let sample = sample(route);
    let body = if sample.is_null() { Body::empty() } else { Body::from(sample.to_string()) };
    let (status, body) = deployment.send_to(router, who.transport(), request, body).await;
    let error = serde_json::from_slice(&body).unwrap_or_else(|_| ApiError {
        code: String::new(),
        message: String::new(),
        help: None,
        diagnostics: None,
    });
    (status, error)
}

#[tokio::test]
async fn s1_the_table_says_who_may_call_what() {
    for route in routes() {
        let deployment = staffed();
        for who in EVERYBODY {
            let (status, error) = call(&deployment, &deployment.router, &route, who).await;
            let case = format!("{who:?}: {} {} {status} {error:?}", route.method, route.path);
            match who.may(route.access) {
                true => {
                    assert!(![NO_CREDENTIAL, ROLE_TOO_LOW, NOT_ROOT].contains(&error.code.as_str()), "{case}")
                }
                false => assert_eq!(error.code, who.refusal(route.access), "{case}"),
            }
            // What the OpenAPI document promises.
            let declared = problem::statuses(&route).chain([200]).any(|known| known == status.as_u16());
            assert!(declared, "{case}: this status is not declared");
        }
    }
}

/// Routes that the rim answers by itself: there is only the gate.
const RIM_ALONE: [&str; 2] = ["/api/v1/audit", "/api/v1/audit/verify"];

#[tokio::test]
async fn s1_the_engine_says_the_same_when_nobody_stands_at_the_gate() {
    for route in routes() {
        if route.access == Access::Public || RIM_ALONE.contains(&route.path) {
            continue;
        }
        let deployment = staffed();
        let ungated =
            Router::new().route(route.path, route.handler.clone()).with_state(deployment.api.clone());
        for who in EVERYBODY {
            let (status, error) = call(&deployment, &ungated, &route, who).await;
            let case = format!("{who:?}: {} {} {status} {error:?}", route.method, route.path);
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            assert_eq!(refused, !who.may(route.access), "{case}");
        }
    }
}

#[test]
fn every_handler_has_one_line_in_the_table() {
    let mut lines: Vec<_> = routes().iter().map(|route| (route.method.clone(), route.path)).collect();
    let count = lines.len();
    lines.sort_by_key(|(method, path)| (*path, method.to_string()));
    lines.dedup();
    assert_eq!(lines.len(), count, "a route stands in the table twice");
    // A handler that the table does not name is dead code, which does not compile here; and nothing else makes routes.
    let router = include_str!("../mod.rs");
    assert_eq!(router.matches(".route(").count(), 1);
}

#[tokio::test]
async fn s2_no_body_is_taken_with_a_field_that_nobody_asked_for() {
    let deployment = staffed();
    for route in routes().into_iter().filter(|route| route.body.is_some()) {
        let sample = sample(&route);
        let whole = sample.to_string();
        let fields = sample.as_object().unwrap();
        let comma = if fields.is_empty() { "" } else { "," };
        let surprise = whole.replacen('{', &format!(r#"{{"surprise":1{comma}"#), 1);
        let twice = fields.iter().next();
        let twice = twice.map(|(field, value)| whole.replacen('{', &format!("{{{field:?}:{value},"), 1));
        for wrong in [surprise, format!("[{whole}]"), "{".to_owned()].into_iter().chain(twice) {
            let request = Request::builder()
                .method(route.method.clone())
                .uri(concrete(route.path))
                .header("content-type", "application/json");
            let (status, body) = deployment.send(ROOT, request, Body::from(wrong.clone())).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{} {wrong} {:?}", route.path, error(&body));
        }
    }
}

#[tokio::test]
async fn s3_a_key_is_taken_from_its_header_alone_and_a_path_or_query_has_no_place_for_one() {
    let deployment = staffed();
    let secret = BASE64URL_NOPAD.encode(&Who::Key(AdminRole::Admin).secret().unwrap());
    for place in ["access_token", "key", "token", "authorization"] {
        let request = Request::builder().uri(format!("/api/v1/nodes?{place}={secret}"));
        let (status, _) = deployment.send(STRANGER, request, Body::empty()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{place}");
    }
    let cookie = Request::builder().uri("/api/v1/nodes").header("cookie", format!("key={secret}"));
    assert_eq!(deployment.send(STRANGER, cookie, Body::empty()).await.0, StatusCode::UNAUTHORIZED);
    for route in routes() {
        for name in route.placeholders().chain(route.query.iter().map(|number| number.name)) {
            let names = ["name", "id", "hash", "epoch", "generation", "after", "limit"];
            assert!(names.contains(&name), "{}: what is {name}?", route.path);
        }
    }
}
