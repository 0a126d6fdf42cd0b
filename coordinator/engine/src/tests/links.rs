//! Control links: what is sent to whom.

use super::scene::{Scene, web_to_db};
use crate::CloseReason;
use bulkhead_identity::Epoch;
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::control::{Endpoint, ToCoordinator, ToNode};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn kinds(messages: &[ToNode]) -> Vec<&'static str> {
    let kind = |message: &ToNode| match message {
        ToNode::Welcome { .. } => "welcome",
        ToNode::Trust { .. } => "trust",
        ToNode::Policy { .. } => "policy",
        ToNode::Revocations { .. } => "revocations",
        ToNode::Map(_) => "map",
        ToNode::RenewChallenge { .. } => "challenge",
        ToNode::Certificate { .. } => "certificate",
        ToNode::Refused { .. } => "refused",
        ToNode::WantFlows { .. } => "flows",
        ToNode::Offloads { .. } => "offloads",
    };
    messages.iter().map(kind).collect()
}

#[test]
fn a_node_is_sent_what_is_newer_than_what_it_holds_and_always_its_slice_and_map() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (web, gone) = (scene.node("web", "role=web"), scene.node("gone", ""));
    scene.revoke(&gone);
    let empty = scene.online(&web);
    assert_eq!(kinds(&scene.inbox[&empty]), ["welcome", "revocations", "policy", "map"]);
    let full = scene.connect(&web);
    scene.hello(full, 1, 1);
    assert_eq!(kinds(&scene.inbox[&full]), ["welcome", "policy", "map"]);
    assert_eq!(scene.closed, [(empty, CloseReason::Replaced)]);
}

#[test]
fn only_those_who_may_ever_talk_see_each_other() {
    let mut scene = Scene::new();
    let machines = [("db", "role=db"), ("other", ""), ("web", "role=web")]
        .map(|(name, labels)| scene.node(name, labels));
    let links = machines.each_ref().map(|machine| scene.online(machine));
    assert!(links.iter().all(|link| scene.peers(*link).is_empty()));
    scene.apply(web_to_db());
    let seen = links.map(|link| scene.peers(link));
    assert_eq!(
        seen,
        [BTreeSet::from(["web".to_owned()]), BTreeSet::new(), BTreeSet::from(["db".to_owned()])]
    );
}

#[test]
fn a_second_link_of_a_node_replaces_the_first_and_outlives_it() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    let (first, second) = (scene.online(&web), scene.online(&web));
    assert_eq!(scene.closed, [(first, CloseReason::Replaced)]);
    scene.handle(crate::Command::Disconnected { connection: first });
    scene.say(second, ToCoordinator::WantSnapshot);
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert_eq!(kinds(&scene.inbox[&second]), ["welcome", "map", "map"]);
}

#[test]
fn manners_are_kept() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    let rude = scene.connect(&web);
    scene.say(rude, ToCoordinator::WantSnapshot);
    let twice = scene.online(&web);
    scene.hello(twice, 0, 0);
    let old = scene.connect(&web);
    let hello = ToCoordinator::Hello {
        protocol: PROTOCOL_VERSION + 1,
        trust_version: Epoch(1),
        generation: bulkhead_identity::Generation(0),
        epoch: Epoch(0),
        wireguard_port: 1,
        endpoints: Vec::new(),
        software: String::new(),
    };
    scene.say(old, hello);
    let reasons: Vec<_> = scene.closed.iter().map(|(_, reason)| reason.code()).collect();
    assert_eq!(reasons, [5, 5, 4]);
}

#[test]
fn endpoints_that_would_turn_peers_against_themselves_are_dropped() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    let hostile = [
        "127.0.0.1:1",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "169.254.169.254:80",
        "100.64.0.10:1",
        "[::1]:1",
        "[::]:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "[::ffff:127.0.0.1]:1",
        "192.0.2.1:0",
    ];
    let honest = "192.0.2.1:51820";
    let endpoints = hostile.iter().chain([&honest]).map(|text| Endpoint(text.parse().unwrap())).collect();
    scene.say(web_link, ToCoordinator::Endpoints { wireguard_port: 51820, endpoints });
    scene.wait(Duration::from_secs(1));
    scene.tick();
    let seen: Vec<_> =
        scene.map(db_link).peers[&web.name].endpoints.iter().map(|e| e.0.to_string()).collect();
    assert_eq!(seen, ["198.51.100.7:51820", honest]);
}

#[test]
fn many_changes_reach_a_map_in_few_updates() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    scene.wait(Duration::from_secs(1));
    scene.tick();
    scene.wait(Duration::from_secs(1));
    let before = scene.inbox[&db_link].len();
    for port in 1..100 {
        scene.say(web_link, ToCoordinator::Endpoints { wireguard_port: port, endpoints: Vec::new() });
    }
    assert_eq!(scene.inbox[&db_link].len(), before + 1);
    assert!(scene.coordinator.next_timeout() <= scene.now.mono + Duration::from_millis(50));
    scene.wait(Duration::from_millis(50));
    scene.tick();
    assert_eq!(scene.map(db_link).peers[&web.name].endpoints[0].0.port(), 99);
}
