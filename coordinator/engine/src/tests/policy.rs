//! Policy: base, generations, rollback, questions, acknowledgements, ends of rules and bundles.

use super::scene::{START, Scene, rule, web_to_db};
use crate::{AdminCall, Class, Proposal, Reply};
use bulkhead_acl::Sources;
use bulkhead_identity::Generation;
use bulkhead_protocol::admin::{Can, PolicyText};
use bulkhead_protocol::control::MapSequence;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn text(sources: Sources, base: Option<u64>) -> PolicyText {
    PolicyText { sources, base, ..PolicyText::default() }
}

fn broken() -> Sources {
    Sources(BTreeMap::from([("main.toml".to_owned(), "version = 1\n[[allow]]\nid = 7\n".to_owned())]))
}

#[test]
fn a_bad_text_replaces_nothing_and_says_where() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let refusal = scene.propose(text(broken(), None)).unwrap_err();
    assert_eq!(refusal.class, Class::Unprocessable);
    assert!(!refusal.diagnostics.is_empty());
    assert_eq!(scene.coordinator.state().generation(), Generation(1));
    let proposal = Box::new(Proposal::new(text(broken(), None), START).unwrap());
    let Ok(Reply::Checked(report)) = scene.admin(AdminCall::PolicyCheck(proposal)) else { panic!() };
    assert!(!report.ok && !report.diagnostics.is_empty());
}

#[test]
fn a_stale_edit_is_refused() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let refusal = scene.propose(text(web_to_db(), Some(0))).unwrap_err();
    assert_eq!(refusal.class, Class::Conflict);
    assert!(refusal.help.unwrap().contains("--base 1"));
    assert!(scene.propose(text(web_to_db(), Some(1))).is_ok());
}

#[test]
fn going_back_is_a_new_generation_with_the_old_text() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    scene.apply(rule("other", "role=a", "role=b", ""));
    assert_eq!(scene.rollback(1).unwrap().generation, 3);
    let current = scene.policy();
    assert_eq!((current.generation, current.sources), (3, web_to_db()));
    assert!(scene.rollback(9).is_err());
    let Ok(Reply::History(history)) = scene.admin(AdminCall::PolicyHistory) else { panic!() };
    let generations: Vec<_> = history.entries.iter().map(|entry| entry.generation).collect();
    assert_eq!(generations, [3, 2, 1]);
}

#[test]
fn a_policy_reaches_every_link_before_the_maps_that_follow_from_it() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let links = [scene.online(&db), scene.online(&web)];
    scene.apply(web_to_db());
    assert_eq!(scene.order.len(), 4);
    assert_eq!(BTreeSet::from([scene.order[0], scene.order[1]]), BTreeSet::from(links));
    for link in links {
        assert_eq!(scene.generation(link), Generation(1));
    }
}

#[test]
fn can_answers_with_the_rule() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    scene.node("db", "role=db");
    scene.node("web", "role=web");
    let mut can = |from: &str, to: &str, service: &str| {
        let (from, to, service) = (from.to_owned(), to.to_owned(), service.to_owned());
        scene.admin(AdminCall::PolicyCan(Can { from, to, service, at: None }))
    };
    let Ok(Reply::Can(yes)) = can("web", "db", "tcp/5432") else { panic!() };
    assert!(yes.allowed);
    assert_eq!(yes.decision["rule"], "web-to-db");
    let Ok(Reply::Can(no)) = can("db", "web", "tcp/5432") else { panic!() };
    assert!(!no.allowed);
    assert_eq!(can("web", "nobody", "tcp/1").err().unwrap().class, Class::NotFound);
    assert_eq!(can("web", "db", "tcp/banana").err().unwrap().class, Class::BadRequest);
}

