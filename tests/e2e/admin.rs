//! Administering from another machine: over HTTPS, by a session that the bootstrap secret opened.

use bulkhead_tests::{Coordinator, Lab, Output, process, program};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn the_bootstrap_secret_opens_one_session_and_no_second() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let desk = lab.host("desk").unwrap();
    let secret = coordinator.state().join("bootstrap-token").to_string_lossy().into_owned();
    let ctl = |session: &str, args: &[&str]| -> Output {
        let mut command = desk.command(program("bulkheadctl"));
        command.arg("--session").arg(lab.folder().join(session)).args(args);
        process::run(&mut command, Duration::from_secs(60)).unwrap()
    };
    assert!(!ctl("first", &["node", "list"]).ok(), "nobody is let in without a session");

    ctl("first", &["login", "--token-file", &secret]).success().unwrap();
    let mode = std::fs::metadata(lab.folder().join("first")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    ctl("first", &["token", "create"]).success().unwrap();
    let who = ctl("first", &["--json", "whoami"]).json().unwrap();
    assert_eq!(who["trust_domain"], "acme.example");

    let again = ctl("second", &["login", "--token-file", &secret]);
    assert!(!again.ok() && !again.stderr.is_empty(), "the secret is spent: {again:?}");

    let key = std::fs::read_to_string(lab.folder().join("first")).unwrap();
    ctl("first", &["logout"]).success().unwrap();
    std::fs::write(lab.folder().join("first"), key).unwrap();
    std::fs::set_permissions(lab.folder().join("first"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!ctl("first", &["node", "list"]).ok(), "a copy of a session that was ended opens nothing");
}
