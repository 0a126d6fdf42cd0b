//! `token …`: join tokens, never their secrets.

use super::{parse_address, parse_label};
use crate::moment::parse_duration;
use bulkhead_identity::{LabelKey, LabelValue, NodeName};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `token …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Token {
    /// Make a join token. It is shown this once: on standard output, or in a file.
    Create(CreateToken),
    /// Make an invitation: where the coordinators are and how to know them, for people who sign in and for workloads. It
    /// carries no right.
    Invite(Invite),
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

/// `token invite`.
#[derive(Args, Debug)]
pub(crate) struct Invite {
    /// A coordinator, as nodes reach it; repeat for more [default: those that it gives to nodes].
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    pub(crate) coordinator: Vec<String>,
    /// Write the invitation to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

// The id becomes part of a request path, so nothing that means something there may be in it.
pub(super) fn parse_token_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("not a token's id; `bulkheadctl token list` shows them".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_no_path() {
        assert!(parse_token_id("../nodes").is_err());
        assert!(parse_token_id("a1B2-_").is_ok());
    }
}
