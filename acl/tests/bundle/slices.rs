//! Slices: a node gets the rules that can concern it and every never, can tell that they belong to the generation,
//! and learns nothing of the others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bulkhead_acl::{
    Bundle, Direction, Policy, PolicyError, PortSet, Rule, RuleId, RuleSet, Selector, Service, SignedBundle,
    Subject, Verdict, bundle::MAX_BUNDLE_BYTES,
};
use bulkhead_identity::{Generation, Timestamp, VerifiedIdentity};
use minicbor::{Decoder, Encoder};
use proptest::prelude::*;

use super::deployment::{Deployment, NOW, POLICY_KEYS, allowed, deployment, key, rules};

const POLICY: &str = r#"
[[allow]]
id = "db-backup"
from = "role=backup"
to = "role=db"
ports = ["tcp/873"]

[[allow]]
id = "same-site-metrics"
from = "role=prometheus"
to = "*"
same = ["site"]
ports = ["tcp/9100"]

[[allow]]
id = "secret-project-to-vault"
from = "project=manhattan"
to = "role=vault"
ports = ["tcp/8200"]

[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432"]

[[never]]
id = "apart"
from = "*"
to = "*"
differ = ["env"]

[[never]]
id = "no-ping"
from = "*"
to = "role=db"
ports = ["icmp"]
"#;

fn complete(acme: &Deployment, generation: u64, text: &str) -> Vec<u8> {
    acme.bundle(generation, text).sign(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])])
}

fn signed(acme: &Deployment, generation: u64, text: &str) -> SignedBundle {
    SignedBundle::verify(&complete(acme, generation, text), &acme.trust, Generation(0), NOW).unwrap()
}

fn accept(acme: &Deployment, slice: &[u8]) -> Result<Policy, PolicyError> {
    Policy::verify(slice, &acme.trust, Generation(0), NOW)
}

fn ids(rules: &[Rule]) -> Vec<&str> {
    rules.iter().map(|rule| &*rule.id.0).collect()
}

/// A slice taken apart, to be put together as an attacker would.
#[derive(Clone)]
struct Parts {
    signed: Vec<u8>,
    never: Vec<Vec<u8>>,
    /// Place, salt, rule.
    allow: Vec<(u64, Vec<u8>, Vec<u8>)>,
    proof: Vec<Vec<u8>>,
}

impl Parts {
    fn of(slice: &[u8]) -> Self {
        let raw = |d: &mut Decoder<'_>| {
            let start = d.position();
            d.skip().unwrap();
            slice[start..d.position()].to_vec()
        };
        let mut d = Decoder::new(slice);
        assert_eq!(d.array().unwrap(), Some(4));
        let signed = d.bytes().unwrap().to_vec();
        let never = (0..d.array().unwrap().unwrap()).map(|_| raw(&mut d)).collect();
        let allow = (0..d.array().unwrap().unwrap()).map(|_| {
            assert_eq!(d.array().unwrap(), Some(3));
            (d.u64().unwrap(), d.bytes().unwrap().to_vec(), raw(&mut d))
        });
        let allow = allow.collect();
        let proof = (0..d.array().unwrap().unwrap()).map(|_| d.bytes().unwrap().to_vec()).collect();
        Self { signed, never, allow, proof }
    }

    fn assemble(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        e.array(4).unwrap().bytes(&self.signed).unwrap().array(self.never.len() as u64).unwrap();
        self.never.iter().for_each(|rule| e.writer_mut().extend_from_slice(rule));
        e.array(self.allow.len() as u64).unwrap();
        for (place, salt, rule) in &self.allow {
            e.array(3).unwrap().u64(*place).unwrap().bytes(salt).unwrap();
            e.writer_mut().extend_from_slice(rule);
        }
        e.array(self.proof.len() as u64).unwrap();
        for hash in &self.proof {
            e.bytes(hash).unwrap();
        }
        e.into_writer()
    }
}

/// A verified bundle with a node that `web-to-db` and nothing else concerns.
fn web() -> (Deployment, SignedBundle, Parts) {
    let acme = deployment("acme.example");
    let bundle = signed(&acme, 7, POLICY);
    let parts = Parts::of(&bundle.slice(&Subject::from(&acme.node(10, "web", "role=web,env=prod"))));
    (acme, bundle, parts)
}

