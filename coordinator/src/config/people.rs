//! `[web]`, `[[provider]]`, `[[enrol]]` and `[[administrator]]`: where people and workloads sign in, and who may do what.
//! Nobody may anything by default. A rule that would match nobody, or by mistake everybody, is refused.

use super::section::{Problems, Section, entries, flag, text, texts};
use super::{duration, lifetime};
use crate::sso::ProviderConfig;
use crate::sso::discovery::is_issuer;
use anyhow::{Context, Result, bail, ensure};
use bulkhead_coordinator_engine::{
    AdminRole, AdminRule, EnrolRule, MAX_CLAIM_BYTES, MAX_ISSUER_BYTES, MAX_RULES, Rules, Who,
};
use bulkhead_identity::{LabelKey, LabelValue, Labels, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// The sections that this file reads.
pub(super) const SECTIONS: [&str; 4] = ["web", "provider", "enrol", "administrator"];
/// Most providers.
const MAX_PROVIDERS: usize = 32;
/// Most values in one condition of a rule.
const MAX_VALUES: usize = 1000;
/// How often a provider can be asked again.
const REFRESH_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
/// How often it is, unless told otherwise.
const DEFAULT_REFRESH: Duration = Duration::from_secs(3600);
/// Where groups are, unless told otherwise.
const DEFAULT_GROUPS_CLAIM: &str = "groups";
/// How long a session can be.
const SESSIONS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(90 * 24 * 3600);

/// All of it. `default()` lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Pages for people.
    pub web: Option<WebSettings>,
    /// Who vouches.
    pub providers: Vec<ProviderConfig>,
    /// Who may do what.
    pub rules: Rules,
}

/// `[web]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// As browsers reach it: `https://host:port`.
    pub url: String,
    /// Chain in PEM.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
}

impl People {
    pub(super) fn read<'a>(all: &'a DeTable<'a>, problems: &mut Problems<'_>) -> Self {
        let web = Section::one(all, "web", problems).and_then(|section| web(&section, problems));
        let mut providers = Vec::new();
        for section in Section::many(all, "provider", MAX_PROVIDERS, problems) {
            if let Some(provider) = provider(&section, problems) {
                refuse_twins(&providers, &provider, &section, problems);
                if provider.is_for_people() && !has(all, "web") {
                    problems.add(section.span.clone(), "people sign in by pages: `[web]` is missing");
                }
                providers.push(provider);
            }
        }
        let mut rules = Rules::default();
        for section in Section::many(all, "enrol", MAX_RULES, problems) {
            rules.enrol.extend(enrol_rule(&section, &providers, problems));
        }
        for section in Section::many(all, "administrator", MAX_RULES, problems) {
            rules.administrators.extend(admin_rule(&section, &providers, problems));
        }
        Self { web, providers, rules }
    }
}

fn has(all: &DeTable<'_>, name: &str) -> bool {
    all.iter().any(|(key, _)| key.get_ref() == name)
}

fn web(section: &Section<'_>, problems: &mut Problems<'_>) -> Option<WebSettings> {
    let (mut listen, mut url, mut certificate, mut key_file) = (None, None, None, None);
    section.each(problems, |key, value| {
        match key {
            "listen" => {
                let address = text(key, value)?.parse();
                listen =
                    Some(address.context("`listen` must be an IP address and a port, like 0.0.0.0:8444")?);
            }
            "url" => url = Some(origin(text(key, value)?)?),
            "certificate" => certificate = Some(path(key, value)?),
            "key" => key_file = Some(path(key, value)?),
            _ => bail!("unknown setting `{key}` in [web]"),
        }
        Ok(())
    });
    let listen = section.need("listen", listen, problems);
    let url = section.need("url", url, problems);
    let certificate = section.need("certificate", certificate, problems);
    let key = section.need("key", key_file, problems);
    Some(WebSettings { listen: listen?, url: url?, certificate: certificate?, key: key? })
}

/// `https://host` or `https://host:port`, as a browser writes an origin.
fn origin(url: &str) -> Result<String> {
    let host = url.strip_prefix("https://").unwrap_or_default();
    let port = if host.ends_with(']') || !host.contains(':') { ":443" } else { "" };
    let plain = bulkhead_protocol::token::is_address(&format!("{host}{port}"));
    ensure!(
        plain && !host.bytes().any(|byte| byte.is_ascii_uppercase()),
        "`url` must be https:// and a host in lower case, perhaps with a port, and nothing after it"
    );
    Ok(url.to_owned())
}

