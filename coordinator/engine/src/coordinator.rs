//! The switchboard: owns state, links and indexes, and routes commands to the files that know the rules. It
//! holds no rule about policy, keys or time itself.

use crate::asks::Asks;
use crate::command::{AdminCall, Command, Credential, RequestId, Road};
use crate::conversation::Arrival;
use crate::effect::{Effect, Effects, Reply};
use crate::enforce::in_force;
use crate::enrol::{Challenges, Finish};
use crate::entropy::Entropy;
use crate::event::{Actor, Change, Event};
use crate::links::Links;
use crate::lockout::Caller;
use crate::maps::Maps;
use crate::person::Person;
use crate::reach::Reach;
use crate::receipts::Receipts;
use crate::refusal::{Class, Refusal};
use crate::refused::{Refusals, Refused};
use crate::reissue::Reissue;
use crate::rules::Rules;
use crate::signin::{Confirmer, SignIns};
use crate::slices::Slices;
use crate::state::State;
use crate::timing::{RETRY_INTERVAL, TICK_INTERVAL};
use crate::workload::{Enrolments, Workload};
use bulkhead_acl::{Classes, Subject};
use bulkhead_identity::{Epoch, IdentityKey, Issuer, NodeName, Now, Revocations, Timestamp, Trust};
use bulkhead_protocol::admin::NodeList;
use bulkhead_protocol::offload::Offloads;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a coordinator is made of.
pub struct Config {
    /// The first trust document, as `init` made it; whatever followed is in the journal.
    pub trust: Trust,
    /// Signs certificates and revocation lists.
    pub issuer: Issuer,
    /// Sign policy; as many as the trust document's threshold asks for.
    pub policy_keys: Vec<IdentityKey>,
    /// Of node certificates.
    pub certificate_lifetime: Duration,
    /// How long after its end a certificate may still be renewed; zero: not at all.
    pub renewal_grace: Duration,
    /// `host:port` of the HTTPS listeners, written into join tokens.
    pub addresses: Vec<String>,
    /// `host:port` of the control links, told to nodes at enrolment.
    pub control: Vec<String>,
    /// The node that runs on the coordinator's own machine, when people or nodes reach the coordinator through the
    /// overlay.
    pub node: Option<NodeName>,
    /// Where HTTPS (TCP) and the control link (UDP) listen.
    pub port: u16,
    /// Offloads that every node leaves off, whatever administrators say.
    pub offloads_off: Offloads,
    /// Who may enrol and administer by the word of a provider.
    pub rules: Rules,
    /// Where browsers reach the pages, without a path; `None`: nobody signs in.
    pub web: Option<String>,
}

/// The coordinator of one deployment.
pub struct Coordinator {
    pub(crate) config: Config,
    pub(crate) state: State,
    pub(crate) links: Links,
    pub(crate) receipts: Receipts,
    pub(crate) challenges: Challenges,
    pub(crate) sign_ins: SignIns,
    pub(crate) enrolments: Enrolments,
    pub(crate) reach: Reach,
    pub(crate) slices: Slices,
    pub(crate) maps: Maps,
    pub(crate) reissue: Reissue,
    /// The trust document that the others follow.
    pub(crate) first_trust: Vec<u8>,
    pub(crate) asks: Asks,
    pub(crate) refusals: Refusals,
    /// Where the command at hand came from, for its events.
    pub(crate) source: Option<IpAddr>,
    /// When the policy in force goes back unless it is confirmed, on the monotonic clock.
    pub(crate) countdown: Option<Duration>,
    /// Why it could not, when it should have.
    pub(crate) stuck: Option<String>,
    link_revocations: Arc<Revocations>,
    now: Now,
    /// When it took up its state, on the monotonic clock.
    started: Duration,
    /// The last tick, on the same.
    ticked: Option<Duration>,
}

/// One call of an administrator, beside what it asks for.
struct Call<'a> {
    request: RequestId,
    credential: &'a Credential,
    source: Option<IpAddr>,
    entropy: &'a Entropy,
}

/// Why a coordinator cannot serve this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot serve: {0}")]
pub struct StartError(pub String);

