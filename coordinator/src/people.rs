//! Joins pages, providers and engine: what the pages ask of either is answered here, and what providers say when
//! they are asked again goes to the engine.

use crate::api::Problem;
use crate::config::People;
use crate::device_flow::DeviceFlows;
use crate::engine::{AskError, Engine};
use crate::https;
use crate::rarely::Rarely;
use crate::sso::oidc::{self, Providers};
use crate::sso::refresher::{self, Heard, Listener};
use crate::sso::sessions::{Session, Sessions};
use crate::sso::{RefreshToken, Refreshed, SsoError, chain};
use crate::state_dir::StateDir;
use crate::stop::Stop;
use crate::web::Web;
use crate::web::certificate::WebCertificate;
use crate::web::seam::{Answer, Attempt, Callback, RelyingParty, SignIns, SignedIn, SsoFault};
use anyhow::{Context, Result};
use bulkhead_coordinator_engine::{
    Claims, Class, Command, Preview, Refusal, Reply, Road, SignInOutcome, SignInView,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

/// Providers and the sessions of people with them.
pub(crate) struct Desk {
    /// Shared with the API, where workloads show their tokens.
    pub(crate) providers: Arc<Providers>,
    sessions: Arc<Sessions>,
}

impl Desk {
    /// For machines whose people cannot reach our pages.
    pub(crate) fn device_flows(&self, engine: &Engine) -> DeviceFlows {
        DeviceFlows::new(engine.clone(), Arc::clone(&self.providers), Arc::clone(&self.sessions))
    }

    /// Reads secrets, roots and kept sessions; asks nobody yet.
    ///
    /// # Errors
    /// A file cannot be read, or a setting contradicts another.
    pub(crate) fn open(state: &StateDir, people: &People) -> Result<Self> {
        let providers = Arc::new(Providers::load(&people.providers)?);
        let sessions = Arc::new(Sessions::open(state).context("the sessions of people who signed in")?);
        Ok(Self { providers, sessions })
    }

    /// Serves the pages, if there are any, and asks the providers again, until the stop.
    ///
    /// # Errors
    /// The pages' certificate cannot be read, or their address is taken.
    pub(crate) async fn serve(
        self,
        people: &People,
        engine: &Engine,
        doors: &mut JoinSet<()>,
        stop: &Stop,
    ) -> Result<()> {
        let Self { providers, sessions } = self;
        if let Some(web) = &people.web {
            let certificate = Arc::new(WebCertificate::load(&web.certificate, &web.key).context("`[web]`")?);
            let listener = TcpListener::bind(web.listen)
                .await
                .with_context(|| format!("cannot listen for browsers on {}", web.listen))?;
            let tls = certificate.tls().context("TLS for browsers")?;
            let sign_ins = Arc::new(EngineSignIns(engine.clone()));
            let relying =
                Arc::new(Relying { providers: Arc::clone(&providers), sessions: Arc::clone(&sessions) });
            let pages = Web::new(&web.url, sign_ins, relying).router();
            doors.spawn(https::serve(listener, tls, pages, stop.clone()));
            doors.spawn(certificate.follow(stop.clone()));
            tracing::info!(address = %web.listen, url = web.url, "serving pages for people");
        }
        doors.spawn(refresher::run(providers, sessions, Arc::new(engine.clone()), stop.clone()));
        Ok(())
    }
}

/// The engine hears what providers say.
impl Listener for Engine {
    async fn hear(&self, said: Refreshed) -> Heard {
        let Refreshed { issuer, subject, outcome } = said;
        let take_up = |request, entropy| Command::Refreshed { request, issuer, subject, outcome, entropy };
        let reason = match self.ask(take_up).await {
            Ok(Reply::Refreshed(true)) => return Heard::TakenUp,
            Ok(Reply::Refreshed(false)) => return Heard::NothingLeft,
            Ok(Reply::Refused(refusal)) => refusal.message,
            #[allow(clippy::wildcard_enum_match_arm)] // Any other answer is the same bug.
            Ok(_) => unexpected().message,
            Err(error) => error.to_string(),
        };
        tracing::error!(reason, "what a provider said of a person is not taken up; it is asked again soon");
        Heard::NotNow
    }
}

/// Sign-ins, as the engine knows them.
struct EngineSignIns(Engine);

/// Takes the one variant of [`Reply`] that answers.
macro_rules! answered {
    ($reply:expr, $variant:ident) => {
        match $reply? {
            Reply::$variant(value) => Ok(value),
            Reply::Refused(refusal) => Err(refusal),
            #[allow(clippy::wildcard_enum_match_arm)] // Any other answer is the same bug.
            _ => Err(unexpected()),
        }
    };
}
pub(crate) use answered;

impl SignIns for EngineSignIns {
    fn look<'a>(&'a self, code: &'a str, source: IpAddr) -> Answer<'a, Result<SignInView, Refusal>> {
        let user_code = code.to_owned();
        Box::pin(async move {
            let ask = |request, _| Command::SignInLook { request, user_code, source };
            answered!(self.0.ask(ask).await.map_err(stopping), SignIn)
        })
    }

    fn preview<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<Preview, Refusal>> {
        let (user_code, claims) = (code.to_owned(), Box::new(claims.clone()));
        Box::pin(async move {
            let ask =
                |request, entropy| Command::SignInPreview { request, user_code, claims, source, entropy };
            answered!(self.0.ask(ask).await.map_err(stopping), SignInPreview)
        })
    }

    fn confirm<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<SignInOutcome, Refusal>> {
        let (user_code, claims) = (code.to_owned(), Box::new(claims.clone()));
        Box::pin(async move {
            let ask = |request, entropy| Command::SignInConfirm {
                request,
                user_code,
                claims,
                road: Road::Page,
                source,
                entropy,
            };
            answered!(self.0.ask(ask).await.map_err(stopping), SignInDone)
        })
    }

    fn refuse<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<(), Refusal>> {
        let (user_code, claims) = (code.to_owned(), Some(Box::new(claims.clone())));
        Box::pin(async move {
            let ask = |request, _| Command::SignInRefuse { request, user_code, claims, source };
            let reply = self.0.ask(ask).await.map_err(stopping)?;
            if let Reply::Refused(refusal) = reply {
                return Err(refusal);
            }
            if matches!(reply, Reply::Done) { Ok(()) } else { Err(unexpected()) }
        })
    }
}

/// The providers, as the pages see them.
pub(crate) struct Relying {
    pub(crate) providers: Arc<Providers>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Relying {
    /// Keeps what the provider gave to ask it again about this person.
    pub(crate) async fn keep_session(&self, claims: &Claims, refresh: Option<RefreshToken>) {
        let Some(refresh) = refresh else { return };
        let Claims { provider, issuer, subject, .. } = claims;
        let Some(config) = self.providers.configs().find(|config| config.name == *provider) else { return };
        let due = Instant::now() + config.refresh;
        let client_id = config.client_id.clone().unwrap_or_default();
        let session = Session { issuer: issuer.clone(), client_id, subject: subject.clone(), refresh };
        let sessions = Arc::clone(&self.sessions);
        let kept = tokio::task::spawn_blocking(move || sessions.keep(&session, due)).await;
        if let Ok(Err(error)) = kept {
            let reason = format!("{error:#}");
            tracing::error!(reason, "a session cannot be kept; its person has to sign in again when it ends");
        }
    }
}

impl RelyingParty for Relying {
    fn providers(&self) -> Vec<String> {
        let people = self.providers.configs().filter(|config| config.is_for_people());
        people.map(|config| config.name.clone()).collect()
    }

    fn authorize<'a>(
        &'a self,
        provider: &'a str,
        redirect_uri: &'a str,
    ) -> Answer<'a, Result<Box<dyn Attempt>, SsoFault>> {
        Box::pin(async move {
            let (url, attempt) = self.providers.authorize(provider, redirect_uri).await.map_err(fault)?;
            let providers = Arc::clone(&self.providers);
            Ok(Box::new(Begun { providers, url, attempt }) as Box<dyn Attempt>)
        })
    }

    fn keep<'a>(&'a self, person: &'a SignedIn) -> Answer<'a, ()> {
        Box::pin(async move {
            let refresh = person.refresh.as_ref().map(|refresh| RefreshToken::new(refresh.to_string()));
            self.keep_session(&person.claims, refresh).await;
        })
    }
}

