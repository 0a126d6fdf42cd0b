//! Sealed labels: the coordinator hands them on, and cannot confer them.

use super::renewal::renew;
use super::scene::{LIFETIME, Machine, Scene, certificate, key, web_to_db};
use super::trust::{OPERATOR, apply, change, next};
use crate::{AdminCall, Refusal, Reply};
use bulkhead_identity::{Labels, Revocations, Seal, SealedLabels, verify};
use bulkhead_protocol::admin::{CreateToken, Node, SetSeal, TrustOverrides};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// `env` and `zone` are sealed, and `web` is a node without them.
fn sealing() -> (Scene, Machine) {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let web = scene.node("web", "role=web");
    change(&mut scene, |document| {
        document.sealed = vec!["env".parse().unwrap(), "zone".parse().unwrap()];
    });
    (scene, web)
}

fn statement(scene: &Scene, machine: &Machine, labels: &str, lifetime: Duration) -> SealedLabels {
    SealedLabels {
        trust_domain: scene.coordinator.trust().document().trust_domain.clone(),
        name: machine.name.clone(),
        identity_key: machine.identity.public(),
        labels: Labels::parse(labels).unwrap(),
        not_after: scene.now.wall.plus(lifetime),
    }
}

fn send(scene: &mut Scene, machine: &Machine, seal: &Seal) -> Result<Node, Refusal> {
    let call = AdminCall::NodeSeal(machine.name.clone(), SetSeal { seal: seal.encode() });
    scene.admin(call).map(|reply| if let Reply::Node(node) = reply { node } else { panic!("another reply") })
}

pub(super) fn seal(
    scene: &mut Scene,
    machine: &Machine,
    labels: &str,
    lifetime: Duration,
) -> Result<Node, Refusal> {
    let statement = statement(scene, machine, labels, lifetime);
    send(scene, machine, &Seal::sign(&statement, &[&key(OPERATOR)]).unwrap())
}

#[test]
fn a_sealed_label_comes_with_a_seal_and_no_other_way() {
    let (mut scene, web) = sealing();
    assert_eq!(scene.label(&web.name, "env", Some("prod")).err().unwrap().code, "BH-C180");
    let create = CreateToken { labels: Labels::parse("env=prod").unwrap(), ..CreateToken::default() };
    assert_eq!(scene.admin(AdminCall::TokenCreate(create)).err().unwrap().code, "BH-C180");

    let link = scene.online(&web);
    let node = seal(&mut scene, &web, "env=prod", 30 * DAY).unwrap();
    assert_eq!(node.labels.to_string(), "env=prod,role=web");
    assert_eq!(node.sealed_until, Some(scene.now.wall.plus(30 * DAY)));
    let chain = scene.inbox[&link].iter().rev().find_map(certificate).unwrap();
    let trust = scene.coordinator.trust();
    let now = verify(chain, trust, &Revocations::default(), scene.now.wall).unwrap();
    assert_eq!(now.labels().to_string(), "env=prod,role=web");
    assert!(scene.revocations(link).revokes(web.identity(&scene).claims()), "the one without it ends");

    // Other labels change beside it; it itself does not.
    scene.label(&web.name, "role", Some("db")).unwrap();
    assert_eq!(scene.label(&web.name, "env", None).err().unwrap().code, "BH-C180");
    let restarted = scene.restarted(scene.journal.len());
    assert_eq!(restarted.coordinator.state(), scene.coordinator.state());
}

#[test]
fn a_seal_takes_the_place_of_the_one_before_and_an_empty_one_takes_all() {
    let (mut scene, web) = sealing();
    seal(&mut scene, &web, "env=prod,zone=dmz", DAY).unwrap();
    let node = seal(&mut scene, &web, "env=dev", DAY).unwrap();
    assert_eq!(node.labels.to_string(), "env=dev,role=web");
    let entries = scene.journal.len();
    seal(&mut scene, &web, "env=dev", DAY).unwrap();
    assert_eq!(scene.journal.len(), entries, "the same again changes nothing");
    let node = seal(&mut scene, &web, "", DAY).unwrap();
    assert_eq!((node.labels.to_string().as_str(), node.sealed_until), ("role=web", None));
}

#[test]
fn a_seal_that_is_not_the_operators_or_not_for_this_node_is_refused() {
    let (mut scene, web) = sealing();
    let db = scene.node("db", "role=db");
    let entries = scene.journal.len();
    let honest = statement(&scene, &web, "env=prod", DAY);
    let forged = Seal::sign(&honest, &[&key(2), &key(4), &key(77)]).unwrap();
    assert_eq!(send(&mut scene, &web, &forged).unwrap_err().code, "BH-C182");
    let by_operator = |statement: &SealedLabels| Seal::sign(statement, &[&key(OPERATOR)]).unwrap();
    assert_eq!(send(&mut scene, &db, &by_operator(&honest)).unwrap_err().code, "BH-C182");
    let stranger = SealedLabels { identity_key: key(88).public(), ..honest.clone() };
    assert_eq!(send(&mut scene, &web, &by_operator(&stranger)).unwrap_err().code, "BH-C182");
    let ended = SealedLabels { not_after: scene.now.wall, ..honest.clone() };
    assert_eq!(send(&mut scene, &web, &by_operator(&ended)).unwrap_err().code, "BH-C182");
    let free = SealedLabels { labels: Labels::parse("role=db").unwrap(), ..honest };
    let refusal = send(&mut scene, &web, &by_operator(&free)).unwrap_err();
    assert!(refusal.help.unwrap().contains("node label"));
    assert_eq!(scene.journal.len(), entries);
}

