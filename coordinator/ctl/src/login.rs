//! Starting and ending a session. The secret goes only to a server that proved to be a coordinator under the
//! trust document whose hash the token carries.

use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::session::Session;
use crate::{moment, newest, secret_file};
use anyhow::Context as _;
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
    expires: bulkhead_identity::Timestamp,
}

/// Trades the secret of `--token-file` for a session, and writes the session file.
pub(crate) async fn login(path: &Path, arguments: command::Login, screen: Screen) -> Result<(), Failure> {
    let text = secret_file::read(&arguments.token_file)?;
    let token =
        Token::parse(&text).with_context(|| format!("{} holds no token", arguments.token_file.display()))?;
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
    let mut request = admin::Login { secret: token.secret.to_vec(), name: user_name(arguments.name) };
    let granted = client.post("/api/v1/session", &request).await;
    request.secret.zeroize();
    let session = Session::new(token.coordinators, &trust, granted?);
    session.store(path)?;

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

/// Ends the session at the coordinator and deletes its file. The file goes even when the coordinator cannot be
/// reached: then the key stays good there until it expires, and that is said.
pub(crate) async fn logout(path: &Path, screen: Screen) -> Result<(), Failure> {
    let Some(session) = Session::load(path)? else {
        return screen.line("no session");
    };
    let told = match Client::session(&session) {
        Ok(mut client) => client.delete("/api/v1/session").await,
        Err(failure) => Err(failure),
    };
    secret_file::remove(path)?;
    if let Err(failure) = told {
        remark(&format!(
            "warning: the coordinator was not told, the key is good there until {}: {}",
            moment::show(session.expires),
            failure.sentence()
        ));
    }
    screen.line("logged out")
}

/// Shows who we are.
pub(crate) async fn whoami(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let me: WhoAmI = client.get("/api/v1/whoami").await?;
    screen.answer("whoami", &me, |me| {
        crate::table::printable(&format!("{} ({}) in {}", me.user, me.role, me.trust_domain))
    })
}

// Only a name for the journal: the secret is what proves anything.
fn user_name(named: Option<String>) -> String {
    let from = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty() && name != "root");
    named.or_else(|| from("SUDO_USER")).or_else(|| from("USER")).unwrap_or_else(|| "admin".to_owned())
}
