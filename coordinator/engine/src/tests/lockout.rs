//! Nobody locks himself out unless he insists: who calls through the overlay, and control links that run through it.

use super::scene::{Machine, Scene, config, rule};
use crate::{Class, Config};
use bulkhead_acl::Sources;
use bulkhead_identity::NodeName;
use bulkhead_protocol::admin::{Overrides, PolicyText};
use std::net::{IpAddr, SocketAddr};

/// A coordinator on the node `hub`.
fn on_hub() -> Config {
    Config { node: Some(NodeName::parse("hub").unwrap()), ..config() }
}

/// Who may reach the hub, and on what.
fn open_to(from: &str, ports: &str) -> Sources {
    let mut sources = rule("way-in", from, "role=hub", "");
    sources.0.values_mut().for_each(|text| *text = text.replace("\"tcp/5432\"", ports));
    sources
}

const BOTH: &str = "\"tcp/8443\", \"udp/8443\"";

fn text(sources: Sources) -> PolicyText {
    PolicyText { sources, ..PolicyText::default() }
}

impl Scene {
    fn address(&self, machine: &Machine) -> IpAddr {
        IpAddr::V4(self.coordinator.state().nodes[&machine.name].addresses.v4)
    }
}

/// A hub, and a laptop that may reach it.
fn scene() -> (Scene, Machine) {
    let mut scene = Scene::of(on_hub);
    scene.node("hub", "role=hub");
    let laptop = scene.node("laptop", "role=admin");
    scene.apply(open_to("role=admin", BOTH));
    (scene, laptop)
}

#[test]
fn who_calls_through_the_overlay_keeps_the_way_or_insists() {
    let (mut scene, laptop) = scene();
    let source = Some(scene.address(&laptop));
    let closed = || text(open_to("role=other", BOTH));
    let refusal = scene.propose_from(source, closed()).unwrap_err();
    assert_eq!((refusal.class, refusal.code), (Class::Conflict, "BH-C159"));
    assert!(refusal.message.contains("root:0 from laptop to hub on tcp/8443"), "{}", refusal.message);
    assert!(refusal.help.as_ref().unwrap().contains("--allow-lockout"));
    assert_eq!(scene.policy().generation, 1);

    // Who calls from elsewhere, or over the socket, loses nothing.
    assert!(scene.propose_from(Some("192.0.2.1".parse().unwrap()), closed()).is_ok());
    // And a way that was closed before cannot be lost.
    assert!(scene.propose_from(source, text(rule("none", "role=a", "role=b", ""))).is_ok());
    scene.apply(open_to("role=admin", BOTH));
    let overrides = Overrides { lockout: true, ..Overrides::default() };
    assert!(scene.propose_from(source, PolicyText { overrides, ..closed() }).is_ok());
}

#[test]
fn a_way_that_ends_later_is_a_lost_way_and_the_refusal_says_when() {
    let (mut scene, laptop) = scene();
    let source = Some(scene.address(&laptop));
    let limited = |line: &str| {
        let mut sources = open_to("role=admin", BOTH);
        sources.0.values_mut().for_each(|text| text.push_str(line));
        text(sources)
    };
    let refusal = scene.propose_from(source, limited("\nuntil = 2099-01-01T00:00:00Z\n")).unwrap_err();
    assert_eq!(refusal.code, "BH-C159");
    assert!(refusal.message.contains("on tcp/8443 from 2099-01-01T00:00:00Z"), "{}", refusal.message);
    let refusal = scene.propose_from(source, limited("\nhours = \"Mon-Fri 06:00-22:00 UTC\"\n")).unwrap_err();
    assert_eq!(refusal.code, "BH-C159");

    // Who gives up nothing that there was loses nothing.
    let overrides = Overrides { lockout: true, ..Overrides::default() };
    let until = "\nuntil = 2099-01-01T00:00:00Z\n";
    assert!(scene.propose_from(source, PolicyText { overrides, ..limited(until) }).is_ok());
    let longer = limited("\nuntil = 2099-01-02T00:00:00Z\n");
    assert!(scene.propose_from(source, longer).is_ok());
}

#[test]
fn the_other_port_is_no_way_for_a_person() {
    let (mut scene, laptop) = scene();
    let source = Some(scene.address(&laptop));
    assert!(scene.propose_from(source, text(open_to("role=admin", "\"udp/8443\""))).is_err());
    assert!(scene.propose_from(source, text(open_to("role=admin", "\"tcp/8443\""))).is_ok());
}

