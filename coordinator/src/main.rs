//! `bulkhead-coordinator`: reads the command line and hands on.

use anyhow::{Context, Result, bail, ensure};
use bulkhead_coordinator::cli::{CheckConfig, Cli, Command, IssuerCommand, JournalCommand, Serve};
use bulkhead_coordinator::config::{self, Partial, Settings};
use bulkhead_coordinator::journal::{JournalError, reader};
use bulkhead_coordinator::serve::Server;
use bulkhead_coordinator::state_dir::StateDir;
use bulkhead_coordinator::{backup, check, init, issuer, process};
use clap::{CommandFactory, Parser};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit code of a check that found something.
const CHECK_FAILED: u8 = 4;
/// Largest answer of the socket that is shown.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Init(arguments) => {
            process::harden();
            let made = init::init(&cli.state, &arguments.trust_domain, &arguments.addresses)?;
            print(&init::next_steps(&made, &cli.state))?;
        }
        Command::Serve(arguments) if arguments.print_default_config => print(config::DEFAULT_FILE)?,
        Command::Serve(arguments) => serve(&cli.state, arguments)?,
        Command::CheckConfig(arguments) => check_config(arguments)?,
        Command::Journal(JournalCommand::Verify) => return verify(&cli.state),
        Command::Backup { file } => {
            process::harden();
            let moved = backup::backup(&cli.state, file)?;
            print(&format!(
                "{}: {} files, {} journal entries\nit holds the private keys of this deployment: keep it as you keep them\n",
                file.display(),
                moved.files,
                moved.entries
            ))?;
        }
        Command::Restore { file } => {
            process::harden();
            let moved = backup::restore(file, &cli.state)?;
            print(&format!(
                "restored {} files, {} journal entries, into {}\n\n\
                 next steps:\n\
                 1. start it: bulkhead-coordinator --state {} serve; it is read-only for now\n\
                 2. compare `bulkheadctl node list` with what you know: what was revoked after the backup stays\n\
                 \x20  refused by the nodes, but has to be revoked here again\n\
                 3. accept it: bulkhead-coordinator accept-restore\n",
                moved.files,
                moved.entries,
                cli.state.display(),
                cli.state.display()
            ))?;
        }
        Command::AcceptRestore { socket } => {
            accept_restore(socket)?;
            print("accepted: the coordinator takes changes again\n")?;
        }
        Command::Issuer(IssuerCommand::Request { file }) => {
            process::harden();
            issuer::request(&cli.state, file)?;
            print(&format!(
                "{file}\n\nnext steps:\n\
                 1. where the root's key is   bulkheadctl trust sign-issuer {file} --root-key KEY --root CERT --out issuer.der\n\
                 2. here again                bulkhead-coordinator issuer install issuer.der\n",
                file = file.display()
            ))?;
        }
        Command::Issuer(IssuerCommand::Install { file }) => {
            process::harden();
            issuer::install(&cli.state, file)?;
            print(
                "installed: in use when the coordinator is restarted; tunnels stay up meanwhile\n\
                 then `bulkheadctl trust show` counts the nodes that are still under each root\n",
            )?;
        }
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "bulkhead-coordinator", &mut completions);
            std::io::stdout().write_all(&completions)?;
        }
        Command::Man { directory } => {
            clap_mangen::generate_to(Cli::command(), directory)
                .with_context(|| format!("cannot write man pages into {}", directory.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn serve(root: &Path, arguments: &Serve) -> Result<()> {
    process::harden();
    let (settings, log) = settings(root, arguments)?;
    let filter = EnvFilter::try_new(&log).with_context(|| format!("{log:?} is not a log filter"))?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_env_filter(filter).init();
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut server = Server::start(root, settings).await?;
        tokio::select! {
            ended = server.ended() => return ended,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.stop();
        server.ended().await
    })
}

fn check_config(arguments: &CheckConfig) -> Result<()> {
    let partial = config::load(arguments.config.as_deref())?;
    let people = partial.people.unwrap_or_default();
    let Some((provider, file)) = arguments.provider.as_ref().zip(arguments.claims.as_ref()) else {
        return print(&check::summary(&people));
    };
    let lifetime = partial.certificate_lifetime.unwrap_or(config::DEFAULT_CERTIFICATE_LIFETIME);
    print(&check::explain(&people, &check::claims(&people, provider, file)?, lifetime))
}

fn settings(root: &Path, arguments: &Serve) -> Result<(Settings, String)> {
    let file = config::load(arguments.config.as_deref())?;
    let state = StateDir::open(root)?;
    let recorded = state.read("init.toml")?;
    let recorded = std::str::from_utf8(&recorded).context("init.toml is not text")?;
    let recorded: Partial =
        config::parse(recorded).map_err(|p| anyhow::anyhow!("init.toml: {}", p.join("; ")))?;
    let all = arguments.partial().over(file).over(recorded);
    let log = all.log.clone().unwrap_or_else(|| "info".to_owned());
    Ok((all.settle()?, log))
}

fn verify(root: &Path) -> Result<ExitCode> {
    let state = StateDir::open(root)?;
    match reader::verify(&state.journal(), |_| {}) {
        Ok(verified) => {
            let mut text = format!("{} entries, head {}\n", verified.end.sequence, verified.end.hash);
            if let Some(torn) = verified.torn {
                text += &format!(
                    "unfinished write at the end, never acknowledged, cut at the next start: {torn}\n"
                );
            }
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(JournalError::Damaged(damage)) => {
            print(&format!("damaged: {damage}\n"))?;
            Ok(ExitCode::from(CHECK_FAILED))
        }
        Err(error) => Err(error.into()),
    }
}

/// One request over the unix socket; the answer's status says it all.
fn accept_restore(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!("cannot reach {}: is the coordinator running, and are you root?", socket.display())
    })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(
        b"POST /api/v1/restore/accept HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).context("reading the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    ensure!(head.starts_with("HTTP/1.1 "), "the answer is not HTTP");
    if head.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    match serde_json::from_str::<bulkhead_protocol::enrol::ApiError>(body) {
        Ok(error) => bail!("{}{}", error.message, error.help.map(|h| format!("; {h}")).unwrap_or_default()),
        Err(_) => bail!("the coordinator refused"),
    }
}
