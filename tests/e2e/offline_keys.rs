//! Keys that the coordinator does not have: with policy signed elsewhere, whoever copies the coordinator's whole disk
//! cannot make a node accept a wider policy (P7).

use std::time::Duration;

use bulkhead_acl::RuleSet;
use bulkhead_identity::{Epoch, IdentityKey, Role, Trust};
use bulkhead_protocol::control::ToNode;
use bulkhead_tests::{Node, SOON, process, stored, until};

use crate::liar::{Loot, key, play, server_config, wall};
use crate::office::{Estate, NARROW, WIDE, apply_trust, narrow, wide};
use crate::policy::{connect, exchange};

/// To confirm a policy in.
const WINDOW: &str = "20s";

/// What the attacker would like to be in force: everything.
fn everything() -> RuleSet {
    let text = "version = 1\n[[allow]]\nid = \"open\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n";
    let sources = bulkhead_acl::Sources([("open.toml".to_owned(), text.to_owned())].into());
    bulkhead_acl::check(&sources, wall()).unwrap().rules
}

/// What a node keeps of whom to trust and whom to permit.
fn kept(node: &Node) -> [Vec<u8>; 2] {
    ["policy.cbor", "trust.cbor"].map(|file| std::fs::read(node.state().join(file)).unwrap())
}

