//! Reading tables of the configuration: every key is known or a mistake, and every mistake is told, with its line.

use anyhow::{Context, Result};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a file.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    pub(super) fn add(&mut self, span: Range<usize>, what: &str) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        self.found.push((before.matches('\n').count() + 1, what.to_owned()));
    }

    /// All of them, in the order of the file, as `line: what`.
    pub(super) fn none_or_all(mut self) -> Result<(), Vec<String>> {
        self.found.sort();
        match self.found.is_empty() {
            true => Ok(()),
            false => Err(self.found.into_iter().map(|(line, what)| format!("{line}: {what}")).collect()),
        }
    }
}

/// One table, such as `[web]`.
pub(super) struct Section<'a> {
    /// As in its heading.
    pub(super) name: &'static str,
    pub(super) table: &'a DeTable<'a>,
    /// Where mistakes are shown that have no line of their own.
    pub(super) span: Range<usize>,
}

impl<'a> Section<'a> {
    /// The table of this name, if there is one.
    pub(super) fn one(all: &'a DeTable<'a>, name: &'static str, problems: &mut Problems<'_>) -> Option<Self> {
        let (key, value) = find(all, name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            problems.add(key, &format!("`{name}` must be a table: [{name}]"));
        }
        table.map(|table| Self { name, table, span: value.span() })
    }

    /// Every table of this name.
    pub(super) fn many(
        all: &'a DeTable<'a>,
        name: &'static str,
        max: usize,
        problems: &mut Problems<'_>,
    ) -> Vec<Self> {
        let Some((key, value)) = find(all, name) else { return Vec::new() };
        let items = value.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>());
        let tables: Option<Vec<_>> = items.and_then(|items| {
            let section = |item: &'a Spanned<DeValue<'a>>| {
                item.get_ref().as_table().map(|table| Self { name, table, span: item.span() })
            };
            items.into_iter().map(section).collect()
        });
        let Some(tables) = tables else {
            problems.add(key, &format!("`{name}` must be tables: [[{name}]]"));
            return Vec::new();
        };
        if tables.len() > max {
            problems.add(key, &format!("there are {} [[{name}]], and at most {max} are taken", tables.len()));
        }
        tables
    }

    /// Hands every key with its value to `set`, and notes what it says against them.
    pub(super) fn each(
        &self,
        problems: &mut Problems<'_>,
        mut set: impl FnMut(&str, &'a DeValue<'a>) -> Result<()>,
    ) {
        for (key, value) in self.table {
            if let Err(error) = set(key.get_ref(), value.get_ref()) {
                problems.add(key.span(), &format!("{error:#}"));
            }
        }
    }

    /// A key that has to be there. That it is there and wrong is told elsewhere.
    pub(super) fn need<T>(&self, key: &str, value: Option<T>, problems: &mut Problems<'_>) -> Option<T> {
        if !self.table.iter().any(|(known, _)| known.get_ref() == key) {
            problems.add(self.span.clone(), &format!("`{}` needs `{key}`", self.name));
        }
        value
    }
}

fn find<'a>(all: &'a DeTable<'a>, name: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
    all.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span(), value))
}

pub(super) fn text<'a>(key: &str, value: &'a DeValue<'_>) -> Result<&'a str> {
    value.as_str().with_context(|| format!("`{key}` must be a string"))
}

pub(super) fn flag(key: &str, value: &DeValue<'_>) -> Result<bool> {
    value.as_bool().with_context(|| format!("`{key}` must be true or false"))
}

pub(super) fn texts<'a>(key: &str, value: &'a DeValue<'_>) -> Result<Vec<&'a str>> {
    let list = value.as_array().map(|list| list.iter().map(|item| item.get_ref().as_str()));
    let texts = list.and_then(|texts| texts.collect::<Option<_>>());
    texts.with_context(|| format!("`{key}` must be a list of strings"))
}

/// The entries of a table within a table.
pub(super) fn entries<'a>(key: &str, value: &'a DeValue<'a>) -> Result<Vec<(&'a str, &'a DeValue<'a>)>> {
    let table = value.as_table().with_context(|| format!("`{key}` must be a table: {{ name = … }}"))?;
    Ok(table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref())).collect())
}
