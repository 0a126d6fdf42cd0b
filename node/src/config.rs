//! Settings: command line over environment over file over default.
//!
//! Property: a file that is not understood completely is not used at all. Unknown keys, wrong types and values out
//! of range are reported together, each with its key, and nothing starts.
//!
//! How to use it: the command line fills a [`Partial`] (clap has put the environment under the flags already) and
//! calls [`Config::load`].

use crate::packets::threads::{MAX_QUEUES, queues_for_this_machine};
use bulkhead_identity::TrustHash;
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::token::{MAX_COORDINATORS, is_address};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Read when no other file is named; may be absent.
pub(crate) const DEFAULT_FILE: &str = "/etc/bulkhead/node.toml";
/// Where keys, certificate and documents live.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/bulkhead";
/// The local API.
pub(crate) const DEFAULT_SOCKET: &str = "/run/bulkhead/bulkhead.sock";
/// Name of the TUN interface.
pub(crate) const DEFAULT_INTERFACE: &str = "bulkhead0";
/// WireGuard's customary port.
pub(crate) const DEFAULT_PORT: u16 = 51820;
/// 1500 bytes of Ethernet less the largest WireGuard overhead (IPv6 40, UDP 8, message 32).
pub(crate) const DEFAULT_MTU: u16 = 1420;
/// IPv6 needs at least this (RFC 8200, section 5).
pub(crate) const MIN_MTU: u16 = 1280;
/// 9000 bytes of jumbo frame less the same overhead.
pub(crate) const MAX_MTU: u16 = 8920;
/// A configuration file longer than this is refused unread.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The kernel's `IFNAMSIZ`, less the terminating zero.
const MAX_INTERFACE_BYTES: usize = 15;
/// What is logged unless `log` says otherwise.
const DEFAULT_LOG: &str = "info";

/// Settings in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// State directory.
    pub(crate) state: PathBuf,
    /// Unix socket of the local API.
    pub(crate) socket: PathBuf,
    /// Group that may read status over the socket; `None`: root only.
    pub(crate) socket_group: Option<String>,
    /// TUN interface to create.
    pub(crate) interface: String,
    /// UDP port of WireGuard.
    pub(crate) port: u16,
    /// MTU of the TUN interface.
    pub(crate) mtu: u16,
    /// Queues of the TUN interface, each with a UDP socket and a thread of its own.
    pub(crate) queues: usize,
    /// Endpoints to announce besides the interface addresses.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Whether the daemon may point /etc/resolv.conf at its resolver.
    pub(crate) write_resolv_conf: bool,
    /// Offloads that the data path does without.
    pub(crate) offloads_off: Offloads,
    /// `host:port` of the coordinators, for first contact.
    pub(crate) coordinators: Vec<String>,
    /// The trust document by which they are known at first contact.
    pub(crate) trust: Option<TrustHash>,
    /// Filter of the log, as `tracing-subscriber` reads it.
    pub(crate) log: String,
}

/// One layer of settings: what a file, or the command line, said. `None` leaves it to the layer below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    /// See [`Config::state`].
    pub(crate) state: Option<PathBuf>,
    /// See [`Config::socket`].
    pub(crate) socket: Option<PathBuf>,
    /// See [`Config::socket_group`].
    pub(crate) socket_group: Option<String>,
    /// See [`Config::interface`].
    pub(crate) interface: Option<String>,
    /// See [`Config::port`].
    pub(crate) port: Option<u16>,
    /// See [`Config::mtu`].
    pub(crate) mtu: Option<u16>,
    /// See [`Config::queues`].
    pub(crate) queues: Option<usize>,
    /// See [`Config::endpoints`].
    pub(crate) endpoints: Option<Vec<SocketAddr>>,
    /// See [`Config::write_resolv_conf`].
    pub(crate) write_resolv_conf: Option<bool>,
    /// See [`Config::offloads_off`].
    pub(crate) offloads_off: Option<Offloads>,
    /// See [`Config::coordinators`].
    pub(crate) coordinators: Option<Vec<String>>,
    /// See [`Config::trust`].
    pub(crate) trust: Option<TrustHash>,
    /// See [`Config::log`].
    pub(crate) log: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not there, or not readable.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is longer than any honest one.
    #[error("{0} is longer than {MAX_FILE_BYTES} bytes")]
    TooLong(PathBuf),
    /// Everything that is wrong, one per line.
    #[error("{origin}: {problems}")]
    Problems {
        /// The file, or "settings".
        origin: String,
        /// All of them.
        problems: Problems,
    },
}

