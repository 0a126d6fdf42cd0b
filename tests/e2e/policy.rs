//! Changing policy under live traffic, and refusing a policy that is wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bulkhead_tests::{Node, SOON, until};

use crate::mesh::{Mesh, POLICY};

/// A TCP server in `host` that sends back what it hears, on every connection, until the lab ends.
pub(crate) fn echo_server(node: &Node, port: u16) {
    let listener = node.host.inside(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n) = stream.read(&mut buffer) {
                    if n == 0 || stream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A connection from `node`, with a deadline on every read and write.
pub(crate) fn connect(node: &Node, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = node.host.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends a line and hears it back.
pub(crate) fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello through the bulkhead")?;
    let mut buffer = [0; 26];
    stream.read_exact(&mut buffer)
}

fn without_web_to_db() -> String {
    POLICY
        .replace("ports = [\"tcp/5432\", \"tcp/80\", \"udp/7000\", \"icmp\"]", "ports = [\"udp/7000\"]")
        .replace("allow = [\"tcp/5432\"]", "allow = [\"udp/7000\"]")
}

#[test]
fn l11_a_removed_rule_ends_a_live_connection_and_adding_it_back_works() {
    let mesh = Mesh::start();
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    let mut stream = connect(&mesh.web, address).unwrap();
    exchange(&mut stream).unwrap();
    assert!(flows(&mesh.web).contains("5432") && flows(&mesh.db).contains("5432"));

    let applied = Instant::now();
    mesh.coordinator.apply(&without_web_to_db()).unwrap();
    // The client blocks in a read: the reset must come to it without its help.
    let mut byte = [0];
    let ended = stream.read(&mut byte);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset, "the client sees a reset");
    eprintln!("reset {:?} after `policy apply --wait` was started", applied.elapsed());
    for node in [&mesh.web, &mesh.db] {
        assert!(!flows(node).contains("5432"), "the flow is gone at {}", node.name);
    }
    assert!(connect(&mesh.web, address).is_err(), "a new connection is refused");

    mesh.coordinator.apply(POLICY).unwrap();
    let mut again = connect(&mesh.web, address).expect("adding the rule back needs no restart");
    exchange(&mut again).unwrap();
}

/// The flow table of a node, as text.
fn flows(node: &Node) -> String {
    node.json(&["flows"]).unwrap()["flows"].to_string()
}

#[test]
fn a_policy_with_errors_changes_nothing_and_prints_every_position() {
    let mesh = Mesh::start();
    let before = mesh.coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"].clone();
    let bad = POLICY
        .replace(
            "from = \"role=web\"\nto = \"role=db\"\nports",
            "from = \"role=wbe\"\nto = \"role=db\"\nports",
        )
        .replace("\"tcp/9100\"", "\"tcp/91000\"");
    let folder = mesh.coordinator.write_policy(&bad).unwrap();
    for verb in ["check", "apply"] {
        let output = mesh.coordinator.ctl(&["policy", verb, &folder.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 4, "{output:?}");
        let text = format!("{}{}", output.stdout, output.stderr);
        for wanted in ["main.toml:9:", "main.toml:18:", "wbe", "web", "91000"] {
            assert!(text.contains(wanted), "{wanted} is not in: {text}");
        }
    }
    assert_eq!(mesh.coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"], before);
    echo_server(&mesh.db, 5432);
    exchange(&mut connect(&mesh.web, (mesh.db.v4(), 5432).into()).unwrap()).unwrap();
}

#[test]
fn a_policy_whose_own_tests_fail_is_refused() {
    let mesh = Mesh::start();
    let folder =
        mesh.coordinator.write_policy(&POLICY.replace("deny = [\"tcp/22\"]", "deny = [\"tcp/80\"]")).unwrap();
    let output = mesh.coordinator.ctl(&["policy", "apply", &folder.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 4, "{output:?}");
    assert!(output.stderr.contains("web reaches db, the intruder does not"), "{output:?}");
}

#[test]
fn an_edit_from_a_stale_generation_is_refused() {
    let mesh = Mesh::start();
    let folder = mesh.coordinator.write_policy(POLICY).unwrap();
    let output =
        mesh.coordinator.ctl(&["policy", "apply", &folder.to_string_lossy(), "--base", "0"]).unwrap();
    assert_eq!(output.code, 5, "{output:?}");
    assert!(output.stderr.contains("generation"), "{output:?}");
}

#[test]
fn rollback_restores_what_was_permitted() {
    let mesh = Mesh::start();
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    let good = mesh.coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"].to_string();
    mesh.coordinator.apply(&without_web_to_db()).unwrap();
    assert!(connect(&mesh.web, address).is_err());
    mesh.coordinator.ctl(&["policy", "rollback", &good, "--yes"]).unwrap().success().unwrap();
    until("the old policy is in force again", SOON, || connect(&mesh.web, address).is_ok());
    let history = mesh.coordinator.ctl_json(&["policy", "history"]).unwrap();
    assert_eq!(history["entries"].as_array().unwrap().len(), 3);
}

#[test]
fn an_empty_policy_permits_nobody() {
    let mesh = Mesh::start();
    mesh.coordinator.apply("version = 1\n").unwrap();
    for node in [&mesh.web, &mesh.db, &mesh.metrics] {
        until(&format!("{} has no peers", node.name), SOON, || node.peers().is_ok_and(|p| p.is_empty()));
    }
}
