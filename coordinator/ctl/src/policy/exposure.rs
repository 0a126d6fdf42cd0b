//! What may reach what, whoever there may be: over all label combinations that the schema allows, and without `--at`
//! over every moment from now on.

use super::basis::Basis;
use super::count_of;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::{Table, printable};
use bulkhead_acl::question::{Exposed, ExposureQuery, exposure};
use bulkhead_identity::Timestamp;
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    /// The moment that it was asked about; `null`: any from now on.
    at: Option<Timestamp>,
    exposed: Vec<Exposed>,
}

/// `policy exposure`.
pub(super) fn run(asked: &command::Exposure, basis: &Basis, screen: Screen) -> Result<(), Failure> {
    let answer = Answer { at: basis.named_moment(), exposed: exposed(asked, basis)? };
    screen.answer("policy-exposure", &answer, |answer| text(&answer.exposed, basis))
}

fn exposed(asked: &command::Exposure, basis: &Basis) -> Result<Vec<Exposed>, Failure> {
    let selector = |text: &Option<String>| text.as_deref().map(|text| basis.selector(text)).transpose();
    let query = ExposureQuery {
        from: selector(&asked.from)?,
        to: selector(&asked.to)?,
        ports: basis.ports(asked.ports.as_deref())?,
    };
    let (names, rules) = (&basis.checked.names, &basis.checked.rules);
    Ok(exposure(names, rules, &query, basis.when()).map_err(anyhow::Error::new)?)
}

fn text(exposed: &[Exposed], basis: &Basis) -> String {
    let count = if exposed.is_empty() { "nothing is".to_owned() } else { are(exposed.len()) };
    let line = printable(&format!("# {count} permitted {}{}", basis.at_some_time(), basis.under()));
    if exposed.is_empty() {
        return line;
    }
    let mut table = Table::new(&["from", "to", "if", "ports", "rules"]);
    for Exposed { from, to, same, differ, ports, rules } in exposed {
        let same = same.iter().map(|key| format!("same {key}"));
        let conditions: Vec<_> = same.chain(differ.iter().map(|key| format!("other {key}"))).collect();
        let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
        table.row([
            from.to_string(),
            to.to_string(),
            conditions.join(", "),
            ports.to_string(),
            rules.join(", "),
        ]);
    }
    format!("{table}{line}")
}

fn are(count: usize) -> String {
    format!("{} {}", count_of(count, "combination"), if count == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{basis, policy_verb};

    fn ask(words: &str) -> String {
        let command::Policy::Exposure(asked) = policy_verb(&format!("exposure {words}")) else {
            panic!("{words}")
        };
        let basis = basis();
        text(&exposed(&asked, &basis).unwrap(), &basis)
    }

    #[test]
    fn exposure_is_one_line_for_each_combination() {
        insta::assert_snapshot!(ask("--to role=plc"), @r"
        FROM                      TO                  IF  PORTS    RULES
        env=prod, role=historian  env=prod, role=plc  -   icmp     ping
        role=historian            role=plc            -   tcp/502  modbus
        # 2 combinations are permitted at any time  (policy 7)
        ");
        insta::assert_snapshot!(ask("--to role=db --ports postgres"), @r"
        FROM                TO                 IF  PORTS     RULES
        env=prod, role=web  env=prod, role=db  -   tcp/5432  web-to-db
        # 1 combination is permitted at any time  (policy 7)
        ");
        insta::assert_snapshot!(ask("--from role=plc --to role=plc --ports tcp/502"), @"# nothing is permitted at any time  (policy 7)");
    }
}