/// Everything that is wrong with a configuration, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Lays `flags` over `file` (or over [`DEFAULT_FILE`], if that exists) over the defaults.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn load(flags: Partial, file: Option<&Path>) -> Result<Self, ConfigError> {
        let below = match file {
            Some(path) => Partial::read(path)?,
            None => match Partial::read(Path::new(DEFAULT_FILE)) {
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Partial::default()
                }
                other => other?,
            },
        };
        Self::build(flags.absolute().over(below))
            .map_err(|problems| ConfigError::Problems { origin: "settings".into(), problems })
    }

    fn build(layer: Partial) -> Result<Self, Problems> {
        let config = Self {
            state: layer.state.unwrap_or_else(|| DEFAULT_STATE.into()),
            socket: layer.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            socket_group: layer.socket_group,
            interface: layer.interface.unwrap_or_else(|| DEFAULT_INTERFACE.into()),
            port: layer.port.unwrap_or(DEFAULT_PORT),
            mtu: layer.mtu.unwrap_or(DEFAULT_MTU),
            queues: layer.queues.unwrap_or_else(queues_for_this_machine),
            endpoints: layer.endpoints.unwrap_or_default(),
            write_resolv_conf: layer.write_resolv_conf.unwrap_or(false),
            offloads_off: layer.offloads_off.unwrap_or_default(),
            coordinators: layer.coordinators.unwrap_or_default(),
            trust: layer.trust,
            log: layer.log.unwrap_or_else(|| DEFAULT_LOG.into()),
        };
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, path) in [("state", &self.state), ("socket", &self.socket)] {
            if !path.is_absolute() {
                problems.push(format!("{key}: {path:?} must be an absolute path"));
            }
        }
        if !is_interface_name(&self.interface) {
            problems.push(format!(
                "interface: {:?} must be 1 to {MAX_INTERFACE_BYTES} letters, digits, `-` or `_`",
                self.interface
            ));
        }
        if self.port == 0 {
            problems.push("port: 0 cannot be announced to peers; choose one, by default 51820".into());
        }
        if !(MIN_MTU..=MAX_MTU).contains(&self.mtu) {
            problems.push(format!("mtu: {} is not within {MIN_MTU} to {MAX_MTU}", self.mtu));
        }
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            problems.push(format!("queues: {} is not within 1 to {MAX_QUEUES}", self.queues));
        }
        if self.endpoints.len() > bulkhead_protocol::control::MAX_ENDPOINTS {
            problems.push(format!(
                "endpoints: {} are more than the limit of {}",
                self.endpoints.len(),
                bulkhead_protocol::control::MAX_ENDPOINTS
            ));
        }
        if self.coordinators.len() > MAX_COORDINATORS {
            problems.push(format!("coordinators: more than {MAX_COORDINATORS} (MAX_COORDINATORS)"));
        }
        for address in self.coordinators.iter().filter(|address| !is_address(address)) {
            problems.push(format!("coordinators: {address:?} must be HOST:PORT"));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            problems.push(format!("log: {error}"));
        }
        problems
    }

    /// A complete file with every key at its default, for `--print-default-config`.
    pub(crate) fn default_file() -> String {
        format!(
            "# Bulkhead node. Command line over environment over this file. Unknown keys are refused.\n\n\
             # Keys, certificate and documents; only root may read it.\n\
             state = \"{DEFAULT_STATE}\"\n\n\
             # The local API: reading status is for `socket_group`, changing anything is for root.\n\
             socket = \"{DEFAULT_SOCKET}\"\n\
             # socket_group = \"bulkhead\"\n\n\
             # The TUN interface and its MTU ({MIN_MTU} to {MAX_MTU}).\n\
             interface = \"{DEFAULT_INTERFACE}\"\n\
             mtu = {DEFAULT_MTU}\n\n\
             # Queues of that interface (1 to {MAX_QUEUES}), each with a UDP socket and a thread of its own (another one\n\
             # receives handshakes); one flow keeps to one queue. By default half as many as this machine has cores.\n\
             # queues = 1\n\n\
             # WireGuard, UDP.\n\
             port = {DEFAULT_PORT}\n\n\
             # Endpoints to announce besides the interface addresses, for example of a port forwarding.\n\
             endpoints = []\n\n\
             # Point /etc/resolv.conf at the resolver of the mesh while the daemon runs.\n\
             write_resolv_conf = false\n\n\
             # Offloads to do without, where this host's kernel or driver gets one wrong: any of \"tun-tso\", \"tun-gro\",\n\
             # \"udp-gso\", \"udp-gro\". The coordinator can leave off more.\n\
             offloads_off = []\n\n\
             # First contact, for `bulkhead up --sso` and workloads: where the coordinators are, and the hash of the trust\n\
             # document by which they are known (`bulkheadctl token invite`). A node that has joined needs neither.\n\
             # coordinators = [\"bulkhead.acme.example:8443\"]\n\
             # trust = \"64 hexadecimal digits\"\n\n\
             # error, warn, info, debug or trace, also per module: \"info,bulkhead=debug\".\n\
             log = \"{DEFAULT_LOG}\"\n"
        )
    }
}

