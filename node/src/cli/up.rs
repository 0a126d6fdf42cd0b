//! `up`: join and start; `daemon`: what the service runs.
//!
//! Where systemd runs and has our unit, joining is enough: a path unit starts the service as soon as there is a
//! certificate, and `up` waits for it. Elsewhere `up` becomes the daemon.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bulkhead_identity::{NodeName, Timestamp, TrustHash};
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::token::{Invitation, Token};
use clap::Args;
use zeroize::Zeroizing;

use super::signin::Waiter;
use super::{Context, Exit, status};
use crate::clock::Clock;
use crate::config::{Config, DEFAULT_STATE, Partial};
use crate::device::Layout;
use crate::enrol::entry::Entry;
use crate::enrol::{EnrolError, Enrolled};
use crate::local::client::{ClientError, ask};
use crate::local::wire::Request;
use crate::state::signin::Wish;
use crate::state::{CERTIFICATE, Store};
use crate::{daemon, enrol};

/// A join token is a few hundred bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// How long the service may take to start.
const STARTING: Duration = Duration::from_secs(30);
/// How often we look.
const LOOK: Duration = Duration::from_millis(50);
/// The kernel's name of this host.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// There while systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// Where the path unit may be that starts the service.
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const PATH_UNIT: &str = "bulkhead.path";

/// Settings that `up` and `daemon` share.
#[derive(Debug, Args)]
struct Settings {
    /// Name of the interface to create [default: bulkhead0]
    #[arg(long, value_name = "NAME", env = "BULKHEAD_INTERFACE")]
    interface: Option<String>,
    /// UDP port of WireGuard [default: 51820]
    #[arg(long, value_name = "PORT", env = "BULKHEAD_PORT")]
    port: Option<u16>,
    /// Queues of the interface, each with a thread of its own, 1 to 8 [default: half as many as there are cores]
    #[arg(long, value_name = "NUMBER", env = "BULKHEAD_QUEUES")]
    queues: Option<usize>,
    /// Let the daemon put its resolver first in /etc/resolv.conf while it runs
    #[arg(long)]
    write_resolv_conf: bool,
    /// Offloads to do without, of tun-tso, tun-gro, udp-gso and udp-gro [default: none]
    #[arg(long, value_name = "NAME,NAME", env = "BULKHEAD_OFFLOADS_OFF")]
    offloads_off: Option<Offloads>,
    /// What to log: error, warn, info, debug or trace, also per module [default: info]
    #[arg(long, value_name = "FILTER", env = "BULKHEAD_LOG")]
    log: Option<String>,
}

impl Settings {
    fn into_partial(self) -> Partial {
        Partial {
            interface: self.interface,
            port: self.port,
            queues: self.queues,
            write_resolv_conf: self.write_resolv_conf.then_some(true),
            offloads_off: self.offloads_off,
            log: self.log,
            ..Partial::default()
        }
    }
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// File with the join token; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The join token itself: seen by every user of this host, so prefer --token-file
    #[arg(value_name = "TOKEN", hide = true)]
    token: Option<String>,
    #[command(flatten)]
    without_token: WithoutToken,
    /// The name to ask for [default: what the token fixes, or this host's name]
    #[arg(long)]
    name: Option<NodeName>,
    /// Stay in the foreground, also where systemd could run the daemon
    #[arg(long)]
    foreground: bool,
    /// Join without starting: for images and for hosts whose service manager starts `bulkhead daemon`
    #[arg(long, conflicts_with = "foreground")]
    enrol_only: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Joining by somebody's word rather than by a token.
#[derive(Debug, Args)]
struct WithoutToken {
    /// Sign in at the company's provider, in a browser here or on any other device; on a node that has joined, sign in
    /// again
    #[arg(long, group = "word", conflicts_with_all = ["token", "token_file", "identity_token_file"])]
    sso: bool,
    /// Sign in on the page of the provider of this name, by its own device flow, for where the coordinator's pages are out
    /// of reach; an administrator then approves
    #[arg(long, value_name = "NAME", requires = "sso")]
    provider_device: Option<String>,
    /// Join as a workload, by the token that its platform put into this file
    #[arg(long, value_name = "FILE", group = "word", conflicts_with_all = ["token", "token_file"])]
    identity_token_file: Option<PathBuf>,
    /// File with an invitation (`bulkheadctl token invite`): where the coordinators are, and how to know them
    #[arg(long, value_name = "FILE", requires = "word", conflicts_with_all = ["coordinator", "trust"])]
    invitation: Option<PathBuf>,
    /// A coordinator, for first contact; repeat for more [env: BULKHEAD_COORDINATOR, with commas between]
    #[arg(long, value_name = "HOST:PORT", requires = "word", value_delimiter = ',')]
    coordinator: Vec<String>,
    /// Hash of the trust document by which the coordinators are known at first contact [env: BULKHEAD_TRUST]
    #[arg(long, value_name = "HASH", requires = "word")]
    trust: Option<TrustHash>,
}

/// What first contact needs, from the environment. Not by clap: to it a variable would be an option that was given, which
/// requires and excludes others.
fn first_contact_from_environment() -> anyhow::Result<Partial> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let trust = variable("BULKHEAD_TRUST").map(|hash| hash.parse()).transpose();
    Ok(Partial {
        coordinators: variable("BULKHEAD_COORDINATOR").map(|all| all.split(',').map(str::to_owned).collect()),
        trust: trust.map_err(|error| anyhow!("BULKHEAD_TRUST: {error}"))?,
        ..Partial::default()
    })
}

