//! What a new policy would do, before it does: who gains and loses what, which open connections it cuts, who loses the
//! way to the coordinator, which rules are of no use, and what shows only at another time.

mod text;

use super::basis::{self, unknown_node};
use super::{directory, inventory};
use crate::Place;
use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use anyhow::{Context as _, anyhow};
use bulkhead_acl::question::{self, CutFlow, LiveFlow, LostWay, PairChange, Plan, Summary};
use bulkhead_acl::{Checked, PortSet, Service, Subject};
use bulkhead_identity::{NodeName, Timestamp};
use bulkhead_protocol::admin::{LiveFlows, PolicyCurrent};
use serde::Serialize;

/// One of the two policies.
#[derive(Debug, Serialize)]
struct Side {
    /// As people name it: `policy 7`, or a directory.
    name: String,
    /// Of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

/// The connections that nodes have open, as far as they answered.
#[derive(Debug, Default)]
struct Live {
    flows: Vec<LiveFlow>,
    silent: Vec<String>,
    unasked: Vec<String>,
    truncated: bool,
}

/// Everything that a plan is made from.
struct Comparison {
    old: Checked,
    new: Checked,
    sides: [Side; 2],
    nodes: Vec<Subject>,
    coordinator: Option<NodeName>,
    /// `None`: nobody was there to ask.
    live: Option<Live>,
    at: Timestamp,
}

/// What `--json` shows.
#[derive(Serialize)]
struct Answer<'a> {
    old: &'a Side,
    new: &'a Side,
    at: Timestamp,
    summary: Summary,
    #[serde(flatten)]
    plan: &'a Plan,
    /// With `--by-node`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<Vec<PairChange<'a>>>,
    /// `null` when there was no coordinator to ask for live connections.
    cut: Option<&'a [CutFlow]>,
    /// Connected nodes that did not say which connections they have.
    silent: &'a [String],
    /// Nodes that are not connected: theirs are not known either.
    unasked: &'a [String],
    /// Whether there were more connections than an answer holds.
    flows_truncated: bool,
    /// `null` when it is not known where the coordinator runs.
    lost_ways: Option<&'a [LostWay]>,
}

/// `policy plan`.
pub(super) async fn run(place: &Place, asked: command::Plan, screen: Screen) -> Result<(), Failure> {
    let comparison = Comparison::read(place, &asked).await?;
    let found = Found::new(&comparison, &asked)?;
    let answer = found.answer(&comparison, asked.by_node);
    screen.answer("policy-plan", &answer, |answer| text::text(answer, found.changes_nothing()))?;
    if asked.exit_code && !found.changes_nothing() { Err(Failure::Changes) } else { Ok(()) }
}

impl Comparison {
    async fn read(place: &Place, asked: &command::Plan) -> Result<Self, Failure> {
        let at = asked.at.unwrap_or_else(moment::now);
        match (&asked.second, &asked.nodes) {
            (Some(second), Some(nodes)) => Ok(Self {
                old: Side::directory(&asked.first, at)?.1,
                new: Side::directory(second, at)?.1,
                sides: [Side::named(&asked.first), Side::named(second)],
                nodes: inventory::read(nodes)?,
                coordinator: asked.coordinator_node.clone(),
                live: None,
                at,
            }),
            // The command line refuses one without the other.
            (None, _) | (_, None) => Self::with_policy_in_force(&mut place.client()?, asked, at).await,
        }
    }

    async fn with_policy_in_force(
        client: &mut Client,
        asked: &command::Plan,
        at: Timestamp,
    ) -> Result<Self, Failure> {
        let (side, new) = Side::directory(&asked.first, at)?;
        let current: PolicyCurrent = client.get("/api/v1/policy").await?;
        let name = format!("policy {}", current.generation);
        let old = basis::understood(&current.sources, at, &name)?;
        let said = current.coordinator_node.as_deref().map(NodeName::parse).transpose();
        let said = said.context("the name of the coordinator's node")?;
        let live = client.get::<LiveFlows>("/api/v1/flows").await?;
        Ok(Self {
            old,
            new,
            sides: [Side { name, generation: Some(current.generation) }, side],
            nodes: basis::nodes(client).await?,
            coordinator: asked.coordinator_node.clone().or(said),
            live: Some(Live::read(live)?),
            at,
        })
    }
}

impl Side {
    fn named(directory: &std::path::Path) -> Self {
        Self { name: directory.display().to_string(), generation: None }
    }

    fn directory(directory: &std::path::Path, at: Timestamp) -> Result<(Self, Checked), Failure> {
        let side = Self::named(directory);
        let checked = basis::understood(&directory::read(directory)?, at, &side.name)?;
        Ok((side, checked))
    }
}

impl Live {
    fn read(live: LiveFlows) -> anyhow::Result<Self> {
        let read = |flow: bulkhead_protocol::admin::LiveFlow| -> anyhow::Result<LiveFlow> {
            let service = Service::parse(&flow.service).map_err(|reason| anyhow!(reason))?;
            Ok(LiveFlow { from: NodeName::parse(&flow.from)?, to: NodeName::parse(&flow.to)?, service })
        };
        let flows = live.flows.into_iter().map(read).collect::<anyhow::Result<_>>();
        let flows = flows.context("the coordinator's list of live connections")?;
        Ok(Self { flows, silent: live.silent, unasked: live.unasked, truncated: live.truncated })
    }
}

/// The answers to all questions about one comparison.
struct Found {
    plan: Plan,
    cut: Option<Vec<CutFlow>>,
    lost_ways: Option<Vec<LostWay>>,
}

impl Found {
    fn new(comparison: &Comparison, asked: &command::Plan) -> Result<Self, Failure> {
        let Comparison { old, new, nodes, coordinator, live, at, .. } = comparison;
        let (old, new) = (&old.rules, &new.rules);
        let ways = PortSet::parse(&asked.coordinator_ports)
            .map_err(|reason| Failure::usage(reason, "for example --coordinator-ports tcp/8443,udp/8443"))?;
        if let Some(name) = coordinator
            && !nodes.iter().any(|node| node.name == *name)
        {
            return Err(unknown_node(nodes, name));
        }
        Ok(Self {
            plan: question::plan(old, new, nodes, *at),
            cut: live.as_ref().map(|live| question::cut_flows(old, new, nodes, &live.flows, *at)),
            lost_ways: coordinator
                .as_ref()
                .map(|target| question::lost_ways(old, new, nodes, target, &ways, *at)),
        })
    }

    /// A plan that is not whole may have left the change out.
    fn changes_nothing(&self) -> bool {
        self.plan.is_empty() && self.plan.complete
    }

    fn answer<'a>(&'a self, comparison: &'a Comparison, by_node: bool) -> Answer<'a> {
        let [old, new] = &comparison.sides;
        let live = comparison.live.as_ref();
        Answer {
            old,
            new,
            at: comparison.at,
            summary: self.plan.summary(),
            plan: &self.plan,
            pairs: by_node.then(|| self.plan.pairs().collect()),
            cut: self.cut.as_deref(),
            silent: live.map_or(&[], |live| &live.silent),
            unasked: live.map_or(&[], |live| &live.unasked),
            flows_truncated: live.is_some_and(|live| live.truncated),
            lost_ways: self.lost_ways.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