impl Partial {
    /// On the command line a path may be relative to where one stands.
    fn absolute(self) -> Self {
        let absolute = |path: Option<PathBuf>| path.map(|path| std::path::absolute(&path).unwrap_or(path));
        Self { state: absolute(self.state), socket: absolute(self.socket), ..self }
    }

    /// This layer, and `below` where it says nothing.
    #[must_use]
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            state: self.state.or(below.state),
            socket: self.socket.or(below.socket),
            socket_group: self.socket_group.or(below.socket_group),
            interface: self.interface.or(below.interface),
            port: self.port.or(below.port),
            mtu: self.mtu.or(below.mtu),
            queues: self.queues.or(below.queues),
            endpoints: self.endpoints.or(below.endpoints),
            write_resolv_conf: self.write_resolv_conf.or(below.write_resolv_conf),
            offloads_off: self.offloads_off.or(below.offloads_off),
            coordinators: self.coordinators.or(below.coordinators),
            trust: self.trust.or(below.trust),
            log: self.log.or(below.log),
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.into(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err(ConfigError::TooLong(path.into()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text)
            .map_err(|problems| ConfigError::Problems { origin: path.display().to_string(), problems })
    }

    /// Key by key, so that all problems are found at once rather than the first.
    fn parse(text: &str) -> Result<Self, Problems> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| Problems(vec![error.to_string()]))?;
        let mut layer = Self::default();
        let mut problems = Vec::new();
        for (key, value) in table {
            match key.as_str() {
                "state" => take(&mut layer.state, &key, value, &mut problems),
                "socket" => take(&mut layer.socket, &key, value, &mut problems),
                "socket_group" => take(&mut layer.socket_group, &key, value, &mut problems),
                "interface" => take(&mut layer.interface, &key, value, &mut problems),
                "port" => take(&mut layer.port, &key, value, &mut problems),
                "mtu" => take(&mut layer.mtu, &key, value, &mut problems),
                "queues" => take(&mut layer.queues, &key, value, &mut problems),
                "endpoints" => take(&mut layer.endpoints, &key, value, &mut problems),
                "write_resolv_conf" => take(&mut layer.write_resolv_conf, &key, value, &mut problems),
                "offloads_off" => take(&mut layer.offloads_off, &key, value, &mut problems),
                "coordinators" => take(&mut layer.coordinators, &key, value, &mut problems),
                "trust" => take(&mut layer.trust, &key, value, &mut problems),
                "log" => take(&mut layer.log, &key, value, &mut problems),
                _ => problems.push(format!("{key}: unknown key; `--print-default-config` lists all keys")),
            }
        }
        if problems.is_empty() { Ok(layer) } else { Err(Problems(problems)) }
    }
}

