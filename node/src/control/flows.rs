//! The live flows, told to the coordinator when it asks.
//!
//! Property: a flow is told by peer, direction and service only, each once, and never more of them than the
//! protocol's limit: whoever opens a million flows makes the answer no longer.

use crate::control::Control;
use crate::control::link::{Link, LinkError};
use bulkhead_acl::Direction;
use bulkhead_node_engine::{FlowState, FlowStatus};
use bulkhead_protocol::control::{FlowReport, MAX_REPORTED_FLOWS, ToCoordinator};
use std::collections::BTreeSet;

impl Control {
    /// Answers `WantFlows`.
    ///
    /// # Errors
    /// When the link is of no use any more.
    pub(crate) async fn tell_flows(&self, link: &mut Link, ask: u64) -> Result<(), LinkError> {
        if self.has_ended() {
            // Anything but the renewal would end the link.
            return Ok(());
        }
        let live = self.daemon.engine().flows(self.daemon.now());
        let (flows, truncated) = reports(&live);
        link.send(&ToCoordinator::Flows { ask, flows, truncated }).await
    }
}

/// What is told of these flows, and whether it is not all.
fn reports(live: &[FlowStatus]) -> (Vec<FlowReport>, bool) {
    let report = |flow: &FlowStatus| FlowReport {
        peer: flow.peer.clone(),
        outbound: match flow.direction {
            Direction::Outbound => true,
            Direction::Inbound => false,
        },
        service: flow.service,
    };
    // What is about to end would be cut by nothing.
    let live = live.iter().filter(|flow| flow.state != FlowState::Closing);
    let mut all = BTreeSet::new();
    for flow in live.map(report) {
        if all.len() == MAX_REPORTED_FLOWS && !all.contains(&flow) {
            return (all.into_iter().collect(), true);
        }
        all.insert(flow);
    }
    (all.into_iter().collect(), false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_acl::{RuleId, Service};
    use bulkhead_identity::{Generation, NodeName};
    use bulkhead_node_engine::Traffic;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn flow(direction: Direction, port: u16, client_port: u16) -> FlowStatus {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        FlowStatus {
            peer: NodeName::parse("db-1").unwrap(),
            direction,
            service: Service::Tcp(port),
            local: (address, client_port),
            remote: (address, port),
            state: FlowState::Established,
            generation: Generation(1),
            rule: RuleId("web-to-db".into()),
            sent: Traffic::default(),
            received: Traffic::default(),
            age: Duration::ZERO,
            idle: Duration::ZERO,
        }
    }

    #[test]
    fn many_flows_for_one_service_are_one_and_directions_are_two() {
        let live = [
            flow(Direction::Outbound, 5432, 1),
            flow(Direction::Outbound, 5432, 2),
            flow(Direction::Inbound, 5432, 3),
        ];
        let closing = FlowStatus { state: FlowState::Closing, ..flow(Direction::Outbound, 80, 4) };
        let (told, truncated) = reports(&[live.as_slice(), &[closing]].concat());
        assert_eq!(told.iter().map(|flow| flow.outbound).collect::<Vec<_>>(), [false, true]);
        assert!(!truncated);
    }

    #[test]
    fn a_report_never_exceeds_its_limit_and_says_when_it_would() {
        let services =
            (0..=u16::try_from(MAX_REPORTED_FLOWS).unwrap()).map(|port| flow(Direction::Inbound, port, 1));
        let mut live: Vec<_> = services.collect();
        assert_eq!(reports(&live).0.len(), MAX_REPORTED_FLOWS);
        assert!(reports(&live).1);
        live.pop();
        assert!(!reports(&live).1);
    }
}