#[test]
fn a_node_gets_the_rules_of_its_own_side_and_every_never() {
    let acme = deployment("acme.example");
    let bundle = signed(&acme, 7, POLICY);
    for (labels, expected) in [
        ("role=web", &["web-to-db"][..]),
        ("role=db", &["db-backup", "web-to-db"]),
        ("role=db,site=a", &["db-backup", "same-site-metrics", "web-to-db"]),
        ("role=prometheus", &[]),
        ("role=printer", &[]),
        ("project=manhattan", &["secret-project-to-vault"]),
    ] {
        let policy = accept(&acme, &bundle.slice(&Subject::from(&acme.node(10, "one", labels)))).unwrap();
        assert_eq!(ids(&policy.rules().allow), expected, "{labels}");
        assert_eq!(policy.rules().never, bundle.rules().never, "{labels}");
        assert_eq!((policy.generation(), policy.expires()), (bundle.generation(), bundle.expires()));
    }
}

#[test]
fn a_slice_says_nothing_of_other_rules_but_how_many_there_are() {
    let (_, bundle, parts) = web();
    let slice = parts.assemble();
    let contains = |text: &[u8]| slice.windows(text.len()).any(|window| window == text);
    assert!(contains(b"web-to-db") && contains(b"role"));
    for foreign in ["secret-project-to-vault", "manhattan", "vault", "backup", "prometheus", "site"] {
        assert!(!contains(foreign.as_bytes()), "{foreign}");
    }
    // Rule 3 of 4: the proof is one hash for its neighbour and one for the two before.
    assert_eq!((parts.allow[0].0, parts.proof.len()), (3, 2));
    // A guess at the neighbour cannot be tried: its hash is salted, and with a salt that only it has.
    let guess = minicbor::to_vec(&bundle.rules().allow[2]).unwrap();
    let sha256 = |parts: &[&[u8]]| ring::digest::digest(&ring::digest::SHA256, &parts.concat());
    for salt in [&[][..], &parts.allow[0].1] {
        assert_ne!(sha256(&[&[0], salt, &guess]).as_ref(), parts.proof[1]);
    }
    let whole = Parts::of(
        &deployment("acme.example")
            .bundle(7, POLICY)
            .whole_slice(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])]),
    );
    assert_eq!(whole.signed, parts.signed);
    let salts: BTreeSet<_> = whole.allow.iter().map(|(_, salt, _)| salt).collect();
    assert_eq!(salts.len(), 4, "no two rules share a salt");
    assert_eq!(sha256(&[&[0], &whole.allow[2].1, &guess]).as_ref(), parts.proof[1]);
    assert!(whole.allow[..3].iter().all(|(_, salt, _)| !contains(salt)));
}

#[test]
fn no_changed_byte_of_a_slice_adds_or_alters_a_rule() {
    let (acme, _, parts) = web();
    let slice = parts.assemble();
    let held = accept(&acme, &slice).unwrap();
    for at in 0..slice.len() {
        for bit in 0..8 {
            let mut changed = slice.clone();
            changed[at] ^= 1 << bit;
            // What is accepted is another spelling of the very same.
            if let Ok(policy) = accept(&acme, &changed) {
                assert_eq!(policy.rules(), held.rules(), "byte {at}");
                assert_eq!(policy.generation(), held.generation(), "byte {at}");
            }
        }
        assert!(accept(&acme, &slice[..at]).is_err(), "cut at {at}");
    }
}

