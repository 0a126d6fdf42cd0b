//! What goes to standard output: aligned text, or one JSON document with its `schema`. A reader that closes
//! early (`| head`) ends the command quietly.

use crate::failure::Failure;
use crate::table::printable;
use anyhow::Context as _;
use serde::Serialize;
use std::io::{self, Write as _};

/// The two ways to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// For people.
    Text,
    /// For programs: `--json`.
    Json,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: String,
    #[serde(flatten)]
    body: &'a T,
}

impl Screen {
    /// Writes text as it is, with a line end if it has none. The caller has made it printable.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        emit(format!("{text}{end}").as_bytes())
    }

    /// One line for people; nothing under `--json`.
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        match self {
            Self::Text => self.text(&printable(line)),
            Self::Json => Ok(()),
        }
    }

    /// Answers with a document under `schema` (`bulkhead.<thing>/1`), or with what `text` makes for people.
    pub(crate) fn answer<T: Serialize>(
        self,
        thing: &str,
        body: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::Text => self.text(&text(body)),
            Self::Json => {
                let document = Document { schema: format!("bulkhead.{thing}/1"), body };
                let json = serde_json::to_string_pretty(&document).context("writing JSON")?;
                self.text(&json)
            }
        }
    }

    /// One document per line, for streams that have no end.
    pub(crate) fn json_line<T: Serialize>(self, thing: &str, body: &T) -> Result<(), Failure> {
        let document = Document { schema: format!("bulkhead.{thing}/1"), body };
        self.text(&serde_json::to_string(&document).context("writing JSON")?)
    }
}

fn emit(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(anyhow::Error::new(error).context("writing to standard output").into()),
    }
}

/// A remark for people on standard error. Losing one is not worth failing for.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
