//! The first command of the README: twice at once, and nothing left behind.

use std::process::Command;
use std::time::Duration;

use bulkhead_tests::{process, source_root};

/// Namespaces and folders that carry an instance's id.
fn traces(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["/run/netns", "/etc/netns", "/tmp", "/run"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(id) {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found
}

#[test]
fn two_quick_starts_at_once_do_the_job_and_leave_nothing() {
    let run = |id: &'static str| {
        let mut command = Command::new(source_root().join("deploy/quickstart"));
        command
            .args(["--once", "--id", id, "--binaries"])
            .arg(bulkhead_tests::program("bulkhead").parent().unwrap());
        process::run(&mut command, Duration::from_secs(400)).unwrap()
    };
    let ids = ["qsone", "qstwo"];
    let outputs = std::thread::scope(|scope| {
        let second = scope.spawn(move || run(ids[1]));
        [run(ids[0]), second.join().unwrap()]
    });
    for (id, output) in ids.into_iter().zip(outputs) {
        let text = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.code, 0, "{text}");
        for fact in ["psql", "nmap", "policy plan", "--confirm-within", "revoke"] {
            assert!(text.contains(fact), "{id} shows {fact}: {text}");
        }
        assert_eq!(traces(id), Vec::<String>::new());
    }
}
