//! Least knowledge: a node holds the rules that can concern it and every guard rail, and no trace of other rules.

use bulkhead_tests::stored::{Stored, stored};
use bulkhead_tests::{Coordinator, Lab, Node, SOON, until};

/// Rules about others, each with an id and a label value of its own.
const OTHERS: usize = 300;

const OWN: &str = r#"
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432"]
why = "orders live in db"

[[allow]]
id = "vault-from-auditor"
from = "role=auditor"
to = "role=vault"
ports = ["tcp/4711"]
why = "nobody else is to know that there is a vault"

[[never]]
id = "plc-only-from-historian"
from = "role!=historian"
to = "role=plc"

[[never]]
id = "vault-keeps-to-itself"
from = "role=vault"
to = "*"
"#;

fn policy() -> String {
    let mut text = "version = 1\n[labels.role]\nvalues = [\"web\", \"db\", \"auditor\", \"vault\", \"plc\", \"historian\"".to_owned();
    for n in 0..OTHERS {
        text += &format!(", \"unit-{n:03}\"");
    }
    text += "]\n";
    text += OWN;
    for n in 0..OTHERS - 1 {
        text += &format!(
            "\n[[allow]]\nid = \"private-{n:03}\"\nfrom = \"role=unit-{n:03}\"\nto = \"role=unit-{:03}\"\n\
             ports = [\"tcp/{}\"]\nwhy = \"between these two\"\n",
            n + 1,
            20_000 + n
        );
    }
    text
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The policy that a node keeps, after a look at everything it keeps: none of `secrets` is in any file.
fn slice_without(node: &Node, secrets: &[&str]) -> Vec<u8> {
    for Stored { path, bytes, .. } in stored(&node.state()) {
        for secret in secrets {
            let speaks = bytes.as_ref().is_some_and(|bytes| holds(bytes, secret));
            assert!(!speaks, "{} speaks of {secret}", path.display());
        }
    }
    let slice = std::fs::read(node.state().join("policy.cbor")).unwrap();
    for never in ["plc-only-from-historian", "vault-keeps-to-itself"] {
        assert!(holds(&slice, never), "{} lacks the guard rail {never}", node.name);
    }
    slice
}

#[test]
fn a_node_holds_every_guard_rail_and_only_the_rules_that_can_concern_it() {
    let lab = Lab::new().unwrap();
    let coordinator = Coordinator::start(&lab, &[]).unwrap();
    let web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();
    let bystander = Node::enrol(&lab, &coordinator, "bystander", &[]).unwrap();
    coordinator.apply(&policy()).unwrap();

    let others = ["private-", "unit-", "vault-from-auditor", "auditor"];
    for node in [&web, &db] {
        let slice = slice_without(node, &others);
        assert!(holds(&slice, "web-to-db"));
        eprintln!("{} holds {} bytes of policy", node.name, slice.len());
        // One rule, two guard rails and a proof of some ten hashes: nothing that grows with the rules of others.
        assert!(slice.len() < 4096, "{} bytes", slice.len());
    }
    let slice = slice_without(&bystander, &[&others[..], &["web-to-db"]].concat());
    eprintln!("{} holds {} bytes of policy", bystander.name, slice.len());

    // Another label, other rules: under the generation that is in force, and without those of the past.
    let generation = coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"].clone();
    coordinator.ctl(&["node", "label", "web", "role=unit-007"]).unwrap().success().unwrap();
    until("web learns its new rules", SOON, || {
        let slice = std::fs::read(web.state().join("policy.cbor")).unwrap();
        holds(&slice, "private-006") && holds(&slice, "private-007")
    });
    slice_without(&web, &["web-to-db", "private-005", "private-008", "unit-005", "unit-009", "auditor"]);
    assert_eq!(web.json(&["status"]).unwrap()["generation"], generation);
}
