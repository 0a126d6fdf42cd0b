//! One layout for policy files: statements and keys in a stable order, comments kept with what they precede.
//!
//! Layout only. The result is read again before it is handed out, and a text that would say anything else, or
//! would have lost a comment, is an error instead. What is laid out already is left as it is.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Key, RawString, Table, Value};

use crate::{
    Code, Diagnostic, Sources,
    check::check_text_size,
    place::{Findings, Place},
};

/// Longest line; a longer list has one element on each line.
const MAX_WIDTH: usize = 100;

/// The parts of a file, in order.
const SECTIONS: [&str; 7] = ["version", "labels", "groups", "services", "allow", "never", "test"];
/// The keys of a statement or label, in order.
const KEYS: [&str; 19] = [
    "id",
    "name",
    "from",
    "to",
    "same",
    "differ",
    "ports",
    "not_before",
    "until",
    "hours",
    "owner",
    "why",
    "review_by",
    "allow",
    "deny",
    "at",
    "labels",
    "values",
    "sealed",
];

/// Lays out one file: `version`, labels, groups, services, then `allow` and `never` by id and tests as they
/// come; the keys of each statement in one order, and one blank line between statements.
///
/// # Errors
/// When the text is not TOML or larger than policy text may be. The finding names no file.
pub fn format(text: &str) -> Result<String, Box<Diagnostic>> {
    let sources = Sources([(String::new(), text.to_owned())].into());
    let mut findings = Findings::new(&sources);
    check_text_size(&sources, &mut findings);
    let whole = Place { file: 0, span: 0..0 };
    if !findings.has_errors() {
        match text.parse::<DocumentMut>() {
            Ok(document) => {
                let laid_out = Layout::of(&document);
                if says_the_same(text, &laid_out) {
                    return Ok(laid_out);
                }
                let message = "the file cannot be laid out without changing what it says";
                findings.error(Code::Syntax, &whole, message);
            }
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let message = error.message().lines().next().unwrap_or_default().to_owned();
                findings.error(Code::Syntax, &Place { file: 0, span }, message);
            }
        }
    }
    Err(Box::new(findings.into_diagnostics().swap_remove(0)))
}

/// Whether two texts have the same values, rules in any order, and as many comments.
fn says_the_same(before: &str, after: &str) -> bool {
    let read = |text: &str| -> Option<toml::Table> {
        let mut root: toml::Table = text.parse().ok()?;
        for key in ["allow", "never"] {
            if let Some(toml::Value::Array(rules)) = root.get_mut(key) {
                rules.sort_by_cached_key(|rule| rule.get("id").map(ToString::to_string));
            }
        }
        Some(root)
    };
    let comments = |text: &str| text.matches('#').count();
    comments(before) == comments(after) && read(before).is_some_and(|before| read(after) == Some(before))
}

/// The text so far.
struct Layout {
    text: String,
}

/// How a table is introduced.
#[derive(Clone, Copy)]
enum Header {
    Table,
    Element,
}

impl Layout {
    fn of(document: &DocumentMut) -> String {
        let mut layout = Self { text: String::new() };
        let root = document.as_table();
        layout.values(root, &SECTIONS, true);
        let mut sections: Vec<_> = root.iter().collect();
        sections.sort_by_key(|(key, _)| rank(&SECTIONS, key));
        for (key, item) in sections {
            if let Some((key, _)) = root.get_key_value(key) {
                layout.item(&[key], item);
            }
        }
        let trailing = comments(Some(document.trailing()), true);
        if trailing.iter().any(|line| !line.is_empty()) {
            layout.paragraph(&trailing);
        }
        layout.text.truncate(layout.text.trim_end().len());
        if !layout.text.is_empty() {
            layout.text.push('\n');
        }
        layout.text
    }

    /// What stands under a header of its own.
    fn item(&mut self, path: &[&Key], item: &Item) {
        match item {
            Item::Table(table) => self.table(path, table, Header::Table),
            Item::ArrayOfTables(tables) => {
                for table in in_order(path, tables) {
                    self.table(path, table, Header::Element);
                }
            }
            Item::Value(_) | Item::None => {}
        }
    }

    fn table(&mut self, path: &[&Key], table: &Table, header: Header) {
        let (open, close) = match header {
            Header::Table => ("[", "]"),
            Header::Element => ("[[", "]]"),
        };
        // `[labels.env]` alone makes a table of labels that nobody wrote.
        let written = !table.is_dotted() && (!table.is_implicit() || !table.get_values().is_empty());
        if written {
            self.paragraph(&comments(table.decor().prefix(), true));
            self.text.push_str(&format!("{open}{}{close}", dotted(path)));
            self.line_end(table.decor().suffix());
            let list = path.len() == 1 && matches!(header, Header::Table);
            self.values(table, if list { &[] } else { &KEYS }, list);
        }
        for (key, item) in table.iter() {
            if let Some((key, _)) = table.get_key_value(key) {
                self.item(&[path, &[key]].concat(), item);
            }
        }
    }

