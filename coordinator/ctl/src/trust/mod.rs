//! `trust …`: the document that says whom everybody trusts, from its keys to its signatures. All of it but asking and
//! telling the coordinator goes from files to files, so that operators' keys need never see a network.

mod draft;
mod root;
mod seal;
mod show;
#[cfg(test)]
mod tests;

use crate::Place;
use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::{key_file, public_file};
use anyhow::Context as _;
use bulkhead_identity::trust::{MAX_TRUST_BYTES, root_ends};
use bulkhead_identity::{Draft, IdentityPublicKey, Timestamp, TrustDocument};
use bulkhead_protocol::admin::TrustView;
use serde::Serialize;
use std::path::Path;

const PATH: &str = "/api/v1/trust";

/// What `keygen` and `public` show.
#[derive(Serialize)]
struct PublicKey {
    public: IdentityPublicKey,
}

/// `trust …`.
pub(crate) async fn run(place: &Place, verb: command::Trust, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Trust::Show { file: Some(file) } => show::file(&read(&file)?, screen),
        command::Trust::Show { file: None } => show::in_force(&fetch(&mut place.client()?).await?, screen),
        command::Trust::Keygen { file } => public(key_file::create(&file)?.public(), screen),
        command::Trust::Public { file } => public(key_file::read(&file)?.public(), screen),
        command::Trust::NewRoot(arguments) => root::create(place, &arguments, screen).await,
        command::Trust::Draft(arguments) => draft::make(place, &arguments, screen).await,
        command::Trust::Sign(arguments) => draft::sign(place, &arguments, screen).await,
        command::Trust::Merge { file, copies } => draft::merge(&file, &copies, screen),
        command::Trust::Apply(arguments) => draft::apply(place, &arguments, screen).await,
        command::Trust::SignIssuer(arguments) => root::sign_issuer(&arguments, screen),
        command::Trust::Seal(arguments) => seal::run(place, arguments, screen).await,
    }
}

/// A trust document or draft in a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Draft> {
    let bytes = public_file::read(path, ("MAX_TRUST_BYTES", MAX_TRUST_BYTES))?;
    Draft::read(&bytes).with_context(|| format!("reading {}", path.display()))
}

/// The document in force, and who follows it.
pub(crate) async fn fetch(client: &mut Client) -> Result<TrustView, Failure> {
    client.get(PATH).await
}

/// The document in a file, or else the one in force.
pub(crate) async fn document(place: &Place, file: Option<&Path>) -> Result<Draft, Failure> {
    match file {
        Some(file) => Ok(read(file)?),
        None => in_view(&fetch(&mut place.client()?).await?),
    }
}

fn in_view(view: &TrustView) -> Result<Draft, Failure> {
    Ok(Draft::read(&view.document).context("the coordinator's trust document")?)
}

/// Keys and ends of a document's roots.
fn roots(document: &TrustDocument) -> Result<Vec<(IdentityPublicKey, Timestamp)>, Failure> {
    Ok(root_ends(&document.roots).context("the roots of the trust document")?)
}

fn public(public: IdentityPublicKey, screen: Screen) -> Result<(), Failure> {
    screen.answer("public-key", &PublicKey { public }, |key| key.public.to_string())
}
