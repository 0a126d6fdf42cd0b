//! `apikey …`: API keys, never their secrets; and `role …`.

use super::token::parse_token_id;
use crate::moment::parse_duration;
use bulkhead_protocol::admin::AdminRole;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `apikey …`.
#[derive(Subcommand, Debug)]
pub(crate) enum ApiKey {
    /// Make an API key, for a program or a person. It is shown this once: on standard output, or in a file.
    ///
    /// Whoever has the file works with it: bulkheadctl --key-file FILE, or BULKHEADCTL_KEY_FILE=FILE. Other programs
    /// send its one line as it is: authorization: Bearer bulkhead-key1.…
    Create(CreateApiKey),
    /// List API keys and sessions, without their secrets.
    List,
    /// Make an API key useless.
    Revoke {
        /// As `apikey list` shows it.
        #[arg(value_parser = parse_token_id)]
        id: String,
    },
}

/// `apikey create`.
#[derive(Args, Debug)]
pub(crate) struct CreateApiKey {
    /// What the journal calls whoever uses it.
    pub(crate) name: String,
    /// What it permits: viewer, operator or admin, and no more than you may yourself.
    #[arg(long)]
    pub(crate) role: AdminRole,
    /// How long it is good for, at most a year [default: 90d].
    #[arg(long, value_parser = parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Write the key to this file (mode 0600) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `role …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Role {
    /// Print who may do what.
    Table,
}
