//! A plan for people: a section for each kind of effect, those that hurt most last, where a terminal leaves them.

use super::Answer;
use crate::moment;
use crate::policy::count_of;
use crate::table::{Table, printable};
use bulkhead_acl::question::{ClassView, Kind, Loss};
use bulkhead_acl::{PortSet, RuleId};
use bulkhead_identity::NodeName;
use std::collections::BTreeSet;

/// Names of nodes that stand for their class.
const EXAMPLES: usize = 3;
/// Nodes that one line names.
const MAX_NAMED: usize = 20;

/// `nothing`: no connection would be judged differently, at any time.
pub(super) fn text(answer: &Answer<'_>, nothing: bool) -> String {
    let sections = [changes(answer), later(answer), unused(answer), cut_flows(answer), lost_ways(answer)];
    let mut text: String = sections.into_iter().flatten().map(|section| section + "\n").collect();
    text.push_str(&summary(answer, nothing));
    text
}

fn changes(answer: &Answer<'_>) -> Option<String> {
    match &answer.pairs {
        Some(pairs) => {
            let rows = pairs.iter().flat_map(|pair| {
                gained_and_lost(pair.gained, pair.lost)
                    .map(|(change, ports)| [change, pair.from.to_string(), pair.to.to_string(), ports])
            });
            section(None, &["change", "from", "to", "ports"], gains_first(rows.collect()))
        }
        None => {
            let rows = answer.plan.classes.iter().flat_map(|change| {
                let (from, to) = (class(answer, change.from), class(answer, change.to));
                let by = ids(&change.by);
                gained_and_lost(&change.gained, &change.lost)
                    .map(move |(change, ports)| [change, from.clone(), to.clone(), ports, by.clone()])
            });
            section(None, &["change", "from", "to", "ports", "by"], gains_first(rows.collect()))
        }
    }
}

/// Each in the order of the classes.
fn gains_first<const N: usize>(mut rows: Vec<[String; N]>) -> Vec<[String; N]> {
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    rows
}

fn later(answer: &Answer<'_>) -> Option<String> {
    let rows = answer.plan.timed.iter().flat_map(|change| {
        let (from, to) = (class(answer, change.from), class(answer, change.to));
        let (at, by) = (moment::show(change.at), ids(&change.by));
        gained_and_lost(&change.gained, &change.lost)
            .map(move |(what, ports)| [at.clone(), what, from.clone(), to.clone(), ports, by.clone()])
    });
    section(Some("at other times"), &["first at", "change", "from", "to", "ports", "by"], rows.collect())
}

fn unused(answer: &Answer<'_>) -> Option<String> {
    let rows = answer.plan.unused.iter().map(|rule| {
        let kind = match rule.kind {
            Kind::Never => "never",
            Kind::Allow => "allow",
        };
        let since = if rule.was_used {
            "used so far"
        } else if answer.plan.rules.added.contains(&rule.rule) {
            "new"
        } else {
            "as before"
        };
        [rule.rule.to_string(), kind.to_owned(), format!("{}:{}", rule.file, rule.line), since.to_owned()]
    });
    section(Some("rules that join no two nodes"), &["rule", "kind", "at", "since"], rows.collect())
}

fn cut_flows(answer: &Answer<'_>) -> Option<String> {
    let rows = answer.cut?.iter().map(|cut| {
        let flow = &cut.flow;
        [flow.from.to_string(), flow.to.to_string(), flow.service.to_string(), cut.was.to_string()]
    });
    section(
        Some("live connections that end"),
        &["from", "to", "service", "allowed so far by"],
        rows.collect(),
    )
}

fn lost_ways(answer: &Answer<'_>) -> Option<String> {
    let rows = answer.lost_ways?.iter().map(|way| {
        let when = match way.loss {
            Loss::Now => "at once".to_owned(),
            Loss::Later(at) => format!("from {}", moment::show(at)),
            Loss::Unknown => "perhaps, at a time not looked at (MAX_MOMENTS)".to_owned(),
        };
        [way.node.to_string(), way.lost.to_string(), when, ids(&way.by)]
    });
    let headings = ["node", "ports", "when", "by"];
    section(Some("nodes that lose their way to the coordinator"), &headings, rows.collect())
}

