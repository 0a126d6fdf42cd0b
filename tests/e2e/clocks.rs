//! D15: a machine whose clock is off by an hour or a year joins, or is told that it is the clock; it never takes for valid
//! what is not. And a coordinator whose clock was wrong is no worse once it is right.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, Process, process, until};

use crate::mesh::POLICY;

const LIMIT: Duration = Duration::from_secs(30);

/// Has `command` read the wall clock with this offset, as `faketime` does; the monotonic clock stays. What the library leaves
/// in shared memory goes with a mount of its own.
fn off_by(command: &Command, offset: &str) -> Command {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "faketime is missing: tests/run installs it");
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm && exec env \"$@\"", "sh"]);
    wrapped.args([
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME={offset}"),
        "DONT_FAKE_MONOTONIC=1".into(),
    ]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

/// `up --enrol-only` of a new machine, by such a clock.
fn join(lab: &Lab, coordinator: &Coordinator, name: &str, offset: &str) -> (Node, process::Output) {
    let token = coordinator.token(name, &["role=web"]).unwrap();
    let node = Node::prepare(lab, name).unwrap();
    let command = node.command(&["up", "--enrol-only", "--token-file", &token.to_string_lossy()]);
    let output = process::run(&mut off_by(&command, offset), LIMIT).unwrap();
    (node, output)
}

#[test]
fn d15_a_clock_that_is_off_joins_or_is_told_that_it_is_the_clock() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.apply(POLICY).unwrap();
    let db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();

    // Certificates begin a little before they are issued, and last for a day.
    let (ahead, output) = join(&lab, &coordinator, "ahead", "+1h");
    output.success().unwrap();
    std::fs::create_dir(ahead.folder().join("run")).unwrap();
    let daemon = ahead.command(&["up", "--foreground"]);
    let _daemon = Process::start(&mut off_by(&daemon, "+1h"), &ahead.folder().join("log")).unwrap();
    until("it has its peer", LIMIT, || ahead.peers().is_ok_and(|peers| peers == ["db"]));
    until("and that has it", LIMIT, || db.peers().is_ok_and(|peers| peers == ["ahead"]));

    for (name, offset) in [("hour", "-1h"), ("future", "+1y"), ("past", "-1y")] {
        let (node, output) = join(&lab, &coordinator, name, offset);
        assert!(!output.ok() && output.stderr.contains("by the clock here"), "{offset}: {output:?}");
        assert!(!node.state().join("certificate.cbor").exists(), "{offset}");
    }
    let names = coordinator.ctl_json(&["node", "list"]).unwrap()["nodes"].clone();
    assert_eq!(names.as_array().unwrap().len(), 2, "{names}");
}

#[test]
fn d15_a_coordinator_whose_clock_was_off_is_believed_once_it_is_right() {
    let lab = Lab::new().unwrap();
    for (name, offset) in [("behind", "-1y"), ("ahead", "+1y")] {
        let host = lab.host(&format!("hub-{name}")).unwrap();
        let folder = lab.folder().join(name);
        std::fs::create_dir(&folder).unwrap();
        let coordinator = Coordinator::initialised_in(&folder, host, &[]).unwrap();
        let log = folder.join("wrong.log");
        let mut wrong = Process::start(&mut off_by(&coordinator.serving(), offset), &log).unwrap();
        // Whether it serves or refuses to, it has not crashed.
        until("it serves, or says why not", LIMIT, || {
            wrong.log().contains("serving") || (!wrong.running() && wrong.log().contains("error"))
        });
        wrong.terminate(LIMIT);
        assert!(!wrong.log().contains("panicked"), "{}", wrong.log());

        let mut coordinator = coordinator;
        coordinator.serve().unwrap();
        let (_node, output) = join(&lab, &coordinator, &format!("{name}-node"), "+0");
        output.success().unwrap();
    }
}
