//! The command line, as one definition: help, completions and man pages all come from here.
//!
//! No secret is ever an argument: arguments are visible to every user of a machine.

use crate::moment::{parse_duration, parse_timestamp};
use bulkhead_acl::Service;
use bulkhead_identity::{LabelKey, LabelValue, NodeName, Timestamp};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Start a session with a coordinator, by a bootstrap secret.
    Login(Login),
    /// End the session, here and at the coordinator.
    Logout,
    /// Show who you are to the coordinator.
    Whoami,
    /// Nodes: list, show, label, revoke, remove.
    #[command(subcommand)]
    Node(Node),
    /// Join tokens, by which nodes enrol.
    #[command(subcommand)]
    Token(Token),
    /// The policy: who may talk to whom.
    #[command(subcommand)]
    Policy(Policy),
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
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// The name that the journal will know you by [default: your user name].
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// `node …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Node {
    /// List all nodes.
    List,
    /// Show one node.
    Show {
        /// The node's name.
        name: NodeName,
    },
    /// Set and remove labels; the node gets a new certificate at once, its old one is revoked.
    Label {
        /// The node's name.
        name: NodeName,
        /// `key=value` sets, `key-` removes.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = parse_label_change)]
        changes: Vec<LabelChange>,
    },
    /// Cut a node off, everywhere and for good. It comes back only by enrolling anew.
    Revoke(Revoke),
    /// Forget a revoked node, so that its name can be used again.
    Remove {
        /// The node's name.
        name: NodeName,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
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

/// `node revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The node's name.
    pub(crate) name: NodeName,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Wait for the signed receipts of all nodes that could talk to it, and print each as it arrives.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `token …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Token {
    /// Make a join token. It is shown this once: on standard output, or in a file.
    Create(CreateToken),
    /// List join tokens, without their secrets.
    List,
    /// Make a join token useless.
    Revoke {
        /// As `token list` shows it.
        #[arg(value_parser = parse_token_id)]
        id: String,
    },
}

/// `token create`.
#[derive(Args, Debug)]
pub(crate) struct CreateToken {
    /// A label that every node enrolled by it gets; repeat for more.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(LabelKey, LabelValue)>,
    /// How many nodes may enrol by it.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
    /// How long it is good for.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    pub(crate) ttl: Duration,
    /// Fixes the name of the node.
    #[arg(long)]
    pub(crate) name: Option<NodeName>,
    /// Write the token to this file (mode 0600) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `policy …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Policy {
    /// Check a directory of policy files and run its tests. Needs no coordinator.
    Check {
        /// Directory of `*.toml` files.
        directory: PathBuf,
        /// Nodes, as `bulkheadctl --json node list` prints them: also finds rules that match nobody.
        #[arg(long, value_name = "FILE")]
        nodes: Option<PathBuf>,
    },
    /// Ask whether one node may reach another, and by which rule.
    Can(Can),
    /// Check a directory of policy files, sign it, and put it in force everywhere.
    Apply(Apply),
    /// List the policies that have been in force.
    History,
    /// Put an earlier policy in force again, as a new generation.
    Rollback {
        /// As `policy history` shows it.
        generation: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Print the policy in force.
    Show,
}

/// `policy can`.
#[derive(Args, Debug)]
pub(crate) struct Can {
    /// The client node.
    pub(crate) from: NodeName,
    /// The server node.
    pub(crate) to: NodeName,
    /// `tcp/5432`, `udp/53`, `icmp`, `ip/47`.
    #[arg(value_parser = |text: &str| Service::parse(text))]
    pub(crate) service: Service,
    /// Ask this directory instead of the policy in force. Needs no coordinator.
    #[arg(long, value_name = "DIR", requires = "nodes")]
    pub(crate) policy: Option<PathBuf>,
    /// Nodes, as `bulkheadctl --json node list` prints them.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) nodes: Option<PathBuf>,
    /// At this moment instead of now, for example 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) at: Option<Timestamp>,
}

/// `policy apply`.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Directory of `*.toml` files.
    pub(crate) directory: PathBuf,
    /// What changes and why, for the history.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) message: String,
    /// The generation that this text was made from: refused when another is in force by now.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) base: Option<u64>,
    /// Wait until every connected node enforces it.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
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
    /// Have the coordinator check the whole chain of hashes on its disk.
    Verify,
}

/// One change of `node label`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelChange {
    /// Which label.
    pub(crate) key: LabelKey,
    /// Its new value; `None` removes it.
    pub(crate) value: Option<LabelValue>,
}

fn parse_label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    let key = LabelKey::parse(key).map_err(|error| error.to_string())?;
    Ok((key, LabelValue::parse(value).map_err(|error| error.to_string())?))
}

fn parse_label_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        let (key, value) = parse_label(text)?;
        return Ok(LabelChange { key, value: Some(value) });
    }
    let key = text.strip_suffix('-').ok_or_else(|| format!("{text:?} is neither KEY=VALUE nor KEY-"))?;
    Ok(LabelChange { key: LabelKey::parse(key).map_err(|error| error.to_string())?, value: None })
}

// The id becomes part of a request path, so nothing that means something there may be in it.
fn parse_token_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("not a token's id; `bulkheadctl token list` shows them".to_owned())
    }
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
    fn labels_are_set_and_removed() {
        let change = parse_label_change("role=db").unwrap();
        assert_eq!(
            (change.key.as_str(), change.value.as_ref().map(LabelValue::as_str)),
            ("role", Some("db"))
        );
        let change = parse_label_change("role-").unwrap();
        assert_eq!((change.key.as_str(), change.value), ("role", None));
        for wrong in ["", "role", "=db", "role=", "ROLE=db", "role=a/b", "-"] {
            assert!(parse_label_change(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_no_argument_and_no_path() {
        assert!(CommandLine::try_parse_from(["bulkheadctl", "login", "bulkhead-admin1.x"]).is_err());
        assert!(parse_token_id("../nodes").is_err());
        assert!(parse_token_id("a1B2-_").is_ok());
    }

    #[test]
    fn an_offline_question_needs_both_policy_and_nodes() {
        let ask = |more: &[&str]| {
            let line = ["bulkheadctl", "policy", "can", "web", "db", "tcp/5432"];
            CommandLine::try_parse_from(line.iter().chain(more)).is_ok()
        };
        assert!(ask(&[]) && ask(&["--policy", "p", "--nodes", "n"]));
        assert!(!ask(&["--policy", "p"]) && !ask(&["--nodes", "n"]));
    }
}
