//! Puts the daemon together, and takes it apart.
//!
//! Property: the order of both. What stops leaks comes first and goes last; the data plane runs from what is on disk
//! before any coordinator is asked (P3); the interface is gone before the process says goodbye, and what a killed
//! process left behind is taken over at the next start (E9).

use crate::clock::Clock;
use crate::config::Config;
use crate::control::enforce::Enforcer;
use crate::control::maphold::MapHold;
use crate::control::renewal::Renewal;
use crate::control::{Control, Ending, chain};
use crate::device::Layout;
use crate::device::guard;
use crate::device::netlink::Netlink;
use crate::handle::{AskError, DaemonHandle, LinkState, MAX_WAITING_REQUESTS, Reply, Shared};
use crate::local;
use crate::names;
use crate::names::resolv;
use crate::packets::offload::Switches;
use crate::packets::socket::Sockets;
use crate::packets::threads::DataThreads;
use crate::packets::transmit::Transmit;
use crate::state::{Loaded, Store};
use crate::sys;
use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use bulkhead_identity::{Timestamp, TunnelKey};
use bulkhead_node_engine::Engine;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The control plane needs little; the data threads are not part of it.
const CONTROL_THREADS: usize = 2;
/// How long a daemon that is just ending is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// Time for the local API to write the answer to `leave` or `down` before its task ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs the daemon of an enrolled node until it is told to end. Blocks; must not be called from within an async
/// runtime.
///
/// # Errors
/// When it cannot start. Nothing is left behind then but the leak stop.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    sys::give_back_freed_memory();
    crate::log::start(&config.log);
    let store = Store::open(&config.state)?;
    let _lock = store.lock_within(LOCK_PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("bulkhead-control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(live(config, Arc::new(store)))
}

async fn live(config: Config, store: Arc<Store>) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    let loaded = match store.load(Clock::new(Timestamp(0)).now().wall) {
        Ok(loaded) => loaded,
        Err(error) => {
            stop_leaks_without_identity(&store, &netlink).await;
            return Err(error.into());
        }
    };
    for problem in &loaded.dropped {
        tracing::warn!(problem, "stored document not in force");
    }
    let mut signals = Signals::listen()?;
    let socket_path = config.socket.clone();
    let local = local::listen(&socket_path, config.socket_group.as_deref())?;
    let daemon = Running::start(config, loaded, Arc::clone(&store), &netlink).await?;

    let mut services = JoinSet::new();
    let handle = daemon.handle.clone();
    services.spawn(async move { ended("local API", local.serve(handle).await) });
    for address in [IpAddr::V4(daemon.layout.resolver.v4), IpAddr::V6(daemon.layout.resolver.v6)] {
        let handle = daemon.handle.clone();
        services.spawn(async move { ended("resolver", names::serve(handle, address).await) });
    }
    daemon.point_resolv_conf();

    let failed = daemon.plane.threads.failed();
    let mut control = tokio::spawn(daemon.control.run(daemon.requests));
    let ending = loop {
        tokio::select! {
            ending = &mut control => break ending.context("the control task failed"),
            () = failed.notified() => break Err(anyhow!("a data thread ended: the interface was removed, or see above")),
            () = signals.recv() => {
                tracing::info!("told to end by a signal");
                // Busy or ending already: the control task ends by itself in both cases.
                if daemon.handle.shutdown().is_err() {
                    break Ok(Ending::Shutdown);
                }
            }
        }
    };
    daemon.plane.stop(&netlink).await;
    let result = match ending {
        Ok(ending) => conclude(ending, &store, &daemon.layout, &netlink).await,
        Err(error) => {
            restore_resolv_conf(store.path());
            Err(error)
        }
    };
    tokio::time::sleep(LAST_WORDS).await;
    services.shutdown().await;
    tracing::info!("ended");
    result
}

/// What runs between start and end.
struct Running {
    handle: DaemonHandle,
    layout: Layout,
    plane: DataPlane,
    control: Control,
    requests: mpsc::Receiver<crate::handle::Request>,
}

