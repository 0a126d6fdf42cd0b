//! Asking before something that cannot be undone. Where nobody can be asked, the answer is no.

use crate::failure::Failure;
use crate::screen::remark;
use anyhow::{Context as _, anyhow};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64;

/// Whether the command line already said yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--yes`.
    Given,
    /// Ask on the terminal.
    Ask,
}

impl From<bool> for Consent {
    fn from(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Ask }
    }
}

/// Shows `effect` in any case, for a signature stands for all of it, and asks unless consent was given.
///
/// # Errors
/// As [`confirm`].
pub(crate) fn approve(consent: Consent, effect: &str, question: &str) -> Result<(), Failure> {
    if consent == Consent::Given {
        remark(effect);
    }
    confirm(consent, effect, question)
}

/// Shows `effect` and asks, unless consent was given.
///
/// # Errors
/// When the answer is not yes, or there is no terminal to ask on. Nothing has been changed then.
pub(crate) fn confirm(consent: Consent, effect: &str, question: &str) -> Result<(), Failure> {
    if consent == Consent::Given {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    writeln!(err, "{effect}").context("asking")?;
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(
            "nothing was changed: this needs a yes, and standard input is no terminal",
            "add --yes",
        ));
    }
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).context("asking")?;
    let mut answer = String::new();
    stdin.lock().take(MAX_ANSWER_BYTES).read_line(&mut answer).context("reading the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was changed").into()),
    }
}
