//! What people wait for: a node that joins, and a policy that every node enforces.

use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Node, until};

use crate::mesh::permissive;
use crate::report::Alone;
use crate::usage::resident_mb;

/// Policies applied one after the other.
const POLICIES: usize = 20;

/// Prints both, with four nodes on one segment, and the coordinator's memory.
pub(crate) fn run(alone: &mut Alone) {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.apply(&permissive(0)).unwrap();

    let (mut first_ping, mut nodes) = (Vec::new(), Vec::<Node>::new());
    for name in ["a", "b", "c", "d"] {
        let token = coordinator.token(name, &[]).unwrap();
        let mut node = Node::prepare(&lab, name).unwrap();
        let started = Instant::now();
        node.start_with(&["--token-file", &token.to_string_lossy()]).unwrap();
        if let Some(first) = nodes.first() {
            let target = first.v4().to_string();
            until("the first ping", Duration::from_secs(30), || {
                node.host.run("ping", &["-c1", "-W1", &target]).unwrap().ok()
            });
            first_ping.push(started.elapsed().as_secs_f64() * 1e3);
        }
        nodes.push(node);
    }
    alone.note("`bulkhead up` with a token to the first ping", "ms", &first_ping);

    let mut applied = Vec::new();
    for round in 0..POLICIES {
        let folder = coordinator.write_policy(&permissive(round % 2)).unwrap();
        let started = Instant::now();
        coordinator
            .ctl(&["policy", "apply", &folder.to_string_lossy(), "--wait"])
            .unwrap()
            .success()
            .unwrap();
        applied.push(started.elapsed().as_secs_f64() * 1e3);
    }
    alone.note("`policy apply --wait`, command to last of 4 acknowledgements", "ms", &applied);
    alone.note("resident, idle: coordinator", "MB", &[resident_mb(coordinator.process().id())]);
}
