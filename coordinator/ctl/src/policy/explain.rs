//! Why: every rule that was considered, in order of closeness, and what each of them lacks.

use super::basis::Basis;
use super::can;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::{Table, printable};
use bulkhead_acl::Service;
use bulkhead_acl::question::{Explanation, Kind, explain};
use bulkhead_identity::NodeName;
use serde::Serialize;

/// Rules that are shown unless all are asked for.
const CLOSEST: usize = 8;

#[derive(Serialize)]
struct Answer<'a> {
    from: &'a NodeName,
    to: &'a NodeName,
    service: Service,
    allowed: bool,
    #[serde(flatten)]
    explanation: Explanation,
}

/// `policy explain`. Exits as `policy can` does.
pub(super) fn run(asked: &command::Explain, basis: &Basis, screen: Screen) -> Result<(), Failure> {
    let explanation = explanation(asked, basis)?;
    let allowed = explanation.decision.is_allowed();
    let (from, to, service) = (&asked.from, &asked.to, asked.service);
    let answer = Answer { from, to, service, allowed, explanation };
    screen.answer("explanation", &answer, |answer| text(asked, basis, &answer.explanation))?;
    if allowed { Ok(()) } else { Err(Failure::Denied) }
}

fn explanation(asked: &command::Explain, basis: &Basis) -> Result<Explanation, Failure> {
    let (from, to) = (basis.node(&asked.from)?, basis.node(&asked.to)?);
    Ok(explain(&basis.checked.rules, from, to, asked.service, basis.at))
}

fn text(asked: &command::Explain, basis: &Basis, explanation: &Explanation) -> String {
    let command::Explain { from, to, service, all, .. } = asked;
    let sentence = can::sentence(&explanation.decision, &basis.checked.rules);
    let line = printable(&format!("{from} -> {to} {service}: {sentence}{}", basis.under())) + "\n";
    if explanation.considered.is_empty() {
        return line;
    }
    let shown = if *all { explanation.considered.len() } else { CLOSEST };
    let mut table = Table::new(&["rule", "kind", "at", "matches", "lacks"]);
    for rule in explanation.considered.iter().take(shown) {
        let kind = match rule.kind {
            Kind::Never => "never",
            Kind::Allow => "allow",
        };
        table.row([
            rule.rule.to_string(),
            kind.to_owned(),
            format!("{}:{}", rule.file, rule.line),
            if rule.matched { "yes" } else { "no" }.to_owned(),
            rule.missing.join("; "),
        ]);
    }
    let left = explanation.considered.len().saturating_sub(shown);
    let more = if left == 0 { String::new() } else { format!("# and {left} more: --all shows them\n") };
    format!("{line}{table}{more}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{basis, policy_verb};

    fn ask(words: &str) -> String {
        let command::Policy::Explain(asked) = policy_verb(&format!("explain {words}")) else {
            panic!("{words}")
        };
        let basis = basis();
        text(&asked, &basis, &explanation(&asked, &basis).unwrap())
    }

    #[test]
    fn the_rules_that_decided_come_first_and_then_the_closest() {
        insta::assert_snapshot!(ask("web-1 db tcp/5432"), @r"
        web-1 -> db tcp/5432: allowed by web-to-db (base.toml:16)  (policy 7)
        RULE                     KIND   AT            MATCHES  LACKS
        web-to-db                allow  base.toml:16  yes      -
        plc-only-from-historian  never  base.toml:41  no       destination db must match `role=plc`, has role=db
        ping                     allow  base.toml:25  no       tcp/5432 is not among its ports: icmp
        modbus                   allow  base.toml:33  no       destination db must match `role=plc`, has role=db; tcp/5432 is not among its ports: tcp/502
        ");
        insta::assert_snapshot!(ask("web-1 plc tcp/502"), @r"
        web-1 -> plc tcp/502: denied by never rule plc-only-from-historian (base.toml:41)  (policy 7)
        RULE                     KIND   AT            MATCHES  LACKS
        plc-only-from-historian  never  base.toml:41  yes      -
        modbus                   allow  base.toml:33  yes      -
        ping                     allow  base.toml:25  no       destination plc must match `env=prod`, has env=ot; tcp/502 is not among its ports: icmp
        web-to-db                allow  base.toml:16  no       destination plc must match `env=prod`, has env=ot; destination plc must match `role=db`, has role=plc; tcp/502 is not among its ports: tcp/5432
        ");
        insta::assert_snapshot!(ask("db web-1 tcp/22"), @r"
        db -> web-1 tcp/22: denied, no rule allows it; nearest is ping (base.toml:25), but tcp/22 is not among its ports: icmp  (policy 7)
        RULE                     KIND   AT            MATCHES  LACKS
        plc-only-from-historian  never  base.toml:41  no       destination web-1 must match `role=plc`, has role=web
        ping                     allow  base.toml:25  no       tcp/22 is not among its ports: icmp
        modbus                   allow  base.toml:33  no       source db must match `role in (historian, web)`, has role=db; destination web-1 must match `role=plc`, has role=web; tcp/22 is not among its ports: tcp/502
        web-to-db                allow  base.toml:16  no       source db must match `role=web`, has role=db; destination web-1 must match `role=db`, has role=web; tcp/22 is not among its ports: tcp/5432
        ");
    }
}
