//! The policy verbs. What can be answered from files alone is answered without a coordinator, by the same `acl`
//! code that the coordinator and the nodes run.

mod apply;
mod assertion;
mod basis;
mod can;
mod confirmation;
mod directory;
mod explain;
mod exposure;
mod findings;
#[cfg(test)]
mod fixture;
mod format;
mod generations;
mod import;
mod inventory;
mod plan;
mod reach;
mod sarif;
mod sign;

use crate::Place;
use crate::command::{Assert, Import, Policy};
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use basis::Basis;
use bulkhead_acl::{Diagnostic, Severity};
use findings::Strictness;
pub(crate) use inventory::MAX_NODES_FILE_BYTES;
use reach::End;

/// `policy …`.
pub(crate) async fn run(place: &Place, verb: Policy, screen: Screen) -> Result<(), Failure> {
    match verb {
        Policy::Check(asked) => findings::check(place, asked, Strictness::Errors, screen).await,
        Policy::Lint(asked) => findings::check(place, asked, Strictness::Findings, screen).await,
        Policy::Test(asked) => findings::test(place, asked, screen).await,
        Policy::Can(asked) => can::run(&asked, &Basis::of(place, &asked.about).await?, screen),
        Policy::WhoCan(asked) => {
            reach::run(&asked, End::WhoCan, &Basis::of(place, &asked.about).await?, screen)
        }
        Policy::From(asked) => reach::run(&asked, End::From, &Basis::of(place, &asked.about).await?, screen),
        Policy::Explain(asked) => explain::run(&asked, &Basis::of(place, &asked.about).await?, screen),
        Policy::Plan(asked) => plan::run(place, asked, screen).await,
        Policy::Assert(Assert::Never(asked)) => {
            assertion::run(&asked, &Basis::of_schema(place, &asked.about).await?, screen)
        }
        Policy::Exposure(asked) => {
            exposure::run(&asked, &Basis::of_schema(place, &asked.about).await?, screen)
        }
        Policy::Fmt(asked) => format::run(&asked, screen),
        Policy::Sign(asked) => sign::run(place, asked, screen).await,
        Policy::Apply(asked) => apply::run(place, asked, screen).await,
        Policy::Confirm(asked) => confirmation::confirm(&mut place.client()?, asked, screen).await,
        Policy::Rollback(asked) => generations::rollback(&mut place.client()?, &asked, screen).await,
        Policy::History => generations::history(&mut place.client()?, screen).await,
        Policy::Show => generations::show(&mut place.client()?, screen).await,
        Policy::Import(Import::K8s(asked)) => import::run(&asked, screen),
    }
}

/// Prints diagnostics for people on standard error; counts errors and warnings.
pub(super) fn print_diagnostics(diagnostics: &[Diagnostic]) -> (usize, usize) {
    for diagnostic in diagnostics {
        remark(&format!("{diagnostic}\n"));
    }
    tally(diagnostics)
}

/// How many errors and warnings there are.
fn tally(diagnostics: &[Diagnostic]) -> (usize, usize) {
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    (errors, diagnostics.len() - errors)
}

/// `2 errors and 1 warning`, ready for a failure.
pub(super) fn count(errors: usize, warnings: usize) -> String {
    if warnings == 0 {
        count_of(errors, "error")
    } else {
        format!("{} and {}", count_of(errors, "error"), count_of(warnings, "warning"))
    }
}

/// `1 node`, `2 nodes`.
pub(super) fn count_of(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_english() {
        assert_eq!(count(1, 0), "1 error");
        assert_eq!(count(2, 1), "2 errors and 1 warning");
    }
}
