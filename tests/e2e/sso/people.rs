//! D7, D10, D14: people's machines. What the provider says of a person decides what their machine is, and for how long.

use std::net::SocketAddr;

use bulkhead_tests::{Node, until};
use serde_json::json;

use super::{A_WHILE, Company, again, asks, ends_well, event, joined, sign_in, text};
use crate::load::reaches;
use crate::policy::echo_server;

/// Exit code of what is refused, or not valid.
const DENIED: i32 = 3;
/// Engineers reach the database, and nobody else does.
const POLICY: &str = "version = 1\n[[allow]]\nid = \"eng-db\"\nfrom = \"team=eng\"\nto = \"role=db\"\nports = [\"tcp/5432\"]\n";

/// The database, which joined by a token.
fn database(company: &Company) -> (Node, SocketAddr) {
    company.coordinator.apply(POLICY).unwrap();
    let db = Node::enrol(&company.lab, &company.coordinator, "db", &["role=db"]).unwrap();
    echo_server(&db, 5432);
    let at = SocketAddr::from((db.v4(), 5432));
    (db, at)
}

#[test]
fn a_group_that_is_taken_away_takes_its_label_and_its_tunnel_along() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff", "engineering"]).unwrap();
    let (_db, at) = database(&company);

    let mut joining = asks(&company, "laptop", &[]);
    let mut ada = company.person("ada", &["--no-script"]);
    sign_in(&company, &mut ada, "ada", &joining.code);
    let asked = ada.expect("If you confirm").unwrap();
    for shown in ["laptop", text(&joining.code["match_code"]), "site=hq", "team=eng"] {
        assert!(asked.text.contains(shown), "{shown}: {}", asked.text);
    }
    ada.press("Confirm").unwrap();
    ada.expect("is a node now").unwrap();
    ends_well(&mut joining.up);
    assert_eq!(company.labels("laptop"), json!({ "site": "hq", "team": "eng" }));
    let mut laptop = joining.node;
    laptop.start().unwrap();
    until("the laptop reaches the database", A_WHILE, || reaches(&laptop, at));

    company.idp.put_user("ada", &["staff"]).unwrap();
    until("the tunnel is down", A_WHILE, || laptop.peers().is_ok_and(|peers| peers.is_empty()));
    assert!(!reaches(&laptop, at));
    assert_eq!(company.labels("laptop"), json!({ "site": "hq" }));
    let certificate = laptop.json(&["cert", "show"]).unwrap().to_string();
    assert!(certificate.contains("hq") && !certificate.contains("eng"), "{certificate}");

    company.idp.put_user("ada", &["staff", "engineering"]).unwrap();
    until("given back, it is up again", A_WHILE, || reaches(&laptop, at));
}

#[test]
fn d14_a_user_who_is_disabled_is_not_renewed_and_stops_at_the_end_of_the_certificate() {
    let mut company = Company::start();
    company.idp.put_user("bob", &["engineering"]).unwrap();
    let (_db, at) = database(&company);
    let laptop = joined(&company, "bob", "laptop");
    until("the laptop reaches the database", A_WHILE, || reaches(&laptop, at));
    let ends =
        || company.coordinator.ctl_json(&["node", "show", "laptop"]).unwrap()["certificate_expires"].clone();
    let long = ends();
    company.idp.put_user("bob", &["short"]).unwrap();
    until("its certificate is one of twenty seconds", A_WHILE, || ends() != long);
    let first = ends();
    until("that is renewed", A_WHILE, || ends() != first);

    company.idp.disable("bob").unwrap();
    until("the coordinator knows", A_WHILE, || !company.journal("person_denied").is_empty());
    let last = ends();
    until("its certificate has ended", A_WHILE, || laptop.cli(&["cert", "show"]).unwrap().code == DENIED);
    assert!(!reaches(&laptop, at), "nobody talks to it any more");
    assert_eq!(ends(), last, "it was not renewed");
    let status = laptop.cli(&["status"]).unwrap();
    assert!(format!("{status:?}").contains("sign in again"), "{status:?}");

    // Back at work, signing in again is all it takes.
    company.idp.put_user("bob", &["engineering"]).unwrap();
    let mut joining = again(laptop, &[]);
    let mut bob = company.person("bob", &[]);
    sign_in(&company, &mut bob, "bob", &joining.code);
    bob.press("Confirm").unwrap();
    ends_well(&mut joining.up);
    until("the laptop reaches the database again", A_WHILE, || reaches(&joining.node, at));
}

