//! Every diagnostic code, as a person sees it: place, code, sentence, caret, help.

mod judgement;
mod names;
mod structure;

use bulkhead_acl::{Diagnostic, Sources, check};
use bulkhead_identity::Timestamp;

/// 2026-11-01T00:00:00Z.
const WALL: Timestamp = Timestamp(1_793_491_200);

/// What `check` says about these files, each finding a paragraph.
fn found(files: &[(&str, &str)]) -> String {
    let named = files.iter().map(|(name, text)| (name.to_string(), text.to_string()));
    let diagnostics = match check(&Sources(named.collect()), WALL) {
        Ok(checked) => checked.warnings,
        Err(diagnostics) => diagnostics,
    };
    shown(&diagnostics)
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}