/// Asserts that a node takes the slice as it is, and refuses it once `harm` was done to it.
#[track_caller]
fn check_refused(why: &str, harm: impl FnOnce(&mut Parts)) {
    let (acme, _, mut parts) = web();
    assert!(accept(&acme, &parts.assemble()).is_ok());
    harm(&mut parts);
    let error = accept(&acme, &parts.assemble()).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn no_never_rule_can_be_left_out_repeated_or_moved() {
    for at in 0..2 {
        check_refused("never rules", |parts| drop(parts.never.remove(at)));
        check_refused("never rules", |parts| parts.never.insert(at, parts.never[at].clone()));
    }
    check_refused("never rules", |parts| parts.never.clear());
    check_refused("never rules", |parts| parts.never.swap(0, 1));
}

#[test]
fn a_never_rule_does_not_pass_for_an_allow_rule() {
    check_refused("not proved", |parts| parts.allow[0].2.clone_from(&parts.never[0]));
}

#[test]
fn a_rule_of_another_generation_or_place_is_refused() {
    let wider = POLICY.replace("\"role=web\"", "\"*\"");
    let acme = deployment("acme.example");
    let other = signed(&acme, 8, &wider).slice(&Subject::from(&acme.node(10, "web", "role=web,env=prod")));
    let other = Parts::of(&other);
    assert_eq!(ids(&accept(&acme, &other.assemble()).unwrap().rules().allow), ["web-to-db"]);
    check_refused("not proved", |parts| parts.allow.clone_from(&other.allow));
    check_refused("not proved", |parts| parts.allow[0].2.clone_from(&other.allow[0].2));
    check_refused("not proved", |parts| {
        (parts.allow, parts.proof) = (other.allow.clone(), other.proof.clone());
    });
    check_refused("not proved", |parts| parts.allow[0].0 = 2);
    check_refused("not proved", |parts| parts.allow[0].0 = 4);
    check_refused("not in order", |parts| parts.allow.push(parts.allow[0].clone()));
}

#[test]
fn a_proof_has_exactly_the_hashes_that_are_missing() {
    check_refused("not proved", |parts| drop(parts.proof.pop()));
    check_refused("not proved", |parts| parts.proof.push(vec![0; 32]));
    check_refused("not proved", |parts| parts.proof.swap(0, 1));
    check_refused("not proved", |parts| parts.allow.clear());
    check_refused("malformed", |parts| parts.proof[0].truncate(31));
    check_refused("malformed", |parts| parts.allow[0].1.push(0));
}

#[test]
fn a_new_label_brings_another_slice_of_the_same_generation() {
    let acme = deployment("acme.example");
    let bundle = signed(&acme, 7, POLICY);
    let slice = |labels| bundle.slice(&Subject::from(&acme.node(10, "one", labels)));
    let held = accept(&acme, &slice("role=web")).unwrap();
    let next = held.replace(&slice("role=db"), &acme.trust, NOW).unwrap();
    assert_eq!(ids(&next.rules().allow), ["db-backup", "web-to-db"]);
    assert_eq!(next.generation(), held.generation());
    // The same rules once more, and signed for another end or with other salts, are another content (C2).
    let mut other = acme.bundle(7, POLICY);
    other.seed = [6; 32];
    let other = other.whole_slice(&[&key(10), &key(11)]);
    let error = held.replace(&other, &acme.trust, NOW).unwrap_err().to_string();
    assert!(error.contains("two contents for generation 7"), "{error}");
}

#[test]
fn a_complete_bundle_says_what_its_header_stands_for() {
    let acme = deployment("acme.example");
    let bytes = complete(&acme, 7, POLICY);
    assert_eq!(Bundle::read(&bytes).unwrap(), acme.bundle(7, POLICY));
    assert!(accept(&acme, &bytes).is_err(), "a node takes slices only");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(bundle) = SignedBundle::verify(&changed, &acme.trust, Generation(0), NOW) {
            assert_eq!(bundle.rules(), &rules(POLICY), "byte {at}");
            assert_eq!(bundle.generation(), Generation(7), "byte {at}");
        }
    }
    let long = SignedBundle::verify(&vec![0; MAX_BUNDLE_BYTES + 1], &acme.trust, Generation(0), NOW);
    assert!(long.unwrap_err().to_string().contains("MAX_BUNDLE_BYTES"));
}

#[test]
fn policy_keys_sign_one_after_the_other() {
    let acme = deployment("acme.example");
    let verify = |bytes: &[u8]| SignedBundle::verify(bytes, &acme.trust, Generation(0), NOW);
    let first = acme.bundle(7, POLICY).sign(&[&key(POLICY_KEYS[2])]);
    assert!(verify(&first).unwrap_err().to_string().contains("1 of 2"));
    let stranger = SignedBundle::countersign(&first, &key(20)).unwrap();
    assert!(verify(&stranger).is_err());
    let twice = SignedBundle::countersign(&first, &key(POLICY_KEYS[2])).unwrap();
    assert_eq!(twice, first, "signing twice is signing once");
    let both = SignedBundle::countersign(&stranger, &key(POLICY_KEYS[0])).unwrap();
    assert!(verify(&both).is_ok());
    let signers: BTreeSet<_> = SignedBundle::signers(&both).unwrap().iter().map(|k| *k.as_bytes()).collect();
    assert_eq!(signers, [10, 12, 20].map(|seed| *key(seed).public().as_bytes()).into());
    assert!(SignedBundle::countersign(&first[1..], &key(10)).is_err());
}

const SELECTORS: [&str; 12] = [
    "*",
    "env=prod",
    "env=stage",
    "env",
    "!env",
    "env in (prod, ot)",
    "role=web",
    "role!=web",
    "role=db, env=prod",
    "role notin (db, web)",
    "node:n3",
    "role=db",
];
const LABELS: [&str; 8] = [
    "",
    "env=prod",
    "role=web",
    "env=prod,role=web",
    "env=stage,role=db",
    "env=prod,role=db",
    "env=ot",
    "site=a",
];
const SERVICES: [Service; 4] = [Service::Tcp(1), Service::Tcp(9), Service::Udp(1), Service::Echo];

