//! The command line: verbs in, one line per item out.
//!
//! Property: every verb ends with the exit code of [`Exit`], every error says what to do next, and nothing that
//! came from outside reaches the terminal with control characters in it.
//!
//! One file per family of verbs. The completions and the manual pages come from the definitions here.

mod cert;
mod doctor;
mod down;
mod explain;
mod flows;
mod peers;
mod ping;
mod qr;
mod screen;
mod shell;
mod signin;
mod status;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Partial};
use crate::enrol::EnrolError;
use crate::local::client::{ClientError, ask};
use crate::local::wire::{Answer, RefusalCode, Request};
use crate::state::dir::DirError;
use screen::Screen;

/// The node of a Bulkhead mesh: encrypted tunnels to the peers that the policy permits, and to nobody else.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
struct Global {
    /// State directory [default: /var/lib/bulkhead]
    #[arg(long, global = true, value_name = "DIR", env = "BULKHEAD_STATE")]
    state: Option<PathBuf>,
    /// The daemon's local socket [default: /run/bulkhead/bulkhead.sock]
    #[arg(long, global = true, value_name = "PATH", env = "BULKHEAD_SOCKET")]
    socket: Option<PathBuf>,
    /// Configuration file [default: /etc/bulkhead/node.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "BULKHEAD_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON, with a `schema` field
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Join the mesh and start; once joined, only start
    Up(up::UpArgs),
    /// Run the daemon of a node that has joined (what the service runs)
    Daemon(up::DaemonArgs),
    /// Stop the daemon; the node stays a member
    Down,
    /// Leave the mesh: stop, forget keys and certificate, and tell the coordinator
    Leave(down::LeaveArgs),
    /// Show this node, its coordinator and its peers
    Status(status::StatusArgs),
    /// List the peers that the policy permits
    Peers(peers::PeersArgs),
    /// List the live flows, with the rule that permits each
    Flows,
    /// Measure the round trip to a peer, or say why there is none
    Ping(ping::PingArgs),
    /// Would it be allowed, by which rule? Asks the peer for its verdict too
    Explain(explain::ExplainArgs),
    /// Whose overlay address is this?
    Whois(explain::WhoisArgs),
    /// This node's certificate
    Cert(cert::CertArgs),
    /// Look for everything that is wrong, each with its remedy
    Doctor,
    /// Print the completions of a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual pages into a directory
    Man(shell::ManArgs),
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// As asked.
    Ok = 0,
    /// Something failed. (2 is clap's: the command line is not understood.)
    Error = 1,
    /// The policy says no, or nobody answers.
    Denied = 3,
    /// A check found something wrong.
    Checks = 4,
    /// What is, is not what should be.
    Drift = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What every verb needs: where the daemon is, and where to print.
struct Context {
    global: Global,
    screen: Screen,
}

impl Context {
    /// Settings in force, with `flags` on top.
    fn config(&self, flags: Partial) -> Result<Config, ConfigError> {
        let flags = Partial { state: self.global.state.clone(), socket: self.global.socket.clone(), ..flags };
        match Config::load(flags.clone(), self.global.config.as_deref()) {
            // Whoever may not read the configuration may still ask a daemon at the usual place.
            Err(ConfigError::Read { source, .. })
                if self.global.config.is_none() && source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Config::load(flags, Some(Path::new("/dev/null")))
            }
            other => other,
        }
    }

    /// Why there is no daemon to ask, or no state to take, when a sign-in that waits is the reason.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let in_use = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(DirError::InUse(_)), _) | (_, Some(EnrolError::State(DirError::InUse(_)))) => true,
            (Some(_) | None, _) => false,
        };
        let absent = matches!(error.downcast_ref(), Some(ClientError::NotRunning(_)));
        let waits = (in_use || absent).then(|| self.waits()).flatten();
        waits.map_or(error, anyhow::Error::msg)
    }

    /// For whom a process waits that has this host's sign-in in hand: without a certificate it has no socket to be asked.
    fn waits(&self) -> Option<String> {
        signin::waits(&self.config(Partial::default()).ok()?.state)
    }

    /// Asks the daemon.
    fn ask(&self, request: Request) -> anyhow::Result<Answer> {
        let config = self.config(Partial::default())?;
        Ok(ask(&config.socket, request)?)
    }
}

/// The daemon answered something else than what was asked: it is of another version.
fn mismatch() -> anyhow::Error {
    ClientError::NotUnderstood(None).into()
}

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let context = Context { screen: Screen::new(cli.global.json), global: cli.global };
    let result = match cli.verb {
        Verb::Up(args) => up::up(&context, args),
        Verb::Daemon(args) => up::daemon(&context, args),
        Verb::Down => down::down(&context),
        Verb::Leave(args) => down::leave(&context, &args),
        Verb::Status(args) => status::status(&context, &args),
        Verb::Peers(args) => peers::peers(&context, &args),
        Verb::Flows => flows::flows(&context),
        Verb::Ping(args) => ping::ping(&context, &args),
        Verb::Explain(args) => explain::explain(&context, &args),
        Verb::Whois(args) => explain::whois(&context, &args),
        Verb::Cert(args) => cert::cert(&context, &args),
        Verb::Doctor => doctor::doctor(&context),
        Verb::Completions(args) => shell::completions(&context, &args),
        Verb::Man(args) => shell::man(&context, &args),
    };
    result.unwrap_or_else(|error| fail(&context.screen, &context.explained(error))).into()
}

fn fail(screen: &Screen, error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        return Exit::Ok;
    }
    screen.error(error);
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(refusal)) => match refusal.code {
            RefusalCode::Unknown | RefusalCode::NotPermitted => Exit::Denied,
            RefusalCode::BadRequest | RefusalCode::Denied | RefusalCode::Busy | RefusalCode::Failed => {
                Exit::Error
            }
        },
        Some(_) | None => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn first_contact_without_anybodys_word_is_a_mistake_and_not_ignored() {
        let hash = "ab".repeat(32);
        let reads = |more: &[&str]| Cli::try_parse_from(["bulkhead", "up"].iter().chain(more)).is_ok();
        for contact in
            [&["--invitation", "F"][..], &["--coordinator", "c:8443", "--trust", &hash], &["--trust", &hash]]
        {
            assert!(!reads(contact), "{contact:?}");
            assert!(!reads(&[contact, &["--token-file", "T"]].concat()), "{contact:?}");
            assert!(reads(&[contact, &["--sso"]].concat()), "{contact:?}");
            assert!(reads(&[contact, &["--identity-token-file", "J"]].concat()), "{contact:?}");
        }
        assert!(!reads(&["--sso", "--invitation", "F", "--trust", &hash]));
        // What clap took from the environment would count as given.
        let command = Cli::command();
        let up = command.find_subcommand("up").map(clap::Command::get_arguments);
        let mut contact =
            up.into_iter().flatten().filter(|arg| matches!(arg.get_id().as_str(), "coordinator" | "trust"));
        assert!(contact.all(|arg| arg.get_env().is_none()));
    }
}
