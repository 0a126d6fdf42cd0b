//! C9, P2: the whole disk of a coordinator is copied, with every key on it. The policy keys are elsewhere, and so are
//! the operators'. What the thief can sign is signed here, and shown to a node that holds the deployment's documents.

use super::scene::{Scene, config, key, name, rule, web_to_db};
use super::trust::{change, next};
use bulkhead_acl::{Bundle, Policy, SignedBundle, Sources, Subject, check};
use bulkhead_identity::{
    Certificate, Chain, Claims, Epoch, Generation, IdentityKey, Labels, Revocations, Role, Seal,
    SealedLabels, Signed, SpiffeId, Timestamp, Trust, VerifyError, verify,
};
use bulkhead_protocol::admin::{PolicyText, Signing};
use data_encoding::BASE64;

/// The policy key on the operators' machine.
const OFFLINE: u8 = 40;

/// Everything in the state directory: issuer, own identity, the policy key of before, and one made by the thief.
fn loot() -> Vec<IdentityKey> {
    vec![key(2), key(77), key(4), key(99)]
}

/// A deployment whose policy keys have moved: `env` is sealed, and a policy of the offline key is in force.
fn robbed() -> Scene {
    let mut scene = Scene::new();
    scene.node("web", "role=web");
    scene.node("db", "role=db");
    scene.apply(web_to_db());
    change(&mut scene, |document| {
        document.policy_keys.push(key(OFFLINE).public());
        document.sealed = vec!["env".parse().unwrap()];
    });
    let signed = bundle(&scene, 2, &web_to_db(), &[&key(OFFLINE)]);
    let text =
        PolicyText { sources: web_to_db(), bundle: Some(BASE64.encode(&signed)), ..PolicyText::default() };
    scene.propose(text).unwrap();
    change(&mut scene, |document| document.policy_keys = vec![key(OFFLINE).public()]);
    scene
}

fn bundle(scene: &Scene, generation: u64, sources: &Sources, keys: &[&IdentityKey]) -> Vec<u8> {
    let bundle = Bundle {
        trust_domain: scene.coordinator.trust().document().trust_domain.clone(),
        generation: Generation(generation),
        not_before: Timestamp(scene.now.wall.0 - 60),
        expires: Timestamp(scene.now.wall.0 + 3600),
        rules: check(sources, scene.now.wall).unwrap().rules,
        seed: [7; 32],
    };
    bundle.sign(keys)
}

/// What `web` holds: the policy in force, as it was sent.
fn held(scene: &Scene) -> (&Trust, Policy) {
    let trust = scene.coordinator.trust();
    let policy = scene.coordinator.state().policy().unwrap();
    let signed = SignedBundle::verify(&policy.bundle, trust, Generation(0), scene.now.wall).unwrap();
    let web = Subject { name: name("web"), labels: Labels::parse("role=web").unwrap() };
    let policy = Policy::verify(&signed.slice(&web), trust, Generation(0), scene.now.wall).unwrap();
    (trust, policy)
}

fn wide() -> Sources {
    rule("anything", "*", "*", "")
}

#[test]
fn no_key_on_its_disk_signs_a_policy_that_a_node_takes() {
    let mut scene = robbed();
    assert_eq!(scene.policy().signing, Signing::Offline);
    assert_eq!(
        scene.propose(PolicyText { sources: wide(), ..PolicyText::default() }).unwrap_err().code,
        "BH-C158"
    );

    let wall = scene.now.wall;
    let (trust, policy) = held(&scene);
    let keys = loot();
    let all: Vec<&IdentityKey> = keys.iter().collect();
    for signers in keys.iter().map(|key| vec![key]).chain([all.clone(), Vec::new()]) {
        for generation in [2, 3, u64::MAX] {
            let bytes = bundle(&scene, generation, &wide(), &signers);
            assert!(SignedBundle::verify(&bytes, trust, Generation(0), wall).is_err());
            let slice = Bundle::read(&bytes).unwrap().whole_slice(&signers);
            assert!(Policy::verify(&slice, trust, Generation(0), wall).is_err(), "a node that holds none");
            assert!(policy.replace(&slice, trust, wall).is_err(), "a node that holds one");
        }
    }
    // The honest header with other rules, and the honest rules with one left out.
    let honest = bundle(&scene, 3, &web_to_db(), &[&key(OFFLINE)]);
    let wide = bundle(&scene, 3, &wide(), &all);
    for at in 0..honest.len().min(wide.len()) {
        let crossed = [&honest[..at], &wide[at..]].concat();
        if crossed != honest {
            assert!(SignedBundle::verify(&crossed, trust, Generation(0), wall).is_err(), "byte {at}");
        }
    }
    // The policy of before the keys moved, by the key that is on the disk.
    let before = bundle(&scene, 1, &web_to_db(), &[&key(4)]);
    assert!(SignedBundle::verify(&before, trust, Generation(0), wall).is_err());
}