/// A person is on the way.
struct Begun {
    providers: Arc<Providers>,
    url: String,
    attempt: oidc::Attempt,
}

impl Attempt for Begun {
    fn provider(&self) -> &str {
        self.attempt.provider()
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn state(&self) -> &str {
        self.attempt.state()
    }

    fn finish(self: Box<Self>, callback: Callback) -> Answer<'static, Result<SignedIn, SsoFault>> {
        let Self { providers, attempt, .. } = *self;
        Box::pin(async move {
            let Callback { code, issuer, error, error_description } = callback;
            let callback = oidc::Callback {
                // The page has found the attempt by it.
                state: Some(attempt.state().to_owned()),
                code: code.map(|code| code.to_string()),
                iss: issuer,
                error,
                error_description,
            };
            let signed_in = providers.finish(attempt, &callback).await.map_err(fault)?;
            let refresh = signed_in.refresh.map(|token| Zeroizing::new(token.secret().to_owned()));
            Ok(SignedIn { claims: signed_in.claims, refresh })
        })
    }
}

fn fault(error: SsoError) -> SsoFault {
    let said = chain(&error);
    match error {
        SsoError::NoProvider(_) => SsoFault::Unknown,
        SsoError::Denied { reason, .. } => SsoFault::Refused(reason),
        SsoError::Claims { .. } => SsoFault::Refused(said),
        SsoError::Unreachable { .. } | SsoError::Resting { .. } | SsoError::Misconfigured { .. } => {
            SsoFault::Unreachable(said)
        }
        SsoError::Callback(_) | SsoError::Token(_) => SsoFault::Invalid(said),
    }
}

