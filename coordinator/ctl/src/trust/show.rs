//! A trust document for people: who may sign what, and what still has to be signed.

use super::{in_view, roots};
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::Table;
use bulkhead_identity::{Draft, IdentityPublicKey, LabelKey, Timestamp, TrustDocument, TrustHash};
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
    overlay: [String; 2],
    #[serde(flatten)]
    origin: Origin<'a>,
}

/// Where a document was found.
#[derive(Serialize)]
#[serde(untagged)]
enum Origin<'a> {
    File { roots: Vec<Root> },
    InForce(Followed<'a>),
}

/// A root, as the document itself says.
#[derive(Serialize)]
struct Root {
    key: IdentityPublicKey,
    not_after: Timestamp,
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
    fn new(draft: &'a Draft, origin: Origin<'a>) -> Self {
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
            overlay: overlay(document),
            origin,
        }
    }
}

/// A document or draft in a file.
pub(super) fn file(draft: &Draft, screen: Screen) -> Result<(), Failure> {
    let shown = text(draft, None)?;
    let root = |(key, not_after)| Root { key, not_after };
    let roots = roots(draft.document())?.into_iter().map(root).collect();
    screen.answer("trust", &Shown::new(draft, Origin::File { roots }), |_| shown)
}

/// The document in force.
pub(super) fn in_force(view: &TrustView, screen: Screen) -> Result<(), Failure> {
    let draft = in_view(view)?;
    let shown = text(&draft, Some(view))?;
    let followed = Followed {
        roots: &view.roots,
        behind: view.behind,
        signing: view.signing,
        ending_seals: &view.ending_seals,
    };
    screen.answer("trust", &Shown::new(&draft, Origin::InForce(followed)), |_| shown)
}

/// All that a document says, and what `view` knows of it.
pub(super) fn text(draft: &Draft, view: Option<&TrustView>) -> Result<String, Failure> {
    let (document, now) = (draft.document(), moment::now());
    let mut table = Table::facts();
    table.fact("hash", TrustHash::of(&draft.bytes()));
    for (name, value) in facts(document)? {
        table.fact(name, value);
    }
    match view {
        Some(view) => {
            for root in &view.roots {
                table.fact("under root", root_line(root));
            }
            let signs = match view.signing {
                Signing::Online => "by the coordinator",
                Signing::Offline => "elsewhere: bulkheadctl policy sign",
            };
            table.fact("policy is signed", signs);
            table.fact("connected, but behind", crate::node::peers(view.behind));
            for seal in &view.ending_seals {
                table.fact("seal ends", format!("{} {}", seal.node, moment::show_left(seal.not_after, now)));
            }
        }
        None => {
            for signer in draft.signers() {
                table.fact("signed by", signer);
            }
            table.fact("missing", format!("{} signatures of its own operators", draft.missing(document)));
        }
    }
    Ok(table.to_string())
}

/// What `new` says and `old` does not (`+`), and what it no longer says (`-`).
pub(super) fn differences(old: &TrustDocument, new: &TrustDocument) -> Result<String, Failure> {
    let (old, new) = (facts(old)?, facts(new)?);
    let mut table = Table::facts();
    for (mark, here, there) in [("-", &old, &new), ("+", &new, &old)] {
        for (name, value) in here.iter().filter(|fact| !there.contains(fact)) {
            table.fact(mark, format!("{name}  {value}"));
        }
    }
    Ok(table.to_string())
}

/// Everything that operators sign, one fact for each thing that can come or go. Nothing may be missing here: what is
/// not shown is signed unseen.
fn facts(document: &TrustDocument) -> Result<Vec<(&'static str, String)>, Failure> {
    let TrustDocument {
        version,
        trust_domain,
        roots: _,
        operator_keys,
        operator_threshold,
        policy_keys,
        policy_threshold,
        sealed,
        overlay_v6: _,
        overlay_v4: _,
        issued,
        expires,
    } = document;
    let now = moment::now();
    let ends = |at: Timestamp| format!("{}, {}", moment::show(at), moment::show_left(at, now));
    let mut facts = vec![
        ("version", version.to_string()),
        ("trust domain", trust_domain.to_string()),
        ("issued", moment::show(*issued)),
        ("ends", ends(*expires)),
    ];
    facts.extend(overlay(document).map(|range| ("overlay", range)));
    facts.extend(
        roots(document)?
            .into_iter()
            .map(|(key, not_after)| ("root", format!("{key}  to {}", ends(not_after)))),
    );
    let of = |threshold: u8, keys: usize| format!("{threshold} of {keys} have to sign");
    facts.push(("operators", of(*operator_threshold, operator_keys.len())));
    facts.extend(operator_keys.iter().map(|key| ("operator", key.to_string())));
    facts.push(("policy keys", of(*policy_threshold, policy_keys.len())));
    facts.extend(policy_keys.iter().map(|key| ("policy key", key.to_string())));
    if sealed.is_empty() {
        facts.push(("sealed labels", "none".to_owned()));
    }
    facts.extend(sealed.iter().map(|key| ("sealed label", key.to_string())));
    Ok(facts)
}

fn overlay(document: &TrustDocument) -> [String; 2] {
    let ((v6, v6_bits), (v4, v4_bits)) = (document.overlay_v6, document.overlay_v4);
    [format!("{v6}/{v6_bits}"), format!("{v4}/{v4_bits}")]
}

fn root_line(root: &RootView) -> String {
    let issuing = if root.issuing { "issues now" } else { "does not issue" };
    format!(
        "{}  {issuing}, {} under it ({} connected)",
        root.key,
        crate::node::peers(root.nodes),
        root.connected
    )
}
