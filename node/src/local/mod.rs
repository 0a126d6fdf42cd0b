//! The local API: one JSON request per line, one JSON reply per line, over a unix socket.
//!
//! Property: reading status is for root and the socket's group, changing anything is for root, by credentials
//! that the kernel vouches for. A socket or directory that somebody else could have made is never used, by
//! either end. There is no other listener: nothing of this is reachable over a network.
//!
//! [`socket`] makes the socket, [`authorise`] judges who asks, [`serve`] answers, [`client`] asks, [`wire`] is
//! what they say.

mod answer;
mod authorise;
pub(crate) mod client;
mod explain;
mod flows;
mod probing;
mod serve;
pub(crate) mod socket;
mod warnings;
pub(crate) mod wire;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Gid;

use crate::handle::DaemonHandle;
use socket::SocketError;

/// The group that may read status when the configuration names none, if it exists.
const DEFAULT_GROUP: &str = "bulkhead";

/// Listens where the configuration says. Call it before anything is set up that another daemon could own.
///
/// # Errors
/// When another daemon listens there, or when the path is not safe to use.
pub(crate) fn listen(path: &Path, group: Option<&str>) -> anyhow::Result<Listener> {
    let (listener, group) = match group {
        Some(name) => {
            let group = socket::group_id(name)?.with_context(|| {
                format!(
                    "there is no group {name:?}: create it, or remove socket_group from the configuration"
                )
            })?;
            (socket::bind(path, Some(group))?, Some(group))
        }
        None => match socket::group_id(DEFAULT_GROUP)? {
            None => (socket::bind(path, None)?, None),
            Some(group) => bind_for(path, group)?,
        },
    };
    Ok(Listener { listener, group, path: path.to_owned() })
}

/// For the default group where we may give it the socket, and for root alone where we may not.
fn bind_for(path: &Path, group: Gid) -> Result<(UnixListener, Option<Gid>), SocketError> {
    match socket::bind(path, Some(group)) {
        Err(SocketError::File { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            tracing::warn!(
                group = DEFAULT_GROUP,
                "may not give the group its socket: status is for root only"
            );
            Ok((socket::bind(path, None)?, None))
        }
        other => Ok((other?, Some(group))),
    }
}

/// A bound socket; dropping it removes the file.
pub(crate) struct Listener {
    listener: UnixListener,
    group: Option<Gid>,
    path: PathBuf,
}

impl Listener {
    /// Answers until this future is dropped.
    ///
    /// # Errors
    /// When the socket cannot be used any more.
    pub(crate) async fn serve(self, daemon: DaemonHandle) -> anyhow::Result<()> {
        let listener = self.listener.try_clone().context("cannot duplicate the local socket")?;
        serve::serve(listener, self.group, answer::Local::new(daemon)).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Best effort: a socket that stays behind is recognised as dead by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}
