//! End-to-end tests: the real programs in network namespaces, as root. `tests/run` builds and runs them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod admin;
mod craft;
mod crash;
mod enrol;
mod hostile;
mod mesh;
mod policy;
mod quickstart;
mod renew;
mod revoke;
mod rogue;
mod scans;
mod secrets;
mod survive;
mod traffic;
