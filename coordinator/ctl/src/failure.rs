//! How a command ends. Every failure has an exit code that scripts can rely on and a line that says what to do
//! next; text that came from the coordinator is printable before it reaches a terminal.

use crate::table::printable;
use bulkhead_protocol::enrol::ApiError;
use hyper::StatusCode;
use std::process::ExitCode;

/// The coordinator's code for a policy that cuts ways to it: a check that the caller can override.
const LOCKOUT: &str = "BH-C159";

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that makes no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to do instead.
        help: String,
    },
    /// No coordinator answered.
    #[error("cannot reach the coordinator at {place}")]
    Unreachable {
        /// The socket's path, or the addresses that were tried.
        place: String,
        /// What to do next.
        help: String,
        /// What went wrong with the last attempt.
        #[source]
        cause: anyhow::Error,
    },
    /// The coordinator answered, but not with what was asked for.
    #[error("{}", printable(&.error.message))]
    Refused {
        /// HTTP status of the answer.
        status: StatusCode,
        /// Its body.
        error: Box<ApiError>,
    },
    /// The policy, or the journal, did not pass its checks; what failed has been printed.
    #[error("{0}")]
    ChecksFailed(String),
    /// The policy in force is not the one that the change was made from.
    #[error("{}", printable(&.0.message))]
    Drift(Box<ApiError>),
    /// The answer to the question is no; it has been printed.
    #[error("denied")]
    Denied,
    /// A plan changes something, and the command line asked for an exit code that says so; it has been printed.
    #[error("the plan changes something")]
    Changes,
    /// Some nodes have not acknowledged in time; they have been listed.
    #[error("{0}")]
    Unacknowledged(String),
    /// The reader of our output has gone; nothing is left to say.
    #[error("output closed")]
    OutputClosed,
    /// Everything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// A usage error with its remedy.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: help.into() }
    }

    /// The exit code of 06-interfaces.md: 1 error, 2 usage, 3 denied or unreachable, 4 checks failed, 5 drift.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage { .. } => 2,
            Self::Unreachable { .. } | Self::Denied | Self::Unacknowledged(_) => 3,
            Self::Refused { status, error } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 3,
                StatusCode::UNPROCESSABLE_ENTITY => 4,
                _ if error.code == LOCKOUT => 4,
                _ => 1,
            },
            Self::ChecksFailed(_) => 4,
            Self::Drift(_) | Self::Changes => 5,
            Self::OutputClosed => 0,
            Self::Other(_) => 1,
        })
    }

    /// What to do next, where there is something.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Usage { help, .. } | Self::Unreachable { help, .. } => Some(help.clone()),
            Self::Refused { status, error } => match (&error.help, *status) {
                (Some(help), _) => Some(printable(help)),
                (None, StatusCode::UNAUTHORIZED) => {
                    Some("log in again: bulkheadctl login --sso, or login --token-file FILE".to_owned())
                }
                (None, StatusCode::FORBIDDEN) => {
                    Some("`bulkheadctl whoami` shows your role; an admin can do this".to_owned())
                }
                (None, _) => None,
            },
            Self::Drift(error) => error.help.as_deref().map(printable),
            Self::ChecksFailed(_)
            | Self::Denied
            | Self::Changes
            | Self::Unacknowledged(_)
            | Self::OutputClosed
            | Self::Other(_) => None,
        }
    }

    /// Whether nothing more should be printed: the answer itself said it all.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Denied | Self::Changes | Self::OutputClosed)
    }

    /// Whether asking again may succeed, as long as the question changes nothing.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The whole chain of causes as one sentence.
    pub(crate) fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            // `transparent` and some libraries repeat their cause in their own text.
            if !sentence.ends_with(&text) {
                sentence.push_str(": ");
                sentence.push_str(&text);
            }
            cause = error.source();
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode, help: Option<&str>) -> Failure {
        let error = ApiError {
            code: "x".into(),
            message: "no\u{1b}[31m".into(),
            help: help.map(str::to_owned),
            diagnostics: None,
        };
        Failure::Refused { status, error: Box::new(error) }
    }

    #[test]
    fn a_coordinators_message_cannot_drive_the_terminal() {
        assert!(!refused(StatusCode::BAD_REQUEST, None).sentence().contains('\u{1b}'));
        assert!(
            !refused(StatusCode::BAD_REQUEST, Some("\u{1b}]0;x"))
                .help()
                .unwrap_or_default()
                .contains('\u{1b}')
        );
    }

    #[test]
    fn a_missing_right_says_what_to_do_and_exits_with_three() {
        let failure = refused(StatusCode::UNAUTHORIZED, None);
        assert!(failure.help().is_some_and(|help| help.contains("login")));
        assert_eq!(failure.exit_code(), ExitCode::from(3));
    }

    #[test]
    fn the_sentence_names_each_cause_once() {
        let failure = Failure::Unreachable {
            place: "/run/x".into(),
            help: String::new(),
            cause: anyhow::anyhow!("no such file").context("connecting"),
        };
        assert_eq!(failure.sentence(), "cannot reach the coordinator at /run/x: connecting: no such file");
    }
}
