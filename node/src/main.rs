//! The node: a daemon that builds encrypted tunnels to the peers that the policy permits, and its command line.
//!
//! Property: the process has given up core dumps before it reads the first secret, and whatever goes wrong ends in
//! fewer packets, never in more.
//!
//! What sits where: `daemon` puts everything together; `control` and `incoming` follow the coordinator; `held` is
//! what they hold and `state` keeps it; `threads` moves packets through the engine between `device` and `socket`;
//! `cli`, `local` and `names` are how people and programs see it.

mod backoff;
mod cli;
mod clock;
mod config;
mod control;
mod daemon;
mod device;
mod dir;
mod endpoints;
mod enforce;
mod enrol;
#[cfg(test)]
mod fixture;
mod guard;
mod handle;
mod hardening;
mod held;
mod https;
mod incoming;
mod link;
mod local;
mod log;
mod maphold;
mod names;
mod netlink;
mod nft;
mod renewal;
mod resolv;
mod socket;
mod state;
mod threads;
mod tls;
mod transmit;

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
