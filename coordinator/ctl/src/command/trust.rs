//! `trust …`: what operators do, most of it from files to files on a machine without a network.

use super::parse_label;
use crate::moment::{parse_duration, parse_timestamp};
use bulkhead_identity::{IdentityPublicKey, LabelKey, LabelValue, NodeName, Timestamp, TrustDomain};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `trust …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Trust {
    /// Show the trust document in force, and how many nodes depend on each root; or one in a file.
    Show {
        /// A trust document or a draft. Needs no coordinator.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Make a private key, for an operator or for policy, in a new file (mode 0600); prints its public half.
    Keygen {
        /// File to make.
        file: PathBuf,
    },
    /// Print the public half of a private key.
    Public {
        /// The private key.
        file: PathBuf,
    },
    /// Make a root: a private key and its self-signed certificate, in new files.
    NewRoot(NewRoot),
    /// Draft the next trust document from the one in force.
    Draft(Box<Draft>),
    /// Show what a draft changes and, after a yes, add an operator's signature to it, in its file.
    Sign(TrustSign),
    /// Add the signatures of other copies of a draft to it, in its file.
    Merge {
        /// The draft.
        file: PathBuf,
        /// Copies of it, with other signatures.
        #[arg(required = true)]
        copies: Vec<PathBuf>,
    },
    /// Put a signed trust document in force everywhere.
    Apply(TrustApply),
    /// Answer `bulkhead-coordinator issuer request` with a certificate, where a root's key is.
    SignIssuer(SignIssuer),
    /// Confer sealed labels on a node: all that it is to have, in place of those it has.
    ///
    /// With enough operators in one place: `trust seal NODE KEY=VALUE… --key K --key K2`. Otherwise `--out FILE`, then
    /// `trust seal --in FILE --key K2` for each further operator, then `trust seal --in FILE` sends it.
    Seal(Seal),
}

/// `trust new-root`.
#[derive(Args, Debug)]
pub(crate) struct NewRoot {
    /// The deployment's name [default: that of `--trust`, or of the coordinator].
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// A trust document of the deployment. Needs no coordinator.
    #[arg(long, value_name = "FILE", conflicts_with = "trust_domain")]
    pub(crate) trust: Option<PathBuf>,
    /// File to make for the private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// File to make for the certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long it is valid.
    #[arg(long, default_value = "3650d", value_parser = parse_duration)]
    pub(crate) lifetime: Duration,
}

/// `trust draft`.
#[derive(Args, Debug)]
pub(crate) struct Draft {
    /// The document in force [default: ask the coordinator].
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// File to make.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Add an operator's public key, as `trust keygen` prints it; like all that follows, can be repeated.
    #[arg(long, value_name = "KEY", value_parser = parse_public_key)]
    pub(crate) add_operator: Vec<IdentityPublicKey>,
    /// Remove an operator.
    #[arg(long, value_name = "KEY", value_parser = parse_public_key)]
    pub(crate) remove_operator: Vec<IdentityPublicKey>,
    /// How many operators have to sign.
    #[arg(long, value_name = "K")]
    pub(crate) operator_threshold: Option<u8>,
    /// Add a policy key.
    #[arg(long, value_name = "KEY", value_parser = parse_public_key)]
    pub(crate) add_policy_key: Vec<IdentityPublicKey>,
    /// Remove a policy key.
    #[arg(long, value_name = "KEY", value_parser = parse_public_key)]
    pub(crate) remove_policy_key: Vec<IdentityPublicKey>,
    /// How many policy keys have to sign.
    #[arg(long, value_name = "K")]
    pub(crate) policy_threshold: Option<u8>,
    /// Add a root, as `trust new-root` wrote its certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) add_root: Vec<PathBuf>,
    /// Remove a root: its certificate, or its key as `trust show` prints it.
    #[arg(long, value_name = "FILE|KEY")]
    pub(crate) remove_root: Vec<PathBuf>,
    /// Seal a label key: only operators give and take this label from then on.
    #[arg(long, value_name = "LABEL")]
    pub(crate) seal: Vec<LabelKey>,
    /// Unseal a label key.
    #[arg(long, value_name = "LABEL")]
    pub(crate) unseal: Vec<LabelKey>,
    /// When it ends, for example 2031-01-01T00:00:00Z [default: with the one before].
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) expires: Option<Timestamp>,
}

/// `trust sign`.
#[derive(Args, Debug)]
pub(crate) struct TrustSign {
    /// The draft.
    pub(crate) file: PathBuf,
    /// An operator's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The document in force: only what differs from it is shown [default: the coordinator's, when one is there and
    /// this key signed it].
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `trust apply`.
#[derive(Args, Debug)]
pub(crate) struct TrustApply {
    /// The signed document.
    pub(crate) file: PathBuf,
    /// Apply although nodes drop the policy in force, and permit nothing until another is signed.
    #[arg(long)]
    pub(crate) without_policy: bool,
    /// Apply although nobody believes the coordinator's issuer under it.
    #[arg(long)]
    pub(crate) without_issuer: bool,
    /// Apply although certificates of active nodes do not verify under it.
    #[arg(long)]
    pub(crate) without_nodes: bool,
}

/// `trust sign-issuer`.
#[derive(Args, Debug)]
pub(crate) struct SignIssuer {
    /// What `bulkhead-coordinator issuer request` wrote.
    pub(crate) request: PathBuf,
    /// The root's private key.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key: PathBuf,
    /// The root's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,
    /// File to make, for `bulkhead-coordinator issuer install`.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long it is valid [default: as long as the root].
    #[arg(long, value_parser = parse_duration)]
    pub(crate) lifetime: Option<Duration>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `trust seal`.
#[derive(Args, Debug)]
pub(crate) struct Seal {
    /// The node.
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    pub(crate) node: Option<NodeName>,
    /// Every sealed label that it is to have; none at all takes them all.
    #[arg(value_name = "KEY=VALUE", value_parser = parse_label, conflicts_with = "input")]
    pub(crate) labels: Vec<(LabelKey, LabelValue)>,
    /// An operator's private key; repeat for more.
    #[arg(long = "key", value_name = "FILE", required_unless_present = "input")]
    pub(crate) keys: Vec<PathBuf>,
    /// A seal that others began: with `--key` sign it, in its file; without, send it to the coordinator.
    #[arg(long = "in", id = "input", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Write the seal to this new file instead of sending it.
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(crate) out: Option<PathBuf>,
    /// How long the node keeps these labels without being sealed again.
    #[arg(long, default_value = "365d", value_parser = parse_duration, conflicts_with = "input")]
    pub(crate) lifetime: Duration,
    /// The node's key, as `bulkhead status` shows it on the node: refused when the coordinator, or the file, names another.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) fingerprint: Option<String>,
    /// Nodes, as `bulkheadctl --json node list` prints them. With `--trust`, needs no coordinator.
    #[arg(long, value_name = "FILE", requires = "trust", conflicts_with = "input")]
    pub(crate) nodes: Option<PathBuf>,
    /// The trust document in force.
    #[arg(long, value_name = "FILE", requires = "nodes", conflicts_with = "input")]
    pub(crate) trust: Option<PathBuf>,
    /// Do not ask whether the node's key, and in a file of somebody else's the labels, are the right ones.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// 64 hexadecimal digits.
pub(crate) fn parse_public_key(text: &str) -> Result<IdentityPublicKey, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let bytes =
        bytes.map_err(|_| "a public key is 64 hexadecimal digits, as `trust keygen` prints it".to_owned())?;
    IdentityPublicKey::parse(&bytes).map_err(|error| error.to_string())
}
