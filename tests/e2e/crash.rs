//! The journal: what was acknowledged survives kill -9, and no damage goes unseen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Namespace, Node, SOON, process, program, until};

use crate::mesh::POLICY;

/// How often the coordinator is killed in the middle of writes.
const KILLS: u32 = 200;

/// What the coordinator has acknowledged, and must remember.
#[derive(Default)]
struct Acknowledged {
    /// The last label of `web`, as (round, step).
    label: (u32, u32),
    generation: u64,
    tokens: usize,
    enrolled: Vec<String>,
    revoked: Vec<String>,
}

impl Acknowledged {
    /// One change after another until the coordinator dies. A command that failed was not acknowledged: its change
    /// may be there or not.
    fn write(
        &mut self,
        coordinator: &Coordinator,
        crowd: &Namespace,
        policy: &str,
        round: u32,
        steps: &AtomicU32,
    ) -> anyhow::Result<()> {
        for step in 0.. {
            steps.store(step, Ordering::Relaxed);
            let name = format!("n-{round}-{step}");
            match step % 5 {
                0 => {
                    let label = format!("build=r{round}-{step}");
                    coordinator.ctl(&["node", "label", "web", &label])?.success()?;
                    self.label = (round, step);
                }
                1 => {
                    coordinator.ctl(&["token", "create"])?.success()?;
                    self.tokens += 1;
                }
                2 => {
                    let applied = coordinator.ctl_json(&["policy", "apply", policy])?;
                    self.generation = applied["generation"].as_u64().unwrap();
                }
                3 => {
                    let token = coordinator.token(&name, &["role=web"])?;
                    self.tokens += 1;
                    let mut command = crowd.command(program("bulkhead"));
                    command.arg("--state").arg(coordinator.folder().join(&name));
                    command.arg("--socket").arg(coordinator.folder().join(format!("{name}.sock")));
                    command.args(["up", "--enrol-only", "--token-file"]).arg(&token);
                    process::run(&mut command, Duration::from_secs(60))?.success()?;
                    self.enrolled.push(name);
                }
                _ => {
                    let victim = self.enrolled.last().unwrap().clone();
                    coordinator.ctl(&["node", "revoke", &victim, "--reason", "drill", "--yes"])?.success()?;
                    self.revoked.push(victim);
                }
            }
        }
        Ok(())
    }

    /// Everything acknowledged is there.
    fn check(&self, coordinator: &Coordinator, round: u32) {
        let listed = coordinator.ctl_json(&["node", "list"]).unwrap();
        let nodes: BTreeMap<&str, &serde_json::Value> =
            listed["nodes"].as_array().unwrap().iter().map(|n| (n["name"].as_str().unwrap(), n)).collect();
        for name in &self.enrolled {
            assert!(nodes.contains_key(name.as_str()), "round {round}: {name} had enrolled");
        }
        for name in &self.revoked {
            assert_eq!(nodes[name.as_str()]["state"], "revoked", "round {round}: {name}");
        }
        let stored = nodes["web"]["labels"]["build"].as_str().and_then(parse_label).unwrap_or_default();
        assert!(
            stored >= self.label,
            "round {round}: {:?} was acknowledged, {stored:?} is stored",
            self.label
        );
        let policy = coordinator.ctl_json(&["policy", "show"]).unwrap();
        assert!(policy["generation"].as_u64().unwrap() >= self.generation, "round {round}");
        let tokens = coordinator.ctl_json(&["token", "list"]).unwrap()["tokens"].as_array().unwrap().len();
        assert!(
            tokens >= self.tokens,
            "round {round}: {} tokens were acknowledged, {tokens} are stored",
            self.tokens
        );
    }
}

/// `r<round>-<step>`; the stored label may be a later one, whose acknowledgement was cut off.
fn parse_label(label: &str) -> Option<(u32, u32)> {
    let (round, step) = label.strip_prefix('r')?.split_once('-')?;
    Some((round.parse().ok()?, step.parse().ok()?))
}

#[test]
fn s7_acknowledged_changes_survive_200_kills() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let _web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let crowd = lab.host("crowd").unwrap();
    let policy = coordinator.write_policy(POLICY).unwrap().to_string_lossy().into_owned();
    let mut acknowledged = Acknowledged::default();
    for round in 0..KILLS {
        let process = std::mem::replace(coordinator.process(), placeholder(&lab));
        let steps = AtomicU32::new(0);
        std::thread::scope(|scope| {
            // Ends with this scope, whatever happens here; and the writer with it.
            let mut process = process;
            let writer = scope.spawn(|| {
                let ended = acknowledged.write(&coordinator, &crowd, &policy, round, &steps);
                assert!(ended.is_err(), "the writer goes on until the coordinator is gone");
            });
            // Somewhere inside the writer's commands, a different place each round.
            until("the writer has come so far", SOON, || {
                assert!(!writer.is_finished(), "nobody has killed the coordinator yet");
                steps.load(Ordering::Relaxed) >= round % 6
            });
            // The fourth, an enrolment, is the longest.
            let longest = if round % 6 == 3 { 400 } else { 100 };
            std::thread::park_timeout(Duration::from_millis(u64::from(round * 37 % longest)));
            assert!(process.running(), "round {round}:\n{}", process.log());
            process.kill();
            writer.join().unwrap();
        });
        coordinator.serve().unwrap();
        acknowledged.check(&coordinator, round);
    }
    let Acknowledged { enrolled, revoked, .. } = &acknowledged;
    assert!(enrolled.len() > 50 && revoked.len() > 20, "{} and {}", enrolled.len(), revoked.len());
    coordinator.ctl(&["audit", "verify"]).unwrap().success().unwrap();
    coordinator.stop();
    coordinator.tool(&["journal", "verify"]).unwrap().success().unwrap();
}

/// Stands in while the real process is being killed.
fn placeholder(lab: &Lab) -> bulkhead_tests::Process {
    bulkhead_tests::Process::start(&mut process::command("true", &[]), &lab.folder().join("placeholder.log"))
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
        until("the coordinator refuses to start", SOON, || !process.running());
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
    until("db knows web", SOON, || db.peers().is_ok_and(|p| p == ["web"]));
    let backup = lab.folder().join("backup");
    coordinator.tool(&["backup", &backup.to_string_lossy()]).unwrap().success().unwrap();
    coordinator
        .ctl(&["node", "revoke", "web", "--reason", "stolen", "--wait", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    until("db lost web", SOON, || db.peers().is_ok_and(|p| p.is_empty()));

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
    coordinator.ctl(&["restore", "accept", "--yes"]).unwrap().success().unwrap();
    coordinator.ctl(&["token", "create"]).unwrap().success().unwrap();
    drop(web);
}
