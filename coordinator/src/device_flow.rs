//! Sign-ins on a provider's own page, by its device flow (RFC 8628), for machines whose people cannot reach our pages.
//! That page shows neither the machine nor a match code, so whoever confirms there vouches for nothing that an
//! administrator does not approve (D7); the engine sees to that.
//!
//! Each flow asks the provider every few seconds for up to ten minutes, and strangers may begin them: there are few at a
//! time, and fewer for one network.

use crate::api::Problem;
use crate::engine::Engine;
use crate::people::{Relying, answered, refusal, stopping, unexpected};
use crate::sso::oidc::Providers;
use crate::sso::sessions::Sessions;
use crate::sso::{DeviceAttempt, SignedIn, SsoError, chain};
use bulkhead_coordinator_engine::{Class, Command, Network, Purpose, Refusal, Reply, Road};
use bulkhead_protocol::signin::{DeviceAuthorization, SIGN_IN_WINDOW_SECS};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long we wait for the person: as long as the sign-in here lasts, and time to end it.
const SIGN_IN_WINDOW: Duration = Duration::from_secs(SIGN_IN_WINDOW_SECS - 15);
/// How long a place is taken after a provider could not be asked, or answered what cannot be shown.
const REST: Duration = Duration::from_secs(60);
/// Device flows at a time.
pub(crate) const MAX_DEVICE_FLOWS: usize = 64;
/// Device flows of one network at a time.
pub(crate) const MAX_DEVICE_FLOWS_PER_NETWORK: usize = 4;

/// The device flows that are on their way; cheap to clone.
#[derive(Clone)]
pub(crate) struct DeviceFlows {
    engine: Engine,
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    places: Arc<Places>,
}

impl DeviceFlows {
    pub(crate) fn new(engine: Engine, providers: Arc<Providers>, sessions: Arc<Sessions>) -> Self {
        Self { engine, providers, sessions, places: Arc::default() }
    }

    /// Begins a flow at this provider; what to show and what to poll with. From then on it goes on by itself.
    ///
    /// # Errors
    /// There is no such provider, it offers no device flow or cannot be asked, or too many are on their way.
    pub(crate) async fn begin(
        &self,
        provider: &str,
        purpose: Purpose,
        source: IpAddr,
    ) -> Result<DeviceAuthorization, Problem> {
        let place = self.places.take(source).ok_or_else(full)?;
        // A task of its own: who hangs up meanwhile is not rid of the place, and cannot have the provider asked faster.
        let beginning = self.clone().begin_at(place, provider.to_owned(), purpose, source);
        tokio::spawn(beginning).await.unwrap_or_else(|_| Err(stopping_flow().into()))
    }

    async fn begin_at(
        self,
        place: Place,
        provider: String,
        purpose: Purpose,
        source: IpAddr,
    ) -> Result<DeviceAuthorization, Problem> {
        let until = Instant::now() + SIGN_IN_WINDOW;
        // Proofs before the provider is asked for anything.
        let road = Road::ProviderDevice;
        let ask = |request, entropy| Command::SignInBegin { request, source, purpose, road, entropy };
        let mut begun = answered!(self.engine.ask(ask).await.map_err(stopping), SignInBegun)?;
        let ours = begun.user_code.clone();
        let attempt = match self.attempt(provider, &mut begun).await {
            Ok(attempt) => attempt,
            Err(error) => {
                // Who errs about the name has had nobody asked.
                if !matches!(error, SsoError::NoProvider(_)) {
                    tokio::spawn(async move {
                        tokio::time::sleep(REST).await;
                        drop(place);
                    });
                }
                return Err(error.into());
            }
        };
        tokio::spawn(self.follow(attempt, ours, source, until, place));
        Ok(begun)
    }

