//! What is wrong with a policy, where, and what to do about it.
//!
//! Policy text is hostile until checked, and a diagnostic quotes it on a terminal: control and direction
//! characters are replaced one for one before anything is shown, so a caret still points where it should.

use std::fmt;

/// Whether a policy with this finding may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy may be applied; a person should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One finding. `line` and `column` count from 1 (columns in characters); 0 when the finding has no place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable, for example `BH-P003`; see [`Code`].
    pub code: String,
    /// The source file's name, as it was handed in.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// The source line, for the caret; empty when there is none or it is too long to show.
    pub excerpt: String,
    /// Length of the marked span in characters.
    pub length: usize,
}

/// `file:line:col: error[CODE]: message`, the line, a caret, `help: …`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", printable(&self.file))?;
        }
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.file.is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        write!(f, "{}[{}]: {}", self.severity, printable(&self.code), printable(&self.message))?;
        if self.line > 0 && !self.excerpt.is_empty() {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let indent = " ".repeat(self.column.saturating_sub(1).min(MAX_EXCERPT));
            let carets = "^".repeat(self.length.clamp(1, MAX_EXCERPT));
            write!(f, "\n{number} | {}", printable(&self.excerpt))?;
            write!(f, "\n{gutter} | {indent}{carets}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\nhelp: {}", printable(suggestion))?;
        }
        Ok(())
    }
}

/// Longest line that is quoted, in characters.
pub const MAX_EXCERPT: usize = 200;

/// Replaces what could move a terminal's cursor or reorder its text, one character for one.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                char::REPLACEMENT_CHARACTER
            }
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// The kinds of finding. The text of a code is stable; meanings are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// For example `BH-P003`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What a finding of this code says, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }
        }
    };
}

codes! {
    /// The file is not TOML.
    Syntax = "BH-P001",
    /// `version = 1` is missing or another.
    Version = "BH-P002",
    /// A key that the language does not have.
    UnknownKey = "BH-P003",
    /// A value of the wrong TOML type.
    WrongType = "BH-P004",
    /// A key that has to be there.
    MissingKey = "BH-P005",
    /// A selector that cannot be read.
    Selector = "BH-P006",
    /// `@name` of a group that no file defines.
    UnknownGroup = "BH-P007",
    /// Groups that contain each other.
    GroupCycle = "BH-P008",
    /// A limit was exceeded; the text names it.
    Limit = "BH-P009",
    /// A label key that the schema does not declare.
    UnknownLabel = "BH-P010",
    /// A label value that the schema does not list.
    UnknownValue = "BH-P011",
    /// A port or service that cannot be read.
    Ports = "BH-P012",
    /// Two definitions of one id, group, service, label or test.
    Duplicate = "BH-P013",
    /// An id or name with characters it may not have.
    BadName = "BH-P014",
    /// An empty list or text where that would mean nothing, or everything.
    Empty = "BH-P015",
    /// A time without a zone, out of range, or a window that ends before it starts.
    Time = "BH-P016",
    /// A test whose side stands for no particular identity.
    TestSide = "BH-P017",
    /// A test of the policy that does not hold.
    TestFailed = "BH-P018",
    /// An allow rule from everyone to everyone.
    EveryoneToEveryone = "BH-P101",
    /// An allow rule for all services.
    AnyPorts = "BH-P102",
    /// A rule whose `until` has passed.
    Expired = "BH-P103",
    /// A rule whose `review_by` has passed.
    ReviewOverdue = "BH-P104",
    /// A selector that no identity can match.
    MatchesNobody = "BH-P105",
    /// A negative term that passes over unlabelled nodes, unlike Kubernetes.
    MissingLabel = "BH-P106",
    /// An allow rule that a never rule forbids altogether.
    InsideNever = "BH-P107",
    /// An allow rule that adds nothing to another one.
    Covered = "BH-P108",
    /// Something that is understood but that this release does not act on.
    NotEnforced = "BH-P109",
    /// A selector that none of the nodes at hand matches.
    MatchesNoNode = "BH-P110",
    /// A rule whose `same`, `not_before`, `until` or `hours` another rule does without.
    ConditionPointless = "BH-P111",
    /// An allow rule without `review_by` where most have one.
    ReviewMissing = "BH-P112",
    /// A group, service or label that nothing refers to.
    Unused = "BH-P113",
    /// More pairs of rules than are compared with each other.
    PairsNotCompared = "BH-P114",
    /// A node with a label that the schema does not know.
    NodeOutsideSchema = "BH-P115",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: Code::UnknownValue.as_str().to_owned(),
            file: "web.toml".to_owned(),
            line: 12,
            column: 9,
            message: "label env has no value \"prdo\"".to_owned(),
            suggestion: Some("did you mean \"prod\"?".to_owned()),
            excerpt: "from = \"env=prdo\"".to_owned(),
            length: 8,
        }
    }

    #[test]
    fn a_diagnostic_reads_as_place_code_message_caret_and_help() {
        insta::assert_snapshot!(example(), @r#"
        web.toml:12:9: error[BH-P011]: label env has no value "prdo"
        12 | from = "env=prdo"
           |         ^^^^^^^^
        help: did you mean "prod"?
        "#);
    }

    #[test]
    fn a_finding_without_a_place_is_one_line() {
        let placeless = Diagnostic { file: String::new(), line: 0, suggestion: None, ..example() };
        assert_eq!(placeless.to_string(), "error[BH-P011]: label env has no value \"prdo\"");
    }

    #[test]
    fn hostile_text_cannot_move_the_cursor() {
        let hostile = Diagnostic {
            file: "a\u{1b}[2J.toml".to_owned(),
            excerpt: "x\u{202e}\r\u{7}y".to_owned(),
            message: "bad\nfake: ok".to_owned(),
            ..example()
        };
        let shown = hostile.to_string();
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\r', '\u{7}']));
        assert_eq!(shown.lines().count(), 4);
    }

    #[test]
    fn codes_are_unique_and_ordered() {
        let texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
