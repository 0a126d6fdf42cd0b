//! Join tokens, and invitations. A token is shown once, when it is made, and nowhere else: neither lists nor the journal hold it.

use crate::client::Client;
use crate::command::{self, CreateToken};
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::table::{Table, printable};
use crate::{moment, public_file, secret_file};
use bulkhead_identity::{Labels, Timestamp, TrustHash};
use bulkhead_protocol::admin;
use bulkhead_protocol::token::{Invitation, MAX_COORDINATORS};
use serde::Serialize;
use std::path::Path;
use zeroize::Zeroizing;

/// `token …`.
pub(crate) async fn run(client: &mut Client, verb: command::Token, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Token::Create(arguments) => create(client, arguments, screen).await,
        command::Token::Invite(arguments) => invite(client, arguments, screen).await,
        command::Token::List => list(client, screen).await,
        command::Token::Revoke { id } => {
            client.delete(&format!("/api/v1/tokens/{id}")).await?;
            screen.line(&format!("token {id} is revoked; nodes that enrolled by it stay"))
        }
    }
}

/// What `--json` shows of a new token; `token` is absent when it went to a file.
#[derive(Serialize)]
struct Created<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    expires: Timestamp,
    uses: u32,
}

async fn create(client: &mut Client, arguments: CreateToken, screen: Screen) -> Result<(), Failure> {
    let labels = Labels::new(arguments.labels)
        .map_err(|error| Failure::usage(error.to_string(), "give each label once, as --label KEY=VALUE"))?;
    let request = admin::CreateToken {
        labels,
        uses: Some(arguments.uses),
        ttl_secs: Some(arguments.ttl.as_secs()),
        name: arguments.name.map(String::from),
    };
    let created: admin::CreatedToken = client.post("/api/v1/tokens", &request).await?;
    let token = Zeroizing::new(created.token);
    let remark_on_use = format!(
        "token {}: {} {}, {}",
        printable(&created.id),
        created.uses,
        if created.uses == 1 { "use" } else { "uses" },
        moment::show_left(created.expires, moment::now())
    );
    let shown =
        |token, file| Created { id: &created.id, token, file, expires: created.expires, uses: created.uses };
    match &arguments.out {
        Some(path) => {
            if let Err(error) = secret_file::write(path, format!("{}\n", token.as_str()).as_bytes()) {
                // Nobody will ever see it: do not leave it usable.
                let _ = client.delete(&format!("/api/v1/tokens/{}", created.id)).await;
                return Err(error.into());
            }
            screen.answer("token", &shown(None, Some(path)), |_| {
                format!("{remark_on_use}, in {}", path.display())
            })
        }
        None => {
            if screen == Screen::Text {
                // Only the token goes to standard output, so that it can go straight into a file or a pipe.
                remark(&remark_on_use);
            }
            screen.answer("token", &shown(Some(&token), None), |_| token.to_string())
        }
    }
}

/// What `--json` shows of an invitation.
#[derive(Serialize)]
struct Invited<'a> {
    trust: TrustHash,
    coordinators: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
}

async fn invite(client: &mut Client, arguments: command::Invite, screen: Screen) -> Result<(), Failure> {
    let trust: admin::TrustView = client.get("/api/v1/trust").await?;
    let coordinators =
        if arguments.coordinator.is_empty() { trust.coordinators } else { arguments.coordinator };
    if !(1..=MAX_COORDINATORS).contains(&coordinators.len()) {
        return Err(Failure::usage(
            "an invitation names between 1 and 8 coordinators (MAX_COORDINATORS)",
            "name those that people and nodes reach, as --coordinator HOST:PORT",
        ));
    }
    let trust = TrustHash::of(&trust.document);
    let invitation = Invitation { trust, coordinators };
    let text = invitation.encode();
    let shown = |invitation_text, file| Invited {
        trust,
        coordinators: &invitation.coordinators,
        invitation: invitation_text,
        file,
    };
    match &arguments.out {
        Some(path) => {
            public_file::replace(path, format!("{text}\n").as_bytes())?;
            screen.answer("invitation", &shown(None, Some(path)), |_| {
                format!("invitation to {}, in {}", invitation.coordinators.join(", "), path.display())
            })
        }
        None => screen.answer("invitation", &shown(Some(&text), None), |_| text.clone()),
    }
}

async fn list(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let tokens: admin::TokenList = client.get("/api/v1/tokens").await?;
    screen.answer("tokens", &tokens, |list| {
        let now = moment::now();
        let mut table = Table::new(&["id", "uses left", "ends", "labels", "by"]);
        for token in &list.tokens {
            let ends =
                if token.revoked { "revoked".to_owned() } else { moment::show_left(token.expires, now) };
            table.row([
                token.id.clone(),
                format!("{}/{}", token.uses_left, token.uses),
                ends,
                crate::node::show_labels(&token.labels),
                token.created_by.clone(),
            ]);
        }
        table.to_string()
    })
}