fn provider(section: &Section<'_>, problems: &mut Problems<'_>) -> Option<ProviderConfig> {
    let (mut name, mut issuer) = (None, None);
    let mut provider = ProviderConfig {
        name: String::new(),
        issuer: String::new(),
        client_id: None,
        client_secret_file: None,
        audience: None,
        scopes: Vec::new(),
        groups_claim: DEFAULT_GROUPS_CLAIM.to_owned(),
        device_flow: false,
        ca: None,
        private_addresses: false,
        refresh: DEFAULT_REFRESH,
    };
    section.each(problems, |key, value| {
        match key {
            "name" => name = Some(NodeName::parse(text(key, value)?).context("`name`")?.to_string()),
            "issuer" => issuer = Some(issuer_url(text(key, value)?)?),
            "client_id" => provider.client_id = Some(word(key, value)?),
            "client_secret_file" => provider.client_secret_file = Some(path(key, value)?),
            "audience" => provider.audience = Some(word(key, value)?),
            "scopes" => provider.scopes = scopes(value)?,
            "groups_claim" => provider.groups_claim = word(key, value)?,
            "device_flow" => provider.device_flow = flag(key, value)?,
            "ca" => provider.ca = Some(path(key, value)?),
            "private_addresses" => provider.private_addresses = flag(key, value)?,
            "refresh" => provider.refresh = within(key, value, REFRESH_INTERVALS)?,
            _ => bail!("unknown setting `{key}` in [[provider]]"),
        }
        Ok(())
    });
    match (&provider.client_id, &provider.audience) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) => {
            problems
                .add(section.span.clone(), "a provider needs `client_id` (people) or `audience` (workloads)");
        }
        // Otherwise a person's own token would enrol nodes that have no owner and no session.
        (Some(_), Some(_)) => problems.add(
            section.span.clone(),
            "a provider is for people (`client_id`) or for workloads (`audience`): make two, with two names, and let the \
             `audience` be no `client_id`",
        ),
    }
    let name = section.need("name", name, problems);
    let issuer = section.need("issuer", issuer, problems);
    Some(ProviderConfig { name: name?, issuer: issuer?, ..provider })
}

/// Names are unique, and so is each issuer among those for people, and among those for workloads: whose word counts
/// must not depend on an order. What an issuer writes for people is never for workloads too.
fn refuse_twins(
    known: &[ProviderConfig],
    provider: &ProviderConfig,
    section: &Section<'_>,
    problems: &mut Problems<'_>,
) {
    let twin = |other: &&ProviderConfig| {
        other.issuer == provider.issuer && other.is_for_people() == provider.is_for_people()
    };
    if known.iter().any(|other| other.name == provider.name) {
        problems.add(section.span.clone(), &format!("there are two providers {:?}", provider.name));
    } else if let Some(other) = known.iter().find(twin) {
        let what = format!("provider {:?} has the same issuer and the same purpose", other.name);
        problems.add(section.span.clone(), &what);
    }
    let id_tokens = |people: &ProviderConfig, workloads: &ProviderConfig| {
        people.is_for_people() && people.issuer == workloads.issuer && people.client_id == workloads.audience
    };
    if known.iter().any(|other| id_tokens(other, provider) || id_tokens(provider, other)) {
        let what = "this `audience` is also a `client_id`: the ID token of a person would pass for a workload's; \
                    workloads need an audience of their own";
        problems.add(section.span.clone(), what);
    }
}

fn enrol_rule(
    section: &Section<'_>,
    providers: &[ProviderConfig],
    problems: &mut Problems<'_>,
) -> Option<EnrolRule> {
    let mut rule = EnrolRule::default();
    section.each(problems, |key, value| {
        match key {
            "labels" => rule.labels = labels(value)?,
            "lifetime" => rule.lifetime = Some(lifetime(text(key, value)?)?),
            "session" => rule.session = Some(within(key, value, SESSIONS)?),
            "approval" => rule.approval = flag(key, value)?,
            _ if condition(&mut rule.who, key, value)? => {}
            _ => bail!("unknown setting `{key}` in [[enrol]]"),
        }
        Ok(())
    });
    let provider = finish(&rule.who, section, providers, problems)?;
    if !provider.is_for_people() && (rule.approval || rule.session.is_some()) {
        let what = "`approval` and `session` are for people: this provider vouches for workloads";
        problems.add(section.span.clone(), what);
    }
    Some(rule)
}

fn admin_rule(
    section: &Section<'_>,
    providers: &[ProviderConfig],
    problems: &mut Problems<'_>,
) -> Option<AdminRule> {
    let (mut who, mut role, mut session) = (Who::default(), None, None);
    section.each(problems, |key, value| {
        match key {
            "role" => role = Some(text(key, value)?.parse::<AdminRole>()?),
            "session" => session = Some(within(key, value, SESSIONS)?),
            _ if condition(&mut who, key, value)? => {}
            _ => bail!("unknown setting `{key}` in [[administrator]]"),
        }
        Ok(())
    });
    let role = section.need("role", role, problems);
    let provider = finish(&who, section, providers, problems)?;
    if !provider.is_for_people() {
        problems.add(section.span.clone(), "administrators are people: this provider vouches for workloads");
    }
    if who.everyone {
        problems.add(section.span.clone(), "not everyone can be an administrator: name groups or subjects");
    }
    Some(AdminRule { who, role: role?, session })
}

