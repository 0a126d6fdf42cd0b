//! `flows`: what is passing now, and by which rule.

use super::screen::{bytes, span};
use super::{Context, Exit, mismatch};
use crate::local::wire::{Answer, FlowView, Request};

/// Prints the live flows.
pub(super) fn flows(context: &Context) -> anyhow::Result<Exit> {
    let Answer::Flows(flows) = context.ask(Request::Flows {})? else { return Err(mismatch()) };
    let screen = &context.screen;
    if screen.wants_json() {
        screen.json(&flows)?;
        return Ok(Exit::Ok);
    }
    screen.rows(&flows.flows.iter().map(row).collect::<Vec<_>>())?;
    if flows.flows.is_empty() {
        screen.line("# no live flows")?;
    } else if flows.flows.len() < flows.total {
        screen.line(format!("# and {} more", flows.total - flows.flows.len()))?;
    }
    Ok(Exit::Ok)
}

fn row(flow: &FlowView) -> Vec<String> {
    vec![
        format!("{} -> {}", flow.from, flow.to),
        flow.service.clone(),
        flow.state.clone(),
        format!("rule {}", flow.rule),
        format!("tx {} rx {}", bytes(flow.tx_bytes), bytes(flow.rx_bytes)),
        format!("idle {}", span(flow.idle_secs)),
    ]
}
