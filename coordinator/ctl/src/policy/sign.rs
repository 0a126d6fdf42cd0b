//! `policy sign`: a policy is signed where its keys are, from files to a file, and applied from anywhere. Whoever
//! holds another of the keys signs the same file again. The coordinator, which never sees the keys, can neither
//! change a rule of it nor leave one out.

mod offer;

use super::{count, directory, print_diagnostics};
use crate::Place;
use crate::command;
use crate::confirm::approve;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::{key_file, moment, public_file, trust};
use anyhow::{Context as _, ensure};
use bulkhead_acl::check::{FailingTests, Options, check_with};
use bulkhead_acl::{Bundle, RuleSet, SignedBundle, Sources};
use bulkhead_identity::{Generation, IdentityKey, IdentityPublicKey, Timestamp, TrustDocument};
use bulkhead_protocol::admin::{PolicyCurrent, SIGNED_POLICY_SCHEMA, SignedPolicy};
use data_encoding::BASE64;
use offer::Offer;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Largest signed policy: texts and bundles of the largest policy and its fallback, and their escapes.
const MAX_SIGNED_POLICY_BYTES: usize = 64 * 1024 * 1024;
/// Clocks of nodes may be this far behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// What `--json` shows.
#[derive(Serialize)]
struct Signed {
    generation: u64,
    expires: Timestamp,
    allow_rules: usize,
    never_rules: usize,
    /// The generation that takes over when nobody confirms.
    fallback: Option<u64>,
    signers: Vec<IdentityPublicKey>,
}

/// `policy sign`.
pub(super) async fn run(place: &Place, arguments: command::Sign, screen: Screen) -> Result<(), Failure> {
    let keys = arguments.keys.iter().map(|path| key_file::read(path)).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<&IdentityKey> = keys.iter().collect();
    if arguments.path.is_file() {
        return again(place, &arguments, &keys, screen).await;
    }
    let Some(out) = &arguments.out else {
        return Err(Failure::usage("no file is named to write to", "add --out FILE"));
    };
    let document = trust::document(place, arguments.trust.as_deref()).await?;
    let trust = document.document();
    require_policy_keys(&keys, trust)?;
    let generation = generation(place, &arguments).await?;
    let term = Term { trust, wall: moment::now(), lifetime: arguments.lifetime };

    let sources = directory::read(&arguments.path)?;
    let fallback_sources = arguments.fallback.as_deref().map(directory::read).transpose()?;
    let offer = Offer {
        main: term.bundle(compile(&sources, arguments.allow_failing_tests)?, generation)?,
        fallback: match &fallback_sources {
            Some(old) => Some(term.bundle(compile(old, true)?, following(generation)?)?),
            None => None,
        },
    };
    approve(arguments.yes.into(), &offer.to_string(), "Sign?")?;
    let sign = |bundle: &Bundle| BASE64.encode(&bundle.sign(&keys));
    let policy = SignedPolicy {
        schema: SIGNED_POLICY_SCHEMA.to_owned(),
        sources,
        bundle: sign(&offer.main),
        fallback: offer.fallback.as_ref().map(sign),
        fallback_sources,
    };
    // Nothing is written that nobody would take.
    read_offer(&policy)?;
    public_file::write_new(out, &encode(&policy)?)?;
    show(&policy, screen)?;
    let missing = usize::from(trust.policy_threshold).saturating_sub(keys.len());
    if missing > 0 {
        remark(&format!(
            "{missing} more policy keys have to sign it: bulkheadctl policy sign {} --key KEY",
            out.display()
        ));
    }
    Ok(())
}

/// Adds signatures to a policy that was signed before, in its file.
async fn again(
    place: &Place,
    arguments: &command::Sign,
    keys: &[&IdentityKey],
    screen: Screen,
) -> Result<(), Failure> {
    let file = &arguments.path;
    let mut policy = read(file)?;
    let offer = read_offer(&policy)?;
    // Whoever signs a second time is shown what the first signed; the text beside it is for reading it.
    offer.require_its_text(&policy).with_context(|| format!("{}; nothing was signed", file.display()))?;
    match trust::document(place, arguments.trust.as_deref()).await {
        Ok(document) => {
            offer.require_domain(document.document())?;
            require_policy_keys(keys, document.document())?;
        }
        Err(failure) if arguments.trust.is_some() => return Err(failure),
        Err(_) => {
            remark(
                "note: without a trust document (--trust FILE), nobody looks whether these are policy keys",
            );
        }
    }
    approve(arguments.yes.into(), &offer.to_string(), "Sign?")?;
    policy.bundle = countersign(&policy.bundle, keys)?;
    policy.fallback = policy.fallback.as_deref().map(|bundle| countersign(bundle, keys)).transpose()?;
    public_file::replace(file, &encode(&policy)?)?;
    show(&policy, screen)
}

