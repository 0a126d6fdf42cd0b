//! `login --sso`: the coordinator gives a code, a person confirms it in a browser, and we ask how far it is (RFC 8628).
//! The key comes to the machine that asked for it, over a connection on which the coordinator proved itself; nothing
//! that could be used in its place is ever shown.

use crate::client::Client;
use crate::command::Contact;
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::session::Session;
use crate::{moment, newest, public_file};
use anyhow::{Context as _, anyhow};
use bulkhead_identity::TrustHash;
use bulkhead_protocol::signin::{DeviceAuthorization, LoginSignIn, Poll, PollState, SIGN_IN_WINDOW_SECS};
use bulkhead_protocol::token::{Invitation, MAX_TOKEN_BYTES};
use hyper::StatusCode;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroize as _;

/// RFC 8628, section 3.5: after `slow_down` every pause is this much longer.
const SLOWER: Duration = Duration::from_secs(5);
/// No coordinator makes us ask more or less often than this.
const PAUSES: std::ops::RangeInclusive<u64> = 1..=60;
/// A refusal that is 429 for another reason than haste: the person has too many sessions already.
const TOO_MANY_SESSIONS: &str = "BH-C210";
/// How often people are told that nothing has happened.
const REMIND: Duration = Duration::from_secs(60);

/// What `--json` prints, one per line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Code {
        verification_uri: &'a str,
        verification_uri_complete: &'a str,
        user_code: &'a str,
        match_code: &'a str,
        expires_in: u64,
    },
    Unreachable {
        reason: String,
    },
    Reachable,
}

/// Waits for a person's word, and opens the session.
pub(crate) async fn sign_in(path: &Path, contact: &Contact, screen: Screen) -> Result<Session, Failure> {
    let (coordinators, pin) = first_contact(path, contact)?;
    let trust = Arc::new(newest::pinned(&coordinators, pin).await?);
    let mut client = Client::anonymous(&coordinators, Arc::clone(&trust));
    let code: DeviceAuthorization = client.post("/api/v1/signin", &LoginSignIn::default()).await?;
    if !code.is_presentable() {
        return Err(
            anyhow!("the coordinator sent a code to sign in with that does not fit the protocol").into()
        );
    }
    show(&code, screen)?;
    let granted = wait(&mut client, &code, screen).await?;
    Ok(Session::new(coordinators, &trust, granted))
}

/// From the command line, or from the session before, even if it has ended: its trust document is as good a pin.
fn first_contact(path: &Path, contact: &Contact) -> Result<(Vec<String>, TrustHash), Failure> {
    if let Some(file) = &contact.invitation {
        let text = public_file::read(file, ("MAX_TOKEN_BYTES", MAX_TOKEN_BYTES))?;
        let text = String::from_utf8(text).with_context(|| format!("{} is not text", file.display()))?;
        let invitation =
            Invitation::parse(&text).with_context(|| format!("{} holds no invitation", file.display()))?;
        return Ok((invitation.coordinators, invitation.trust));
    }
    if let Some(trust) = contact.trust {
        return Ok((contact.coordinator.clone(), trust));
    }
    match Session::load(path)? {
        Some(former) => Ok((former.coordinators.clone(), TrustHash::of(&former.trust))),
        None => Err(Failure::usage(
            "first contact needs the coordinator's address and its trust hash",
            "bulkheadctl login --sso --invitation FILE, which an administrator makes with `bulkheadctl token invite`; or \
             --coordinator HOST:PORT --trust HASH",
        )),
    }
}

fn show(code: &DeviceAuthorization, screen: Screen) -> Result<(), Failure> {
    // Administrators confirm on the coordinator's page, which always has one.
    let match_code = code.match_code.as_deref().unwrap_or_default();
    match screen {
        Screen::Text => screen.text(&format!(
            "To sign in, open this link in a browser, here or on any other device:\n  {}\nor open {} and type the code \
             {}\nConfirm there only if the page shows this match code: {}\n",
            code.verification_uri_complete, code.verification_uri, code.user_code, match_code
        )),
        Screen::Json => screen.json_line(
            "signin",
            &Event::Code {
                verification_uri: &code.verification_uri,
                verification_uri_complete: &code.verification_uri_complete,
                user_code: &code.user_code,
                match_code,
                expires_in: code.expires_in,
            },
        ),
    }
}

