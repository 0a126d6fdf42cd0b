//! What the audit log says of keys and of those who were refused: everything but secrets (S3, S4).

use super::roles::{Who, staffed};
use super::*;
use bulkhead_coordinator_engine::{AdminRole, MAX_STRANGER_REFUSALS};
use bulkhead_protocol::admin::{AuditEntry, AuditPage, CreatedKey, KeyList};
use bulkhead_protocol::token::Token;

async fn log(deployment: &Deployment) -> Vec<AuditEntry> {
    let request = Request::builder().uri("/api/v1/audit?limit=1000");
    let (_, body) = deployment.send(ROOT, request, Body::empty()).await;
    serde_json::from_slice::<AuditPage>(&body).unwrap().entries
}

async fn send(deployment: &Deployment, who: Who, method: &str, path: &str, json: &str) -> StatusCode {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    deployment.send(who.transport(), who.authorize(request), Body::from(json.to_owned())).await.0
}

#[tokio::test]
async fn who_is_refused_is_written_down_with_what_and_why_and_from_where() {
    let deployment = staffed();
    let viewer = Who::Key(AdminRole::Viewer);
    let revoke = r#"{"reason":"mine"}"#;
    send(&deployment, viewer, "POST", "/api/v1/nodes/web/revoke", revoke).await;
    send(&deployment, Who::Root, "POST", "/api/v1/nodes/web/revoke", revoke).await;
    send(&deployment, Who::Nobody, "GET", "/api/v1/nodes", "").await;
    send(&deployment, Who::Nobody, "POST", "/api/v1/session", r#"{"secret":"AAAA","name":"eve"}"#).await;
    send(&deployment, Who::Root, "POST", "/api/v1/tokens", "[").await;
    // Neither a stranger's view of nothing nor an administrator's wrong guess at a name is an act.
    send(&deployment, Who::Nobody, "GET", "/api/v1/nowhere", "").await;
    send(&deployment, viewer, "GET", "/api/v1/nodes/web", "").await;

    let told: Vec<_> = log(&deployment).await.into_iter().filter(|entry| entry.event == "refused").collect();
    let told: Vec<_> = told
        .iter()
        .map(|entry| {
            let source = entry.source.map(|source| source.to_string()).unwrap_or_default();
            let text = |field: &str| entry.detail[field].as_str().unwrap().to_owned();
            format!("{} {source} {} {}", entry.actor, text("what"), text("code"))
        })
        .collect();
    let expected = [
        "admin:key-viewer- 0.0.0.0 POST /api/v1/nodes/{name}/revoke BH-C004",
        "root:0  POST /api/v1/nodes/{name}/revoke BH-C003",
        "stranger 0.0.0.0 GET /api/v1/nodes BH-C001",
        "stranger 0.0.0.0 POST /api/v1/session BH-C005",
        "root:0  POST /api/v1/tokens BH-R082",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn g9_strangers_fill_neither_the_log_nor_the_disk() {
    let deployment = staffed();
    for _ in 0..MAX_STRANGER_REFUSALS + 20 {
        send(&deployment, Who::Unknown, "GET", "/api/v1/nodes", "").await;
    }
    send(&deployment, Who::Key(AdminRole::Viewer), "POST", "/api/v1/tokens", "{}").await;
    let log = log(&deployment).await;
    let by = |actor: &str| log.iter().filter(|e| e.event == "refused" && e.actor == actor).count();
    assert_eq!(by("stranger"), MAX_STRANGER_REFUSALS as usize);
    assert_eq!(by("admin:key-viewer-"), 1, "who has a key cannot be hidden by those who have none");
}

#[tokio::test]
async fn a_key_works_whole_and_bare_is_listed_with_its_use_and_ends_when_it_is_revoked() {
    let deployment = deployment();
    let body = r#"{"name":"ci","role":"operator","ttl_secs":600}"#;
    let (status, body) = deployment.post(ROOT, "/api/v1/keys", body).await;
    assert_eq!(status, StatusCode::OK);
    let created: CreatedKey = serde_json::from_slice(&body).unwrap();
    let bare = BASE64URL_NOPAD.encode(&*Token::parse(&created.key).unwrap().secret);
    let whoami = async |key: &str| {
        let request =
            Request::builder().uri("/api/v1/whoami").header("authorization", format!("Bearer {key}"));
        deployment.send(STRANGER, request, Body::empty()).await
    };
    for key in [created.key.as_str(), bare.as_str()] {
        let (status, body) = whoami(key).await;
        assert_eq!(status, StatusCode::OK);
        let who: bulkhead_protocol::admin::WhoAmI = serde_json::from_slice(&body).unwrap();
        assert_eq!((who.user.as_str(), who.role.as_str()), ("ci", "operator"));
    }
    let (_, body) = deployment.send(ROOT, Request::builder().uri("/api/v1/keys"), Body::empty()).await;
    let keys: KeyList = serde_json::from_slice(&body).unwrap();
    assert_eq!((keys.keys.len(), keys.keys[0].created_by.as_str()), (1, "root:0"));
    assert!(keys.keys[0].last_used.is_some());

    let request = Request::builder().method("DELETE").uri(format!("/api/v1/keys/{}", created.id));
    assert_eq!(deployment.send(ROOT, request, Body::empty()).await.0, StatusCode::OK);
    assert_eq!(whoami(&created.key).await.0, StatusCode::UNAUTHORIZED);

    let log = log(&deployment).await;
    let events: Vec<_> = log.iter().map(|entry| entry.event.as_str()).collect();
    // One line for two uses within the hour.
    assert_eq!(events[1..], ["key_created", "key_used", "key_revoked", "refused"]);
    let text = serde_json::to_string(&log).unwrap();
    assert!(!text.contains(&bare) && !text.contains(&created.key));
}

#[tokio::test]
async fn s4_neither_state_directory_nor_audit_log_holds_a_key_that_works() {
    let deployment = deployment();
    let (_, body) = deployment.post(ROOT, "/api/v1/keys", r#"{"name":"ci","role":"admin"}"#).await;
    let created: CreatedKey = serde_json::from_slice(&body).unwrap();
    let secret = Token::parse(&created.key).unwrap().secret;
    let texts = [BASE64URL_NOPAD.encode(&*secret), data_encoding::HEXLOWER.encode(&*secret)];
    let mut folders = vec![deployment.directory.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
                let held = holds(secret.as_slice()) || texts.iter().any(|text| holds(text.as_bytes()));
                assert!(!held, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 3, "where is the state?");
}
