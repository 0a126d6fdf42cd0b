//! Aligned columns without boxes. Nothing that is printed can move the cursor, change a colour or reorder text:
//! every cell passes through [`printable`] first.

use std::fmt;

/// Rows of cells under one line of headings; columns are as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// A list of `name  value` lines without headings.
    pub(crate) fn facts() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a line; an empty cell prints as `-` so that columns can be counted.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { printable(&cell) };
        self.rows.push(cells.map(shown).into());
    }

    /// Adds a `name  value` line.
    pub(crate) fn fact(&mut self, name: &str, value: impl fmt::Display) {
        self.row([name.to_owned(), value.to_string()]);
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
        };
        (0..columns).map(|column| width(column).unwrap_or(0)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text with every character that a terminal acts upon written as an escape: control characters, and the
/// marks that reorder or hide text (Unicode bidirectional controls, zero-width characters, line separators).
pub(crate) fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// [`printable`] for text of several lines: line ends stay, as do tabs.
pub(crate) fn printable_lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["name", "labels"]);
        table.row(["web".into(), "role=web".into()]);
        table.row(["metrics".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME     LABELS\nweb      role=web\nmetrics  -\n");
    }

    #[test]
    fn hostile_cells_cannot_move_the_cursor_or_fake_a_line() {
        let mut table = Table::facts();
        table.fact("name", "a\u{1b}[2J\nroot\u{202e}");
        assert_eq!(table.to_string(), "name  a\\u{1b}[2J\\nroot\\u{202e}\n");
    }

    #[test]
    fn policy_text_keeps_its_lines_and_tabs_but_no_escapes() {
        assert_eq!(printable_lines("a\n\tb\u{7}\n"), "a\n\tb\\u{7}");
    }
}
