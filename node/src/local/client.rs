//! Asking the daemon, from the command line.
//!
//! Property: the client talks only to a daemon that root or the caller runs, so that nobody else can feed it
//! answers; and every way in which there is no answer becomes a sentence that says what to do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::authorise::Caller;
use super::wire::{Answer, Envelope, MAX_REPLY_BYTES, Outcome, Refusal, Reply, Request, VERSION};

/// How long the daemon may take to end.
const ENDING: Duration = Duration::from_secs(15);
/// Longer than the daemon gives itself.
const PATIENCE: Duration = Duration::from_secs(70);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens.
    #[error(
        "the daemon is not running (nothing listens on {0}): start it with `bulkhead up`, or with \
         `systemctl start bulkhead`"
    )]
    NotRunning(PathBuf),
    /// We may not even connect.
    #[error("not allowed to talk to the daemon on {0}: use sudo, or join the group that owns the socket")]
    NotAllowed(PathBuf),
    /// The other end is not a daemon of root or of ours.
    #[error("{path} is served by uid {uid}, which is neither root nor you: not using it")]
    Impostor {
        /// The socket.
        path: PathBuf,
        /// Who serves it.
        uid: u32,
    },
    /// The conversation broke.
    #[error("the daemon on {path} did not answer")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The daemon is of another version.
    #[error("the daemon's answer is not understood: restart it after an upgrade")]
    NotUnderstood(#[source] Option<serde_json::Error>),
    /// It did not end in time.
    #[error("the daemon was told to end and has not within {} s; see its log", ENDING.as_secs())]
    StillRunning,
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// Asks one thing of the daemon at `path`.
///
/// # Errors
/// See [`ClientError`].
pub(crate) fn ask(path: &Path, request: Request) -> Result<Answer, ClientError> {
    converse(&connect(path)?, path, request)
}

/// Asks the daemon at `path` to end, by `request`, and waits until its process is gone.
///
/// # Errors
/// See [`ClientError`].
pub(crate) fn end(path: &Path, request: Request) -> Result<(), ClientError> {
    let stream = connect(path)?;
    let broken = |source| ClientError::Broken { path: path.to_owned(), source };
    // Taken before the request: afterwards the number could be another process's.
    let process = process_behind(&stream).map_err(broken)?;
    converse(&stream, path, request)?;
    let patience = Timespec::try_from(ENDING).map_err(|_| ClientError::StillRunning)?;
    match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)) {
        Ok(0) => Err(ClientError::StillRunning),
        Ok(_) => Ok(()),
        Err(error) => Err(broken(error.into())),
    }
}

fn process_behind(stream: &UnixStream) -> std::io::Result<OwnedFd> {
    let server = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(pidfd_open(server.pid, PidfdFlags::empty())?)
}

fn converse(stream: &UnixStream, path: &Path, request: Request) -> Result<Answer, ClientError> {
    let mut stream = stream;
    let broken = |source| ClientError::Broken { path: path.to_owned(), source };
    let mut line = serde_json::to_vec(&Envelope { version: VERSION, request })
        .map_err(|error| ClientError::NotUnderstood(Some(error)))?;
    line.push(b'\n');
    // A daemon that turns us away may close before it has read; its reply is there all the same.
    let written = stream.write_all(&line);
    let mut reply = Vec::new();
    let read = BufReader::new(stream).take(MAX_REPLY_BYTES as u64 + 1).read_until(b'\n', &mut reply);
    if reply.is_empty() {
        let closed = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        return Err(broken(written.err().or(read.err()).unwrap_or_else(closed)));
    }
    if reply.last() != Some(&b'\n') {
        return Err(ClientError::NotUnderstood(None));
    }
    let reply: Reply =
        serde_json::from_slice(&reply).map_err(|error| ClientError::NotUnderstood(Some(error)))?;
    match reply.outcome {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Refusal(refusal) => Err(ClientError::Refused(refusal)),
    }
}

fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    use std::io::ErrorKind;
    let broken = |source| ClientError::Broken { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).map_err(|error| {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            ClientError::NotRunning(path.to_owned())
        } else if error.kind() == ErrorKind::PermissionDenied {
            ClientError::NotAllowed(path.to_owned())
        } else {
            broken(error)
        }
    })?;
    let server = Caller::of(&stream).map_err(broken)?;
    if !server.uid.is_root() && server.uid != rustix::process::geteuid() {
        return Err(ClientError::Impostor { path: path.to_owned(), uid: server.uid.as_raw() });
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    Ok(stream)
}