#[test]
fn renewal_keeps_the_seal_and_ends_with_it_rather_than_lose_a_label() {
    let (mut scene, web) = sealing();
    let link = scene.online(&web);
    seal(&mut scene, &web, "env=prod", LIFETIME * 2).unwrap();
    scene.wait(LIFETIME / 2);
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
    scene.wait(LIFETIME);
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
    let chain = scene.inbox[&link].iter().rev().find_map(certificate).unwrap();
    let last = verify(chain, scene.coordinator.trust(), &Revocations::default(), scene.now.wall).unwrap();
    assert_eq!(last.labels().to_string(), "env=prod,role=web");
    assert_eq!(scene.now.wall.until(last.not_after()), LIFETIME / 2, "no longer than its seal");

    let Ok(Reply::Trust(view)) = scene.admin(AdminCall::TrustShow) else { panic!("no trust") };
    assert_eq!(view.ending_seals[0].node, "web");

    scene.wait(LIFETIME / 2);
    let labels = |scene: &mut Scene| {
        let Ok(Reply::Node(node)) = scene.admin(AdminCall::NodeShow(web.name.clone())) else { panic!() };
        node.labels.to_string()
    };
    assert!(!renew(&mut scene, link, &web.identity, &web.tunnel));
    assert_eq!(labels(&mut scene), "env=prod,role=web", "nothing was dropped in silence");
    seal(&mut scene, &web, "env=prod", DAY).unwrap();
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
}

#[test]
fn a_token_made_before_its_label_was_sealed_enrols_nobody() {
    let mut scene = Scene::new();
    let labels = Labels::parse("env=prod").unwrap();
    let secret = scene.token(CreateToken { labels, ..CreateToken::default() });
    change(&mut scene, |document| document.sealed = vec!["env".parse().unwrap()]);
    assert_eq!(scene.join(&*secret, Some("late")).err().unwrap().code, "BH-C181");
}

#[test]
fn nodes_that_have_a_label_are_sealed_before_its_key_is() {
    let mut scene = Scene::new();
    let (web, db) = (scene.node("web", "env=prod,role=web"), scene.node("db", "env=dev"));
    let sealed =
        |scene: &Scene| next(scene, &[OPERATOR], |document| document.sealed = vec!["env".parse().unwrap()]);
    let document = sealed(&scene);
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C173"));
    assert_eq!(seal(&mut scene, &web, "env=dev", DAY).unwrap_err().code, "BH-C182", "it confers nothing yet");
    let (_, link) = (scene.online(&db), scene.online(&web));
    seal(&mut scene, &web, "env=prod", 30 * DAY).unwrap();
    seal(&mut scene, &db, "env=dev", 30 * DAY).unwrap();
    // Until then the label is anybody's, and the seal over another value is worth nothing.
    scene.label(&db.name, "env", Some("test")).unwrap();
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C173"));
    seal(&mut scene, &db, "env=test", 30 * DAY).unwrap();
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
}

#[test]
fn a_node_that_could_not_fetch_its_seal_is_not_locked_out_by_mistake() {
    let mut scene = Scene::new();
    let web = scene.node("web", "env=prod,role=web");
    seal(&mut scene, &web, "env=prod", 30 * DAY).unwrap();
    let sealed =
        |scene: &Scene| next(scene, &[OPERATOR], |document| document.sealed = vec!["env".parse().unwrap()]);
    let document = sealed(&scene);
    assert_eq!(apply(&mut scene, document.clone(), TrustOverrides::default()), Err("BH-C173"));
    scene.online(&web);
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
}

#[test]
fn new_operators_sign_the_seals_before_the_old_ones_go() {
    let (mut scene, web) = sealing();
    scene.online(&web);
    let statement = statement(&scene, &web, "env=prod", 30 * DAY);
    let mut seal = Seal::sign(&statement, &[&key(OPERATOR)]).unwrap();
    send(&mut scene, &web, &seal).unwrap();
    let hand_over = |scene: &Scene| {
        next(scene, &[OPERATOR, 41], |document| document.operator_keys = vec![key(41).public()])
    };
    let document = hand_over(&scene);
    assert_eq!(apply(&mut scene, document, TrustOverrides::default()), Err("BH-C173"));
    seal.countersign(&key(41)).unwrap();
    send(&mut scene, &web, &seal).unwrap();
    let document = hand_over(&scene);
    apply(&mut scene, document, TrustOverrides::default()).unwrap();
}
