//! `up --sso` while it waits: the link, the codes, and what happens; for people, or one JSON event per line.

use std::path::Path;
use std::time::{Duration, Instant};

use super::qr;
use super::screen::{Screen, span};
use crate::enrol::signin::Progress;
use crate::state::Store;
use crate::state::dir::DirError;

const SCHEMA: &str = "bulkhead.signin/1";
/// How often people are told that nothing has happened.
const REMIND: Duration = Duration::from_secs(60);

/// One event of `--json`.
#[derive(serde::Serialize)]
struct Event<'a> {
    schema: &'static str,
    #[serde(flatten)]
    happened: Happened<'a>,
}

#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Happened<'a> {
    Code {
        verification_uri: &'a str,
        verification_uri_complete: &'a str,
        user_code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        match_code: Option<&'a str>,
        fingerprint: String,
        expires_in: u64,
    },
    Waiting {
        left_secs: u64,
    },
    Approval {
        name: &'a str,
        fingerprint: String,
    },
    Unreachable {
        reason: String,
    },
    Reachable,
    Forgotten,
    Done {
        name: Option<&'a str>,
    },
}

/// For whom another process waits that goes on with the sign-in kept in `state`, if one does.
pub(super) fn waits(state: &Path) -> Option<String> {
    // Asking makes nothing, and whoever may not look is told nothing.
    let store = state.exists().then(|| Store::open(state).ok())??;
    let taken = matches!(store.lock(), Err(DirError::InUse(_)));
    if !taken || store.is_enrolled().ok()? {
        return None;
    }
    let kept = store.sign_in().ok()??;
    let whom = match kept.approval {
        Some(name) => format!("an administrator to approve {name} (bulkheadctl node approve {name})"),
        None => {
            let code = kept.authorization;
            format!("somebody to confirm the code {} at {}", code.user_code, code.verification_uri)
        }
    };
    Some(format!(
        "this host has not joined yet: the service, or another `bulkhead up`, waits for {whom}, and goes on by itself \
         then. To give up: stop it (systemctl stop bulkhead), then run `bulkhead leave`"
    ))
}

/// Shows how a sign-in goes.
pub(super) struct Waiter<'a> {
    screen: &'a Screen,
    reminded: Option<Instant>,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(screen: &'a Screen) -> Self {
        Self { screen, reminded: None }
    }

    /// What happened, to be shown.
    pub(super) fn show(&mut self, progress: Progress<'_>) {
        // A reader that went away is no reason to give up joining.
        let _ = if self.screen.wants_json() { self.event(happened(progress)) } else { self.tell(progress) };
    }

    /// It is done; `name` is that of a node that joined.
    pub(super) fn done(&self, name: Option<&str>) {
        if self.screen.wants_json() {
            let _ = self.event(Happened::Done { name });
        }
    }

    fn event(&self, happened: Happened<'_>) -> std::io::Result<()> {
        self.screen.event(&Event { schema: SCHEMA, happened })
    }

    fn tell(&mut self, progress: Progress<'_>) -> std::io::Result<()> {
        let screen = self.screen;
        match progress {
            Progress::Code { code, left: _, fingerprint } => {
                screen.line("To sign in, open this link in a browser, here or on any other device:")?;
                screen.line(format!("  {}", code.verification_uri_complete))?;
                if let Some(picture) = qr::for_terminal(&code.verification_uri_complete) {
                    picture.lines().try_for_each(|line| screen.line(line))?;
                }
                screen.line(format!("or open {} and type the code {}", code.verification_uri, code.user_code))?;
                if let Some(match_code) = &code.match_code {
                    screen.line("Confirm there only if the page shows the same:")?;
                    screen.line(format!("  match code       {match_code}"))?;
                }
                screen.line(format!("  key fingerprint  {fingerprint}"))?;
                self.reminded = Some(Instant::now());
            }
            Progress::Waiting { left } => {
                if self.reminded.is_none_or(|at| at.elapsed() >= REMIND) {
                    self.reminded = Some(Instant::now());
                    screen.note(format!("waiting for you to confirm; the code is good for {}", span(left.as_secs())));
                }
            }
            Progress::Approval { name, fingerprint } => screen.note(format!(
                "confirmed; {name} waits until an administrator approves it (bulkheadctl node approve {name}), whom its \
                 key fingerprint is shown: {fingerprint}. This can be interrupted: `bulkhead up` goes on with it, and so \
                 does the service after a reboot"
            )),
            Progress::Unreachable(why) => {
                screen.note(format!("the coordinator does not answer ({why}); asking on, nothing is lost"));
            }
            Progress::Reachable => screen.note("the coordinator answers again"),
            Progress::Forgotten => {
                screen.note("the coordinator was started anew and has forgotten the code; here is another one");
            }
        }
        Ok(())
    }
}

