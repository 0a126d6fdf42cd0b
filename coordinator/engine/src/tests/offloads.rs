//! Offloads that are switched off from here.

use super::links::kinds;
use super::scene::{Scene, config, name, web_to_db};
use crate::{AdminCall, Class, Config, ConnectionId, Refusal, Reply};
use bulkhead_identity::NodeName;
use bulkhead_protocol::admin::{OffloadsOff, SwitchOffloads};
use bulkhead_protocol::control::ToNode;
use bulkhead_protocol::offload::{Offload, Offloads};

const GSO: Offloads = Offloads::NONE.with(Offload::UdpGso);
const GRO: Offloads = Offloads::NONE.with(Offload::TunGro);

fn switch(
    scene: &mut Scene,
    node: Option<&NodeName>,
    off: Offloads,
    on: Offloads,
) -> Result<OffloadsOff, Refusal> {
    match scene.admin(AdminCall::OffloadsSwitch(node.cloned(), SwitchOffloads { off, on }))? {
        Reply::Offloads(all) => Ok(all),
        _ => panic!("another reply"),
    }
}

/// What a node was told last.
fn heard(scene: &Scene, link: ConnectionId) -> Offloads {
    let word = |message: &ToNode| match message {
        ToNode::Welcome { offloads_off, .. } => Some(*offloads_off),
        ToNode::Offloads { off } => Some(*off),
        _ => None,
    };
    scene.inbox[&link].iter().rev().find_map(word).unwrap()
}

#[test]
fn a_switch_reaches_who_is_connected_at_once_and_the_others_as_they_connect() {
    let mut scene = Scene::new();
    let (web, db) = (scene.node("web", ""), scene.node("db", ""));
    let link = scene.online(&web);
    assert_eq!(heard(&scene, link), Offloads::NONE);
    let all = switch(&mut scene, None, GSO.union(GRO), Offloads::NONE).unwrap();
    assert_eq!(all, OffloadsOff { everywhere: GSO.union(GRO), ..OffloadsOff::default() });
    assert_eq!(heard(&scene, link), GSO.union(GRO));
    let late = scene.online(&db);
    assert_eq!(heard(&scene, late), GSO.union(GRO));
    switch(&mut scene, None, Offloads::NONE, GSO).unwrap();
    assert_eq!((heard(&scene, link), heard(&scene, late)), (GRO, GRO));
    let last = scene.journal.last().unwrap();
    assert_eq!(
        (last.actor.to_string().as_str(), last.audit().event.as_str()),
        ("root:0", "offloads_switched")
    );
    assert_eq!(last.audit().detail, serde_json::json!({ "node": null, "off": ["tun-gro"] }));
}

#[test]
fn a_switch_survives_a_restart_and_a_snapshot() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    switch(&mut scene, None, GSO, Offloads::NONE).unwrap();
    switch(&mut scene, Some(&web.name), GRO, Offloads::NONE).unwrap();
    let mut scene = scene.restarted(scene.journal.len());
    let link = scene.online(&web);
    assert_eq!(heard(&scene, link), GSO.union(GRO));
    let snapshot = minicbor::to_vec(scene.coordinator.state()).unwrap();
    assert_eq!(&minicbor::decode::<crate::State>(&snapshot).unwrap(), scene.coordinator.state());
}

#[test]
fn one_node_can_be_switched_alone() {
    let mut scene = Scene::new();
    let (web, db) = (scene.node("web", ""), scene.node("db", ""));
    let (web_link, db_link) = (scene.online(&web), scene.online(&db));
    let all = switch(&mut scene, Some(&web.name), GSO, Offloads::NONE).unwrap();
    assert_eq!(all.nodes.into_iter().collect::<Vec<_>>(), [("web".to_owned(), GSO)]);
    assert_eq!((heard(&scene, web_link), heard(&scene, db_link)), (GSO, Offloads::NONE));
    assert!(!kinds(&scene.inbox[&db_link]).contains(&"offloads"), "who is not concerned hears nothing");
    // Everybody's word and its own are one for a node.
    switch(&mut scene, None, GSO, Offloads::NONE).unwrap();
    switch(&mut scene, Some(&web.name), Offloads::NONE, GSO).unwrap();
    assert_eq!((heard(&scene, web_link), heard(&scene, db_link)), (GSO, GSO));
    assert_eq!(kinds(&scene.inbox[&web_link]).iter().filter(|kind| **kind == "offloads").count(), 1);
}

#[test]
fn the_configuration_switches_off_for_all_and_no_administrator_on() {
    let configured = || Config { offloads_off: GRO, ..config() };
    let mut scene = Scene::of(configured);
    let web = scene.node("web", "");
    let link = scene.online(&web);
    assert_eq!(heard(&scene, link), GRO);
    let events = scene.journal.len();
    let all = switch(&mut scene, None, Offloads::NONE, GRO).unwrap();
    assert_eq!((all.configured, scene.journal.len()), (GRO, events), "nothing changed, nothing is written");
    assert_eq!(heard(&scene, link), GRO);
}

#[test]
fn a_switch_that_makes_no_sense_is_refused() {
    let mut scene = Scene::new();
    assert_eq!(switch(&mut scene, None, GSO.union(GRO), GSO).unwrap_err().class, Class::BadRequest);
    assert_eq!(switch(&mut scene, Some(&name("web")), GSO, GRO).unwrap_err().class, Class::NotFound);
    let web = scene.node("web", "");
    scene.apply(web_to_db());
    scene.revoke(&web);
    assert_eq!(switch(&mut scene, Some(&web.name), GSO, GRO).unwrap_err().class, Class::Conflict);
}
