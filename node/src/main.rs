//! The node: a daemon that builds encrypted tunnels to the peers that the policy permits, and its command line.
//!
//! Property: the process has given up core dumps before it reads the first secret, and whatever goes wrong ends in
//! fewer packets, never in more.
//!
//! What sits where: `daemon` puts everything together; `enrol` joins and `control` follows the coordinator; `state` is
//! what the node holds, in memory and on disk; `packets` moves packets through the engine between `device` and the
//! network; `cli`, `local` and `names` are how people and programs see it.

mod cli;
mod clock;
mod config;
mod control;
mod daemon;
mod device;
mod enrol;
#[cfg(test)]
mod fixture;
mod handle;
mod hardening;
mod local;
mod log;
mod names;
mod packets;
mod state;
mod sys;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = hardening::apply() {
        use std::io::Write as _;
        // Nothing is set up yet that could report it any better, and standard error may be closed.
        let _ = writeln!(std::io::stderr(), "bulkhead: cannot protect this process: {error}");
        return ExitCode::FAILURE;
    }
    cli::run()
}
