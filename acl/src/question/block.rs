//! Sets of flows as products: who opens, who answers, what the two share, which services.
//!
//! A rule speaks of one such block (a `differ` of several keys: of one each), and what is left of a block
//! when another is taken away is a few blocks that do not overlap. So "allowed and not forbidden" is computed,
//! not searched for, over every label combination that the schema allows. A key whose values the schema
//! leaves open may have values that no rule names.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_identity::{LabelKey, LabelValue, Labels, name::MAX_LABELS};

use crate::{
    Polarity, PortSet, Rule, Schema,
    question::{
        Example, TooMany,
        who::{Called, Who},
    },
    region::{Present, Values},
};

/// Most steps that one question takes: comparing two blocks is one.
pub const MAX_COMBINATIONS: usize = 4_000_000;
/// What it takes to cut a piece off a block, in steps for each of its bounds.
const CUT: usize = 4;

/// Every flow of `ports` from one of `from` to one of `to`, where `relations` hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    pub(super) from: Who,
    pub(super) to: Who,
    pub(super) relations: BTreeMap<LabelKey, Relation>,
    pub(super) ports: PortSet,
}

/// Whether both sides carry one value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Shared,
    /// Different values, or one side without the label, or both.
    Unshared,
}

#[derive(Clone, Copy)]
enum End {
    From,
    To,
}

impl Block {
    /// What `rule` speaks of: blocks that do not overlap.
    pub(super) fn of(rule: &Rule, polarity: Polarity, schema: &Schema) -> Vec<Self> {
        let side = |selector| Who::of(selector, polarity, schema);
        let (Some(from), Some(to)) = (side(&rule.from), side(&rule.to)) else { return Vec::new() };
        let keys: BTreeSet<_> = rule.related.iter().filter_map(|key| LabelKey::parse(key).ok()).collect();
        let whole = Self { from, to, relations: BTreeMap::new(), ports: rule.ports.clone() };
        let with = |relations: BTreeMap<LabelKey, Relation>| Self { relations, ..whole.clone() };
        let shared =
            |keys: &BTreeSet<LabelKey>| keys.iter().map(|key| (key.clone(), Relation::Shared)).collect();
        match polarity {
            Polarity::Allow => vec![with(shared(&keys))],
            Polarity::Never if keys.is_empty() => vec![whole],
            Polarity::Never => {
                // The first key that is not shared tells the block.
                let mut before = BTreeSet::new();
                let mut blocks = Vec::new();
                for key in keys {
                    let mut relations: BTreeMap<_, _> = shared(&before);
                    relations.insert(key.clone(), Relation::Unshared);
                    blocks.push(with(relations));
                    before.insert(key);
                }
                blocks
            }
        }
    }

    fn side(&self, end: End) -> &Who {
        match end {
            End::From => &self.from,
            End::To => &self.to,
        }
    }

    fn side_mut(&mut self, end: End) -> &mut Who {
        match end {
            End::From => &mut self.from,
            End::To => &mut self.to,
        }
    }

    /// The flows in both.
    pub(super) fn and(&self, other: &Self, schema: &Schema) -> Option<Self> {
        let mut both = self.clone();
        both.ports = self.ports.intersection(&other.ports);
        if both.ports.is_empty() {
            return None;
        }
        for end in [End::From, End::To] {
            let (own, theirs) = (both.side_mut(end), other.side(end));
            own.node = own.node.and(&theirs.node)?;
            for (key, values) in &theirs.labels {
                let narrowed = own.labels.get(key).map_or_else(|| values.clone(), |own| own.and(values));
                if narrowed.is_empty() {
                    return None;
                }
                own.labels.insert(key.clone(), narrowed);
            }
        }
        for (key, relation) in &other.relations {
            if both.relations.insert(key.clone(), *relation).is_some_and(|own| own != *relation) {
                return None;
            }
        }
        (!both.is_empty(schema)).then_some(both)
    }

