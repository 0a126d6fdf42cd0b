//! What permitted peers that have nothing to say cost in memory: a bounded number of bytes each, whatever the policy
//! says of them (design/09-performance.md: 10,000 peers within 50 MB). (A program of its own: counting replaces the
//! allocator of all of it.)

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, dead_code)]

#[path = "engine/domain.rs"]
mod domain;

use allocation_counter::measure;
use bulkhead_identity::{Chain, Issuers};
use bulkhead_node_engine::*;
use domain::{Domain, Member, now};
use std::fmt::Write as _;
use std::sync::Arc;

const RULES: usize = 2000;
const PEERS: u16 = 2000;
/// Different labels among them.
const CLASSES: usize = 500;

/// Live bytes that `run` leaves behind, for each peer.
fn bytes_per_peer(what: &str, run: impl FnOnce()) -> i64 {
    let bytes = measure(run).bytes_current / i64::from(PEERS);
    println!("{what}: {bytes} bytes");
    bytes
}

/// So many rules, each about those whom `from` gives for its number.
fn policy(from: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for number in 0..RULES {
        let (from, port) = (from(number), 1000 + number);
        writeln!(
            text,
            "[[allow]]\nid = \"rule-{number}\"\nfrom = \"{from}\"\nto = \"*\"\nports = [\"tcp/{port}\"]"
        )
        .unwrap();
    }
    text
}

fn class(number: usize) -> String {
    format!("app=app{}", number % CLASSES)
}

#[test]
fn an_idle_peer_costs_the_same_whatever_the_policy_says_of_it() {
    let mut domain = Domain::new();
    let me = Member::new("me", 1, "");
    let chain = domain.certify(&me);
    let chains: Vec<_> = (0..PEERS)
        .map(|number| {
            let member = Member::numbered(number, &class(number.into()));
            (member.name.clone(), domain.certify(&member).encode())
        })
        .collect();
    let mut peers: Vec<PeerEntry> = Vec::with_capacity(PEERS.into());
    let mut issuers = Issuers::default();
    let introduced = bytes_per_peer("name and certificates", || {
        for (name, bytes) in &chains {
            let chain = Chain::decode(bytes).unwrap();
            peers.push(PeerEntry { name: name.clone(), chain: issuers.share(chain), endpoints: Vec::new() });
        }
    });
    assert!(introduced < 800, "the issuer's certificate is kept once");

    let every_rule_about_everyone = policy(|_| "*".to_owned());
    for (what, text) in [("rules of its own", policy(class)), ("every rule", every_rule_about_everyone)] {
        let world = World {
            trust: Arc::clone(&domain.trust),
            policy: domain.policy(&text),
            revocations: Arc::default(),
            me: domain.verify(&chain),
            peers: peers.clone(),
        };
        let engine = Engine::new(me.tunnel_key(), Config::default(), now(0));
        let mut out = Output::new();
        let permitted = bytes_per_peer(what, || {
            assert_eq!(engine.apply(world.clone(), &mut out, now(0)).added.len(), PEERS.into());
        });
        assert!(permitted < 1800, "one peer takes {permitted} bytes beside its certificates");
        let again = bytes_per_peer("the same again", || {
            assert!(engine.apply(world, &mut out, now(0)).changed.is_empty());
        });
        assert!(again <= 0, "nothing is kept of the former world");
    }
}
