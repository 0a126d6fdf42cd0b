//! Least knowledge, and least effort: what reaches a node of a policy, and whom a change reaches.

use super::links::kinds;
use super::scene::{Scene, rule, web_to_db};
use crate::Change;
use bulkhead_acl::Sources;
use bulkhead_identity::Generation;
use bulkhead_protocol::control::ToNode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PLANT: &str = r#"version = 1

[[allow]]
id = "historian-to-plc"
from = "role=historian"
to = "role=plc"
ports = ["tcp/502"]

[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432"]

[[never]]
id = "plc-opens-nothing"
from = "role=plc"
to = "*"
"#;

fn plant(more: &str) -> Sources {
    Sources(BTreeMap::from([("main.toml".to_owned(), format!("{PLANT}{more}"))]))
}

/// A scene under [`PLANT`] with a node of each role online, by role, its inboxes empty.
fn scene() -> (Scene, BTreeMap<&'static str, crate::ConnectionId>) {
    let mut scene = Scene::new();
    scene.apply(plant(""));
    let roles = ["db", "historian", "plc", "web"];
    let links = roles.map(|role| {
        let machine = scene.node(role, &format!("role={role}"));
        (role, scene.online(&machine))
    });
    settle(&mut scene);
    (scene, links.into())
}

/// Whatever was under way is sent, and forgotten.
fn settle(scene: &mut Scene) {
    scene.wait(Duration::from_secs(1));
    scene.tick();
}

#[test]
fn a_node_is_told_the_rules_of_its_own_side_only() {
    let (scene, links) = scene();
    for (role, rule) in [
        ("db", "web-to-db"),
        ("historian", "historian-to-plc"),
        ("plc", "historian-to-plc"),
        ("web", "web-to-db"),
    ] {
        assert_eq!(scene.rules(links[role]), [rule], "{role}");
    }
    let everything = format!("{:?}", scene.inbox[&links["web"]]);
    assert!(!everything.contains("historian"));
}

#[test]
fn new_rules_bring_everyone_the_generation_and_a_map_to_those_whose_peers_change() {
    let (mut scene, links) = scene();
    scene.inbox.clear();
    let more = "[[allow]]\nid = \"web-to-historian\"\nfrom = \"role=web\"\nto = \"role=historian\"\nports = [\"tcp/80\"]\n";
    scene.apply(plant(more));
    assert_eq!(kinds(&scene.inbox[&links["db"]]), ["policy"]);
    assert_eq!(kinds(&scene.inbox[&links["plc"]]), ["policy"]);
    assert_eq!(kinds(&scene.inbox[&links["web"]]), ["policy", "map"]);
    assert_eq!(kinds(&scene.inbox[&links["historian"]]), ["policy", "map"]);
    assert_eq!(scene.rules(links["web"]), ["web-to-db", "web-to-historian"]);
    // A port more changes no peer.
    scene.inbox.clear();
    scene.apply(plant(&more.replace("tcp/80", "tcp/443")));
    assert!(scene.inbox.values().all(|inbox| kinds(inbox) == ["policy"]));
}

#[test]
fn a_new_label_brings_the_certificate_then_the_slice_and_touches_only_old_and_new_peers() {
    let (mut scene, links) = scene();
    let (web, other) = (scene.node("web2", "role=web"), scene.node("other", "role=printer"));
    let (link, printer) = (scene.online(&web), scene.online(&other));
    assert_eq!(scene.rules(link), ["web-to-db"]);
    settle(&mut scene);
    scene.inbox.clear();
    scene.label(&web.name, "role", Some("historian")).ok().unwrap();
    assert_eq!(kinds(&scene.inbox[&link]), ["certificate", "policy", "map", "revocations"]);
    assert_eq!(scene.rules(link), ["historian-to-plc"]);
    for role in ["db", "plc"] {
        assert_eq!(kinds(&scene.inbox[&links[role]]), ["map", "revocations"], "{role}");
    }
    for other in [links["web"], links["historian"], printer] {
        assert_eq!(kinds(&scene.inbox[&other]), ["revocations"]);
    }
    assert!(scene.inbox[&links["db"]].iter().all(|message| message_upserts(message) == 0));
    assert_eq!(message_upserts(&scene.inbox[&links["plc"]][0]), 1);
    assert_eq!(message_upserts(&scene.inbox[&link][2]), 1);
}

fn message_upserts(message: &ToNode) -> usize {
    match message {
        ToNode::Map(bulkhead_protocol::control::MapUpdate::Delta { upserted, .. }) => upserted.len(),
        _ => 0,
    }
}

#[test]
fn a_node_that_was_away_while_its_labels_changed_gets_its_slice_when_it_returns() {
    let (mut scene, _) = scene();
    let machine = scene.node("web2", "role=web");
    let first = scene.online(&machine);
    scene.handle(crate::Command::Disconnected { connection: first });
    scene.label(&machine.name, "role", Some("plc")).ok().unwrap();
    let link = scene.connect(&machine);
    // It holds this generation, but another slice of it.
    scene.hello(link, 1, 1);
    assert_eq!(kinds(&scene.inbox[&link]), ["welcome", "certificate", "policy", "map"]);
    assert_eq!(scene.rules(link), ["historian-to-plc"]);
}

#[test]
fn a_restarted_coordinator_cuts_the_same_slices() {
    let (scene, links) = scene();
    let mut again = scene.restarted(scene.journal.len());
    let machine = again.node("web2", "role=web");
    let link = again.online(&machine);
    assert_eq!(again.slice(link), scene.slice(links["web"]));
}

#[test]
fn a_bundle_that_nodes_would_refuse_is_signed_again_at_once() {
    let (mut scene, _) = scene();
    for event in &mut scene.journal {
        if let Change::PolicyApplied { policy, .. } = &mut event.change {
            policy.bundle = b"written for another version of the language".to_vec();
        }
    }
    let mut again = scene.restarted(scene.journal.len());
    let machine = again.node("web2", "role=web");
    let link = again.online(&machine);
    assert_eq!((again.slice(link), again.peers(link)), (None, BTreeSet::from(["db".to_owned()])));
    again.tick();
    assert_eq!(again.rules(link), ["web-to-db"]);
    assert_eq!(again.generation(link), Generation(2));
}

#[test]
fn nodes_of_one_class_have_one_slice_and_two_generations_share_no_hash() {
    let (mut scene, links) = scene();
    let machine = scene.node("web2", "role=web");
    let second = scene.online(&machine);
    let first = scene.slice(second).unwrap().to_vec();
    assert_eq!(scene.slice(links["web"]), Some(&first[..]));
    scene.apply(plant(""));
    let next = scene.slice(second).unwrap();
    assert_ne!(next, first);
    // Even of the same text: whoever compares two slices learns nothing of rules it was not given.
    let hashes = |slice: &[u8]| slice[slice.len() - 32..].to_vec();
    assert_ne!(hashes(next), hashes(&first));
}

#[test]
fn an_index_that_is_put_back_as_it_was_sends_no_map() {
    let mut scene = Scene::new();
    let machine = scene.node("web", "role=web");
    let db = scene.node("db", "role=db");
    let links = [scene.online(&machine), scene.online(&db)];
    scene.apply(web_to_db());
    scene.apply(rule("other", "role=a", "role=b", ""));
    assert!(links.iter().all(|link| scene.peers(*link).is_empty()));
    scene.apply(web_to_db());
    assert_eq!(scene.peers(links[0]), BTreeSet::from(["db".to_owned()]));
    scene.inbox.clear();
    scene.apply(web_to_db());
    assert!(links.iter().all(|link| kinds(&scene.inbox[link]) == ["policy"]));
}
