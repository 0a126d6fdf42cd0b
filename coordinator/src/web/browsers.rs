//! Sign-ins as browsers go through them, each under its cookie. The table is bounded, every entry ends by itself,
//! and no network can crowd others out.
//!
//! What may happen once happens once, because it is taken out of the table by whoever is first: a provider's answer
//! (D6), and a confirmation.

use crate::web::limits::{BROWSER_LIFETIME, MAX_BROWSERS};
use crate::web::seam::{Attempt, SignedIn};
use bulkhead_coordinator_engine::{SignInOutcome, Waiting};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq as _;

/// Where a browser is.
enum Stage {
    /// Chooses a provider.
    Choosing,
    /// Is at a provider.
    Away(Box<dyn Attempt>),
    /// Came back; the person looks at what is asked.
    SignedIn(Arc<SignedIn>),
    /// Has its answer.
    Ended(Ended),
}

/// How a sign-in ended, as far as its page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Confirmed.
    Done(SignInOutcome),
    /// Refused by the person.
    Refused,
}

struct Browser {
    source: IpAddr,
    began: Instant,
    code: String,
    stage: Stage,
}

impl Browser {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= BROWSER_LIFETIME
    }
}

/// All of them, by the hash of their cookie.
#[derive(Default)]
pub(super) struct Browsers(Waiting<Browser, MAX_BROWSERS>);

impl Browsers {
    /// A browser begins with a code; `former` is its sign-in before, which is over.
    pub(super) fn open(
        &mut self,
        key: String,
        former: Option<&str>,
        code: String,
        source: IpAddr,
        now: Instant,
    ) {
        if let Some(former) = former {
            self.0.take(former);
        }
        self.0.expire(|browser| browser.is_over(now));
        self.0.insert(key, source, Browser { source, began: now, code, stage: Stage::Choosing });
    }

    /// The code that a browser began with, as long as nothing is decided.
    pub(super) fn code(&mut self, key: &str, now: Instant) -> Option<String> {
        let browser = self.live(key, now)?;
        (!matches!(browser.stage, Stage::Ended(_))).then(|| browser.code.clone())
    }

    /// It goes to a provider. An attempt that it made before is over.
    #[must_use]
    pub(super) fn depart(&mut self, key: &str, attempt: Box<dyn Attempt>, now: Instant) -> bool {
        let Some(browser) = self.live(key, now) else { return false };
        match browser.stage {
            Stage::Choosing | Stage::Away(_) | Stage::SignedIn(_) => {
                browser.stage = Stage::Away(attempt);
                true
            }
            Stage::Ended(_) => false,
        }
    }

    /// It is back from its provider: the attempt that this state belongs to, once. An answer with another state
    /// changes nothing, so that nobody can end a sign-in by sending the browser here.
    pub(super) fn arrive(&mut self, key: &str, state: &str, now: Instant) -> Option<Box<dyn Attempt>> {
        let browser = self.live(key, now)?;
        match std::mem::replace(&mut browser.stage, Stage::Choosing) {
            Stage::Away(attempt) if bool::from(attempt.state().as_bytes().ct_eq(state.as_bytes())) => {
                Some(attempt)
            }
            other @ (Stage::Choosing | Stage::Away(_) | Stage::SignedIn(_) | Stage::Ended(_)) => {
                browser.stage = other;
                None
            }
        }
    }

    /// A provider vouched for the person at the browser, which goes on under another cookie: one that was known
    /// before the sign-in is worth nothing after it.
    #[must_use]
    pub(super) fn sign_in(&mut self, key: &str, fresh: String, person: SignedIn, now: Instant) -> bool {
        if self.code(key, now).is_none() {
            return false;
        }
        let Some(mut browser) = self.0.take(key) else { return false };
        browser.stage = Stage::SignedIn(Arc::new(person));
        self.0.insert(fresh, browser.source, browser);
        true
    }

    /// Who is at the browser.
    pub(super) fn signed_in(&mut self, key: &str, now: Instant) -> Option<(String, Arc<SignedIn>)> {
        let browser = self.live(key, now)?;
        match &browser.stage {
            Stage::SignedIn(person) => Some((browser.code.clone(), Arc::clone(person))),
            Stage::Choosing | Stage::Away(_) | Stage::Ended(_) => None,
        }
    }

    /// The same, once: the person's word is final.
    pub(super) fn decide(&mut self, key: &str, now: Instant) -> Option<(String, Arc<SignedIn>)> {
        let found = self.signed_in(key, now)?;
        self.live(key, now)?.stage = Stage::Choosing;
        Some(found)
    }

    /// How it ended.
    pub(super) fn end(&mut self, key: &str, ended: Ended, now: Instant) {
        if let Some(browser) = self.0.get_mut(key) {
            browser.stage = Stage::Ended(ended);
            browser.began = now;
        }
    }

    /// What the last page shows.
    pub(super) fn ended(&mut self, key: &str, now: Instant) -> Option<Ended> {
        match &self.live(key, now)?.stage {
            Stage::Ended(ended) => Some(ended.clone()),
            Stage::Choosing | Stage::Away(_) | Stage::SignedIn(_) => None,
        }
    }

    fn live(&mut self, key: &str, now: Instant) -> Option<&mut Browser> {
        if self.0.get(key)?.is_over(now) {
            self.0.take(key);
        }
        self.0.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::seam::{Answer, Callback, SsoFault};
    use std::net::Ipv4Addr;

    struct Fixed;

    impl Attempt for Fixed {
        fn provider(&self) -> &str {
            "acme"
        }
        fn url(&self) -> &str {
            "https://idp.example/"
        }
        fn state(&self) -> &str {
            "state"
        }
        fn finish(self: Box<Self>, _: Callback) -> Answer<'static, Result<SignedIn, SsoFault>> {
            Box::pin(async { Err(SsoFault::Unknown) })
        }
    }

    fn begun(now: Instant) -> Browsers {
        let mut browsers = Browsers::default();
        browsers.open("mine".into(), None, "WDJB-MJHT".into(), Ipv4Addr::LOCALHOST.into(), now);
        browsers
    }

    #[test]
    fn d6_an_answer_counts_once_and_only_with_its_state() {
        let now = Instant::now();
        let mut browsers = begun(now);
        assert!(browsers.arrive("mine", "state", now).is_none(), "nothing was asked");
        assert!(browsers.depart("mine", Box::new(Fixed), now));
        assert!(browsers.arrive("another", "state", now).is_none(), "another browser");
        assert!(browsers.arrive("mine", "", now).is_none());
        assert!(browsers.arrive("mine", "stat", now).is_none());
        assert!(browsers.arrive("mine", "state", now).is_some(), "wrong ones did not end it");
        assert!(browsers.arrive("mine", "state", now).is_none(), "replayed");
    }

    #[test]
    fn a_sign_in_ends_by_itself() {
        let now = Instant::now();
        let mut browsers = begun(now);
        assert!(browsers.code("mine", now + BROWSER_LIFETIME / 2).is_some());
        assert!(browsers.code("mine", now + BROWSER_LIFETIME).is_none());
        assert_eq!(browsers.0.iter().count(), 0);
    }
}
