//! API keys: for programs, and for administrators of a company without single sign-on. A key is shown once, when it
//! is made, and nowhere else.

use crate::client::Client;
use crate::command::{self, CreateApiKey};
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::table::{Table, printable};
use crate::{moment, secret_file};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{AdminRole, CreateKey, CreatedKey, KeyList};
use serde::Serialize;
use std::path::Path;
use zeroize::Zeroizing;

/// `apikey …`.
pub(crate) async fn run(client: &mut Client, verb: command::ApiKey, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::ApiKey::Create(arguments) => create(client, arguments, screen).await,
        command::ApiKey::List => list(client, screen).await,
        command::ApiKey::Revoke { id } => {
            client.delete(&format!("/api/v1/keys/{id}")).await?;
            screen.line(&format!("API key {id} is revoked"))
        }
    }
}

#[derive(Serialize)]
struct Created<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    role: AdminRole,
    expires: Timestamp,
}

async fn create(client: &mut Client, arguments: CreateApiKey, screen: Screen) -> Result<(), Failure> {
    let CreateApiKey { name, role, ttl, out } = arguments;
    let request = CreateKey { name, role, ttl_secs: ttl.map(|ttl| ttl.as_secs()) };
    let created: CreatedKey = client.post("/api/v1/keys", &request).await?;
    let key = Zeroizing::new(created.key);
    let about = format!(
        "API key {} ({}), {}",
        printable(&created.id),
        created.role,
        moment::show_left(created.expires, moment::now())
    );
    let shown =
        |key, file| Created { id: &created.id, key, file, role: created.role, expires: created.expires };
    match &out {
        Some(path) => {
            if let Err(error) = secret_file::write(path, format!("{}\n", key.as_str()).as_bytes()) {
                // Nobody will ever see it: do not leave it usable.
                let _ = client.delete(&format!("/api/v1/keys/{}", created.id)).await;
                return Err(error.into());
            }
            screen.answer("apikey", &shown(None, Some(path)), |_| format!("{about}, in {}", path.display()))
        }
        None => {
            if screen == Screen::Text {
                // Only the key goes to standard output, so that it can go straight into a file or a pipe.
                remark(&about);
            }
            screen.answer("apikey", &shown(Some(&key), None), |_| key.to_string())
        }
    }
}

async fn list(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let keys: KeyList = client.get("/api/v1/keys").await?;
    screen.answer("apikeys", &keys, |list| {
        let now = moment::now();
        let mut table = Table::new(&["id", "name", "role", "ends", "last used", "by"]);
        for key in &list.keys {
            table.row([
                key.id.clone(),
                key.name.clone(),
                key.role.to_string(),
                moment::show_left(key.expires, now),
                key.last_used.map_or_else(|| "never".to_owned(), |used| moment::show_ago(used, now)),
                key.created_by.clone(),
            ]);
        }
        table.to_string()
    })
}