    /// The lines of a table, in the order of `known`, others last as they come. A `list` keeps its paragraphs.
    fn values(&mut self, table: &Table, known: &[&str], list: bool) {
        let mut values = table.get_values();
        values.sort_by_key(|(path, _)| path.first().map(|key| rank(known, key.get())));
        for (number, (path, value)) in values.iter().enumerate() {
            let prefix = path.last().and_then(|key| key.leaf_decor().prefix());
            let before = comments(prefix, list);
            self.lines(if number == 0 { without_blank(&before) } else { &before });
            let key = dotted(path);
            let room = MAX_WIDTH.saturating_sub(key.len() + " = ".len());
            self.text.push_str(&format!("{key} = {}", value_text(value, Some(room))));
            self.line_end(value.decor().suffix());
        }
    }

    fn lines(&mut self, lines: &[String]) {
        for line in lines {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// Ends the line with the comment that stood there.
    fn line_end(&mut self, suffix: Option<&RawString>) {
        let comment = raw(suffix).trim();
        if !comment.is_empty() {
            self.text.push(' ');
            self.text.push_str(comment);
        }
        self.text.push('\n');
    }

    /// The lines after a blank one, which the file does not begin with.
    fn paragraph(&mut self, lines: &[String]) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.lines(without_blank(lines));
    }
}

fn rank(known: &[&str], key: &str) -> usize {
    known.iter().position(|other| *other == key).unwrap_or(known.len())
}

/// Rules by id, all else as it comes.
fn in_order<'t>(path: &[&Key], tables: &'t ArrayOfTables) -> Vec<&'t Table> {
    let mut tables: Vec<_> = tables.iter().collect();
    if path.len() == 1 && ["allow", "never"].contains(&path[0].get()) {
        tables.sort_by_key(|table| table.get("id").and_then(Item::as_str));
    }
    tables
}

fn dotted(path: &[&Key]) -> String {
    path.iter().map(|key| key.display_repr()).collect::<Vec<_>>().join(".")
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

/// The comment lines of what stands before something; with `paragraphs`, single blank lines between them.
fn comments(prefix: Option<&RawString>, paragraphs: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // What follows the last line end is the indentation.
    let text = raw(prefix).trim_end_matches([' ', '\t']);
    for line in text.lines().map(str::trim) {
        if !line.is_empty() {
            lines.push(line.to_owned());
        } else if paragraphs && lines.last().is_none_or(|last| !last.is_empty()) {
            lines.push(String::new());
        }
    }
    lines
}

/// The lines without a blank one at their beginning.
fn without_blank(lines: &[String]) -> &[String] {
    match lines {
        [first, rest @ ..] if first.is_empty() => rest,
        lines => lines,
    }
}

/// A value in its one spelling; what has comments inside stays as it is. A list that needs more than `room`
/// goes on lines of its own.
fn value_text(value: &Value, room: Option<usize>) -> String {
    if has_comments(value) {
        let mut bare = value.clone();
        bare.decor_mut().clear();
        return bare.to_string();
    }
    match value {
        Value::String(text) => text.display_repr().into_owned(),
        Value::Integer(number) => number.display_repr().into_owned(),
        Value::Float(number) => number.display_repr().into_owned(),
        Value::Boolean(truth) => truth.display_repr().into_owned(),
        Value::Datetime(time) => time.display_repr().into_owned(),
        Value::Array(array) => array_text(array, room),
        Value::InlineTable(table) => {
            let pairs = table.get_values().into_iter();
            let pairs: Vec<_> = pairs
                .map(|(path, value)| format!("{} = {}", dotted(&path), value_text(value, None)))
                .collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

fn array_text(array: &Array, room: Option<usize>) -> String {
    let elements: Vec<_> = array.iter().map(|element| value_text(element, None)).collect();
    let line = format!("[{}]", elements.join(", "));
    match room {
        Some(room) if line.chars().count() > room => format!("[\n    {},\n]", elements.join(",\n    ")),
        Some(_) | None => line,
    }
}

/// Whether there are comments within the value, not beside it.
fn has_comments(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            false
        }
        Value::Array(array) => {
            let beside = |value: &Value| {
                let decor = value.decor();
                raw(decor.prefix()).contains('#') || raw(decor.suffix()).contains('#')
            };
            raw(Some(array.trailing())).contains('#')
                || array.iter().any(|value| beside(value) || has_comments(value))
        }
        Value::InlineTable(table) => table_has_comments(table),
    }
}

fn table_has_comments(table: &InlineTable) -> bool {
    let marked =
        |decor: &toml_edit::Decor| raw(decor.prefix()).contains('#') || raw(decor.suffix()).contains('#');
    raw(Some(table.trailing())).contains('#')
        || table.get_values().into_iter().any(|(path, value)| {
            let keys = path.iter().any(|key| marked(key.leaf_decor()) || marked(key.dotted_decor()));
            keys || marked(value.decor()) || has_comments(value)
        })
}
