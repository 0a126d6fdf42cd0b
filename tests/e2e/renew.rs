//! Certificates: renewed under load without loss, deadly when not, and renewed late after an outage.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_tests::{Node, until};

use crate::mesh::Mesh;
use crate::policy::{connect, echo_server, exchange};

/// A short lifetime, so that ten renewals fit into a test: the 60 s, renewed at half life.
const LIFETIME: &str = "60s";

/// For a test that waits for the end.
const SHORT_LIFETIME: &str = "30s";

fn serial(node: &Node) -> String {
    node.json(&["cert", "show"]).unwrap()["serial"].as_str().unwrap().to_owned()
}

/// Sends blocks until told to stop, and demands every byte back; returns how many.
pub(crate) fn bulk(mut stream: TcpStream, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut block, mut back) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut bytes = 0_usize;
        while !stop.load(Ordering::Relaxed) {
            block.fill(bytes.to_le_bytes()[2]);
            stream.write_all(&block).expect("the load lives through every renewal");
            stream.read_exact(&mut back).expect("the load lives through every renewal");
            assert_eq!(block, back);
            bytes += block.len();
            // Some megabytes a second: load, without starving the tests beside this one.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        bytes
    })
}

#[test]
fn ten_renewals_lose_nothing_of_a_live_connection() {
    let mesh = Mesh::start_with(&["--certificate-lifetime", LIFETIME]);
    echo_server(&mesh.db, 5432);
    let mut stream = connect(&mesh.web, SocketAddr::from((mesh.db.v4(), 5432))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let load = bulk(connect(&mesh.web, SocketAddr::from((mesh.db.v4(), 5432))).unwrap(), stop.clone());
    let mut seen = vec![serial(&mesh.web)];
    let mut peer_seen = vec![serial(&mesh.db)];
    until("both ends have renewed ten times", Duration::from_secs(600), || {
        exchange(&mut stream).expect("the connection lives through every renewal");
        for (node, seen) in [(&mesh.web, &mut seen), (&mesh.db, &mut peer_seen)] {
            let now = serial(node);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        seen.len() > 10 && peer_seen.len() > 10
    });
    stop.store(true, Ordering::Relaxed);
    let bytes = load.join().unwrap();
    assert!(bytes > 100 << 20, "{bytes} bytes went through beside the renewals");
}

#[test]
fn l16_without_renewal_the_peers_stop_at_expiry() {
    let mut mesh = Mesh::start_with(&["--certificate-lifetime", LIFETIME]);
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    exchange(&mut connect(&mesh.web, address).unwrap()).unwrap();
    // Renewal is blocked: the coordinator is gone.
    mesh.coordinator.kill();
    let mut stream = connect(&mesh.web, address).unwrap();
    until("the connection ends at certificate expiry", Duration::from_secs(90), || {
        exchange(&mut stream).is_err()
    });
    assert!(connect(&mesh.web, address).is_err());
    let before = echo_requests(&mesh.db);
    let _ = mesh.web.host.run("ping", &["-c3", "-W1", "-i0.2", &mesh.db.v4().to_string()]);
    assert_eq!(echo_requests(&mesh.db), before);
}

#[test]
fn an_outage_longer_than_the_certificates_costs_no_enrolment() {
    let mut mesh = Mesh::start_with(&["--certificate-lifetime", SHORT_LIFETIME]);
    echo_server(&mesh.db, 5432);
    let address = SocketAddr::from((mesh.db.v4(), 5432));
    let mut stream = connect(&mesh.web, address).unwrap();
    exchange(&mut stream).unwrap();
    mesh.coordinator.kill();
    until("the connection ends at certificate expiry", Duration::from_secs(120), || {
        exchange(&mut stream).is_err()
    });
    // A node that starts again in the outage is no worse off.
    mesh.web.kill();
    mesh.web.start().unwrap();
    for node in [&mesh.web, &mesh.db] {
        // Whichever ended first ended the connection; an ended certificate is shown with an exit code.
        until("the certificate has ended", Duration::from_secs(120), || {
            node.json(&["cert", "show"]).is_err()
        });
    }
    assert!(connect(&mesh.web, address).is_err());

    mesh.coordinator.serve().unwrap();
    until("the pair talks again", Duration::from_secs(120), || {
        connect(&mesh.web, address).is_ok_and(|mut stream| exchange(&mut stream).is_ok())
    });
    // Valid again, under the names they had.
    for node in [&mesh.web, &mesh.db] {
        serial(node);
    }
}

/// Echo requests that a node's kernel has received. (The interface's own counter also holds the resets with which
/// the daemon answers its own host.)
fn echo_requests(node: &Node) -> u64 {
    let table = node.host.run("cat", &["/proc/net/snmp"]).unwrap().success().unwrap();
    let mut rows = table.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.split_whitespace().position(|name| name == "InEchos").unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}
