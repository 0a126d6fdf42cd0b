//! What the nodes enforce: a slice for each of both ends, verified, and a permit made from it once. It has to say
//! at every later moment what the text of the policy says, at both ends.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use bulkhead_acl::{Bundle, Direction, Permit, Policy as Enforced, SignedBundle, Subject, Verdict};
use bulkhead_identity::issue::default_ranges;
use bulkhead_identity::{
    Authority, Claims, Epoch, Generation, IdentityKey, Issuer, IssuerLimits, Labels, NodeName, OverlayAddrs,
    Revocations, Role, Serial, SpiffeId, Timestamp, Trust, TrustDocument, TrustDomain, TunnelKey,
    VerifiedIdentity, verify,
};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::calendar::midnight;
use crate::generate::{self, KEYS, NAMES, VALUES};
use crate::policy::{Answer, Node, Policy, Service};
use crate::real;

const START: u64 = 1_780_000_000;
const END: u64 = START + 365 * 24 * 3600;

/// Nodes of one policy, each pair of which is asked in both directions.
const NODES: usize = 4;
const SERVICES: usize = 6;
const MOMENTS: usize = 4;

struct Deployment {
    domain: TrustDomain,
    policy_key: IdentityKey,
    trust: Trust,
    /// One for each name and each choice of labels.
    identities: Vec<(Node, VerifiedIdentity)>,
}

static ACME: LazyLock<Deployment> = LazyLock::new(deployment);

fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

fn deployment() -> Deployment {
    let (start, end) = (Timestamp(START), Timestamp(END));
    let domain = TrustDomain::parse("acme.example").unwrap();
    let authority = Authority::create(key(1), &domain, Serial([0x70; 16]), start, end).unwrap();
    let (v6, v4) = default_ranges(&domain);
    let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
    let certificate =
        authority.sign_issuer(key(2).public(), &limits, Serial([0x71; 16]), start, end).unwrap();
    let issuer = Issuer::load(key(2), certificate).unwrap();
    let document = TrustDocument {
        version: Epoch(1),
        trust_domain: domain.clone(),
        roots: vec![authority.root_der().to_vec()],
        operator_keys: vec![key(3).public()],
        operator_threshold: 1,
        policy_keys: vec![key(4).public()],
        policy_threshold: 1,
        sealed: Vec::new(),
        overlay_v6: v6,
        overlay_v4: v4,
        issued: start,
        expires: end,
    };
    let trust = Trust::stored(&document.sign(&[&key(3)]), start).unwrap();
    let nodes = NAMES.iter().flat_map(|name| choices().into_iter().map(move |labels| Node { name, labels }));
    let certify = |(number, node): (usize, Node)| {
        let number = u8::try_from(number).unwrap();
        let mut octets = v6.0.octets();
        octets[15] = number;
        let subject = real::subject(&node);
        let claims = Claims {
            id: SpiffeId { trust_domain: domain.clone(), role: Role::Node, name: subject.name },
            identity_key: key(number).public(),
            tunnel_key: Some(TunnelKey::from_bytes(Zeroizing::new([number; 32])).public()),
            addresses: Some(OverlayAddrs {
                v6: Ipv6Addr::from(octets),
                v4: Ipv4Addr::new(100, 64, 0, number),
            }),
            labels: subject.labels,
            seal: None,
            binding: None,
            serial: Serial([[1, number]; 8].as_flattened().try_into().unwrap()),
            not_before: start,
            not_after: end,
        };
        let chain = issuer.issue(&claims).unwrap();
        (node, verify(&chain, &trust, &Revocations::default(), start).unwrap())
    };
    let identities = nodes.enumerate().map(certify).collect();
    Deployment { domain, policy_key: key(4), trust, identities }
}

/// Every choice of labels: each key absent, or with one of the values.
fn choices() -> Vec<BTreeMap<&'static str, &'static str>> {
    let mut choices = vec![BTreeMap::new()];
    for key in KEYS {
        let with = |value: &'static str| {
            choices.iter().cloned().map(move |mut labels: BTreeMap<_, _>| {
                labels.insert(key, value);
                labels
            })
        };
        let more: Vec<_> = VALUES.iter().flat_map(|value| with(value)).collect();
        choices.extend(more);
    }
    choices
}

#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    /// Positions in [`Deployment::identities`].
    nodes: Vec<usize>,
    services: Vec<Service>,
    /// In order.
    moments: Vec<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    generate::policy(generate::LARGE).prop_flat_map(|(policy, weekend)| {
        let nodes = vec(0..ACME.identities.len(), NODES);
        let questions = (vec(generate::service(), SERVICES), vec(generate::moment(weekend), MOMENTS));
        (nodes, questions).prop_map(move |(nodes, (services, mut moments))| {
            moments.sort_unstable();
            Case { policy: policy.clone(), nodes, services, moments }
        })
    })
}

