//! The operators' next document: C2, C9, and what it must not cut by mistake.

use super::scene::{GRACE, LIFETIME, Machine, Scene, config, key, web_to_db};
use crate::timing::RETRY_INTERVAL;
use crate::{AdminCall, ConnectionId, Reply};
use bulkhead_acl::Policy;
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Authority, Epoch, Generation, Timestamp, Trust, TrustDocument, TrustHash};
use bulkhead_protocol::admin::{Signing, TrustApply, TrustOverrides, TrustView};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use bulkhead_protocol::enrol::TrustPath;

/// The operator of [`super::scene::config`].
pub(super) const OPERATOR: u8 = 3;

/// The next document, changed and signed by these operators.
pub(super) fn next(scene: &Scene, operators: &[u8], change: impl FnOnce(&mut TrustDocument)) -> Vec<u8> {
    let mut document = scene.coordinator.trust().document().clone();
    document.version = Epoch(document.version.0 + 1);
    change(&mut document);
    let keys: Vec<_> = operators.iter().map(|seed| key(*seed)).collect();
    document.sign(&keys.iter().collect::<Vec<_>>())
}

/// Applies it; the refusal's code if it is refused.
pub(super) fn apply(
    scene: &mut Scene,
    document: Vec<u8>,
    overrides: TrustOverrides,
) -> Result<TrustView, &'static str> {
    match scene.admin(AdminCall::TrustApply(TrustApply { document, overrides })) {
        Ok(Reply::Trust(view)) => Ok(view),
        Ok(_) => panic!("another reply"),
        Err(refusal) => {
            assert!(refusal.help.is_some(), "{refusal}");
            Err(refusal.code)
        }
    }
}

/// Applies a change that nothing speaks against.
pub(super) fn change(scene: &mut Scene, change: impl FnOnce(&mut TrustDocument)) -> TrustView {
    let document = next(scene, &[OPERATOR], change);
    apply(scene, document, TrustOverrides::default()).unwrap()
}

/// A second root for the deployment.
pub(super) fn second_root() -> Authority {
    let domain = config().trust.document().trust_domain.clone();
    let (from, to) =
        (Timestamp(super::scene::START.0 - 600), Timestamp(super::scene::START.0 + 1_000_000_000));
    Authority::create(key(60), &domain, Serial([0x60; 16]), from, to.min(Timestamp(253_000_000_000))).unwrap()
}

fn documents(scene: &Scene, link: ConnectionId) -> Vec<u64> {
    let sent = scene.inbox.get(&link).into_iter().flatten().filter_map(|message| match message {
        ToNode::Trust { document } => Some(document),
        _ => None,
    });
    let document = |bytes| Trust::stored(bytes, scene.now.wall).unwrap().document().version.0;
    sent.map(|bytes: &Vec<u8>| document(bytes)).collect()
}

fn pair(scene: &mut Scene) -> (Machine, Machine) {
    scene.apply(web_to_db());
    (scene.node("db", "role=db"), scene.node("web", "role=web"))
}

#[test]
fn the_next_document_is_journalled_handed_on_and_in_force_after_a_restart() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    let link = scene.online(&web);
    assert!(documents(&scene, link).is_empty(), "it holds the first");
    let view = change(&mut scene, |document| document.policy_keys.push(key(40).public()));
    assert_eq!((view.version, view.behind, view.signing), (2, 1, Signing::Online));
    assert_eq!(documents(&scene, link), [2]);
    let event = scene.journal.last().unwrap().audit();
    assert_eq!((event.event.as_str(), event.detail["version"].as_u64()), ("trust_updated", Some(2)));

    let restarted = scene.restarted(scene.journal.len());
    assert_eq!(restarted.coordinator.trust().document().version, Epoch(2));
    let before = scene.restarted(scene.journal.len() - 1);
    assert_eq!(before.coordinator.trust().document().version, Epoch(1));
}

