//! `check-config`: whether the configuration is one, and what it would do with somebody. The claims are read and judged
//! by the same code as those of a real token; only its signature is taken on trust.

use crate::config::People;
use crate::sso::ProviderConfig;
use crate::sso::claims::{self, Reading};
use anyhow::{Context, Result, ensure};
use bulkhead_coordinator_engine::{Claims, PERSON_CERTIFICATE_LIFETIME};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Largest file of claims; a token is much smaller.
const MAX_CLAIMS_FILE_BYTES: u64 = 1024 * 1024;

/// Reads claims as the provider would put them into a token. `iss` may be left out.
///
/// # Errors
/// There is no such provider, or it would not be believed.
pub fn claims(people: &People, provider: &str, file: &Path) -> Result<Claims> {
    let names = || people.providers.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ");
    let config = people.providers.iter().find(|known| known.name == provider);
    let config =
        config.with_context(|| format!("there is no provider {provider:?}; there are: {}", names()))?;
    let length = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    ensure!(
        length <= MAX_CLAIMS_FILE_BYTES,
        "{} is larger than {MAX_CLAIMS_FILE_BYTES} bytes",
        file.display()
    );
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    read(config, &text).with_context(|| format!("the provider {provider:?} would not be believed"))
}

fn read(config: &ProviderConfig, text: &[u8]) -> Result<Claims> {
    let mut token: Map<String, Value> = serde_json::from_slice(text).context("not a JSON object")?;
    token.entry("iss").or_insert_with(|| config.issuer.clone().into());
    let payload = serde_json::to_vec(&token)?;
    let reading =
        Reading { provider: &config.name, issuer: &config.issuer, groups_claim: &config.groups_claim };
    Ok(claims::parse(&payload, reading)?)
}

/// The configuration in a few lines.
#[must_use]
pub fn summary(people: &People) -> String {
    let People { web, providers, rules } = people;
    let pages = web.as_ref().map_or("none: nobody signs in", |web| &web.url);
    format!(
        "the configuration is valid\npages          {pages}\nproviders      {}\nenrol rules    {}\nadministrators {}\n",
        providers.len(),
        rules.enrol.len(),
        rules.administrators.len()
    )
}

/// What would happen if somebody with these claims signed in, or showed them as a workload.
#[must_use]
pub fn explain(people: &People, claims: &Claims, certificate_lifetime: Duration) -> String {
    let person = people.providers.iter().any(|known| known.name == claims.provider && known.is_for_people());
    let mut text = format!("{}/{}", claims.provider, claims.subject);
    if !claims.name.is_empty() {
        let _ = write!(text, " ({})", claims.name);
    }
    let groups: Vec<_> = claims.groups.iter().map(String::as_str).collect();
    let _ = writeln!(
        text,
        "\ngroups    {}",
        if groups.is_empty() { "none".to_owned() } else { groups.join(", ") }
    );
    enrolment(
        &mut text,
        people,
        claims,
        if person { PERSON_CERTIFICATE_LIFETIME } else { certificate_lifetime },
        person,
    );
    if person {
        administrator(&mut text, people, claims);
    }
    text
}

fn enrolment(text: &mut String, people: &People, claims: &Claims, default: Duration, person: bool) {
    let Some(grant) = people.rules.enrolment(claims) else {
        let why = nobody(people.rules.enrol.iter().map(|rule| &rule.who), claims);
        let _ = writeln!(text, "enrolment refused: {why} ([[enrol]])");
        return;
    };
    let rules: Vec<_> = grant.rules.iter().map(|rule| (rule + 1).to_string()).collect();
    let labels: Vec<_> = grant.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let _ = writeln!(text, "enrolment allowed, by [[enrol]] number {}", rules.join(", "));
    let _ = writeln!(
        text,
        "  labels       {}",
        if labels.is_empty() { "none".to_owned() } else { labels.join(",") }
    );
    let _ = writeln!(text, "  certificate  {}", shown(grant.lifetime.unwrap_or(default)));
    if person {
        let _ = writeln!(text, "  session      {}", shown(grant.session));
        let approval = if grant.approval { "an administrator approves first" } else { "none" };
        let _ = writeln!(text, "  approval     {approval}");
    }
}

fn administrator(text: &mut String, people: &People, claims: &Claims) {
    match people.rules.administrator(claims) {
        Some(grant) => {
            let (role, number) = (grant.role, grant.rule + 1);
            let _ = writeln!(text, "administrator {role}, by [[administrator]] number {number}");
            let _ = writeln!(text, "  session      {}", shown(grant.session));
        }
        None => {
            let why = nobody(people.rules.administrators.iter().map(|rule| &rule.who), claims);
            let _ = writeln!(text, "administrator no: {why} ([[administrator]])");
        }
    }
}

/// Why no rule matches.
fn nobody<'a>(rules: impl Iterator<Item = &'a bulkhead_coordinator_engine::Who>, claims: &Claims) -> String {
    match rules.filter(|who| who.provider == claims.provider).count() {
        0 => format!("no rule speaks of provider {}", claims.provider),
        count => format!("none of the {count} rules for provider {} matches", claims.provider),
    }
}

fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
