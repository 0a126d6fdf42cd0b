//! `doctor`: everything that is wrong on this host, each with its remedy; works without a daemon, too.
//!
//! Each check looks at what is, not at what the configuration says: it asks the kernel for a route, the resolver
//! for a name, the file system for a mode.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use bulkhead_identity::OverlayAddrs;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde::Serialize;

use super::{Context, Exit, status};
use crate::config::{Config, Partial};
use crate::local::wire::{OffloadView, Status};
use crate::names::resolv;
use crate::packets::offload::Position;

/// How long the resolver may take.
const RESOLVER: Duration = Duration::from_secs(2);
/// The lines of /proc that are searched are shorter than this together.
const MAX_PROC_BYTES: u64 = 16 * 1024 * 1024;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    message: String,
    remedy: Option<String>,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Findings {
    schema: &'static str,
    ok: bool,
    findings: Vec<Finding>,
}

impl Finding {
    fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, ok: true, message: message.into(), remedy: None }
    }

    fn bad(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, ok: false, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at everything.
pub(super) fn doctor(context: &Context) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    match context.config(Partial::default()) {
        Ok(config) => {
            findings.push(Finding::good("configuration", "understood"));
            examine(context, &config, &mut findings);
        }
        Err(error) => {
            let remedy = "correct it; `bulkhead daemon --print-default-config` shows every key";
            findings.push(Finding::bad("configuration", format!("{:#}", anyhow::Error::from(error)), remedy));
        }
    }
    let ok = findings.iter().all(|finding| finding.ok);
    show(context, Findings { schema: "bulkhead.doctor/1", ok, findings })?;
    Ok(if ok { Exit::Ok } else { Exit::Checks })
}

fn show(context: &Context, all: Findings) -> anyhow::Result<()> {
    if context.screen.wants_json() {
        return Ok(context.screen.json(&all)?);
    }
    let mut rows = Vec::new();
    for finding in all.findings {
        let mark = if finding.ok { "ok" } else { "WRONG" };
        // A configuration's problems come one per line.
        for (at, line) in finding.message.lines().enumerate() {
            let lead = if at == 0 { [mark, finding.check] } else { ["", ""] };
            rows.push(vec![lead[0].to_owned(), lead[1].to_owned(), line.to_owned()]);
        }
        rows.extend(finding.remedy.map(|remedy| vec![String::new(), String::new(), format!("-> {remedy}")]));
    }
    Ok(context.screen.rows(&rows)?)
}

fn examine(context: &Context, config: &Config, findings: &mut Vec<Finding>) {
    findings.extend(state_files(&config.state));
    let status = match status::fetch(context, true) {
        Ok(status) => status,
        Err(error) => {
            let remedy = "start it: `bulkhead up`, or `systemctl start bulkhead`";
            findings.push(Finding::bad("daemon", format!("{error:#}"), remedy));
            return;
        }
    };
    findings.push(Finding::good("daemon", format!("answers on {}", config.socket.display())));
    findings.push(interface(&status.node.interface));
    if let Some(own) = status.node.addresses {
        findings.extend(routes(own, &status.node.interface));
        findings.push(leak_stop(status.node.overlay_v4));
    }
    for resolver in &status.node.resolvers {
        findings.push(ask_resolver(*resolver, &status));
    }
    findings.push(resolv_conf(&status));
    findings.extend(status.node.offloads.iter().map(offload));
    findings.extend(links(&status));
}

/// Coordinator, certificate, clock and peers: the daemon's own warnings, or that there are none.
fn links(status: &Status) -> Vec<Finding> {
    if status.warnings.is_empty() {
        let answered = status.peers.iter().filter(|peer| peer.round_trip_us.is_some()).count();
        let message =
            format!("coordinator, certificate, clock and policy are well; peers that answer: {answered}");
        return vec![Finding::good("mesh", message)];
    }
    let bad = |w: &crate::local::wire::Warning| Finding::bad("mesh", w.message.clone(), w.remedy.clone());
    status.warnings.iter().map(bad).collect()
}

