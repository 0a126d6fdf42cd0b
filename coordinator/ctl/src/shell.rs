//! Completions and manual pages, made from the same definition as the help.

use crate::command::CommandLine;
use crate::failure::Failure;
use crate::screen::Screen;
use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::Path;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell, screen: Screen) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "bulkheadctl", &mut script);
    screen.text(&String::from_utf8(script).context("completions are text")?)
}

/// Writes `bulkheadctl.1` and a page for each verb into `directory`.
pub(crate) fn man(directory: &Path, screen: Screen) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(CommandLine::command(), directory)
    };
    write().with_context(|| format!("writing manual pages into {}", directory.display()))?;
    screen.line(&format!("manual pages are in {}", directory.display()))
}
