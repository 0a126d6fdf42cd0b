//! The four hosts that most tests start from: `web` may reach `db`, `metrics` may reach both, `intruder` nothing.

use bulkhead_protocol::control::{MapUpdate, PeerMap};
use bulkhead_tests::{Coordinator, Lab, Node};

/// The policy in force in [`Mesh::start`].
pub(crate) const POLICY: &str = r#"
version = 1

[labels.role]
values = ["web", "db", "metrics", "intruder"]

[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432", "tcp/80", "udp/7000", "icmp"]
why = "orders live in db"

[[allow]]
id = "metrics-scrape"
from = "role=metrics"
to = "role in (web, db)"
ports = ["tcp/9100"]
why = "monitoring"

[[never]]
id = "nothing-from-intruder"
from = "role=intruder"
to = "*"

[[test]]
name = "web reaches db, the intruder does not"
from = "role=web"
to = "role=db"
allow = ["tcp/5432"]
deny = ["tcp/22"]
"#;

/// A running estate.
pub(crate) struct Mesh {
    // Nodes before the coordinator before the lab: what was started last ends first.
    pub(crate) web: Node,
    pub(crate) db: Node,
    pub(crate) metrics: Node,
    pub(crate) intruder: Node,
    pub(crate) coordinator: Coordinator,
    pub(crate) lab: Lab,
}

impl Mesh {
    /// Four enrolled nodes under [`POLICY`].
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with options for `bulkhead-coordinator serve`.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let lab = Lab::new().unwrap();
        let coordinator = Coordinator::start(&lab, options).unwrap();
        let enrol = |name: &str| Node::enrol(&lab, &coordinator, name, &[&format!("role={name}")]).unwrap();
        let (web, db, metrics, intruder) = (enrol("web"), enrol("db"), enrol("metrics"), enrol("intruder"));
        coordinator.apply(POLICY).unwrap();
        Self { web, db, metrics, intruder, coordinator, lab }
    }
}

/// The peer map that a node keeps on its disk: exactly what the coordinator sent it.
pub(crate) fn map_of(node: &Node) -> PeerMap {
    let bytes = std::fs::read(node.state().join("map.cbor")).unwrap();
    let update: MapUpdate = minicbor::decode(&bytes).unwrap();
    PeerMap::default().apply(update).unwrap()
}
