//! What the coordinator sends, and what becomes of it.
//!
//! Property: every document goes through the verification of [`crate::state::held`] before it is believed, and one that
//! fails changes nothing: it is reported to the coordinator and to whoever reads the log or the status.

use crate::clock::Clock;
use crate::control::Control;
use crate::control::link::{Link, LinkError};
use crate::control::maphold::MapVerdict;
use crate::handle::{AskError, LinkPhase, Reply};
use crate::state::Part;
use crate::state::held::{Held, OwnerSession};
use bulkhead_identity::{CertificateRequest, Chain, Challenge, ChallengeKey, Timestamp};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::control::{Endpoint, MapError, MapUpdate, ToCoordinator, ToNode};
use bulkhead_protocol::offload::Offloads;
use std::fmt::Display;

/// A clock that is further off than this gets a warning.
const SKEW_WARNING_SECS: u64 = 30;
/// Longer texts from the coordinator are cut before they are logged or shown.
const MAX_TEXT_CHARS: usize = 300;

impl Control {
    /// Handles one message.
    ///
    /// # Errors
    /// When the link is of no use any more.
    pub(crate) async fn take_in(&mut self, link: &mut Link, message: ToNode) -> Result<(), LinkError> {
        let wall = self.daemon.now().wall;
        let held = self.daemon.held();
        match message {
            ToNode::Welcome { protocol, wall, observed, offloads_off, session_until } => {
                self.welcomed(protocol, wall, observed)?;
                self.leave_off(offloads_off);
                self.told_of_session(session_until);
                Ok(())
            }
            ToNode::Trust { document } => {
                self.decide(link, held.with_trust(&document, wall), Part::Trust, "trust document").await
            }
            // Every greeting brings it, because the coordinator cannot tell which slice of a generation we hold.
            ToNode::Policy { slice } if slice == held.policy.bytes() && !slice.is_empty() => {
                self.accepted("policy");
                Ok(())
            }
            ToNode::Policy { slice } => {
                self.decide(link, held.with_policy(&slice, wall), Part::Policy, "policy").await
            }
            ToNode::Revocations { list } => {
                self.decide(link, held.with_revocations(&list, wall), Part::Revocations, "revocation list")
                    .await
            }
            ToNode::Map(update) => self.take_map(link, update).await,
            ToNode::RenewChallenge { challenge, key } => self.answer_challenge(link, challenge, key).await,
            ToNode::Certificate { chain, session_until } => {
                self.told_of_session(session_until);
                self.take_certificate(link, &self.daemon.held(), &chain, wall).await
            }
            ToNode::WantFlows { ask } => self.tell_flows(link, ask).await,
            ToNode::Offloads { off } => {
                self.leave_off(off);
                Ok(())
            }
            ToNode::Refused { what, why } => {
                self.refused_by_coordinator(&what, &why);
                Ok(())
            }
        }
    }

    fn welcomed(&mut self, protocol: u32, theirs: Timestamp, observed: Endpoint) -> Result<(), LinkError> {
        // Only one version exists; an older one would be a downgrade (C7).
        if protocol != PROTOCOL_VERSION {
            return Err(LinkError::Protocol("it speaks another version of the protocol"));
        }
        self.daemon.0.clock.vouch(theirs);
        let mut next = Held::clone(&self.daemon.held());
        next.marks.wall = self.daemon.0.clock.mark();
        self.daemon.0.held.store(next.into());
        self.unsaved.insert(Part::Marks);
        let (now, skew) = (self.daemon.now().wall, Clock::skew_secs(theirs));
        self.link_state.send_modify(|state| {
            state.phase = LinkPhase::Connected;
            state.since = now;
            state.last_error = None;
            state.skew_secs = Some(skew);
            state.observed = Some(crate::packets::socket::plain(observed.0));
        });
        tracing::info!(observed = %observed.0, "connected to the coordinator");
        let not_after = self.daemon.me().not_after();
        if now.max(theirs) >= not_after {
            tracing::info!(
                not_after = not_after.0,
                "our certificate has ended: only its renewal is served until then"
            );
            self.renewal.hasten(now);
        }
        if skew.unsigned_abs() > SKEW_WARNING_SECS {
            tracing::warn!(
                skew_secs = skew,
                "this host's clock differs from the coordinator's: check time synchronisation"
            );
        }
        Ok(())
    }

    /// Keeps when the owner has to sign in again, for the status, also of a daemon that is started later.
    fn told_of_session(&mut self, until: Option<Timestamp>) {
        let (held, now) = (self.daemon.held(), self.daemon.now().wall);
        let session = until.map(|until| OwnerSession::told(held.session, until, now));
        if held.session == session {
            return;
        }
        let mut next = Held::clone(&held);
        next.session = session;
        self.daemon.0.held.store(next.into());
        self.unsaved.insert(Part::Marks);
        self.save();
    }

    /// Follows the coordinator's word on offloads, in the very next batch, and keeps it.
    fn leave_off(&mut self, off: Offloads) {
        let held = self.daemon.held();
        if held.offloads_off == off {
            return;
        }
        tracing::info!(%off, "the coordinator changed which offloads to leave off");
        self.daemon.switches().ask_from_coordinator(off);
        let mut next = Held::clone(&held);
        next.offloads_off = off;
        self.daemon.0.held.store(next.into());
        self.unsaved.insert(Part::Marks);
        self.save();
    }

