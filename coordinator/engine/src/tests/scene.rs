//! A deployment in memory: one coordinator, and machines that keep what they are sent. Every command checks
//! that nothing is said before it is persisted.

use crate::{
    AdminCall, CloseReason, Command, Config, ConnectionId, Coordinator, Credential, Effect, Entropy, Event,
    Proposal, Refusal, Reply, RequestId, Rules, State,
};
use bulkhead_acl::{Policy, Sources};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::issue::{IssuerLimits, default_ranges};
use bulkhead_identity::{
    Authority, Certificate, CertificateRequest, Chain, Challenge, ChallengeKey, Epoch, Generation,
    IdentityKey, Issuer, Labels, NodeName, Now, Revocations, Timestamp, Trust, TrustDocument, TrustDomain,
    TunnelKey, VerifiedIdentity, verify,
};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::admin::{
    Applied, CreateToken, Overrides, PolicyCurrent, PolicyText, Revoke, RevokeStatus, Rollback, SetLabels,
};
use bulkhead_protocol::control::{Endpoint, MapSequence, MapUpdate, PeerMap, Receipt, ToCoordinator, ToNode};
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::token::{Token, secret_hash};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zeroize::Zeroizing;

pub(super) const START: Timestamp = Timestamp(1_800_000_000);
pub(super) const BOOTSTRAP: [u8; 32] = [0xb0; 32];
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 3600);
pub(super) const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);
const YEAR: u64 = 365 * 24 * 3600;

pub(super) fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

pub(super) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

/// The same deployment every time.
pub(super) fn config() -> Config {
    let domain = TrustDomain::parse("acme.example").unwrap();
    let (from, to) = (Timestamp(START.0 - 600), Timestamp(START.0 + 10 * YEAR));
    let (v6, v4) = default_ranges(&domain);
    let authority = Authority::create(key(1), &domain, Serial([1; 16]), from, to).unwrap();
    let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
    let issuer = authority.sign_issuer(key(2).public(), &limits, Serial([2; 16]), from, to).unwrap();
    let document = TrustDocument {
        version: Epoch(1),
        trust_domain: domain,
        roots: vec![authority.root_der().to_vec()],
        operator_keys: vec![key(3).public()],
        operator_threshold: 1,
        policy_keys: vec![key(4).public()],
        policy_threshold: 1,
        sealed: Vec::new(),
        overlay_v6: v6,
        overlay_v4: v4,
        issued: from,
        expires: to,
    };
    Config {
        trust: Trust::stored(&document.sign(&[&key(3)]), START).unwrap(),
        issuer: Issuer::load(key(2), issuer).unwrap(),
        policy_keys: vec![key(4)],
        certificate_lifetime: LIFETIME,
        renewal_grace: GRACE,
        addresses: vec!["bulkhead.acme.example:8443".to_owned()],
        control: vec!["bulkhead.acme.example:8443".to_owned()],
        node: None,
        port: 8443,
        offloads_off: Offloads::NONE,
        rules: Rules::default(),
        web: None,
    }
}

/// A policy under which nodes with `role=web` may open tcp/5432 on nodes with `role=db`.
pub(super) fn web_to_db() -> Sources {
    rule("web-to-db", "role=web", "role=db", "")
}

pub(super) fn rule(id: &str, from: &str, to: &str, more: &str) -> Sources {
    let text = format!(
        "version = 1\n\n[[allow]]\nid = \"{id}\"\nfrom = \"{from}\"\nto = \"{to}\"\nports = [\"tcp/5432\"]\n{more}\n"
    );
    Sources(BTreeMap::from([("main.toml".to_owned(), text)]))
}

pub(super) struct Scene {
    pub(super) coordinator: Coordinator,
    config: fn() -> Config,
    pub(super) journal: Vec<Event>,
    pub(super) now: Now,
    pub(super) inbox: BTreeMap<ConnectionId, Vec<ToNode>>,
    pub(super) closed: Vec<(ConnectionId, CloseReason)>,
    /// Order of sends and closes of the last command.
    pub(super) order: Vec<ConnectionId>,
    draws: u64,
}