#[test]
fn a_node_that_was_away_is_given_every_step_in_order() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    // Operators hand over to others, who then change something: each step is signed by those before it.
    let document = next(&scene, &[OPERATOR, 41], |document| document.operator_keys = vec![key(41).public()]);
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
    let document = next(&scene, &[41], |document| document.policy_keys.push(key(40).public()));
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
    let mut scene = scene.restarted(scene.journal.len());
    let link = scene.online(&web);
    assert_eq!(documents(&scene, link), [2, 3]);

    let first = config().trust;
    let documents = || scene.coordinator.trust_documents().map(|bytes| (TrustHash::of(bytes), bytes));
    let path = TrustPath::from(documents(), first.hash()).unwrap();
    let reached = first.follow(path.documents(), scene.now.wall).unwrap();
    assert_eq!(reached.hash(), scene.coordinator.trust().hash());
    assert!(TrustPath::from(documents(), TrustHash([9; 32])).is_none());
}

#[test]
fn the_policy_and_the_map_come_after_the_document_they_need() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    change(&mut scene, |document| document.policy_keys.push(key(40).public()));
    let link = scene.online(&web);
    let messages = &scene.inbox[&link];
    let at = |wanted: fn(&ToNode) -> bool| messages.iter().position(wanted).unwrap();
    let trust = at(|message| matches!(message, ToNode::Trust { .. }));
    assert!(trust < at(|message| matches!(message, ToNode::Policy { .. })));
    assert!(trust < at(|message| matches!(message, ToNode::Map(_))));
}

#[test]
fn c9_a_document_that_operators_did_not_sign_is_refused() {
    let mut scene = Scene::new();
    let keep = |_: &mut TrustDocument| {};
    let events = scene.journal.len();
    for signers in [&[][..], &[2], &[4], &[1, 2, 4, 77]] {
        let document = next(&scene, signers, keep);
        assert_eq!(apply(&mut scene, document, TrustOverrides::default()), Err("BH-C170"));
    }
    let old = next(&scene, &[OPERATOR], |document| document.version = Epoch(0));
    assert_eq!(apply(&mut scene, old, TrustOverrides::default()), Err("BH-C170"));
    assert_eq!(apply(&mut scene, b"x".to_vec(), TrustOverrides::default()), Err("BH-C170"));
    assert_eq!(scene.journal.len(), events);
    let same = scene.coordinator.trust().bytes().to_vec();
    assert!(apply(&mut scene, same, TrustOverrides::default()).is_ok());
    assert_eq!(scene.journal.len(), events, "the same again changes nothing");
}

#[test]
fn a_document_under_which_the_policy_falls_is_refused_until_it_is_meant() {
    let mut scene = Scene::new();
    pair(&mut scene);
    let moved = |document: &mut TrustDocument| document.policy_keys = vec![key(40).public()];
    let document = next(&scene, &[OPERATOR], moved);
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C171"));
    let but = TrustOverrides { policy: true, ..TrustOverrides::default() };
    let view = apply(&mut scene, document, but).unwrap();
    assert_eq!(view.signing, Signing::Offline, "its own key is no policy key any more");
}

/// With a second key, for a document that names it one day.
fn with_the_next_policy_key() -> crate::Config {
    crate::Config { policy_keys: vec![key(4), key(40)], ..config() }
}

#[test]
fn the_policy_is_signed_again_by_the_keys_that_count_now() {
    let mut scene = Scene::of(with_the_next_policy_key);
    let (_, web) = pair(&mut scene);
    let link = scene.online(&web);
    let moved = |document: &mut TrustDocument| document.policy_keys = vec![key(40).public()];
    let document = next(&scene, &[OPERATOR], moved);
    let but = TrustOverrides { policy: true, ..TrustOverrides::default() };
    assert_eq!(apply(&mut scene, document, but).unwrap().signing, Signing::Online);
    assert_eq!(scene.policy().generation, 1);
    scene.wait(RETRY_INTERVAL);
    assert!(scene.coordinator.next_timeout() <= scene.now.mono);
    scene.tick();
    assert_eq!(scene.policy().generation, 2);
    let slice = scene.slice(link).unwrap();
    let policy = Policy::verify(slice, scene.coordinator.trust(), Generation(0), scene.now.wall).unwrap();
    assert_eq!(policy.generation(), Generation(2));
}

#[test]
fn a_document_that_brings_a_key_back_brings_the_policy_back() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    let document = next(&scene, &[OPERATOR], |document| document.policy_keys = vec![key(40).public()]);
    apply(&mut scene, document, TrustOverrides { policy: true, ..TrustOverrides::default() }).unwrap();
    let link = scene.online(&web);
    assert!(scene.slice(link).is_none(), "it would not take it");
    change(&mut scene, |document| document.policy_keys.push(key(4).public()));
    assert_eq!(scene.generation(link), Generation(1));
    scene.wait(RETRY_INTERVAL);
    scene.tick();
    assert_eq!(scene.policy().generation, 1);
}

