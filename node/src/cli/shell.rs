//! Completions and manual pages, from the same definitions as the command line itself.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::{Cli, Context, Exit};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where to; must exist
    directory: PathBuf,
}

/// Prints the completions.
pub(super) fn completions(_: &Context, args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bulkhead", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(Exit::Ok)
}

/// Writes one page per verb.
pub(super) fn man(context: &Context, args: &ManArgs) -> anyhow::Result<Exit> {
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .with_context(|| format!("cannot write manual pages into {}", args.directory.display()))?;
    context.screen.note(format!("manual pages are in {}", args.directory.display()));
    Ok(Exit::Ok)
}
