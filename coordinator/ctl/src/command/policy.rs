//! `policy …`: questions, changes and their way into force.
//!
//! A question takes `--policy DIR --nodes FILE`, or else it is asked of the policy in force and the nodes that the
//! coordinator knows. The answer comes from the same code.

use crate::moment::{parse_duration, parse_timestamp};
use bulkhead_acl::Service;
use bulkhead_identity::{NodeName, Timestamp};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// `policy …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Policy {
    /// Check policy files and run their tests: all errors and warnings at once.
    Check(Check),
    /// Show what deserves a look: as `check`, but any finding fails.
    Lint(Check),
    /// Run the policy's own tests.
    Test(Test),
    /// Ask whether one node may reach another, and by which rule.
    Can(Can),
    /// List the nodes that may reach a node.
    WhoCan(Peers),
    /// List the nodes that a node may reach.
    From(Peers),
    /// Show every rule that was considered for one question, the closest first.
    Explain(Explain),
    /// Show what a change would do: who gains and loses what, and which connections it would cut.
    Plan(Plan),
    /// Prove that something can never be, over all label combinations that the schema allows.
    #[command(subcommand)]
    Assert(Assert),
    /// List what may reach what, over all label combinations and not only today's nodes.
    Exposure(Exposure),
    /// Lay policy files out in the one stable way; comments stay.
    Fmt(Format),
    /// Check a policy and sign it into a file, where the policy keys are. Needs no coordinator.
    ///
    /// Run again on the file with another key, it adds a signature. What is signed is shown before. `policy apply FILE` puts it in force.
    Sign(Sign),
    /// Check a policy, sign it, and put it in force everywhere.
    Apply(Apply),
    /// Keep a policy that was applied with `--confirm-within`.
    Confirm(Confirm),
    /// Put an earlier policy in force again, as a new generation.
    Rollback(Rollback),
    /// List the policies that have been in force.
    History,
    /// Print the policy in force.
    Show,
    /// Translate policies of other systems.
    #[command(subcommand)]
    Import(Import),
}

/// What a question is asked of: files, or else the coordinator.
#[derive(Args, Debug, Default)]
pub(crate) struct About {
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

/// What a question about all label combinations is asked of: nodes serve as examples only.
#[derive(Args, Debug, Default)]
pub(crate) struct Schemed {
    /// Ask this directory instead of the policy in force. Needs no coordinator.
    #[arg(long, value_name = "DIR")]
    pub(crate) policy: Option<PathBuf>,
    /// Nodes, as `bulkheadctl --json node list` prints them: an answer names examples of them.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) nodes: Option<PathBuf>,
    /// At this moment instead of at any from now on, for example 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) at: Option<Timestamp>,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Presentation {
    /// For people, or as JSON with `--json`.
    Text,
    /// SARIF 2.1.0, as code review systems read it, whether or not `--json` is there.
    Sarif,
}

/// `policy check` and `policy lint`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Directory of `*.toml` files [default: the policy in force, and its nodes].
    pub(crate) directory: Option<PathBuf>,
    /// Nodes, as `bulkheadctl --json node list` prints them: also finds rules that match nobody.
    #[arg(long, value_name = "FILE", requires = "directory")]
    pub(crate) nodes: Option<PathBuf>,
    /// How findings are shown.
    #[arg(long, value_enum, default_value_t = Presentation::Text)]
    pub(crate) format: Presentation,
    /// At this moment instead of now, for example 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) at: Option<Timestamp>,
}

/// `policy test`.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Directory of `*.toml` files [default: the policy in force].
    pub(crate) directory: Option<PathBuf>,
    /// At this moment instead of now, for tests that do not say when.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) at: Option<Timestamp>,
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
    /// What to ask.
    #[command(flatten)]
    pub(crate) about: About,
}

/// `policy who-can` and `policy from`.
#[derive(Args, Debug)]
pub(crate) struct Peers {
    /// The node.
    pub(crate) node: NodeName,
    /// Only by these: `tcp/5432`, `tcp/8000-8100,icmp`, or a service of the policy.
    pub(crate) ports: Option<String>,
    /// What to ask.
    #[command(flatten)]
    pub(crate) about: About,
}

