//! Policy text: a set of TOML files; order never matters.
//!
//! The text is hostile until checked. Every limit of the language stands here or beside the type that it
//! bounds, and is checked before the work that it bounds is done.

use std::collections::BTreeMap;

/// File name to text, sorted by name. Limits: [`MAX_TEXT_BYTES`] in all, checked by [`crate::check()`].
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
pub struct Sources(
    /// File name to text.
    #[n(0)]
    pub BTreeMap<String, String>,
);

/// Most text in all files together.
pub const MAX_TEXT_BYTES: usize = 10 * 1024 * 1024;
/// Most line ends, brackets, dots, commas and signs in all files together: what a parser has work with. As
/// many rules as there may be, on as few lines as they take, have two and a half million.
pub const MAX_TOKENS: usize = 4_000_000;
/// Most files.
pub const MAX_FILES: usize = 4096;
/// Longest file name.
pub const MAX_FILE_NAME_BYTES: usize = 255;
/// Most `allow` and `never` rules together.
pub const MAX_RULES: usize = 100_000;
/// Most labels in `[labels]`.
pub const MAX_DECLARED_LABELS: usize = 1024;
/// Most groups.
pub const MAX_GROUPS: usize = 10_000;
/// How deep groups may name groups.
pub const MAX_NESTING: usize = 16;
/// Most terms and values in one selector, its groups written out, repetitions included.
pub const MAX_WRITTEN_OUT: usize = 512;
/// Most services.
pub const MAX_SERVICES: usize = 10_000;
/// Most tests.
pub const MAX_TESTS: usize = 10_000;
/// Most label keys in one `same` or `differ`.
pub const MAX_RELATED: usize = 16;
/// Most items in one list of ports.
pub const MAX_PORTS: usize = 256;
/// Most findings that are reported; the last one says how many more there were.
pub const MAX_FINDINGS: usize = 1000;

/// Plain characters only: the name is shown in terminals and travels in the signed bundle.
pub(crate) fn is_file_name(name: &str) -> bool {
    (1..=MAX_FILE_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+@ ".contains(&byte))
}
