//! Offloads switched off: by whom, on which nodes, and for how long.

use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, SOON, until};
use serde_json::json;

/// How a node says that an offload stands.
fn state(node: &Node, offload: &str) -> String {
    let status = node.json(&["status"]).unwrap();
    let offloads = status["node"]["offloads"].as_array().unwrap();
    let found = offloads.iter().find(|one| one["name"] == offload).expect("status names every offload");
    found["state"].as_str().unwrap().to_owned()
}

/// It may be on or not supported here: nobody has switched it off.
fn by_nobody(state: &str) -> bool {
    ["on", "not_supported", "failed"].contains(&state)
}

#[test]
fn a_switch_takes_effect_at_once_and_is_kept_while_the_coordinator_is_away() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &["--offloads-off", "tun-gro"]).unwrap();
    let mut web = Node::enrol(&lab, &coordinator, "web", &[]).unwrap();
    let mut db = Node::enrol(&lab, &coordinator, "db", &[]).unwrap();
    web.stop();
    web.start_with(&["--offloads-off", "tun-tso"]).unwrap();
    web.wait_connected();
    assert_eq!(state(&web, "tun-tso"), "off_by_configuration");
    until("the coordinator's configuration is heard", SOON, || {
        [&web, &db].iter().all(|node| state(node, "tun-gro") == "off_by_coordinator")
    });
    assert!(by_nobody(&state(&db, "tun-tso")) && by_nobody(&state(&web, "udp-gso")));

    let shown = coordinator.ctl_json(&["node", "offloads", "--off", "udp-gso"]).unwrap();
    assert_eq!(shown["everywhere"], json!(["udp-gso"]));
    coordinator.ctl_json(&["node", "offloads", "--off", "udp-gro", "--node", "db"]).unwrap();
    until("both have heard what concerns them", SOON, || {
        [&web, &db].iter().all(|node| state(node, "udp-gso") == "off_by_coordinator")
            && state(&db, "udp-gro") == "off_by_coordinator"
    });
    assert!(by_nobody(&state(&web, "udp-gro")));
    let text = db.cli(&["status"]).unwrap().success().unwrap();
    assert!(text.contains("udp-gso (by the coordinator)"), "{text}");

    coordinator.kill();
    db.kill();
    db.start().unwrap();
    assert_eq!(state(&db, "udp-gro"), "off_by_coordinator", "the last word holds without the coordinator");

    coordinator.serve().unwrap();
    coordinator.ctl_json(&["node", "offloads", "--on", "udp-gso"]).unwrap();
    until("it is taken back", Duration::from_secs(30), || {
        [&web, &db].iter().all(|node| by_nobody(&state(node, "udp-gso")))
    });
    assert_eq!(state(&db, "udp-gro"), "off_by_coordinator");
}