/// `policy explain`.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The client node.
    pub(crate) from: NodeName,
    /// The server node.
    pub(crate) to: NodeName,
    /// `tcp/5432`, `udp/53`, `icmp`, `ip/47`.
    #[arg(value_parser = |text: &str| Service::parse(text))]
    pub(crate) service: Service,
    /// Show every rule, not only the closest.
    #[arg(long)]
    pub(crate) all: bool,
    /// What to ask.
    #[command(flatten)]
    pub(crate) about: About,
}

/// `policy plan`.
#[derive(Args, Debug)]
#[command(override_usage = "bulkheadctl policy plan [OPTIONS] NEW\n       \
                            bulkheadctl policy plan [OPTIONS] OLD NEW --nodes FILE")]
pub(crate) struct Plan {
    /// Directory of the new policy; the old one is in force, unless a second directory is named.
    #[arg(value_name = "NEW|OLD")]
    pub(crate) first: PathBuf,
    /// Directory of the new policy; the first is then the old one, and no coordinator is needed.
    #[arg(value_name = "NEW", requires = "nodes")]
    pub(crate) second: Option<PathBuf>,
    /// Nodes, as `bulkheadctl --json node list` prints them; with two directories.
    #[arg(long, value_name = "FILE", requires = "second")]
    pub(crate) nodes: Option<PathBuf>,
    /// The node that the coordinator runs on: warns of nodes that would lose their way to it
    /// [default: as the coordinator says].
    #[arg(long, value_name = "NAME")]
    pub(crate) coordinator_node: Option<NodeName>,
    /// The ports of the way to the coordinator.
    #[arg(long, default_value = "tcp/8443,udp/8443", value_name = "PORTS")]
    pub(crate) coordinator_ports: String,
    /// List all pairs of nodes, not only classes of nodes with equal labels.
    #[arg(long)]
    pub(crate) by_node: bool,
    /// Exit with 5 when anything changes.
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// At this moment instead of now, for example 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub(crate) at: Option<Timestamp>,
}

/// `policy assert …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Assert {
    /// No identity that FROM selects can ever reach one that TO selects. A counterexample exits with 4.
    #[command(override_usage = "bulkheadctl policy assert never [OPTIONS] FROM '->' TO [PORTS]")]
    Never(Assertion),
}

/// `policy assert never`.
#[derive(Args, Debug)]
pub(crate) struct Assertion {
    /// Who opens the connection: a selector as in a rule, or `FROM -> TO` as one argument.
    pub(crate) from: String,
    /// `->`.
    #[arg(value_name = "->", allow_hyphen_values = true)]
    pub(crate) arrow: Option<String>,
    /// Who answers: a selector as in a rule.
    pub(crate) to: Option<String>,
    /// Only by these: `tcp/5432`, `tcp/8000-8100,icmp`, or a service of the policy [default: any].
    pub(crate) ports: Option<String>,
    /// What to ask.
    #[command(flatten)]
    pub(crate) about: Schemed,
}

/// `policy exposure`.
#[derive(Args, Debug)]
pub(crate) struct Exposure {
    /// Only from identities of this selector.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) from: Option<String>,
    /// Only to identities of this selector.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) to: Option<String>,
    /// Only by these: `tcp/5432`, `tcp/8000-8100,icmp`, or a service of the policy.
    #[arg(long)]
    pub(crate) ports: Option<String>,
    /// What to ask.
    #[command(flatten)]
    pub(crate) about: Schemed,
}

/// `policy fmt`.
#[derive(Args, Debug)]
pub(crate) struct Format {
    /// Policy files, or directories of `*.toml` files.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// What to do with the result.
    #[command(flatten)]
    pub(crate) mode: FormatMode,
}

/// What `policy fmt` does with its result; without either it prints it.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct FormatMode {
    /// Change nothing; list files that would change, and exit with 4 when there are any.
    #[arg(long)]
    pub(crate) check: bool,
    /// Change the files.
    #[arg(long)]
    pub(crate) write: bool,
}

