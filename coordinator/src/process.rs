//! What this process tells nobody: no core dumps, no attaching by other processes of the same user (P9), no file
//! that others may read.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// File descriptors to ask for: one per connection, and some.
const WANTED_FILES: u64 = 65_536;

/// Closes the ways by which keys in memory could end in a file, and files in others' hands. Called before any key is
/// read. (Our own files get their mode at creation; the mask is for those that libraries make, sled's for one.)
pub fn harden() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // Both are refusals to leak, not conditions to run: where a container forbids them we say so and go on.
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(error = %error, "core dumps could not be disabled");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(error = %error, "the process could not be made undumpable");
    }
}

/// Raises the limit of open files as far as it may go, for ten thousand links.
pub fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED_FILES, |maximum| maximum.min(WANTED_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(error = %error, "the limit of open files could not be raised");
        }
    }
}