impl WithoutToken {
    /// What first contact needs, from the command line or the configuration. Half of it is nothing.
    fn entry(&self, config: &Config) -> anyhow::Result<Option<Entry>> {
        if let Some(file) = &self.invitation {
            return Ok(Some(Invitation::parse(&read_token(file)?)?.into()));
        }
        match (config.coordinators.is_empty(), config.trust) {
            (false, Some(trust)) => Ok(Some(Entry { coordinators: config.coordinators.clone(), trust })),
            (true, _) | (false, None) => Ok(None),
        }
    }
}

/// Arguments of `daemon`.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// Print a configuration file with every key at its default, and end
    #[arg(long)]
    print_default_config: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Joins if need be, and starts.
pub(super) fn up(context: &Context, args: UpArgs) -> anyhow::Result<Exit> {
    if !rustix::process::geteuid().is_root() {
        bail!("joining needs root: use sudo");
    }
    let flags = args.settings.into_partial();
    let has_flags = flags != Partial::default();
    let without_token = args.without_token;
    let environment = first_contact_from_environment()?;
    let coordinators = Some(without_token.coordinator.clone()).filter(|given| !given.is_empty());
    let config = context.config(Partial {
        coordinators: coordinators.or(environment.coordinators),
        trust: without_token.trust.or(environment.trust),
        ..flags
    })?;
    let running = is_running(&config);
    let store = Store::open(&config.state)?;
    if running || store.is_enrolled()? {
        if args.token_file.is_some() || args.token.is_some() || without_token.identity_token_file.is_some() {
            context.screen.note("this node has joined already: the token was not used");
        }
        if without_token.sso {
            sign_in_again(context, &config, &store, without_token.provider_device)?;
        } else if running {
            context.screen.note("the daemon is running already");
        }
    } else {
        let name = args.name.or_else(host_name);
        let by_token = args.token_file.is_some() || args.token.is_some();
        let joined =
            if by_token { None } else { join(context, &config, &store, &without_token, name.as_ref())? };
        let enrolled = match joined {
            Some(enrolled) => enrolled,
            None => {
                let token = token(context, args.token_file.as_deref(), args.token)?;
                enrol::enrol(&config.state, &token, name.as_ref())?
            }
        };
        context.screen.note(format!("joined as {}", enrolled.name));
    }
    if running {
        return report(context);
    }
    if args.enrol_only {
        return Ok(Exit::Ok);
    }
    if !args.foreground && service_will_start(&config.state) {
        if has_flags {
            context
                .screen
                .note("the service takes its settings from /etc/bulkhead/node.toml, not from these options");
        }
        knock(&config.state)?;
        return wait_for_service(context, &config);
    }
    explain_names(context, &store, &config);
    drop(store);
    daemon::run(config)?;
    Ok(Exit::Ok)
}

/// Runs the daemon.
pub(super) fn daemon(context: &Context, args: DaemonArgs) -> anyhow::Result<Exit> {
    if args.print_default_config {
        for line in Config::default_file().lines() {
            context.screen.line(line)?;
        }
        return Ok(Exit::Ok);
    }
    let config = context.config(args.settings.into_partial())?;
    let store = Store::open(&config.state)?;
    if !store.is_enrolled()? && store.has_sign_in()? {
        // A person may have confirmed it before this host was restarted, and an administrator have approved it since.
        match sign_in(context, &config, None, None) {
            Err(error) if error.is_over() => {
                context.screen.note(format!(
                    "this host has not joined, and waits no longer: {error}; to join: bulkhead up --sso"
                ));
                return Ok(Exit::Ok);
            }
            result => result?,
        };
    }
    drop(store);
    daemon::run(config)?;
    Ok(Exit::Ok)
}

/// Joins by somebody's word; `None` when nobody's was asked for.
fn join(
    context: &Context,
    config: &Config,
    store: &Store,
    way: &WithoutToken,
    name: Option<&NodeName>,
) -> anyhow::Result<Option<Enrolled>> {
    let entry = way.entry(config)?;
    if let Some(file) = &way.identity_token_file {
        let entry = entry.ok_or(EnrolError::NoEntry)?;
        return Ok(Some(enrol::workload::enrol(&config.state, &entry, file, name)?));
    }
    // Whoever was interrupted while an administrator was awaited need not say again how it began.
    if way.sso || store.sign_in()?.is_some_and(|kept| kept.approval.is_some()) {
        let wish = Wish { name: name.cloned(), provider: way.provider_device.clone() };
        return Ok(Some(sign_in(context, config, entry, way.sso.then_some(&wish))?));
    }
    Ok(None)
}