/// A machine with its keys; enrolled when it has a chain.
pub(super) struct Machine {
    pub(super) identity: IdentityKey,
    pub(super) tunnel: TunnelKey,
    pub(super) name: NodeName,
    pub(super) chain: Chain,
}

impl Machine {
    pub(super) fn identity(&self, scene: &Scene) -> VerifiedIdentity {
        let trust = scene.coordinator.trust();
        verify(&self.chain, trust, &Revocations::default(), scene.now.wall).unwrap()
    }

    /// As a control link verifies a certificate that has ended: as of its last second.
    pub(super) fn last_identity(&self, scene: &Scene) -> VerifiedIdentity {
        let end = Certificate::parse(self.chain.leaf()).unwrap().claims.not_after;
        let trust = scene.coordinator.trust();
        verify(&self.chain, trust, &Revocations::default(), Timestamp(end.0 - 1)).unwrap()
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::of(config)
    }

    /// A deployment that is configured otherwise.
    pub(super) fn of(config: fn() -> Config) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: START };
        let first = Event::initialised(config().trust.hash(), secret_hash(&BOOTSTRAP), START);
        let mut state = State::default();
        state.replay(&first).unwrap();
        Self::with(config, state, vec![first], now)
    }

    fn with(config: fn() -> Config, state: State, journal: Vec<Event>, now: Now) -> Self {
        Self {
            coordinator: Coordinator::new(config(), state, now).unwrap(),
            config,
            journal,
            now,
            inbox: BTreeMap::new(),
            closed: Vec::new(),
            order: Vec::new(),
            draws: 0,
        }
    }

    /// The same deployment after a restart, from the first `entries` of its journal.
    pub(super) fn restarted(&self, entries: usize) -> Self {
        let journal = self.journal[..entries].to_vec();
        let mut state = State::default();
        for event in &journal {
            state.replay(event).unwrap();
        }
        let mut scene = Self::with(self.config, state, journal, self.now);
        scene.draws = self.draws + 1_000_000;
        scene
    }

    /// The same deployment after a restart under another configuration.
    pub(super) fn restarted_as(&self, config: fn() -> Config) -> Self {
        let mut state = State::default();
        for event in &self.journal {
            state.replay(event).unwrap();
        }
        let mut scene = Self::with(config, state, self.journal.clone(), self.now);
        scene.draws = self.draws + 1_000_000;
        scene
    }

    pub(super) fn persist(&mut self, event: Event) {
        let mut state = self.coordinator.state().clone();
        state.replay(&event).unwrap();
        self.journal.push(event);
        *self = self.restarted(self.journal.len());
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = self.now.wall.plus(time);
    }

    pub(super) fn entropy(&mut self) -> Entropy {
        self.draws += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.draws.to_be_bytes());
        Entropy::new(bytes)
    }

    /// Performs a command. Panics when anything is said before everything is persisted.
    pub(super) fn handle(&mut self, command: Command) -> Option<Reply> {
        self.order.clear();
        let (mut reply, mut spoken) = (None, false);
        for effect in self.coordinator.handle(command, self.now) {
            spoken |= !matches!(effect, Effect::Persist(_));
            match effect {
                Effect::Persist(event) => {
                    assert!(!spoken, "{event:?} is persisted after something was said");
                    self.journal.push(*event);
                }
                Effect::Reply(_, said) => reply = Some(*said),
                Effect::Send(connection, message) => {
                    self.order.push(connection);
                    self.inbox.entry(connection).or_default().push(ToNode::clone(&message));
                }
                Effect::Close(connection, reason) => {
                    self.order.push(connection);
                    self.closed.push((connection, reason));
                }
            }
        }
        reply
    }

    /// An administrator's call by root.
    pub(super) fn admin(&mut self, call: AdminCall) -> Result<Reply, Refusal> {
        self.admin_as(Credential::LocalRoot { uid: 0 }, call)
    }

    pub(super) fn admin_as(&mut self, credential: Credential, call: AdminCall) -> Result<Reply, Refusal> {
        self.admin_from(credential, None, call)
    }

    pub(super) fn admin_from(
        &mut self,
        credential: Credential,
        source: Option<IpAddr>,
        call: AdminCall,
    ) -> Result<Reply, Refusal> {
        let entropy = self.entropy();
        let command = Command::Admin { request: RequestId(1), credential, source, call, entropy };
        match self.handle(command).unwrap() {
            Reply::Refused(refusal) => Err(refusal),
            reply => Ok(reply),
        }
    }

    /// A call by root whose answer may come later.
    pub(super) fn call(&mut self, call: AdminCall) -> Option<Reply> {
        let (credential, entropy) = (Credential::LocalRoot { uid: 0 }, self.entropy());
        self.handle(Command::Admin { request: RequestId(1), credential, source: None, call, entropy })
    }

    pub(super) fn tick(&mut self) {
        self.handle(Command::Tick);
    }

    /// The secret of a new join token.
    pub(super) fn token(&mut self, create: CreateToken) -> Zeroizing<[u8; 32]> {
        let Ok(Reply::TokenCreated(created)) = self.admin(AdminCall::TokenCreate(create)) else {
            panic!("no token")
        };
        Token::parse(&created.token).unwrap().secret
    }

    pub(super) fn keys(&mut self) -> (IdentityKey, TunnelKey) {
        let identity = IdentityKey::from_seed(self.entropy().derive("identity"));
        (identity, TunnelKey::from_bytes(self.entropy().derive("tunnel")))
    }

    pub(super) fn begin(&mut self) -> (String, Challenge, ChallengeKey) {
        let (source, entropy) = ("192.0.2.9".parse().unwrap(), self.entropy());
        let reply = self.handle(Command::EnrolBegin { request: RequestId(1), source, entropy });
        let Some(Reply::EnrolBegun(begun)) = reply else { panic!("no challenge") };
        let (challenge, challenge_key) =
            (begun.challenge.try_into().unwrap(), begun.challenge_key.try_into().unwrap());
        (begun.enrolment, Challenge(challenge), ChallengeKey(challenge_key))
    }

    pub(super) fn finish(
        &mut self,
        enrolment: String,
        certificate_request: CertificateRequest,
        secret: &[u8],
        wish: Option<&str>,
    ) -> Result<(NodeName, Chain), Refusal> {
        let command = Command::EnrolFinish {
            request: RequestId(1),
            enrolment,
            certificate_request: Box::new(certificate_request),
            secret: Zeroizing::new(secret.to_vec()),
            name: wish.map(str::to_owned),
            source: Some(IpAddr::from([192, 0, 2, 9])),
            entropy: self.entropy(),
        };
        match self.handle(command).unwrap() {
            Reply::Enrolled(response) => Ok((name(&response.name), Chain::decode(&response.chain).unwrap())),
            Reply::Refused(refusal) => Err(refusal),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn join(&mut self, secret: &[u8], wish: Option<&str>) -> Result<Machine, Refusal> {
        let (identity, tunnel) = self.keys();
        let (enrolment, challenge, challenge_key) = self.begin();
        let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
        let (name, chain) = self.finish(enrolment, request, secret, wish)?;
        Ok(Machine { identity, tunnel, name, chain })
    }

    /// A new node with these labels.
    pub(super) fn node(&mut self, wish: &str, labels: &str) -> Machine {
        let labels = Labels::parse(labels).unwrap();
        let secret = self.token(CreateToken { labels, ..CreateToken::default() });
        self.join(&*secret, Some(wish)).unwrap()
    }

    pub(super) fn connect(&mut self, machine: &Machine) -> ConnectionId {
        self.connect_as(machine.identity(self))
    }

    pub(super) fn connect_as(&mut self, identity: VerifiedIdentity) -> ConnectionId {
        self.connect_from(identity, "198.51.100.7:4000".parse().unwrap())
    }

    pub(super) fn connect_from(&mut self, identity: VerifiedIdentity, observed: SocketAddr) -> ConnectionId {
        self.draws += 1;
        let connection = ConnectionId(self.draws);
        self.handle(Command::Connected { connection, identity, observed });
        connection
    }

    pub(super) fn say(&mut self, connection: ConnectionId, message: ToCoordinator) {
        let (arrived_ms, entropy) = (self.now.wall.0 * 1000, self.entropy());
        self.handle(Command::Message { connection, message: Box::new(message), arrived_ms, entropy });
    }

    /// Says what follows from what was received on this link, if anything does.
    pub(super) fn say_for(
        &mut self,
        connection: ConnectionId,
        answer: impl FnOnce(&[ToNode]) -> Option<ToCoordinator>,
    ) -> Option<Reply> {
        let message = Box::new(answer(self.inbox.get(&connection)?)?);
        let (arrived_ms, entropy) = (self.now.wall.0 * 1000, self.entropy());
        self.handle(Command::Message { connection, message, arrived_ms, entropy })
    }

    pub(super) fn hello(&mut self, connection: ConnectionId, generation: u64, epoch: u64) {
        let endpoints = vec![Endpoint("10.0.0.7:51820".parse().unwrap())];
        let hello = ToCoordinator::Hello {
            protocol: PROTOCOL_VERSION,
            trust_version: Epoch(1),
            generation: Generation(generation),
            epoch: Epoch(epoch),
            wireguard_port: 51820,
            endpoints,
            software: "test".to_owned(),
        };
        self.say(connection, hello);
    }

    /// Connects with empty hands.
    pub(super) fn online(&mut self, machine: &Machine) -> ConnectionId {
        let connection = self.connect(machine);
        self.hello(connection, 0, 0);
        connection
    }

    pub(super) fn acknowledge(&mut self, machine: &Machine, connection: ConnectionId) {
        self.acknowledge_map(machine, connection, self.map(connection).sequence);
    }

    /// Everything that was sent, but this map.
    pub(super) fn acknowledge_map(&mut self, machine: &Machine, connection: ConnectionId, map: MapSequence) {
        let (generation, epoch) = (self.generation(connection), self.epoch(connection));
        let receipt =
            Receipt::sign(&machine.identity, machine.name.clone(), generation, epoch, self.now.wall, map);
        self.say(
            connection,
            ToCoordinator::Acknowledge { trust_version: Epoch(1), generation, epoch, map, receipt },
        );
    }

    /// The map that this link holds, by applying everything it was sent.
    pub(super) fn map(&self, connection: ConnectionId) -> PeerMap {
        let updates = self.inbox.get(&connection).into_iter().flatten().filter_map(update);
        updates.fold(PeerMap::default(), |held, update| held.apply(update.clone()).unwrap())
    }

    pub(super) fn peers(&self, connection: ConnectionId) -> BTreeSet<String> {
        self.map(connection).peers.keys().map(NodeName::to_string).collect()
    }

    /// The last revocation list sent on this link, verified.
    pub(super) fn revocations(&self, connection: ConnectionId) -> Revocations {
        let mut lists = self.inbox.get(&connection).into_iter().flatten().filter_map(list);
        let trust = self.coordinator.trust();
        lists.next_back().map_or_else(Revocations::default, |bytes| {
            Revocations::verify(bytes, trust, Epoch(0), self.now.wall).unwrap()
        })
    }

    pub(super) fn epoch(&self, connection: ConnectionId) -> Epoch {
        self.revocations(connection).epoch()
    }

    /// The last slice sent on this link.
    pub(super) fn slice(&self, connection: ConnectionId) -> Option<&[u8]> {
        self.inbox.get(&connection).into_iter().flatten().filter_map(slice).next_back()
    }

    /// The rules of the last slice sent on this link, by id.
    pub(super) fn rules(&self, connection: ConnectionId) -> Vec<String> {
        let Some(slice) = self.slice(connection) else { return Vec::new() };
        let policy = Policy::verify(slice, self.coordinator.trust(), Generation(0), self.now.wall).unwrap();
        policy.rules().allow.iter().map(|rule| rule.id.to_string()).collect()
    }

    pub(super) fn generation(&self, connection: ConnectionId) -> Generation {
        let slices = self.inbox.get(&connection).into_iter().flatten().filter_map(slice);
        let mut verified = slices.map(|bytes| {
            Policy::verify(bytes, self.coordinator.trust(), Generation(0), self.now.wall).unwrap()
        });
        verified.next_back().map_or(Generation(0), |policy| policy.generation())
    }

    pub(super) fn apply(&mut self, sources: Sources) -> Applied {
        self.propose(PolicyText { sources, message: "because".to_owned(), ..PolicyText::default() }).unwrap()
    }

    /// Applies by root, as the API does: compiled, then handed to the engine.
    pub(super) fn propose(&mut self, text: PolicyText) -> Result<Applied, Refusal> {
        self.propose_from(None, text)
    }

    pub(super) fn propose_from(
        &mut self,
        source: Option<IpAddr>,
        text: PolicyText,
    ) -> Result<Applied, Refusal> {
        let proposal = Box::new(Proposal::new(text, self.now.wall)?);
        let call = AdminCall::PolicyApply(proposal);
        match self.admin_from(Credential::LocalRoot { uid: 0 }, source, call)? {
            Reply::Applied(applied) => Ok(applied),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn rollback(&mut self, generation: u64) -> Result<Applied, Refusal> {
        let overrides = Overrides::default();
        match self.admin(AdminCall::PolicyRollback(Rollback { generation, overrides }))? {
            Reply::Applied(applied) => Ok(applied),
            _ => panic!("another reply"),
        }
    }

    /// With every override there is.
    pub(super) fn rollback_all_the_same(&mut self, generation: u64) -> Result<Applied, Refusal> {
        let overrides = Overrides { failing_tests: true, lockout: true };
        match self.admin(AdminCall::PolicyRollback(Rollback { generation, overrides }))? {
            Reply::Applied(applied) => Ok(applied),
            _ => panic!("another reply"),
        }
    }

    pub(super) fn policy(&mut self) -> PolicyCurrent {
        let Ok(Reply::Policy(current)) = self.admin(AdminCall::PolicyShow) else { panic!("no policy") };
        current
    }

    pub(super) fn revoke(&mut self, machine: &Machine) -> RevokeStatus {
        let call = AdminCall::NodeRevoke(machine.name.clone(), Revoke { reason: "stolen".to_owned() });
        let Ok(Reply::Revocation(status)) = self.admin(call) else { panic!("not revoked") };
        status
    }

    pub(super) fn label(
        &mut self,
        node: &NodeName,
        label: &str,
        value: Option<&str>,
    ) -> Result<Reply, Refusal> {
        let labels = BTreeMap::from([(label.to_owned(), value.map(str::to_owned))]);
        self.admin(AdminCall::NodeLabel(node.clone(), SetLabels { labels }))
    }
}

fn update(message: &ToNode) -> Option<&MapUpdate> {
    if let ToNode::Map(update) = message { Some(update) } else { None }
}

fn list(message: &ToNode) -> Option<&[u8]> {
    if let ToNode::Revocations { list } = message { Some(list) } else { None }
}

fn slice(message: &ToNode) -> Option<&[u8]> {
    if let ToNode::Policy { slice } = message { Some(slice) } else { None }
}

pub(super) fn certificate(message: &ToNode) -> Option<&Chain> {
    if let ToNode::Certificate { chain, .. } = message { Some(chain) } else { None }
}