fn happened(progress: Progress<'_>) -> Happened<'_> {
    match progress {
        Progress::Code { code, left, fingerprint } => Happened::Code {
            verification_uri: &code.verification_uri,
            verification_uri_complete: &code.verification_uri_complete,
            user_code: &code.user_code,
            match_code: code.match_code.as_deref(),
            fingerprint: fingerprint.to_string(),
            expires_in: left.as_secs(),
        },
        Progress::Waiting { left } => Happened::Waiting { left_secs: left.as_secs() },
        Progress::Approval { name, fingerprint } => {
            Happened::Approval { name, fingerprint: fingerprint.to_string() }
        }
        Progress::Unreachable(why) => Happened::Unreachable { reason: why.to_string() },
        Progress::Reachable => Happened::Reachable,
        Progress::Forgotten => Happened::Forgotten,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_protocol::signin::DeviceAuthorization;

    #[test]
    fn whoever_asks_is_told_for_whom_another_process_waits() {
        let temp = tempfile::tempdir().unwrap();
        assert!(waits(&temp.path().join("none")).is_none());
        let store = Store::open(temp.path()).unwrap();
        let mut kept = crate::state::signin::tests::kept();
        store.begin_sign_in(&crate::state::Keys::generate().unwrap(), &kept).unwrap();
        assert!(waits(temp.path()).is_none(), "nobody does");
        let lock = store.lock().unwrap();
        assert!(waits(temp.path()).unwrap().contains("confirm the code WDJB-MJHT"));
        kept.approval = Some("web".into());
        store.keep_sign_in(&kept).unwrap();
        assert!(waits(temp.path()).unwrap().contains("bulkheadctl node approve web"));
        drop(lock);
        assert!(waits(temp.path()).is_none());
    }

    #[test]
    fn an_event_names_its_schema_and_never_the_device_code() {
        let code = DeviceAuthorization {
            device_code: b"canary-device-code-of-32-bytes!!".to_vec(),
            user_code: "WDJB-MJHT".into(),
            verification_uri: "https://b.example/device".into(),
            verification_uri_complete: "https://b.example/device?code=WDJB-MJHT".into(),
            match_code: Some("42 17".into()),
            expires_in: 600,
            interval: 5,
        };
        let fingerprint = crate::fixture::key(1).public().fingerprint();
        let json = |progress| {
            serde_json::to_string(&Event { schema: SCHEMA, happened: happened(progress) }).unwrap()
        };
        assert_eq!(
            json(Progress::Code { code: &code, left: Duration::from_secs(42), fingerprint }),
            format!(
                r#"{{"schema":"bulkhead.signin/1","event":"code","verification_uri":"https://b.example/device","verification_uri_complete":"https://b.example/device?code=WDJB-MJHT","user_code":"WDJB-MJHT","match_code":"42 17","fingerprint":"{fingerprint}","expires_in":42}}"#
            ),
            "what is left of it, and not what it had at first"
        );
        let waiting = Progress::Waiting { left: Duration::from_secs(9) };
        assert_eq!(json(waiting), r#"{"schema":"bulkhead.signin/1","event":"waiting","left_secs":9}"#);
        assert_eq!(
            json(Progress::Approval { name: "web", fingerprint }),
            format!(
                r#"{{"schema":"bulkhead.signin/1","event":"approval","name":"web","fingerprint":"{fingerprint}"}}"#
            )
        );
        assert_eq!(json(Progress::Forgotten), r#"{"schema":"bulkhead.signin/1","event":"forgotten"}"#);
    }
}
