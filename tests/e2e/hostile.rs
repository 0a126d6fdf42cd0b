//! What a lying coordinator can do to a node with forged documents: nothing.

use std::net::SocketAddr;
use std::time::Duration;

use bulkhead_identity::{
    Claims, Generation, Issuer, LabelKey, Labels, RevocationList, Role, Timestamp, TunnelKey,
    certificate::Serial,
};
use bulkhead_protocol::control::{MapPeer, MapSequence, MapUpdate, ToNode};
use bulkhead_tests::{SOON, until};
use zeroize::Zeroizing;

use crate::liar::{Loot, key, play, server_config, wall};
use crate::mesh::{Mesh, POLICY, map_of};

#[test]
fn c1_c2_c8_c9_forgeries_are_refused_and_nothing_changes() {
    let mut mesh = Mesh::start();
    let first_policy = std::fs::read(mesh.web.state().join("policy.cbor")).unwrap();
    mesh.coordinator.apply(&format!("{POLICY}\n[groups]\nnobody = \"role=web, role=db\"\n")).unwrap();
    mesh.coordinator
        .ctl(&["node", "revoke", "metrics", "--reason", "drill", "--wait", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    until("the revoked node is gone", SOON, || mesh.web.peers().is_ok_and(|p| p == ["db"]));
    let loot = Loot::take(&mesh.coordinator.state());
    mesh.coordinator.stop();

    let everyone = bulkhead_acl::check(
        &bulkhead_acl::Sources(
            [(
                "open.toml".to_owned(),
                "version = 1\n[[allow]]\nid = \"open\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n"
                    .to_owned(),
            )]
            .into(),
        ),
        wall(),
    )
    .unwrap()
    .rules;
    let held = std::fs::read(mesh.web.state().join("policy.cbor")).unwrap();
    let mallory = key(66);
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([67; 32]));
    // An authority of the attacker's own, for the same trust domain.
    let root = bulkhead_identity::Authority::create(
        key(68),
        &loot.domain(),
        Serial([2; 16]),
        Timestamp(wall().0 - 60),
        Timestamp(wall().0 + 9999),
    )
    .unwrap();
    let foreign = {
        let der = root
            .sign_issuer(
                key(69).public(),
                loot.issuer.limits(),
                Serial([3; 16]),
                Timestamp(wall().0 - 60),
                Timestamp(wall().0 + 9999),
            )
            .unwrap();
        Issuer::load(key(69), der).unwrap()
    };
    let current =
        bulkhead_acl::Policy::verify(&held, &loot.trust, Generation(0), wall()).unwrap().generation().0;

    let policy = |slice: Vec<u8>| ToNode::Policy { slice };
    let epoch = bulkhead_identity::Epoch;
    let mut stale_document = loot.trust.document().clone();
    stale_document.version = epoch(stale_document.version.0 + 1);
    let lies = vec![
        (
            "a policy signed by a foreign key",
            policy(loot.bundle(current + 1, everyone.clone()).whole_slice(&[&mallory])),
        ),
        (
            "a policy signed by the issuing key",
            policy(loot.bundle(current + 1, everyone.clone()).whole_slice(&[loot.issuer.key()])),
        ),
        ("an older policy", policy(first_policy)),
        (
            "a second policy for the held generation",
            policy(loot.bundle(current, everyone.clone()).whole_slice(&[&loot.policy])),
        ),
        ("an expired policy", {
            let mut bundle = loot.bundle(current + 1, everyone);
            bundle.expires = Timestamp(wall().0 - 1);
            policy(bundle.whole_slice(&[&loot.policy]))
        }),
        ("a garbled policy", policy(held[..held.len() / 2].to_vec())),
        (
            "a trust document signed by a foreign operator",
            ToNode::Trust { document: stale_document.sign(&[&mallory]) },
        ),
        (
            "a revocation list that forgets",
            ToNode::Revocations {
                list: RevocationList { epoch: epoch(0), issued: wall(), serials: vec![], keys: vec![] }
                    .sign(loot.issuer.key(), Some(loot.issuer.certificate())),
            },
        ),
        (
            "a revocation list of a foreign issuer",
            ToNode::Revocations {
                list: RevocationList { epoch: epoch(1000), issued: wall(), serials: vec![], keys: vec![] }
                    .sign(foreign.key(), Some(foreign.certificate())),
            },
        ),
        (
            "a certificate for another key",
            ToNode::Certificate {
                chain: loot.issuer.issue(&loot.claims(Role::Node, "web", &mallory, Some(&tunnel))).unwrap(),
                session_until: None,
            },
        ),
    ];
    let chain = loot.issuer.issue(&loot.claims(Role::Coordinator, "hub", &loot.identity, None)).unwrap();
    play(&mesh.coordinator.host, server_config(chain.certificates(), &loot.identity), &mesh.web, lies);
    assert_eq!(std::fs::read(mesh.web.state().join("policy.cbor")).unwrap(), held);
    assert_eq!(mesh.web.peers().unwrap(), ["db"]);

    // Peers: the attacker's key under a name that policy permits, from wrong issuers and with wrong contents.
    // Later than any sequence number that the real coordinator has used.
    let mut sequence = 1 << 62;
    let mut forged = |what: &'static str, chain: bulkhead_identity::Chain| {
        sequence += 1;
        let peer = MapPeer { name: "metrics".parse().unwrap(), chain, endpoints: vec![] };
        (what, ToNode::Map(MapUpdate::Snapshot { sequence: MapSequence(sequence), peers: vec![peer] }))
    };
    let label = |mut claims: Claims| {
        let role: LabelKey = "role".parse().unwrap();
        claims.labels = Labels::new([(role, "metrics".parse().unwrap())]).unwrap();
        claims
    };
    let mut expired = label(loot.claims(Role::Node, "metrics", &mallory, Some(&tunnel)));
    expired.not_before = loot.issuer.not_before();
    expired.not_after = Timestamp(wall().0 - 1);
    let valid = label(loot.claims(Role::Node, "metrics", &mallory, Some(&tunnel)));
    let other_name = label(loot.claims(Role::Node, "elsewhere", &mallory, Some(&tunnel)));
    assert!(
        map_of(&mesh.db).peers.keys().all(|n| n.as_str() != "metrics"),
        "db's map no longer names the revoked node"
    );
    let lies = vec![
        forged("a map with a rogue leaf of a foreign issuer", foreign.issue(&valid).unwrap()),
        forged("a map with an expired certificate", loot.issuer.issue(&expired).unwrap()),
        forged("a map with another node's certificate", loot.issuer.issue(&other_name).unwrap()),
        forged("a map with a coordinator's certificate", chain.clone()),
    ];
    play(&mesh.coordinator.host, server_config(chain.certificates(), &loot.identity), &mesh.web, lies);
    assert!(!mesh.web.peers().unwrap().contains(&"metrics".to_owned()));
}

