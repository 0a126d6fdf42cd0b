//! `bulkheadctl`: everything an administrator does, scriptable. A client of the coordinator's admin API; it holds
//! no rule of its own, so nothing can be done here that the API would not also refuse.

mod apikey;
mod audit;
mod client;
mod command;
mod confirm;
mod failure;
mod key_file;
mod login;
mod moment;
mod newest;
mod node;
mod offloads;
mod pending;
mod policy;
mod public_file;
mod receipts;
mod restore;
mod revoke;
mod role;
mod screen;
mod secret_file;
mod session;
mod shell;
mod signin;
mod table;
mod tls;
mod token;
mod trust;

use crate::client::Client;
use crate::command::{CommandLine, Verb};
use crate::failure::Failure;
use crate::screen::{Screen, remark};
use crate::session::Session;
use anyhow::Context as _;
use bulkhead_protocol::token::{Token, TokenKind};
use clap::Parser as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where a coordinator's root-only socket is unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/bulkhead-coordinator/admin.sock";

fn main() -> ExitCode {
    // Tokens and session keys pass through this process; none may end in a core file.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        remark(&format!("warning: cannot turn core dumps off: {error}"));
    }
    let line = CommandLine::parse();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(line)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                remark(&format!("error: {}", failure.sentence()));
                if let Some(help) = failure.help() {
                    remark(&format!("help: {help}"));
                }
            }
            failure.exit_code()
        }
    }
}

async fn run(line: CommandLine) -> Result<(), Failure> {
    let screen = if line.json { Screen::Json } else { Screen::Text };
    let place = Place { socket: line.socket, key_file: line.key_file, session: line.session };
    match line.verb {
        Verb::Login(arguments) => login::login(&place.session_path()?, arguments, screen).await,
        Verb::Logout => login::logout(&place.session_path()?, screen).await,
        Verb::Whoami => login::whoami(&mut place.client()?, screen).await,
        Verb::Node(verb) => node::run(&mut place.client()?, verb, screen).await,
        Verb::Token(verb) => token::run(&mut place.client()?, verb, screen).await,
        Verb::ApiKey(verb) => apikey::run(&mut place.client()?, verb, screen).await,
        Verb::Role(verb) => role::run(&mut place.client()?, verb, screen).await,
        Verb::Policy(verb) => policy::run(&place, verb, screen).await,
        Verb::Trust(verb) => trust::run(&place, verb, screen).await,
        Verb::Audit(verb) => audit::run(&mut place.client()?, verb, screen).await,
        Verb::Restore(verb) => restore::run(&mut place.local(), verb, screen).await,
        Verb::Completions { shell } => shell::completions(shell, screen),
        Verb::Man { directory } => shell::man(&directory, screen),
    }
}

/// Where to find a coordinator: what the command line and the environment say about it.
struct Place {
    socket: Option<PathBuf>,
    key_file: Option<PathBuf>,
    session: Option<PathBuf>,
}

impl Place {
    fn session_path(&self) -> Result<PathBuf, Failure> {
        Ok(match &self.session {
            Some(path) => path.clone(),
            None => session::default_path()?,
        })
    }

    /// The socket, whatever sessions there are.
    fn local(&self) -> Client {
        Client::socket(self.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)))
    }

    /// A socket that was named; else the API key; else the session; else the socket of a coordinator on this host.
    fn client(&self) -> Result<Client, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(Client::socket(socket));
        }
        if let Some(path) = &self.key_file {
            return Client::key(api_key(path)?);
        }
        let path = self.session_path()?;
        if let Some(session) = Session::load(&path)? {
            return Client::session(&session);
        }
        let socket = Path::new(DEFAULT_SOCKET);
        if self.session.is_none() && socket.exists() {
            return Ok(Client::socket(socket));
        }
        Err(Failure::usage(
            format!("not logged in: neither {} nor {DEFAULT_SOCKET} exists", path.display()),
            "bulkheadctl login --sso, or login --token-file FILE, or name the coordinator's socket with --socket PATH",
        ))
    }
}

/// The key in a file, as `apikey create --out` wrote it.
fn api_key(path: &Path) -> Result<Token, Failure> {
    let text = secret_file::read(path)?;
    let token = Token::parse(&text).with_context(|| format!("{} holds no API key", path.display()))?;
    match token.kind {
        TokenKind::ApiKey => Ok(token),
        TokenKind::Join | TokenKind::Admin => Err(Failure::usage(
            format!("{} holds a token of another kind", path.display()),
            "make an API key: bulkheadctl apikey create NAME --role ROLE --out FILE",
        )),
    }
}