fn sign_in(
    context: &Context,
    config: &Config,
    entry: Option<Entry>,
    wish: Option<&Wish>,
) -> Result<Enrolled, EnrolError> {
    let mut waiter = Waiter::new(&context.screen);
    let enrolled = enrol::signin::enrol(&config.state, entry, wish, &mut |progress| waiter.show(progress))?;
    waiter.done(Some(enrolled.name.as_str()));
    Ok(enrolled)
}

/// The owner signs in again, and the node takes up the certificate that came of it: through its daemon where that runs,
/// or at its next start.
fn sign_in_again(
    context: &Context,
    config: &Config,
    store: &Store,
    provider: Option<String>,
) -> anyhow::Result<()> {
    let mut waiter = Waiter::new(&context.screen);
    let held = enrol::signin::again(store, provider, &mut |progress| waiter.show(progress))?;
    let chain = minicbor::to_vec(held.me.chain()).expect("writing to memory does not fail");
    match ask(&config.socket, Request::TakeCertificate { chain }) {
        Err(ClientError::NotRunning(_)) => {
            let _lock = store.lock()?;
            store.save_certificate(&held)?;
        }
        result => drop(result.context("signed in, but the daemon did not take up the new certificate")?),
    }
    waiter.done(None);
    Ok(())
}

fn token(context: &Context, file: Option<&Path>, argument: Option<String>) -> anyhow::Result<Token> {
    let text = match (file, argument) {
        (Some(file), _) => read_token(file)?,
        (None, Some(token)) => {
            context.screen.note(
                "warning: a token among the arguments is seen by every user of this host; prefer --token-file",
            );
            Zeroizing::new(token)
        }
        (None, None) => bail!(
            "this node has not joined yet: run `bulkhead up --sso` to sign in, or have an administrator run `bulkheadctl \
             token create`, put the token into a file, and run `bulkhead up --token-file FILE`"
        ),
    };
    Ok(Token::parse(text.trim())?)
}

fn read_token(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text))
    };
    let length = read.with_context(|| format!("cannot read the token from {}", file.display()))?;
    if length as u64 > MAX_TOKEN_BYTES {
        bail!("{} is longer than any token ({MAX_TOKEN_BYTES} bytes)", file.display());
    }
    Ok(text)
}

/// This host's name up to the first dot, if a node can be called that.
fn host_name() -> Option<NodeName> {
    let name = std::fs::read_to_string(HOST_NAME).ok()?.trim().to_ascii_lowercase();
    NodeName::parse(name.split('.').next()?).ok()
}

/// The unit watches the default state directory only.
fn service_will_start(state: &Path) -> bool {
    state == Path::new(DEFAULT_STATE)
        && Path::new(SYSTEMD).is_dir()
        && UNIT_DIRECTORIES.iter().any(|directory| Path::new(directory).join(PATH_UNIT).exists())
}

/// The path unit starts the service when somebody has written the certificate: enrolling did; for a node that has
/// joined before, opening and closing it is enough.
fn knock(state: &Path) -> anyhow::Result<()> {
    let path = state.join(CERTIFICATE);
    let opened = std::fs::OpenOptions::new().write(true).open(&path);
    opened.with_context(|| format!("cannot open {}", path.display()))?;
    Ok(())
}

fn is_running(config: &Config) -> bool {
    !matches!(ask(&config.socket, Request::Certificate {}), Err(ClientError::NotRunning(_)))
}

fn wait_for_service(context: &Context, config: &Config) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + STARTING;
    while !is_running(config) {
        if Instant::now() > deadline {
            bail!(
                "the service has not started within {} s: see `systemctl status bulkhead.path bulkhead.service`, \
                 and `journalctl -u bulkhead`",
                STARTING.as_secs()
            );
        }
        look_again();
    }
    report(context)
}

#[expect(clippy::disallowed_methods, reason = "between two looks, with a deadline around them")]
fn look_again() {
    thread::sleep(LOOK);
}

fn report(context: &Context) -> anyhow::Result<Exit> {
    let status = status::fetch(context, false)?;
    status::show(context, &status)?;
    Ok(Exit::Ok)
}

/// Says how names of the mesh come to work here, unless the daemon sees to it.
fn explain_names(context: &Context, store: &Store, config: &Config) {
    if config.write_resolv_conf {
        return;
    }
    if let Some((resolver, domain)) = resolver(store, config) {
        context.screen.note(format!(
            "names: for NAME.{domain} put `nameserver {resolver}` first in /etc/resolv.conf, or use \
             --write-resolv-conf"
        ));
    }
}

fn resolver(store: &Store, config: &Config) -> Option<(IpAddr, String)> {
    // What is wrong with the state is for the daemon to say.
    let held = store.load(Clock::new(Timestamp(0)).now().wall).ok()?.held;
    let own = held.me.claims().addresses?;
    let layout = Layout::new(&config.interface, config.mtu, &held.trust, own);
    Some((IpAddr::V4(layout.resolver.v4), held.trust.document().trust_domain.to_string()))
}
