//! One deployment with known keys, made once: whoever mutates its documents cannot sign them again.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bulkhead_acl::{Bundle, Policy, RuleSet, Sources};
use bulkhead_identity::issue::default_ranges;
use bulkhead_identity::{
    Authority, CertificateRequest, Chain, Challenge, ChallengeKey, Claims, Epoch, Generation, IdentityKey,
    Issuer, IssuerLimits, Labels, NodeName, Now, OverlayAddrs, RevocationList, Revocations, Role, Serial,
    SpiffeId, Timestamp, Trust, TrustDocument, TrustDomain, TrustHash, TunnelKey, VerifiedIdentity, verify,
};
use bulkhead_protocol::map::MapSequence;
use bulkhead_protocol::receipt::Receipt;
use zeroize::Zeroizing;

pub(super) const START: Timestamp = Timestamp(1_795_000_000);
/// When everything is judged.
pub(super) const WALL: Timestamp = Timestamp(START.0 + 3600);
/// When leaves and policies end.
pub(super) const END: Timestamp = Timestamp(START.0 + 30 * 24 * 3600);
const FAR: Timestamp = Timestamp(START.0 + 10 * 365 * 24 * 3600);
pub(super) const NOW: Now = Now { mono: Duration::from_secs(1000), wall: WALL };

/// Where the peer `web` is.
pub(super) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 51820);
/// Where our node `db` is.
pub(super) const DB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 51820);

/// What web may open to db, what db may open to web, and one rule of each other kind.
pub(super) const POLICY: &str = r#"version = 1
[labels.env]
values = ["prod", "stage"]
[labels.role]
values = ["web", "db", "guest"]
[labels.site]
[groups]
web = "env=prod, role=web"
db = "env=prod, role=db"
[services]
postgres = ["tcp/5432"]
[[allow]]
id = "web-to-db"
from = "@web"
to = "@db"
ports = ["postgres", "udp/5000-5100", "icmp"]
same = ["env"]
owner = "payments@acme.example"
why = "orders live in db"
review_by = 2027-06-30
[[allow]]
id = "db-to-web"
from = "@db"
to = "role in (web, guest), !site"
ports = ["tcp/443", "sctp/7", "ip/47"]
until = 2027-12-31T18:00:00Z
[[never]]
id = "environments-apart"
from = "*"
to = "*"
differ = ["env"]
[[test]]
name = "web reaches db on postgres only"
from = "@web"
to = { labels = { env = "prod", role = "db" } }
allow = ["tcp/5432", "icmp"]
deny = ["tcp/22"]
at = 2026-12-01T12:00:00Z
"#;

/// Everything that was signed honestly.
pub(super) struct Deployment {
    pub(super) domain: TrustDomain,
    pub(super) operators: [IdentityKey; 2],
    pub(super) policy_key: IdentityKey,
    pub(super) issuer: Issuer,
    pub(super) trust: Arc<Trust>,
    /// The complete signed policy.
    pub(super) bundle: Vec<u8>,
    /// All of it, as a node that may see all would hold it.
    pub(super) policy: Arc<Policy>,
    pub(super) revocations: Arc<Revocations>,
    /// The list by an operator, without an issuer's certificate.
    pub(super) operator_revocations: Vec<u8>,
    pub(super) web: VerifiedIdentity,
    pub(super) db: VerifiedIdentity,
    pub(super) coordinator: VerifiedIdentity,
}

/// The one deployment.
pub(super) static ACME: LazyLock<Deployment> = LazyLock::new(Deployment::new);

pub(super) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

pub(super) fn tunnel_key(seed: u8) -> TunnelKey {
    TunnelKey::from_bytes(Zeroizing::new([seed; 32]))
}

const WEB_SEED: u8 = 11;
const DB_SEED: u8 = 12;
const COORDINATOR_SEED: u8 = 13;

pub(super) fn web_tunnel() -> TunnelKey {
    tunnel_key(WEB_SEED)
}

pub(super) fn db_tunnel() -> TunnelKey {
    tunnel_key(DB_SEED)
}

impl Deployment {
    fn new() -> Self {
        let domain = TrustDomain::parse("acme.example").unwrap();
        let authority = Authority::create(key(1), &domain, serial(0x70), START, FAR).unwrap();
        let (v6, v4) = default_ranges(&domain);
        let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
        let der = authority.sign_issuer(key(2).public(), &limits, serial(0x71), START, FAR).unwrap();
        let issuer = Issuer::load(key(2), der).unwrap();
        let operators = [key(3), key(4)];
        let policy_key = key(5);
        let document = TrustDocument {
            version: Epoch(2),
            trust_domain: domain.clone(),
            roots: vec![authority.root_der().to_vec()],
            operator_keys: operators.iter().map(IdentityKey::public).collect(),
            operator_threshold: 2,
            policy_keys: vec![policy_key.public()],
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6: v6,
            overlay_v4: v4,
            issued: START,
            expires: FAR,
        };
        let bytes = document.sign(&[&operators[0], &operators[1]]);
        let trust = Arc::new(Trust::pinned(&bytes, TrustHash::of(&bytes), WALL).unwrap());
        let list = RevocationList {
            epoch: Epoch(7),
            issued: START,
            serials: vec![serial(0x60), serial(0x61)],
            keys: vec![key(60).public()],
        };
        let bytes = list.sign(issuer.key(), Some(issuer.certificate()));
        let revocations = Arc::new(Revocations::verify(&bytes, &trust, Epoch(0), WALL).unwrap());
        let operator_revocations = list.sign(&operators[0], None);
        let bundle = policy_bundle(&domain, POLICY, 4);
        let policy = whole_policy(&bundle, &policy_key, &trust);
        let bundle = bundle.sign(&[&policy_key]);
        let certify = |role, name: &str, seed, index, labels: &str| {
            let chain = issuer.issue(&claims(&domain, role, name, seed, index, labels)).unwrap();
            verify(&chain, &trust, &revocations, WALL).unwrap()
        };
        let web = certify(Role::Node, "web", WEB_SEED, 10, "env=prod,role=web");
        let db = certify(Role::Node, "db", DB_SEED, 11, "env=prod,role=db");
        let coordinator = certify(Role::Coordinator, "one", COORDINATOR_SEED, 0, "");
        Self {
            domain,
            operators,
            policy_key,
            issuer,
            trust,
            bundle,
            policy,
            revocations,
            operator_revocations,
            web,
            db,
            coordinator,
        }
    }

