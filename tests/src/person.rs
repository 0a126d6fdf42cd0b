//! A person at a real browser. He reads pages and finds fields and buttons by the words a screen reader would say;
//! tests/idp/person.mjs drives the headless Chromium.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Lab, Namespace, WebCa, idp, installed, until};

/// Longer than the browser's own limit for a step: it answers first, and says what was on the page.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// How long the browser may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One browser with its own profile; closed when dropped.
#[derive(Debug)]
pub struct Person {
    driver: Child,
    steps: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// What the person sees after a step.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Whether the step could be done.
    pub ok: bool,
    /// Why not.
    #[serde(default)]
    pub error: Option<String>,
    /// The address.
    pub url: String,
    /// The title of the page.
    #[serde(default)]
    pub title: String,
    /// The text of the page.
    #[serde(default)]
    pub text: String,
    /// The page as a screen reader has it: roles, names and states.
    #[serde(default)]
    pub outline: String,
    /// The headers that came with the page; names in lower case.
    #[serde(default)]
    pub headers: Value,
    /// Documents loaded on the way here, redirects too.
    pub documents: Vec<Document>,
    /// All addresses asked for since the last step.
    pub requests: Vec<String>,
    /// What the browser complained of: content refused by the page's policy, certificates not trusted.
    pub complaints: Vec<String>,
    /// The cookies that the browser holds, without their values.
    #[serde(default)]
    pub cookies: Vec<Value>,
    /// Whether one has to scroll sideways.
    #[serde(default)]
    pub wide: bool,
    /// A picture of the page.
    #[serde(default)]
    pub picture: PathBuf,
}

/// One answer to a navigation.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    /// Where from.
    pub url: String,
    /// HTTP status.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: Value,
}

impl Person {
    /// A person at `host` whose browser trusts `ca` besides the public authorities. `options` are those of
    /// tests/idp/person.mjs: `--phone`, `--no-script`.
    ///
    /// # Errors
    /// When the browser cannot be started.
    pub fn new(lab: &Lab, host: &Namespace, name: &str, ca: &WebCa, options: &[&str]) -> Result<Self> {
        let ca = ca.certificate();
        Self::start(&lab.folder().join(name), host, name, Some(&ca), options)
    }

    /// A person whose browser trusts the public authorities only.
    ///
    /// # Errors
    /// When the browser cannot be started.
    pub fn who_trusts_no_company(lab: &Lab, host: &Namespace, name: &str) -> Result<Self> {
        Self::start(&lab.folder().join(name), host, name, None, &[])
    }

    fn start(
        folder: &Path,
        host: &Namespace,
        name: &str,
        ca: Option<&Path>,
        options: &[&str],
    ) -> Result<Self> {
        idp::stage(folder)?;
        // A browser stops what it loads when an address becomes usable meanwhile. The last one is that of the link, which
        // comes some time after the link is up, and is usable a while later.
        until("the host's addresses are settled", STEP_LIMIT, || {
            let shown = host.run("ip", &["-6", "addr", "show", "dev", "eth0", "scope", "link"]);
            shown.is_ok_and(|shown| shown.stdout.contains("inet6") && !shown.stdout.contains("tentative"))
        });
        let mut command = host.command("node");
        command.arg(folder.join("person.mjs")).arg("--home").arg(folder.join("home"));
        command.arg("--pictures").arg(pictures(name)?).args(options);
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let log = std::fs::File::create(folder.join("log"))?;
        let mut driver =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().context("node")?;
        let steps = driver.stdin.take();
        let lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let (sender, answers) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let this = Self { driver, steps, answers };
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        this.answers.recv_timeout(STEP_LIMIT).with_context(|| format!("no browser: {}", log()))?;
        Ok(this)
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// When no page comes.
    pub fn open(&mut self, url: &str) -> Result<Seen> {
        self.step(&json!({ "open": url }))
    }

    /// Types `text` into the field with this label.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn fill(&mut self, label: &str, text: &str) -> Result<Seen> {
        self.step(&json!({ "fill": label, "with": text }))
    }

    /// Presses the button or link of this name, which must lead to another page.
    ///
    /// # Errors
    /// When there is none, or it leads nowhere.
    pub fn press(&mut self, name: &str) -> Result<Seen> {
        self.step(&json!({ "press": name }))
    }

    /// Name and password at an [`crate::Idp`]'s page.
    ///
    /// # Errors
    /// When it is not that page.
    pub fn sign_in(&mut self, user: &str) -> Result<Seen> {
        self.step(&json!({ "sign_in": user, "password": crate::Idp::password(user) }))
    }

    /// Waits until the page says so.
    ///
    /// # Errors
    /// When it does not in time, with what it says instead.
    pub fn expect(&mut self, text: &str) -> Result<Seen> {
        self.step(&json!({ "expect": text }))
    }

    /// Waits until the address begins so.
    ///
    /// # Errors
    /// When it does not in time, with what is there instead.
    pub fn reach(&mut self, prefix: &str) -> Result<Seen> {
        self.step(&json!({ "reach": prefix }))
    }

    /// Only looks.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub fn look(&mut self) -> Result<Seen> {
        self.step(&json!({ "look": true }))
    }

    fn step(&mut self, step: &Value) -> Result<Seen> {
        let seen = self.attempt(step)?;
        if !seen.ok {
            bail!("{step}: {}\nat {}: {}", seen.error.unwrap_or_default(), seen.url, seen.text);
        }
        Ok(seen)
    }

    /// One step of tests/idp/person.mjs that may well fail: [`Seen::ok`] tells.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn attempt(&mut self, step: &Value) -> Result<Seen> {
        let steps = self.steps.as_mut().context("the browser is closed")?;
        writeln!(steps, "{step}").context("the browser is gone")?;
        let answer = self.answers.recv_timeout(STEP_LIMIT).with_context(|| format!("no answer to {step}"))?;
        serde_json::from_str(&answer).with_context(|| format!("not an answer: {answer}"))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // The end of its input closes the browser; the pipe of a driver that had to be killed ends it as well.
        drop(self.steps.take());
        let deadline = Instant::now() + CLOSE_LIMIT;
        while matches!(self.driver.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// An empty folder for the pictures of this test's person, where they outlive the test: target/pictures/TEST/PERSON.
fn pictures(person: &str) -> Result<PathBuf> {
    let test = std::thread::current().name().unwrap_or("unnamed").replace("::", "/");
    let idp = installed("idp")?;
    let folder = idp.with_file_name("pictures").join(test).join(person);
    // There is none before the first time.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
