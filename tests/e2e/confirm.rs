//! Commit-confirm drills: a policy that nobody confirms goes back by itself, whoever or whatever is killed meanwhile.
//! Twenty of twenty: 6 that nobody confirms, 8 with a kill -9 of the coordinator, 6 with a node that does not come back.

use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Node, Output, until};
use serde_json::Value;

use crate::load::reaches;
use crate::policy::echo_server;

/// Long enough to try a policy out, and to end a coordinator and start it again, on a machine that stands still now and then.
const WINDOW: Duration = Duration::from_secs(20);
/// The rest of the window, and what comes after it: a node that lost the coordinator notices within 15 s, and comes back
/// within some more.
const BACK: Duration = Duration::from_secs(120);

/// What the policy to fall back on permits.
const PROVEN: u16 = 5001;
/// What the one on trial permits.
const TRIED: u16 = 5002;

fn text(port: u16) -> String {
    format!(
        "version = 1\n[labels.role]\nvalues = [\"web\", \"db\", \"spare\"]\n\n[[allow]]\nid = \"port-{port}\"\n\
         from = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/{port}\"]\nwhy = \"a drill\"\n"
    )
}

/// Two nodes that talk, one that stands by, and a coordinator of their own.
struct Estate {
    web: Node,
    db: Node,
    spare: Node,
    coordinator: Coordinator,
    _lab: Lab,
}

impl Estate {
    fn start() -> Self {
        let lab = Lab::new().unwrap();
        let coordinator = Coordinator::start(&lab, &[]).unwrap();
        let enrol = |name: &str| Node::enrol(&lab, &coordinator, name, &[&format!("role={name}")]).unwrap();
        let (web, db, spare) = (enrol("web"), enrol("db"), enrol("spare"));
        echo_server(&db, PROVEN);
        echo_server(&db, TRIED);
        coordinator.apply(&text(PROVEN)).unwrap();
        let this = Self { web, db, spare, coordinator, _lab: lab };
        this.enforces(PROVEN, TRIED);
        this
    }

    /// The verdict of real traffic.
    fn enforces(&self, permitted: u16, refused: u16) {
        let (web, db) = (&self.web, self.db.v4());
        until(&format!("port {permitted} is open"), BACK, || reaches(web, (db, permitted)));
        assert!(!reaches(web, (db, refused)), "port {refused} is closed when {permitted} is open");
    }

    fn policy(&self, args: &[&str]) -> Output {
        self.coordinator.ctl(&[&["policy"], args].concat()).unwrap()
    }

    fn shown(&self) -> Value {
        self.coordinator.ctl_json(&["policy", "show"]).unwrap()
    }

    /// Applies the policy on trial; when its window began.
    fn try_out(&self) -> Instant {
        let folder = self.coordinator.write_policy(&text(TRIED)).unwrap();
        let started = Instant::now();
        let seconds = format!("{}s", WINDOW.as_secs());
        self.policy(&["apply", &folder.to_string_lossy(), "--confirm-within", &seconds]).success().unwrap();
        self.enforces(TRIED, PROVEN);
        assert!(started.elapsed() < WINDOW, "this machine is too slow for this drill");
        started
    }

    /// Whoever is not missing acknowledges, a little after it enforces.
    fn waits_for(&self, missing: &[&str]) {
        until("the rest has acknowledged", WINDOW, || {
            self.shown()["pending"]["waiting"] == serde_json::json!(missing)
        });
    }

    /// The proven policy is in force again, on the nodes and in the books, and nothing waits any more.
    fn went_back(&self, what: &str) {
        self.enforces(PROVEN, TRIED);
        let shown = self.shown();
        assert_eq!(shown["sources"]["main.toml"], text(PROVEN), "{what}");
        assert_eq!(shown["pending"], Value::Null, "{what}");
        eprintln!("went back: {what}");
    }

