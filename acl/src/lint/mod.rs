//! What is allowed in the language and still deserves a look. Warnings only; nothing here grants or forbids.
//!
//! A policy that says what it means gets none, and what was not looked at is said too: silence means that
//! there was nothing to say.

mod inventory;
mod pairs;
mod single;
mod unused;

use bulkhead_identity::Timestamp;

use crate::{
    Polarity, Subject,
    compile::Compiled,
    document::Document,
    hours::Schedule,
    names::Names,
    place::{Findings, Located, Place},
    region::Region,
};

/// A policy without errors, with what it is looked at by.
pub(crate) struct Reading<'a> {
    pub(crate) document: &'a Document,
    pub(crate) allow: &'a [Compiled<'a>],
    pub(crate) never: &'a [Compiled<'a>],
    pub(crate) names: &'a Names,
    pub(crate) wall: Timestamp,
    pub(crate) nodes: Option<&'a [Subject]>,
}

/// A rule with what it spans.
struct Extended<'a> {
    compiled: &'a Compiled<'a>,
    from: Region<'a>,
    to: Region<'a>,
    schedule: Schedule,
}

impl<'a> Reading<'a> {
    /// Warns about each rule by itself, about rules that make others pointless, and about what is not used.
    pub(crate) fn lint(&self, findings: &mut Findings<'_>) {
        let allow: Vec<_> = self.allow.iter().map(|rule| self.extended(rule, Polarity::Allow)).collect();
        let never: Vec<_> = self.never.iter().map(|rule| self.extended(rule, Polarity::Never)).collect();
        single::lint(&allow, &never, self.wall, findings);
        pairs::lint(&allow, &never, findings);
        unused::lint(self, findings);
        inventory::lint(self, findings);
    }

    fn extended(&self, compiled: &'a Compiled<'a>, polarity: Polarity) -> Extended<'a> {
        let region = |selector| Region::of(selector, polarity, &self.names.schema);
        let (from, to) = (region(&compiled.rule.from), region(&compiled.rule.to));
        Extended { compiled, from, to, schedule: Schedule::of(&compiled.rule.hours) }
    }
}

impl Extended<'_> {
    /// Whether the rule speaks of no two identities at all.
    fn is_empty(&self) -> bool {
        self.from.is_empty() || self.to.is_empty()
    }

    /// The first of its related labels that its two sides can never share.
    fn never_shared(&self) -> Option<&Located<String>> {
        let related = self.compiled.statement.related.iter();
        related.into_iter().find(|key| self.from.shares_nothing(&self.to, &key.value))
    }

    /// Where the rule is shown: at its id.
    fn place(&self) -> &Place {
        let statement = self.compiled.statement;
        statement.id.as_ref().map_or(&statement.place, |id| &id.place)
    }

    /// The rule as others name it, to be found in its file.
    fn named(&self) -> String {
        let rule = &self.compiled.rule;
        format!("{} ({}:{})", rule.id, rule.file, rule.line)
    }
}