/// Directory 0700 and files 0600 of root, nothing linked elsewhere.
fn state_files(state: &Path) -> Vec<Finding> {
    const CHECK: &str = "state";
    let directory = match fs::symlink_metadata(state) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let remedy = "this node has not joined: `bulkhead up --token-file FILE`";
            return vec![Finding::bad(CHECK, format!("{} does not exist", state.display()), remedy)];
        }
        Err(error) => return vec![unreadable(state, &error)],
    };
    let entries: std::io::Result<Vec<_>> = fs::read_dir(state).and_then(|entries| entries.collect());
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return vec![unreadable(state, &error)],
    };
    let mut findings = Vec::new();
    let mut judge = |path: &Path, metadata: &fs::Metadata, is_directory: bool, mode: u32| {
        if metadata.is_dir() != is_directory || metadata.is_symlink() {
            let remedy = "nothing of bulkhead's makes such a file: find out who did, then remove it";
            findings.push(Finding::bad(
                CHECK,
                format!("{} is not what belongs there", path.display()),
                remedy,
            ));
        } else if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
            let remedy = format!("chown root {}", path.display());
            findings.push(Finding::bad(
                CHECK,
                format!("{} belongs to uid {}", path.display(), metadata.uid()),
                remedy,
            ));
        } else if metadata.mode() & 0o777 & !mode != 0 {
            let message = format!("{} has mode {:o}", path.display(), metadata.mode() & 0o777);
            findings.push(Finding::bad(CHECK, message, format!("chmod {mode:o} {}", path.display())));
        }
    };
    judge(state, &directory, true, 0o700);
    for entry in &entries {
        if let Ok(metadata) = fs::symlink_metadata(entry.path()) {
            judge(&entry.path(), &metadata, false, 0o600);
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, format!("{} is closed to others", state.display())));
    }
    findings
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    Finding::bad("state", format!("cannot read {}: {error}", path.display()), "run `sudo bulkhead doctor`")
}

fn interface(name: &str) -> Finding {
    const CHECK: &str = "interface";
    // `name` is the daemon's; it has checked it to be letters, digits, `-` and `_`.
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).ok();
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    match flags {
        // `IFF_UP`
        Some(flags) if flags & 1 != 0 => Finding::good(CHECK, format!("{name} is up")),
        Some(_) => Finding::bad(
            CHECK,
            format!("{name} is down"),
            format!("`ip link set {name} up`, or restart the daemon"),
        ),
        None => Finding::bad(CHECK, format!("{name} does not exist"), "restart the daemon; see its log"),
    }
}

/// Which source address the kernel would use towards the mesh tells where its routes lead.
fn routes(own: OverlayAddrs, interface: &str) -> Vec<Finding> {
    const CHECK: &str = "routes";
    let v4 = Ipv4Addr::from_bits(own.v4.to_bits() ^ 1);
    let v6 = Ipv6Addr::from_bits(own.v6.to_bits() ^ 1);
    let ways = [(IpAddr::V4(own.v4), IpAddr::V4(v4)), (IpAddr::V6(own.v6), IpAddr::V6(v6))];
    ways.into_iter()
        .map(|(own, towards)| match source_towards(towards) {
            Ok(source) if source == own => Finding::good(CHECK, format!("{towards} is reached from {own}")),
            Ok(source) => Finding::bad(
                CHECK,
                format!("{towards} would be reached from {source}, not through the mesh"),
                format!(
                    "another route is more specific than the mesh's on {interface}: `ip route get {towards}`"
                ),
            ),
            Err(error) => Finding::bad(
                CHECK,
                format!("no way to {towards}: {error}"),
                "restart the daemon; see its log",
            ),
        })
        .collect()
}