/// Whether the key says of whom a rule speaks.
fn condition(who: &mut Who, key: &str, value: &DeValue<'_>) -> Result<bool> {
    match key {
        "provider" => who.provider = text(key, value)?.to_owned(),
        "everyone" => who.everyone = flag(key, value)?,
        "groups" => who.groups = values(key, value)?,
        "subjects" => who.subjects = values(key, value)?,
        "claims" => {
            let table = value.as_table().context("`claims` must be a table: { name = [\"value\"] }")?;
            let read = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Ok((key.to_string(), values(key, value.get_ref())?))
            };
            who.claims = table.iter().map(read).collect::<Result<BTreeMap<_, _>>>()?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The provider of a rule that speaks of somebody.
fn finish<'p>(
    who: &Who,
    section: &Section<'_>,
    providers: &'p [ProviderConfig],
    problems: &mut Problems<'_>,
) -> Option<&'p ProviderConfig> {
    let conditions = !(who.groups.is_empty() && who.subjects.is_empty() && who.claims.is_empty());
    let named = |key: &str| section.table.iter().any(|(known, _)| known.get_ref() == key);
    if who.everyone && conditions {
        problems.add(section.span.clone(), "`everyone` and conditions contradict each other");
    }
    if !who.everyone && !["groups", "subjects", "claims"].into_iter().any(named) {
        let what = "this matches nobody: name `groups`, `subjects` or `claims`, or say `everyone = true`";
        problems.add(section.span.clone(), what);
    }
    if !named("provider") {
        section.need::<()>("provider", None, problems);
        return None;
    }
    let provider = providers.iter().find(|provider| provider.name == who.provider);
    if provider.is_none() {
        problems.add(section.span.clone(), &format!("there is no provider {:?} above", who.provider));
    }
    provider
}

fn values(key: &str, value: &DeValue<'_>) -> Result<BTreeSet<String>> {
    let values = texts(key, value)?;
    ensure!(!values.is_empty(), "`{key}` is empty and would match nobody");
    ensure!(values.len() <= MAX_VALUES, "`{key}` has more than {MAX_VALUES} values");
    let fits = |value: &&str| (1..=MAX_CLAIM_BYTES).contains(&value.len());
    ensure!(
        values.iter().all(fits),
        "`{key}` has an empty value, or one longer than {MAX_CLAIM_BYTES} bytes"
    );
    Ok(values.into_iter().map(str::to_owned).collect())
}

fn labels(value: &DeValue<'_>) -> Result<Labels> {
    let mut labels = Vec::new();
    for (key, value) in entries("labels", value)? {
        let value = text(key, value)?;
        labels.push((LabelKey::parse(key)?, LabelValue::parse(value)?));
    }
    Ok(Labels::new(labels)?)
}

fn issuer_url(text: &str) -> Result<String> {
    ensure!(
        is_issuer(text) && text.len() <= MAX_ISSUER_BYTES,
        "`issuer` must be an https URL as in the provider's tokens, without `?` and `#`"
    );
    Ok(text.to_owned())
}

fn scopes(value: &DeValue<'_>) -> Result<Vec<String>> {
    let scopes = texts("scopes", value)?;
    // RFC 6749, appendix A.4.
    let token = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let fits = |scope: &&str| (1..=MAX_CLAIM_BYTES).contains(&scope.len()) && scope.bytes().all(token);
    ensure!(scopes.iter().all(fits), "`scopes` are words without spaces and quotes");
    Ok(scopes.into_iter().map(str::to_owned).collect())
}

fn word(key: &str, value: &DeValue<'_>) -> Result<String> {
    let text = text(key, value)?;
    let fits = (1..=MAX_CLAIM_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    ensure!(fits, "`{key}` must not be empty, nor longer than {MAX_CLAIM_BYTES} bytes");
    Ok(text.to_owned())
}

fn path(key: &str, value: &DeValue<'_>) -> Result<PathBuf> {
    let path = PathBuf::from(text(key, value)?);
    ensure!(path.is_absolute(), "`{key}` must be an absolute path");
    Ok(path)
}

fn within(key: &str, value: &DeValue<'_>, range: RangeInclusive<Duration>) -> Result<Duration> {
    let text = text(key, value)?;
    let duration = duration(text).with_context(|| format!("`{key}`"))?;
    let (start, end) = (range.start().as_secs(), range.end().as_secs());
    ensure!(range.contains(&duration), "`{key}` is between {start} and {end} seconds, not {text}");
    Ok(duration)
}
