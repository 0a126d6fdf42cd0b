//! Asking again about people who signed in, against a provider that rotates its refresh tokens.

use super::provider::Provider;
use super::sign_in;
use crate::sso::refresher::{self, Heard, Listener};
use crate::sso::sessions::{Session, Sessions};
use crate::sso::{ProviderConfig, Providers, RefreshOutcome, RefreshToken, Refreshed};
use crate::state_dir::StateDir;
use crate::stop::{Stopper, stop};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// A test that waits for an event fails after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Passes on what it hears, and does not take up the first denial.
struct Ear {
    tell: mpsc::Sender<Refreshed>,
    deaf_to_denials: AtomicBool,
    /// It takes up no more than this.
    may: Semaphore,
    taken_up: AtomicBool,
}

impl Listener for Ear {
    async fn hear(&self, said: Refreshed) -> Heard {
        let denied = matches!(said.outcome, RefreshOutcome::Denied(_));
        self.tell.send(said).await.unwrap();
        if denied && self.deaf_to_denials.swap(false, Ordering::Relaxed) {
            return Heard::NotNow;
        }
        self.may.acquire().await.unwrap().forget();
        self.taken_up.store(true, Ordering::Relaxed);
        Heard::TakenUp
    }
}

struct Scene {
    provider: Provider,
    state: StateDir,
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    ear: Arc<Ear>,
    told: mpsc::Receiver<Refreshed>,
    stopper: Stopper,
    running: JoinHandle<()>,
}

impl Scene {
    /// The refresher runs, and everybody is asked about all the time.
    async fn start() -> Self {
        let provider = Provider::start().await;
        let config = ProviderConfig { refresh: Duration::from_millis(100), ..provider.config("acme") };
        let providers = Arc::new(Providers::load(&[config]).unwrap());
        let state = StateDir::create(&provider.folder().join("state")).unwrap();
        let sessions = Arc::new(Sessions::open(&state).unwrap());
        let (tell, told) = mpsc::channel(4);
        let ear = Arc::new(Ear {
            tell,
            deaf_to_denials: AtomicBool::new(false),
            may: Semaphore::new(1000),
            taken_up: AtomicBool::new(false),
        });
        let (stopper, stop) = stop();
        let running = refresher::run(Arc::clone(&providers), Arc::clone(&sessions), Arc::clone(&ear), stop);
        let running = tokio::spawn(running);
        Self { provider, state, providers, sessions, ear, told, stopper, running }
    }

    async fn sign_in(&self) -> Session {
        let ada = sign_in(&self.provider, &self.providers).await.unwrap();
        self.session(ada.refresh.unwrap())
    }

    fn session(&self, refresh: RefreshToken) -> Session {
        Session {
            issuer: self.provider.issuer.clone(),
            client_id: super::provider::CLIENT.into(),
            subject: "u-123".into(),
            refresh,
        }
    }

    async fn hear(&mut self) -> Refreshed {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn nobody_is_asked_about_any_more(&self) {
        let files = || std::fs::read_dir(self.state.path("sso/sessions")).unwrap().count();
        let deadline = Instant::now() + PATIENCE;
        while files() > 0 {
            assert!(Instant::now() < deadline, "somebody is");
            tokio::task::yield_now().await;
        }
        assert_eq!(self.sessions.next_due(), None);
    }

    async fn stop(self) {
        self.stopper.stop();
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_refresher_tells_what_changed_and_ends_what_is_denied() {
    let mut scene = Scene::start().await;
    let ada = scene.sign_in().await;
    scene.sessions.keep(&ada, Instant::now()).unwrap();
    let first = scene.hear().await;
    assert_eq!((&first.issuer, first.subject.as_str()), (&scene.provider.issuer, "u-123"));
    let RefreshOutcome::Claims(claims) = first.outcome else { panic!("denied") };
    assert_eq!(claims.groups.iter().collect::<Vec<_>>(), ["engineering"]);
    scene.provider.behaviour().person["groups"] = json!([]);
    // The rotated token works, again and again.
    let mut outcome = scene.hear().await.outcome;
    while matches!(&outcome, RefreshOutcome::Claims(claims) if !claims.groups.is_empty()) {
        outcome = scene.hear().await.outcome;
    }
    assert!(matches!(outcome, RefreshOutcome::Claims(_)));
    scene.ear.deaf_to_denials.store(true, Ordering::Relaxed);
    scene.provider.behaviour().refresh.clear();
    // The first denial is not taken up, so it is not lost: it is said again.
    for _ in 0..2 {
        outcome = scene.hear().await.outcome;
        while !matches!(outcome, RefreshOutcome::Denied(_)) {
            outcome = scene.hear().await.outcome;
        }
    }
    scene.nobody_is_asked_about_any_more().await;
    scene.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_believed_costs_nobody_the_session() {
    let mut scene = Scene::start().await;
    let ada = scene.sign_in().await;
    scene.provider.behaviour().person["groups"] = json!({ "too": "many" });
    let before = scene.provider.asked("/token");
    scene.sessions.keep(&ada, Instant::now()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while scene.provider.asked("/token") < before + 2 {
        assert!(Instant::now() < deadline, "it is asked again");
        tokio::task::yield_now().await;
    }
    scene.provider.behaviour().person["groups"] = json!(["engineering"]);
    assert!(matches!(scene.hear().await.outcome, RefreshOutcome::Claims(_)), "each time with the new token");
    scene.stop().await;
}

#[tokio::test]
async fn whose_provider_is_gone_is_denied_and_no_other_is_shown_the_token() {
    let mut scene = Scene::start().await;
    let before = scene.provider.asked("/token");
    let token = || RefreshToken::new("of-another".to_owned());
    let gone = Session { issuer: "https://gone.example".into(), ..scene.session(token()) };
    scene.sessions.keep(&gone, Instant::now()).unwrap();
    let said = scene.hear().await;
    assert_eq!((said.issuer.as_str(), said.subject.as_str()), ("https://gone.example", "u-123"));
    assert!(matches!(said.outcome, RefreshOutcome::Denied(_)));
    scene.nobody_is_asked_about_any_more().await;

    let renamed = Session { client_id: "former".into(), ..scene.session(token()) };
    scene.sessions.keep(&renamed, Instant::now()).unwrap();
    scene.nobody_is_asked_about_any_more().await;
    assert!(scene.told.try_recv().is_err(), "the provider has said nothing of this person");
    assert_eq!(scene.provider.asked("/token"), before);
    scene.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_what_was_asked() {
    let mut scene = Scene::start().await;
    let ada = scene.sign_in().await;
    scene.ear.may.forget_permits(1000);
    scene.sessions.keep(&ada, Instant::now()).unwrap();
    scene.hear().await;
    scene.stopper.stop();
    // The stop is heard first, or else the answer is taken up before: both show what is to be shown.
    tokio::task::yield_now().await;
    scene.ear.may.add_permits(1);
    tokio::time::timeout(PATIENCE, &mut scene.running).await.unwrap().unwrap();
    assert!(scene.ear.taken_up.load(Ordering::Relaxed));
    let kept = scene.sessions.next_due().unwrap();
    assert!(kept <= Instant::now() + Duration::from_millis(100), "nothing is asked after the stop");
}
