//! Join tokens. A token is shown once, when it is made, and nowhere else: neither lists nor the journal hold it.

use crate::client::Client;
use crate::command::{self, CreateToken};
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::table::{Table, printable};
use crate::{moment, secret_file};
use bulkhead_identity::{Labels, Timestamp};
use bulkhead_protocol::admin;
use serde::Serialize;
use std::path::Path;
use zeroize::Zeroizing;

/// `token …`.
pub(crate) async fn run(client: &mut Client, verb: command::Token, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Token::Create(arguments) => create(client, arguments, screen).await,
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
