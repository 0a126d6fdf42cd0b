//! A real node in a host of its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::coordinator::START_LIMIT;
use crate::{Coordinator, Lab, Namespace, Output, Process, process, program, until, until_some};

/// Offloads that every node of a test does without: `bulkhead up` reads it.
const OFFLOADS_OFF: &str = "BULKHEAD_OFFLOADS_OFF";

/// An enrolled node, running unless stopped.
#[derive(Debug)]
pub struct Node {
    /// Its host.
    pub host: Namespace,
    /// Its name in the mesh.
    pub name: String,
    process: Option<Process>,
    folder: PathBuf,
}

impl Node {
    /// A new host, enrolled with a token that fixes its name and labels (`k=v`), and running.
    ///
    /// # Errors
    /// When enrolment fails.
    pub fn enrol(lab: &Lab, coordinator: &Coordinator, name: &str, labels: &[&str]) -> Result<Self> {
        let token = coordinator.token(name, labels)?;
        let mut this = Self::prepare(lab, name)?;
        this.start_with(&["--token-file", &token.to_string_lossy()])?;
        this.wait_connected();
        Ok(this)
    }

    /// A new host with an empty state directory and nothing running.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(lab: &Lab, name: &str) -> Result<Self> {
        Self::prepare_on(lab, lab.host(name)?, name)
    }

    /// The same on a host that exists.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn prepare_on(lab: &Lab, host: Namespace, name: &str) -> Result<Self> {
        let folder = lab.folder().join(name);
        std::fs::create_dir(&folder)?;
        Ok(Self { host, name: name.to_owned(), process: None, folder })
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The local API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/bulkhead.sock")
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// A `bulkhead` command line of this node.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.host.command(program("bulkhead"));
        command.arg("--state").arg(self.state()).arg("--socket").arg(self.socket()).args(args);
        command
    }

    /// Runs `bulkhead ARGS` to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        process::run(&mut self.command(args), Duration::from_secs(60))
    }

    /// `bulkhead --json ARGS`, its parsed output.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let mut all = vec!["--json"];
        all.extend(args);
        self.cli(&all)?.json().with_context(|| format!("{}: bulkhead {}", self.name, args.join(" ")))
    }

    /// Starts an enrolled node from its state directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// `bulkhead up --foreground ARGS`, and waits for the local socket.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not answer in time, with its log.
    pub fn start_with(&mut self, args: &[&str]) -> Result<()> {
        std::fs::create_dir_all(self.folder.join("run"))?;
        let mut all = vec!["up", "--foreground"];
        all.extend(args);
        let mut process = Process::start(&mut self.command(&all), &self.folder.join("log"))?;
        let socket = self.socket();
        until(&format!("{} answers", self.name), START_LIMIT, || {
            assert!(process.running(), "{} ended:\n{}", self.name, process.log());
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        self.process = Some(process);
        if args.contains(&"--offloads-off") { Ok(()) } else { self.check_offloads() }
    }

    /// This run of the tests leaves off what [`OFFLOADS_OFF`] says, and nothing else (`tests/run` goes through all
    /// combinations): says which, and makes sure of it.
    #[expect(clippy::print_stdout, reason = "the test's own output")]
    fn check_offloads(&self) -> Result<()> {
        let off = std::env::var(OFFLOADS_OFF).unwrap_or_default();
        println!("{}: offloads off: [{off}]", self.name);
        let status = self.json(&["status"])?;
        let offloads = status["node"]["offloads"].as_array().context("status has offloads")?;
        ensure!(offloads.len() == 4, "four offloads, not {}", offloads.len());
        for offload in offloads {
            let (name, state) = (&offload["name"], &offload["state"]);
            let asked = off.split(',').any(|off| *name == off);
            ensure!((*state == "off_by_configuration") == asked, "{name} is {state}, and off is [{off}]");
            ensure!(*state != "failed", "{offload}");
        }
        Ok(())
    }

    /// Waits until the control link is up.
    ///
    /// # Panics
    /// When it does not come up in time, with the node's log.
    pub fn wait_connected(&self) {
        let connected = || self.json(&["status"]).is_ok_and(|s| s["coordinator"]["connected"] == true);
        let deadline = std::time::Instant::now() + START_LIMIT;
        while !connected() {
            assert!(
                std::time::Instant::now() < deadline,
                "{} has no coordinator:\n{}",
                self.name,
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Everything the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The running daemon.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the node is running")
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

    /// The overlay address, IPv4.
    ///
    /// # Panics
    /// When the node does not tell.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.address("v4").parse().expect("status prints an address")
    }

    /// The overlay address, IPv6.
    ///
    /// # Panics
    /// When the node does not tell.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.address("v6").parse().expect("status prints an address")
    }

    fn address(&self, family: &str) -> String {
        until_some("the node tells its address", START_LIMIT, || {
            self.json(&["status"])
                .ok()
                .and_then(|s| s["node"]["addresses"][family].as_str().map(str::to_owned))
        })
    }

    /// The peers that `bulkhead status` shows, in its order.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn peers(&self) -> Result<Vec<String>> {
        let status = self.json(&["status"])?;
        let peers = status["peers"].as_array().context("status has peers")?;
        Ok(peers.iter().filter_map(|p| p["name"].as_str().map(str::to_owned)).collect())
    }
}
