//! Answering on the local socket.
//!
//! Property: nobody can hold it up. Lines have a longest length, connections a largest number (root's counted
//! apart, so that the group cannot lock root out), and reading, answering and writing each a longest time. Every
//! request is judged by itself before it reaches the daemon.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::Gid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::authorise::{Access, Caller, authorise};
use super::wire::{Answer, Envelope, MAX_REQUEST_BYTES, Refusal, RefusalCode, Reply, Request, VERSION};

/// Connections of root at once.
const MAX_ROOT_CONNECTIONS: usize = 16;
/// Connections of everyone else at once, together.
const MAX_OTHER_CONNECTIONS: usize = 32;
/// How long a connection may stay silent.
const IDLE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the other end may take to read it.
const WRITE: Duration = Duration::from_secs(10);

/// What stands behind the socket.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request, which the caller was allowed to make.
    fn answer(&self, request: Request) -> impl Future<Output = Result<Answer, Refusal>> + Send;
}

/// Answers until dropped, and with it every connection.
///
/// # Errors
/// When the socket cannot be used any more.
pub(crate) async fn serve(
    listener: std::os::unix::net::UnixListener,
    group: Option<Gid>,
    daemon: impl Answers,
) -> anyhow::Result<()> {
    let listener = UnixListener::from_std(listener).context("cannot use the local socket")?;
    let root = Arc::new(Semaphore::new(MAX_ROOT_CONNECTIONS));
    let others = Arc::new(Semaphore::new(MAX_OTHER_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // Out of descriptors, or the client gave up: neither ends the daemon.
            Err(error) => {
                warn!(%error, "local connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let caller = match Caller::of(&stream) {
            Ok(caller) => caller,
            Err(error) => {
                warn!(%error, "local caller unknown");
                continue;
            }
        };
        let seats = if caller.uid.is_root() { &root } else { &others };
        let seat = Arc::clone(seats).try_acquire_owned();
        let daemon = daemon.clone();
        connections.spawn(async move {
            match seat {
                Ok(_seat) => converse(stream, &caller, group, &daemon).await,
                Err(_) => turn_away(stream).await,
            }
        });
    }
}

async fn turn_away(mut stream: UnixStream) {
    let refusal =
        Refusal::new(RefusalCode::Busy, "too many connections to the daemon; try again in a moment");
    let _ = send(&mut stream, Err(refusal)).await;
}

async fn converse(stream: UnixStream, caller: &Caller, group: Option<Gid>, daemon: &impl Answers) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let limit = MAX_REQUEST_BYTES as u64 + 1;
        let read = timeout(IDLE, (&mut stream).take(limit).read_until(b'\n', &mut line)).await;
        let Ok(Ok(1..)) = read else { return };
        let too_long = line.last() != Some(&b'\n') && line.len() > MAX_REQUEST_BYTES;
        let result = if too_long {
            let message = format!("request exceeds {MAX_REQUEST_BYTES} bytes (MAX_REQUEST_BYTES)");
            Err(Refusal::new(RefusalCode::BadRequest, message))
        } else {
            one(&line, caller, group, daemon).await
        };
        if send(stream.get_mut(), result).await.is_err() || too_long {
            return;
        }
    }
}

/// Parses, judges and answers one request.
async fn one(
    line: &[u8],
    caller: &Caller,
    group: Option<Gid>,
    daemon: &impl Answers,
) -> Result<Answer, Refusal> {
    let request = parse(line)?;
    if let Err(denied) = authorise(caller, group, request.access()) {
        warn!(uid = caller.uid.as_raw(), ?request, %denied, "local request denied");
        return Err(Refusal::new(RefusalCode::Denied, denied.to_string()));
    }
    match request.access() {
        Access::Change => info!(uid = caller.uid.as_raw(), ?request, "local request"),
        Access::Read => debug!(uid = caller.uid.as_raw(), ?request, "local request"),
    }
    timeout(ANSWER, daemon.answer(request)).await.unwrap_or_else(|_| {
        Err(Refusal::new(
            RefusalCode::Failed,
            format!("the daemon found no answer in {} s", ANSWER.as_secs()),
        ))
    })
}