fn source_towards(address: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // The discard port; connecting a UDP socket sends nothing.
    socket.connect(SocketAddr::new(address, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// A route that drops what no tunnel takes, so that nothing leaves in clear text while the tunnel is down.
fn leak_stop(overlay: Ipv4Addr) -> Finding {
    const CHECK: &str = "leak stop";
    let mut table = String::new();
    let read =
        fs::File::open("/proc/net/route").and_then(|f| f.take(MAX_PROC_BYTES).read_to_string(&mut table));
    if let Err(error) = read {
        return Finding::bad(CHECK, format!("cannot read the routes: {error}"), "mount /proc");
    }
    if table.lines().any(|line| is_blackhole(line, overlay)) {
        Finding::good(CHECK, "traffic to the mesh is dropped while there is no tunnel")
    } else {
        Finding::bad(CHECK, "no blackhole route for the mesh's addresses", "restart the daemon; see its log")
    }
}

/// A line of /proc/net/route: interface, destination (little-endian hex), gateway, flags, …
fn is_blackhole(line: &str, overlay: Ipv4Addr) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // A route that leads nowhere has no interface.
    let [interface, destination, ..] = fields.as_slice() else { return false };
    let destination = u32::from_str_radix(destination, 16).map(u32::swap_bytes).map(Ipv4Addr::from_bits);
    *interface == "*" && destination.is_ok_and(|destination| destination == overlay)
}

/// Asks the daemon's resolver for this node's own name.
fn ask_resolver(resolver: IpAddr, status: &Status) -> Finding {
    const CHECK: &str = "resolver";
    match query(resolver, &status.node.name) {
        Ok(ResponseCode::NoError) => Finding::good(CHECK, format!("{resolver} knows {}", status.node.name)),
        Ok(code) => {
            Finding::bad(CHECK, format!("{resolver} answers {code}"), "restart the daemon; see its log")
        }
        Err(error) => Finding::bad(
            CHECK,
            format!("{resolver} does not answer: {error:#}"),
            "check that the loopback interface is up and that no firewall blocks it; see the daemon's log",
        ),
    }
}

fn query(resolver: IpAddr, name: &str) -> anyhow::Result<ResponseCode> {
    let mut query = Message::new(std::process::id() as u16, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{name}."))?, RecordType::AAAA));
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_read_timeout(Some(RESOLVER))?;
    socket.connect(SocketAddr::new(resolver, 53))?;
    socket.send(&query.to_vec()?)?;
    let mut buffer = [0; crate::names::MAX_QUERY_BYTES];
    let length = socket.recv(&mut buffer)?;
    Ok(Message::from_vec(&buffer[..length])?.metadata.response_code)
}

/// Whether programs on this host ask our resolver. Not doing so is a choice, unless the daemon was told to see to it.
fn resolv_conf(status: &Status) -> Finding {
    const CHECK: &str = "resolv.conf";
    let text = fs::read_to_string(resolv::RESOLV_CONF).unwrap_or_default();
    let listed = status.node.resolvers.iter().any(|resolver| {
        text.lines().any(|line| line.split_whitespace().eq(["nameserver", &resolver.to_string()]))
    });
    let Some(resolver) = status.node.resolvers.first() else {
        return Finding::bad(CHECK, "the daemon has no resolver", "restart the daemon; see its log");
    };
    if listed {
        Finding::good(CHECK, "asks the mesh's resolver")
    } else if status.node.write_resolv_conf {
        let remedy = "something else rewrote the file: restart the daemon, or configure that program";
        Finding::bad(CHECK, "does not ask the mesh's resolver", remedy)
    } else {
        Finding::good(
            CHECK,
            format!("names of the mesh are not used here; `nameserver {resolver}`, first, would change that"),
        )
    }
}

/// Off by somebody's wish, or for want of a newer kernel, is well; a kernel that has it and refuses it is not.
fn offload(OffloadView { name, position }: &OffloadView) -> Finding {
    const CHECK: &str = "offloads";
    match position {
        Position::On {} => Finding::good(CHECK, format!("{name} is on")),
        Position::OffByConfiguration {} | Position::OffByCoordinator {} | Position::NotSupported {} => {
            Finding::good(CHECK, format!("{name} is off: {position}"))
        }
        Position::Failed { .. } => Finding::bad(
            CHECK,
            format!("{name} is off: {position}"),
            format!(
                "traffic goes on without it; restart the daemon to try again, or leave it off: \
                 `offloads_off = [\"{name}\"]`"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_blackhole_of_the_overlay_is_recognised() {
        let overlay = Ipv4Addr::new(100, 64, 0, 0);
        let blackhole = "*\t00004064\t00000000\t0001\t0\t0\t4294967295\t0000C0FF\t0\t0\t0";
        assert!(is_blackhole(blackhole, overlay));
        assert!(!is_blackhole(&blackhole.replace('*', "bulkhead0"), overlay));
        assert!(!is_blackhole(&blackhole.replace("00004064", "0000000A"), overlay));
        assert!(!is_blackhole("Iface\tDestination\tGateway \tFlags", overlay));
    }

    #[test]
    fn open_modes_and_links_in_the_state_directory_are_found() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let key = dir.path().join("identity.key");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(state_files(dir.path()).iter().all(|finding| finding.ok));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&key, dir.path().join("link")).unwrap();
        let bad: Vec<_> = state_files(dir.path()).into_iter().filter(|finding| !finding.ok).collect();
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad.iter().all(|finding| finding.remedy.is_some()));
    }
}