    /// The tried policy stays, also when the coordinator starts again.
    fn stays(&mut self, since: Instant) {
        until("the window is over", 2 * WINDOW, || since.elapsed() > WINDOW + Duration::from_secs(1));
        let generation = self.shown()["generation"].clone();
        self.coordinator.kill();
        self.coordinator.serve().unwrap();
        let shown = self.shown();
        assert_eq!((&shown["generation"], &shown["pending"]), (&generation, &Value::Null));
        assert_eq!(shown["sources"]["main.toml"], text(TRIED));
        self.enforces(TRIED, PROVEN);
    }
}

/// Runs a drill in as many estates at once.
fn in_each_of(estates: usize, drill: impl Fn(&mut Estate) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..estates {
            scope.spawn(|| drill(&mut Estate::start()));
        }
    });
}

#[test]
fn what_nobody_confirms_goes_back() {
    in_each_of(3, |estate| {
        for _ in 0..2 {
            estate.try_out();
            estate.waits_for(&[]);
            estate.went_back("nobody confirmed");
        }
    });
}

#[test]
fn what_a_killed_coordinator_could_not_see_confirmed_goes_back() {
    in_each_of(4, |estate| {
        estate.try_out();
        estate.coordinator.kill();
        estate.coordinator.serve().unwrap();
        assert_ne!(estate.shown()["pending"], Value::Null, "the window goes on after the restart");
        estate.went_back("killed, and started again before the end");
        estate.web.wait_connected();
        estate.db.wait_connected();

        let started = estate.try_out();
        estate.coordinator.kill();
        until("the window is over", 2 * WINDOW, || started.elapsed() > WINDOW);
        estate.coordinator.serve().unwrap();
        estate.went_back("killed, and started again after the end");
    });
}

#[test]
fn what_a_node_did_not_come_back_under_goes_back() {
    in_each_of(3, |estate| {
        for _ in 0..2 {
            // To the coordinator it is still connected when the policy is applied: it is waited for.
            estate.spare.kill();
            estate.try_out();
            estate.waits_for(&["spare"]);
            let refused = estate.policy(&["confirm"]);
            assert!(!refused.ok() && refused.stderr.contains("spare"), "{refused:?}");
            assert!(refused.stderr.contains("--without"), "{refused:?}");
            estate.went_back("a node did not come back");
            estate.spare.start().unwrap();
            estate.spare.wait_connected();
        }
    });
}

#[test]
fn what_is_confirmed_stays() {
    let mut estate = Estate::start();
    let started = estate.try_out();
    let folder = estate.coordinator.write_policy(&text(PROVEN)).unwrap();
    let second = estate.policy(&["apply", &folder.to_string_lossy()]);
    assert!(!second.ok(), "one change at a time: {second:?}");
    for remedy in ["policy confirm", "policy rollback"] {
        assert!(second.stderr.contains(remedy), "{second:?}");
    }
    estate.waits_for(&[]);
    estate.policy(&["confirm"]).success().unwrap();
    estate.stays(started);
    assert!(!estate.policy(&["confirm"]).ok(), "nothing waits");
}

#[test]
fn what_is_confirmed_without_a_missing_node_stays() {
    let mut estate = Estate::start();
    estate.spare.kill();
    let started = estate.try_out();
    estate.waits_for(&["spare"]);
    assert!(!estate.policy(&["confirm"]).ok());
    assert!(!estate.policy(&["confirm", "--without", "nobody"]).ok(), "a name that nobody waits for");
    estate.policy(&["confirm", "--without", "spare"]).success().unwrap();
    estate.stays(started);
}

#[test]
fn a_window_outside_its_limits_is_refused() {
    let estate = Estate::start();
    let folder = estate.coordinator.write_policy(&text(TRIED)).unwrap();
    for (window, limit) in [("1s", "MIN_CONFIRM_WITHIN"), ("25h", "MAX_CONFIRM_WITHIN")] {
        let refused = estate.policy(&["apply", &folder.to_string_lossy(), "--confirm-within", window]);
        assert!(!refused.ok() && refused.stderr.contains(limit), "{refused:?}");
    }
    estate.enforces(PROVEN, TRIED);
}
