//! A policy text with what it compiles to. Made beside the engine, on hostile text that may take its time; the
//! fields are private, so what the engine takes up is what this very text says.

use crate::refusal::{Class, Refusal};
use bulkhead_acl::check::{FailingTests, Options, check_with};
use bulkhead_acl::{Checked, Code, Diagnostic, Severity};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{CheckReport, PolicyText};
use data_encoding::BASE64;

/// A policy text, compiled.
pub struct Proposal {
    pub(crate) text: PolicyText,
    pub(crate) compiled: Result<Checked, Vec<Diagnostic>>,
    /// Signed elsewhere.
    pub(crate) bundle: Option<Vec<u8>>,
    /// Signed elsewhere, for when nobody confirms.
    pub(crate) fallback: Option<Vec<u8>>,
}

impl Proposal {
    /// Compiles and tests. Takes as long as the largest text that the limits permit: not for the engine's thread.
    ///
    /// # Errors
    /// A bundle is not base64. A text with errors is none: whoever applies it is told.
    pub fn new(mut text: PolicyText, wall: Timestamp) -> Result<Self, Refusal> {
        let bundle = text.bundle.take().map(|bundle| decode("bundle", &bundle)).transpose()?;
        let fallback = text.fallback.take().map(|bundle| decode("fallback", &bundle)).transpose()?;
        let failing_tests =
            if text.overrides.failing_tests { FailingTests::Warn } else { FailingTests::Refuse };
        let compiled = check_with(&text.sources, wall, Options { failing_tests, nodes: None });
        Ok(Self { text, compiled, bundle, fallback })
    }

    /// What the check found.
    pub(crate) fn report(self) -> CheckReport {
        match self.compiled {
            Ok(checked) => CheckReport {
                ok: true,
                tests_passed: checked.tests_passed,
                allow_rules: checked.rules.allow.len(),
                never_rules: checked.rules.never.len(),
                diagnostics: checked.warnings,
            },
            Err(diagnostics) => {
                CheckReport { ok: false, diagnostics, tests_passed: 0, allow_rules: 0, never_rules: 0 }
            }
        }
    }
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    BASE64.decode(text.as_bytes()).map_err(|error| {
        Refusal::new(Class::BadRequest, "BH-C156", format!("`{what}` is not base64: {error}"))
            .help("`bulkheadctl policy sign` writes a file that `bulkheadctl policy apply` takes")
    })
}

/// Why a text with these findings is not applied, and what would override it.
pub(crate) fn refused_text(diagnostics: Vec<Diagnostic>) -> Refusal {
    let errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error);
    let (failing, others): (Vec<_>, Vec<_>) =
        errors.partition(|finding| finding.code == Code::TestFailed.as_str());
    let refusal = match (failing.len(), others.len()) {
        (failing @ 1.., 0) => Refusal::new(
            Class::Unprocessable,
            "BH-C157",
            format!("{failing} expectations of the policy's tests fail"),
        )
        .help("nothing was applied; correct the rules or the tests, or apply with `--allow-failing-tests`"),
        (failing, others) => {
            let message = format!("the policy has {} errors", failing + others);
            Refusal::new(Class::Unprocessable, "BH-C151", message)
                .help("nothing was applied; `bulkheadctl policy check DIR` shows them all")
        }
    };
    refusal.diagnostics(diagnostics)
}
