//! A deployment: root, issuer, policy key, and members to certify.

use bulkhead_acl::{Bundle, Policy, Sources, check};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::issue::IssuerLimits;
use bulkhead_identity::*;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

pub const START: Timestamp = Timestamp(1_800_000_000);
pub const DAY: u64 = 24 * 3600;

/// Everything that signs.
pub struct Domain {
    pub trust: Arc<Trust>,
    issuer: Issuer,
    policy_key: IdentityKey,
    generation: u64,
    epoch: u64,
    serial: u64,
}

/// Somebody with two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: NodeName,
    pub seed: u8,
    /// Tells members of one seed apart.
    pub series: u16,
    pub addresses: OverlayAddrs,
    pub labels: Labels,
    pub not_after: Timestamp,
}

impl Member {
    /// Number `index` in the overlay.
    pub fn new(name: &str, index: u8, labels: &str) -> Self {
        Self {
            name: NodeName::parse(name).unwrap(),
            seed: index,
            series: 0,
            addresses: addresses(index),
            labels: Labels::parse(labels).unwrap(),
            not_after: Timestamp(START.0 + DAY),
        }
    }

    /// Number `number` of any number of members that have nothing of their own but keys, name and addresses.
    pub fn numbered(number: u16, labels: &str) -> Self {
        let addresses = OverlayAddrs {
            v6: Ipv6Addr::new(0xfd00, 1, 2, 1, 0, 0, 0, number),
            v4: Ipv4Addr::from(0x6441_0000 | u32::from(number)),
        };
        Self { series: number, addresses, ..Self::new(&format!("node-{number}"), 0, labels) }
    }

    pub fn tunnel_key(&self) -> TunnelKey {
        TunnelKey::from_bytes(self.secret("tunnel"))
    }

    pub fn identity_key(&self) -> IdentityKey {
        IdentityKey::from_seed(self.secret("identity"))
    }

    fn secret(&self, what: &str) -> Zeroizing<[u8; 32]> {
        let mut secret = seed(self.seed, what);
        // Not at the end, where X25519 clamps.
        secret[20..22].iter_mut().zip(self.series.to_be_bytes()).for_each(|(byte, more)| *byte ^= more);
        secret
    }
}

pub fn addresses(index: u8) -> OverlayAddrs {
    OverlayAddrs {
        v6: Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, u16::from(index)),
        v4: Ipv4Addr::new(100, 64, 0, index),
    }
}

fn seed(number: u8, what: &str) -> Zeroizing<[u8; 32]> {
    let mut seed = [number; 32];
    seed[..what.len()].copy_from_slice(what.as_bytes());
    Zeroizing::new(seed)
}

impl Domain {
    pub fn new() -> Self {
        Self::with_keys(200)
    }

    /// Domains with other keys do not believe each other.
    pub fn with_keys(first: u8) -> Self {
        let key = |i: u8| IdentityKey::from_seed(seed(first + i, "domain"));
        let name = TrustDomain::parse("acme.example").unwrap();
        let (begin, end) = (Timestamp(START.0 - DAY), Timestamp(START.0 + 365 * DAY));
        let ranges = ((Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 0), 48), (Ipv4Addr::new(100, 64, 0, 0), 10));
        let authority = Authority::create(key(0), &name, Serial([1; 16]), begin, end).unwrap();
        let limits =
            IssuerLimits { trust_domain: name.clone(), label_keys: None, v6: ranges.0, v4: ranges.1 };
        let issuer_der =
            authority.sign_issuer(key(1).public(), &limits, Serial([2; 16]), begin, end).unwrap();
        let document = TrustDocument {
            version: Epoch(1),
            trust_domain: name,
            roots: vec![authority.root_der().to_vec()],
            operator_keys: vec![key(2).public()],
            operator_threshold: 1,
            policy_keys: vec![key(3).public()],
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6: ranges.0,
            overlay_v4: ranges.1,
            issued: begin,
            expires: end,
        };
        let trust = Trust::stored(&document.sign(&[&key(2)]), START).unwrap();
        Self {
            trust: Arc::new(trust),
            issuer: Issuer::load(key(1), issuer_der).unwrap(),
            policy_key: key(3),
            generation: 0,
            epoch: 0,
            serial: 0,
        }
    }

    /// A new certificate for `member`, with a serial number of its own.
    pub fn certify(&mut self, member: &Member) -> Chain {
        self.serial += 1;
        let mut serial = [3; 16];
        serial[8..].copy_from_slice(&self.serial.to_be_bytes());
        let id = SpiffeId {
            trust_domain: self.trust.document().trust_domain.clone(),
            role: Role::Node,
            name: member.name.clone(),
        };
        let claims = Claims {
            id,
            identity_key: member.identity_key().public(),
            tunnel_key: Some(member.tunnel_key().public()),
            addresses: Some(member.addresses),
            labels: member.labels.clone(),
            serial: Serial(serial),
            not_before: Timestamp(START.0 - 60),
            not_after: member.not_after,
            seal: None,
            binding: None,
        };
        self.issuer.issue(&claims).unwrap()
    }

    pub fn verify(&self, chain: &Chain) -> VerifiedIdentity {
        verify(chain, &self.trust, &Revocations::default(), START).unwrap()
    }

    /// The next generation of policy, from its text.
    pub fn policy(&mut self, text: &str) -> Arc<Policy> {
        self.policy_until(text, Timestamp(START.0 + 30 * DAY))
    }

    pub fn policy_until(&mut self, text: &str, expires: Timestamp) -> Arc<Policy> {
        self.generation += 1;
        let sources = Sources(BTreeMap::from([("test.toml".to_owned(), format!("version = 1\n{text}"))]));
        let checked = check(&sources, START).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let bundle = Bundle {
            trust_domain: self.trust.document().trust_domain.clone(),
            generation: Generation(self.generation),
            not_before: Timestamp(START.0 - 60),
            expires,
            rules: checked.rules,
            seed: [7; 32],
        };
        let bytes = bundle.whole_slice(&[&self.policy_key]);
        Arc::new(Policy::verify(&bytes, &self.trust, Generation(0), START).unwrap())
    }

    /// The next epoch of the revocation list.
    pub fn revoke(&mut self, members: &[&Member]) -> Arc<Revocations> {
        self.epoch += 1;
        let list = RevocationList {
            epoch: Epoch(self.epoch),
            issued: START,
            serials: Vec::new(),
            keys: members.iter().map(|member| member.identity_key().public()).collect(),
        };
        let bytes = list.sign(self.issuer.key(), Some(self.issuer.certificate()));
        Arc::new(Revocations::verify(&bytes, &self.trust, Epoch(0), START).unwrap())
    }
}

pub fn now(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(1000 + seconds), wall: Timestamp(START.0 + seconds) }
}