/// What `subject` is given of the policy, as it would be read from the wire.
fn slice(bundle: &SignedBundle, subject: &Subject, wall: Timestamp) -> Enforced {
    Enforced::verify(&bundle.slice(subject), &ACME.trust, Generation(0), wall).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn permits_made_from_slices_agree_with_the_text_at_both_ends(case in case()) {
        let Case { policy, nodes, services, moments } = case;
        let rules = real::rules(&policy);
        let bytes = Bundle {
            trust_domain: ACME.domain.clone(),
            generation: Generation(7),
            not_before: Timestamp(START),
            expires: Timestamp(END),
            rules: rules.clone(),
            seed: [9; 32],
        }
        .sign(&[&ACME.policy_key]);
        let first = Timestamp(moments[0]);
        let bundle = SignedBundle::verify(&bytes, &ACME.trust, Generation(0), first).unwrap();
        let held: Vec<_> = nodes
            .iter()
            .map(|&at| {
                let (node, identity) = &ACME.identities[at];
                (node, identity, slice(&bundle, &Subject::from(identity), first))
            })
            .collect();
        for (_, _, slice) in &held {
            prop_assert_eq!(&slice.rules().never, &rules.never, "a guard rail is missing");
        }
        for (a, b) in (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))) {
            let ((from, client, at_client), (to, server, at_server)) = (&held[a], &held[b]);
            // Made once, when the policy arrived; nobody tells the nodes that time passes.
            let leaving = at_client.permit(client, server, first);
            let arriving = at_server.permit(server, client, first);
            for (&service, &moment) in services.iter().flat_map(|s| moments.iter().map(move |m| (s, m))) {
                let expected = match policy.decide(from, to, service, moment) {
                    Answer::Allowed(ids) if from.name != to.name => Some(ids[0].clone()),
                    Answer::Allowed(_) | Answer::Forbidden(_) | Answer::NoRule => None,
                };
                let verdict = |permit: &Option<Permit>, direction| -> Option<String> {
                    let verdict = permit.as_ref()?.verdict(direction, real::service(service), Timestamp(moment));
                    match verdict {
                        Verdict::Allow(rule) => Some(rule.0.to_string()),
                        Verdict::Deny => None,
                    }
                };
                prop_assert_eq!(&verdict(&leaving, Direction::Outbound), &expected);
                prop_assert_eq!(&verdict(&arriving, Direction::Inbound), &expected);
            }
            for (permit, direction) in [(&leaving, Direction::Outbound), (&arriving, Direction::Inbound)] {
                assert_changes_are_announced(permit.as_ref(), direction, &services, &moments)?;
            }
        }
    }
}

/// A verdict changes at announced moments only: the engine judges its flows again then, and only then.
fn assert_changes_are_announced(
    permit: Option<&Permit>,
    direction: Direction,
    services: &[Service],
    moments: &[u64],
) -> Result<(), TestCaseError> {
    let Some(permit) = permit else { return Ok(()) };
    for pair in moments.windows(2) {
        let (before, after) = (Timestamp(pair[0]), Timestamp(pair[1]));
        if permit.next_change(before).is_some_and(|change| change <= after) {
            continue;
        }
        for &service in services {
            let at = |wall| permit.verdict(direction, real::service(service), wall);
            prop_assert_eq!(at(before), at(after), "no change was announced between {:?}", pair);
        }
    }
    Ok(())
}

/// Nothing of what does not concern a node can be found in what it is given.
#[test]
fn a_slice_holds_the_words_of_its_own_rules_only() {
    let text = "version = 1\n\
        [[allow]]\nid = \"mine\"\nfrom = \"role=x\"\nto = \"role=y\"\nports = [\"tcp/1\"]\n\
        [[allow]]\nid = \"zebra\"\nfrom = \"env=giraffe\"\nto = \"idp.group=okapi\"\nports = [\"tcp/2\"]\n\
        [[never]]\nid = \"rail\"\nfrom = \"role=z\"\nto = \"*\"\n";
    let sources = bulkhead_acl::Sources([("a.toml".to_owned(), text.to_owned())].into());
    let wall = Timestamp(midnight(2026, 12, 1));
    let rules = bulkhead_acl::check(&sources, wall).unwrap().rules;
    let bytes = Bundle {
        trust_domain: ACME.domain.clone(),
        generation: Generation(1),
        not_before: Timestamp(START),
        expires: Timestamp(END),
        rules,
        seed: [1; 32],
    }
    .sign(&[&ACME.policy_key]);
    let bundle = SignedBundle::verify(&bytes, &ACME.trust, Generation(0), wall).unwrap();
    let subject = Subject { name: NodeName::parse("one").unwrap(), labels: Labels::parse("role=x").unwrap() };
    let slice = bundle.slice(&subject);
    let holds = |word: &str| slice.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    assert!(holds("mine") && holds("rail"));
    for word in ["zebra", "giraffe", "okapi"] {
        assert!(!holds(word), "{word}");
    }
}
