//! A real coordinator in a host of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Lab, Namespace, Output, Process, process, program, until};

/// How long a daemon may take to come up on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// An initialised coordinator, running unless stopped.
#[derive(Debug)]
pub struct Coordinator {
    /// Its host.
    pub host: Namespace,
    process: Option<Process>,
    folder: PathBuf,
    options: Vec<String>,
}

impl Coordinator {
    /// `init` and `serve` for the trust domain `acme.example`, with further options for `serve`.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(lab: &Lab, options: &[&str]) -> Result<Self> {
        Self::start_on(lab, lab.host("hub")?, options)
    }

    /// The same on a host that exists.
    ///
    /// # Errors
    /// When `init` or `serve` fails.
    pub fn start_on(lab: &Lab, host: Namespace, options: &[&str]) -> Result<Self> {
        let mut this = Self::initialised(lab, host, options)?;
        this.serve()?;
        Ok(this)
    }

    /// After `init`, before `serve`.
    ///
    /// # Errors
    /// When `init` fails.
    pub fn initialised(lab: &Lab, host: Namespace, options: &[&str]) -> Result<Self> {
        let folder = lab.folder().join("coordinator");
        std::fs::create_dir(&folder)?;
        Self::initialised_in(&folder, host, options)
    }

    /// The same with a folder of the caller's.
    ///
    /// # Errors
    /// When `init` fails.
    pub fn initialised_in(folder: &Path, host: Namespace, options: &[&str]) -> Result<Self> {
        let folder = folder.to_owned();
        std::fs::create_dir_all(folder.join("run"))?;
        let this =
            Self { host, process: None, folder, options: options.iter().map(ToString::to_string).collect() };
        let address = format!("{}:8443", this.host.v4);
        this.tool(&["init", "--trust-domain", "acme.example", "--address", &address])?.success()?;
        Ok(this)
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The root-only socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/admin.sock")
    }

    /// `bulkhead-coordinator` with this state directory, to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn tool(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.host.command(program("bulkhead-coordinator"));
        command.arg("--state").arg(self.state()).args(args);
        process::run(&mut command, Duration::from_secs(120))
    }

    /// Starts `serve` and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not answer in time, with its log.
    pub fn serve(&mut self) -> Result<()> {
        let mut process = self.serve_without_waiting()?;
        let socket = self.socket();
        until("the coordinator answers", START_LIMIT, || {
            assert!(process.running(), "the coordinator ended:\n{}", process.log());
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.process = Some(process);
        Ok(())
    }

    /// Starts `serve`; the caller watches it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn serve_without_waiting(&self) -> Result<Process> {
        Process::start(&mut self.serving(), &self.log_path())
    }

    /// `bulkhead-coordinator serve`, to be started.
    #[must_use]
    pub fn serving(&self) -> Command {
        let mut command = self.host.command(program("bulkhead-coordinator"));
        command.arg("--state").arg(self.state()).arg("serve").arg("--socket").arg(self.socket());
        command.args(["--listen", "0.0.0.0:8443"]).args(&self.options);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The running process.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the coordinator is running")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(10));
        }
    }

    /// `bulkheadctl` over the socket, to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn ctl(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.host.command(program("bulkheadctl"));
        command.arg("--socket").arg(self.socket()).args(args);
        process::run(&mut command, Duration::from_secs(120))
    }

    /// `bulkheadctl --json`, its parsed output.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn ctl_json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let mut all = vec!["--json"];
        all.extend(args);
        self.ctl(&all)?.json().with_context(|| format!("bulkheadctl {}", args.join(" ")))
    }

    /// A fresh single-use join token in a file, fixed to `labels` (`k=v`).
    ///
    /// # Errors
    /// When it is refused.
    pub fn token(&self, name: &str, labels: &[&str]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.token"));
        let shown = path.to_string_lossy().into_owned();
        let mut args = vec!["token", "create", "--name", name, "--out", &shown];
        for label in labels {
            args.extend(["--label", label]);
        }
        self.ctl(&args)?.success()?;
        Ok(path)
    }

    /// Applies a policy of one file and waits until every connected node enforces it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, text: &str) -> Result<()> {
        let folder = self.write_policy(text)?;
        self.ctl(&["policy", "apply", &folder.to_string_lossy(), "--wait"])?.success()?;
        Ok(())
    }

    /// Writes a policy of one file, without applying it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_policy(&self, text: &str) -> Result<PathBuf> {
        let folder = self.folder.join("policy.d");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("main.toml"), text)?;
        Ok(folder)
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
