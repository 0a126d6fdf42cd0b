//! Joining: what a node is told, and that a one-time token is one time.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, SOON, process, program, until};

use crate::mesh::{Mesh, map_of};

/// The names in a node's peer map.
fn map_names(node: &Node) -> Vec<String> {
    map_of(node).peers.keys().map(ToString::to_string).collect()
}

#[test]
fn status_and_map_name_only_permitted_peers() {
    let mesh = Mesh::start();
    let expected: BTreeMap<&str, Vec<&str>> = [
        ("web", vec!["db", "metrics"]),
        ("db", vec!["metrics", "web"]),
        ("metrics", vec!["db", "web"]),
        ("intruder", vec![]),
    ]
    .into();
    for node in [&mesh.web, &mesh.db, &mesh.metrics, &mesh.intruder] {
        let wanted = &expected[node.name.as_str()];
        until(&format!("{} shows {wanted:?}", node.name), SOON, || node.peers().is_ok_and(|p| p == *wanted));
        assert_eq!(map_names(node), *wanted, "{}", node.name);
        let text = node.cli(&["status"]).unwrap().success().unwrap();
        for other in ["web", "db", "metrics", "intruder"] {
            let shown = text.lines().skip(1).any(|l| l.starts_with(other));
            assert_eq!(shown, wanted.contains(&other), "{}: {text}", node.name);
        }
    }
}

#[test]
fn d1_a_single_use_token_enrols_exactly_one_of_200() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let token = coordinator.folder().join("shared.token");
    coordinator
        .ctl(&["token", "create", "--label", "role=web", "--out", &token.to_string_lossy()])
        .unwrap()
        .success()
        .unwrap();
    // Many clients from one host: each `up` enrols, then fails to become a second daemon on this interface or
    // is ended; only enrolment is looked at here, so the daemon is not started.
    let host = lab.host("crowd").unwrap();
    let results: Vec<bool> = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..200)
            .map(|i| {
                let (host, token, folder) = (&host, &token, lab.folder());
                scope.spawn(move || {
                    let mut command = host.command(program("bulkhead"));
                    command.arg("--state").arg(folder.join(format!("crowd-{i}")));
                    command.arg("--socket").arg(folder.join(format!("crowd-{i}.sock")));
                    command
                        .args(["up", "--enrol-only", "--name", &format!("crowd-{i}"), "--token-file"])
                        .arg(token);
                    process::run(&mut command, Duration::from_secs(120)).unwrap().ok()
                })
            })
            .collect();
        attempts.into_iter().map(|a| a.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|&&ok| ok).count(), 1);
    let nodes = coordinator.ctl_json(&["node", "list"]).unwrap();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_bad_token_is_refused_with_a_next_step_and_leaves_nothing() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let garbled = coordinator.token("web", &["role=web"]).unwrap();
    let revoked = coordinator.token("late", &["role=web"]).unwrap();
    let list = coordinator.ctl_json(&["token", "list"]).unwrap();
    for token in list["tokens"].as_array().unwrap() {
        coordinator.ctl(&["token", "revoke", token["id"].as_str().unwrap()]).unwrap().success().unwrap();
    }
    std::fs::write(&garbled, "bulkhead1.not-a-token").unwrap();
    for (token, next_step) in [(&garbled, "copy it again"), (&revoked, "bulkheadctl token create")] {
        let node = Node::prepare(&lab, "web").unwrap();
        let output = node.cli(&["up", "--foreground", "--token-file", &token.to_string_lossy()]).unwrap();
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("token") && output.stderr.contains(next_step), "{output:?}");
        assert!(!node.state().join("certificate.cbor").exists());
        drop(node);
        std::fs::remove_dir_all(lab.folder().join("web")).unwrap();
    }
    assert_eq!(coordinator.ctl_json(&["node", "list"]).unwrap()["nodes"].as_array().unwrap().len(), 0);
}