    /// Installs what verified, and refuses what did not.
    async fn decide<E: Display>(
        &mut self,
        link: &mut Link,
        next: Result<Held, E>,
        part: Part,
        what: &'static str,
    ) -> Result<(), LinkError> {
        match next {
            Ok(next) => {
                self.accepted(what);
                self.install(link, next, part).await
            }
            Err(error) => self.refuse(link, what, &error.to_string()).await,
        }
    }

    async fn take_map(&mut self, link: &mut Link, update: MapUpdate) -> Result<(), LinkError> {
        let held = self.daemon.held();
        let map = match self.hold.base(&held).apply(update) {
            Ok(map) => map,
            Err(error @ (MapError::Gap { .. } | MapError::Absent(_))) => {
                tracing::debug!(%error, "asking for the whole map");
                return link.send(&ToCoordinator::WantSnapshot).await;
            }
            Err(error @ (MapError::TooMany(_) | MapError::Twice(_))) => {
                return self.refuse(link, "map", &error.to_string()).await;
            }
        };
        match self.hold.judge(&held, &map, self.daemon.now()) {
            MapVerdict::Apply => {
                self.decide(link, Ok::<_, LinkError>(held.with_map(map)), Part::Map, "map").await
            }
            MapVerdict::Hold { lost } => {
                tracing::warn!(lost, "the map suddenly lacks most peers; it waits before it is applied");
                Ok(())
            }
        }
    }

    async fn answer_challenge(
        &mut self,
        link: &mut Link,
        challenge: Challenge,
        key: ChallengeKey,
    ) -> Result<(), LinkError> {
        if !self.renewal.is_under_way() {
            // Somebody relabelled us, say, after we had asked.
            tracing::debug!("a challenge that nobody asked for, or not any more, is not answered");
            return Ok(());
        }
        let request = CertificateRequest::create(&self.identity, &self.tunnel, &challenge, &key);
        link.send(&ToCoordinator::RenewFinish { request }).await
    }

    async fn take_certificate(
        &mut self,
        link: &mut Link,
        held: &Held,
        chain: &Chain,
        wall: Timestamp,
    ) -> Result<(), LinkError> {
        match held.with_certificate(chain, wall) {
            Ok(next) => {
                let me = next.me.clone();
                self.accepted("certificate");
                self.install(link, next, Part::Certificate).await?;
                self.renewal.succeeded(me.claims(), wall);
                tracing::info!(not_after = me.not_after().0, "new certificate in force");
                Ok(())
            }
            Err(error) => {
                self.renewal.failed(wall, held.me.not_after(), AskError::Refused(error.to_string()));
                self.refuse(link, "certificate", &error.to_string()).await
            }
        }
    }

    /// Takes up the certificate that a sign-in of the owner brought past the link. Returns whether it replaces the one in
    /// force: then the link, which was made with that, is of no more use.
    pub(crate) fn take_over(&mut self, chain: &Chain, done: Reply) -> bool {
        let (held, wall) = (self.daemon.held(), self.daemon.now().wall);
        let taken = held.with_signed_in(chain, wall).map(|next| {
            let Some(next) = next else { return false };
            self.unsaved.insert(Part::Certificate);
            tokio::task::block_in_place(|| self.enforcer.enforce(&next));
            self.renewal.succeeded(next.me.claims(), wall);
            tracing::info!(not_after = next.me.not_after().0, "certificate of a new sign-in in force");
            self.daemon.0.held.store(next.into());
            self.save();
            true
        });
        let is_new = matches!(taken, Ok(true));
        // Whoever asked may have given up.
        let _ = done.send(taken.map(drop).map_err(|error| AskError::Local(error.to_string())));
        is_new
    }

    /// Starts a renewal because a person asked for it.
    ///
    /// # Errors
    /// When the link is of no use any more.
    pub(crate) async fn renew_now(&mut self, link: &mut Link, done: Reply) -> Result<(), LinkError> {
        match self.renewal.wanted(done) {
            Ok(()) if self.renewal.is_under_way() => Ok(()),
            Ok(()) => {
                self.renewal.asked(self.daemon.now().mono);
                link.send(&ToCoordinator::RenewBegin).await
            }
            Err(done) => {
                // Whoever asked may have given up.
                let _ = done.send(Err(AskError::Busy));
                Ok(())
            }
        }
    }

    fn refused_by_coordinator(&mut self, what: &str, why: &str) {
        let text = format!("{}: {}", cut(what), cut(why));
        tracing::warn!(text, "the coordinator refused something");
        if self.renewal.is_under_way() {
            let (wall, not_after) = (self.daemon.now().wall, self.daemon.me().not_after());
            self.renewal.failed(wall, not_after, AskError::Refused(text));
        }
    }

    async fn refuse(&mut self, link: &mut Link, what: &'static str, why: &str) -> Result<(), LinkError> {
        tracing::warn!(what, why, "refused what the coordinator sent; nothing changed");
        self.link_state.send_modify(|state| state.refused = Some(format!("{what}: {}", cut(why))));
        link.send(&ToCoordinator::Refused { what: what.into(), why: cut(why) }).await
    }

    fn accepted(&mut self, what: &'static str) {
        self.link_state.send_if_modified(|state| {
            let ours = state.refused.as_deref().is_some_and(|text| text.starts_with(what));
            if ours {
                state.refused = None;
            }
            ours
        });
    }
}

/// Text from outside, without control characters and not too long, for logs and terminals (E6).
pub(crate) fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
}