/// A node for each of [`LABELS`], once for all cases.
static NODES: LazyLock<(Deployment, Vec<VerifiedIdentity>)> = LazyLock::new(|| {
    let acme = deployment("acme.example");
    let node = |(number, labels): (usize, &&str)| {
        let number = u8::try_from(number).unwrap();
        acme.node(number + 10, &format!("n{number}"), labels)
    };
    let nodes = LABELS.iter().enumerate().map(node).collect();
    (acme, nodes)
});

prop_compose! {
    fn rule(prefix: &'static str)(
        number in 0u32..1000,
        from in prop::sample::select(&SELECTORS[..]),
        to in prop::sample::select(&SELECTORS[..]),
        related in prop::sample::select(vec!["", "", "env", "role", "site"]),
        ports in prop::sample::select(vec!["tcp/1", "tcp/1-9", "udp/*", "icmp", "any"]),
        until in prop::option::of(0u64..200),
    ) -> Rule {
        Rule {
            id: RuleId(format!("{prefix}{number:03}").as_str().into()),
            from: Selector::parse(from).unwrap(),
            to: Selector::parse(to).unwrap(),
            related: (!related.is_empty()).then(|| related.to_owned()).into_iter().collect(),
            ports: PortSet::parse(ports).unwrap(),
            not_before: None,
            until: until.map(|later| Timestamp(NOW.0 - 100 + later)),
            hours: Vec::new(),
            file: "policy.toml".to_owned(),
            line: 1,
        }
    }
}

fn rule_set() -> impl Strategy<Value = RuleSet> {
    let rules = |prefix, most| {
        proptest::collection::vec(rule(prefix), 0..most).prop_map(|mut rules| {
            rules.sort_by(|a, b| a.id.cmp(&b.id));
            rules.dedup_by(|a, b| a.id == b.id);
            rules
        })
    };
    (rules("a", 40), rules("n", 4)).prop_map(|(allow, never)| RuleSet::new(allow, never))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ends_decide_by_their_slices_as_the_whole_set_does(rules in rule_set()) {
        let (acme, nodes) = &*NODES;
        let bundle = Bundle { rules: rules.clone(), ..acme.bundle(1, "") };
        let bytes = bundle.sign(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])]);
        let bundle = SignedBundle::verify(&bytes, &acme.trust, Generation(0), NOW).unwrap();
        let policies: Vec<_> =
            nodes.iter().map(|node| accept(acme, &bundle.slice(&Subject::from(node))).unwrap()).collect();
        for (from, policy) in nodes.iter().zip(&policies) {
            let subject = Subject::from(from);
            for foreign in &policy.rules().allow {
                let may = |to| foreign.from.matches(to, bulkhead_acl::Polarity::Allow)
                    || foreign.to.matches(to, bulkhead_acl::Polarity::Allow);
                prop_assert!(may(&subject), "{} does not concern {}", foreign.id, from.name());
            }
            for (to, theirs) in nodes.iter().zip(&policies).filter(|(to, _)| to.name() != from.name()) {
                let outbound = policy.permit(from, to, NOW);
                let inbound = theirs.permit(to, from, NOW);
                for (service, later) in SERVICES.iter().zip([0, 30, 60, 90]) {
                    let wall = Timestamp(NOW.0 + later);
                    let decision = rules.decide(&subject, &Subject::from(to), *service, wall);
                    for (permit, direction) in
                        [(&outbound, Direction::Outbound), (&inbound, Direction::Inbound)]
                    {
                        let allows = permit.as_ref().is_some_and(|one| allowed(one, direction, *service, wall));
                        prop_assert_eq!(allows, decision.is_allowed(), "{:?} {:?}", service, direction);
                        let verdict = permit.as_ref().map(|one| one.verdict(direction, *service, wall));
                        if let (Some(Verdict::Allow(by)), bulkhead_acl::Decision::Allowed { rule, .. }) =
                            (verdict, &decision)
                        {
                            prop_assert_eq!(&by, rule);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nodes_of_one_class_have_one_slice(rules in rule_set()) {
        let (acme, nodes) = &*NODES;
        let bundle = Bundle { rules, ..acme.bundle(1, "") };
        let bytes = bundle.sign(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])]);
        let bundle = SignedBundle::verify(&bytes, &acme.trust, Generation(0), NOW).unwrap();
        let judged: Vec<_> = nodes
            .iter()
            .map(Subject::from)
            .map(|subject| (bundle.classes().of(&subject), bundle.slice(&subject)))
            .collect();
        for (class, slice) in &judged {
            prop_assert!(judged.iter().all(|(other, theirs)| class != other || slice == theirs));
        }
    }
}
