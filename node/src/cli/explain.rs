//! `explain`: would it be allowed, and by which rule; `whois`: whose address is this.

use std::net::IpAddr;

use bulkhead_acl::Service;
use clap::Args;

use super::{Context, Exit, mismatch};
use crate::local::wire::{Answer, Explained, PeerVerdict, Request, VerdictView};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The peer's name, with or without the trust domain
    name: String,
    /// `5432` or `tcp/5432`, `udp/53`, `icmp`
    #[arg(value_parser = service)]
    port: Service,
    /// The other direction: may the peer open it to this node?
    #[arg(long)]
    inbound: bool,
}

/// Arguments of `whois`.
#[derive(Debug, Args)]
pub(super) struct WhoisArgs {
    /// An overlay address
    address: IpAddr,
}

/// A bare number is a TCP port.
fn service(text: &str) -> Result<Service, String> {
    match text.parse::<u16>() {
        Ok(port) => Service::parse(&format!("tcp/{port}")),
        Err(_) => Service::parse(text),
    }
}

/// Prints both verdicts.
pub(super) fn explain(context: &Context, args: &ExplainArgs) -> anyhow::Result<Exit> {
    let explained = fetch(context, &args.name, args.port, args.inbound)?;
    if context.screen.wants_json() {
        context.screen.json(&explained)?;
    } else {
        show(context, &explained)?;
    }
    Ok(if is_allowed(&explained) { Exit::Ok } else { Exit::Denied })
}

/// Asks the daemon for both verdicts.
pub(super) fn fetch(
    context: &Context,
    name: &str,
    service: Service,
    inbound: bool,
) -> anyhow::Result<Explained> {
    let request = Request::Explain { name: name.into(), service: service.to_string(), inbound };
    let Answer::Explain(explained) = context.ask(request)? else { return Err(mismatch()) };
    Ok(*explained)
}

/// We say yes, and the peer did not say no.
pub(super) fn is_allowed(explained: &Explained) -> bool {
    explained.ours.allowed
        && match explained.theirs {
            PeerVerdict::Answered { allowed, .. } => allowed,
            PeerVerdict::Silent {} | PeerVerdict::NotAsked { .. } => true,
        }
}

/// Prints both verdicts as text.
pub(super) fn show(context: &Context, explained: &Explained) -> anyhow::Result<()> {
    let screen = &context.screen;
    let verdict = if is_allowed(explained) { "allowed" } else { "denied" };
    screen.line(format!("{} -> {} {}: {verdict}", explained.from, explained.to, explained.service))?;
    let mut rows = vec![vec!["  this node".into(), ours(&explained.ours, explained.generation)]];
    rows.extend(explained.ours.reasons.iter().map(|reason| vec![String::new(), reason.clone()]));
    rows.push(vec!["  peer".into(), theirs(&explained.theirs)]);
    Ok(screen.rows(&rows)?)
}

fn ours(verdict: &VerdictView, generation: u64) -> String {
    let word = if verdict.allowed { "allows" } else { "denies" };
    let rule = match (&verdict.rule, &verdict.place) {
        (Some(rule), Some(place)) => format!(" by rule {rule} ({place})"),
        (Some(rule), None) => format!(" by rule {rule}"),
        (None, _) => String::new(),
    };
    format!("{word}{rule}, policy {generation}")
}

fn theirs(verdict: &PeerVerdict) -> String {
    match verdict {
        PeerVerdict::Answered { allowed: true, generation } => format!("allows, policy {generation}"),
        PeerVerdict::Answered { allowed: false, generation } => format!("denies, policy {generation}"),
        PeerVerdict::Silent {} => "did not answer: it is down, or cannot be reached".into(),
        PeerVerdict::NotAsked { why } => format!("was not asked: {why}"),
    }
}

/// Prints who has the address.
pub(super) fn whois(context: &Context, args: &WhoisArgs) -> anyhow::Result<Exit> {
    let Answer::Whois(whois) = context.ask(Request::Whois { address: args.address })? else {
        return Err(mismatch());
    };
    let screen = &context.screen;
    if screen.wants_json() {
        screen.json(&whois)?;
        return Ok(Exit::Ok);
    }
    screen.line(format!("{}{}", whois.name, if whois.me { "  (this node)" } else { "" }))?;
    let mut rows = vec![vec!["  id".to_owned(), whois.id]];
    if let Some(addresses) = whois.addresses {
        rows.push(vec!["  addresses".into(), format!("{}  {}", addresses.v4, addresses.v6)]);
    }
    let labels: Vec<String> = whois.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    rows.push(vec!["  labels".into(), if labels.is_empty() { "none".into() } else { labels.join(",") }]);
    screen.rows(&rows)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_a_tcp_port() {
        assert_eq!(service("5432"), Ok(Service::Tcp(5432)));
        assert_eq!(service("udp/53"), Ok(Service::Udp(53)));
        assert!(service("65536").is_err());
        assert!(service("tcp/").is_err());
    }
}
