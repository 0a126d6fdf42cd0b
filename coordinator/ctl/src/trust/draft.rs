//! From the trust document in force to the next one: drafted, signed by operators one after the other or side by
//! side, applied.

use super::{PATH, document, fetch, read, roots, show};
use crate::Place;
use crate::command;
use crate::confirm::approve;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::{key_file, moment, public_file};
use anyhow::{Context as _, anyhow};
use bulkhead_identity::certificate::MAX_CERTIFICATE_BYTES;
use bulkhead_identity::{Draft, Epoch, IdentityPublicKey, Trust, TrustDocument, TrustHash};
use bulkhead_protocol::admin::{TrustApply, TrustOverrides, TrustView};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// `trust draft`.
pub(super) async fn make(place: &Place, arguments: &command::Draft, screen: Screen) -> Result<(), Failure> {
    let before = document(place, arguments.from.as_deref()).await?;
    let mut next = before.document().clone();
    change(&mut next, arguments)?;
    if next == *before.document() {
        return Err(Failure::usage(
            "nothing would change",
            "`bulkheadctl trust draft --help` lists what can",
        ));
    }
    next.version = Epoch(next.version.0.saturating_add(1));
    next.issued = moment::now();
    let draft = Draft::new(&next).context("nobody would take this document")?;
    public_file::write_new(&arguments.out, &draft.bytes())?;
    show::file(&draft, screen)?;
    remark(&format!(
        "it has to be signed by {} of the operators before it, and by {} of its own: bulkheadctl trust sign {} --key KEY",
        before.document().operator_threshold,
        next.operator_threshold,
        arguments.out.display()
    ));
    Ok(())
}

fn change(document: &mut TrustDocument, wanted: &command::Draft) -> Result<(), Failure> {
    let command::Draft {
        from: _,
        out: _,
        add_operator,
        remove_operator,
        operator_threshold,
        add_policy_key,
        remove_policy_key,
        policy_threshold,
        add_root,
        remove_root,
        seal,
        unseal,
        expires,
    } = wanted;
    alter("operator", &mut document.operator_keys, add_operator, remove_operator)?;
    alter("policy key", &mut document.policy_keys, add_policy_key, remove_policy_key)?;
    alter("sealed label", &mut document.sealed, seal, unseal)?;
    document.operator_threshold = operator_threshold.unwrap_or(document.operator_threshold);
    document.policy_threshold = policy_threshold.unwrap_or(document.policy_threshold);
    document.expires = expires.unwrap_or(document.expires);
    for path in add_root {
        let root = public_file::read(path, ("MAX_CERTIFICATE_BYTES", MAX_CERTIFICATE_BYTES))?;
        if document.roots.contains(&root) {
            return Err(twice("root", &path.display()));
        }
        document.roots.push(root);
    }
    for which in remove_root {
        remove_one_root(document, which)?;
    }
    Ok(())
}

fn alter<T: PartialEq + Clone + Display>(
    what: &str,
    list: &mut Vec<T>,
    add: &[T],
    remove: &[T],
) -> Result<(), Failure> {
    for gone in remove {
        let at = list.iter().position(|held| held == gone).ok_or_else(|| unknown(what, gone))?;
        list.remove(at);
    }
    for new in add {
        if list.contains(new) {
            return Err(twice(what, new));
        }
        list.push(new.clone());
    }
    Ok(())
}

/// A root by its certificate, or by its key.
fn remove_one_root(document: &mut TrustDocument, which: &Path) -> Result<(), Failure> {
    let text = which.to_string_lossy();
    let key = command::parse_public_key(&text).ok();
    let at = match key {
        Some(key) => roots(document)?.iter().position(|(held, _)| *held == key),
        None => {
            let root = public_file::read(which, ("MAX_CERTIFICATE_BYTES", MAX_CERTIFICATE_BYTES))?;
            document.roots.iter().position(|held| *held == root)
        }
    };
    document.roots.remove(at.ok_or_else(|| unknown("root", &text))?);
    Ok(())
}

fn unknown(what: &str, which: &impl Display) -> Failure {
    Failure::usage(
        format!("the document has no {what} {which}"),
        "`bulkheadctl trust show` shows what it has",
    )
}

