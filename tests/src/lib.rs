//! The laboratory: hosts in network namespaces of their own, with the real programs running in them.
//!
//! Everything a lab makes carries its id, so that labs run side by side, beside a quick start, and twice.
//! Dropping a [`Lab`] ends its processes by their ids and removes its namespaces and its folder.

pub mod coordinator;
pub mod idp;
pub mod lab;
pub mod namespace;
pub mod node;
pub mod person;
pub mod process;
pub mod stored;
pub mod targets;
pub mod wait;
pub mod web_ca;

pub use coordinator::Coordinator;
pub use idp::Idp;
pub use lab::Lab;
pub use namespace::Namespace;
pub use node::Node;
pub use person::Person;
pub use process::{Output, Process};
pub use stored::stored;
pub use wait::{SOON, until, until_some};
pub use web_ca::WebCa;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// A program built from this workspace: in the folder that `BULKHEAD_BIN` names, or next to the test that runs it.
///
/// # Panics
/// When it has not been built: `tests/run` builds the programs before it runs the tests.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("BULKHEAD_BIN").map_or_else(
        || {
            let exe = std::env::current_exe().expect("the running test has a path");
            exe.parent()
                .and_then(|deps| deps.parent())
                .expect("tests run from target/<profile>/deps")
                .to_owned()
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace --bins`, or tests/run",
        path.display()
    );
    path
}

/// Where `tests/NAME/install` has put what it installs: target/NAME.
///
/// # Errors
/// When it has not been run.
pub fn installed(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of the running test")?;
    exe.ancestors()
        .map(|above| above.join(name))
        .find(|folder| folder.exists())
        .with_context(|| format!("target/{name} is missing: run tests/{name}/install, or tests/run"))
}

/// The root of the source tree.
#[must_use]
pub fn source_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}
