//! A trust document for people: who may sign what, and what still has to be signed.

use super::in_view;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::Table;
use bulkhead_identity::{Draft, IdentityPublicKey, LabelKey, Timestamp, TrustHash};
use bulkhead_protocol::admin::{EndingSeal, RootView, Signing, TrustView};
use serde::Serialize;

/// What `--json` shows.
#[derive(Serialize)]
struct Shown<'a> {
    version: u64,
    trust_domain: &'a str,
    hash: String,
    issued: Timestamp,
    expires: Timestamp,
    operators: &'a [IdentityPublicKey],
    operator_threshold: u8,
    policy_keys: &'a [IdentityPublicKey],
    policy_threshold: u8,
    sealed: &'a [LabelKey],
    /// Whose signatures are right.
    signers: Vec<IdentityPublicKey>,
    /// How many more operators have to sign before it counts, as far as the document itself says.
    missing: usize,
    #[serde(flatten)]
    followed: Option<Followed<'a>>,
}

/// What only the coordinator knows.
#[derive(Serialize)]
struct Followed<'a> {
    roots: &'a [RootView],
    behind: usize,
    signing: Signing,
    ending_seals: &'a [EndingSeal],
}

impl<'a> Shown<'a> {
    fn new(draft: &'a Draft, view: Option<&'a TrustView>) -> Self {
        let document = draft.document();
        Self {
            version: document.version.0,
            trust_domain: document.trust_domain.as_str(),
            hash: TrustHash::of(&draft.bytes()).to_string(),
            issued: document.issued,
            expires: document.expires,
            operators: &document.operator_keys,
            operator_threshold: document.operator_threshold,
            policy_keys: &document.policy_keys,
            policy_threshold: document.policy_threshold,
            sealed: &document.sealed,
            signers: draft.signers(),
            missing: draft.missing(document),
            followed: view.map(|view| Followed {
                roots: &view.roots,
                behind: view.behind,
                signing: view.signing,
                ending_seals: &view.ending_seals,
            }),
        }
    }
}

/// A document or draft in a file.
pub(super) fn file(draft: &Draft, screen: Screen) -> Result<(), Failure> {
    screen.answer("trust", &Shown::new(draft, None), |_| text(draft, None))
}

/// The document in force.
pub(super) fn in_force(view: &TrustView, screen: Screen) -> Result<(), Failure> {
    let draft = in_view(view)?;
    screen.answer("trust", &Shown::new(&draft, Some(view)), |_| text(&draft, Some(view)))
}

fn text(draft: &Draft, view: Option<&TrustView>) -> String {
    let (document, now) = (draft.document(), moment::now());
    let mut facts = Table::facts();
    facts.fact("version", document.version);
    facts.fact("trust domain", &document.trust_domain);
    facts.fact("hash", TrustHash::of(&draft.bytes()));
    facts.fact("issued", moment::show(document.issued));
    let expires = moment::show(document.expires);
    facts.fact("ends", format!("{expires}, {}", moment::show_left(document.expires, now)));
    keys(&mut facts, "operator", &document.operator_keys, document.operator_threshold);
    keys(&mut facts, "policy key", &document.policy_keys, document.policy_threshold);
    let sealed: Vec<&str> = document.sealed.iter().map(LabelKey::as_str).collect();
    facts.fact("sealed labels", if sealed.is_empty() { "none".to_owned() } else { sealed.join(",") });
    match view {
        Some(view) => {
            for root in &view.roots {
                facts.fact("root", root_line(root, now));
            }
            let signs = match view.signing {
                Signing::Online => "by the coordinator",
                Signing::Offline => "elsewhere: bulkheadctl policy sign",
            };
            facts.fact("policy is signed", signs);
            facts.fact("connected, but behind", crate::node::peers(view.behind));
            for seal in &view.ending_seals {
                facts.fact("seal ends", format!("{} {}", seal.node, moment::show_left(seal.not_after, now)));
            }
        }
        None => {
            facts.fact("roots", document.roots.len());
            for signer in draft.signers() {
                facts.fact("signed by", signer);
            }
            facts.fact("missing", format!("{} signatures of its own operators", draft.missing(document)));
        }
    }
    facts.to_string()
}

fn keys(facts: &mut Table, what: &str, keys: &[IdentityPublicKey], threshold: u8) {
    facts.fact(&format!("{what}s"), format!("{threshold} of {} have to sign", keys.len()));
    for key in keys {
        facts.fact(what, key);
    }
}

fn root_line(root: &RootView, now: Timestamp) -> String {
    let issuing = if root.issuing { "issues now" } else { "does not issue" };
    format!(
        "{}  {issuing}, {} under it ({} connected), {}",
        root.key,
        crate::node::peers(root.nodes),
        root.connected,
        moment::show_left(root.not_after, now)
    )
}
