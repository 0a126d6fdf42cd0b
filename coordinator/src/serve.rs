//! `serve`: puts the parts together, and takes them apart again in order: first no new connections, then the
//! engine finishes what it accepted, then the lock goes.

use crate::api::Api;
use crate::boot;
use crate::clock::{Clock, wall};
use crate::config::Settings;
use crate::control::Control;
use crate::driver::Driver;
use crate::https;
use crate::issuer;
use crate::journal::Options;
use crate::people::Desk;
use crate::socket::AdminSocket;
use crate::state_dir::{Lock, StateDir};
use crate::stop::{Stop, Stopper, stop};
use crate::tls::{self, LinkTrust, OwnCertificate};
use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// How many ports are tried when any port will do: the same number must be free for TCP and UDP.
const PORT_ATTEMPTS: usize = 16;

/// A running coordinator.
pub struct Server {
    address: SocketAddr,
    stopper: Stopper,
    served: JoinHandle<Result<()>>,
}

impl Server {
    /// Starts everything; when this returns, all doors are open.
    ///
    /// # Errors
    /// Damage, a taken lock, port or socket, or keys that do not fit.
    pub async fn start(root: &Path, settings: Settings) -> Result<Self> {
        let state = StateDir::open(root)?;
        let lock = Lock::take(&state)?;
        let clock = Clock::start();
        let recovered = boot::recover(&state, Options::default())?;
        let (tcp, udp) = bind(settings.listen)?;
        let address = tcp.local_addr().context("the listening address is unknown")?;
        let settings = Settings { listen: address, ..settings };
        let coordinator = boot::coordinator(&state, recovered.state, &settings, &clock)?;
        let trust = coordinator.trust().clone();
        let link_trust = Arc::new(ArcSwap::from_pointee(LinkTrust {
            trust: trust.clone(),
            revocations: coordinator.link_revocations(),
            renewal_grace: settings.renewal_grace,
            documents: tls::documents(&coordinator),
        }));
        let own = Arc::new(OwnCertificate::issue(
            issuer::load(&state)?,
            state.key("identity.key")?,
            &trust,
            wall(),
        )?);

        let socket = AdminSocket::bind(&settings.socket)?;
        let journal = recovered.journal.reader();
        let driver = Driver {
            coordinator,
            journal: recovered.journal,
            store: recovered.store,
            link_trust: Arc::clone(&link_trust),
            clock,
        };
        let (engine, ended) = driver.spawn().context("cannot start the engine's thread")?;
        let desk = Desk::open(&state, &settings.people)?;
        let flows = desk.device_flows(&engine);
        let providers = Arc::clone(&desk.providers);
        let api = Api::new(engine.clone(), journal, Arc::clone(&link_trust), providers, flows);
        let control = Control::bind(
            udp,
            tls::control_config(Arc::clone(&own), Arc::clone(&link_trust))?,
            link_trust,
            engine.clone(),
        )?;
        let https_tls = tls::https_config(Arc::clone(&own))?;

        let (stopper, mut stop) = stop();
        let mut doors = JoinSet::new();
        desk.serve(&settings.people, &engine, &mut doors, &stop).await?;
        doors.spawn(https::serve(tcp, https_tls, api.router(), stop.clone()));
        doors.spawn(socket.serve(api.router(), stop.clone()));
        doors.spawn(control.run(stop.clone()));
        doors.spawn(renew(own, stop.clone()));
        tracing::info!(%address, socket = %settings.socket.display(), trust_domain = %trust.document().trust_domain, "serving");

        let served = tokio::spawn(async move {
            let _lock = lock;
            let mut ended = ended;
            let outcome = tokio::select! {
                () = stop.requested() => None,
                outcome = &mut ended => Some(outcome),
            };
            if let Some(outcome) = outcome {
                // The engine ended by itself: nothing may be acknowledged any more, so nothing is finished.
                doors.abort_all();
                return match outcome {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(anyhow!("the engine's thread panicked")),
                };
            }
            while doors.join_next().await.is_some() {}
            engine.stop().await;
            ended.await.map_err(|_| anyhow!("the engine's thread panicked"))??;
            Ok(())
        });
        Ok(Self { address, stopper, served })
    }

    /// Where HTTPS (TCP) and the control link (UDP) listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for a clean stop; [`Server::ended`] tells when it is done.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why the coordinator had to stop.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.served).await.context("the serving task panicked")?
    }
}

/// Keeps the coordinator's own certificate fresh.
async fn renew(own: Arc<OwnCertificate>, mut stop: Stop) {
    let renewing = async {
        loop {
            tokio::time::sleep(tls::RENEW_OWN_EVERY).await;
            match own.renew(wall()) {
                Ok(()) => tracing::debug!("own certificate renewed"),
                Err(error) => tracing::error!(reason = %error, "own certificate could not be renewed"),
            }
        }
    };
    tokio::select! {
        () = renewing => {}
        () = stop.requested() => {}
    }
}

/// Binds TCP and UDP on one port number.
fn bind(listen: SocketAddr) -> Result<(TcpListener, UdpSocket)> {
    let attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let mut last = None;
    for _ in 0..attempts {
        match bind_once(listen) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow!("no port was tried")))
}

fn bind_once(listen: SocketAddr) -> Result<(TcpListener, UdpSocket)> {
    let context = |what: &str, address: SocketAddr| {
        format!(
            "cannot listen on {what} {address}: is another coordinator running, or is the address not ours?"
        )
    };
    let domain = socket2::Domain::for_address(listen);
    let tcp = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // After a crash the port must be ours again at once.
    tcp.set_reuse_address(true)?;
    tcp.set_nonblocking(true)?;
    tcp.bind(&listen.into()).with_context(|| context("TCP", listen))?;
    tcp.listen(1024)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).with_context(|| context("UDP", address))?;
    udp.set_nonblocking(true)?;
    Ok((tcp, udp))
}