/// Reads what `policy sign` wrote.
pub(super) fn read(file: &Path) -> anyhow::Result<SignedPolicy> {
    let parse = || -> anyhow::Result<SignedPolicy> {
        let policy: SignedPolicy = serde_json::from_slice(&public_file::read(
            file,
            ("MAX_SIGNED_POLICY_BYTES", MAX_SIGNED_POLICY_BYTES),
        )?)?;
        ensure!(
            policy.schema == SIGNED_POLICY_SCHEMA,
            "its schema is {:?}, not {SIGNED_POLICY_SCHEMA:?}",
            policy.schema
        );
        Ok(policy)
    };
    parse().with_context(|| format!("{} is no signed policy; policy text is a directory", file.display()))
}

fn encode(policy: &SignedPolicy) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(policy).context("writing JSON")?;
    text.push(b'\n');
    Ok(text)
}

fn decode(bundle: &str) -> anyhow::Result<Vec<u8>> {
    BASE64.decode(bundle.as_bytes()).context("the bundle is not base64")
}

fn countersign(bundle: &str, keys: &[&IdentityKey]) -> anyhow::Result<String> {
    let mut bytes = decode(bundle)?;
    for key in keys {
        bytes = SignedBundle::countersign(&bytes, key).context("signing")?;
    }
    Ok(BASE64.encode(&bytes))
}

/// A signature by another key would only be found out about by the nodes.
fn require_policy_keys(keys: &[&IdentityKey], trust: &TrustDocument) -> Result<(), Failure> {
    match keys.iter().find(|key| !trust.policy_keys.contains(&key.public())) {
        None => Ok(()),
        Some(key) => Err(Failure::usage(
            format!("{} is not a policy key of the trust document", key.public()),
            "`bulkheadctl trust show` lists them; `bulkheadctl trust draft --add-policy-key KEY` adds one",
        )),
    }
}

async fn generation(place: &Place, arguments: &command::Sign) -> Result<Generation, Failure> {
    let base = match (arguments.generation, arguments.base) {
        (Some(generation), _) => return Ok(Generation(generation)),
        (None, Some(base)) => base,
        (None, None) => place.client()?.get::<PolicyCurrent>("/api/v1/policy").await?.generation,
    };
    Ok(following(Generation(base))?)
}

fn compile(sources: &Sources, allow_failing_tests: bool) -> Result<RuleSet, Failure> {
    let failing_tests = if allow_failing_tests { FailingTests::Warn } else { FailingTests::Refuse };
    match check_with(sources, moment::now(), Options { failing_tests, nodes: None }) {
        Ok(checked) => {
            print_diagnostics(&checked.warnings);
            Ok(checked.rules)
        }
        Err(diagnostics) => {
            let (errors, warnings) = print_diagnostics(&diagnostics);
            Err(Failure::ChecksFailed(format!("{}; nothing was signed", count(errors, warnings))))
        }
    }
}

fn following(generation: Generation) -> anyhow::Result<Generation> {
    generation.0.checked_add(1).map(Generation).context("there is no generation after the last one")
}

/// For which deployment, and for how long.
struct Term<'a> {
    trust: &'a TrustDocument,
    wall: Timestamp,
    lifetime: Duration,
}

impl Term<'_> {
    fn bundle(&self, rules: RuleSet, generation: Generation) -> anyhow::Result<Bundle> {
        Ok(Bundle {
            trust_domain: self.trust.trust_domain.clone(),
            generation,
            not_before: Timestamp(self.wall.0.saturating_sub(BACKDATE.as_secs())),
            expires: self.wall.plus(self.lifetime),
            rules,
            seed: *key_file::random()?,
        })
    }
}

/// What the bundles in the file say, whoever signed them.
fn read_offer(policy: &SignedPolicy) -> anyhow::Result<Offer> {
    let bundle = |bundle: &str| anyhow::Ok(Bundle::read(&decode(bundle)?)?);
    Ok(Offer {
        main: bundle(&policy.bundle).context("the bundle")?,
        fallback: policy.fallback.as_deref().map(bundle).transpose().context("the fallback")?,
    })
}

fn show(policy: &SignedPolicy, screen: Screen) -> Result<(), Failure> {
    let Offer { main, fallback } = read_offer(policy)?;
    let signed = Signed {
        generation: main.generation.0,
        expires: main.expires,
        allow_rules: main.rules.allow.len(),
        never_rules: main.rules.never.len(),
        fallback: fallback.map(|fallback| fallback.generation.0),
        signers: SignedBundle::signers(&decode(&policy.bundle)?).context("the signatures")?,
    };
    screen.answer("policy-signed", &signed, |signed| {
        let back = signed.fallback.map(|to| format!(", back to it by {to}")).unwrap_or_default();
        let signers: Vec<String> = signed.signers.iter().map(ToString::to_string).collect();
        format!(
            "policy {}{back}: {} allow, {} never, to {}, signed by {}",
            signed.generation,
            signed.allow_rules,
            signed.never_rules,
            moment::show(signed.expires),
            signers.join(", ")
        )
    })
}
