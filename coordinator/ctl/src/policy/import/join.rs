//! Two halves into one: a permission of the source's egress and one of the destination's ingress are a rule from end to
//! end, where anything meets both.

use super::constraint::{Constraint, MAX_SPLITS};
use super::encode::{self, EGRESS_KEY, INGRESS_KEY, OPEN};
use super::selection::Selection;
use bulkhead_acl::{PortSet, Selector, Term};
use std::collections::BTreeSet;

/// Most rules that come out: what the language itself takes.
pub(super) const MAX_IMPORTED_RULES: usize = 100_000;
/// Most pairs of an egress and an ingress grant that are looked at.
const MAX_PAIRS: usize = 4_000_000;
/// Ids up to here say which policy a rule is from; longer ones are numbered.
const MAX_TELLING_ID_BYTES: usize = 110;

/// A rule of ours.
#[derive(Clone, Debug)]
pub(super) struct ImportedRule {
    pub(super) id: String,
    pub(super) from: Selector,
    pub(super) to: Selector,
    pub(super) ports: PortSet,
    pub(super) why: String,
}

/// What one policy permits pods that it selects, in one direction.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) from: Constraint,
    pub(super) to: Constraint,
    pub(super) ports: PortSet,
    pub(super) id: String,
    pub(super) why: String,
}

/// Of `constraint`, those that no policy selects for the direction of `key`.
fn open(constraint: &Constraint, key: &'static str) -> Constraint {
    let mut open = constraint.clone();
    open.require_value(encode::own_key(key), encode::own_value(OPEN));
    open
}

/// All rules: see the module of the translation.
///
/// # Errors
/// When they are more than the language takes.
pub(super) fn join(ingress: &[Grant], egress: &[Grant]) -> Result<Vec<ImportedRule>, String> {
    let mut rules = Rules::default();
    let everyone = Selection::everything().constraint;
    rules.add(&Grant {
        from: open(&everyone, EGRESS_KEY),
        to: open(&everyone, INGRESS_KEY),
        ports: PortSet::any(),
        id: "k8s.open".to_owned(),
        why: "no NetworkPolicy selects either side".to_owned(),
    })?;
    for grant in ingress {
        rules.add(&Grant { from: open(&grant.from, EGRESS_KEY), ..grant.clone() })?;
    }
    for grant in egress {
        rules.add(&Grant { to: open(&grant.to, INGRESS_KEY), ..grant.clone() })?;
    }
    let pairs = ingress.len().saturating_mul(egress.len());
    if pairs > MAX_PAIRS {
        return Err(format!(
            "{pairs} pairs of an egress and an ingress peer, more than {MAX_PAIRS} (MAX_PAIRS)"
        ));
    }
    for (inward, outward) in ingress.iter().flat_map(|i| egress.iter().map(move |e| (i, e))) {
        let (from, to) = (inward.from.and(&outward.from), inward.to.and(&outward.to));
        if from.is_impossible() || to.is_impossible() {
            continue;
        }
        rules.add(&Grant {
            from,
            to,
            ports: inward.ports.intersection(&outward.ports),
            id: format!("{}.{}", outward.id, inward.id),
            why: format!("{}; {}", outward.why, inward.why),
        })?;
    }
    Ok(rules.rules)
}

#[derive(Default)]
struct Rules {
    rules: Vec<ImportedRule>,
    ids: BTreeSet<String>,
}

impl Rules {
    /// Adds the rules of one grant; none when no identity, or no service, meets both of its sides.
    fn add(&mut self, grant: &Grant) -> Result<(), String> {
        if grant.ports.is_empty() || grant.from.is_impossible() || grant.to.is_impossible() {
            return Ok(());
        }
        let split = |side: &Constraint| {
            side.split().ok_or_else(|| {
                format!(
                    "{}: NotIn and DoesNotExist split it into more than {MAX_SPLITS} rules (MAX_SPLITS)",
                    grant.why
                )
            })
        };
        let selector = |terms: &[Term]| {
            Selector::all_of(terms.iter().cloned())
                .ok_or_else(|| format!("{}: more terms than a selector takes (MAX_TERMS)", grant.why))
        };
        let to_sides = split(&grant.to)?;
        for from in split(&grant.from)? {
            for to in &to_sides {
                if self.rules.len() == MAX_IMPORTED_RULES {
                    return Err(format!("more than {MAX_IMPORTED_RULES} rules (MAX_IMPORTED_RULES)"));
                }
                let rule = ImportedRule {
                    id: self.id(&grant.id),
                    from: selector(&from)?,
                    to: selector(to)?,
                    ports: grant.ports.clone(),
                    why: grant.why.clone(),
                };
                self.rules.push(rule);
            }
        }
        Ok(())
    }

    fn id(&mut self, telling: &str) -> String {
        let start = if telling.len() <= MAX_TELLING_ID_BYTES { telling } else { "k8s.rule" };
        let mut id = start.to_owned();
        let mut number = 1_usize;
        while !self.ids.insert(id.clone()) {
            // Ids that ran out of telling names are counted by all rules, so that this does not start over each time.
            number = if start == telling { number + 1 } else { self.rules.len().max(number) + 1 };
            id = format!("{start}.{number}");
        }
        id
    }
}
