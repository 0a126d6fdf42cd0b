//! The live flows as the local API shows them.

use bulkhead_acl::Direction;
use bulkhead_node_engine::FlowStatus;

use super::answer::Local;
use super::wire::{FlowView, Flows, MAX_FLOWS_SHOWN};

impl Local {
    /// All live flows, in an order that does not change from one look to the next.
    pub(super) fn flows(&self) -> Flows {
        let me = self.daemon.held().me.name().to_string();
        let mut live = self.daemon.engine().flows(self.daemon.now());
        live.sort_by(|a, b| {
            (&a.peer, a.service, a.local, a.remote).cmp(&(&b.peer, b.service, b.local, b.remote))
        });
        Flows {
            schema: "bulkhead.flows/1".into(),
            total: live.len(),
            flows: live.iter().take(MAX_FLOWS_SHOWN).map(|flow| view(flow, &me)).collect(),
        }
    }
}

fn view(flow: &FlowStatus, me: &str) -> FlowView {
    let (me, peer) = (me.to_owned(), flow.peer.to_string());
    let (from, to) = match flow.direction {
        Direction::Outbound => (me, peer),
        Direction::Inbound => (peer, me),
    };
    FlowView {
        from,
        to,
        service: flow.service.to_string(),
        local: flow.local.into(),
        remote: flow.remote.into(),
        state: flow.state.as_str().into(),
        rule: flow.rule.0.to_string(),
        generation: flow.generation.0,
        tx_bytes: flow.sent.bytes,
        rx_bytes: flow.received.bytes,
        age_secs: flow.age.as_secs(),
        idle_secs: flow.idle.as_secs(),
    }
}
