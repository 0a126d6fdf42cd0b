//! What reaches the terminal: escaped, aligned, with units.
//!
//! Property: no control character and no mark that reorders text gets out, in text or in JSON, whatever a name
//! or an error of another host contains (E6).

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

/// Where verbs print.
pub(super) struct Screen {
    json: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the user asked for JSON.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// One line.
    pub(super) fn line(&self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", escape(&text.to_string()))?;
        out.flush()
    }

    /// One JSON value.
    pub(super) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", escape_json(&text))?;
        out.flush()
    }

    /// One JSON value on one line: something that happened.
    pub(super) fn event(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", escape_json(&text))?;
        out.flush()
    }

    /// Rows with aligned columns.
    pub(super) fn rows(&self, rows: &[Vec<String>]) -> io::Result<()> {
        aligned(rows).iter().try_for_each(|row| self.line(row))
    }

    /// Something the user should know while it goes on; to standard error.
    pub(super) fn note(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{}", escape(&text.to_string()));
    }

    /// Why it failed: the whole chain of causes as one sentence.
    pub(super) fn error(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        let mut err = io::stderr().lock();
        let _ = if self.json {
            let value = serde_json::json!({ "schema": "bulkhead.error/1", "error": text });
            writeln!(err, "{}", escape_json(&value.to_string()))
        } else {
            // Errors may list several problems, one per line.
            text.lines().enumerate().try_for_each(|(at, line)| {
                let prefix = if at == 0 { "error: " } else { "" };
                writeln!(err, "{prefix}{}", escape(line))
            })
        };
    }
}

/// Asks a yes-or-no question on the terminal; anything but yes is no.
pub(super) fn confirm(question: &str) -> io::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "{} [y/N] ", escape(question))?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether a terminal would act on it rather than show it.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` with everything dangerous spelled out.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// The same for JSON, in JSON's own spelling. The line breaks of its layout stay.
fn escape_json(text: &str) -> String {
    use std::fmt::Write as _;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) && c != '\n' {
            // All of them are in the basic plane.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Columns padded to their widest cell, two spaces apart.
pub(super) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

/// A span of time in its largest unit: `42s`, `12m`, `17h`, `5d`.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// A round trip: `0.06 ms`, `0.4 ms`, `21 ms`.
pub(super) fn milliseconds(micros: u64) -> String {
    if micros < 100 {
        format!("0.{:02} ms", micros / 10)
    } else if micros < 10_000 {
        format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
    } else {
        format!("{} ms", micros / 1_000)
    }
}

/// An amount of bytes in decimal units: `512 B`, `9.1 MB`, `88 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let (mut scaled, mut unit) = (count, 0);
    while scaled >= 1_000_000 && unit + 1 < UNITS.len() {
        scaled /= 1_000;
        unit += 1;
    }
    if scaled < 10_000 {
        format!("{}.{} {}", scaled / 1_000, scaled % 1_000 / 100, UNITS[unit])
    } else {
        format!("{} {}", scaled / 1_000, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_out() {
        let hostile = "web\u{1b}[2J\r\n\u{202e}cod\u{9b}\u{7f}\u{200f}ok";
        for safe in [escape(hostile), escape_json(&serde_json::to_string(hostile).unwrap_or_default())] {
            assert!(!safe.chars().any(is_dangerous), "{safe}");
            assert!(safe.starts_with("web") || safe.starts_with("\"web"), "{safe}");
        }
        assert_eq!(escape("naïve 日本"), "naïve 日本");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({ "name": "a\u{202e}b\u{9b}" });
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap_or_default());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["coordinator".into(), "a".into()], vec!["db".into(), "bbb".into(), "c".into()]];
        assert_eq!(aligned(&rows), ["coordinator  a", "db           bbb  c"]);
    }

    #[test]
    fn quantities_carry_their_unit() {
        assert_eq!([0, 59, 60, 7_199, 61_200, 172_800].map(span), ["0s", "59s", "1m", "1h", "17h", "2d"]);
        assert_eq!([64, 400, 9_999, 21_000].map(milliseconds), ["0.06 ms", "0.4 ms", "9.9 ms", "21 ms"]);
        assert_eq!(
            [0, 999, 9_100, 9_100_000, 88_000_000, u64::MAX].map(bytes),
            ["0 B", "999 B", "9.1 kB", "9.1 MB", "88 MB", "18 EB"]
        );
    }
}