fn parse(line: &[u8]) -> Result<Request, Refusal> {
    /// The version first: a request of another version need not have our fields.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bad = |message: String| Refusal::new(RefusalCode::BadRequest, message);
    let Versioned { version } =
        serde_json::from_slice(line).map_err(|error| bad(format!("request not understood: {error}")))?;
    if version != VERSION {
        return Err(bad(format!(
            "the daemon speaks version {VERSION} of the local API, the client version {version}: \
             restart the daemon after an upgrade"
        )));
    }
    let envelope: Envelope =
        serde_json::from_slice(line).map_err(|error| bad(format!("request not understood: {error}")))?;
    Ok(envelope.request)
}

async fn send(stream: &mut UnixStream, result: Result<Answer, Refusal>) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Reply { version: VERSION, outcome: result.into() })?;
    line.push(b'\n');
    timeout(WRITE, stream.write_all(&line)).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::Outcome;
    use super::*;
    use rustix::fs::Uid;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Answers for Counting {
        async fn answer(&self, _: Request) -> Result<Answer, Refusal> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Answer::Done {})
        }
    }

    /// Sends `line` as `uid`; the reply, and how often the daemon was asked.
    async fn check(uid: u32, group: Option<u32>, line: &str) -> (Outcome, usize) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let daemon = Counting::default();
        let caller = Caller { uid: Uid::from_raw(uid), groups: vec![Gid::from_raw(77)] };
        let served = tokio::spawn({
            let daemon = daemon.clone();
            async move { converse(theirs, &caller, group.map(Gid::from_raw), &daemon).await }
        });
        let mut ours = BufReader::new(ours);
        ours.get_mut().write_all(line.as_bytes()).await.unwrap();
        let mut reply = String::new();
        ours.read_line(&mut reply).await.unwrap();
        drop(ours);
        served.await.unwrap();
        let reply: Reply = serde_json::from_str(&reply).unwrap();
        (reply.outcome, daemon.0.load(Ordering::Relaxed))
    }

    fn refused(outcome: &Outcome) -> Option<RefusalCode> {
        match outcome {
            Outcome::Answer(_) => None,
            Outcome::Refusal(refusal) => Some(refusal.code),
        }
    }

    fn line(verb: &str) -> String {
        format!("{{\"version\":1,\"request\":{{\"verb\":{verb}}}}}\n")
    }

    const READING: [&str; 8] = [
        r#""status","check":true"#,
        r#""peers""#,
        r#""denied""#,
        r#""ping","name":"db""#,
        r#""explain","name":"db","service":"icmp","inbound":false"#,
        r#""resolve","name":"db""#,
        r#""whois","address":"100.64.0.1""#,
        r#""certificate""#,
    ];
    const CHANGING: [&str; 3] = [r#""renew""#, r#""down""#, r#""leave","force":true"#];

    #[tokio::test]
    async fn another_local_user_reaches_no_verb() {
        for verb in READING.iter().chain(&CHANGING) {
            let (outcome, asked) = check(1000, Some(5), &line(verb)).await;
            assert_eq!((refused(&outcome), asked), (Some(RefusalCode::Denied), 0), "{verb}");
        }
    }

    #[tokio::test]
    async fn the_group_reads_and_root_changes() {
        for verb in READING {
            assert_eq!(check(1000, Some(77), &line(verb)).await.1, 1, "{verb}");
            assert_eq!(check(0, None, &line(verb)).await.1, 1, "{verb}");
        }
        for verb in CHANGING {
            let (outcome, asked) = check(1000, Some(77), &line(verb)).await;
            assert_eq!((refused(&outcome), asked), (Some(RefusalCode::Denied), 0), "{verb}");
            assert_eq!(check(0, None, &line(verb)).await.1, 1, "{verb}");
        }
    }

    #[tokio::test]
    async fn what_is_not_understood_reaches_nobody() {
        let long = format!("{}\n", "x".repeat(MAX_REQUEST_BYTES + 10));
        for bad in ["\n", "{}\n", "\u{0}\n", r#"{"version":2,"request":{"verb":"status"}}"#, &long] {
            let (outcome, asked) = check(0, None, &format!("{bad}\n")).await;
            assert_eq!((refused(&outcome), asked), (Some(RefusalCode::BadRequest), 0), "{bad:.40}");
        }
    }
}