#[test]
fn a_node_that_may_still_renew_is_counted_and_not_lost_by_mistake() {
    let mut scene = Scene::new();
    pair(&mut scene);
    let removed =
        |scene: &Scene| next(scene, &[OPERATOR], |document| document.sealed = vec!["role".parse().unwrap()]);
    let document = removed(&scene);
    let nodes = |scene: &mut Scene| {
        let Ok(Reply::Trust(view)) = scene.admin(AdminCall::TrustShow) else { panic!("no trust") };
        view.roots[0].nodes
    };
    scene.wait(LIFETIME + GRACE - RETRY_INTERVAL);
    assert_eq!(nodes(&mut scene), 2);
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C173"));
    scene.wait(RETRY_INTERVAL);
    assert_eq!(nodes(&mut scene), 0);
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
}

#[test]
fn a_document_that_shuts_us_or_nodes_out_is_refused_until_it_is_meant() {
    let mut scene = Scene::new();
    let (db, _) = pair(&mut scene);
    scene.revoke(&db);
    let document = next(&scene, &[OPERATOR], |document| {
        document.roots = vec![second_root().root_der().to_vec()];
    });
    let mut overrides = TrustOverrides::default();
    assert_eq!(apply(&mut scene, document.clone(), overrides), Err("BH-C172"));
    overrides.issuer = true;
    assert_eq!(apply(&mut scene, document.clone(), overrides), Err("BH-C173"));
    overrides.nodes = true;
    apply(&mut scene, document, overrides).unwrap();
}

#[test]
fn a_refusal_names_the_nodes_it_is_about() {
    let mut scene = Scene::new();
    for at in 0..12 {
        scene.node(&format!("n{at:02}"), "env=prod");
    }
    let document = next(&scene, &[OPERATOR], |document| document.sealed = vec!["env".parse().unwrap()]);
    let call = AdminCall::TrustApply(TrustApply { document, overrides: TrustOverrides::default() });
    let refusal = scene.admin(call).err().unwrap();
    assert_eq!(refusal.code, "BH-C173");
    assert!(refusal.message.contains("12 active nodes") && refusal.message.contains("n00, n01"), "{refusal}");
    assert!(!refusal.message.contains("n11"), "{refusal}");
}

#[test]
fn a_restored_coordinator_learns_the_document_that_its_nodes_hold() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    let entries = scene.journal.len();
    let lost = next(&scene, &[OPERATOR], |document| document.policy_keys.push(key(40).public()));
    apply(&mut scene, lost.clone(), TrustOverrides::default()).unwrap();
    let mut scene = scene.restarted(entries);
    let link = scene.connect(&web);
    scene.say(
        link,
        ToCoordinator::Hello {
            protocol: bulkhead_protocol::PROTOCOL_VERSION,
            trust_version: Epoch(2),
            generation: scene.coordinator.state().generation(),
            epoch: Epoch(0),
            wireguard_port: 51820,
            endpoints: Vec::new(),
            software: "test".to_owned(),
        },
    );
    assert!(scene.coordinator.read_only().is_some(), "its nodes know more than it does");
    apply(&mut scene, lost, TrustOverrides::default()).unwrap();
    assert_eq!(scene.coordinator.read_only(), None);
}

#[test]
fn a_journal_whose_document_does_not_follow_refuses_the_start() {
    let mut scene = Scene::new();
    change(&mut scene, |document| document.policy_keys.push(key(40).public()));
    // Whoever can write to the journal still cannot change whom we trust.
    let forged = next(&scene, &[90], |document| document.operator_keys = vec![key(90).public()]);
    let mut state = scene.coordinator.state().clone();
    let event = crate::Event {
        time: scene.now.wall,
        actor: crate::Actor::System,
        change: crate::Change::TrustUpdated { document: forged },
        source: None,
    };
    state.replay(&event).unwrap();
    assert!(crate::Coordinator::new(config(), state.clone(), scene.now).is_err());
    assert!(state.replay(&event).is_err(), "versions grow");
}
