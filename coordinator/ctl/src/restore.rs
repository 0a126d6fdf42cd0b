//! After a restore: the coordinator is read-only until root on its host accepts what was restored.

use crate::client::Client;
use crate::command;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::screen::Screen;
use serde::de::IgnoredAny;

/// `restore …`. The client is one of the unix socket: no session may do this.
pub(crate) async fn run(client: &mut Client, verb: command::Restore, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Restore::Accept { yes } => {
            let effect = "What the backup holds will be in force on every node. Whatever was revoked since it was made \
                          has to be revoked again, and join tokens and sessions of the backup end.";
            confirm(yes.into(), effect, "Accept the restored state?")?;
            let IgnoredAny = client.post("/api/v1/restore/accept", &serde_json::json!({})).await?;
            screen.line("the restored state is accepted; the coordinator is in charge again")
        }
    }
}
