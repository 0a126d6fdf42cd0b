//! `status`: the node, its coordinator and its peers, one line each, and what is wrong.

use clap::Args;

use super::screen::{bytes, milliseconds, span};
use super::{Context, Exit, mismatch};
use crate::local::wire::{Answer, CoordinatorView, OffloadView, PeerView, Request, Status, Warning};
use crate::packets::offload::Position;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Ask every peer for a sign of life, and exit with 5 when there is any warning
    #[arg(long)]
    check: bool,
}

/// Prints the status.
pub(super) fn status(context: &Context, args: &StatusArgs) -> anyhow::Result<Exit> {
    let status = fetch(context, args.check)?;
    show(context, &status)?;
    Ok(if args.check && !status.warnings.is_empty() { Exit::Drift } else { Exit::Ok })
}

/// Asks the daemon for its status.
pub(super) fn fetch(context: &Context, check: bool) -> anyhow::Result<Status> {
    let Answer::Status(status) = context.ask(Request::Status { check })? else { return Err(mismatch()) };
    Ok(*status)
}

/// Prints a status as text or JSON.
pub(super) fn show(context: &Context, status: &Status) -> anyhow::Result<()> {
    let screen = &context.screen;
    if screen.wants_json() {
        return Ok(screen.json(status)?);
    }
    screen.line(headline(status))?;
    let width = name_width(&status.peers);
    screen.line(coordinator_row(&status.coordinator, width))?;
    screen.rows(&status.peers.iter().map(|peer| peer_row(peer, width)).collect::<Vec<_>>())?;
    for line in remarks(status) {
        screen.line(line)?;
    }
    Ok(())
}

/// `web-1.acme.example  100.64.0.11  fd5a:...:b  stage enforce  policy 42  cert 17h left`
fn headline(status: &Status) -> String {
    let mut parts = vec![status.node.name.clone()];
    if let Some(addresses) = &status.node.addresses {
        parts.extend([addresses.v4.to_string(), addresses.v6.to_string()]);
    }
    parts.push(format!("stage {}", status.stage));
    parts.push(match status.generation {
        0 => "no policy yet".into(),
        generation => format!("policy {generation}"),
    });
    parts.push(match status.certificate_left_secs {
        0 => "cert ended".into(),
        left => format!("cert {} left", span(left)),
    });
    parts.join("  ")
}

const COORDINATOR: &str = "coordinator";

/// The first column, which the coordinator's line shares with the peers'.
fn name_width(peers: &[PeerView]) -> usize {
    peers.iter().map(|peer| peer.name.chars().count()).fold(COORDINATOR.len(), usize::max)
}

fn coordinator_row(coordinator: &CoordinatorView, width: usize) -> String {
    let address = coordinator.address.as_deref().unwrap_or("unknown");
    let state = if coordinator.connected { "connected" } else { "not connected" };
    format!("{COORDINATOR:width$}  {address}  {state} {}", span(coordinator.since_secs))
}

/// `db-1  100.64.0.7  direct 10.0.0.7:51820  0.4 ms  tx 9.1 MB rx 88 MB`
fn peer_row(peer: &PeerView, width: usize) -> Vec<String> {
    let path = match (peer.handshake_secs, peer.endpoint) {
        (Some(_), Some(endpoint)) => format!("direct {endpoint}"),
        (_, _) if peer.unanswered => "no answer".into(),
        (Some(_) | None, _) => "no session".into(),
    };
    let traffic = match (peer.tx_bytes, peer.rx_bytes) {
        (0, 0) => "idle".into(),
        (tx, rx) => format!("tx {} rx {}", bytes(tx), bytes(rx)),
    };
    let round_trip = peer.round_trip_us.map_or_else(String::new, milliseconds);
    vec![format!("{:width$}", peer.name), peer.addresses.v4.to_string(), path, round_trip, traffic]
}

fn remarks(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    if status.peers.is_empty() {
        lines.push("# no peers: the policy lets this node talk to nobody".to_owned());
    }
    lines.extend(offloads_off(&status.node.offloads));
    let sentence = |warning: &Warning| format!("{}: {}", warning.message, warning.remedy);
    match status.warnings.as_slice() {
        [] => {}
        [warning] => lines.push(format!("# 1 warning: {}", sentence(warning))),
        several => {
            lines.push(format!("# {} warnings:", several.len()));
            lines.extend(several.iter().map(|warning| format!("#   {}", sentence(warning))));
        }
    }
    lines
}

/// `# offloads off: udp-gso (by the coordinator)`; nothing when all are on.
fn offloads_off(offloads: &[OffloadView]) -> Option<String> {
    let off = offloads.iter().filter(|offload| offload.position != Position::On {});
    let off: Vec<_> = off.map(|OffloadView { name, position }| format!("{name} ({position})")).collect();
    (!off.is_empty()).then(|| format!("# offloads off: {}", off.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::screen::aligned;

    fn coordinator() -> CoordinatorView {
        serde_json::from_value(serde_json::json!({
            "address": "bulkhead.acme.example:8443", "connected": true, "since_secs": 10_900,
        }))
        .unwrap()
    }

    fn peer(name: &str, endpoint: Option<&str>) -> PeerView {
        serde_json::from_value(serde_json::json!({
            "name": name, "addresses": { "v4": "100.64.0.7", "v6": "fd5a::7" }, "labels": {},
            "outbound": true, "inbound": false, "endpoint": endpoint, "mtu": 1420, "unanswered": false,
            "round_trip_us": endpoint.map(|_| 400), "handshake_secs": endpoint.map(|_| 5),
            "tx_bytes": endpoint.map_or(0, |_| 9_100_000), "rx_bytes": endpoint.map_or(0, |_| 88_000_000),
            "certificate_left_secs": 60,
        }))
        .unwrap()
    }

    #[test]
    fn offloads_that_are_off_are_named_with_their_reason() {
        let offloads: Vec<OffloadView> = serde_json::from_value(serde_json::json!([
            { "name": "tun-tso", "state": "on" },
            { "name": "udp-gso", "state": "off_by_coordinator" },
            { "name": "udp-gro", "state": "failed", "why": "Invalid argument" },
        ]))
        .unwrap();
        assert_eq!(
            offloads_off(&offloads).unwrap(),
            "# offloads off: udp-gso (by the coordinator), udp-gro (failed: Invalid argument)"
        );
        assert_eq!(offloads_off(&offloads[..1]), None);
    }

    #[test]
    fn the_status_reads_as_documented() {
        let peers = [peer("db-1", Some("10.0.0.7:51820")), peer("metrics-1", None)];
        let width = name_width(&peers);
        assert_eq!(
            coordinator_row(&coordinator(), width),
            "coordinator  bulkhead.acme.example:8443  connected 3h"
        );
        let rows: Vec<_> = peers.iter().map(|peer| peer_row(peer, width)).collect();
        assert_eq!(
            aligned(&rows),
            [
                "db-1         100.64.0.7  direct 10.0.0.7:51820  0.4 ms  tx 9.1 MB rx 88 MB",
                "metrics-1    100.64.0.7  no session                     idle",
            ]
        );
    }
}
