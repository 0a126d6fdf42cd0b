//! Where things stand in the policy's files, and what was found wrong with them.
//!
//! Findings are collected, never thrown: one run reports every problem of every file. How many are kept is
//! bounded, so that ten megabytes of mistakes do not become a gigabyte of advice.

use std::{collections::BTreeSet, ops::Range};

use crate::{Code, Diagnostic, Severity, Sources, diagnostic::MAX_EXCERPT, source::MAX_FINDINGS};

/// A byte range of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) span: Range<usize>,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

/// All findings so far, with the files that they point into.
pub(crate) struct Findings<'a> {
    files: Vec<File<'a>>,
    found: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
    /// The words of files that cannot be read, any of which may be a name defined there.
    excused: BTreeSet<&'a str>,
    /// Too much text to list its words: every name may be defined there.
    all_excused: bool,
}

/// Beyond so many findings no more suggestions are looked for.
const MAX_SUGGESTIONS: usize = 100;
/// So many known words are compared with a misspelt one.
const MAX_CANDIDATES: usize = 1000;
/// Longer words are not compared.
const MAX_WORD_BYTES: usize = 64;
/// So long a file that cannot be read is not searched for names; nor are further ones after so many words.
const MAX_EXCUSED_BYTES: usize = 256 * 1024;
/// Longest message and suggestion, in characters; of longer ones the middle is left out.
const MAX_MESSAGE: usize = 1000;
/// In longer parts of a line columns count bytes: to count characters again for each of many findings takes
/// time.
const MAX_COUNTED_BYTES: usize = 16 * 1024;