fn twice(what: &str, which: &impl Display) -> Failure {
    Failure::usage(format!("the document has {what} {which} already"), "leave it out")
}

/// `trust sign`.
pub(super) async fn sign(
    place: &Place,
    arguments: &command::TrustSign,
    screen: Screen,
) -> Result<(), Failure> {
    let mut draft = read(&arguments.file)?;
    let key = key_file::read(&arguments.key)?;
    let effect = match before(place, arguments, &key.public()).await? {
        Some(before) => changes(&before, &draft)?,
        None => show::text(&draft, None)?,
    };
    approve(arguments.yes.into(), &effect, "Sign?")?;
    draft.countersign(&key).context("signing")?;
    public_file::replace(&arguments.file, &draft.bytes())?;
    show::file(&draft, screen)
}

/// The document that the signer knows already. What the coordinator says is only believed when this very operator
/// signed it: whoever has the coordinator could put his keys into both, and there would be no difference to see.
async fn before(
    place: &Place,
    arguments: &command::TrustSign,
    signer: &IdentityPublicKey,
) -> Result<Option<Draft>, Failure> {
    if let Some(file) = &arguments.from {
        return Ok(Some(read(file)?));
    }
    match document(place, None).await {
        Ok(held) if held.signers().contains(signer) => Ok(Some(held)),
        Ok(_) => {
            remark("note: this key did not sign the coordinator's document: the whole draft is shown");
            Ok(None)
        }
        Err(_) => {
            remark("note: no document to compare with (--from FILE): the whole draft is shown");
            Ok(None)
        }
    }
}

/// What is different in `next`, and from what.
fn changes(before: &Draft, next: &Draft) -> Result<String, Failure> {
    let (old, new) = (before.document(), next.document());
    if old.trust_domain != new.trust_domain {
        return Err(anyhow!("the draft is for {}, not {}", new.trust_domain, old.trust_domain).into());
    }
    if new.version <= old.version {
        return Err(anyhow!("the draft's version {} does not come after {}", new.version, old.version).into());
    }
    let hash = TrustHash::of(&before.bytes());
    let changes = show::differences(old, new)?;
    Ok(format!("from version {} of {} with the hash {hash}:\n{changes}", old.version, old.trust_domain))
}

/// `trust merge`.
pub(super) fn merge(file: &Path, copies: &[PathBuf], screen: Screen) -> Result<(), Failure> {
    let mut draft = read(file)?;
    for copy in copies {
        let other = read(copy)?;
        draft
            .merge(&other)
            .with_context(|| format!("{} is no copy of {}", copy.display(), file.display()))?;
    }
    public_file::replace(file, &draft.bytes())?;
    show::file(&draft, screen)
}

/// `trust apply`.
pub(super) async fn apply(
    place: &Place,
    arguments: &command::TrustApply,
    screen: Screen,
) -> Result<(), Failure> {
    let draft = read(&arguments.file)?;
    let mut client = place.client()?;
    // Judged here first: the reason is then known without having told anybody anything.
    let held = fetch(&mut client).await?;
    let held = Trust::stored(&held.document, moment::now()).context("the coordinator's trust document")?;
    let lacks = draft.missing(held.document());
    if lacks > 0 {
        let signatures = if lacks == 1 { "signature" } else { "signatures" };
        return Err(Failure::usage(
            format!(
                "{} lacks {lacks} {signatures} of operators of the document in force",
                arguments.file.display()
            ),
            "`bulkheadctl trust sign FILE --key KEY` adds one, `bulkheadctl trust merge FILE COPY` those of a copy",
        ));
    }
    held.update(&draft.bytes(), moment::now())
        .with_context(|| format!("{} would be refused", arguments.file.display()))?;
    let overrides = TrustOverrides {
        policy: arguments.without_policy,
        issuer: arguments.without_issuer,
        nodes: arguments.without_nodes,
    };
    let view: TrustView = client.post(PATH, &TrustApply { document: draft.bytes(), overrides }).await?;
    show::in_force(&view, screen)
}