#[test]
fn a_coordinator_with_a_foreign_certificate_is_not_spoken_to() {
    let mut mesh = Mesh::start();
    let loot = Loot::take(&mesh.coordinator.state());
    mesh.coordinator.stop();
    let port = SocketAddr::from(([0, 0, 0, 0], 8443));
    // A node's certificate, valid in every other way, does not make a coordinator.
    let imposter = key(70);
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([71; 32]));
    let claims = loot.claims(Role::Node, "imposter", &imposter, Some(&tunnel));
    let chain = loot.issuer.issue(&claims).unwrap();
    let config = server_config(chain.certificates(), &imposter);
    let socket = mesh.coordinator.host.inside(|| std::net::UdpSocket::bind(port).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let runtime = quinn::default_runtime().unwrap();
        let endpoint =
            quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap();
        let mut refusals = 0;
        while refusals < 3 {
            let incoming =
                tokio::time::timeout(Duration::from_secs(90), endpoint.accept()).await.unwrap().unwrap();
            // The server side may finish first; the client then closes before it opens a stream.
            if let Ok(connection) = incoming.await {
                assert!(connection.accept_bi().await.is_err(), "a node spoke to an imposter");
            }
            refusals += 1;
        }
    });
    assert_eq!(mesh.web.json(&["status"]).unwrap()["coordinator"]["connected"], false);
}