#[test]
fn d14_a_revoked_machine_stops_at_once() {
    let mut company = Company::start();
    company.idp.put_user("bob", &["engineering"]).unwrap();
    let (db, at) = database(&company);
    let laptop = joined(&company, "bob", "laptop");
    until("the laptop reaches the database", A_WHILE, || reaches(&laptop, at));
    company
        .coordinator
        .ctl(&["node", "revoke", "laptop", "--reason", "lost", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    until("the database has no peer", A_WHILE, || db.peers().is_ok_and(|peers| peers.is_empty()));
    assert!(!reaches(&laptop, at));
}

#[test]
fn d10_another_person_at_the_same_machine_keeps_no_label() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff", "engineering"]).unwrap();
    company.idp.put_user("eve", &["staff"]).unwrap();
    let (_db, at) = database(&company);
    let laptop = joined(&company, "ada", "laptop");
    until("ada's laptop reaches the database", A_WHILE, || reaches(&laptop, at));
    let mut joining = again(laptop, &[]);
    let mut eve = company.person("eve", &[]);
    sign_in(&company, &mut eve, "eve", &joining.code);
    let asked = eve.expect("If you confirm").unwrap();
    assert!(!asked.text.contains("team=eng"), "{}", asked.text);
    eve.press("Confirm").unwrap();
    ends_well(&mut joining.up);
    assert_eq!(company.labels("laptop"), json!({ "site": "hq" }));
    until("the tunnel is down", A_WHILE, || joining.node.peers().is_ok_and(|peers| peers.is_empty()));
    assert!(!reaches(&joining.node, at));
}

#[test]
fn who_is_in_no_group_that_a_rule_names_enrols_nothing_and_both_screens_say_why() {
    let mut company = Company::start();
    company.idp.put_user("eve", &["visitors"]).unwrap();
    let mut joining = asks(&company, "laptop", &[]);
    let mut eve = company.person("eve", &["--phone"]);
    sign_in(&company, &mut eve, "eve", &joining.code);
    let seen = eve.expect("no rule matches").unwrap();
    assert!(!seen.wide, "{} fits a phone", seen.url);
    // The person may sign in as somebody else; so far nothing is decided.
    assert!(joining.up.running());
    let missing = company.coordinator.ctl(&["node", "show", "laptop"]).unwrap();
    assert!(missing.stderr.contains("no node \"laptop\""), "{missing:?}");
}

#[test]
fn d7_whoever_sees_another_code_says_so_and_the_machine_is_told() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff"]).unwrap();
    let mut joining = asks(&company, "laptop", &[]);
    let mut ada = company.person("ada", &[]);
    sign_in(&company, &mut ada, "ada", &joining.code);
    ada.expect("If you confirm").unwrap();
    ada.press("Refuse").unwrap();
    until("the machine is told", A_WHILE, || !joining.up.running());
    assert!(event(&joining.up, "done").is_none());
    assert!(joining.up.log().contains("refused"), "{}", joining.up.log());
    // The link is of no more use.
    ada.open(text(&joining.code["verification_uri_complete"])).unwrap();
    ada.expect("not known").unwrap();
}

#[test]
fn a_node_that_waits_for_an_administrator_has_no_certificate_and_no_peers() {
    let mut company = Company::start();
    company.idp.put_user("kim", &["contractors"]).unwrap();
    company
        .coordinator
        .apply("version = 1\n[[allow]]\nid = \"all\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n")
        .unwrap();
    let db = Node::enrol(&company.lab, &company.coordinator, "db", &[]).unwrap();
    let waits = |name: &str| {
        let joining = asks(&company, name, &[]);
        let mut kim = company.person(&format!("kim-{name}"), &[]);
        sign_in(&company, &mut kim, "kim", &joining.code);
        kim.expect("If you confirm").unwrap();
        kim.press("Confirm").unwrap();
        kim.expect("administrator").unwrap();
        until("the machine knows", A_WHILE, || event(&joining.up, "approval").is_some());
        joining
    };
    let (mut wanted, mut unwanted) = (waits("wanted"), waits("unwanted"));
    let pending = company.coordinator.ctl_json(&["node", "list", "--pending"]).unwrap();
    let names: Vec<_> = pending["nodes"].as_array().unwrap().iter().map(|node| text(&node["name"])).collect();
    assert_eq!(names, ["unwanted", "wanted"]);
    assert_eq!(db.peers().unwrap(), Vec::<String>::new());
    assert!(!wanted.node.state().join("certificate.cbor").exists());

    company.coordinator.ctl(&["node", "approve", "wanted"]).unwrap().success().unwrap();
    company
        .coordinator
        .ctl(&["node", "reject", "unwanted", "--reason", "who is that"])
        .unwrap()
        .success()
        .unwrap();
    ends_well(&mut wanted.up);
    wanted.node.start().unwrap();
    until("it is a node", A_WHILE, || db.peers().is_ok_and(|peers| peers == ["wanted"]));
    until("the other is told", A_WHILE, || !unwanted.up.running());
    assert!(unwanted.up.log().contains("who is that"), "{}", unwanted.up.log());
}

#[test]
fn a_machine_that_waits_goes_on_after_a_reboot() {
    let mut company = Company::start();
    company.idp.put_user("kim", &["contractors"]).unwrap();
    let mut joining = asks(&company, "kiosk", &[]);
    let mut kim = company.person("kim", &[]);
    sign_in(&company, &mut kim, "kim", &joining.code);
    kim.press("Confirm").unwrap();
    kim.expect("administrator").unwrap();
    until("the machine knows", A_WHILE, || event(&joining.up, "approval").is_some());
    joining.up.kill();
    company.coordinator.ctl(&["node", "approve", "kiosk"]).unwrap().success().unwrap();
    let mut node = joining.node;
    node.start().unwrap();
    node.wait_connected();
    assert_eq!(company.labels("kiosk"), json!({ "team": "ext" }));
    // It is what `up` without any option goes on with.
    assert_eq!(node.json(&["status"]).unwrap()["node"]["name"], "kiosk.acme.example");
}

#[test]
fn a_sign_in_that_was_confirmed_unnoticed_is_not_lost_to_another_wish() {
    let mut company = Company::start();
    company.idp.put_user("ada", &["staff"]).unwrap();
    let mut joining = asks(&company, "laptop", &[]);
    joining.up.kill();
    let mut ada = company.person("ada", &[]);
    sign_in(&company, &mut ada, "ada", &joining.code);
    ada.press("Confirm").unwrap();
    ada.expect("is a node now").unwrap();
    let invitation = company.invitation("again");
    let wish = ["--enrol-only", "--name", "desktop", "--invitation", &invitation.to_string_lossy()];
    let mut joining = again(joining.node, &wish);
    ends_well(&mut joining.up);
    assert_eq!(event(&joining.up, "done").unwrap()["name"], "laptop");
    assert_eq!(company.labels("laptop"), json!({ "site": "hq" }));
}
