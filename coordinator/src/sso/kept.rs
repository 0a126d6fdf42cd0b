//! A document of a provider that is kept: asked for when it is old or lacks something, and never more than once a
//! minute, whatever strangers send us (D11).

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// After asking, successfully or not, the next time is no sooner than this.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);
/// What is older than this is asked for again when it is needed, so that a key that was withdrawn is forgotten.
pub(super) const FRESH: Duration = Duration::from_secs(3600);
/// What is older than this is no longer used, even when the provider cannot be reached.
pub(super) const STALE: Duration = Duration::from_secs(24 * 3600);

/// Keeps one document.
#[derive(Debug)]
pub(super) struct Kept<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
struct State<T> {
    value: Option<(Arc<T>, Instant)>,
    asked: Option<Instant>,
    /// Why there was no answer the last time.
    failure: String,
}

/// There is no document.
#[derive(Debug)]
pub(super) enum Lacking<E> {
    /// The provider was asked just now.
    Failed(E),
    /// It was asked a moment ago; this is what came of it then.
    Resting(String),
}

impl<T: Send + Sync + 'static> Kept<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { value: None, asked: None, failure: String::new() })))
    }

    /// The document, asked for if there is none or it is old.
    pub(super) async fn current<E>(
        &self,
        now: Instant,
        ask: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<Arc<T>, Lacking<E>>
    where
        E: std::error::Error + Send + 'static,
    {
        let (state, failed) = self.unless(|state| state.younger_than(FRESH, now), now, ask).await;
        match (state.younger_than(STALE, now), failed) {
            (Some(kept), _) => Ok(kept),
            (None, Some(error)) => Err(Lacking::Failed(error)),
            (None, None) => Err(Lacking::Resting(state.failure.clone())),
        }
    }

    /// A document other than `known`, which lacks something; `None` if there is none or it is too soon to ask.
    pub(super) async fn other_than<E>(
        &self,
        known: &Arc<T>,
        now: Instant,
        ask: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Option<Arc<T>>
    where
        E: std::error::Error + Send + 'static,
    {
        let newer =
            |state: &State<T>| state.younger_than(STALE, now).filter(|kept| !Arc::ptr_eq(kept, known));
        // A failure is remembered; the caller goes on with what it knows.
        let (state, _) = self.unless(newer, now, ask).await;
        newer(&state)
    }

    /// Asks unless `enough` is there or it is too soon. The question is a task of its own: a stranger who hangs up
    /// ends neither it nor what others make of the answer.
    async fn unless<E>(
        &self,
        enough: impl FnOnce(&State<T>) -> Option<Arc<T>>,
        now: Instant,
        ask: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> (OwnedMutexGuard<State<T>>, Option<E>)
    where
        E: std::error::Error + Send + 'static,
    {
        // Held while asking, which has a deadline: whoever else needs the document waits for the same answer.
        let mut state = Arc::clone(&self.0).lock_owned().await;
        if enough(&state).is_some() || !state.may_ask(now) {
            return (state, None);
        }
        let asking = tokio::spawn(async move {
            let failed = state.ask(now, ask).await.err();
            (state, failed)
        });
        match asking.await {
            Ok(answered) => answered,
            // The runtime is ending, or the task panicked and has said so.
            Err(_) => (Arc::clone(&self.0).lock_owned().await, None),
        }
    }
}

impl<T> State<T> {
    fn younger_than(&self, age: Duration, now: Instant) -> Option<Arc<T>> {
        let (value, since) = self.value.as_ref()?;
        (now.saturating_duration_since(*since) < age).then(|| Arc::clone(value))
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN)
    }

    async fn ask<E: std::error::Error>(
        &mut self,
        now: Instant,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<(), E> {
        self.asked = Some(now);
        match ask.await {
            Ok(value) => self.value = Some((Arc::new(value), now)),
            Err(error) => {
                self.failure = error.to_string();
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tokio::sync::Notify;

    /// Counts how often it is asked; each answer is another number.
    #[derive(Default)]
    struct Provider {
        asked: AtomicU32,
        fails: AtomicBool,
    }

    impl Provider {
        fn ask(self: &Arc<Self>) -> impl Future<Output = Result<u32, std::fmt::Error>> + Send + use<> {
            let this = Arc::clone(self);
            async move {
                let n = this.asked.fetch_add(1, Ordering::Relaxed) + 1;
                if this.fails.load(Ordering::Relaxed) { Err(std::fmt::Error) } else { Ok(n) }
            }
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn d11_whoever_hangs_up_while_the_provider_is_asked_costs_nobody_its_answer() {
        let (kept, now) = (Kept::new(), Instant::now());
        let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
            async move {
                asked.notify_one();
                answer.notified().await;
                Ok::<_, std::fmt::Error>(1)
            }
        };
        tokio::select! {
            _ = kept.current(now, slow) => panic!("answered before it could be"),
            () = asked.notified() => {}
        }
        answer.notify_one();
        let provider = Arc::new(Provider::default());
        assert_eq!(*kept.current(now, provider.ask()).await.unwrap(), 1);
        assert_eq!(provider.asked(), 0, "nor does it have the provider asked again");
    }

    #[tokio::test]
    async fn d11_a_thousand_unknown_keys_ask_once_a_minute() {
        let (provider, kept, start) = (Arc::new(Provider::default()), Kept::new(), Instant::now());
        let first = kept.current(start, provider.ask()).await.unwrap();
        for n in 0..1000 {
            assert!(kept.other_than(&first, start + ASK_AGAIN * n / 1000, provider.ask()).await.is_none());
        }
        assert_eq!(provider.asked(), 1, "keys that were fetched just now are not fetched again");
        let second = kept.other_than(&first, start + ASK_AGAIN, provider.ask()).await.unwrap();
        assert_eq!((*second, provider.asked()), (2, 2));
        let again = kept.other_than(&first, start + ASK_AGAIN, provider.ask()).await.unwrap();
        assert_eq!((*again, provider.asked()), (2, 2), "what another fetched serves this one too");
    }

    #[tokio::test]
    async fn what_is_old_is_asked_for_and_serves_a_day_when_there_is_no_answer() {
        let (provider, kept, start) = (Arc::new(Provider::default()), Kept::new(), Instant::now());
        assert_eq!(*kept.current(start, provider.ask()).await.unwrap(), 1);
        assert_eq!(*kept.current(start + FRESH, provider.ask()).await.unwrap(), 2);
        provider.fails.store(true, Ordering::Relaxed);
        assert_eq!(*kept.current(start + FRESH * 2, provider.ask()).await.unwrap(), 2);
        let late = start + FRESH + STALE;
        assert!(matches!(kept.current(late, provider.ask()).await, Err(Lacking::Failed(_))));
        assert!(matches!(kept.current(late, provider.ask()).await, Err(Lacking::Resting(_))));
        assert_eq!(provider.asked(), 4);
    }
}
