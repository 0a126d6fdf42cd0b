//! The unix socket for root: the same API, with the kernel's word on who calls.
//!
//! The socket appears under its name complete, mode 0600, in a directory that only we can change; whatever
//! stood there is removed only if it is a socket of ours that nobody listens on (E2, E7). And whoever manages
//! to connect must still be root.

use crate::api::Transport;
use crate::https::converse;
use crate::stop::Stop;
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Connections at once; root has no need for more.
pub const MAX_LOCAL_CONNECTIONS: usize = 64;

/// A listening socket that removes its file when it ends.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl AdminSocket {
    /// Makes the socket.
    ///
    /// # Errors
    /// The directory is open to others, or the name is taken by something that is not a dead socket of ours.
    pub fn bind(path: &Path) -> Result<Self> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        crate::state_dir::make_private(parent)?;
        closed_to_others(parent)?;
        clear(path)?;
        // Bound under another name and closed to others before anyone can find it.
        let hidden = parent.join(format!(".{}.sock", std::process::id()));
        match std::fs::remove_file(&hidden) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", hidden.display())),
        }
        let listener =
            UnixListener::bind(&hidden).with_context(|| format!("cannot listen on {}", path.display()))?;
        std::fs::set_permissions(&hidden, Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&hidden, path))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Serves root until the stop.
    pub async fn serve(self, router: Router, mut stop: Stop) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.requested() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Some(uid) = root(&stream) else {
                tracing::warn!("a user other than root tried the admin socket");
                continue;
            };
            if connections.len() < MAX_LOCAL_CONNECTIONS {
                connections.spawn(converse(
                    stream,
                    router.clone(),
                    Transport::LocalRoot { uid },
                    stop.clone(),
                ));
            }
        }
        // Each ends by itself within a few seconds of the stop.
        while connections.join_next().await.is_some() {}
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A socket that stays behind is cleared by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The caller's user id, if it is root's.
fn root(stream: &UnixStream) -> Option<u32> {
    let uid = stream.peer_cred().ok()?.uid();
    (uid == 0).then_some(uid)
}

fn closed_to_others(directory: &Path) -> Result<()> {
    let found = std::fs::symlink_metadata(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    ensure!(found.is_dir(), "{} is not a directory", directory.display());
    let us = rustix::process::geteuid().as_raw();
    ensure!(
        found.uid() == us && found.mode() & 0o022 == 0,
        "{} could be changed by others (owner {}, mode {:o}): the admin socket needs a directory of its own, mode 0700",
        directory.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    Ok(())
}

/// Makes sure that the name is free or a dead socket of ours.
fn clear(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.file_type().is_socket() || !ours {
        bail!(
            "{} is there already and is not our socket: remove it, or give another --socket",
            path.display()
        );
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another coordinator listens on {}: stop it, or give another --socket", path.display());
    }
    std::fs::remove_file(path).with_context(|| format!("cannot remove the stale {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn e4_the_socket_is_private_and_goes_with_its_owner() {
        let directory = directory();
        let path = directory.path().join("run/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(AdminSocket::bind(&path).is_err(), "a live socket is not taken over");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn e7_what_is_not_our_dead_socket_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        fs::write(&path, b"precious").unwrap();
        assert!(AdminSocket::bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(AdminSocket::bind(&path).is_err());
        fs::remove_file(&path).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(AdminSocket::bind(&path).is_err(), "a directory that others can change is refused");
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_daemon_left_is_replaced() {
        let directory = directory();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        AdminSocket::bind(&path).unwrap();
    }
}