    /// Whether any flow is in both.
    fn meets(&self, other: &Self, schema: &Schema) -> bool {
        let sides = || [End::From, End::To].map(|end| (self.side(end), other.side(end))).into_iter();
        let apart = |key, relation: &Relation| self.relations.get(key).is_some_and(|own| own != relation);
        // What is told without building the intersection; most pairs of blocks are.
        let cheap = self.ports.meets(&other.ports)
            && sides().all(|(own, theirs)| own.meets(theirs))
            && !other.relations.iter().any(|(key, relation)| apart(key, relation));
        cheap && self.and(other, schema).is_some()
    }

    /// The flows in this block and not in `other`, which overlaps it: blocks that do not overlap.
    fn without(&self, other: &Self, schema: &Schema) -> Vec<Self> {
        // Each bound of the other cuts a piece off; what is within all of its bounds is what goes.
        let mut pieces = Vec::new();
        let mut rest = self.clone();
        for end in [End::From, End::To] {
            for (key, values) in &other.side(end).labels {
                let own = rest.side(end).values(key, schema);
                let mut piece = rest.clone();
                piece.side_mut(end).labels.insert(key.clone(), own.without(values));
                pieces.push(piece);
                rest.side_mut(end).labels.insert(key.clone(), own.and(values));
            }
            for node in rest.side(end).node.without(&other.side(end).node) {
                let mut piece = rest.clone();
                piece.side_mut(end).node = node;
                pieces.push(piece);
            }
            let Some(node) = rest.side(end).node.and(&other.side(end).node) else { return pieces };
            rest.side_mut(end).node = node;
        }
        for (key, relation) in &other.relations {
            if rest.relations.insert(key.clone(), *relation).is_none() {
                let mut piece = rest.clone();
                piece.relations.insert(key.clone(), relation.opposite());
                pieces.push(piece);
            }
        }
        pieces.push(Self { ports: rest.ports.difference(&other.ports), ..rest });
        pieces.retain(|piece| !piece.is_empty(schema));
        pieces
    }

    /// Whether no flow between two identities of the schema is in it.
    fn is_empty(&self, schema: &Schema) -> bool {
        let nobody = |who: &Who| who.labels.values().any(Values::is_empty) || self.needs(who) > MAX_LABELS;
        // No node is its own peer.
        let same_node =
            matches!((&self.from.node, &self.to.node), (Called::Only(a), Called::Only(b)) if a == b);
        let impossible = |(key, relation): (&LabelKey, &Relation)| {
            !relation.is_possible(&self.from.values(key, schema), &self.to.values(key, schema))
        };
        self.ports.is_empty()
            || same_node
            || nobody(&self.from)
            || nobody(&self.to)
            || self.relations.iter().any(impossible)
    }

    fn bounds(&self) -> usize {
        1 + self.from.labels.len() + self.to.labels.len() + self.relations.len()
    }

    /// How many labels one on this side carries at least.
    fn needs(&self, who: &Who) -> usize {
        let own = who.labels.iter().filter(|(_, values)| !values.missing).map(|(key, _)| key);
        let shared = self.relations.iter().filter(|(_, relation)| **relation == Relation::Shared);
        own.chain(shared.map(|(key, _)| key)).collect::<BTreeSet<_>>().len()
    }

    /// The same flows, with what both sides share bounded alike.
    pub(super) fn aligned(mut self, schema: &Schema) -> Self {
        let shared = self.relations.iter().filter(|(_, relation)| **relation == Relation::Shared);
        for (key, _) in shared {
            let both = self.from.values(key, schema).and(&self.to.values(key, schema));
            let present = |values: Values| Values { missing: false, ..values };
            let (both, all) = (present(both), present(Values::all(key, schema)));
            for who in [&mut self.from, &mut self.to] {
                // To share a label is to have it.
                if both == all {
                    who.labels.remove(key);
                } else {
                    who.labels.insert(key.clone(), both.clone());
                }
            }
        }
        self
    }