impl Coordinator {
    /// Takes up the state that the journal adds up to.
    ///
    /// # Errors
    /// When keys, trust document and state contradict each other.
    pub fn new(mut config: Config, state: State, now: Now) -> Result<Self, StartError> {
        let first_trust = config.trust.bytes().to_vec();
        config.trust = state.trust_in_force(&config.trust, now.wall)?;
        let reissue = Reissue::starting(&config.issuer, &state);
        let (rules, slices) = in_force(state.policy(), &config.trust, now)?;
        let mut coordinator = Self {
            config,
            state,
            links: Links::default(),
            receipts: Receipts::default(),
            challenges: Challenges::default(),
            sign_ins: SignIns::default(),
            enrolments: Enrolments::default(),
            reach: Reach::new(rules, now.wall),
            slices,
            maps: Maps::starting(now),
            reissue,
            first_trust,
            asks: Asks::default(),
            refusals: Refusals::default(),
            source: None,
            countdown: None,
            stuck: None,
            link_revocations: Arc::default(),
            now,
            started: now.mono,
            ticked: None,
        };
        coordinator.link_revocations =
            coordinator.sign_link_revocations(now).map_err(|error| StartError(error.message))?;
        coordinator.admit_all(now);
        coordinator.count_down(now);
        Ok(coordinator)
    }

