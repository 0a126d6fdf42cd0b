//! Reading one selector. Keeps where each term stood, so that a mistake inside a string gets its own caret.
//!
//! Nothing is guessed: what does not fit the grammar is an error, never a shorter selector.

use std::{collections::BTreeSet, ops::Range};

use bulkhead_identity::{LabelKey, LabelValue, NodeName};

use crate::{
    selector::{MAX_VALUES, Term},
    slips,
};

/// Longest selector text, in bytes.
pub(crate) const MAX_SELECTOR_BYTES: usize = 4096;
/// Longest name of a group, service or rule, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// Longest issuer or subject of a `user:` selector, in bytes.
pub(crate) const MAX_USER_BYTES: usize = 512;

/// One element of a selector as written, and its byte range in the text.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) atom: Atom,
    pub(crate) span: Range<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Atom {
    Everyone,
    Group(String),
    Term(Term),
}

/// Why a selector cannot be read, and the bytes to point at.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) span: Range<usize>,
}

/// The parts of `text`, at least one; `*` only ever alone.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, SyntaxError> {
    let mut cursor = Cursor { text, at: 0 };
    if text.len() > MAX_SELECTOR_BYTES {
        let message = format!("a selector has at most {MAX_SELECTOR_BYTES} bytes (MAX_SELECTOR_BYTES)");
        return Err(SyntaxError { message, span: 0..text.len() });
    }
    let mut parts = Vec::new();
    loop {
        cursor.skip_spaces();
        let start = cursor.at;
        let atom = cursor.atom()?;
        parts.push(Part { atom, span: start..cursor.at });
        cursor.skip_spaces();
        if cursor.at == text.len() {
            break;
        }
        if !cursor.eat(',') {
            return Err(cursor.expected("`,` or the end of the selector"));
        }
    }
    match parts.iter().find(|part| part.atom == Atom::Everyone) {
        Some(star) if parts.len() > 1 => Err(SyntaxError {
            message: "`*` is every identity and stands alone".to_owned(),
            span: star.span.clone(),
        }),
        Some(_) | None => Ok(parts),
    }
}