impl Running {
    async fn start(
        config: Config,
        loaded: Loaded,
        store: Arc<Store>,
        netlink: &Netlink,
    ) -> anyhow::Result<Self> {
        let Loaded { keys, held, control, .. } = loaded;
        let clock = Clock::new(held.marks.wall);
        if !clock.behind().is_zero() {
            tracing::warn!(
                behind_secs = clock.behind().as_secs(),
                "this host's clock was set back; time stands still for certificates until it has caught up"
            );
        }
        let own = held.me.claims().addresses.context("our certificate has no overlay addresses")?;
        let layout = Layout::new(&config.interface, config.mtu, &held.trust, own);
        layout.stop_leaks(netlink).await?;
        let unguarded = guard::raise(&layout.name, layout.prefixes).err().map(|error| error.to_string());
        if let Some(why) = &unguarded {
            tracing::warn!(why, "the local network can reach mesh addresses of this host past the tunnel");
        }

        let sockets = Sockets::bind(config.port, config.queues)
            .with_context(|| format!("cannot bind UDP port {}; choose another with --port", config.port))?;
        let device = layout.create(netlink, config.queues).await?;
        let interface = device.index;
        let engine_config =
            bulkhead_node_engine::Config { mtu: config.mtu, ..bulkhead_node_engine::Config::default() };
        // The engine keeps its own copy of the tunnel key; renewals need one to prove possession with.
        let tunnel = TunnelKey::from_bytes(keys.tunnel.to_bytes());
        let engine = Arc::new(Engine::new(keys.tunnel, engine_config, clock.now()));
        let switches = Arc::new(Switches::new(config.offloads_off, held.offloads_off));
        let transmits = Transmit::new(&engine, sockets.data, &device.queues, &switches);
        let transmit = transmits.first().cloned().context("no data thread")?;
        switches.found(transmit.offloads_of_the_kernel());
        let enforcer = Enforcer::new(Arc::clone(&engine), transmit.clone(), clock.clone());
        enforcer.enforce(&held);
        let threads = DataThreads::start(Arc::clone(&engine), transmits, sockets.door, clock.clone())
            .context("cannot start the data threads")?;
        tracing::info!(
            node = %held.me.claims().id,
            ipv4 = %own.v4,
            ipv6 = %own.v6,
            interface = config.interface,
            port = config.port,
            "running"
        );

        let started = clock.now().wall;
        let (link_state, link) = watch::channel(LinkState::new(started));
        let (requests_in, requests) = mpsc::channel(MAX_WAITING_REQUESTS);
        let renewal = Renewal::plan(held.me.claims(), started);
        let handle = DaemonHandle(Arc::new(Shared {
            engine,
            config,
            clock,
            held: ArcSwap::from_pointee(held),
            link,
            transmit,
            switches,
            requests: requests_in,
            started,
            unguarded,
        }));
        let control = Control {
            daemon: handle.clone(),
            identity: keys.identity,
            tunnel,
            store,
            addresses: control,
            enforcer,
            netlink: Netlink::open()?,
            interface,
            link_state,
            renewal,
            hold: MapHold::default(),
            unsaved: BTreeSet::new(),
            announced: Vec::new(),
            endpoints_at: Duration::ZERO,
            save_at: Duration::ZERO,
        };
        Ok(Self { handle, layout, plane: DataPlane { threads, interface }, control, requests })
    }

    /// Only when asked to, because the file is the host's.
    fn point_resolv_conf(&self) {
        let (config, path) = (self.handle.config(), Path::new(resolv::RESOLV_CONF));
        if !config.write_resolv_conf {
            restore_resolv_conf(&config.state);
            return;
        }
        match resolv::insert(path, &config.state, self.layout.resolver.v4.into()) {
            Ok(notes) => notes.iter().for_each(|note| tracing::warn!(note, "resolv.conf")),
            Err(error) => tracing::warn!(error = %chain(&error), "resolv.conf stays as it is"),
        }
    }
}

/// The data threads and their interface.
struct DataPlane {
    threads: DataThreads,
    interface: u32,
}

impl DataPlane {
    /// Removes the interface, whose end wakes the thread that reads from it, and ends the threads.
    async fn stop(self, netlink: &Netlink) {
        self.threads.announce_stop();
        if let Err(error) = netlink.remove_interface(self.interface).await {
            tracing::warn!(error = %chain(&error), "the interface goes with the process instead");
        }
        tokio::task::block_in_place(|| self.threads.stop());
    }
}

/// What remains to be done once no packet moves any more.
async fn conclude(ending: Ending, store: &Store, layout: &Layout, netlink: &Netlink) -> anyhow::Result<()> {
    restore_resolv_conf(store.path());
    match ending {
        Ending::Shutdown => Ok(()),
        Ending::Left(done) => {
            let result = forget(store, layout, netlink).await;
            answer(done, &result);
            result
        }
    }
}

async fn forget(store: &Store, layout: &Layout, netlink: &Netlink) -> anyhow::Result<()> {
    store.wipe()?;
    layout.allow_leaks(netlink).await?;
    if let Err(error) = guard::lower() {
        tracing::warn!(%error, "the guard of the mesh addresses stays: nft delete table inet bulkhead");
    }
    tracing::info!("this node has left the mesh; its keys are gone");
    Ok(())
}

fn answer(done: Reply, result: &anyhow::Result<()>) {
    let answer = match result {
        Ok(()) => Ok(()),
        Err(error) => Err(AskError::Local(format!("{error:#}"))),
    };
    // Whoever asked may have given up.
    let _ = done.send(answer);
}

fn restore_resolv_conf(state: &Path) {
    if let Err(error) = resolv::restore(Path::new(resolv::RESOLV_CONF), state) {
        tracing::warn!(error = %chain(&error), "resolv.conf was not restored");
    }
}

/// A node that cannot start (its certificate has ended, for example) still must not leak (A13).
async fn stop_leaks_without_identity(store: &Store, netlink: &Netlink) {
    let Some(prefixes) = store.prefixes() else { return };
    for prefix in prefixes {
        if let Err(error) = netlink.stop_leaks(prefix).await {
            tracing::warn!(error = %chain(&error), "the leak stop could not be set");
        }
    }
}

fn ended(service: &'static str, result: anyhow::Result<()>) {
    match result {
        Ok(()) => tracing::debug!(service, "service ended"),
        // The data plane does not depend on it.
        Err(error) => tracing::error!(service, error = format!("{error:#}"), "service failed"),
    }
}

/// The signals that end the daemon in order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