#[test]
fn acknowledgements_are_told_from_silence_and_absence() {
    let mut scene = Scene::new();
    let [heard, silent, away] = ["heard", "silent", "away"].map(|name| scene.node(name, ""));
    let (link, _) = (scene.online(&heard), scene.online(&silent));
    scene.apply(web_to_db());
    scene.acknowledge(&heard, link);
    let Ok(Reply::Acknowledged(status)) = scene.admin(AdminCall::PolicyAck(1)) else { panic!() };
    assert_eq!(status.acknowledged.len(), 1);
    assert_eq!((status.waiting, status.offline), (vec!["silent".to_owned()], vec![away.name.to_string()]));
    assert!(scene.admin(AdminCall::PolicyAck(2)).is_err());
}

#[test]
fn a_rule_that_ends_takes_its_peers_off_the_maps() {
    let mut scene = Scene::new();
    let until = "until = 2027-01-15T09:00:00Z";
    scene.apply(rule("short", "role=web", "role=db", until));
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, _) = (scene.online(&db), scene.online(&web));
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert_eq!(scene.peers(db_link).len(), 1);
    scene.wait(Duration::from_secs(3600));
    assert!(scene.coordinator.next_timeout() <= scene.now.mono + Duration::from_secs(1));
    scene.tick();
    assert!(scene.peers(db_link).is_empty());
}

#[test]
fn a_bundle_is_signed_again_long_before_its_end() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    scene.wait(Duration::from_secs(14 * 24 * 3600));
    scene.tick();
    assert_eq!(scene.coordinator.state().generation(), Generation(1));
    scene.wait(Duration::from_secs(2 * 24 * 3600));
    scene.tick();
    assert_eq!(scene.coordinator.state().generation(), Generation(2));
    let policy = scene.coordinator.state().policy().unwrap();
    assert_eq!(policy.sources, web_to_db());
    assert!(policy.expires > START.plus(Duration::from_secs(45 * 24 * 3600)));
}

#[test]
fn a_policy_is_in_force_after_a_restart_long_after_its_bundle_ended() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    scene.wait(Duration::from_secs(400 * 24 * 3600));
    let mut scene = scene.restarted(scene.journal.len());
    scene.tick();
    assert_eq!(scene.coordinator.state().generation(), Generation(2));
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let (db_link, _) = (scene.online(&db), scene.online(&web));
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert_eq!(scene.peers(db_link).len(), 1);
}

#[test]
fn a_receipt_for_the_policy_without_its_map_does_not_count() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let links = [scene.online(&db), scene.online(&web)];
    for (machine, link) in [&db, &web].into_iter().zip(links) {
        scene.acknowledge(machine, link);
    }
    let before = scene.map(links[1]).sequence;
    scene.apply(web_to_db());
    let waiting = |scene: &mut Scene| {
        let Ok(Reply::Acknowledged(status)) = scene.admin(AdminCall::PolicyAck(1)) else { panic!() };
        status.waiting
    };
    // The policy came before the map that lets db in: what is in force is the old map.
    scene.acknowledge_map(&web, links[1], before);
    scene.acknowledge(&db, links[0]);
    assert_eq!(waiting(&mut scene), ["web"]);
    // Nor does a map that was never sent here.
    scene.acknowledge_map(&web, links[1], MapSequence(u64::MAX));
    assert_eq!(waiting(&mut scene), ["web"]);
    scene.acknowledge(&web, links[1]);
    assert!(waiting(&mut scene).is_empty());
}

#[test]
fn a_map_of_an_earlier_life_proves_nothing() {
    let mut scene = Scene::new();
    let (_, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    scene.apply(web_to_db());
    let link = scene.online(&web);
    let earlier = scene.map(link).sequence;
    scene.wait(Duration::from_secs(1));
    let mut scene = scene.restarted(scene.journal.len());
    let link = scene.online(&web);
    scene.acknowledge_map(&web, link, earlier);
    let Ok(Reply::Acknowledged(status)) = scene.admin(AdminCall::PolicyAck(1)) else { panic!() };
    assert_eq!(status.waiting, ["web"]);
    scene.acknowledge(&web, link);
    let Ok(Reply::Acknowledged(status)) = scene.admin(AdminCall::PolicyAck(1)) else { panic!() };
    assert_eq!(status.acknowledged.len(), 1);
}