/// Whether `name` may name a group, service, rule or test reference: `[A-Za-z0-9._-]`, bounded.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn atom(&mut self) -> Result<Atom, SyntaxError> {
        if self.eat('*') {
            return Ok(Atom::Everyone);
        }
        if self.eat('@') {
            let start = self.at;
            let name = self.word();
            if !is_name(name) {
                return Err(self.since(start, format!("{name:?} cannot be a group's name")));
            }
            return Ok(Atom::Group(name.to_owned()));
        }
        if self.eat('!') {
            self.skip_spaces();
            return self.label_key().map(|key| Atom::Term(Term::Absent(key)));
        }
        let start = self.at;
        if self.eat_text("node:") {
            let name = self.word();
            let name = NodeName::parse(name).map_err(|error| self.since(start, error.to_string()))?;
            return Ok(Atom::Term(Term::Node(name)));
        }
        if self.eat_text("user:") {
            return self.user(start);
        }
        self.label_term()
    }

    fn label_term(&mut self) -> Result<Atom, SyntaxError> {
        let key = self.label_key()?;
        self.skip_spaces();
        let term = if self.eat_text("!=") {
            Term::NotIn(key, self.one_value()?)
        } else if self.eat_text("==") || self.eat('=') {
            Term::In(key, self.one_value()?)
        } else if self.eat_keyword("notin") {
            Term::NotIn(key, self.values()?)
        } else if self.eat_keyword("in") {
            Term::In(key, self.values()?)
        } else {
            Term::Exists(key)
        };
        Ok(Atom::Term(term))
    }

    fn label_key(&mut self) -> Result<LabelKey, SyntaxError> {
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a label, @group, node:NAME or `*`"));
        }
        // As a label it would be one that no node has: a guard rail that guards nothing.
        if slips::is_address(word) {
            return Err(self.since(start, format!("{word} is an address")));
        }
        LabelKey::parse(word).map_err(|error| self.since(start, error.to_string()))
    }

    fn one_value(&mut self) -> Result<BTreeSet<LabelValue>, SyntaxError> {
        self.skip_spaces();
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected("a value"));
        }
        let value = LabelValue::parse(word).map_err(|error| self.since(start, error.to_string()))?;
        Ok(BTreeSet::from([value]))
    }

    fn values(&mut self) -> Result<BTreeSet<LabelValue>, SyntaxError> {
        let start = self.at;
        self.skip_spaces();
        if !self.eat('(') {
            return Err(self.expected("`(` and a list of values"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.append(&mut self.one_value()?);
            self.skip_spaces();
            if self.eat(')') {
                break;
            }
            if !self.eat(',') {
                return Err(self.expected("`,` or `)`"));
            }
        }
        if values.len() > MAX_VALUES {
            let message = format!("a list has at most {MAX_VALUES} values (MAX_VALUES)");
            return Err(self.since(start, message));
        }
        Ok(values)
    }

    fn user(&mut self, start: usize) -> Result<Atom, SyntaxError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| c == ',' || c.is_whitespace() || c.is_control());
        let whole = &rest[..end.unwrap_or(rest.len())];
        self.at += whole.len();
        let (issuer, subject) = whole.split_once('#').unwrap_or((whole, ""));
        if !is_user_part(issuer) || !is_user_part(subject) {
            let message = "a person is written user:ISSUER#SUBJECT, for example \
                           user:https://idp.acme.example#00u1abcd";
            return Err(self.since(start, message.to_owned()));
        }
        Ok(Atom::Term(Term::User { issuer: issuer.to_owned(), subject: subject.to_owned() }))
    }

    /// Up to the next character that has a meaning of its own.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| c.is_whitespace() || ",=!()*@".contains(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.eat_text(wanted.encode_utf8(&mut [0; 4]))
    }

    fn eat_text(&mut self, wanted: &str) -> bool {
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    /// Eats `wanted` where it is a word of its own, not the start of another.
    fn eat_keyword(&mut self, wanted: &str) -> bool {
        let start = self.at;
        let found = self.word() == wanted;
        if !found {
            self.at = start;
        }
        found
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn expected(&self, what: &str) -> SyntaxError {
        let rest = &self.text[self.at..];
        let found = rest.chars().next();
        let message = match found {
            Some(c) => format!("expected {what}, found {c:?}"),
            None => format!("expected {what}, but the selector ends here"),
        };
        SyntaxError { message, span: self.at..self.at + found.map_or(0, char::len_utf8) }
    }

    fn since(&self, start: usize, message: String) -> SyntaxError {
        SyntaxError { message, span: start..self.at }
    }
}

/// What the text form can carry: no separators, no white space, bounded.
pub(crate) fn is_user_part(text: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&text.len())
        && !text.contains(|c: char| ",#".contains(c) || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The text that an error points at, and its message.
    fn error(text: &str) -> (String, &str) {
        let error = parse(text).unwrap_err();
        (error.message, &text[error.span])
    }

    #[test]
    fn parts_know_where_they_stood() {
        let text = "@web,  env in (prod, stage) , !role";
        let spans: Vec<_> = parse(text).unwrap().into_iter().map(|part| &text[part.span]).collect();
        assert_eq!(spans, ["@web", "env in (prod, stage)", "!role"]);
    }

    #[test]
    fn spaces_are_free_where_kubernetes_allows_them() {
        for text in ["env = prod", "env!= prod", "env in(prod)", " env  notin ( prod,stage ) ", "! env"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn keywords_are_words_of_their_own() {
        assert!(parse("env inn (prod)").is_err());
        let parts = parse("in in (in)").unwrap();
        assert!(matches!(&parts[0].atom, Atom::Term(Term::In(key, _)) if key.as_str() == "in"));
    }

    #[test]
    fn errors_point_at_the_mistake() {
        for (text, place, reason) in [
            ("env=", "", "a value"),
            ("env in prod", "p", "`(`"),
            ("env in (prod stage)", "s", "`,` or `)`"),
            ("env in ()", ")", "a value"),
            ("env=prod role=web", "r", "`,`"),
            ("env=prod,,role=web", ",", "a label"),
            ("env=prod,", "", "a label"),
            ("*, env=prod", "*", "alone"),
            ("@", "", "group's name"),
            ("node:", "node:", ""),
            ("user:nobody", "user:nobody", "user:ISSUER#SUBJECT"),
            ("user:a#b#c", "user:a#b#c", "user:ISSUER#SUBJECT"),
            ("env>3", "env>3", ""),
        ] {
            let (message, at) = error(text);
            assert!(message.contains(reason), "{text}: {message}");
            assert_eq!(at, place, "{text}: {message}");
        }
    }

    #[test]
    fn a_long_selector_is_refused_before_it_is_read() {
        assert!(error(&"a".repeat(MAX_SELECTOR_BYTES + 1)).0.contains("MAX_SELECTOR_BYTES"));
    }
}