async fn wait(
    client: &mut Client,
    code: &DeviceAuthorization,
    screen: Screen,
) -> Result<bulkhead_protocol::admin::Session, Failure> {
    let lives = Duration::from_secs(code.expires_in.min(SIGN_IN_WINDOW_SECS));
    let (ends, mut reminded) = (Instant::now() + lives, Instant::now());
    let mut pause = Duration::from_secs(code.interval.clamp(*PAUSES.start(), *PAUSES.end()));
    let mut lost = false;
    while Instant::now() < ends {
        tokio::time::sleep(pause).await;
        let state = match poll(client, code).await {
            Ok(state) => state,
            Err(failure) if is_haste(&failure) => {
                pause += SLOWER;
                continue;
            }
            Err(failure) if is_passing(&failure) => {
                if !std::mem::replace(&mut lost, true) {
                    tell(
                        screen,
                        "the coordinator does not answer; asking on",
                        &Event::Unreachable { reason: failure.sentence() },
                    )?;
                }
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if std::mem::take(&mut lost) {
            tell(screen, "the coordinator answers again", &Event::Reachable)?;
        }
        match state {
            PollState::Waiting if reminded.elapsed() >= REMIND && screen == Screen::Text => {
                reminded = Instant::now();
                let left = moment::span(ends.saturating_duration_since(reminded));
                remark(&format!("waiting for you to confirm; the code is good for {left}"));
            }
            PollState::Waiting => {}
            PollState::Session(session) => return Ok(session),
            PollState::Refused(error) => {
                return Err(Failure::Refused { status: StatusCode::FORBIDDEN, error: Box::new(error) });
            }
            PollState::Approval { .. } | PollState::Enrolled(_) => {
                return Err(anyhow!("the coordinator answered a login as if it were an enrolment").into());
            }
        }
    }
    Err(Failure::usage("nobody confirmed the sign-in in time", "bulkheadctl login --sso"))
}

async fn poll(client: &mut Client, code: &DeviceAuthorization) -> Result<PollState, Failure> {
    let mut body = Poll { device_code: code.device_code.clone() };
    let answer = client.post("/api/v1/signin/poll", &body).await;
    body.device_code.zeroize();
    answer
}

/// Whether the coordinator only asks us to ask less often.
fn is_haste(failure: &Failure) -> bool {
    let Failure::Refused { status, error } = failure else { return false };
    *status == StatusCode::TOO_MANY_REQUESTS && error.code != TOO_MANY_SESSIONS
}

/// Whether asking again may bring another answer: the coordinator is away, or being started.
fn is_passing(failure: &Failure) -> bool {
    let busy = matches!(failure, Failure::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. });
    busy || failure.is_transient()
}

fn tell(screen: Screen, line: &str, event: &Event<'_>) -> Result<(), Failure> {
    match screen {
        Screen::Text => remark(line),
        Screen::Json => screen.json_line("signin", event)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::tests::{Scripted, http};

    #[tokio::test]
    async fn too_many_sessions_end_the_wait_at_once() {
        let body = r#"{"code": "BH-C210", "message": "too many sessions", "help": "bulkheadctl logout"}"#;
        let server = Scripted::start(vec![http("429 Too Many Requests", body)]);
        let code = DeviceAuthorization {
            device_code: vec![9; 32],
            user_code: "WDJB-MJHT".into(),
            verification_uri: "https://b.example/device".into(),
            verification_uri_complete: "https://b.example/device?code=WDJB-MJHT".into(),
            match_code: Some("42 17".into()),
            expires_in: 600,
            interval: 0,
        };
        let failure = wait(&mut Client::socket(&server.socket()), &code, Screen::Json).await.err().unwrap();
        assert_eq!(failure.sentence(), "too many sessions");
        assert_eq!(failure.help().unwrap(), "bulkheadctl logout");
    }

    #[test]
    fn haste_is_not_refusal() {
        let refused = |status, code: &str| {
            let error = bulkhead_protocol::enrol::ApiError {
                code: code.into(),
                message: "no".into(),
                help: None,
                diagnostics: None,
            };
            Failure::Refused { status, error: Box::new(error) }
        };
        assert!(is_haste(&refused(StatusCode::TOO_MANY_REQUESTS, "BH-R001")));
        assert!(!is_haste(&refused(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_SESSIONS)));
        assert!(!is_haste(&refused(StatusCode::FORBIDDEN, "BH-C205")));
    }
}
