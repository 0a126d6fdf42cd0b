//! The journal: what was acknowledged survives kill -9, and no damage goes unseen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, until};

use crate::mesh::POLICY;

/// How often the coordinator is killed in the middle of writes.
const KILLS: u32 = 200;

#[test]
fn s7_acknowledged_changes_survive_200_kills() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let node = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let folder = coordinator.write_policy(POLICY).unwrap();
    let folder = folder.to_string_lossy().into_owned();
    // What was acknowledged last, of each kind.
    let (mut label, mut generation, mut tokens) = (None, 0, 0);
    for round in 0..KILLS {
        let stop = AtomicBool::new(false);
        let mut process = std::mem::replace(coordinator.process(), placeholder(&lab));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut step = 0_u32;
                let (mut label, mut generation, mut tokens) = (None, None, 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("r{round}-{step}");
                    let wrote = match step % 3 {
                        0 => coordinator
                            .ctl(&["node", "label", "web", &format!("build={text}")])
                            .map(|o| o.ok()),
                        1 => coordinator.ctl(&["token", "create"]).map(|o| o.ok()),
                        _ => coordinator.ctl_json(&["policy", "apply", &folder]).map(|applied| {
                            generation = applied["generation"].as_u64();
                            true
                        }),
                    };
                    // A command that failed was not acknowledged: its change may be there or not.
                    match (wrote.unwrap_or(false), step % 3) {
                        (true, 0) => label = Some(text),
                        (true, 1) => tokens += 1,
                        (true, _) => {}
                        (false, _) => break,
                    }
                    step += 1;
                }
                (label, generation, tokens)
            });
            // Somewhere inside the writer's commands, a different place each round.
            std::thread::park_timeout(Duration::from_millis(u64::from(20 + round * 7 % 90)));
            process.kill();
            stop.store(true, Ordering::Relaxed);
            let (l, g, t) = writer.join().unwrap();
            label = l.or(label.take());
            generation = g.unwrap_or(generation);
            tokens += t;
        });
        coordinator.serve().unwrap();
        let shown = coordinator.ctl_json(&["node", "show", "web"]).unwrap();
        if let Some(label) = &label {
            let stored = shown["labels"]["build"].as_str().unwrap_or("");
            assert!(
                newer_or_same(stored, label),
                "round {round}: {label} was acknowledged, {stored} is stored"
            );
        }
        let policy = coordinator.ctl_json(&["policy", "show"]).unwrap();
        assert!(policy["generation"].as_u64().unwrap() >= generation, "round {round}");
        let listed = coordinator.ctl_json(&["token", "list"]).unwrap()["tokens"].as_array().unwrap().len();
        assert!(
            listed as u64 >= tokens,
            "round {round}: {tokens} tokens were acknowledged, {listed} are stored"
        );
    }
    coordinator.ctl(&["audit", "verify"]).unwrap().success().unwrap();
    coordinator.stop();
    coordinator.tool(&["journal", "verify"]).unwrap().success().unwrap();
    drop(node);
}

/// Labels are `r<round>-<step>`; the stored one may be the next step, whose acknowledgement was cut off.
fn newer_or_same(stored: &str, acknowledged: &str) -> bool {
    let parse = |s: &str| -> Option<(u32, u32)> {
        let (round, step) = s.strip_prefix('r')?.split_once('-')?;
        Some((round.parse().ok()?, step.parse().ok()?))
    };
    parse(stored) >= parse(acknowledged)
}

/// Stands in while the real process is being killed.
fn placeholder(lab: &Lab) -> bulkhead_tests::Process {
    bulkhead_tests::Process::start(
        &mut bulkhead_tests::process::command("true", &[]),
        &lab.folder().join("placeholder.log"),
    )
    .unwrap()
}

#[test]
fn the_index_is_rebuilt_when_it_is_gone() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let _web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    coordinator.apply(POLICY).unwrap();
    let before = coordinator.ctl_json(&["node", "show", "web"]).unwrap();
    coordinator.stop();
    std::fs::remove_dir_all(coordinator.state().join("index.sled")).unwrap();
    coordinator.serve().unwrap();
    let after = coordinator.ctl_json(&["node", "show", "web"]).unwrap();
    for field in ["name", "labels", "ipv4", "ipv6", "fingerprint", "enrolled"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"], 1);
}

#[test]
fn s6_a_flipped_byte_stops_the_coordinator_with_file_and_offset() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.token("web", &["role=web"]).unwrap();
    coordinator.stop();
    let segment = std::fs::read_dir(coordinator.state().join("journal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|p| std::fs::metadata(p).unwrap().len())
        .unwrap();
    let good = std::fs::read(&segment).unwrap();
    // Every byte in turn is the journal's own test; here the program as a whole refuses, at a few places.
    for place in [good.len() / 7, good.len() / 2, good.len() - 2] {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        std::fs::write(&segment, &bad).unwrap();
        let mut process = coordinator.serve_without_waiting().unwrap();
        until("the coordinator refuses to start", Duration::from_secs(20), || !process.running());
        assert!(process.log().contains("offset"), "{}", process.log());
        assert!(!coordinator.tool(&["journal", "verify"]).unwrap().ok());
    }
    std::fs::write(&segment, &good).unwrap();
    coordinator.serve().unwrap();
}

#[test]
fn s5_yesterdays_backup_does_not_un_revoke() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();
    coordinator.apply(POLICY).unwrap();
    until("db knows web", Duration::from_secs(10), || db.peers().is_ok_and(|p| p == ["web"]));
    let backup = lab.folder().join("backup");
    coordinator.tool(&["backup", &backup.to_string_lossy()]).unwrap().success().unwrap();
    coordinator
        .ctl(&["node", "revoke", "web", "--reason", "stolen", "--wait", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    until("db lost web", Duration::from_secs(10), || db.peers().is_ok_and(|p| p.is_empty()));

    coordinator.stop();
    std::fs::remove_dir_all(coordinator.state()).unwrap();
    coordinator.tool(&["restore", &backup.to_string_lossy()]).unwrap().success().unwrap();
    coordinator.serve().unwrap();
    db.wait_connected();
    // The restored coordinator believes in web; db remembers better.
    assert!(db.peers().unwrap().is_empty());
    let output = coordinator.ctl(&["token", "create"]).unwrap();
    assert!(!output.ok() && output.stderr.contains("restore"), "read-only until accepted: {output:?}");
    assert!(db.peers().unwrap().is_empty());
    drop(web);
}
