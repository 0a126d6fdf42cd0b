//! Revocation: who hears first, who is closed, whose word counts.

use super::scene::{LIFETIME, Scene, certificate, web_to_db};
use crate::{AdminCall, CloseReason, Reply};
use bulkhead_identity::{Epoch, Generation, verify};
use bulkhead_protocol::control::{MapSequence, Receipt, ToCoordinator};
use std::collections::BTreeSet;
use std::time::Duration;

fn status(scene: &mut Scene, epoch: u64) -> bulkhead_protocol::admin::RevokeStatus {
    let Ok(Reply::Revocation(status)) = scene.admin(AdminCall::RevokeStatus(epoch)) else {
        panic!("no status")
    };
    status
}

#[test]
fn those_who_may_talk_to_the_victim_hear_first_then_its_link_closes_then_all_hear() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (bystander, db, web) =
        (scene.node("a", "role=other"), scene.node("db", "role=db"), scene.node("web", "role=web"));
    let links = [&bystander, &db, &web].map(|machine| scene.online(machine));
    scene.revoke(&web);
    let first_of = |link| scene.order.iter().position(|other| *other == link).unwrap();
    assert!(first_of(links[1]) < first_of(links[2]) && first_of(links[2]) < first_of(links[0]));
    assert_eq!(scene.closed, [(links[2], CloseReason::Revoked)]);
    for link in [links[0], links[1]] {
        assert!(scene.revocations(link).revokes(web.identity(&scene).claims()));
    }
    assert!(!scene.peers(links[1]).contains("web"));
}

#[test]
fn a_revoked_node_is_refused_everywhere() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    scene.revoke(&web);
    let list = scene.coordinator.link_revocations();
    assert!(verify(&web.chain, scene.coordinator.trust(), &list, scene.now.wall).is_err());
    // Even when the rim's check had missed it.
    let link = scene.connect(&web);
    assert_eq!(scene.closed, [(link, CloseReason::Revoked)]);
    scene.hello(link, 0, 0);
    assert!(!scene.inbox.contains_key(&link));
}

#[test]
fn receipts_count_when_the_node_itself_signed_them() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, _) = (scene.online(&db), scene.online(&web));
    scene.wait(Duration::from_secs(100));
    let status_now = scene.revoke(&web);
    assert_eq!(status_now.receipts, []);
    assert_eq!(status_now.waiting.len(), 1);
    assert_eq!(status_now.waiting[0].node, "db");
    assert_eq!(status_now.waiting[0].stops_at, super::scene::START.plus(LIFETIME));

    // Signed by another key.
    let (generation, epoch, map) = (Generation(1), Epoch(1), MapSequence(1));
    let forged = Receipt::sign(&web.identity, db.name.clone(), generation, epoch, scene.now.wall, map);
    scene.say(
        db_link,
        ToCoordinator::Acknowledge { trust_version: Epoch(1), generation, epoch, map, receipt: forged },
    );
    assert_eq!(status(&mut scene, status_now.epoch).waiting.len(), 1);

    // Says less than the message around it.
    let less = Receipt::sign(&db.identity, db.name.clone(), generation, Epoch(0), scene.now.wall, map);
    scene.say(
        db_link,
        ToCoordinator::Acknowledge { trust_version: Epoch(1), generation, epoch, map, receipt: less },
    );
    assert_eq!(status(&mut scene, status_now.epoch).waiting.len(), 1);

    scene.acknowledge(&db, db_link);
    let after = status(&mut scene, status_now.epoch);
    assert_eq!(after.waiting, []);
    assert_eq!(after.receipts[0].node, "db");
}

#[test]
fn revoking_twice_is_one_revocation() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    let first = scene.revoke(&web);
    let entries = scene.journal.len();
    assert_eq!(scene.revoke(&web), first);
    assert_eq!(scene.journal.len(), entries);
}

#[test]
fn an_active_node_is_not_removed_and_a_removed_name_is_free() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    assert_eq!(scene.admin(AdminCall::NodeRemove(web.name.clone())).err().unwrap().code, "BH-C131");
    scene.revoke(&web);
    scene.admin(AdminCall::NodeRemove(web.name.clone())).unwrap();
    scene.node("web", "");
}

#[test]
fn a_node_that_leaves_is_revoked_and_forgotten() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    scene.say(web_link, ToCoordinator::Leave);
    assert_eq!(scene.closed, [(web_link, CloseReason::Revoked)]);
    assert!(scene.revocations(db_link).revokes(web.identity(&scene).claims()));
    assert!(!scene.coordinator.state().nodes.contains_key(&web.name));
}

#[test]
fn relabelling_ends_the_old_certificate_and_sends_the_new_one() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    scene.tick();
    scene.label(&web.name, "env", Some("prod")).unwrap();
    let new = scene.inbox[&web_link].iter().rev().find_map(certificate).unwrap().clone();
    let revocations = scene.revocations(db_link);
    assert!(revocations.revokes(web.identity(&scene).claims()));
    let identity = verify(&new, scene.coordinator.trust(), &revocations, scene.now.wall).unwrap();
    assert_eq!(identity.labels().get("env").unwrap().as_str(), "prod");
    assert_eq!(scene.map(db_link).peers[&web.name].chain, new);
    // It can still connect with the old certificate, to fetch the new one.
    let list = scene.coordinator.link_revocations();
    assert!(verify(&web.chain, scene.coordinator.trust(), &list, scene.now.wall).is_ok());
    let again = scene.online(&web);
    assert!(scene.inbox[&again].iter().any(|message| certificate(message) == Some(&new)));
}

#[test]
fn losing_a_label_loses_the_peers() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    scene.tick();
    assert_eq!(scene.peers(web_link), BTreeSet::from(["db".to_owned()]));
    scene.label(&web.name, "role", None).unwrap();
    assert!(scene.peers(web_link).is_empty() && scene.peers(db_link).is_empty());
    scene.label(&web.name, "role", Some("web")).unwrap();
    assert_eq!(scene.peers(db_link), BTreeSet::from(["web".to_owned()]));
}

#[test]
fn hostile_labels_are_refused() {
    let mut scene = Scene::new();
    let web = scene.node("web", "");
    for (key, value) in [("Env", "prod"), ("env", "pr od"), ("env", "a\u{1b}[2J"), ("", "x"), ("env", "")] {
        assert_eq!(scene.label(&web.name, key, Some(value)).err().unwrap().code, "BH-C111");
    }
}
