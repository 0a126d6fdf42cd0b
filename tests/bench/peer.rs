//! boringtun-cli as its users run it, configured over its unix socket (the WireGuard cross-platform interface).

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bulkhead_identity::TunnelKey;
use bulkhead_tests::{Lab, Namespace, Process, until};

/// Two hosts joined by boringtun-cli.
pub(crate) struct Pair {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    _daemons: [Process; 2],
}

const LEFT: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 2);

impl Pair {
    pub(crate) fn start(lab: &Lab, program: &Path) -> Self {
        let (left, right) = (lab.host("left").unwrap(), lab.host("right").unwrap());
        // Interface names are also socket names under /var/run/wireguard: unique on the host.
        let names = [format!("bt{}l", std::process::id()), format!("bt{}r", std::process::id())];
        let keys = [key(1), key(2)];
        let publics = [keys[0].public(), keys[1].public()];
        let mut daemons = Vec::new();
        for (i, host) in [&left, &right].into_iter().enumerate() {
            let mut command = host.command(program);
            command.args(["--foreground", "--disable-drop-privileges", &names[i]]);
            daemons.push(Process::start(&mut command, &lab.folder().join(format!("peer-{i}.log"))).unwrap());
            let socket = format!("/var/run/wireguard/{}.sock", names[i]);
            until("boringtun-cli answers", Duration::from_secs(10), || UnixStream::connect(&socket).is_ok());
            let other = 1 - i;
            let (their_host, allowed) = if i == 0 { (&right, RIGHT) } else { (&left, LEFT) };
            let text = format!(
                "set=1\nprivate_key={}\nlisten_port=51821\npublic_key={}\nendpoint={}:51821\nallowed_ip={allowed}/32\n\n",
                hex(&*keys[i].to_bytes()),
                hex(publics[other].as_bytes()),
                their_host.v4,
            );
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = [0; 64];
            let n = stream.read(&mut answer).unwrap();
            assert!(answer[..n].starts_with(b"errno=0"), "{}", String::from_utf8_lossy(&answer[..n]));
            let mine = if i == 0 { LEFT } else { RIGHT };
            host.ip(&["addr", "add", &format!("{mine}/24"), "dev", &names[i]]).unwrap();
            host.ip(&["link", "set", &names[i], "mtu", "1420", "up"]).unwrap();
        }
        until("the peer's tunnel stands", Duration::from_secs(10), || {
            left.run("ping", &["-c1", "-W1", &RIGHT.to_string()]).unwrap().ok()
        });
        let daemons = <[Process; 2]>::try_from(daemons).unwrap();
        Self { left, right, _daemons: daemons }
    }

    pub(crate) fn right_overlay(&self) -> Ipv4Addr {
        RIGHT
    }
}

/// Any key will do: nothing secret passes.
fn key(seed: u8) -> TunnelKey {
    TunnelKey::from_bytes(zeroize::Zeroizing::new([seed; 32]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
