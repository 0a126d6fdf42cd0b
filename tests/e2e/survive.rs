//! Losing the coordinator stops changes, not traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bulkhead_tests::{SOON, until};

use crate::mesh::Mesh;
use crate::policy::{connect, echo_server, exchange};

#[test]
fn nodes_go_on_and_restart_without_a_coordinator() {
    let mut mesh = Mesh::start();
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    let mut stream = connect(&mesh.web, address).unwrap();
    exchange(&mut stream).unwrap();

    mesh.coordinator.kill();
    exchange(&mut stream).expect("traffic goes on");
    drop(stream);

    for node in [&mut mesh.web, &mut mesh.db, &mut mesh.metrics, &mut mesh.intruder] {
        node.kill();
    }
    for node in [&mut mesh.web, &mut mesh.db, &mut mesh.metrics, &mut mesh.intruder] {
        node.start().unwrap();
    }
    let up = Instant::now();
    let mut again = None;
    until("permitted pairs talk again from the cached state", SOON, || {
        again = connect(&mesh.web, address).ok();
        again.is_some()
    });
    eprintln!("first connection {:?} after the last daemon was up", up.elapsed());
    exchange(again.as_mut().unwrap()).unwrap();
    assert!(connect(&mesh.metrics, address).is_err(), "unpermitted pairs stay apart");
    assert!(connect(&mesh.intruder, address).is_err(), "unpermitted pairs stay apart");

    mesh.coordinator.serve().unwrap();
    for node in [&mesh.web, &mesh.db, &mesh.metrics, &mesh.intruder] {
        until(&format!("{} reconnects", node.name), Duration::from_secs(60), || {
            node.json(&["status"]).is_ok_and(|s| s["coordinator"]["connected"] == true)
        });
    }
    // Converged: a change made now reaches everyone.
    mesh.coordinator.apply("version = 1\n").unwrap();
    until("the change is in force", SOON, || connect(&mesh.web, address).is_err());
}

#[test]
fn e9_a_killed_daemon_leaves_nothing_that_its_next_start_does_not_repair() {
    let mut mesh = Mesh::start();
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    for _ in 0..3 {
        mesh.web.kill();
        mesh.web.start().unwrap();
        until("web talks again", SOON, || connect(&mesh.web, address).is_ok());
    }
    let links = mesh.web.host.ip(&["-o", "link"]).unwrap();
    assert_eq!(links.matches("bulkhead0").count(), 1, "{links}");
}

#[test]
fn a13_nothing_leaves_in_clear_text_when_the_tunnel_is_down() {
    let mut mesh = Mesh::start();
    let db = mesh.db.v4().to_string();
    // A default route, so that a packet that misses the tunnel would have somewhere to leak to.
    let hub = mesh.coordinator.host.v4.to_string();
    mesh.web.host.ip(&["route", "add", "default", "via", &hub]).unwrap();
    for how in ["stop", "kill"] {
        if how == "stop" {
            mesh.web.stop()
        } else {
            mesh.web.kill()
        }
        let route = mesh.web.host.run("ip", &["route", "get", &db]).unwrap();
        assert!(!route.stdout.contains("eth0"), "after {how}, {db} would leave by: {route:?}");
        mesh.web.start().unwrap();
    }
}

#[test]
fn leave_removes_the_node_everywhere_and_its_state() {
    let mut mesh = Mesh::start();
    mesh.web.cli(&["leave", "--yes"]).unwrap().success().unwrap();
    assert!(!mesh.web.state().join("identity.key").exists());
    until("the daemon ends", SOON, || !mesh.web.process().running());
    until("db forgets it", SOON, || mesh.db.peers().is_ok_and(|p| !p.contains(&"web".to_owned())));
}
