//! The command line. Man pages and completions come from the same definitions.

use crate::config;
use bulkhead_identity::{NodeName, TrustDomain};
use bulkhead_protocol::offload::Offloads;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The coordinator of a Bulkhead deployment: enrols nodes, issues their certificates, and tells them who is there.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-coordinator", version)]
pub struct Cli {
    /// State directory: keys and journal.
    #[arg(long, global = true, value_name = "DIR", env = "BULKHEAD_COORDINATOR_STATE", default_value = config::DEFAULT_STATE)]
    pub state: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new deployment: its keys, its trust document, and the secret of its first administrator.
    Init(Init),
    /// Run the coordinator.
    Serve(Box<Serve>),
    /// Look at the journal.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Write keys and journal to one new file; also while the coordinator runs.
    ///
    /// The file holds the private keys: keep it as you keep them.
    Backup {
        /// File to make.
        file: PathBuf,
    },
    /// Fill an empty state directory from a backup.
    ///
    /// The coordinator is read-only afterwards until `accept-restore`.
    Restore {
        /// File that `backup` made.
        file: PathBuf,
    },
    /// Take the restored state as true and leave read-only mode, over the unix socket of the running coordinator.
    AcceptRestore {
        /// The coordinator's unix socket.
        #[arg(long, value_name = "PATH", env = "BULKHEAD_COORDINATOR_SOCKET", default_value = config::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Replace the issuing CA, for example to move it under another root.
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// Say whether the configuration is valid, and what would happen if somebody signed in.
    CheckConfig(CheckConfig),
    /// Print shell completions.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory.
    Man {
        /// Existing directory.
        directory: PathBuf,
    },
}

/// Make a new deployment.
#[derive(Debug, Args)]
pub struct Init {
    /// Name of the deployment, for example acme.example; node names end in it.
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: TrustDomain,
    /// host:port under which nodes and administrators reach this coordinator; can be given several times.
    #[arg(long = "address", value_name = "HOST:PORT", required = true)]
    pub addresses: Vec<String>,
}

/// Run the coordinator.
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration file [default: /etc/bulkhead/coordinator.toml if it exists].
    #[arg(long, value_name = "FILE", env = "BULKHEAD_COORDINATOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address for HTTPS (TCP) and control links (UDP) [default: 0.0.0.0:8443].
    #[arg(long, value_name = "IP:PORT", env = "BULKHEAD_COORDINATOR_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// host:port written into tokens [default: what init was given]; can be given several times.
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
    /// The node that runs on this machine, when the coordinator is reached through the overlay [default: none].
    #[arg(long, value_name = "NAME", env = "BULKHEAD_COORDINATOR_NODE")]
    pub node: Option<NodeName>,
    /// The unix socket for root [default: /run/bulkhead-coordinator/admin.sock].
    #[arg(long, value_name = "PATH", env = "BULKHEAD_COORDINATOR_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Lifetime of node certificates [default: 24h].
    #[arg(long, value_name = "DURATION", env = "BULKHEAD_COORDINATOR_CERTIFICATE_LIFETIME", value_parser = parse_lifetime)]
    pub certificate_lifetime: Option<Duration>,
    /// How long after its end a node may still renew its certificate, `0` for not at all [default: 30d].
    #[arg(long, value_name = "DURATION", env = "BULKHEAD_COORDINATOR_RENEWAL_GRACE", value_parser = parse_grace)]
    pub renewal_grace: Option<Duration>,
    /// Offloads that every node leaves off, of tun-tso, tun-gro, udp-gso and udp-gro [default: none].
    #[arg(long, value_name = "NAME,NAME", env = "BULKHEAD_COORDINATOR_OFFLOADS_OFF")]
    pub offloads_off: Option<Offloads>,
    /// What to log [default: info].
    #[arg(long, value_name = "FILTER", env = "BULKHEAD_COORDINATOR_LOG")]
    pub log: Option<String>,
    /// Print the configuration file with every setting and its default, and exit.
    #[arg(long)]
    pub print_default_config: bool,
}

/// Say whether the configuration is valid, and what would happen if somebody signed in.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Configuration file [default: /etc/bulkhead/coordinator.toml if it exists].
    #[arg(long, value_name = "FILE", env = "BULKHEAD_COORDINATOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Explain what would happen to somebody for whom this provider vouches.
    #[arg(long, value_name = "NAME", requires = "claims")]
    pub provider: Option<String>,
    /// Claims as in a token of that provider, in JSON: at least `sub`.
    #[arg(long, value_name = "FILE.json", requires = "provider")]
    pub claims: Option<PathBuf>,
}

/// Replace the issuing CA.
#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Make the next issuer's key here, and write a request for its certificate.
    ///
    /// Whoever holds the root's key answers it with `bulkheadctl trust sign-issuer`. Can be repeated.
    Request {
        /// File to make; it holds no secret.
        file: PathBuf,
    },
    /// Install the certificate that answers the request. It is in use from the next start on.
    Install {
        /// File that `bulkheadctl trust sign-issuer` made.
        file: PathBuf,
    },
}

/// Look at the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Walk the whole chain and say whether it holds; also while the coordinator runs. Exit code 4 if not.
    Verify,
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    config::lifetime(text).map_err(|e| format!("{e:#}"))
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    config::grace(text).map_err(|e| format!("{e:#}"))
}

impl Serve {
    /// The settings that command line and environment give.
    #[must_use]
    pub fn partial(&self) -> config::Partial {
        config::Partial {
            addresses: (!self.addresses.is_empty()).then(|| self.addresses.clone()),
            listen: self.listen,
            node: self.node.clone(),
            socket: self.socket.clone(),
            certificate_lifetime: self.certificate_lifetime,
            renewal_grace: self.renewal_grace,
            offloads_off: self.offloads_off,
            log: self.log.clone(),
            people: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