    /// Two identities of the block, with few labels.
    pub(super) fn example(&self, schema: &Schema) -> (Example, Example) {
        let (mut source, mut destination) = (Vec::new(), Vec::new());
        let keys: BTreeSet<_> =
            self.from.labels.keys().chain(self.to.labels.keys()).chain(self.relations.keys()).collect();
        for key in keys {
            let sides = (self.from.values(key, schema), self.to.values(key, schema));
            let (from, to) = choose(self.relations.get(key), &sides.0, &sides.1);
            source.extend(from.map(|value| (key.clone(), value)));
            destination.extend(to.map(|value| (key.clone(), value)));
        }
        let example = |who: &Who, labels: Vec<_>| Example {
            node: match &who.node {
                Called::Only(name) => Some(name.clone()),
                Called::Except(_) => None,
            },
            labels: Labels::new(labels).unwrap_or_default(),
        };
        (example(&self.from, source), example(&self.to, destination))
    }
}

impl Relation {
    fn opposite(self) -> Self {
        match self {
            Self::Shared => Self::Unshared,
            Self::Unshared => Self::Shared,
        }
    }

    fn is_possible(self, from: &Values, to: &Values) -> bool {
        match self {
            Self::Shared => from.and(to).pick(None).is_some(),
            // Impossible only where both sides are bound to the same single value.
            Self::Unshared => {
                let single = |values: &Values| match &values.present {
                    Present::Only(set) if set.len() == 1 && !values.missing => set.first().cloned(),
                    Present::Only(_) | Present::Except(_) => None,
                };
                single(from).is_none_or(|value| single(to) != Some(value))
            }
        }
    }
}

/// One label of the source and of the destination; none where it may be missing.
fn choose(
    relation: Option<&Relation>,
    from: &Values,
    to: &Values,
) -> (Option<LabelValue>, Option<LabelValue>) {
    let simple = |values: &Values| if values.missing { None } else { values.pick(None) };
    match relation {
        Some(Relation::Shared) => {
            let value = from.and(to).pick(None);
            (value.clone(), value)
        }
        Some(Relation::Unshared) if !from.missing && !to.missing => {
            let source = from.pick(None);
            match to.pick(source.as_ref()) {
                Some(destination) => (source, Some(destination)),
                None => (from.pick(source.as_ref()), source),
            }
        }
        Some(Relation::Unshared) | None => (simple(from), simple(to)),
    }
}

/// Takes every never away from blocks, within one limit for a whole question.
pub(super) struct Remainder<'a> {
    nevers: Vec<Block>,
    schema: &'a Schema,
    steps: usize,
}

impl<'a> Remainder<'a> {
    /// For blocks within `whole`.
    pub(super) fn new<'r>(nevers: impl Iterator<Item = &'r Rule>, whole: &Block, schema: &'a Schema) -> Self {
        let blocks = nevers.flat_map(|rule| Block::of(rule, Polarity::Never, schema));
        let nevers = blocks.filter(|never| whole.meets(never, schema)).collect();
        Self { nevers, schema, steps: 0 }
    }

    /// Calls `found` for what is left of `block`, piece by piece, until it says to stop.
    pub(super) fn each(
        &mut self,
        block: Block,
        mut found: impl FnMut(Block) -> std::ops::ControlFlow<()>,
    ) -> Result<(), TooMany> {
        let mut open = vec![(block, 0)];
        while let Some((block, start)) = open.pop() {
            if self.steps > MAX_COMBINATIONS {
                return Err(TooMany { limit: MAX_COMBINATIONS, name: "MAX_COMBINATIONS" });
            }
            let met = self.nevers[start..].iter().position(|never| block.meets(never, self.schema));
            self.steps += met.map_or(self.nevers.len() - start, |at| at + 1).max(1);
            match met.map(|at| start + at) {
                Some(at) => {
                    let pieces = block.without(&self.nevers[at], self.schema);
                    self.steps += pieces.iter().map(|piece| CUT * piece.bounds()).sum::<usize>();
                    open.extend(pieces.into_iter().rev().map(|piece| (piece, at + 1)));
                }
                None if found(block).is_break() => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }
}