/// Whoever shows a workload's token or begins a device flow hears why it is refused, but no stranger hears what is
/// inside.
impl From<SsoError> for Problem {
    fn from(error: SsoError) -> Self {
        let (class, said) = match &error {
            SsoError::Unreachable { provider, .. }
            | SsoError::Resting { provider, .. }
            | SsoError::Misconfigured { provider, .. } => {
                static TOLD: Rarely = Rarely::new();
                if TOLD.may_tell(provider, Instant::now()) {
                    tracing::warn!(provider, reason = %chain(&error), "a provider cannot be asked for a stranger");
                }
                (
                    Class::Unavailable,
                    format!("the provider {provider} cannot be reached; the coordinator's log says why"),
                )
            }
            SsoError::NoProvider(_)
            | SsoError::Denied { .. }
            | SsoError::Callback(_)
            | SsoError::Token(_)
            | SsoError::Claims { .. } => (Class::Forbidden, chain(&error)),
        };
        refusal(class, "BH-R095", said).into()
    }
}

pub(crate) fn refusal(class: Class, code: &'static str, message: String) -> Refusal {
    Refusal { class, code, message, help: None, diagnostics: Vec::new() }
}

pub(crate) fn stopping(error: AskError) -> Refusal {
    refusal(Class::Unavailable, "BH-R090", error.to_string())
}

pub(crate) fn unexpected() -> Refusal {
    tracing::error!("the engine answered another question than was asked");
    refusal(Class::Internal, "BH-R091", "the coordinator gave itself a wrong answer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_not_told_what_is_inside() {
        let (provider, reason) = ("acme".to_owned(), "cannot connect to 10.0.0.1".to_owned());
        for error in [
            SsoError::Resting { provider: provider.clone(), reason: reason.clone() },
            SsoError::Misconfigured { provider, reason },
        ] {
            let said = format!("{:?}", Problem::from(error));
            assert!(said.contains("acme") && !said.contains("10.0.0.1"), "{said}");
        }
    }
}
