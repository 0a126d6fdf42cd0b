//! The policy verbs on a live deployment: a plan names what it would cut and cuts it, and every question has the same
//! answer from the coordinator and from files.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bulkhead_tests::{Output, process, program};

use crate::mesh::{Mesh, POLICY};
use crate::policy::{connect, echo_server, exchange};

/// Both sides answer for one moment, so that their clocks cannot make a difference.
const AT: [&str; 2] = ["--at", "2026-12-01T12:00:00Z"];

/// [`POLICY`] without the database's port.
fn narrowed() -> String {
    let narrowed = POLICY.replace("[\"tcp/5432\", \"tcp/80\",", "[\"tcp/80\",");
    assert_ne!(narrowed, POLICY);
    narrowed.replace("allow = [\"tcp/5432\"]", "allow = [\"tcp/80\"]")
}

#[test]
fn a_plan_names_the_live_connection_that_it_cuts() {
    let mesh = Mesh::start();
    echo_server(&mesh.db, 5432);
    echo_server(&mesh.db, 80);
    let mut doomed = connect(&mesh.web, SocketAddr::from((mesh.db.v4(), 5432))).unwrap();
    let mut spared = connect(&mesh.web, SocketAddr::from((mesh.db.v4(), 80))).unwrap();
    exchange(&mut doomed).unwrap();
    exchange(&mut spared).unwrap();

    let folder = mesh.coordinator.write_policy(&narrowed()).unwrap().to_string_lossy().into_owned();
    let plan = mesh.coordinator.ctl_json(&["policy", "plan", &folder]).unwrap();
    let cut = plan["cut"].as_array().unwrap();
    assert_eq!(cut.len(), 1, "{cut:?}");
    let flow = &cut[0]["flow"];
    assert_eq!((&flow["from"], &flow["to"]), (&"web".into(), &"db".into()));
    assert_eq!((&flow["service"], &cut[0]["was"]), (&"tcp/5432".into(), &"web-to-db".into()));
    let shown = mesh.coordinator.ctl(&["policy", "plan", &folder]).unwrap().success().unwrap();
    assert!(shown.contains("tcp/5432") && shown.contains("web-to-db"), "{shown}");
    exchange(&mut doomed).expect("to plan is not to do");

    mesh.coordinator.apply(&narrowed()).unwrap();
    assert_eq!(doomed.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    exchange(&mut spared).expect("what the plan did not name goes on");
    let nothing = mesh.coordinator.ctl(&["policy", "plan", &folder, "--exit-code"]).unwrap();
    assert_eq!(nothing.code, 0, "what is in force changes nothing: {nothing:?}");
}

/// `bulkheadctl --json ARGS` where no coordinator is.
fn offline(args: &[&str]) -> Output {
    let mut command = process::command(program("bulkheadctl"), &["--json", "--socket", "/nonexistent"]);
    process::run(command.args(args), Duration::from_secs(60)).unwrap()
}

#[test]
fn every_question_has_one_answer_online_and_offline() {
    let mesh = Mesh::start();
    let policy = mesh.coordinator.write_policy(POLICY).unwrap().to_string_lossy().into_owned();
    let nodes = mesh.lab.folder().join("nodes.json");
    let listed = mesh.coordinator.ctl(&["--json", "node", "list"]).unwrap().success().unwrap();
    std::fs::write(&nodes, listed).unwrap();
    let files = ["--policy", &policy, "--nodes", &nodes.to_string_lossy()];
    let questions: &[(&[&str], i32, &str)] = &[
        (&["who-can", "db"], 0, "web-to-db"),
        (&["who-can", "db", "tcp/9100"], 0, "metrics-scrape"),
        (&["who-can", "metrics"], 0, "[]"),
        (&["from", "web"], 0, "\"db\""),
        (&["from", "intruder"], 0, "[]"),
        (&["explain", "web", "db", "tcp/5432"], 0, "web-to-db"),
        (&["explain", "intruder", "db", "tcp/5432", "--all"], 3, "nothing-from-intruder"),
        (&["assert", "never", "role=intruder", "->", "*"], 0, "holds"),
        (&["assert", "never", "role=web", "->", "role=db", "tcp/1-6000"], 4, "counterexample"),
        (&["exposure"], 0, "metrics-scrape"),
        (&["exposure", "--to", "role=db", "--ports", "tcp/5432"], 0, "web-to-db"),
    ];
    for (question, code, expected) in questions {
        let question = [&["policy"], *question, &AT].concat();
        let online = mesh.coordinator.ctl(&[&["--json"], &question[..]].concat()).unwrap();
        let offline = offline(&[&question[..], &files].concat());
        assert_eq!((online.code, offline.code), (*code, *code), "{question:?}: {online:?} {offline:?}");
        assert_eq!(without_generation(&online.stdout), offline.stdout, "{question:?}");
        let compact = online.json_whatever_the_code().to_string();
        assert!(compact.contains(expected), "{question:?}: {expected} is not in {compact}");
    }
}

/// Only a coordinator knows which generation it answered from; files have none.
fn without_generation(answer: &str) -> String {
    answer
        .lines()
        .filter(|line| !line.starts_with("  \"generation\":"))
        .map(|line| format!("{line}\n"))
        .collect()
}

trait Shown {
    /// The JSON on standard output, also of a command that says no.
    fn json_whatever_the_code(&self) -> serde_json::Value;
}

impl Shown for Output {
    fn json_whatever_the_code(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[test]
fn findings_travel_as_sarif_and_text_is_laid_out_one_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.toml");
    let directory = folder.path().to_string_lossy().into_owned();
    let write = |text: &str| std::fs::write(&file, text).unwrap();

    write(&POLICY.replace("role=web\"\nto", "role=wbe\"\nto"));
    let mut command = process::command(program("bulkheadctl"), &["policy", "check", &directory]);
    let found = process::run(command.args(["--format", "sarif"]), Duration::from_secs(60)).unwrap();
    assert_eq!(found.code, 4, "{found:?}");
    let sarif = found.json_whatever_the_code();
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("main.toml"), "{sarif:#}");
    assert_eq!(place["region"]["startLine"], 9, "{sarif:#}");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == results[0]["ruleId"]), "{sarif:#}");

    // A comment, and a layout that nobody would choose.
    let scattered = format!("# who may talk to whom\n{}", POLICY.replace("id = ", "id   =   "));
    write(&scattered);
    let checked = |path: &Path| offline(&["policy", "fmt", "--check", &path.to_string_lossy()]);
    let unformatted = checked(folder.path());
    assert_eq!(unformatted.code, 4, "{unformatted:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), scattered, "to check is not to write");
    offline(&["policy", "fmt", "--write", &directory]).success().unwrap();
    let formatted = std::fs::read_to_string(&file).unwrap();
    assert!(formatted.contains("# who may talk to whom") && formatted.contains("id = \"web-to-db\""));
    assert_eq!(checked(folder.path()).code, 0);
    offline(&["policy", "check", &directory]).success().unwrap();
}

#[test]
fn a_plan_between_directories_needs_no_coordinator() {
    let mesh = Mesh::start();
    let nodes = mesh.lab.folder().join("nodes.json");
    let listed = mesh.coordinator.ctl(&["--json", "node", "list"]).unwrap().success().unwrap();
    std::fs::write(&nodes, listed).unwrap();
    let old = mesh.lab.folder().join("old.d");
    std::fs::create_dir(&old).unwrap();
    std::fs::write(old.join("main.toml"), POLICY).unwrap();
    let new = mesh.coordinator.write_policy(&narrowed()).unwrap();
    let [old, new, nodes] = [&old, &new, &nodes].map(|path| path.to_string_lossy().into_owned());
    let online = mesh.coordinator.ctl_json(&[&["policy", "plan", &new][..], &AT].concat()).unwrap();
    let offline = offline(&[&["policy", "plan", &old, &new, "--nodes", &nodes][..], &AT].concat());
    let offline = offline.json().unwrap();
    for part in ["rules", "classes", "views", "unused"] {
        assert_eq!(online[part], offline[part], "{part}");
    }
}