/// Every lie that the keys in `loot` can be made to tell `victim`.
fn lies(
    loot: &Loot,
    victim: &Node,
    current: u64,
    older: &[(&'static str, Vec<u8>)],
) -> Vec<(&'static str, ToNode)> {
    let mallory = key(66);
    let all: &[&IdentityKey] = &[&loot.policy, loot.issuer.key(), &loot.identity, &mallory];
    let signers: [(&'static str, &[&IdentityKey]); 5] = [
        ("by the policy key that moved away", &all[..1]),
        ("by the issuing key", &all[1..2]),
        ("by the coordinator's own key", &all[2..3]),
        ("by a key of the attacker's", &all[3..]),
        ("by all of them together", all),
    ];
    let mut lies = Vec::new();
    let trust = Trust::stored(&std::fs::read(victim.state().join("trust.cbor")).unwrap(), wall()).unwrap();
    for (what, keys) in signers {
        for generation in [current, current + 1, u64::MAX / 2] {
            let slice = loot.bundle(generation, everything()).whole_slice(keys);
            lies.push((what, ToNode::Policy { slice }));
        }
        let mut document = trust.document().clone();
        document.version = Epoch(document.version.0 + 1);
        document.policy_keys = vec![mallory.public()];
        lies.push((what, ToNode::Trust { document: document.sign(keys) }));
        document.operator_keys = vec![mallory.public()];
        lies.push((what, ToNode::Trust { document: document.sign(keys) }));
    }
    lies.extend(older.iter().map(|(what, slice)| (*what, ToNode::Policy { slice: slice.clone() })));
    lies
}

#[test]
fn p7_with_the_whole_disk_of_the_coordinator_no_node_takes_a_wider_policy() {
    let mut estate = Estate::start();
    estate.coordinator.apply(&wide()).unwrap();
    let by_the_old_key = [&estate.web, &estate.db].map(|node| kept(node)[0].clone());
    estate.coordinator.apply(&narrow()).unwrap();
    let mut live = connect(&estate.web, (estate.db.v4(), NARROW).into()).unwrap();

    // Signing moves to the office without a moment in which nothing is permitted.
    let new = estate.office.keygen("policy.key");
    estate.trust(&["--add-policy-key", &new]);
    estate.apply("wide", &wide(), &["policy.key"]);
    until("what was signed elsewhere reaches the nodes", SOON, || estate.reaches(WIDE));
    let by_the_new_key = [&estate.web, &estate.db].map(|node| kept(node)[0].clone());
    estate.apply("narrow", &narrow(), &["policy.key"]);
    assert!(!estate.reaches(WIDE));
    let too_early = estate.office.signed_draft(&estate.coordinator, &["--remove-policy-key", &new]);
    let refused = estate.coordinator.ctl(&["trust", "apply", &too_early]).unwrap();
    assert!(!refused.ok() && refused.stderr.contains("--without-policy"), "{refused:?}");
    estate.trust(&["--remove-policy-key", &estate.first_policy_key()]);
    exchange(&mut live).expect("a live connection does not notice");
    let folder = estate.coordinator.write_policy(&wide()).unwrap();
    let refused = estate.coordinator.ctl(&["policy", "apply", &folder.to_string_lossy()]).unwrap();
    assert!(!refused.ok() && refused.stderr.contains("policy sign"), "{refused:?}");

    // The attacker has everything that the coordinator has, the policy key of old times included.
    let current = estate.generation();
    let copy = estate.lab.folder().join("copy");
    let mut copying = process::command("cp", &["-a"]);
    copying.arg(estate.coordinator.state()).arg(&copy);
    process::run(&mut copying, Duration::from_secs(20)).unwrap().success().unwrap();
    estate.coordinator.stop();
    let loot = Loot::take(&copy);
    for (at, victim) in [&estate.db, &estate.web].into_iter().enumerate() {
        let before = kept(victim);
        let older = [
            ("an older policy by the old key", by_the_old_key[1 - at].clone()),
            ("an older policy by the new key", by_the_new_key[1 - at].clone()),
        ];
        let lies = lies(&loot, victim, current, &older);
        let claims = loot.claims(Role::Coordinator, "hub", &loot.identity, None);
        let chain = loot.issuer.issue(&claims).unwrap();
        let config = server_config(chain.certificates(), &loot.identity);
        eprintln!("{} lies to {}", lies.len(), victim.name);
        play(&estate.coordinator.host, config, victim, lies);
        assert!(kept(victim) == before, "{} keeps what it had", victim.name);
        assert_eq!(victim.json(&["status"]).unwrap()["generation"], current);
    }
    assert!(!estate.reaches(WIDE), "still refused");
    exchange(&mut live).expect("and what was permitted still is");
}

#[test]
fn a_policy_signed_elsewhere_brings_what_it_goes_back_to() {
    let estate = Estate::start();
    estate.coordinator.apply(&narrow()).unwrap();
    let new = estate.office.keygen("policy.key");
    estate.trust(&["--add-policy-key", &new]);
    estate.apply("narrow", &narrow(), &["policy.key"]);
    estate.trust(&["--remove-policy-key", &estate.first_policy_key()]);

    let without =
        estate.office.sign_policy("alone", &wide(), &estate.web, estate.generation() + 1, &["policy.key"]);
    let refused = estate.coordinator.ctl(&["policy", "apply", &without, "--confirm-within", WINDOW]).unwrap();
    assert!(!refused.ok() && refused.stderr.contains("--fallback"), "{refused:?}");

    let (both, key) = (estate.office.path("both.json"), estate.office.path("policy.key"));
    let (wide, narrow) = (estate.office.path("alone.d"), estate.office.path("narrow.d"));
    let sign = ["policy", "sign", &wide, "--fallback", &narrow, "--key", &key, "--out", &both, "--yes"];
    estate.coordinator.ctl(&sign).unwrap().success().unwrap();
    estate
        .coordinator
        .ctl(&["policy", "apply", &both, "--confirm-within", WINDOW])
        .unwrap()
        .success()
        .unwrap();
    until("the policy is on trial", Duration::from_secs(20), || estate.reaches(WIDE));
    until("it went back without a key", Duration::from_secs(120), || !estate.reaches(WIDE));
    until("to what was before", SOON, || estate.reaches(NARROW));
}

#[test]
fn two_of_three_policy_keys_are_needed_and_two_of_three_operators() {
    let estate = Estate::start();
    estate.coordinator.apply(&narrow()).unwrap();
    let keys = ["a.key", "b.key", "c.key"].map(|file| estate.office.keygen(file));
    let mut changes: Vec<&str> = keys.iter().flat_map(|key| ["--add-policy-key", key]).collect();
    estate.trust(&changes);
    estate.apply("narrow", &narrow(), &["a.key", "b.key"]);
    let first = estate.first_policy_key();
    changes = vec!["--remove-policy-key", &first, "--policy-threshold", "2"];
    estate.trust(&changes);

    let alone = estate.office.sign_policy("wide", &wide(), &estate.web, estate.generation() + 1, &["c.key"]);
    let refused = estate.coordinator.ctl(&["policy", "apply", &alone]).unwrap();
    assert!(!refused.ok(), "one of two signatures: {refused:?}");
    assert!(!estate.reaches(WIDE));
    estate
        .office
        .ctl(&["policy", "sign", &alone, "--key", &estate.office.path("a.key"), "--yes"])
        .success()
        .unwrap();
    estate.coordinator.ctl(&["policy", "apply", &alone, "--wait"]).unwrap().success().unwrap();
    until("two of three are enough", SOON, || estate.reaches(WIDE));

    // The same for operators, who sign side by side.
    let operators = ["second.key", "third.key"].map(|file| estate.office.keygen(file));
    let mut changes: Vec<&str> = operators.iter().flat_map(|key| ["--add-operator", key]).collect();
    changes.extend(["--operator-threshold", "2"]);
    let draft = estate.office.draft(&estate.coordinator, &changes);
    for signer in ["operator.key", "second.key"] {
        estate.office.sign(&draft, signer);
    }
    let nodes = [&estate.web, &estate.db];
    apply_trust(&estate.coordinator, &draft, &[], &nodes);
    let draft = estate.office.draft(&estate.coordinator, &["--seal", "env"]);
    let other = format!("{draft}-copy");
    std::fs::copy(&draft, &other).unwrap();
    estate.office.sign(&draft, "second.key");
    estate.office.sign(&other, "third.key");
    let refused = estate.coordinator.ctl(&["trust", "apply", &draft]).unwrap();
    assert!(!refused.ok() && refused.stderr.contains("trust sign"), "{refused:?}");
    estate.office.ctl(&["trust", "merge", &draft, &other]).success().unwrap();
    apply_trust(&estate.coordinator, &draft, &[], &nodes);
}

/// No file of a coordinator's state holds the private half of a key in the office.
#[test]
fn the_office_keeps_its_keys_to_itself() {
    let estate = Estate::start();
    estate.coordinator.apply(&narrow()).unwrap();
    let new = estate.office.keygen("policy.key");
    estate.trust(&["--add-policy-key", &new]);
    estate.apply("narrow", &narrow(), &["policy.key"]);
    let secrets: Vec<Vec<u8>> = ["policy.key", "operator.key", "root.key"]
        .map(|file| std::fs::read(estate.office.path(file)).unwrap())
        .map(|bytes| bytes[bytes.len() - 32..].to_vec())
        .into();
    let kept = stored(&estate.coordinator.state());
    let files: Vec<_> = kept.iter().filter_map(|one| Some((&one.path, one.bytes.as_ref()?))).collect();
    assert!(files.len() > 4, "{kept:?}");
    for (path, bytes) in files {
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
}