/// `policy sign`.
#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// Directory of `*.toml` files; or a signed policy, to add a signature in its file.
    #[arg(value_name = "DIR|FILE")]
    pub(crate) path: PathBuf,
    /// A policy key; repeat for more.
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// File to make.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Its generation; nodes take it only if they know no later one [default: the one after the policy in force].
    #[arg(long, conflicts_with = "base")]
    pub(crate) generation: Option<u64>,
    /// The generation that it replaces, instead of its own.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) base: Option<u64>,
    /// How long it is good for; from then on nodes permit nothing.
    #[arg(long, default_value = "90d", value_parser = parse_duration)]
    pub(crate) lifetime: Duration,
    /// The policy in force now: signed too, one generation later, to go back to with `apply --confirm-within`.
    #[arg(long, value_name = "DIR")]
    pub(crate) fallback: Option<PathBuf>,
    /// The trust document in force [default: ask the coordinator].
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Sign although tests of the policy fail.
    #[arg(long)]
    pub(crate) allow_failing_tests: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `policy apply`.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Directory of `*.toml` files, or a signed policy as `policy sign` writes it.
    #[arg(value_name = "DIR|FILE")]
    pub(crate) path: PathBuf,
    /// What changes and why, for the history.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) message: String,
    /// The generation that this text was made from: refused when another is in force by now.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) base: Option<u64>,
    /// Go back by itself to the policy in force now unless `policy confirm` says otherwise within this time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) confirm_within: Option<Duration>,
    /// Apply although tests of the policy fail.
    #[arg(long)]
    pub(crate) allow_failing_tests: bool,
    /// Apply although nodes lose their way to the coordinator, or you yours to its API.
    #[arg(long)]
    pub(crate) allow_lockout: bool,
    /// Wait until every connected node enforces it.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// `policy confirm`.
#[derive(Args, Debug)]
pub(crate) struct Confirm {
    /// The generation to keep [default: the one that waits for confirmation].
    pub(crate) generation: Option<u64>,
    /// Keep it although this node has not come back under it; repeat for more.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<NodeName>,
}

/// `policy rollback`.
#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// As `policy history` shows it.
    pub(crate) generation: u64,
    /// Go back although tests of that policy fail.
    #[arg(long)]
    pub(crate) allow_failing_tests: bool,
    /// Go back although nodes lose their way to the coordinator, or you yours to its API.
    #[arg(long)]
    pub(crate) allow_lockout: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `policy import …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Import {
    /// Translate Kubernetes NetworkPolicies into a policy, and their pods into nodes with labels.
    ///
    /// Reads NetworkPolicy (networking.k8s.io/v1), Namespace, Pod, and workloads with a pod template; YAML or JSON,
    /// several documents in a file. What cannot be said exactly is refused, with every reason at once: ipBlock, pods
    /// with hostNetwork, named ports that no pod defines, unknown fields. A pod's traffic with itself is not looked
    /// at. Whether a pod is isolated, and the numbers of its named ports, are labels of its node: import again when
    /// policies or pods change.
    K8s(ImportK8s),
}

/// `policy import k8s`.
#[derive(Args, Debug)]
pub(crate) struct ImportK8s {
    /// Manifests.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the policy into this directory [default: print it].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the nodes into this file, for `--nodes` of other verbs.
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes_out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::command::CommandLine;
    use clap::Parser as _;

    fn reads(words: &[&str]) -> bool {
        CommandLine::try_parse_from(["bulkheadctl", "policy"].iter().chain(words)).is_ok()
    }

    #[test]
    fn an_offline_question_needs_both_policy_and_nodes() {
        let ask = |more: &[&str]| reads(&[&["can", "web", "db", "tcp/5432"], more].concat());
        assert!(ask(&[]) && ask(&["--policy", "p", "--nodes", "n"]));
        assert!(!ask(&["--policy", "p"]) && !ask(&["--nodes", "n"]));
        assert!(reads(&["plan", "new"]) && reads(&["plan", "old", "new", "--nodes", "n"]));
        assert!(!reads(&["plan", "old", "new"]) && !reads(&["plan", "new", "--nodes", "n"]));
    }

    #[test]
    fn an_arrow_is_no_option_and_options_may_follow_it() {
        assert!(reads(&["assert", "never", "role=web", "->", "role=db", "tcp/22", "--policy", "p"]));
        assert!(reads(&["assert", "never", "role=web -> role=db", "--policy", "p"]));
        assert!(reads(&["assert", "never", "role=web", "->", "role=db", "--at", "2026-12-01T12:00:00Z"]));
    }

    #[test]
    fn formatting_checks_or_writes_but_not_both() {
        assert!(reads(&["fmt", "--check", "d"]) && reads(&["fmt", "--write", "d"]) && reads(&["fmt", "d"]));
        assert!(!reads(&["fmt", "--check", "--write", "d"]));
    }
}
