//! What a policy key is asked to sign, for the eyes of its holder: the policy and what it falls back to, with every rule
//! of both. Nothing is signed that was not shown, and nothing is shown that is not what the text says.

use super::compile;
use crate::moment;
use crate::policy::apply::same_meaning;
use crate::table::printable;
use anyhow::{anyhow, ensure};
use bulkhead_acl::{Bundle, Rule, RuleSet, Sources};
use bulkhead_identity::TrustDocument;
use bulkhead_protocol::admin::SignedPolicy;
use std::collections::BTreeMap;
use std::fmt;

/// One signature each.
pub(super) struct Offer {
    /// The policy.
    pub(super) main: Bundle,
    /// What takes over when nobody confirms it.
    pub(super) fallback: Option<Bundle>,
}

impl Offer {
    /// That the text in the file says exactly this, and that the two belong together.
    pub(super) fn require_its_text(&self, policy: &SignedPolicy) -> anyhow::Result<()> {
        ensure!(says(&policy.sources, &self.main)?, "the text is not what is signed");
        match (&self.fallback, &policy.fallback_sources) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(anyhow!("there is text of a fallback, but no fallback")),
            (Some(_), None) => {
                Err(anyhow!("the fallback has no text (fallback_sources): sign again from the directories"))
            }
            (Some(fallback), Some(sources)) => {
                ensure!(says(sources, fallback)?, "the fallback's text is not what is signed");
                ensure!(
                    self.main.generation.0.checked_add(1) == Some(fallback.generation.0),
                    "the fallback's generation {} does not follow {}",
                    fallback.generation,
                    self.main.generation
                );
                ensure!(
                    self.main.trust_domain == fallback.trust_domain,
                    "the fallback is for {}, not for {}",
                    fallback.trust_domain,
                    self.main.trust_domain
                );
                Ok(())
            }
        }
    }

    /// That it is for the deployment of `trust`.
    pub(super) fn require_domain(&self, trust: &TrustDocument) -> anyhow::Result<()> {
        let (signed, trusted) = (&self.main.trust_domain, &trust.trust_domain);
        ensure!(signed == trusted, "the policy is for {signed}, the trust document for {trusted}");
        Ok(())
    }
}

fn says(sources: &Sources, bundle: &Bundle) -> anyhow::Result<bool> {
    let rules = compile(sources, true).map_err(|failure| anyhow!("the text: {}", failure.sentence()))?;
    Ok(rules == bundle.rules)
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {}", header(&self.main))?;
        let main = by_id(&self.main.rules);
        let Some(fallback) = &self.fallback else {
            return main.values().try_for_each(|rule| writeln!(f, "  {}", line(*rule)));
        };
        writeln!(f, "falls back to policy {}", header(fallback))?;
        writeln!(f, "rules of the first (+), of the second (-) and of both:")?;
        let back = by_id(&fallback.rules);
        for (id, rule) in &main {
            match back.get(id) {
                Some(old) if old.0 == rule.0 && same_meaning(old.1, rule.1) => {
                    writeln!(f, "  {}", line(*rule))?;
                }
                Some(old) => writeln!(f, "- {}\n+ {}", line(*old), line(*rule))?,
                None => writeln!(f, "+ {}", line(*rule))?,
            }
        }
        let gone = back.iter().filter(|(id, _)| !main.contains_key(*id));
        gone.map(|(_, rule)| line(*rule)).try_for_each(|rule| writeln!(f, "- {rule}"))
    }
}

fn header(bundle: &Bundle) -> String {
    format!(
        "{} of {}, from {} to {}",
        bundle.generation,
        bundle.trust_domain,
        moment::show(bundle.not_before),
        moment::show(bundle.expires)
    )
}

type Kinded<'a> = (&'static str, &'a Rule);

fn by_id(rules: &RuleSet) -> BTreeMap<&str, Kinded<'_>> {
    let allow = rules.allow.iter().map(|rule| ("allow", rule));
    let never = rules.never.iter().map(|rule| ("never", rule));
    allow.chain(never).map(|rule| (&*rule.1.id.0, rule)).collect()
}

/// A rule with all that it depends on.
fn line((kind, rule): Kinded<'_>) -> String {
    let mut line = format!("{kind} {}  {} -> {}  {}", rule.id, rule.from, rule.to, rule.ports);
    if !rule.related.is_empty() {
        let relation = if kind == "allow" { "same" } else { "differ" };
        line += &format!("  {relation} {}", rule.related.join(","));
    }
    if let Some(start) = rule.not_before {
        line += &format!("  from {}", moment::show(start));
    }
    if let Some(end) = rule.until {
        line += &format!("  until {}", moment::show(end));
    }
    for hours in &rule.hours {
        line += &format!("  {hours}");
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{self, NOON, POLICY};
    use bulkhead_identity::{Generation, Timestamp, TrustDomain};

    fn bundle(generation: u64, text: &str) -> Bundle {
        Bundle {
            trust_domain: TrustDomain::parse("acme.example").unwrap(),
            generation: Generation(generation),
            not_before: NOON,
            expires: Timestamp(NOON.0 + 86_400),
            rules: compile(&fixture::sources(text), true).unwrap(),
            seed: [0; 32],
        }
    }

    #[test]
    fn every_rule_is_shown_with_what_it_does() {
        let new = POLICY.replace("tcp/502", "tcp/503").replace("\"ping\"", "\"echo\"");
        let offer = Offer { main: bundle(8, &new), fallback: Some(bundle(9, POLICY)) };
        insta::assert_snapshot!(offer, @r"
        policy 8 of acme.example, from 2026-12-01T12:00:00Z to 2026-12-02T12:00:00Z
        falls back to policy 9 of acme.example, from 2026-12-01T12:00:00Z to 2026-12-02T12:00:00Z
        rules of the first (+), of the second (-) and of both:
        + allow echo  env=prod -> env=prod  icmp
        - allow modbus  role in (historian, web) -> role=plc  tcp/502
        + allow modbus  role in (historian, web) -> role=plc  tcp/503
          never plc-only-from-historian  role!=historian -> role=plc  any
          allow web-to-db  env=prod, role=web -> env=prod, role=db  tcp/5432
        - allow ping  env=prod -> env=prod  icmp
        ");
        let alone = Offer { fallback: None, ..offer }.to_string();
        assert_eq!(alone.lines().count(), 1 + 4, "{alone}");
    }
}
