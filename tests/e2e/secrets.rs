//! On the host: no secret in a log, no listener, closed files, and garbage at every port.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bulkhead_tests::stored::{Stored, stored};
use bulkhead_tests::{Coordinator, Lab, Node, SOON, until};

use crate::mesh::{Mesh, POLICY};

#[test]
fn e4_nothing_in_a_state_directory_is_for_others() {
    let mesh = Mesh::start();
    for folder in [mesh.coordinator.state(), mesh.web.state()] {
        let found = stored(&folder);
        assert!(found.len() > 4, "{found:?}");
        for Stored { path, mode, .. } in found {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&mesh.coordinator.socket()), 0o600);
    assert_eq!(mode(&mesh.web.socket()) & 0o007, 0, "the node's socket is not for others");
}

#[test]
fn e2_another_user_can_neither_read_nor_change_anything() {
    let mesh = Mesh::start();
    for (program, socket, args) in [
        ("bulkhead", mesh.web.socket(), &["status"][..]),
        ("bulkhead", mesh.web.socket(), &["down"]),
        ("bulkheadctl", mesh.coordinator.socket(), &["node", "list"]),
    ] {
        let mut command = mesh.web.host.command("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        command.arg(bulkhead_tests::program(program)).arg("--socket").arg(&socket).args(args);
        let output = bulkhead_tests::process::run(&mut command, Duration::from_secs(30)).unwrap();
        assert!(!output.ok(), "{program} {args:?}: {output:?}");
    }
    assert!(mesh.web.cli(&["status"]).unwrap().ok(), "and root still can");
}

#[test]
fn e1_a_node_has_no_tcp_listener() {
    let mesh = Mesh::start();
    let listeners = mesh.web.host.run("ss", &["-Hltn"]).unwrap().success().unwrap();
    assert_eq!(listeners.trim(), "", "{listeners}");
}

/// The raw bytes of a private key file, and their base64, that must be nowhere else.
fn canaries(state: &Path, files: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for file in files {
        let bytes = std::fs::read(state.join(file)).unwrap();
        let tail = bytes[bytes.len() - 32..].to_vec();
        found.push(tail.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
        found.push(tail);
    }
    found
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn e5_no_secret_appears_in_a_log_at_trace() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &["--log", "trace"]).unwrap();
    let token_file = coordinator.token("web", &["role=web"]).unwrap();
    let token = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
    let mut web = Node::prepare(&lab, "web").unwrap();
    web.start_with(&["--log", "trace", "--token-file", &token_file.to_string_lossy()]).unwrap();
    web.wait_connected();
    let db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();
    coordinator.apply(POLICY).unwrap();
    until("web knows db", SOON, || web.peers().is_ok_and(|p| p == ["db"]));
    let _ = web.host.run("ping", &["-c3", "-i0.2", &db.v4().to_string()]).unwrap();

    let bootstrap = std::fs::read_to_string(coordinator.state().join("bootstrap-token")).unwrap();
    let mut secrets = canaries(&coordinator.state(), &["issuer.key", "policy.key", "identity.key"]);
    secrets.extend(canaries(&web.state(), &["identity.key", "tunnel.key"]));
    secrets.push(token.split('.').nth(1).unwrap().as_bytes().to_vec());
    secrets.push(bootstrap.trim().split('.').nth(1).unwrap().as_bytes().to_vec());
    let logs = [coordinator.log(), web.log()];
    for log in &logs {
        assert!(
            log.contains("TRACE") || log.contains("DEBUG"),
            "the log is not verbose enough to prove anything"
        );
        for secret in &secrets {
            assert!(!contains(log.as_bytes(), secret), "a secret is in the log");
        }
    }
    for pid in [coordinator.process().id(), web.process().id()] {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            for secret in &secrets {
                assert!(!contains(&text, secret), "a secret is in /proc/{pid}/{file}");
            }
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "core dumps are off: {core}");
    }
}

#[test]
fn a11_garbage_at_every_port_harms_nobody() {
    let mut mesh = Mesh::start();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: usize| -> Vec<u8> {
        let mut step = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise
        };
        let length = usize::try_from(step()).unwrap_or(0) % limit;
        (0..length).map(|_| step().to_le_bytes()[3]).collect()
    };
    let strings: Vec<Vec<u8>> = (0..1000).map(|_| random(1400)).collect();
    let wireguard = SocketAddr::from((mesh.web.host.v4, 51820));
    let control = SocketAddr::from((mesh.coordinator.host.v4, 8443));
    mesh.intruder
        .host
        .inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for (i, bytes) in strings.iter().enumerate() {
                // Every fourth looks like WireGuard: a message type and the right length of an initiation.
                let mut bytes = bytes.clone();
                if i % 4 == 0 {
                    bytes.resize(148, 7);
                    bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
                }
                socket.send_to(&bytes, wireguard).unwrap();
                socket.send_to(&bytes, control).unwrap();
            }
            for bytes in &strings {
                let mut stream = TcpStream::connect_timeout(&control, Duration::from_secs(10)).unwrap();
                // The server may well close before everything is written.
                let _ = stream.write_all(bytes);
            }
        })
        .unwrap();
    assert!(mesh.web.process().running() && mesh.coordinator.process().running());
    mesh.coordinator.ctl(&["node", "list"]).unwrap().success().unwrap();
    until("traffic goes on", SOON, || {
        mesh.web.host.run("ping", &["-c1", "-W3", &mesh.db.v4().to_string()]).unwrap().ok()
    });
    // Local sockets too.
    for socket in [mesh.web.socket(), mesh.coordinator.socket()] {
        for bytes in &strings {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let _ = stream.write_all(bytes);
        }
    }
    // Both close what they do not understand; a full table of connections empties by itself.
    until("the node still answers", SOON, || mesh.web.cli(&["status"]).unwrap().ok());
    until("the coordinator still answers", SOON, || mesh.coordinator.ctl(&["node", "list"]).unwrap().ok());
}