fn summary(answer: &Answer<'_>, nothing: bool) -> String {
    let mut lines = vec![format!("{} -> {}: {}", answer.old.name, answer.new.name, rules(answer))];
    if nothing {
        lines.push("no connection between these nodes changes, at any time".to_owned());
    } else {
        let gain = pairs(answer.summary.pairs_gained, "gain");
        let lose = pairs(answer.summary.pairs_lost, "lose");
        let later = pairs(answer.summary.pairs_timed, "change");
        lines.push(format!("{gain}, {lose}; at other times only, {later}"));
    }
    if !answer.plan.complete {
        lines.push(
            "this is not all: the change is larger than a plan shows (MAX_CLASS_CHANGES, MAX_MOMENTS)"
                .to_owned(),
        );
    }
    match answer.cut {
        Some(cut) => lines.push(format!("{} would end", count_of(cut.len(), "live connection"))),
        None => lines.push("live connections are known to a coordinator only".to_owned()),
    }
    if !answer.silent.is_empty() {
        lines.push(format!("did not say which connections they have: {}", answer.silent.join(", ")));
    }
    if !answer.unasked.is_empty() {
        lines.push(format!("not connected, so not asked for connections: {}", some(answer.unasked)));
    }
    if answer.flows_truncated {
        lines.push("there are more live connections than one answer holds: more may end".to_owned());
    }
    match answer.lost_ways {
        Some([]) => lines.push("no node loses its way to the coordinator".to_owned()),
        Some(ways) => {
            // A way may be lost in parts, one now and one later.
            let nodes: BTreeSet<_> = ways.iter().map(|way| &way.node).collect();
            lines.push(format!("{} its way to the coordinator", loses(nodes.len())));
        }
        None => lines.push("--coordinator-node NAME also shows who loses the way to it".to_owned()),
    }
    lines.iter().map(|line| format!("# {}\n", printable(line))).collect()
}

/// The first names, and how many more there are; JSON has them all.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(MAX_NAMED);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn rules(answer: &Answer<'_>) -> String {
    let rules = &answer.plan.rules;
    let (added, removed, changed) = (rules.added.len(), rules.removed.len(), rules.changed.len());
    format!("{} added, {removed} removed, {changed} changed", count_of(added, "rule"))
}

fn loses(nodes: usize) -> String {
    if nodes == 1 { "1 node loses".to_owned() } else { format!("{nodes} nodes lose") }
}

fn pairs(count: u64, verb: &str) -> String {
    if count == 1 { format!("1 pair {verb}s") } else { format!("{count} pairs {verb}") }
}

fn section<const N: usize>(title: Option<&str>, headings: &[&str], rows: Vec<[String; N]>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut table = Table::new(headings);
    for row in rows {
        table.row(row);
    }
    let title = title.map(|title| format!("# {title}\n")).unwrap_or_default();
    Some(format!("{title}{table}"))
}

fn gained_and_lost(gained: &PortSet, lost: &PortSet) -> impl Iterator<Item = (String, String)> + use<> {
    [("gained", gained), ("lost", lost)]
        .into_iter()
        .filter(|(_, ports)| !ports.is_empty())
        .map(|(change, ports)| (change.to_owned(), ports.to_string()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn class(answer: &Answer<'_>, number: usize) -> String {
    answer.plan.views.get(number).map(view).unwrap_or_default()
}

/// `env=prod,role=web (3: web-1, web-2, web-3)`
fn view(view: &ClassView) -> String {
    let names: Vec<_> = view.nodes.iter().take(EXAMPLES).map(NodeName::as_str).collect();
    let more = if view.nodes.len() > names.len() { ", …" } else { "" };
    let labels = if view.labels.is_empty() { "no labels".to_owned() } else { view.labels.to_string() };
    format!("{labels} ({}: {}{more})", view.nodes.len(), names.join(", "))
}

fn ids(rules: &[RuleId]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