    /// Has the provider begin, and puts what it says to show in the place of what we would.
    async fn attempt(
        &self,
        provider: String,
        begun: &mut DeviceAuthorization,
    ) -> Result<DeviceAttempt, SsoError> {
        let attempt = self.providers.device_begin(&provider).await?;
        let page = attempt.verification_uri();
        page.clone_into(&mut begun.verification_uri);
        attempt.verification_uri_complete().unwrap_or(page).clone_into(&mut begun.verification_uri_complete);
        begun.user_code = attempt.user_code().to_owned();
        begun.expires_in = begun.expires_in.min(attempt.expires_in().as_secs());
        if !begun.is_presentable() {
            let reason = "its device flow begins with something that cannot be shown".to_owned();
            return Err(SsoError::Misconfigured { provider, reason });
        }
        Ok(attempt)
    }

    /// Waits for the person, and confirms for them.
    async fn follow(
        self,
        attempt: DeviceAttempt,
        user_code: String,
        source: IpAddr,
        until: Instant,
        _place: Place,
    ) {
        let provider = attempt.provider().to_owned();
        let waited = tokio::time::timeout_at(until.into(), self.providers.device_wait(attempt)).await;
        let outcome = match waited {
            Ok(Ok(person)) => self.confirm(user_code, person, source).await,
            Err(_) => self.refuse(user_code, source).await,
            Ok(Err(error)) => {
                tracing::info!(provider, reason = chain(&error), "a device flow ended without a sign-in");
                self.refuse(user_code, source).await
            }
        };
        if let Err(refusal) = outcome {
            tracing::info!(
                provider,
                code = refusal.code,
                reason = refusal.message,
                "a device flow was refused"
            );
        }
    }

    async fn confirm(&self, user_code: String, person: SignedIn, source: IpAddr) -> Result<(), Refusal> {
        let claims = Box::new(person.claims.clone());
        let road = Road::ProviderDevice;
        let ask =
            |request, entropy| Command::SignInConfirm { request, user_code, claims, road, source, entropy };
        answered!(self.engine.ask(ask).await.map_err(stopping), SignInDone)?;
        let relying =
            Relying { providers: Arc::clone(&self.providers), sessions: Arc::clone(&self.sessions) };
        relying.keep_session(&person.claims, person.refresh).await;
        Ok(())
    }

    async fn refuse(&self, user_code: String, source: IpAddr) -> Result<(), Refusal> {
        let ask = |request, _| Command::SignInRefuse { request, user_code, claims: None, source };
        let reply = self.engine.ask(ask).await.map_err(stopping)?;
        if let Reply::Refused(refusal) = reply { Err(refusal) } else { Ok(()) }
    }
}

fn stopping_flow() -> Refusal {
    refusal(Class::Unavailable, "BH-R090", "the coordinator is stopping".to_owned())
}

fn full() -> Problem {
    let message = format!(
        "too many sign-ins by device flow are on their way: at most {MAX_DEVICE_FLOWS_PER_NETWORK} of one network \
         (MAX_DEVICE_FLOWS_PER_NETWORK), {MAX_DEVICE_FLOWS} in all (MAX_DEVICE_FLOWS)"
    );
    let mut full = refusal(Class::TooMany, "BH-R096", message);
    full.help = Some("finish those, or wait ten minutes".to_owned());
    full.into()
}

/// How many flows each network has on its way.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<Network, usize>>);

impl Places {
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let network = Network::from(source);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&network).copied().unwrap_or(0);
        if all >= MAX_DEVICE_FLOWS || own >= MAX_DEVICE_FLOWS_PER_NETWORK {
            return None;
        }
        taken.insert(network, own + 1);
        Some(Place { network, places: Arc::clone(self) })
    }
}

/// One of them; free again when dropped.
#[derive(Debug)]
struct Place {
    network: Network,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_network_takes_all_places_and_none_is_lost() {
        let places = Arc::new(Places::default());
        let take = |number: usize| places.take(format!("192.0.2.{number}").parse().unwrap());
        let own: Vec<_> = std::iter::from_fn(|| take(1)).collect();
        assert_eq!(own.len(), MAX_DEVICE_FLOWS_PER_NETWORK);
        let others: Vec<_> = (2..200).filter_map(take).collect();
        assert_eq!(own.len() + others.len(), MAX_DEVICE_FLOWS);
        assert!(take(250).is_none());
        drop((own, others));
        assert!(places.0.lock().unwrap().is_empty());
        assert!(take(1).is_some());
    }
}
