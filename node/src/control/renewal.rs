//! When to ask for the next certificate.
//!
//! Property: a certificate is renewed at half of its life, so that the other half is there for a coordinator that is
//! away; nodes enrolled together do not renew together; and what failed is tried again, more often as the end nears.
//! One that has ended is renewed as soon as there is a link.

use crate::control::backoff::jitter;
use crate::handle::{AskError, Reply};
use bulkhead_identity::{Claims, Timestamp};
use std::time::Duration;

/// Of the lifetime, how much the moment of renewal varies.
const JITTER_DIVISOR: u32 = 10;
/// A failed renewal is tried again after this part of what is left.
const RETRY_DIVISOR: u32 = 8;
/// But not sooner than this.
const MIN_RETRY: Duration = Duration::from_secs(2);
/// Once it has ended there is no hurry that would excuse a stampede: the coordinator may be refusing everyone.
const ENDED_RETRY: Duration = Duration::from_secs(16);
/// Nor later.
const MAX_RETRY: Duration = Duration::from_secs(600);
/// A renewal without an answer has failed after this.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The renewal of one certificate after another.
#[derive(Debug)]
pub(crate) struct Renewal {
    due: Timestamp,
    asked: Option<Duration>,
    waiting: Option<Reply>,
}

impl Renewal {
    /// Plans the renewal of a certificate that was loaded: at half of its life, or soon when that has passed.
    pub(crate) fn plan(claims: &Claims, wall: Timestamp) -> Self {
        let life = claims.not_before.until(claims.not_after);
        let half = claims.not_before.plus(life / 2).max(wall);
        // Of what is left at most: a certificate begins before it was made, and a short one is over before its jitter.
        let spread = life.min(wall.until(claims.not_after)) / JITTER_DIVISOR;
        Self { due: half.plus(jitter(spread)), asked: None, waiting: None }
    }

    /// Whether to send the first message of a renewal now.
    pub(crate) fn is_due(&self, wall: Timestamp) -> bool {
        self.asked.is_none() && wall >= self.due
    }

    /// The certificate has ended, here or by the coordinator's clock: there is nothing to wait for.
    pub(crate) fn hasten(&mut self, wall: Timestamp) {
        self.due = self.due.min(wall);
    }

    /// A person wants it now. The caller sends the first message.
    ///
    /// # Errors
    /// The waiter, when one is waiting already.
    pub(crate) fn wanted(&mut self, waiter: Reply) -> Result<(), Reply> {
        if self.waiting.is_some() {
            return Err(waiter);
        }
        self.waiting = Some(waiter);
        Ok(())
    }

    /// The first message was sent.
    pub(crate) fn asked(&mut self, mono: Duration) {
        self.asked = Some(mono);
    }

    /// Whether a challenge is expected: one out of turn is not answered.
    pub(crate) fn is_under_way(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the coordinator has let us wait too long.
    pub(crate) fn is_overdue(&self, mono: Duration) -> bool {
        self.asked.is_some_and(|since| mono.saturating_sub(since) >= ANSWER_TIMEOUT)
    }

    /// A new certificate is in force, asked for or not.
    ///
    /// Half of what is left counts, not of what the certificate says: it begins before it was made, so that a clock
    /// that is a little behind accepts it, and for a short one that would be past its half at once.
    pub(crate) fn succeeded(&mut self, claims: &Claims, wall: Timestamp) {
        let left = wall.until(claims.not_after);
        self.due = wall.plus(left / 2 + jitter(left / JITTER_DIVISOR));
        self.finish(Ok(()));
    }

    /// It did not work; the certificate in force ends at `not_after`.
    pub(crate) fn failed(&mut self, wall: Timestamp, not_after: Timestamp, why: AskError) {
        let left = wall.until(not_after);
        let pause =
            if left.is_zero() { ENDED_RETRY } else { (left / RETRY_DIVISOR).clamp(MIN_RETRY, MAX_RETRY) };
        self.due = wall.plus(pause / 2 + jitter(pause / 2));
        self.finish(Err(why));
    }

    /// The link is gone and with it the conversation.
    pub(crate) fn interrupted(&mut self) {
        self.finish(Err(AskError::NotConnected("the link broke off".into())));
    }

    fn finish(&mut self, result: Result<(), AskError>) {
        self.asked = None;
        if let Some(waiter) = self.waiting.take() {
            // Whoever asked may have given up.
            let _ = waiter.send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{Domain, NOW, Person};
    use bulkhead_identity::VerifiedIdentity;
    use tokio::sync::oneshot;

    fn life_tenth(me: &VerifiedIdentity) -> Duration {
        me.claims().not_before.until(me.not_after()) / JITTER_DIVISOR
    }

    #[test]
    fn a_fresh_certificate_is_renewed_in_its_third_quarter_at_the_latest() {
        let me = Domain::new().verified(&Person::new("web", 1));
        let mut renewal = Renewal::plan(me.claims(), NOW);
        renewal.succeeded(me.claims(), NOW);
        let left = NOW.until(me.not_after());
        assert!(!renewal.is_due(NOW.plus(left / 2 - Duration::from_secs(1))));
        assert!(renewal.is_due(NOW.plus(left * 3 / 4)));
    }

    #[test]
    fn a_certificate_past_its_half_is_renewed_soon_after_the_start() {
        let me = Domain::new().verified(&Person::new("web", 1));
        let late = Timestamp(me.not_after().0 - 60);
        assert!(Renewal::plan(me.claims(), late).due <= late.plus(life_tenth(&me)));
    }

    #[test]
    fn an_ended_certificate_is_renewed_at_once_and_tried_again_soon() {
        let me = Domain::new().verified(&Person::new("web", 1));
        let late = me.not_after().plus(Duration::from_secs(3600));
        let mut renewal = Renewal::plan(me.claims(), late);
        assert!(renewal.is_due(late));
        renewal.asked(Duration::ZERO);
        renewal.failed(late, me.not_after(), AskError::Busy);
        assert!(!renewal.is_due(late));
        assert!(renewal.is_due(late.plus(ENDED_RETRY)));
        renewal.hasten(late);
        assert!(renewal.is_due(late));
    }

    #[test]
    fn a_failure_is_tried_again_before_the_certificate_ends_and_told_to_whoever_waits() {
        let me = Domain::new().verified(&Person::new("web", 1));
        let mut renewal = Renewal::plan(me.claims(), NOW);
        let (first, mut answer) = oneshot::channel();
        renewal.wanted(first).unwrap();
        assert!(renewal.wanted(oneshot::channel().0).is_err(), "one at a time");
        renewal.asked(Duration::ZERO);
        assert!(renewal.is_overdue(ANSWER_TIMEOUT));
        let late = Timestamp(me.not_after().0 - 60);
        renewal.failed(late, me.not_after(), AskError::Busy);
        assert_eq!(answer.try_recv().unwrap(), Err(AskError::Busy));
        assert!(renewal.is_due(Timestamp(me.not_after().0 - 40)));
    }
}