fn take<T: serde::de::DeserializeOwned>(
    slot: &mut Option<T>,
    key: &str,
    value: toml::Value,
    problems: &mut Vec<String>,
) {
    match value.try_into() {
        Ok(parsed) => *slot = Some(parsed),
        Err(error) => problems.push(format!("{key}: {}", error.to_string().trim_end())),
    }
}

fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_printed_default_file_is_the_default() {
        let printed = Config::build(Partial::parse(&Config::default_file()).unwrap()).unwrap();
        assert_eq!(printed, Config::build(Partial::default()).unwrap());
    }

    #[test]
    fn all_problems_of_a_file_are_reported_at_once() {
        let problems = Partial::parse("port = \"x\"\nbogus = 1\nmtu = 99999\n").unwrap_err();
        assert_eq!(problems.0.len(), 3, "{problems}");
    }

    #[test]
    fn a_misspelt_offload_is_reported_with_the_names() {
        let off = |text: &str| Partial::parse(text).map(|layer| layer.offloads_off.unwrap().to_string());
        assert_eq!(off("offloads_off = [\"udp-gro\", \"tun-tso\"]").unwrap(), "tun-tso,udp-gro");
        for wrong in ["[\"gso\"]", "\"udp-gso\"", "[\"udp-gso\", \"udp-gso\"]", "true"] {
            let problems = off(&format!("port = 0.5\noffloads_off = {wrong}\n")).unwrap_err();
            assert_eq!(problems.0.len(), 2, "{problems}");
        }
        assert!(off("offloads_off = [\"gso\"]").unwrap_err().to_string().contains("udp-gso"));
    }

    #[test]
    fn values_out_of_range_are_reported_at_once() {
        let layer = Partial {
            interface: Some("../x".into()),
            port: Some(0),
            mtu: Some(68),
            queues: Some(0),
            state: Some("relative".into()),
            ..Partial::default()
        };
        assert_eq!(Config::build(layer).unwrap_err().0.len(), 5);
        let too_many = Partial { queues: Some(MAX_QUEUES + 1), ..Partial::default() };
        assert_eq!(Config::build(too_many).unwrap_err().0.len(), 1);
    }

    #[test]
    fn first_contact_is_checked_before_it_is_made() {
        let hash = "ab".repeat(32);
        let text = format!("coordinators = [\"c.acme.example:8443\"]\ntrust = \"{hash}\"\n");
        let config = Config::build(Partial::parse(&text).unwrap()).unwrap();
        assert_eq!(config.trust.map(|trust| trust.to_string()), Some(hash));
        assert!(Partial::parse("trust = \"abcd\"\n").is_err());
        for wrong in ["https://c.acme.example", "c.acme.example", "a b:1"] {
            let layer = Partial { coordinators: Some(vec![wrong.into()]), ..Partial::default() };
            assert_eq!(Config::build(layer).unwrap_err().0.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Partial { port: Some(1), ..Partial::default() };
        let file = Partial { port: Some(2), mtu: Some(1300), ..Partial::default() };
        let both = flags.over(file);
        assert_eq!((both.port, both.mtu), (Some(1), Some(1300)));
    }
}
