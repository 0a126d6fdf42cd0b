//! The coordinator's engine with connected nodes: what a policy change, a new label and a new node cost it, and how
//! much of a policy a node is told. In memory, with real keys and certificates; nothing is written or sent.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_acl::{Sources, Subject};
use bulkhead_coordinator_engine::{
    AdminCall, Change, Command, Config, ConnectionId, Coordinator, Credential, Effect, Entropy, Event,
    Proposal, Reply, RequestId, State,
};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::issue::{IssuerLimits, default_ranges};
use bulkhead_identity::{
    Authority, CertificateRequest, Chain, Challenge, ChallengeKey, Epoch, Generation, IdentityKey, Issuer,
    Labels, NodeName, Now, Revocations, Timestamp, Trust, TrustDocument, TrustDomain, TunnelKey, verify,
};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::admin::{CreateToken, Overrides, PolicyText, SetLabels};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::token::{Token, secret_hash};
use zeroize::Zeroizing;

use crate::{WALL, print, time};

const YEAR: u64 = 365 * 24 * 3600;

/// `connected`: how many nodes have a control link.
pub(crate) fn measure((rounds, connected): (usize, usize), sources: &Sources, nodes: &[Subject]) {
    let mut deployment = Deployment::new();
    deployment.apply(proposal(sources.clone()));
    for node in &nodes[..connected] {
        deployment.join(node);
    }
    deployment.settle();
    println!("\n{connected} nodes connected to the coordinator's engine");
    let slices = deployment.slices();
    let mean = slices.iter().sum::<usize>() / slices.len();
    println!(
        "of a policy of {} bytes a node is told {mean} on average, {} at most",
        deployment.bundle,
        slices.iter().max().unwrap()
    );

    let same = || sources.clone();
    let one_more = |round: usize| with_rule(sources, round, "app=app00, role=web", "app=app01, role=web");
    let for_all = |round: usize| with_rule(sources, round, "*", "role=db");
    deployment.measure_apply(rounds, "apply: the same rules", |_| same());
    deployment.measure_apply(rounds, "apply: one more rule, or one less", |round| match round % 2 {
        0 => one_more(round),
        _ => same(),
    });
    deployment.measure_apply(
        rounds.min(3),
        "apply: everyone may reach every db, or not",
        |round| match round % 2 {
            0 => for_all(round),
            _ => same(),
        },
    );
    deployment.apply(proposal(same()));
    deployment.settle();

    let relabel = |round: usize| {
        let value = if round.is_multiple_of(2) { "app07" } else { "app08" };
        deployment.label(&nodes[17].name, "app", value)
    };
    print("relabel one node", "ms", Some(5.0), time(rounds, 1, relabel));
    let mut new = nodes[connected..].iter();
    print(
        "one new node: enrolment, link, slice, map",
        "ms",
        None,
        time(rounds, 1, |_| {
            deployment.join(new.next().expect("--connected leaves some out"));
            deployment.settle();
        }),
    );
}

fn proposal(sources: Sources) -> Box<Proposal> {
    let overrides = Overrides { failing_tests: false, lockout: true };
    Box::new(Proposal::new(PolicyText { sources, overrides, ..PolicyText::default() }, WALL).unwrap())
}

/// The policy with one rule more.
fn with_rule(sources: &Sources, round: usize, from: &str, to: &str) -> Sources {
    let mut files: BTreeMap<_, _> = sources.0.clone();
    let text = format!(
        "version = 1\n[[allow]]\nid = \"added-{round}\"\nfrom = \"{from}\"\nto = \"{to}\"\nports = [\"tcp/7777\"]\n\
         owner = \"bench@acme.example\"\nwhy = \"to be measured\"\nreview_by = 2030-01-01\n"
    );
    files.insert("added.toml".to_owned(), text);
    Sources(files)
}

fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

struct Deployment {
    coordinator: Coordinator,
    now: Now,
    draws: u64,
    /// The last slice of each link, in bytes.
    slices: BTreeMap<ConnectionId, usize>,
    /// Maps sent, whole or in part.
    maps: usize,
    /// The complete signed policy in force, in bytes.
    bundle: usize,
}

impl Deployment {
    fn new() -> Self {
        let domain = TrustDomain::parse("acme.example").unwrap();
        let (from, to) = (Timestamp(WALL.0 - 600), Timestamp(WALL.0 + 10 * YEAR));
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
        let config = Config {
            trust: Trust::stored(&document.sign(&[&key(3)]), WALL).unwrap(),
            issuer: Issuer::load(key(2), issuer).unwrap(),
            policy_keys: vec![key(4)],
            certificate_lifetime: Duration::from_secs(24 * 3600),
            offloads_off: Offloads::NONE,
            rules: Default::default(),
            web: None,
            renewal_grace: Duration::ZERO,
            addresses: vec!["bulkhead.acme.example:8443".to_owned()],
            control: vec!["bulkhead.acme.example:8443".to_owned()],
            node: None,
            port: 8443,
        };
        let mut state = State::default();
        state.replay(&Event::initialised(config.trust.hash(), secret_hash(&[7; 32]), WALL)).unwrap();
        let now = Now { mono: Duration::from_secs(1), wall: WALL };
        let coordinator = Coordinator::new(config, state, now).unwrap();
        Self { coordinator, now, draws: 0, slices: BTreeMap::new(), maps: 0, bundle: 0 }
    }

