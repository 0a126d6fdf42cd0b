//! Settings of `serve`: command line over environment over configuration file over what `init` recorded.
//!
//! A file with a mistake is refused whole, with every mistake and its line: a setting that was misspelt must
//! not silently be the default.

mod people;
#[cfg(test)]
mod people_tests;
mod section;

pub use people::{People, WebSettings};

use crate::init::check_addresses;
use anyhow::{Context, Result, bail, ensure};
use bulkhead_identity::NodeName;
use bulkhead_protocol::offload::{Offload, Offloads};
use section::{Problems, texts};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Default state directory.
pub const DEFAULT_STATE: &str = "/var/lib/bulkhead-coordinator";
/// Default configuration file; need not exist.
pub const DEFAULT_CONFIG: &str = "/etc/bulkhead/coordinator.toml";
/// Default unix socket.
pub const DEFAULT_SOCKET: &str = "/run/bulkhead-coordinator/admin.sock";
/// Default address for HTTPS (TCP) and the control link (UDP).
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
/// Default lifetime of node certificates.
pub const DEFAULT_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Shortest and longest lifetime of node certificates.
pub const CERTIFICATE_LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(30 * 24 * 3600);
/// How long after its end a node may renew its certificate, unless told otherwise.
pub const DEFAULT_RENEWAL_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest it can be told.
pub const MAX_RENEWAL_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest configuration file.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// The configuration file with every setting, its default and what it means.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Settings that one source gives; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// `host:port` of this coordinator.
    pub addresses: Option<Vec<String>>,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The node that runs on this machine.
    pub node: Option<NodeName>,
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// Of node certificates.
    pub certificate_lifetime: Option<Duration>,
    /// For certificates that have ended.
    pub renewal_grace: Option<Duration>,
    /// That every node leaves off.
    pub offloads_off: Option<Offloads>,
    /// Log filter.
    pub log: Option<String>,
    /// Who signs in where, and who may do what; in the file only.
    pub people: Option<People>,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of this coordinator.
    pub addresses: Vec<String>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The node that runs on this machine.
    pub node: Option<NodeName>,
    /// The unix socket.
    pub socket: PathBuf,
    /// Of node certificates.
    pub certificate_lifetime: Duration,
    /// How long after its end a node may renew its certificate.
    pub renewal_grace: Duration,
    /// Offloads that every node leaves off.
    pub offloads_off: Offloads,
    /// Who signs in where, and who may do what.
    pub people: People,
}

impl Partial {
    /// These settings, and `other` where these say nothing.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            addresses: self.addresses.or(other.addresses),
            listen: self.listen.or(other.listen),
            node: self.node.or(other.node),
            socket: self.socket.or(other.socket),
            certificate_lifetime: self.certificate_lifetime.or(other.certificate_lifetime),
            renewal_grace: self.renewal_grace.or(other.renewal_grace),
            offloads_off: self.offloads_off.or(other.offloads_off),
            log: self.log.or(other.log),
            people: self.people.or(other.people),
        }
    }

    /// With the defaults.
    ///
    /// # Errors
    /// No addresses are known.
    pub fn settle(self) -> Result<Settings> {
        let addresses = self.addresses.unwrap_or_default();
        check_addresses(&addresses)?;
        Ok(Settings {
            addresses,
            listen: self.listen.unwrap_or(DEFAULT_LISTEN),
            node: self.node,
            socket: self.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            certificate_lifetime: self.certificate_lifetime.unwrap_or(DEFAULT_CERTIFICATE_LIFETIME),
            renewal_grace: self.renewal_grace.unwrap_or(DEFAULT_RENEWAL_GRACE),
            offloads_off: self.offloads_off.unwrap_or_default(),
            people: self.people.unwrap_or_default(),
        })
    }
}

/// Reads the file that was named, which must exist, or the default one, which need not.
///
/// # Errors
/// It cannot be read, or has mistakes: all of them are in the message.
pub fn load(named: Option<&Path>) -> Result<Partial> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIG));
    match std::fs::metadata(path) {
        Ok(found) => {
            let length = found.len();
            ensure!(length <= MAX_CONFIG_BYTES, "{} is larger than {MAX_CONFIG_BYTES} bytes", path.display());
        }
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Partial::default());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| format!("  {}:{p}", path.display())).collect();
        anyhow::anyhow!(
            "the configuration is refused:\n{}\n`bulkhead-coordinator serve --print-default-config` shows every setting",
            lines.join("\n")
        )
    })
}

/// Reads settings from TOML.
///
/// # Errors
/// Every mistake, as `line: what`.
pub fn parse(text: &str) -> Result<Partial, Vec<String>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems = Problems::new(text);
    for error in &errors {
        problems.add(error.span().unwrap_or_default(), error.message());
    }
    let mut settings = Partial::default();
    let (people, others): (Vec<_>, Vec<_>) =
        table.get_ref().iter().partition(|(key, _)| people::SECTIONS.contains(&key.get_ref().as_ref()));
    for (key, value) in others {
        if let Err(error) = set(&mut settings, key.get_ref(), value) {
            problems.add(key.span(), &format!("{error:#}"));
        }
    }
    if !people.is_empty() {
        settings.people = Some(People::read(table.get_ref(), &mut problems));
    }
    problems.none_or_all().map(|()| settings)
}

