//! Ours: a coordinator on a host of its own, and a node at each end of the pair.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Namespace, Node};

use crate::wire::{beside_left, pair};

/// Where the coordinator's cable is.
const SUBNET: u8 = 78;
const START_LIMIT: Duration = Duration::from_secs(60);

/// Label values that [`permissive`] shares its rules out to: each class has its own.
pub(crate) const CLASSES: usize = 500;

/// A policy that permits everything, and has so many rules beside, each from one class of nodes to everyone.
pub(crate) fn permissive(rules: usize) -> String {
    let mut text = "version = 1\n\n[[allow]]\nid = \"all-for-the-benchmark\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n\
         why = \"measured\"\n"
        .to_owned();
    for number in 0..rules {
        let (class, port) = (class(number), 1000 + number);
        text.push_str(&format!(
            "\n[[allow]]\nid = \"rule-{number}\"\nfrom = \"{class}\"\nto = \"*\"\nports = [\"tcp/{port}\"]\nwhy = \"measured\"\n"
        ));
    }
    text
}

/// The label of one of the classes.
pub(crate) fn class(number: usize) -> String {
    format!("app=app{:03}", number % CLASSES)
}

/// A coordinator and two nodes.
pub(crate) struct Mesh {
    pub(crate) nodes: [Node; 2],
    pub(crate) coordinator: Coordinator,
}

impl Mesh {
    /// With a fresh coordinator and this policy.
    pub(crate) fn start(lab: &Lab, policy: &str) -> Self {
        let (hosts, hub) = hosts(lab);
        let coordinator = Coordinator::start_on(lab, hub, &[]).unwrap();
        coordinator.apply(policy).unwrap();
        Self::join(lab, hosts, coordinator)
    }

    /// The two nodes join a coordinator that runs.
    pub(crate) fn join(lab: &Lab, hosts: [Namespace; 2], coordinator: Coordinator) -> Self {
        let mut names = ["left", "right"].into_iter();
        let nodes = hosts.map(|host| {
            let name = names.next().unwrap();
            let token = coordinator.token(name, &[]).unwrap();
            let mut node = Node::prepare_on(lab, host, name).unwrap();
            node.start_with(&["--token-file", &token.to_string_lossy()]).unwrap();
            node.wait_connected();
            node
        });
        let this = Self { nodes, coordinator };
        this.stands();
        this
    }

    /// Waits until the right end answers the left one.
    pub(crate) fn stands(&self) {
        let deadline = Instant::now() + START_LIMIT;
        while !self.answers() {
            let logs = || self.nodes.each_ref().map(Node::log).join("\n");
            assert!(Instant::now() < deadline, "our tunnel does not stand:\n{}", logs());
        }
    }

    /// Whether the right end answers the left one.
    pub(crate) fn answers(&self) -> bool {
        self.nodes[0].host.run("ping", &["-c1", "-W1", &self.target().to_string()]).unwrap().ok()
    }

    /// The right end's overlay address.
    pub(crate) fn target(&self) -> Ipv4Addr {
        self.nodes[1].v4()
    }

    pub(crate) fn pids(&mut self) -> Vec<u32> {
        self.nodes.iter_mut().map(|node| node.process().id()).collect()
    }

    pub(crate) fn hosts(&self) -> [&Namespace; 2] {
        [&self.nodes[0].host, &self.nodes[1].host]
    }
}

/// The pair, and the coordinator's host beside it.
pub(crate) fn hosts(lab: &Lab) -> ([Namespace; 2], Namespace) {
    let hosts = pair(lab);
    let hub = beside_left(lab, [&hosts[0], &hosts[1]], "hub", SUBNET);
    (hosts, hub)
}
