//! A whole coordinator, from `init` to a revoked node, over its real doors.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use bulkhead_protocol::control::{MapUpdate, ToNode};
use bulkhead_protocol::offload::{Offload, Offloads};
use bulkhead_protocol::token::Token;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use support::{Deployment, connect, random};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const WEB_TO_DB: &str = "version = 1\n[[allow]]\nid = \"web-to-db\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/5432\"]\nowner = \"o\"\nwhy = \"w\"\n";

fn policy(text: &str) -> Value {
    json!({ "sources": { "policy.toml": text }, "message": "test" })
}

fn peers(message: &ToNode) -> Option<BTreeSet<String>> {
    match message {
        ToNode::Map(MapUpdate::Snapshot { peers, .. }) => {
            Some(peers.iter().map(|p| p.name.to_string()).collect())
        }
        ToNode::Map(MapUpdate::Delta { upserted, .. }) => {
            Some(upserted.iter().map(|p| p.name.to_string()).collect())
        }
        _ => None,
    }
}

fn nodes(list: &Value) -> BTreeSet<String> {
    let nodes = list["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

fn copy_tree(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_learn_their_permitted_peers_and_lose_a_revoked_one() {
    let deployment = Deployment::start().await;
    let web = deployment.node("web", json!({ "role": "web" })).await;
    let db = deployment.node("db", json!({ "role": "db" })).await;
    let intruder = deployment.node("intruder", json!({ "role": "other" })).await;
    deployment.done("POST", "/api/v1/policy", Some(policy(WEB_TO_DB))).await;

    let mut web_link = web.connect(&deployment).await;
    let mut db_link = db.connect(&deployment).await;
    let mut intruder_link = intruder.connect(&deployment).await;
    web_link.until(|m| matches!(m, ToNode::Policy { .. }).then_some(())).await;
    web_link.until(|m| peers(m).filter(|p| *p == BTreeSet::from(["db".to_owned()]))).await;
    db_link.until(|m| peers(m).filter(|p| *p == BTreeSet::from(["web".to_owned()]))).await;
    intruder_link.until(|m| peers(m).filter(BTreeSet::is_empty)).await;

    let revoked =
        deployment.done("POST", "/api/v1/nodes/web/revoke", Some(json!({ "reason": "stolen" }))).await;
    assert_eq!(revoked["name"], "web");
    assert_eq!(web_link.close_code().await, 1);
    db_link.until(|m| matches!(m, ToNode::Revocations { .. }).then_some(())).await;

    // Its key opens nothing any more; TLS 1.3 tells the client only after its side of the handshake.
    if let Ok((_endpoint, connection)) = connect(&deployment, Some(&web)).await {
        tokio::time::timeout(support::PATIENCE, connection.closed()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_a_nodes_certificate() {
    let deployment = Deployment::start().await;
    if let Ok((_endpoint, connection)) = connect(&deployment, None).await {
        tokio::time::timeout(support::PATIENCE, connection.closed()).await.unwrap();
    }
    // Another deployment's node.
    let other = Deployment::start().await;
    let foreign = other.node("web", json!({})).await;
    if let Ok((_endpoint, connection)) = connect(&deployment, Some(&foreign)).await {
        tokio::time::timeout(support::PATIENCE, connection.closed()).await.unwrap();
    }
    assert_eq!(nodes(&deployment.done("GET", "/api/v1/nodes", None).await).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_of_200_concurrent_uses_of_a_single_use_token_one_succeeds() {
    let deployment = std::sync::Arc::new(Deployment::start().await);
    let secret = std::sync::Arc::new(deployment.token(json!({})).await);
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (deployment, secret) = (deployment.clone(), secret.clone());
        attempts.spawn(async move { deployment.enrol(&secret, Some(&format!("node-{n}"))).await.is_ok() });
    }
    let succeeded = attempts.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(succeeded, 1);
    assert_eq!(nodes(&deployment.done("GET", "/api/v1/nodes", None).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bootstrap_secret_opens_one_session_and_the_session_works_until_logout() {
    let deployment = Deployment::start().await;
    let text = std::fs::read_to_string(deployment.root().join("bootstrap-token")).unwrap();
    let token = Token::parse(&text).unwrap();
    assert_eq!(token.trust, deployment.trust().hash());
    let login = json!({ "secret": BASE64URL_NOPAD.encode(token.secret.as_ref()), "name": "ana" });
    let (status, session) = deployment.https("POST", "/api/v1/session", None, Some(login.clone())).await;
    assert_eq!(status, 200, "{session}");
    let key = session["key"].as_str().unwrap();
    let (status, me) = deployment.https("GET", "/api/v1/whoami", Some(key), None).await;
    assert_eq!((status, me["user"].as_str()), (200, Some("ana")));
    assert_eq!(deployment.https("POST", "/api/v1/session", None, Some(login)).await.0, 401, "spent once");
    assert_eq!(deployment.https("DELETE", "/api/v1/session", Some(key), None).await.0, 200);
    assert_eq!(deployment.https("GET", "/api/v1/whoami", Some(key), None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_what_was_acknowledged_survives_a_stop_at_any_point_and_the_loss_of_sled() {
    let mut deployment = Deployment::start().await;
    let mut acknowledged = BTreeSet::new();
    let mut crashes = Vec::new();
    for n in 0..8 {
        let name = format!("node-{n}");
        deployment.node(&name, json!({ "n": n.to_string() })).await;
        acknowledged.insert(name);
        // The files as kill -9 would leave them now, with a write that never finished.
        let crashed = deployment.directory.path().join(format!("crashed-{n}"));
        copy_tree(&deployment.root(), &crashed);
        let segment = crashed.join("journal/00000000000000000001.segment");
        std::fs::OpenOptions::new()
            .append(true)
            .open(segment)
            .unwrap()
            .write_all(&vec![n; usize::from(n) * 9])
            .unwrap();
        if n % 2 == 1 {
            std::fs::remove_dir_all(crashed.join("index.sled")).unwrap();
        }
        crashes.push((crashed, acknowledged.clone()));
    }
    deployment.stop().await;
    for (crashed, expected) in crashes {
        deployment.serve_from(&crashed).await;
        assert_eq!(nodes(&deployment.done("GET", "/api/v1/nodes", None).await), expected);
        deployment.done("GET", "/api/v1/audit/verify", None).await;
        deployment.stop().await;
    }
    std::fs::remove_dir_all(deployment.root().join("index.sled")).unwrap();
    deployment.serve().await;
    assert_eq!(nodes(&deployment.done("GET", "/api/v1/nodes", None).await), acknowledged);
    deployment.stop().await;
    assert!(deployment.root().join("index.sled").exists(), "rebuilt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offload_that_is_switched_off_is_off_everywhere_at_once_and_after_a_restart() {
    let mut deployment = Deployment::start().await;
    let web = deployment.node("web", json!({})).await;
    let mut link = web.connect(&deployment).await;
    let told = |message: &ToNode| match message {
        ToNode::Welcome { offloads_off, .. } => Some(*offloads_off),
        ToNode::Offloads { off } => Some(*off),
        _ => None,
    };
    assert_eq!(link.until(told).await, Offloads::NONE);
    deployment.done("PUT", "/api/v1/offloads", Some(json!({ "off": ["udp-gso"] }))).await;
    let gso = Offloads::NONE.with(Offload::UdpGso);
    assert_eq!(link.until(told).await, gso);
    deployment.done("PUT", "/api/v1/nodes/web/offloads", Some(json!({ "off": ["tun-gro"] }))).await;
    let both = gso.with(Offload::TunGro);
    assert_eq!(link.until(told).await, both);

    deployment.stop().await;
    deployment.serve().await;
    assert_eq!(web.connect(&deployment).await.until(told).await, both);
    let shown = deployment.done("GET", "/api/v1/offloads", None).await;
    assert_eq!(
        shown,
        json!({ "configured": [], "everywhere": ["udp-gso"], "nodes": { "web": ["tun-gro"] } })
    );
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_a_restored_backup_is_read_only_until_it_is_accepted() {
    let mut deployment = Deployment::start().await;
    deployment.node("web", json!({})).await;
    let file = deployment.directory.path().join("backup");
    bulkhead_coordinator::backup::backup(&deployment.root(), &file).unwrap();
    deployment.done("POST", "/api/v1/nodes/web/revoke", Some(json!({ "reason": "stolen" }))).await;
    deployment.stop().await;

    let restored = deployment.directory.path().join("restored");
    bulkhead_coordinator::backup::restore(&file, &restored).unwrap();
    deployment.serve_from(&restored).await;
    assert_eq!(
        nodes(&deployment.done("GET", "/api/v1/nodes", None).await),
        BTreeSet::from(["web".to_owned()])
    );
    let (status, refused) = deployment.admin("POST", "/api/v1/tokens", Some(json!({}))).await;
    assert_eq!(status, 503, "{refused}");
    deployment.done("POST", "/api/v1/restore/accept", None).await;
    deployment.token(json!({})).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e8_one_state_directory_serves_one_daemon() {
    let deployment = Deployment::start().await;
    let settings = bulkhead_coordinator::config::Settings {
        addresses: vec!["127.0.0.1:1".to_owned()],
        listen: ([127, 0, 0, 1], 0).into(),
        node: None,
        socket: deployment.directory.path().join("run/other.sock"),
        certificate_lifetime: bulkhead_coordinator::config::DEFAULT_CERTIFICATE_LIFETIME,
        offloads_off: Offloads::NONE,
        people: bulkhead_coordinator::config::People::default(),
        renewal_grace: bulkhead_coordinator::config::DEFAULT_RENEWAL_GRACE,
    };
    let refused = bulkhead_coordinator::serve::Server::start(&deployment.root(), settings).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("another coordinator")));
    deployment.done("GET", "/api/v1/nodes", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_node_that_sends_no_frames_or_huge_ones_loses_its_link_only() {
    let deployment = Deployment::start().await;
    let web = deployment.node("web", json!({})).await;
    for garbage in [&[0xff, 0xff, 0xff, 0xff, 1, 2, 3][..], &[0, 2, 0, 0], &[0, 0, 0, 2, 0xff, 0xff]] {
        let mut link = web.connect(&deployment).await;
        link.until(|m| matches!(m, ToNode::Welcome { .. }).then_some(())).await;
        link.send.write_all(garbage).await.unwrap();
        assert_eq!(link.close_code().await, u64::from(bulkhead_coordinator::link::code::MALFORMED));
    }
    deployment.done("GET", "/api/v1/nodes", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_at_every_door_hurt_nobody() {
    let deployment = Deployment::start().await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..200_usize {
        let seed = random();
        let bytes: Vec<u8> = seed
            .iter()
            .copied()
            .cycle()
            .enumerate()
            .map(|(i, b)| b ^ (i / 32) as u8)
            .take(n * 7 + 1)
            .collect();
        udp.send_to(&bytes, deployment.address()).await.unwrap();
        let mut tcp = TcpStream::connect(deployment.address()).await.unwrap();
        // The coordinator may hang up in the middle.
        let _ = tcp.write_all(&bytes).await;
        let _ = tcp.shutdown().await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(support::PATIENCE, tcp.read_to_end(&mut rest)).await.unwrap();
    }
    deployment.done("GET", "/api/v1/nodes", None).await;
    assert_eq!(deployment.https("GET", "/api/v1/health", None, None).await.0, 200);
}
