//! Live flows, as the nodes tell them. A node is believed about its own ends only, and a flow that both ends tell of
//! is one flow.

use crate::asks::Purpose;
use crate::command::RequestId;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::refusal::Refusal;
use crate::state::State;
use bulkhead_identity::{NodeName, Now};
use bulkhead_protocol::admin::{LiveFlow, LiveFlows};
use bulkhead_protocol::control::FlowReport;
use std::collections::BTreeSet;

/// Most flows in one answer.
const MAX_LIVE_FLOWS: usize = 100_000;

/// What was told so far.
#[derive(Default)]
pub(crate) struct Gathered {
    flows: BTreeSet<LiveFlow>,
    truncated: bool,
    /// Connected, and not to be asked.
    silent: BTreeSet<NodeName>,
    /// Not connected, so not asked.
    unasked: BTreeSet<NodeName>,
}

impl Gathered {
    pub(crate) fn add(&mut self, name: &NodeName, reports: Vec<FlowReport>, truncated: bool, state: &State) {
        self.truncated |= truncated;
        for FlowReport { peer, outbound, service } in reports {
            // A name that nobody has would be an invention.
            if peer == *name || !state.nodes.contains_key(&peer) {
                continue;
            }
            let (from, to) = if outbound { (name, &peer) } else { (&peer, name) };
            let flow = LiveFlow { from: from.to_string(), to: to.to_string(), service: service.to_string() };
            if self.flows.len() < MAX_LIVE_FLOWS || self.flows.contains(&flow) {
                self.flows.insert(flow);
            } else {
                self.truncated = true;
            }
        }
    }

    pub(crate) fn reply(self, silent: &BTreeSet<NodeName>) -> Reply {
        let silent = self.silent.union(silent).map(NodeName::to_string).collect();
        let flows = self.flows.into_iter().collect();
        let unasked = self.unasked.iter().map(NodeName::to_string).collect();
        Reply::Flows(LiveFlows { flows, silent, unasked, truncated: self.truncated })
    }
}

impl Coordinator {
    /// Asks every node that is connected, and tells which are not.
    pub(crate) fn ask_flows(
        &mut self,
        request: RequestId,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let asked: BTreeSet<_> = self.links.following().map(|(_, name)| name.clone()).collect();
        // Links to which nothing may be sent now.
        let silent = self.links.names().filter(|name| !asked.contains(*name)).cloned().collect();
        let active = self.state.nodes.values().filter(|node| node.is_active()).map(|node| &node.name);
        let unasked = active.filter(|name| !self.links.is_connected(name)).cloned().collect();
        let gathered = Gathered { silent, unasked, ..Gathered::default() };
        self.ask(request, asked, Purpose::Flows(gathered), now, effects)
    }
}