#[test]
fn an_ipv6_caller_is_the_same_caller() {
    let (mut scene, laptop) = scene();
    let source = Some(IpAddr::V6(scene.coordinator.state().nodes[&laptop.name].addresses.v6));
    assert!(scene.propose_from(source, text(open_to("role=other", BOTH))).is_err());
}

#[test]
fn a_control_link_through_the_overlay_keeps_its_way() {
    let (mut scene, laptop) = scene();
    let observed = SocketAddr::new(scene.address(&laptop), 4000);
    let link = scene.connect_from(laptop.identity(&scene), observed);
    scene.hello(link, 0, 0);
    let closed = || text(open_to("role=admin", "\"tcp/8443\""));
    let refusal = scene.propose(closed()).unwrap_err();
    assert!(refusal.message.contains("the control link of laptop from laptop to hub on udp/8443"));
    let overrides = Overrides { lockout: true, ..Overrides::default() };
    assert!(scene.propose(PolicyText { overrides, ..closed() }).is_ok());
}

#[test]
fn a_control_link_from_outside_owes_its_way_to_no_policy() {
    let (mut scene, laptop) = scene();
    scene.online(&laptop);
    assert!(scene.propose(text(rule("none", "role=a", "role=b", ""))).is_ok());
}

#[test]
fn a_rollback_is_held_to_the_same() {
    let (mut scene, laptop) = scene();
    let observed = SocketAddr::new(scene.address(&laptop), 4000);
    let link = scene.connect_from(laptop.identity(&scene), observed);
    scene.hello(link, 0, 0);
    assert_eq!(scene.rollback(0).unwrap_err().code, "BH-C159");
    assert!(scene.rollback_all_the_same(0).is_ok());
}

#[test]
fn many_lost_ways_are_counted_not_listed() {
    let mut scene = Scene::of(on_hub);
    scene.node("hub", "role=hub");
    let many: Vec<_> = (0..12).map(|number| scene.node(&format!("n{number}"), "role=admin")).collect();
    scene.apply(open_to("role=admin", BOTH));
    for machine in &many {
        let observed = SocketAddr::new(scene.address(machine), 4000);
        let link = scene.connect_from(machine.identity(&scene), observed);
        scene.hello(link, 0, 0);
    }
    let refusal = scene.propose(text(Sources::default())).unwrap_err();
    assert_eq!(refusal.message.matches("the control link of").count(), 8);
    assert!(refusal.message.ends_with("and 4 more"), "{}", refusal.message);
}

#[test]
fn without_a_node_of_its_own_a_coordinator_cannot_tell_and_asks_for_the_override() {
    let mut scene = Scene::new();
    let laptop = scene.node("laptop", "role=admin");
    let source = Some(scene.address(&laptop));
    let refusal = scene.propose_from(source, text(Sources::default())).unwrap_err();
    assert!(refusal.message.contains("`node` in coordinator.toml"), "{}", refusal.message);
    let overrides = Overrides { lockout: true, ..Overrides::default() };
    assert!(scene.propose_from(source, PolicyText { overrides, ..text(Sources::default()) }).is_ok());
    assert!(scene.propose_from(Some("192.0.2.1".parse().unwrap()), text(Sources::default())).is_ok());
}

#[test]
fn nor_can_it_tell_what_becomes_of_control_links_that_come_through_the_overlay() {
    let mut scene = Scene::new();
    let laptop = scene.node("laptop", "role=admin");
    let link = scene.connect_from(laptop.identity(&scene), SocketAddr::new(scene.address(&laptop), 4000));
    scene.hello(link, 0, 0);
    let refusal = scene.propose(text(Sources::default())).unwrap_err();
    assert!(refusal.message.starts_with("the control link of laptop comes from"), "{}", refusal.message);
    let overrides = Overrides { lockout: true, ..Overrides::default() };
    assert!(scene.propose(PolicyText { overrides, ..text(Sources::default()) }).is_ok());
}

#[test]
fn a_node_of_its_own_that_is_not_enrolled_is_said() {
    let mut scene = Scene::of(on_hub);
    let laptop = scene.node("laptop", "role=admin");
    let source = Some(scene.address(&laptop));
    let refusal = scene.propose_from(source, text(Sources::default())).unwrap_err();
    assert!(refusal.message.contains("not an active node"));
    // Which does not keep the first policy from being applied on the spot.
    assert!(scene.propose(text(Sources::default())).is_ok());
}
