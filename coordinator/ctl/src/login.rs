//! Starting and ending a session. The secret goes only to a server that proved to be a coordinator under the
//! trust document whose hash the token carries.

use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::session::Session;
use crate::{moment, newest, secret_file, signin};
use anyhow::Context as _;
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{self, WhoAmI};
use bulkhead_protocol::token::{Token, TokenKind};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroize as _;

#[derive(Serialize)]
struct LoggedIn<'a> {
    user: &'a str,
    role: &'a str,
    trust_domain: &'a str,
    expires: Timestamp,
}

/// Opens a session, in whichever way was asked for, and writes the session file. No key is left behind that nobody holds:
/// neither the new one, when its file cannot be written, nor that of the session before.
pub(crate) async fn login(path: &Path, arguments: command::Login, screen: Screen) -> Result<(), Failure> {
    let session = match &arguments.token_file {
        Some(token_file) => by_secret(token_file, arguments.name).await?,
        None => signin::sign_in(path, &arguments.contact, screen).await?,
    };
    // One that cannot be read is replaced all the same.
    let former = Session::load(path).unwrap_or_default();
    keep(&session, path, Client::session(&session)).await?;
    if let Some(former) = former {
        // It may have ended, or belong to coordinators that are gone: nothing is lost by that.
        let _ = end(Client::session(&former)).await;
    }
    let trust = session.verified_trust()?;
    let logged_in = LoggedIn {
        user: &session.user,
        role: &session.role,
        trust_domain: trust.document().trust_domain.as_str(),
        expires: session.expires,
    };
    screen.answer("session", &logged_in, |shown| {
        crate::table::printable(&format!(
            "logged in to {} as {} ({}), {}",
            shown.trust_domain,
            shown.user,
            shown.role,
            moment::show_left(shown.expires, moment::now())
        ))
    })
}

/// Writes the session file, or ends the session, whose key nobody would have.
async fn keep(session: &Session, path: &Path, client: Result<Client, Failure>) -> Result<(), Failure> {
    let Err(error) = session.store(path) else { return Ok(()) };
    if let Err(failure) = end(client).await {
        warn_of_living_key(session, &failure);
    }
    Err(error.into())
}

fn warn_of_living_key(session: &Session, failure: &Failure) {
    remark(&format!(
        "warning: the coordinator was not told, the key is good there until {}: {}",
        moment::show(session.expires),
        failure.sentence()
    ));
}

/// Ends the session of this client at the coordinator.
async fn end(client: Result<Client, Failure>) -> Result<(), Failure> {
    client?.delete("/api/v1/session").await
}

/// Trades the secret of a token for a session.
async fn by_secret(token_file: &Path, name: Option<String>) -> Result<Session, Failure> {
    let text = secret_file::read(token_file)?;
    let token = Token::parse(&text).with_context(|| format!("{} holds no token", token_file.display()))?;
    match token.kind {
        TokenKind::Admin => {}
        TokenKind::ApiKey => {
            return Err(Failure::usage(
                "this is an API key: it needs no session",
                "name it with --key-file FILE or BULKHEADCTL_KEY_FILE instead of logging in",
            ));
        }
        TokenKind::Join => {
            return Err(Failure::usage(
                "this is a join token: it enrols a node and opens no session",
                "use the bootstrap-token file that `bulkhead-coordinator init` wrote, or on the node: bulkhead up \
                 --token-file FILE",
            ));
        }
    }
    let trust = Arc::new(newest::pinned(&token.coordinators, token.trust).await?);

    let mut client = Client::anonymous(&token.coordinators, Arc::clone(&trust));
    let mut request = admin::Login { secret: token.secret.to_vec(), name: user_name(name) };
    let granted = client.post("/api/v1/session", &request).await;
    request.secret.zeroize();
    Ok(Session::new(token.coordinators, &trust, granted?))
}

/// Ends the session at the coordinator and deletes its file. The file goes even when the coordinator cannot be
/// reached: then the key stays good there until it expires, and that is said.
pub(crate) async fn logout(path: &Path, screen: Screen) -> Result<(), Failure> {
    let Some(session) = Session::load(path)? else {
        return screen.line("no session");
    };
    let told = end(Client::session(&session)).await;
    secret_file::remove(path)?;
    if let Err(failure) = told {
        warn_of_living_key(&session, &failure);
    }
    screen.line("logged out")
}

/// What `--json` shows.
#[derive(Serialize)]
struct Me {
    #[serde(flatten)]
    me: WhoAmI,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

/// Shows who we are, with which role, and until when.
pub(crate) async fn whoami(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let me = Me { me: client.get("/api/v1/whoami").await?, expires: client.ends() };
    screen.answer("whoami", &me, |Me { me, expires }| {
        let ends = expires.map(|at| format!(", {}", moment::show_left(at, moment::now())));
        let who = format!("{} ({}) in {}", me.user, me.role, me.trust_domain);
        crate::table::printable(&(who + &ends.unwrap_or_default()))
    })
}

// Only a name for the journal: the secret is what proves anything.
fn user_name(named: Option<String>) -> String {
    let from = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty() && name != "root");
    named.or_else(|| from("SUDO_USER")).or_else(|| from("USER")).unwrap_or_else(|| "admin".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::tests::{Scripted, http};
    use crate::session::tests::session;

    #[tokio::test]
    async fn a_session_whose_file_cannot_be_written_is_ended() {
        let place = tempfile::tempdir().unwrap();
        let nowhere = place.path().join("taken/session.json");
        std::fs::write(place.path().join("taken"), b"a file where a directory would have to be").unwrap();
        let server = Scripted::start(vec![http("204 No Content", "")]);
        let session = session(Timestamp(7));
        assert!(keep(&session, &nowhere, Ok(Client::socket(&server.socket()))).await.is_err());
        // The script had one answer: whoever asks now finds that it was given.
        assert!(end(Ok(Client::socket(&server.socket()))).await.is_err());
        assert!(
            keep(&session, &place.path().join("session.json"), Ok(Client::socket(&nowhere))).await.is_ok()
        );
    }
}
