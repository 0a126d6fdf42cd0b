//! Offloads that nodes are told to leave off. Some kernels corrupt what they segment or merge for us: one word here
//! reaches every node that is connected at once, and every other as it connects, so that nobody has to log into
//! machines. It makes a node slower and permits nothing.

use crate::command::ConnectionId;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use bulkhead_identity::{NodeName, Now};
use bulkhead_protocol::admin::{OffloadsOff, SwitchOffloads};
use bulkhead_protocol::control::ToNode;
use bulkhead_protocol::offload::Offloads;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Coordinator {
    /// What a node is to leave off.
    pub(crate) fn offloads_off(&self, name: &NodeName) -> Offloads {
        let own = self.state.nodes.get(name).map_or(Offloads::NONE, |node| node.offloads_off);
        self.config.offloads_off.union(self.state.offloads_off).union(own)
    }

    pub(crate) fn offloads_show(&self) -> Reply {
        let switched =
            self.state.nodes.values().filter(|node| node.is_active() && !node.offloads_off.is_empty());
        Reply::Offloads(OffloadsOff {
            configured: self.config.offloads_off,
            everywhere: self.state.offloads_off,
            nodes: switched.map(|node| (node.name.to_string(), node.offloads_off)).collect(),
        })
    }

    /// Switches offloads of one node, or of every node.
    pub(crate) fn offloads_switch(
        &mut self,
        actor: Actor,
        (name, switch): (Option<NodeName>, SwitchOffloads),
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let SwitchOffloads { off, on } = switch;
        let both = off.intersection(on);
        if !both.is_empty() {
            let message = format!("{both} cannot be switched off and on at once");
            return Err(Refusal::new(Class::BadRequest, "BH-C190", message)
                .help("name each offload once, with what it is to be"));
        }
        let before = match &name {
            Some(name) => self.state.active_node(name)?.offloads_off,
            None => self.state.offloads_off,
        };
        let after = before.minus(on).union(off);
        if after != before {
            let told = self.told_of_offloads();
            self.commit(actor, Change::OffloadsSwitched { node: name, off: after }, now, effects)?;
            self.tell_of_offloads(&told, effects);
        }
        Ok(self.offloads_show())
    }

    /// What each node that was welcomed leaves off.
    fn told_of_offloads(&self) -> Vec<(ConnectionId, NodeName, Offloads)> {
        let told = self.links.greeted().map(|(link, name)| (link, name.clone(), self.offloads_off(name)));
        told.collect()
    }

    /// Tells those of them for which it has changed.
    fn tell_of_offloads(&self, told: &[(ConnectionId, NodeName, Offloads)], effects: &mut Effects) {
        let mut messages = BTreeMap::new();
        for (link, name, before) in told {
            let off = self.offloads_off(name);
            if off != *before {
                let message = messages.entry(off).or_insert_with(|| Arc::new(ToNode::Offloads { off }));
                effects.send(*link, Arc::clone(message));
            }
        }
    }
}
