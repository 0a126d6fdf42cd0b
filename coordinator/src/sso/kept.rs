//! A document of a provider that is kept: asked for when it is old or lacks something, and never more than once a
//! minute, whatever strangers send us (D11).

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// After asking, successfully or not, the next time is no sooner than this.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);
/// What is older than this is asked for again when it is needed, so that a key that was withdrawn is forgotten.
pub(super) const FRESH: Duration = Duration::from_secs(3600);
/// What is older than this is no longer used, even when the provider cannot be reached.
pub(super) const STALE: Duration = Duration::from_secs(24 * 3600);

/// Keeps one document.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<State<T>>);

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

impl<T> Kept<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { value: None, asked: None, failure: String::new() }))
    }

    /// The document, asked for if there is none or it is old.
    pub(super) async fn current<E: std::error::Error>(
        &self,
        now: Instant,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, Lacking<E>> {
        // Held while asking, which has a deadline: whoever else needs the document waits for the same answer.
        let mut state = self.0.lock().await;
        if let Some(fresh) = state.younger_than(FRESH, now) {
            return Ok(fresh);
        }
        let failed = if state.may_ask(now) { state.ask(now, ask).await.err() } else { None };
        match (state.younger_than(STALE, now), failed) {
            (Some(kept), _) => Ok(kept),
            (None, Some(error)) => Err(Lacking::Failed(error)),
            (None, None) => Err(Lacking::Resting(state.failure.clone())),
        }
    }

    /// A document other than `known`, which lacks something; `None` if there is none or it is too soon to ask.
    pub(super) async fn other_than<E: std::error::Error>(
        &self,
        known: &Arc<T>,
        now: Instant,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Option<Arc<T>> {
        let mut state = self.0.lock().await;
        let newer =
            |state: &State<T>| state.younger_than(STALE, now).filter(|kept| !Arc::ptr_eq(kept, known));
        if newer(&state).is_none() && state.may_ask(now) {
            // A failure is remembered; the caller goes on with what it knows.
            let _ = state.ask(now, ask).await;
        }
        newer(&state)
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
    use std::cell::Cell;

    /// Counts how often it is asked; each answer is another number.
    #[derive(Default)]
    struct Provider(Cell<u32>, Cell<bool>);

    impl Provider {
        async fn ask(&self) -> Result<u32, std::fmt::Error> {
            self.0.set(self.0.get() + 1);
            if self.1.get() { Err(std::fmt::Error) } else { Ok(self.0.get()) }
        }
    }

    #[tokio::test]
    async fn d11_a_thousand_unknown_keys_ask_once_a_minute() {
        let (provider, kept, start) = (Provider::default(), Kept::new(), Instant::now());
        let first = kept.current(start, provider.ask()).await.unwrap();
        for n in 0..1000 {
            assert!(kept.other_than(&first, start + ASK_AGAIN * n / 1000, provider.ask()).await.is_none());
        }
        assert_eq!(provider.0.get(), 1, "keys that were fetched just now are not fetched again");
        let second = kept.other_than(&first, start + ASK_AGAIN, provider.ask()).await.unwrap();
        assert_eq!((*second, provider.0.get()), (2, 2));
        let again = kept.other_than(&first, start + ASK_AGAIN, provider.ask()).await.unwrap();
        assert_eq!((*again, provider.0.get()), (2, 2), "what another fetched serves this one too");
    }

    #[tokio::test]
    async fn what_is_old_is_asked_for_and_serves_a_day_when_there_is_no_answer() {
        let (provider, kept, start) = (Provider::default(), Kept::new(), Instant::now());
        assert_eq!(*kept.current(start, provider.ask()).await.unwrap(), 1);
        assert_eq!(*kept.current(start + FRESH, provider.ask()).await.unwrap(), 2);
        provider.1.set(true);
        assert_eq!(*kept.current(start + FRESH * 2, provider.ask()).await.unwrap(), 2);
        let late = start + FRESH + STALE;
        assert!(matches!(kept.current(late, provider.ask()).await, Err(Lacking::Failed(_))));
        assert!(matches!(kept.current(late, provider.ask()).await, Err(Lacking::Resting(_))));
        assert_eq!(provider.0.get(), 4);
    }
}
