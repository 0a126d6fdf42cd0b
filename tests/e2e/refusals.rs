//! What `policy apply` refuses, and that each refusal names its override: failing tests, an edit of something that is no
//! longer in force, and the loss of one's own way in.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, Output, Process, SOON, process, program, until};

use crate::mesh::{Mesh, POLICY};

/// `web` administers through the overlay: the coordinator's machine is the node `hub`.
const WITH_WAY: &str = r#"
version = 1

[labels.role]
values = ["web", "hub"]

[[allow]]
id = "administration"
from = "role=web"
to = "role=hub"
ports = ["tcp/8443", "udp/8443"]
why = "people reach the coordinator through the overlay"
"#;

/// The way is still there, and something else is new.
const STILL_WITH_WAY: &str = r#"
[[allow]]
id = "ping"
from = "role=web"
to = "role=hub"
ports = ["icmp"]
why = "is it up?"
"#;

const WITHOUT_WAY: &str = r#"
version = 1

[labels.role]
values = ["web", "hub"]

[[allow]]
id = "ping"
from = "role=web"
to = "role=hub"
ports = ["icmp"]
why = "is it up?"
"#;

fn refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{word} is not in {output:?}");
    }
}

#[test]
fn failing_tests_and_a_stale_base_are_refused_unless_told_otherwise() {
    let mesh = Mesh::start();
    let apply = |text: &str, more: &[&str]| {
        let folder = mesh.coordinator.write_policy(text).unwrap().to_string_lossy().into_owned();
        mesh.coordinator.ctl(&[&["policy", "apply", &folder], more].concat()).unwrap()
    };
    let failing = POLICY.replace("deny = [\"tcp/22\"]", "deny = [\"tcp/80\"]");
    refused(&apply(&failing, &[]), 4, &["web reaches db", "--allow-failing-tests"]);
    apply(&failing, &["--allow-failing-tests"]).success().unwrap();
    refused(&apply(POLICY, &["--base", "1"]), 5, &["generation 1", "--base 2"]);
    apply(POLICY, &["--base", "2"]).success().unwrap();
}

/// A node on the coordinator's own machine. `Node` has a host of its own; this one has not.
struct Hub {
    state: PathBuf,
    socket: PathBuf,
    _process: Process,
}

impl Hub {
    fn enrol(lab: &Lab, coordinator: &Coordinator) -> Self {
        let folder = lab.folder().join("hub");
        std::fs::create_dir(&folder).unwrap();
        let (state, socket) = (folder.join("state"), folder.join("bulkhead.sock"));
        let token = coordinator.token("hub", &["role=hub"]).unwrap();
        let mut command = coordinator.host.command(program("bulkhead"));
        command.arg("--state").arg(&state).arg("--socket").arg(&socket);
        command.args(["up", "--foreground", "--token-file"]).arg(token);
        let _process = Process::start(&mut command, &folder.join("log")).unwrap();
        let this = Self { state, socket, _process };
        until("hub is connected", Duration::from_secs(30), || {
            this.status(coordinator).is_some_and(|status| status["coordinator"]["connected"] == true)
        });
        this
    }

    fn status(&self, coordinator: &Coordinator) -> Option<serde_json::Value> {
        let mut command = coordinator.host.command(program("bulkhead"));
        command.arg("--state").arg(&self.state).arg("--socket").arg(&self.socket).args(["--json", "status"]);
        process::run(&mut command, Duration::from_secs(20)).ok()?.json().ok()
    }

    fn v4(&self, coordinator: &Coordinator) -> String {
        self.status(coordinator).unwrap()["node"]["addresses"]["v4"].as_str().unwrap().to_owned()
    }
}

#[test]
fn cutting_ones_own_way_through_the_overlay_is_refused_unless_told_otherwise() {
    let lab = Lab::new().unwrap();
    let config = lab.folder().join("coordinator.toml");
    std::fs::write(&config, "node = \"hub\"\n").unwrap();
    let coordinator = Coordinator::start(&lab, &["--config", &config.to_string_lossy()]).unwrap();
    let hub = Hub::enrol(&lab, &coordinator);
    let web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    coordinator.apply(WITH_WAY).unwrap();

    // A session as `login` makes it, but by way of the overlay.
    let session = lab.folder().join("session.json");
    let ctl = |args: &[&str]| {
        let mut command = web.host.command(program("bulkheadctl"));
        command.arg("--session").arg(&session).args(args);
        process::run(&mut command, Duration::from_secs(120)).unwrap()
    };
    let secret = coordinator.state().join("bootstrap-token");
    ctl(&["login", "--token-file", &secret.to_string_lossy()]).success().unwrap();
    let text = std::fs::read_to_string(&session).unwrap();
    let underlay = coordinator.host.v4.to_string();
    assert!(text.contains(&underlay));
    std::fs::write(&session, text.replace(&underlay, &hub.v4(&coordinator))).unwrap();
    until("the API answers through the overlay", SOON, || ctl(&["whoami"]).ok());

    let apply = |text: &str, more: &[&str]| {
        let folder = coordinator.write_policy(text).unwrap().to_string_lossy().into_owned();
        ctl(&[&["policy", "apply", &folder], more].concat())
    };
    let before = coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"].clone();
    let output = apply(WITHOUT_WAY, &[]);
    assert!(!output.ok(), "{output:?}");
    for word in ["admin from web to hub on tcp/8443", "--allow-lockout"] {
        assert!(output.stderr.contains(word), "{word} is not in {output:?}");
    }
    assert_eq!(
        coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"],
        before,
        "nothing was applied"
    );
    // What leaves the way open passes, and whoever is root on the machine itself owes it nothing.
    apply(&format!("{WITH_WAY}{STILL_WITH_WAY}"), &[]).success().unwrap();

    // Told to, it cuts the way: the answer may be lost with it, the policy is in force.
    let _ = apply(WITHOUT_WAY, &["--allow-lockout"]);
    until("the way is cut", SOON, || {
        coordinator.ctl_json(&["policy", "show"]).unwrap()["sources"]["main.toml"] == WITHOUT_WAY
    });
    until("locked out, as one wished", SOON, || !ctl(&["whoami"]).ok());
    coordinator.apply(WITH_WAY).unwrap();
    until("the way is open again", SOON, || ctl(&["whoami"]).ok());
}