#[test]
fn no_key_on_its_disk_changes_whom_a_node_trusts() {
    let scene = robbed();
    let (trust, _) = held(&scene);
    let seeds = [2, 77, 4, 99];
    let widenings: [fn(&mut bulkhead_identity::TrustDocument); 4] = [
        |document| document.policy_keys = vec![key(4).public()],
        |document| document.operator_keys = vec![key(99).public()],
        |document| document.sealed = Vec::new(),
        |document| document.roots = vec![super::trust::second_root().root_der().to_vec()],
    ];
    for widen in widenings {
        let document = next(&scene, &seeds, widen);
        assert!(trust.update(&document, scene.now.wall).is_err());
    }
    // Every document that was ever in force lies on the disk too: none of them takes a node back.
    for document in scene.coordinator.trust_documents().filter(|document| *document != trust.bytes()) {
        assert!(trust.update(document, scene.now.wall).is_err());
    }
    // An operator's signature over something else is not one over this.
    let statement = SealedLabels {
        trust_domain: trust.document().trust_domain.clone(),
        name: name("web"),
        identity_key: key(99).public(),
        labels: Labels::default(),
        not_after: scene.now.wall,
    };
    let sealed = Signed::decode(&Seal::sign(&statement, &[&key(3)]).unwrap().encode()).unwrap();
    let payload = Signed::decode(&next(&scene, &[], |document| document.sealed.clear())).unwrap().payload;
    let grafted = Signed { payload, signatures: sealed.signatures };
    assert!(trust.update(&grafted.encode(), scene.now.wall).is_err());
}

/// A certificate by the stolen issuer, for a key of the thief.
fn minted(scene: &Scene, labels: &str, seal: Option<Seal>, role: Role) -> Chain {
    let node = scene.coordinator.state().node(&name("web")).unwrap();
    let node_role = role == Role::Node;
    let claims = Claims {
        id: SpiffeId {
            trust_domain: scene.coordinator.trust().document().trust_domain.clone(),
            role,
            name: name("web"),
        },
        identity_key: key(99).public(),
        tunnel_key: node_role.then_some(node.tunnel_key),
        addresses: node_role.then_some(node.addresses),
        labels: Labels::parse(labels).unwrap(),
        serial: bulkhead_identity::Serial([0x42; 16]),
        not_before: Timestamp(scene.now.wall.0 - 60),
        not_after: Timestamp(scene.now.wall.0 + 3600),
        seal,
        binding: None,
    };
    config().issuer.issue(&claims).unwrap()
}

#[test]
fn certificates_with_labels_that_nobody_sealed_are_what_it_can_mint_and_all_it_can() {
    let scene = robbed();
    let (trust, policy) = held(&scene);
    let none = Revocations::default();
    let judged = |chain: &Chain| verify(chain, trust, &none, scene.now.wall);
    // The limit, plainly: an identity with any label that is not sealed. The policy still says what that may do.
    let db = judged(&minted(&scene, "role=db", None, Role::Node)).unwrap();
    assert!(policy.rules().allow.iter().all(|rule| rule.id.to_string() == "web-to-db"));
    assert_eq!(db.labels().to_string(), "role=db");

    let statement = SealedLabels {
        trust_domain: trust.document().trust_domain.clone(),
        name: name("web"),
        identity_key: key(99).public(),
        labels: Labels::parse("env=prod").unwrap(),
        not_after: Timestamp(scene.now.wall.0 + 7200),
    };
    let keys = loot();
    let forged = Seal::sign(&statement, &keys.iter().collect::<Vec<_>>()).unwrap();
    for seal in [None, Some(forged)] {
        let error = judged(&minted(&scene, "env=prod,role=db", seal, Role::Node)).unwrap_err();
        assert!(matches!(error, VerifyError::Seal(..)), "{error}");
    }
    // A genuine seal, of the node whose registry entry lies on the disk, is for that node's key.
    let web = SealedLabels {
        identity_key: scene.coordinator.state().node(&name("web")).unwrap().identity_key,
        ..statement
    };
    let genuine = Seal::sign(&web, &[&key(3)]).unwrap();
    assert!(judged(&minted(&scene, "env=prod", Some(genuine.clone()), Role::Node)).is_err());
    // With that node's identity key in the certificate, the tunnel key has to be one that it signed for.
    let node = scene.coordinator.state().node(&name("web")).unwrap();
    let template =
        Certificate::parse(minted(&scene, "env=prod", Some(genuine), Role::Node).leaf()).unwrap().claims;
    let as_web = Claims { identity_key: node.identity_key, binding: Some(node.binding), ..template };
    assert!(judged(&config().issuer.issue(&as_web).unwrap()).is_ok(), "its own");
    let tunnel = bulkhead_identity::TunnelKey::from_bytes(zeroize::Zeroizing::new([99; 32]));
    let thiefs = Claims { tunnel_key: Some(tunnel.public()), ..as_web };
    assert!(judged(&config().issuer.issue(&thiefs).unwrap()).is_err());
}

#[test]
fn it_can_refuse_nodes_and_no_more_than_that() {
    let scene = robbed();
    let (trust, _) = held(&scene);
    let list = |epoch| bulkhead_identity::RevocationList {
        epoch: Epoch(epoch),
        issued: scene.now.wall,
        serials: Vec::new(),
        keys: vec![key(6).public()],
    };
    let issuer = config().issuer;
    let by_issuer = list(9).sign(issuer.key(), Some(issuer.certificate()));
    let held = Revocations::verify(&by_issuer, trust, Epoch(0), scene.now.wall).unwrap();
    // Denial of service, and it is seen: an epoch that the real coordinator did not make. But not taken back by it.
    let earlier = list(8).sign(issuer.key(), Some(issuer.certificate()));
    assert!(held.update(&earlier, trust, scene.now.wall).is_err());
    for key in &loot()[1..] {
        assert!(Revocations::verify(&list(10).sign(key, None), trust, Epoch(0), scene.now.wall).is_err());
    }
}
