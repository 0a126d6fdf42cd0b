//! Real engines with real certificates, passing packets in memory. Test names state facts; the numbers in
//! brackets are those of design/08-attacks.md.
//!
//! Attackers, who send what no engine would, are in `src/tests`.

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, dead_code)]

mod change;
mod churn;
mod craft;
mod domain;
mod net;
mod path_mtu;
mod superpackets;
mod threads;
mod traffic;
mod validity;
