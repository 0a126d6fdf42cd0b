//! The command line, as one definition: help, completions and man pages all come from here.
//!
//! No secret is ever an argument: arguments are visible to every user of a machine.

mod apikey;
mod node;
mod policy;
mod token;
mod trust;

pub(crate) use apikey::{ApiKey, CreateApiKey, Role};
pub(crate) use node::{LabelChange, Node, Revoke, SwitchOffloads};
pub(crate) use policy::{
    About, Apply, Assert, Assertion, Can, Check, Confirm, Explain, Exposure, Format, Import, ImportK8s,
    Peers, Plan, Policy, Presentation, Rollback, Schemed, Sign, Test,
};
pub(crate) use token::{CreateToken, Invite, Token};
pub(crate) use trust::{Draft, NewRoot, Seal, SignIssuer, Trust, TrustApply, TrustSign, parse_public_key};

use crate::moment::parse_timestamp;
use bulkhead_identity::{LabelKey, LabelValue, Timestamp, TrustHash};
use bulkhead_protocol::token::is_address;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Administers a Bulkhead deployment through its coordinator.
///
/// On the coordinator's host, as root, it speaks over the root-only unix socket and needs no login. From
/// anywhere else, `bulkheadctl login --token-file FILE` first.
///
/// Exit codes: 0 ok, 1 error, 2 usage, 3 denied or unreachable, 4 checks failed, 5 drift.
#[derive(Parser, Debug)]
#[command(name = "bulkheadctl", version, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// The coordinator's root-only unix socket.
    #[arg(long, global = true, env = "BULKHEADCTL_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The session file that `login` writes [default: ~/.config/bulkhead/session.json].
    #[arg(long, global = true, env = "BULKHEADCTL_SESSION", value_name = "FILE")]
    pub(crate) session: Option<PathBuf>,
    /// A file with an API key, which needs no login: what programs and CI jobs use.
    #[arg(
        long,
        global = true,
        env = "BULKHEADCTL_KEY_FILE",
        value_name = "FILE",
        conflicts_with = "session"
    )]
    pub(crate) key_file: Option<PathBuf>,
    /// Answer with JSON that names its schema.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Everything an administrator does.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Start a session with a coordinator: by signing in, or by a bootstrap secret.
    Login(Login),
    /// End the session, here and at the coordinator.
    Logout,
    /// Show who you are to the coordinator.
    Whoami,
    /// Nodes: list, show, label, switch offloads, revoke, remove.
    #[command(subcommand)]
    Node(Node),
    /// Join tokens, by which nodes enrol.
    #[command(subcommand)]
    Token(Token),
    /// API keys, by which programs and people administer.
    #[command(subcommand, name = "apikey")]
    ApiKey(ApiKey),
    /// Who may do what.
    #[command(subcommand)]
    Role(Role),
    /// The policy: who may talk to whom.
    #[command(subcommand)]
    Policy(Policy),
    /// Whom everybody trusts: operators' keys, policy keys, roots, sealed labels.
    #[command(subcommand)]
    Trust(Trust),
    /// The journal of every change.
    #[command(subcommand)]
    Audit(Audit),
    /// After a restore from a backup, as root on the coordinator's host.
    #[command(subcommand)]
    Restore(Restore),
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// Made when it does not exist.
        directory: PathBuf,
    },
}

/// `login`.
#[derive(Args, Debug)]
pub(crate) struct Login {
    /// File with the secret (`bulkhead-admin1.…`), or `-` for standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "sso", conflicts_with = "sso")]
    pub(crate) token_file: Option<PathBuf>,
    /// Sign in at the company's provider, in a browser here or on any other device.
    #[arg(long)]
    pub(crate) sso: bool,
    #[command(flatten)]
    pub(crate) contact: Contact,
    /// The name that the journal will know you by [default: your user name].
    #[arg(long, conflicts_with = "sso")]
    pub(crate) name: Option<String>,
}

/// Where the coordinators are, and how to know them [default: as in the last session].
#[derive(Args, Debug)]
pub(crate) struct Contact {
    /// File with an invitation, as `token invite` makes it.
    #[arg(long, value_name = "FILE", requires = "sso", conflicts_with_all = ["token_file", "coordinator", "trust"])]
    pub(crate) invitation: Option<PathBuf>,
    /// A coordinator; repeat for more.
    #[arg(long, value_name = "HOST:PORT", requires_all = ["sso", "trust"], conflicts_with = "token_file", value_parser = parse_address)]
    pub(crate) coordinator: Vec<String>,
    /// Hash of the trust document by which they are known.
    #[arg(long, value_name = "HASH", requires_all = ["sso", "coordinator"], conflicts_with = "token_file")]
    pub(crate) trust: Option<TrustHash>,
}

/// `restore …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Restore {
    /// Take the restored state as true, and end read-only mode.
    Accept {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `audit …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Audit {
    /// Print the latest entries.
    Tail {
        /// Go on printing as entries arrive, until interrupted.
        #[arg(short, long)]
        follow: bool,
        /// How many.
        #[arg(short = 'n', long = "lines", default_value = "20", value_parser = clap::value_parser!(u32).range(..=10_000))]
        lines: u32,
    },
    /// Print entries as one JSON document per line, for programs that collect them.
    Export(ExportAudit),
    /// Have the coordinator check the whole chain of hashes on its disk.
    Verify,
}

/// `audit export`.
#[derive(Args, Debug)]
pub(crate) struct ExportAudit {
    /// Only entries from this time on.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) since: Option<Timestamp>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) until: Option<Timestamp>,
    /// Only entries after this sequence number: how to go on where the last export ended.
    #[arg(long, value_name = "SEQUENCE", default_value = "0")]
    pub(crate) after: u64,
    /// What a document looks like.
    #[arg(long, default_value = "ocsf")]
    pub(crate) format: ExportFormat,
    /// Go on printing as entries arrive, until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// What a document of `audit export` looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// An event of the Open Cybersecurity Schema Framework, version 1.8.
    Ocsf,
    /// An entry as the coordinator's API answers with it.
    Native,
}

fn parse_address(text: &str) -> Result<String, String> {
    if is_address(text) { Ok(text.to_owned()) } else { Err(format!("{text:?} is not HOST:PORT")) }
}

fn parse_label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let key = LabelKey::parse(key).map_err(|error| error.to_string())?;
    Ok((key, LabelValue::parse(value).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn first_contact_is_whole_or_not_at_all() {
        let hash = "ab".repeat(32);
        let parses = |arguments: &[&str]| {
            CommandLine::try_parse_from(["bulkheadctl", "login"].iter().chain(arguments)).is_ok()
        };
        assert!(parses(&["--sso"]));
        assert!(parses(&["--sso", "--invitation", "f"]));
        assert!(parses(&["--sso", "--coordinator", "c:1", "--coordinator", "d:1", "--trust", &hash]));
        assert!(!parses(&[]));
        assert!(!parses(&["--sso", "--coordinator", "c:1"]));
        assert!(!parses(&["--sso", "--trust", &hash]));
        assert!(!parses(&["--sso", "--coordinator", "https://c", "--trust", &hash]));
        assert!(!parses(&["--sso", "--token-file", "f"]));
        assert!(!parses(&["--token-file", "f", "--invitation", "g"]));
    }

    #[test]
    fn a_secret_is_no_argument() {
        assert!(CommandLine::try_parse_from(["bulkheadctl", "login", "bulkhead-admin1.x"]).is_err());
    }
}
