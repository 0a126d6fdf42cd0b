//! Roots, and the issuing CAs under them. A root's key answers a coordinator's request on a machine that the
//! coordinator cannot reach.

use super::document;
use crate::Place;
use crate::command;
use crate::confirm::approve;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::{key_file, moment, public_file};
use anyhow::Context as _;
use bulkhead_identity::certificate::MAX_CERTIFICATE_BYTES;
use bulkhead_identity::issuer_request::MAX_ISSUER_REQUEST_BYTES;
use bulkhead_identity::{Authority, IdentityPublicKey, IssuerLimits, IssuerRequest, LabelKey, Timestamp};
use serde::Serialize;
use std::time::Duration;

/// Clocks may be this far behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// What `--json` shows.
#[derive(Serialize)]
struct Certified<'a> {
    trust_domain: &'a str,
    key: IdentityPublicKey,
    not_after: Timestamp,
}

/// `trust new-root`.
pub(super) async fn create(
    place: &Place,
    arguments: &command::NewRoot,
    screen: Screen,
) -> Result<(), Failure> {
    let domain = match &arguments.trust_domain {
        Some(domain) => domain.clone(),
        None => document(place, arguments.trust.as_deref()).await?.document().trust_domain.clone(),
    };
    let now = moment::now();
    let (not_before, not_after) = (backdated(now), now.plus(arguments.lifetime));
    let key = key_file::create(&arguments.key)?;
    let public = key.public();
    let root = Authority::create(key, &domain, key_file::serial()?, not_before, not_after)
        .context("making the root's certificate")?;
    public_file::write_new(&arguments.out, root.root_der())?;
    let made = Certified { trust_domain: domain.as_str(), key: public, not_after };
    screen.answer("root", &made, |made| {
        format!(
            "root {} of {}, to {}; next: bulkheadctl trust draft --add-root {}",
            made.key,
            made.trust_domain,
            moment::show(made.not_after),
            arguments.out.display()
        )
    })
}

/// `trust sign-issuer`.
pub(super) fn sign_issuer(arguments: &command::SignIssuer, screen: Screen) -> Result<(), Failure> {
    let request =
        public_file::read(&arguments.request, ("MAX_ISSUER_REQUEST_BYTES", MAX_ISSUER_REQUEST_BYTES))?;
    let request =
        IssuerRequest::read(&request).with_context(|| format!("{}", arguments.request.display()))?;
    let certificate = public_file::read(&arguments.root, ("MAX_CERTIFICATE_BYTES", MAX_CERTIFICATE_BYTES))?;
    let root = Authority::load(key_file::read(&arguments.root_key)?, certificate)
        .with_context(|| format!("{} and {}", arguments.root_key.display(), arguments.root.display()))?;
    let now = moment::now();
    let not_before = backdated(now).max(root.not_before());
    let wanted = arguments.lifetime.map_or(root.not_after(), |lifetime| now.plus(lifetime));
    let not_after = wanted.min(root.not_after());
    let limits = limited_to(&request.limits);
    let made = Certified { trust_domain: request.limits.trust_domain.as_str(), key: request.key, not_after };
    let (about_it, under) = (about(&made, &limits), arguments.root.display());
    let effect = format!("{about_it}\nunder the root {under}, which ends {}", moment::show(root.not_after()));
    approve(arguments.yes.into(), &effect, "Sign?")?;
    let issued = root
        .sign_issuer(request.key, &request.limits, key_file::serial()?, not_before, not_after)
        .context("signing")?;
    public_file::write_new(&arguments.out, &issued)?;
    screen.answer("issuer", &made, |made| {
        format!(
            "{}\nnext, on the coordinator's host: bulkhead-coordinator issuer install {}",
            about(made, &limits),
            arguments.out.display()
        )
    })
}

fn about(issuer: &Certified<'_>, limits: &str) -> String {
    let to = moment::show(issuer.not_after);
    format!("issuer {} of {}, to {to}, limited to {limits}", issuer.key, issuer.trust_domain)
}

fn limited_to(limits: &IssuerLimits) -> String {
    let keys = limits.label_keys.as_ref();
    let labels =
        keys.map_or("any".to_owned(), |keys| keys.iter().map(LabelKey::as_str).collect::<Vec<_>>().join(","));
    let ((v6, v6_bits), (v4, v4_bits)) = (limits.v6, limits.v4);
    format!("{v6}/{v6_bits}, {v4}/{v4_bits} and labels: {labels}")
}

fn backdated(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(BACKDATE.as_secs()))
}