    fn entropy(&mut self) -> Entropy {
        self.draws += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.draws.to_be_bytes());
        Entropy::new(bytes)
    }

    fn seed(&mut self) -> Zeroizing<[u8; 32]> {
        self.draws += 1;
        let mut bytes = Zeroizing::new([1; 32]);
        bytes[..8].copy_from_slice(&self.draws.to_be_bytes());
        bytes
    }

    fn handle(&mut self, command: Command) -> Option<Reply> {
        let mut reply = None;
        for effect in self.coordinator.handle(command, self.now) {
            match effect {
                Effect::Persist(event) => {
                    if let Change::PolicyApplied { policy, .. } = event.change {
                        self.bundle = policy.bundle.len();
                    }
                }
                Effect::Reply(_, said) => reply = Some(*said),
                Effect::Send(connection, message) => {
                    self.maps += usize::from(matches!(&*message, ToNode::Map(_)));
                    if let ToNode::Policy { slice } = &*message {
                        self.slices.insert(connection, slice.len());
                    }
                }
                Effect::Close(_, reason) => panic!("a link is closed: {}", reason.as_str()),
            }
        }
        reply
    }

    fn admin(&mut self, call: AdminCall) -> Reply {
        let entropy = self.entropy();
        let credential = Credential::LocalRoot { uid: 0 };
        let command = Command::Admin { request: RequestId(1), credential, source: None, call, entropy };
        let reply = self.handle(command).unwrap();
        if let Reply::Refused(refusal) = &reply {
            panic!("{}", refusal.message);
        }
        reply
    }

    /// What waits for the next moment at which maps may be sent is sent.
    fn settle(&mut self) {
        self.now.mono += Duration::from_secs(1);
        self.handle(Command::Tick);
    }

    fn apply(&mut self, proposal: Box<Proposal>) {
        self.admin(AdminCall::PolicyApply(proposal));
    }

    fn measure_apply(&mut self, rounds: usize, what: &str, text: impl Fn(usize) -> Sources) {
        // Compiled beside the engine, so not counted here.
        let mut proposals: Vec<_> = (0..rounds).rev().map(|round| proposal(text(round))).collect();
        self.maps = 0;
        let took = time(rounds, 1, |_| self.apply(proposals.pop().unwrap()));
        print(what, "ms", None, took);
        println!("  {} maps sent for each", self.maps / rounds);
    }

    fn label(&mut self, name: &NodeName, label: &str, value: &str) {
        let labels = BTreeMap::from([(label.to_owned(), Some(value.to_owned()))]);
        self.admin(AdminCall::NodeLabel(name.clone(), SetLabels { labels }));
    }

    /// Enrols a node with these labels, and connects it.
    fn join(&mut self, node: &Subject) {
        let secret = self.token(&node.labels);
        let identity = IdentityKey::from_seed(self.seed());
        let tunnel = TunnelKey::from_bytes(self.seed());
        // Enrolments of one address are limited in number.
        let source = std::net::Ipv4Addr::from(u32::try_from(self.draws).unwrap() + 0x0a00_0000).into();
        let (request, entropy) = (RequestId(1), self.entropy());
        let begun = self.handle(Command::EnrolBegin { request, source, entropy });
        let Some(Reply::EnrolBegun(begun)) = begun else { panic!("no challenge") };
        let challenge = Challenge(begun.challenge.try_into().unwrap());
        let challenge_key = ChallengeKey(begun.challenge_key.try_into().unwrap());
        let enrolled = Command::EnrolFinish {
            request: RequestId(1),
            enrolment: begun.enrolment,
            certificate_request: Box::new(CertificateRequest::create(
                &identity,
                &tunnel,
                &challenge,
                &challenge_key,
            )),
            secret,
            name: Some(node.name.to_string()),
            source: None,
            entropy: self.entropy(),
        };
        let Some(Reply::Enrolled(enrolled)) = self.handle(enrolled) else { panic!("not enrolled") };
        let chain = Chain::decode(&enrolled.chain).unwrap();
        let identity =
            verify(&chain, self.coordinator.trust(), &Revocations::default(), self.now.wall).unwrap();
        let connection = ConnectionId(self.draws);
        let observed = (source, 51820).into();
        self.handle(Command::Connected { connection, identity, observed });
        let hello = ToCoordinator::Hello {
            protocol: PROTOCOL_VERSION,
            trust_version: Epoch(1),
            generation: Generation(0),
            epoch: Epoch(0),
            wireguard_port: 51820,
            endpoints: Vec::new(),
            software: "bench".to_owned(),
        };
        let entropy = self.entropy();
        let command = Command::Message { connection, message: Box::new(hello), arrived_ms: 0, entropy };
        self.handle(command);
    }

    fn token(&mut self, labels: &Labels) -> Zeroizing<Vec<u8>> {
        let create = CreateToken { labels: labels.clone(), ..CreateToken::default() };
        let Reply::TokenCreated(created) = self.admin(AdminCall::TokenCreate(create)) else {
            panic!("no token")
        };
        Zeroizing::new(Token::parse(&created.token).unwrap().secret.to_vec())
    }

    fn slices(&self) -> Vec<usize> {
        self.slices.values().copied().collect()
    }
}