    /// Every chain that was issued.
    pub(super) fn chains(&self) -> [&Chain; 3] {
        [self.web.chain(), self.db.chain(), self.coordinator.chain()]
    }

    /// The policy of these rules at this generation.
    pub(super) fn policy_of(&self, text: &str, generation: u64) -> Arc<Policy> {
        whole_policy(&policy_bundle(&self.domain, text, generation), &self.policy_key, &self.trust)
    }

    /// The complete signed policy of these rules at this generation.
    pub(super) fn bundle_of(&self, text: &str, generation: u64) -> Vec<u8> {
        policy_bundle(&self.domain, text, generation).sign(&[&self.policy_key])
    }

    /// All rules of [`Self::bundle`].
    pub(super) fn rules(&self) -> &RuleSet {
        self.policy.rules()
    }

    /// A list that revokes web.
    pub(super) fn revocations_of_web(&self) -> Revocations {
        let list = RevocationList {
            epoch: Epoch(8),
            issued: START,
            serials: vec![self.web.claims().serial],
            keys: Vec::new(),
        };
        let bytes = list.sign(self.issuer.key(), Some(self.issuer.certificate()));
        Revocations::verify(&bytes, &self.trust, Epoch(0), WALL).unwrap()
    }
}

/// The receipt that web signed.
pub(super) fn receipt() -> Receipt {
    let node = NodeName::parse("web").unwrap();
    Receipt::sign(&key(WEB_SEED), node, Generation(4), Epoch(7), WALL, MapSequence(9))
}

/// The key that it signed with.
pub(super) fn receipt_key() -> IdentityKey {
    key(WEB_SEED)
}

/// The challenge that is open, and the coordinator's secret half of its key.
pub(super) fn challenge() -> (Challenge, TunnelKey) {
    (Challenge([40; 32]), tunnel_key(41))
}

/// The one honest answer to it.
pub(super) fn certificate_request() -> CertificateRequest {
    let (challenge, secret) = challenge();
    let challenge_key = ChallengeKey(*secret.public().as_bytes());
    CertificateRequest::create(&key(WEB_SEED), &web_tunnel(), &challenge, &challenge_key)
}

fn serial(number: u8) -> Serial {
    Serial([number; 16])
}

fn claims(domain: &TrustDomain, role: Role, name: &str, seed: u8, index: u32, labels: &str) -> Claims {
    let (v6, v4) = default_ranges(domain);
    let in_overlay = role.is_in_overlay();
    Claims {
        id: SpiffeId { trust_domain: domain.clone(), role, name: NodeName::parse(name).unwrap() },
        identity_key: key(seed).public(),
        tunnel_key: in_overlay.then(|| tunnel_key(seed).public()),
        addresses: in_overlay.then(|| OverlayAddrs {
            v6: Ipv6Addr::from(v6.0.to_bits() + u128::from(index)),
            v4: Ipv4Addr::from(v4.0.to_bits() + index),
        }),
        labels: Labels::parse(labels).unwrap(),
        serial: serial(seed),
        not_before: START,
        not_after: END,
        seal: None,
        binding: in_overlay.then(|| {
            let (challenge, secret) = challenge();
            let challenge_key = ChallengeKey(*secret.public().as_bytes());
            let request =
                CertificateRequest::create(&key(seed), &tunnel_key(seed), &challenge, &challenge_key);
            request.binding(&challenge, &challenge_key)
        }),
    }
}

pub(super) fn rules(text: &str) -> RuleSet {
    let sources = Sources([("policy.toml".to_owned(), text.to_owned())].into());
    bulkhead_acl::check(&sources, WALL).unwrap().rules
}

fn policy_bundle(domain: &TrustDomain, text: &str, generation: u64) -> Bundle {
    Bundle {
        trust_domain: domain.clone(),
        generation: Generation(generation),
        not_before: START,
        expires: END,
        rules: rules(text),
        seed: [7; 32],
    }
}

fn whole_policy(bundle: &Bundle, key: &IdentityKey, trust: &Trust) -> Arc<Policy> {
    Arc::new(Policy::verify(&bundle.whole_slice(&[key]), trust, Generation(0), WALL).unwrap())
}
