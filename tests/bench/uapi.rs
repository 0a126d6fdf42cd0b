//! wireguard-go, boringtun-cli and gotatun as their users run them, configured over their unix socket (the
//! WireGuard cross-platform interface).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_identity::TunnelKey;
use bulkhead_tests::{Lab, Namespace, Process, until};

use crate::system::{Daemon, INNER_MTU, OVERLAY};

const PORT: u16 = 51821;
const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts a daemon in each host and waits until the tunnel between them stands.
pub(crate) fn join(
    lab: &Lab,
    hosts: &[Namespace; 2],
    program: &Path,
    environment: &[(&str, &str)],
) -> Vec<Daemon> {
    let keys = [key(1), key(2)];
    let publics = [keys[0].public(), keys[1].public()];
    let mut daemons = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
        let other = 1 - i;
        // Interface names are also socket names under /var/run/wireguard: unique on the machine.
        let interface = format!("wg{}{i}", lab.id());
        let mut command = host.command(program);
        command.arg("--foreground").envs(environment.iter().copied()).arg(&interface);
        if !program.ends_with("wireguard-go") {
            // Dropping them is refused to a root that came without sudo; both ends are in a lab of their own.
            command.env("WG_SUDO", "true");
        }
        let log = lab.folder().join(format!("peer-{i}.log"));
        let mut daemon = Process::start(&mut command, &log).unwrap();
        let socket = PathBuf::from(format!("/var/run/wireguard/{interface}.sock"));
        until("the daemon answers", START_LIMIT, || {
            assert!(daemon.running(), "{} ended:\n{}", program.display(), daemon.log());
            UnixStream::connect(&socket).is_ok()
        });
        configure(
            &socket,
            &format!(
                "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={}:{PORT}\nallowed_ip={}/32\n\n",
                hex(&*keys[i].to_bytes()),
                hex(publics[other].as_bytes()),
                hosts[other].v4,
                OVERLAY[other],
            ),
        );
        daemons.push(Daemon { process: daemon, socket: Some(socket) });
        host.ip(&["addr", "add", &format!("{}/24", OVERLAY[i]), "dev", &interface]).unwrap();
        host.ip(&["link", "set", &interface, "mtu", INNER_MTU, "up"]).unwrap();
    }
    stands(hosts);
    daemons
}

/// Waits for the first answer through the tunnel.
pub(crate) fn stands(hosts: &[Namespace; 2]) {
    until("the peer's tunnel stands", START_LIMIT, || {
        hosts[0].run("ping", &["-c1", "-W1", &OVERLAY[1].to_string()]).unwrap().ok()
    });
}

fn configure(socket: &Path, text: &str) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = [0; 64];
    let n = stream.read(&mut answer).unwrap();
    assert!(answer[..n].starts_with(b"errno=0"), "{}", String::from_utf8_lossy(&answer[..n]));
}

/// Any key will do: nothing secret passes.
fn key(seed: u8) -> TunnelKey {
    TunnelKey::from_bytes(zeroize::Zeroizing::new([seed; 32]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
