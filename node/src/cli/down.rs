//! `down` and `leave`: stop, and stop for good.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Context, Exit, screen};
use crate::config::{Config, Partial};
use crate::device::guard;
use crate::device::netlink::{Netlink, Prefix};
use crate::local::client::{ClientError, end};
use crate::local::wire::Request;
use crate::names::resolv;
use crate::state::Store;

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub(super) struct LeaveArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Leave even when the coordinator cannot be told; an administrator should then run `bulkheadctl node revoke`
    #[arg(long)]
    force: bool,
}

/// Stops the daemon. One that does not run is stopped already.
pub(super) fn down(context: &Context) -> anyhow::Result<Exit> {
    let config = context.config(Partial::default())?;
    match end(&config.socket, Request::Down {}) {
        Ok(()) => {}
        Err(ClientError::NotRunning(_)) => {
            if let Some(why) = context.waits() {
                bail!(why);
            }
            // One that was killed could not put it back itself.
            resolv::restore(Path::new(resolv::RESOLV_CONF), &config.state)?;
            context.screen.note("the daemon was not running");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Ok)
}

/// Leaves the mesh.
pub(super) fn leave(context: &Context, args: &LeaveArgs) -> anyhow::Result<Exit> {
    let config = context.config(Partial::default())?;
    if !args.yes {
        context.screen.note(format!(
            "This node leaves the mesh: its keys and certificate in {} are deleted, its tunnels close, and to come \
             back it needs a new join token.",
            config.state.display()
        ));
        if !screen::confirm("Leave?").context("cannot ask; use --yes")? {
            bail!("nothing was changed");
        }
    }
    match end(&config.socket, Request::Leave { force: args.force }) {
        Ok(()) => {}
        Err(ClientError::NotRunning(_)) => leave_without_daemon(&config, args)?,
        Err(error) => return Err(error.into()),
    }
    context.screen.note("this node has left the mesh");
    Ok(Exit::Ok)
}

/// Nobody can tell the coordinator; the state can be wiped all the same.
fn leave_without_daemon(config: &Config, args: &LeaveArgs) -> anyhow::Result<()> {
    if !config.state.exists() {
        bail!("there is nothing to leave: {} does not exist", config.state.display());
    }
    let store = Store::open(&config.state)?;
    let _lock = store.lock()?;
    if store.is_enrolled()? && !args.force {
        bail!(
            "the daemon is not running, so the coordinator cannot be told: start it with `bulkhead up` and leave \
             then, or use --force and have an administrator run `bulkheadctl node revoke`"
        );
    }
    resolv::restore(Path::new(resolv::RESOLV_CONF), &config.state)?;
    // Read before the wipe, removed after it: what drops clear text goes last.
    let prefixes = store.prefixes();
    store.wipe().context("cannot delete the state")?;
    match prefixes {
        Some(prefixes) => allow_leaks(prefixes),
        None => Ok(()),
    }
}

/// Takes back what a daemon left behind so that nothing leaks while it is down.
fn allow_leaks(prefixes: impl IntoIterator<Item = Prefix>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let netlink = Netlink::open()?;
        for prefix in prefixes {
            netlink.allow_leaks(prefix).await?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    guard::lower().context("cannot remove the firewall table `inet bulkhead`")
}
