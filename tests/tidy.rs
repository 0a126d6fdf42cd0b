//! The architecture's invariants, checked against the tree itself (ARCHITECTURE.md names them).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below `folder`, relative to the root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found.iter().map(|p| p.strip_prefix(root()).unwrap().to_owned()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Source lines without `//` comments.
fn code(path: &Path) -> String {
    read(path).lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn dependencies(folder: &str, table: &str) -> Vec<String> {
    let manifest: toml::Table = read(&Path::new(folder).join("Cargo.toml")).parse().unwrap();
    manifest.get(table).and_then(|t| t.as_table()).map(|t| t.keys().cloned().collect()).unwrap_or_default()
}

const PURE: [&str; 5] = ["identity", "acl", "coordinator/protocol", "coordinator/engine", "node/engine"];
const ALL_SOURCES: [&str; 9] = [
    "identity/src",
    "acl/src",
    "coordinator/protocol/src",
    "coordinator/engine/src",
    "coordinator/src",
    "coordinator/ctl/src",
    "node/engine/src",
    "node/src",
    "tests/src",
];

#[test]
fn pure_crates_name_no_io() {
    let banned = [
        "tokio",
        "quinn",
        "quinn-udp",
        "tun",
        "sled",
        "axum",
        "hyper",
        "hyper-util",
        "socket2",
        "rustix",
        "getrandom",
        "rtnetlink",
        "tempfile",
        "tokio-rustls",
        "rustls",
    ];
    for folder in PURE {
        for dependency in dependencies(folder, "dependencies") {
            assert!(!banned.contains(&dependency.as_str()), "{folder} is pure, but depends on {dependency}");
        }
        let calls = [
            "Instant::now",
            "SystemTime::now",
            "OsRng",
            "SystemRandom",
            "std::fs::",
            "TcpStream",
            "UdpSocket",
        ];
        for file in rust_files(&format!("{folder}/src")) {
            let code = code(&file);
            let code = code.split("#[cfg(test)]").next().unwrap_or("");
            for call in calls {
                assert!(!code.contains(call), "{} is pure, but names {call}", file.display());
            }
        }
    }
}

#[test]
fn one_file_names_each_fenced_dependency() {
    let fences: BTreeMap<&str, &str> = [
        ("boringtun::", "node/engine/src/session.rs"),
        ("openidconnect::", "coordinator/src/sso/oidc.rs"),
        ("serde_saphyr::", "coordinator/ctl/src/policy/import/manifest.rs"),
        ("sled::", "coordinator/src/store.rs"),
        ("toml_edit::", "acl/src/format.rs"),
    ]
    .into();
    for (name, home) in fences {
        assert!(code(Path::new(home)).contains(name), "{home} no longer names {name}: move the fence");
        // Tests play the attacker, who has a WireGuard of their own.
        let fenced_in = ALL_SOURCES.iter().filter(|folder| **folder != "tests/src");
        for file in fenced_in.flat_map(|f| rust_files(f)) {
            let fenced = file == Path::new(home);
            assert!(
                fenced || !code(&file).contains(name),
                "{} names {name}; only {home} may",
                file.display()
            );
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("identity", &[][..]),
        ("acl", &["bulkhead-identity"]),
        ("coordinator/protocol", &["bulkhead-identity", "bulkhead-acl"]),
        ("coordinator/engine", &["bulkhead-identity", "bulkhead-acl", "bulkhead-protocol"]),
        (
            "coordinator",
            &["bulkhead-identity", "bulkhead-acl", "bulkhead-protocol", "bulkhead-coordinator-engine"],
        ),
        ("coordinator/ctl", &["bulkhead-identity", "bulkhead-acl", "bulkhead-protocol"]),
        ("node/engine", &["bulkhead-identity", "bulkhead-acl"]),
        ("node", &["bulkhead-identity", "bulkhead-acl", "bulkhead-protocol", "bulkhead-node-engine"]),
    ]
    .into();
    for (folder, allowed) in allowed {
        for dependency in dependencies(folder, "dependencies") {
            if dependency.starts_with("bulkhead-") {
                assert!(allowed.contains(&dependency.as_str()), "{folder} must not depend on {dependency}");
            }
        }
    }
}

#[test]
fn the_frozen_clock_is_not_in_the_tree() {
    let lock = read(Path::new("Cargo.lock"));
    assert!(
        !lock.contains("name = \"mock_instant\""),
        "boringtun's mock-instant would freeze the WireGuard clock"
    );
}

#[test]
fn verify_is_the_only_constructor_of_a_verified_identity() {
    let home = Path::new("identity/src/verify.rs");
    for file in ALL_SOURCES.iter().flat_map(|f| rust_files(f)) {
        if file != home {
            assert!(
                !code(&file).contains("VerifiedIdentity("),
                "{} builds a VerifiedIdentity",
                file.display()
            );
        }
    }
}

#[test]
fn only_policy_makes_a_permit() {
    let home = Path::new("acl/src/permit.rs");
    for file in ALL_SOURCES.iter().flat_map(|f| rust_files(f)) {
        if file != home {
            assert!(!code(&file).contains("Permit {"), "{} builds a Permit", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_module() {
    let home = Path::new("node/src/sys.rs");
    for file in ALL_SOURCES.iter().flat_map(|f| rust_files(f)) {
        if file != home {
            let code = code(&file);
            assert!(
                !code.contains("unsafe {") && !code.contains("unsafe fn"),
                "{} is unsafe",
                file.display()
            );
            assert!(!code.contains("allow(unsafe_code)"), "{} allows unsafe code", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_one_concept() {
    const LINES: usize = 600;
    for file in ALL_SOURCES.iter().flat_map(|f| rust_files(f)) {
        let text = read(&file);
        assert!(text.starts_with("//!"), "{} has no module documentation at its top", file.display());
        let lines = text.lines().count();
        assert!(lines <= LINES, "{} has {lines} lines: is it still one concept?", file.display());
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for vague in ["utils", "util", "helper", "helpers", "common", "misc"] {
            assert_ne!(name, vague, "{}: name it after what it holds", file.display());
        }
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for file in ALL_SOURCES.iter().flat_map(|f| rust_files(f)) {
        let code = code(&file);
        for mark in ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "#[ignore"] {
            assert!(!code.contains(mark), "{} still has {mark}", file.display());
        }
    }
}

#[test]
fn no_test_sleeps() {
    // In the programs clippy keeps this (clippy.toml), with the reason beside each exception.
    for file in ["tests/src", "tests/e2e", "tests/bench"].iter().flat_map(|f| rust_files(f)) {
        let sleeps = code(&file).contains("::sleep(");
        assert!(!sleeps, "{} sleeps; wait for a condition with a deadline", file.display());
    }
}

#[test]
fn the_daemons_shell_out_to_nothing() {
    for folder in ["node/src", "coordinator/src", "identity/src", "acl/src"] {
        for file in rust_files(folder) {
            assert!(!code(&file).contains("process::Command"), "{} starts a program (P6)", file.display());
        }
    }
}

#[test]
fn maps_that_reach_the_wire_or_a_decision_are_ordered() {
    for folder in ["identity/src", "acl/src", "coordinator/protocol/src", "coordinator/engine/src"] {
        for file in rust_files(folder) {
            let code = code(&file);
            let code = code.split("#[cfg(test)]").next().unwrap_or("");
            assert!(
                !code.contains("HashMap") && !code.contains("HashSet"),
                "{}: iteration order must not reach the wire or a decision; use BTreeMap",
                file.display()
            );
        }
    }
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    let expected = [
        ".ci",
        ".git",
        ".gitignore",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "acl",
        "clippy.toml",
        "coordinator",
        "deny.toml",
        "deploy",
        "identity",
        "node",
        "rustfmt.toml",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(expected.contains(&name.as_str()), "{name} does not belong at the top level");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    for folder in PURE.iter().chain(&["coordinator", "coordinator/ctl", "node", "tests"]) {
        let text = read(&Path::new(folder).join("Cargo.toml"));
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line == "[dependencies]";
            } else if inside && line.contains("workspace = true") {
                assert!(line.contains('#'), "{folder}/Cargo.toml: {line}: say why it is needed");
            }
        }
    }
}