    /// The one way anything changes. Effects are in the order in which they must be performed: every
    /// `Persist` first.
    pub fn handle(&mut self, command: Command, now: Now) -> Vec<Effect> {
        self.now = now;
        self.source = command.source().map(|source| source.to_canonical());
        let mut effects = Effects::default();
        match command {
            Command::EnrolBegin { request, source, entropy } => {
                effects.answer(request, self.enrol_begin(source, &entropy, now));
            }
            Command::EnrolFinish {
                request, enrolment, certificate_request, secret, name, entropy, ..
            } => {
                let finish = Finish {
                    enrolment: &enrolment,
                    request: &certificate_request,
                    secret: &secret,
                    name: name.as_deref(),
                    entropy: &entropy,
                };
                let answer = self.enrol_finish(&finish, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::SignInBegin { request, source, purpose, road, entropy } => {
                effects.answer(request, self.sign_in_begin(source, purpose, road, &entropy, now));
            }
            Command::SignInLook { request, user_code, source } => {
                let answer = self.sign_in_look(&user_code, source, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::SignInPreview { request, user_code, claims, source, entropy } => {
                let confirmer = Confirmer { claims: &claims, road: Road::Page, source };
                let answer = self.sign_in_preview(&user_code, &confirmer, &entropy, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::SignInConfirm { request, user_code, claims, road, source, entropy } => {
                let confirmer = Confirmer { claims: &claims, road, source };
                let answer = self.sign_in_confirm(&user_code, &confirmer, &entropy, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::SignInRefuse { request, user_code, claims, source } => {
                let answer = self.sign_in_refuse(&user_code, claims.as_deref(), source, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::SignInPoll { request, device_code, entropy, .. } => {
                let answer = self.sign_in_poll(&device_code, &entropy, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::EnrolWorkload {
                request, enrolment, certificate_request, claims, name, entropy, ..
            } => {
                let workload = Workload {
                    enrolment: &enrolment,
                    request: &certificate_request,
                    claims: &claims,
                    name: name.as_deref(),
                    entropy: &entropy,
                };
                let answer = self.enrol_workload(&workload, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::Refreshed { request, issuer, subject, outcome, entropy } => {
                let person = Person { issuer, subject };
                let answer = self.refreshed(&person, outcome, &entropy, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::Connected { connection, identity, observed } => {
                self.connected(connection, &identity, observed, now, &mut effects);
            }
            Command::Message { connection, message, arrived_ms, entropy } => {
                let arrival = Arrival { connection, arrived_ms, entropy: &entropy };
                self.message(&arrival, *message, now, &mut effects);
            }
            Command::Disconnected { connection } => self.links.disconnect(connection),
            Command::Admin { request, call: AdminCall::Login(login), entropy, .. } => {
                let answer = self.login(login, &entropy, now, &mut effects);
                effects.answer(request, answer);
            }
            Command::Admin { request, credential, source, call, entropy } => {
                let from = Call { request, credential: &credential, source, entropy: &entropy };
                if let Some(answer) = self.admin(&from, call, now, &mut effects).transpose() {
                    effects.answer(request, answer);
                }
            }
            Command::Refused { request, actor, what, code, why, .. } => {
                self.refused(Refused { actor, what, code, why }, now, &mut effects);
                effects.answer(request, Ok(Reply::Done));
            }
            Command::KeyUsed { id, .. } => self.key_used(id, now, &mut effects),
            Command::Tick => self.tick(now, &mut effects),
        }
        effects.into_vec()
    }

    /// The answer, if it does not come later.
    fn admin(
        &mut self,
        from: &Call<'_>,
        call: AdminCall,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, Refusal> {
        let Call { request, credential, source, entropy } = *from;
        let caller = self.administrator(credential, call.needs(), now)?;
        let actor = caller.actor.clone();
        let reply = match call {
            AdminCall::Login(login) => self.login(login, entropy, now, effects),
            AdminCall::Logout => self.logout(actor, credential, now, effects),
            AdminCall::WhoAmI => Ok(self.who_am_i(&caller)),
            AdminCall::NodeList => Ok(self.node_list()),
            AdminCall::NodeShow(name) => Ok(Reply::Node(self.node_view(self.state.node(&name)?))),
            AdminCall::NodeLabel(name, change) => {
                self.node_label(actor, (&name, &change), entropy, now, effects)
            }
            AdminCall::NodeSeal(name, seal) => self.node_seal(actor, (&name, &seal), entropy, now, effects),
            AdminCall::NodeRevoke(name, revoke) => self.node_revoke(actor, &name, revoke, now, effects),
            AdminCall::NodeRemove(name) => self.node_remove(actor, &name, now, effects),
            AdminCall::PendingList => Ok(self.pending_list()),
            AdminCall::NodeApprove(name) => self.node_approve(actor, &name, entropy, now, effects),
            AdminCall::NodeReject(name, reject) => self.node_reject(actor, &name, reject, now, effects),
            AdminCall::OffloadsShow => Ok(self.offloads_show()),
            AdminCall::OffloadsSwitch(name, switch) => {
                self.offloads_switch(actor, (name, switch), now, effects)
            }
            AdminCall::RevokeStatus(epoch) => self.revoke_status(epoch),
            AdminCall::TokenCreate(create) => self.token_create(actor, create, entropy, now, effects),
            AdminCall::TokenList => Ok(self.token_list()),
            AdminCall::TokenRevoke(id) => self.token_revoke(actor, id, now, effects),
            AdminCall::KeyCreate(create) => self.key_create(&caller, create, entropy, now, effects),
            AdminCall::KeyList => Ok(self.key_list()),
            AdminCall::KeyRevoke(id) => self.key_revoke(&caller, id, now, effects),
            AdminCall::PolicyCheck(proposal) => Ok(self.policy_check(*proposal)),
            AdminCall::PolicyApply(proposal) => {
                self.policy_apply(&Caller { actor, source }, *proposal, now, effects)
            }
            AdminCall::PolicyConfirm(confirm) => {
                return self.policy_confirm(request, actor, confirm, now, effects).map(|()| None);
            }
            AdminCall::PolicyShow => Ok(self.policy_show(now)),
            AdminCall::PolicyHistory => Ok(self.policy_history()),
            AdminCall::PolicyRollback(rollback) => {
                self.policy_rollback(&Caller { actor, source }, &rollback, now, effects)
            }
            AdminCall::PolicyCan(can) => self.policy_can(&can, now),
            AdminCall::PolicyAck(generation) => self.policy_ack(generation),
            AdminCall::TrustShow => Ok(self.trust_show(now)),
            AdminCall::TrustApply(apply) => self.trust_apply(actor, &apply, now, effects),
            AdminCall::AcceptRestore => self.accept_restore(actor, credential, now, effects),
            AdminCall::Flows => return self.ask_flows(request, now, effects).map(|()| None),
        };
        reply.map(Some)
    }

    fn node_list(&self) -> Reply {
        Reply::Nodes(NodeList { nodes: self.state.nodes.values().map(|node| self.node_view(node)).collect() })
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.ticked = Some(now.mono);
        self.challenges.expire(|open| open.is_over(now));
        self.expire_sign_ins(now);
        self.enrolments.expire(now);
        // What the journal has no room for now ends at a later tick.
        let _ = self.expire_pending(now, effects);
        self.end_asks(now, effects);
        self.end_refusal_window(now, effects);
        // A failure here repeats at the next tick, and shows until then.
        self.stuck = self.expire_confirmation(now, effects).err().map(|refusal| refusal.message);
        // As does one here; the bundle has half of its life left.
        let _ = self.renew_policy(now, effects);
        if self.reach.changes_at().is_some_and(|at| now.wall >= at) {
            self.reclass(self.reach.rules().clone(), now);
        }
        self.reissue_due(now, effects);
        self.expire_maps(now);
        self.flush_due_maps(now, effects);
    }

    /// When [`Command::Tick`] is due, on the monotonic clock. Ask again after every `handle`.
    #[must_use]
    pub fn next_timeout(&self) -> Duration {
        let now = self.now;
        let at_wall = |wall: Timestamp| now.mono.saturating_add(now.wall.until(wall));
        // What a tick could not do waits for a while.
        let earliest = self.ticked.map_or(Duration::ZERO, |ticked| ticked + RETRY_INTERVAL);
        let walls = [self.policy_due(now), self.reach.changes_at()].into_iter().flatten().map(at_wall);
        let walls = walls
            .chain(self.goes_back_at(now))
            .map(|due| due.max(earliest))
            .chain(self.asks.due())
            .chain(self.refusals.due());
        // From the last tick, not from the last command: who is kept busy notices what has ended all the same.
        let latest = self.ticked.unwrap_or(self.started) + TICK_INTERVAL;
        walls.chain(self.maps.due()).chain(self.reissue_at()).fold(latest, Duration::min)
    }

    /// Makes an event, applies it and has it persisted.
    pub(crate) fn commit(
        &mut self,
        actor: Actor,
        change: Change,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let event = Event { time: now.wall, actor, change, source: self.source };
        self.state
            .replay(&event)
            .map_err(|error| Refusal::new(Class::Internal, "BH-C090", error.to_string()))?;
        let revokes = event.change.revocation().is_some();
        effects.persist(event);
        // Should this fail (the issuing CA's certificate has ended), `connected` refuses the revoked all the same.
        if revokes && let Ok(list) = self.sign_link_revocations(now) {
            self.link_revocations = list;
        }
        Ok(())
    }

    /// Takes an active node into the index and the maps, under the labels it has now.
    pub(crate) fn admit(&mut self, name: &NodeName, now: Now) {
        let Some(node) = self.state.nodes.get(name).filter(|node| node.is_active()) else { return };
        self.reach.insert(&Subject { name: name.clone(), labels: node.labels.clone() }, now.wall);
        self.refresh(name);
    }

    /// A node is revoked: it is in no index and no map any more.
    pub(crate) fn forget(&mut self, name: &NodeName) {
        self.reach.remove(name);
        self.maps.remove(name);
        self.receipts.forget(name);
    }

    /// Takes every active node into an index and maps that are empty.
    fn admit_all(&mut self, now: Now) {
        for subject in self.active_subjects().collect::<Vec<_>>() {
            self.reach.insert(&subject, now.wall);
            self.refresh_entry(&subject.name);
        }
    }

    /// Puts every node into its class under these rules, and marks the maps of those whose peers changed by that.
    pub(crate) fn reclass(&mut self, rules: Arc<Classes>, now: Now) {
        let mut reach = Reach::new(rules, now.wall);
        for subject in self.active_subjects() {
            reach.insert(&subject, now.wall);
        }
        for changed in reach.changes_since(&self.reach) {
            self.maps.mark_changed(&self.links, &changed);
        }
        self.reach = reach;
    }

    fn active_subjects(&self) -> impl Iterator<Item = Subject> {
        let active = self.state.nodes.values().filter(|node| node.is_active());
        active.map(|node| Subject { name: node.name.clone(), labels: node.labels.clone() })
    }

    /// Under the trust document and the issuer in force.
    pub(crate) fn renew_link_revocations(&mut self, now: Now) -> Result<(), Refusal> {
        self.link_revocations = self.sign_link_revocations(now)?;
        Ok(())
    }

    fn sign_link_revocations(&self, now: Now) -> Result<Arc<Revocations>, Refusal> {
        if self.state.revoked.epoch == Epoch(0) {
            return Ok(Arc::default());
        }
        let issuer = &self.config.issuer;
        let list = self.state.revoked.keys_list(now.wall).sign(issuer.key(), Some(issuer.certificate()));
        let verified = Revocations::verify(&list, &self.config.trust, Epoch(0), now.wall);
        verified.map(Arc::new).map_err(|error| Refusal::new(Class::Internal, "BH-C091", error.to_string()))
    }

    /// The list to verify control links against: revoked keys only. A node whose certificate was merely
    /// replaced (new labels) must get in to fetch its successor; [`Command::Connected`] judges the rest. Ask
    /// for every handshake.
    #[must_use]
    pub fn link_revocations(&self) -> Arc<Revocations> {
        self.link_revocations.clone()
    }

    /// What needs somebody's attention, in sentences, for the log and the page that shows the policy.
    #[must_use]
    pub fn warnings(&self, now: Now) -> Vec<String> {
        let all = [
            self.read_only(),
            self.confirmation_warning(),
            self.signature_warning(now),
            self.trust_warning(now),
        ];
        all.into_iter().flatten().collect()
    }

    /// The trust document in force.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.config.trust
    }

    /// What outlives the process, for snapshots.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }
}
