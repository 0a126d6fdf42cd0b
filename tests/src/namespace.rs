//! One host: a network namespace with an address on the lab's segment.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Output, command, run};

/// Long enough for any one-shot command on a busy machine.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A network namespace; removed, with everything in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Address on the underlay, IPv4.
    pub v4: Ipv4Addr,
    /// Address on the underlay, IPv6.
    pub v6: Ipv6Addr,
}

impl Namespace {
    pub(crate) fn create(name: String, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self> {
        ip(&["netns", "add", &name])?;
        let this = Self { name, v4, v6 };
        this.ip(&["link", "set", "lo", "up"])?;
        Ok(this)
    }

    /// The namespace's name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command inside, to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end within [`COMMAND_LIMIT`].
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output> {
        run(self.command(program).args(args), COMMAND_LIMIT)
    }

    /// `ip` inside.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        ip(&all)
    }

    /// Runs `work` on a thread that has moved into this namespace: sockets it opens live there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let handle =
            File::open(PathBuf::from("/run/netns").join(&self.name)).context("opening the namespace")?;
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&handle)?;
                    Ok(work())
                })
                .join()
                .expect("the work inside the namespace panicked")
        })
    }

    /// Like [`Namespace::inside`], without waiting: for senders and listeners that run beside the test.
    ///
    /// # Errors
    /// When the namespace cannot be opened.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<std::thread::JoinHandle<Result<T>>> {
        let handle =
            File::open(PathBuf::from("/run/netns").join(&self.name)).context("opening the namespace")?;
        Ok(std::thread::spawn(move || {
            enter(&handle)?;
            Ok(work())
        }))
    }

    /// Packets that the kernel took from (`rx`) or gave to (`tx`) an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn packets(&self, interface: &str, direction: &str) -> Result<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/{direction}_packets");
        let text = self.run("cat", &[&path])?.success()?;
        text.trim().parse().context("reading a counter")
    }

    /// Makes the namespace's own `/etc/resolv.conf`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_resolv_conf(&self, text: &str) -> Result<()> {
        self.write_etc("resolv.conf", text)
    }

    /// Makes the namespace's own `/etc/hosts`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_hosts(&self, text: &str) -> Result<()> {
        self.write_etc("hosts", text)
    }

    /// What `ip netns exec` binds over a file of the host's `/etc`.
    fn write_etc(&self, file: &str, text: &str) -> Result<()> {
        let folder = PathBuf::from("/etc/netns").join(&self.name);
        std::fs::create_dir_all(&folder).context("making the namespace's folder")?;
        std::fs::write(folder.join(file), text).with_context(|| format!("writing {file}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
        let _ = std::fs::remove_dir_all(PathBuf::from("/etc/netns").join(&self.name));
    }
}

fn enter(handle: &File) -> Result<()> {
    use std::os::fd::AsFd;
    rustix::thread::move_into_link_name_space(
        handle.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .context("entering the namespace")
}

/// `ip` on the host.
///
/// # Errors
/// When it fails.
pub fn ip(args: &[&str]) -> Result<String> {
    run(&mut command("ip", args), COMMAND_LIMIT)?.success().with_context(|| format!("ip {}", args.join(" ")))
}
