//! Sealed labels: operators confer them, and whoever has the whole disk of the coordinator cannot.

use bulkhead_identity::{
    Certificate, Claims, IdentityKey, Labels, OverlayAddrs, Role, Seal, SealedLabels, Timestamp, TunnelKey,
    certificate::Serial,
};
use bulkhead_protocol::control::{MapPeer, MapSequence, MapUpdate, ToNode};
use bulkhead_tests::{Node, SOON, until};
use zeroize::Zeroizing;

use crate::liar::{Loot, key, play, server_config, wall};
use crate::mesh::map_of;
use crate::office::{Estate, NARROW, WIDE, narrow, rule};

/// Number `n` of the identities that the attacker makes with the issuing key: a name, keys and addresses of its own.
fn invented(loot: &Loot, n: u8, labels: &str) -> Claims {
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([100 + n; 32]));
    let mut claims = loot.claims(Role::Node, &format!("invented-{n}"), &key(80 + n), Some(&tunnel));
    claims.addresses = claims.addresses.map(|OverlayAddrs { v6, v4 }| OverlayAddrs {
        v6: (u128::from(v6) + u128::from(n)).into(),
        v4: (u32::from(v4) + u32::from(n)).into(),
    });
    claims.serial = Serial([1 + n; 16]);
    claims.labels = Labels::parse(labels).unwrap();
    claims
}

/// `env=prod` for the node of `claims`, by whatever keys.
fn seal(claims: &Claims, keys: &[&IdentityKey]) -> Seal {
    let statement = SealedLabels {
        trust_domain: claims.id.trust_domain.clone(),
        name: claims.id.name.clone(),
        identity_key: claims.identity_key,
        labels: Labels::parse("env=prod").unwrap(),
        not_after: Timestamp(wall().0 + 9999),
    };
    Seal::sign(&statement, keys).unwrap()
}

/// What the certificate says under which `witness` knows `name`.
fn claims_of(witness: &Node, name: &str) -> Option<Claims> {
    let map = map_of(witness);
    let peer = map.peers.values().find(|peer| peer.name.as_str() == name)?;
    Some(Certificate::parse(peer.chain.leaf()).unwrap().claims)
}

#[test]
fn c8_a_sealed_label_comes_from_operators_and_from_nobody_else() {
    let mut estate = Estate::start();
    let coordinator = &estate.coordinator;
    coordinator.apply(&format!("{}{}", narrow(), rule("env=prod, role=web", WIDE))).unwrap();
    estate.trust(&["--seal", "env"]);
    for attempt in [
        &["node", "label", "web", "env=prod"][..],
        &["token", "create", "--name", "new", "--label", "env=prod"],
    ] {
        let refused = coordinator.ctl(attempt).unwrap();
        assert!(!refused.ok() && refused.stderr.contains("sealed"), "{attempt:?}: {refused:?}");
    }
    until("what needs no label is open", SOON, || estate.reaches(NARROW));
    assert!(!estate.reaches(WIDE));

    let operator = estate.office.path("operator.key");
    let confer = ["trust", "seal", "web", "env=prod", "--key", &operator, "--yes"];
    coordinator.ctl(&confer).unwrap().success().unwrap();
    until("the sealed label counts", SOON, || estate.reaches(WIDE));

    // With the whole disk of the coordinator, the attacker makes nodes at will. None of them is production.
    let web = claims_of(&estate.db, "web").expect("db knows web");
    let genuine = web.seal.clone().expect("by its seal");
    let loot = Loot::take(&estate.coordinator.state());
    estate.coordinator.stop();
    let all = [loot.issuer.key(), &loot.identity, &loot.policy];
    let mallory = key(66);
    let seals = |claims: &Claims| {
        let by = |keys| Some(seal(claims, keys));
        [None, Some(genuine.clone()), by(&all[..1]), by(&all), by(&[&mallory])]
    };
    let as_peer = |claims: &Claims| MapPeer {
        name: claims.id.name.clone(),
        chain: loot.issuer.issue(claims).unwrap(),
        endpoints: vec![],
    };
    let mut peers: Vec<MapPeer> = (0..5)
        .map(|n| {
            let claims = invented(&loot, n, "role=web,env=prod");
            let seal = seals(&claims)[usize::from(n)].clone();
            as_peer(&Claims { seal, ..claims })
        })
        .collect();
    // Web itself in every word, seal and all, but for the tunnel key.
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([99; 32]));
    peers.push(as_peer(&Claims { tunnel_key: Some(tunnel.public()), ..web }));
    // One that does not claim the label is taken: it is the seal that the others lack.
    peers.push(as_peer(&invented(&loot, 9, "role=web")));
    let map = ToNode::Map(MapUpdate::Snapshot { sequence: MapSequence(1 << 62), peers });
    let hub = loot.claims(Role::Coordinator, "hub", &loot.identity, None);
    let hub = loot.issuer.issue(&hub).unwrap();
    let config = server_config(hub.certificates(), &loot.identity);
    play(&estate.coordinator.host, config, &estate.db, vec![("a map of invented nodes", map)]);
    assert_eq!(estate.db.peers().unwrap(), ["invented-9"]);
}
