//! `peers`: whom the policy permits; `peers --denied`: whom the map names in vain, and what the filter dropped.

use clap::Args;

use super::screen::span;
use super::{Context, Exit, mismatch};
use crate::local::wire::{Answer, Denials, PeerView, Request};

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub(super) struct PeersArgs {
    /// Show who was refused, and how many packets were dropped for which reason
    #[arg(long)]
    denied: bool,
}

/// Prints the peers.
pub(super) fn peers(context: &Context, args: &PeersArgs) -> anyhow::Result<Exit> {
    if args.denied {
        return denied(context);
    }
    let Answer::Peers(peers) = context.ask(Request::Peers {})? else { return Err(mismatch()) };
    let screen = &context.screen;
    if screen.wants_json() {
        screen.json(&peers)?;
    } else if peers.peers.is_empty() {
        screen.line("# no peers: the policy lets this node talk to nobody")?;
    } else {
        screen.rows(&peers.peers.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(Exit::Ok)
}

fn row(peer: &PeerView) -> Vec<String> {
    let ways = match (peer.outbound, peer.inbound) {
        (true, true) => "both ways",
        (true, false) => "we open",
        (false, true) => "it opens",
        (false, false) => "nothing now",
    };
    let labels: Vec<String> = peer.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        peer.name.clone(),
        peer.addresses.v4.to_string(),
        peer.addresses.v6.to_string(),
        ways.into(),
        peer.handshake_secs.map_or_else(|| "no session".into(), |_| format!("mtu {}", peer.mtu)),
        format!("cert {} left", span(peer.certificate_left_secs)),
        labels.join(","),
    ]
}

fn denied(context: &Context) -> anyhow::Result<Exit> {
    let Answer::Denied(denials) = context.ask(Request::Denied {})? else { return Err(mismatch()) };
    if context.screen.wants_json() {
        context.screen.json(&denials)?;
    } else {
        show(context, &denials)?;
    }
    Ok(Exit::Ok)
}

fn show(context: &Context, denials: &Denials) -> anyhow::Result<()> {
    let screen = &context.screen;
    let refused = denials.entries.iter().map(|entry| vec![entry.name.clone(), entry.why.clone()]);
    screen.rows(&refused.collect::<Vec<_>>())?;
    let by_peer =
        denials.by_peer.iter().map(|(name, count)| vec![name.clone(), format!("{count} packets refused")]);
    screen.rows(&by_peer.collect::<Vec<_>>())?;
    if denials.dropped.is_empty() {
        screen.line("# nothing was dropped since the daemon started")?;
    } else {
        screen.line("# dropped since the daemon started, by reason:")?;
        let dropped =
            denials.dropped.iter().map(|(reason, count)| vec![format!("#   {reason}"), count.to_string()]);
        screen.rows(&dropped.collect::<Vec<_>>())?;
    }
    Ok(())
}
