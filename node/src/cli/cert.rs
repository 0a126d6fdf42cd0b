//! `cert`: this node's certificate, shown or renewed.

use clap::{Args, Subcommand};

use super::screen::span;
use super::{Context, Exit, mismatch};
use crate::local::wire::{Answer, CertificateView, Request};

/// Arguments of `cert`.
#[derive(Debug, Args)]
pub(super) struct CertArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show what it says and how long it holds
    Show,
    /// Renew it now (it renews by itself at half its life)
    Renew,
}

/// Shows or renews.
pub(super) fn cert(context: &Context, args: &CertArgs) -> anyhow::Result<Exit> {
    match args.act {
        Act::Show => {}
        Act::Renew => {
            let Answer::Done {} = context.ask(Request::Renew {})? else { return Err(mismatch()) };
        }
    }
    let Answer::Certificate(certificate) = context.ask(Request::Certificate {})? else {
        return Err(mismatch());
    };
    if context.screen.wants_json() {
        context.screen.json(&certificate)?;
    } else {
        show(context, &certificate)?;
    }
    Ok(if certificate.valid { Exit::Ok } else { Exit::Denied })
}

fn show(context: &Context, certificate: &CertificateView) -> anyhow::Result<()> {
    let labels: Vec<String> =
        certificate.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let state = match (certificate.valid, certificate.left_secs) {
        (true, left) => format!("{} left", span(left)),
        (false, 0) => "ended: this node may talk to nobody until it is renewed".into(),
        (false, _) => "not valid: revoked, or not valid yet".into(),
    };
    let mut rows = vec![
        vec!["id".to_owned(), certificate.id.clone()],
        vec!["serial".into(), certificate.serial.clone()],
        vec!["identity key".into(), certificate.identity_fingerprint.clone()],
        vec![
            "valid".into(),
            format!("{} to {}", moment(certificate.not_before), moment(certificate.not_after)),
        ],
        vec!["state".into(), state],
        vec!["labels".into(), if labels.is_empty() { "none".into() } else { labels.join(",") }],
    ];
    if let Some(addresses) = &certificate.addresses {
        rows.push(vec!["addresses".into(), format!("{}  {}", addresses.v4, addresses.v6)]);
    }
    Ok(context.screen.rows(&rows)?)
}

/// RFC 3339, in UTC.
fn moment(unix: u64) -> String {
    let moment = i64::try_from(unix).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    moment.map_or_else(|| format!("@{unix}"), |moment| moment.to_string())
}