fn set(settings: &mut Partial, key: &str, value: &Spanned<DeValue<'_>>) -> Result<()> {
    let text = || value.get_ref().as_str().with_context(|| format!("`{key}` must be a string"));
    match key {
        "addresses" => settings.addresses = Some(addresses(value.get_ref())?),
        "listen" => {
            let listen = text()?.parse();
            settings.listen =
                Some(listen.context("`listen` must be an IP address and a port, like 0.0.0.0:8443")?);
        }
        "node" => {
            settings.node = Some(NodeName::parse(text()?).context("`node` must be the name of a node")?)
        }
        "socket" => {
            let socket = PathBuf::from(text()?);
            ensure!(socket.is_absolute(), "`socket` must be an absolute path");
            settings.socket = Some(socket);
        }
        "certificate_lifetime" => settings.certificate_lifetime = Some(lifetime(text()?)?),
        "renewal_grace" => settings.renewal_grace = Some(grace(text()?)?),
        "offloads_off" => settings.offloads_off = Some(offloads(value.get_ref())?),
        "log" => settings.log = Some(text()?.to_owned()),
        _ => bail!("unknown setting `{key}`"),
    }
    Ok(())
}

fn addresses(value: &DeValue<'_>) -> Result<Vec<String>> {
    let addresses = texts("addresses", value)?.into_iter().map(str::to_owned).collect::<Vec<_>>();
    check_addresses(&addresses).context("`addresses`")?;
    Ok(addresses)
}

fn offloads(value: &DeValue<'_>) -> Result<Offloads> {
    let named =
        texts("offloads_off", value)?.into_iter().map(str::parse::<Offload>).collect::<Result<_, _>>();
    named.context("`offloads_off`")
}

/// Reads a certificate lifetime such as `24h` or `60s`.
///
/// # Errors
/// Not a duration, or outside [`CERTIFICATE_LIFETIMES`].
pub fn lifetime(text: &str) -> Result<Duration> {
    let duration = duration(text)?;
    ensure!(
        CERTIFICATE_LIFETIMES.contains(&duration),
        "a certificate lifetime is between 10 s and 30 days, not {text}"
    );
    Ok(duration)
}

/// Reads a renewal grace such as `30d`, `12h` or `0`.
///
/// # Errors
/// Not a duration, or longer than [`MAX_RENEWAL_GRACE`].
pub fn grace(text: &str) -> Result<Duration> {
    let duration = if text == "0" { Duration::ZERO } else { duration(text)? };
    ensure!(duration <= MAX_RENEWAL_GRACE, "a renewal grace is at most 365 days, not {text}");
    Ok(duration)
}

pub(crate) fn duration(text: &str) -> Result<Duration> {
    // A day is 24 hours here; jiff leaves the word to calendars.
    let hours =
        text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()).map(|days| u64::from(days) * 24);
    let duration = match hours {
        Some(hours) => jiff::SignedDuration::from_secs(i64::try_from(hours * 3600)?),
        None => {
            text.parse().ok().with_context(|| format!("{text:?} is not a duration, like 30d, 24h or 60s"))?
        }
    };
    Duration::try_from(duration).context("a duration cannot be negative")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let printed = parse(DEFAULT_FILE).unwrap();
        let addresses = Some(vec!["c:1".to_owned()]);
        let printed = Partial { addresses: addresses.clone(), ..printed }.settle().unwrap();
        assert_eq!(printed, Partial { addresses, ..Partial::default() }.settle().unwrap());
    }

    #[test]
    fn all_mistakes_are_reported_with_their_lines() {
        let text = "listen = \"nowhere\"\nlisten_adress = 1\ncertificate_lifetime = \"1s\"\naddresses = [1]\nsocket = 5\n";
        let problems = parse(text).unwrap_err();
        let lines: Vec<&str> = problems.iter().filter_map(|p| p.split(':').next()).collect();
        assert_eq!(lines, ["1", "2", "3", "4", "5"], "{problems:?}");
    }

    #[test]
    fn offloads_are_named_and_a_misspelt_one_is_refused() {
        let off = |text| parse(text).map(|partial| partial.offloads_off.unwrap().to_string());
        assert_eq!(off("offloads_off = [\"udp-gro\", \"tun-tso\"]").unwrap(), "tun-tso,udp-gro");
        assert_eq!(off("offloads_off = []").unwrap(), "");
        let problems = off("offloads_off = [\"gso\"]").unwrap_err();
        assert!(problems.iter().all(|problem| problem.contains("udp-gso")), "{problems:?}");
        assert!(off("offloads_off = \"udp-gso\"").is_err());
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        let problems = parse("log = \"info\"\nlisten = \"unclosed\n").unwrap_err();
        assert!(problems.iter().any(|p| p.starts_with("2:")), "{problems:?}");
        assert!(parse("log = \"a\"\nlog = \"b\"\n").is_err(), "a key given twice is a mistake");
    }

    #[test]
    fn a_grace_can_be_none_at_all_and_is_bounded() {
        assert_eq!(grace("0").unwrap(), Duration::ZERO);
        assert_eq!(grace("30d").unwrap(), DEFAULT_RENEWAL_GRACE);
        assert_eq!(grace("365d").unwrap(), MAX_RENEWAL_GRACE);
        for wrong in ["366d", "-1h", "-1d", "4294967295d", "d", "", "1"] {
            assert!(grace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_nearer_source_wins() {
        let near = Partial { log: Some("debug".to_owned()), ..Partial::default() };
        let far =
            Partial { log: Some("info".to_owned()), listen: Some(DEFAULT_LISTEN), ..Partial::default() };
        let both = near.over(far);
        assert_eq!((both.log.as_deref(), both.listen), (Some("debug"), Some(DEFAULT_LISTEN)));
    }
}