impl<'a> Findings<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        let files = sources.0.iter().map(|(name, text)| File {
            name,
            text,
            line_starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect(),
        });
        Self {
            files: files.collect(),
            found: Vec::new(),
            errors: 0,
            dropped: 0,
            excused: BTreeSet::new(),
            all_excused: false,
        }
    }

    pub(crate) fn error(&mut self, code: Code, place: &Place, message: impl Into<String>) {
        self.add(Severity::Error, code, Some(place), message.into(), None);
    }

    pub(crate) fn error_with_help(
        &mut self,
        code: Code,
        place: &Place,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.add(Severity::Error, code, Some(place), message.into(), help);
    }

    /// Reports a second definition of one name.
    pub(crate) fn twice(&mut self, what: &str, name: &Located<String>, first: &Place) {
        let (file, line) = (self.file_name(first), self.line(first));
        let message = format!("{what} {:?} is defined twice; first at {file}:{line}", name.value);
        self.error(Code::Duplicate, &name.place, message);
    }

    pub(crate) fn error_without_place(&mut self, code: Code, message: impl Into<String>) {
        self.add(Severity::Error, code, None, message.into(), None);
    }

    pub(crate) fn warning(
        &mut self,
        code: Code,
        place: &Place,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.add(Severity::Warning, code, Some(place), message.into(), help);
    }

    pub(crate) fn warning_without_place(&mut self, code: Code, message: impl Into<String>) {
        self.add(Severity::Warning, code, None, message.into(), None);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The first error that was found.
    pub(crate) fn first_error(&self) -> Option<&Diagnostic> {
        self.found.iter().find(|finding| finding.severity == Severity::Error)
    }

    /// Whether further errors are only counted.
    pub(crate) fn are_full(&self) -> bool {
        self.errors >= MAX_FINDINGS
    }

    pub(crate) fn file_name(&self, place: &Place) -> &'a str {
        self.files[place.file].name
    }

    /// The line of a place, from 1.
    pub(crate) fn line(&self, place: &Place) -> usize {
        self.files[place.file].line_starts.partition_point(|&start| start <= place.span.start)
    }

    /// The place of a part of the string `value` that stands at `place`; the whole string when escapes make
    /// offsets in the value differ from offsets in the file.
    pub(crate) fn inside(&self, place: &Place, value: &str, part: &Range<usize>) -> Place {
        let text = self.files[place.file].text;
        let first = place.span.start + 1;
        let verbatim = text.get(first..).is_some_and(|rest| rest.starts_with(value));
        if !verbatim {
            return place.clone();
        }
        Place { file: place.file, span: first + part.start..first + part.end }
    }

    /// Whether so little was found that advice which takes work is still given.
    pub(crate) fn gives_advice(&self) -> bool {
        self.found.len() + self.dropped <= MAX_SUGGESTIONS
    }

    /// `did you mean …?` for the candidate that is closest to `word`, if any is close.
    pub(crate) fn did_you_mean<'c>(
        &self,
        word: &str,
        candidates: impl Iterator<Item = &'c str>,
    ) -> Option<String> {
        let closest = if self.gives_advice() { closest(word, candidates) } else { None };
        closest.map(|closest| format!("did you mean {closest:?}?"))
    }

    /// From now on no name is unknown that may be defined in `file`, which cannot be read.
    pub(crate) fn excuse_names_of(&mut self, file: usize) {
        let text = self.files[file].text;
        self.all_excused |= text.len() > MAX_EXCUSED_BYTES || self.excused.len() > MAX_EXCUSED_BYTES;
        if self.all_excused {
            return;
        }
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))) {
            // `[labels.env]`, `groups.web = …`.
            let tables = ["labels.", "groups.", "services."];
            let name = tables.iter().find_map(|table| word.strip_prefix(table));
            self.excused.extend(name.into_iter().chain([word]));
        }
    }

    /// Whether `name`, which no file that can be read defines, may be defined in one that cannot.
    pub(crate) fn is_excused(&self, name: &str) -> bool {
        self.all_excused || self.excused.contains(name)
    }

    /// Everything found, ordered by file and position.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        let key = |d: &Diagnostic| (d.file.clone(), d.line, d.column, d.severity, d.code.clone());
        self.found.sort_by_cached_key(key);
        if self.dropped > 0 {
            let message = format!("{} further findings are not shown (MAX_FINDINGS)", self.dropped);
            let code = Code::Limit;
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            self.found.push(self.diagnostic(severity, code, None, message, None));
        }
        self.found
    }

    fn add(
        &mut self,
        severity: Severity,
        code: Code,
        place: Option<&Place>,
        message: String,
        help: Option<String>,
    ) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => {}
        }
        if self.found.len() >= MAX_FINDINGS {
            self.dropped += 1;
            // No number of warnings keeps an error from being seen.
            let last = self.found.iter().rposition(|finding| finding.severity > severity);
            let Some(last) = last else { return };
            self.found.remove(last);
        }
        let diagnostic = self.diagnostic(severity, code, place, message, help);
        self.found.push(diagnostic);
    }

    fn diagnostic(
        &self,
        severity: Severity,
        code: Code,
        place: Option<&Place>,
        message: String,
        suggestion: Option<String>,
    ) -> Diagnostic {
        let code = code.as_str().to_owned();
        let (message, suggestion) = (shortened(message), suggestion.map(shortened));
        let Some(place) = place else {
            let (file, excerpt) = (String::new(), String::new());
            return Diagnostic {
                severity,
                code,
                file,
                line: 0,
                column: 0,
                message,
                suggestion,
                excerpt,
                length: 0,
            };
        };
        let file = &self.files[place.file];
        let line = self.line(place);
        let start = file.line_starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let next = file.line_starts.get(line).copied().unwrap_or(file.text.len());
        let whole = file.text.get(start..next).unwrap_or_default().trim_end_matches(['\n', '\r']);
        // Offsets from a parser of hostile text: a range that is not on character borders marks nothing.
        let end = place.span.end.clamp(start, start + whole.len());
        let before = file.text.get(start..place.span.start).map_or(0, characters);
        let length = file.text.get(place.span.start..end).map_or(0, characters);
        let short = characters(whole) <= MAX_EXCERPT;
        Diagnostic {
            severity,
            code,
            file: file.name.to_owned(),
            line,
            column: before + 1,
            message,
            suggestion,
            excerpt: if short { whole.to_owned() } else { String::new() },
            length,
        }
    }
}

fn characters(text: &str) -> usize {
    if text.len() > MAX_COUNTED_BYTES { text.len() } else { text.chars().count() }
}

/// A hostile word of megabytes is quoted by both its ends.
fn shortened(text: String) -> String {
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let (head, tail) = (text.chars().take(MAX_MESSAGE / 2), text.chars().rev().take(MAX_MESSAGE / 2));
    let tail: Vec<_> = tail.collect();
    head.chain(" … ".chars()).chain(tail.into_iter().rev()).collect()
}

/// The candidate that is closest to `word`, if any is close.
pub(crate) fn closest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let folded = word.to_lowercase();
    let reach = (folded.chars().count() / 3).max(1);
    let distances = candidates
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len().abs_diff(folded.len()) <= reach + 1)
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate));
    distances.filter(|&(distance, _)| distance <= reach).min().map(|(_, closest)| closest)
}
