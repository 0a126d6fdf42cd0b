//! What the process gives up before it holds a secret.
//!
//! Property: keys never reach a core dump, and no process of another user can attach to this one (E5).

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and attaching. Called first thing in `main`.
///
/// # Errors
/// When the kernel refuses; nothing secret has been read by then, so the caller ends.
pub(crate) fn apply() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
