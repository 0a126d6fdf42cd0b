//! People's sessions: D14 after the user was disabled, D15, groups that change, and rights that are lost.

use super::people::{HOUR, person};
use super::renewal::renew;
use super::scene::{Machine, Scene, certificate, rule, web_to_db};
use super::seal::seal;
use super::trust::change;
use crate::{Change, ConnectionId, Purpose, RefreshOutcome};
use bulkhead_identity::{Certificate, Now, Timestamp};
use bulkhead_protocol::control::ToNode;
use bulkhead_protocol::signin::PollState;
use std::time::Duration;

fn claims(subject: &str, groups: &[&str]) -> RefreshOutcome {
    RefreshOutcome::Claims(Box::new(person(subject, groups)))
}

fn renews(scene: &mut Scene, link: ConnectionId, machine: &Machine) -> bool {
    renew(scene, link, &machine.identity, &machine.tunnel)
}

/// Why the last renewal on this link was refused.
fn why(scene: &Scene, link: ConnectionId) -> String {
    match scene.inbox[&link].last() {
        Some(ToNode::Refused { why, .. }) => why.clone(),
        _ => panic!("not refused"),
    }
}

#[test]
fn a_certificate_does_not_outlive_the_session_and_is_not_renewed_after_it() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let end = scene.now.wall.plus(12 * HOUR);
    let link = scene.online(&laptop);
    scene.wait(6 * HOUR);
    assert!(renews(&mut scene, link, &laptop));
    assert_eq!(scene.record(&laptop).certificate.not_after, end, "six hours, not eight");
    scene.wait(HOUR);
    assert!(!renews(&mut scene, link, &laptop), "it would gain nothing");
    assert!(why(&scene, link).contains("sign in again"), "{}", why(&scene, link));
    scene.wait(5 * HOUR);
    assert!(!renews(&mut scene, link, &laptop));
    assert!(why(&scene, link).contains("acme/u-1"));
    // Signing in again is all it takes.
    let device = super::people::Device { identity: laptop.identity, tunnel: laptop.tunnel };
    let begun = scene.sign_in(&device, None).ok().unwrap();
    scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap();
    assert!(matches!(scene.poll(&begun.device_code), PollState::Enrolled(_)));
    let node = scene.coordinator.state().nodes.values().next().unwrap();
    assert_eq!(node.certificate.not_after, scene.now.wall.plus(8 * HOUR));
}

#[test]
fn a_node_that_comes_back_after_its_owner_signed_in_gets_the_certificate_of_that_sign_in() {
    // A session that is shorter than a certificate: the renewal on the way back could prolong nothing.
    for away in [13 * HOUR, 12 * HOUR + Duration::from_secs(1)] {
        let mut scene = Scene::of(|| {
            let mut config = super::people::staffed();
            config.rules.enrol.iter_mut().for_each(|rule| rule.lifetime = Some(24 * HOUR));
            config
        });
        let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
        scene.wait(away);
        let link = scene.connect_as(laptop.last_identity(&scene));
        scene.hello(link, 0, 0);
        assert!(!renews(&mut scene, link, &laptop), "nobody signed in yet");
        let device = super::people::Device { identity: laptop.identity, tunnel: laptop.tunnel };
        let begun = scene.sign_in(&device, None).ok().unwrap();
        scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap();
        assert!(!scene.inbox[&link].iter().any(|said| certificate(said).is_some()), "it could not be told");
        let entries = scene.journal.len();
        assert!(renew(&mut scene, link, &device.identity, &device.tunnel));
        let sent = scene.inbox[&link].iter().rev().find_map(certificate).unwrap();
        let node = scene.coordinator.state().nodes.values().next().unwrap();
        assert_eq!(*sent, node.certificate.chain);
        assert_eq!(node.certificate.not_after, scene.now.wall.plus(12 * HOUR));
        assert_eq!(scene.journal.len(), entries, "none is issued for it");
        assert!(!renew(&mut scene, link, &device.identity, &device.tunnel), "it has it now");
        assert!(scene.closed.is_empty());
    }
}

#[test]
fn d14_after_the_user_was_disabled_nothing_is_renewed_and_the_certificate_runs_out() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let other = scene.node_of(&person("u-2", &["engineering"]), "other");
    let (link, other_link) = (scene.online(&laptop), scene.online(&other));
    let end = scene.record(&laptop).certificate.not_after;
    scene.wait(HOUR);
    scene.refreshed("u-1", RefreshOutcome::Denied("the account is\ndisabled".to_owned())).unwrap();
    assert!(!renews(&mut scene, link, &laptop));
    assert!(renews(&mut scene, other_link, &other), "somebody else's is renewed");
    // A relabelling does not prolong it either.
    scene.label(&laptop.name, "site", Some("hq")).unwrap();
    assert_eq!(scene.record(&laptop).certificate.not_after, end);
    scene.wait(7 * HOUR);
    scene.tick();
    assert!(!renews(&mut scene, link, &laptop));
    let entry = scene.journal.iter().find_map(|event| {
        let view = event.audit();
        (view.event.as_str() == "person_denied").then_some(view.detail)
    });
    assert_eq!(entry.unwrap()["reason"], "the account isdisabled");
}

#[test]
fn a_group_that_was_taken_away_is_gone_from_the_certificate_at_once() {
    let mut scene = Scene::staffed();
    scene.apply(web_to_db());
    let db = scene.node_of(&person("u-1", &["engineering", "databases"]), "db");
    let web = scene.node("web", "role=web");
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    assert_eq!(scene.peers(web_link).len(), 1);
    scene.label(&db.name, "site", Some("hq")).unwrap();
    let before = scene.record(&db).certificate.clone();
    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["engineering"])).unwrap();
    assert_eq!(scene.labels_of(&db), "site=hq,team=eng", "what an administrator gave stays");
    assert!(scene.peers(web_link).is_empty(), "the tunnel that the label allowed is gone");
    let old = Certificate::parse(before.chain.leaf()).unwrap().claims;
    assert!(scene.revocations(web_link).revokes(&old), "and so is the certificate that said it");
    let sent = scene.inbox[&db_link].iter().rev().find_map(certificate).unwrap();
    assert_eq!(*sent, scene.record(&db).certificate.chain);
    // Given back, it is there again.
    scene.refreshed("u-1", claims("u-1", &["engineering", "databases"])).unwrap();
    assert_eq!(scene.labels_of(&db), "role=db,site=hq,team=eng");
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert_eq!(scene.peers(web_link).len(), 1);
}

#[test]
fn an_answer_that_changes_nothing_prolongs_the_session_and_touches_no_certificate() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let before = scene.record(&laptop).certificate.clone();
    for _ in 0..3 {
        scene.wait(HOUR);
        scene.refreshed("u-1", claims("u-1", &["engineering", "chess"])).unwrap();
    }
    let node = scene.record(&laptop);
    assert_eq!(node.certificate, before);
    assert_eq!(node.owner.as_ref().unwrap().session_until, scene.now.wall.plus(12 * HOUR));
    let entries = scene.journal.len();
    assert!(!scene.refreshed("u-77", claims("u-77", &["engineering"])).unwrap());
    assert_eq!(scene.journal.len(), entries, "of whom nothing is known, nothing is written");
}

#[test]
fn a_person_whom_no_rule_names_any_more_is_out_at_once() {
    let mut scene = Scene::staffed();
    scene.apply(rule("mesh", "*", "*", ""));
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let desk = scene.node("desk", "");
    let (link, desk_link) = (scene.online(&laptop), scene.online(&desk));
    assert_eq!(scene.peers(desk_link).len(), 1);
    let before = scene.record(&laptop).certificate.clone();
    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["chess"])).unwrap();
    assert!(scene.peers(desk_link).is_empty());
    assert!(scene.revocations(desk_link).revokes(&Certificate::parse(before.chain.leaf()).unwrap().claims));
    assert_eq!(scene.labels_of(&laptop), "");
    assert!(scene.record(&laptop).certificate.not_after <= scene.now.wall);
    assert!(!renews(&mut scene, link, &laptop));
    // Said twice, it is written once more and no more: nothing is left to end.
    let entries = scene.journal.len();
    scene.refreshed("u-1", claims("u-1", &["chess"])).unwrap();
    assert_eq!(scene.journal.len(), entries + 1);
    assert!(scene.record(&laptop).is_active(), "the machine may sign in again");
}

#[test]
fn what_wants_an_approval_does_not_come_without_one() {
    let mut scene = Scene::staffed();
    let (db, both) = (person("u-3", &["databases"]), person("u-3", &["databases", "contractors"]));
    let server = scene.node_of(&db, "server");
    let tablet = scene.approved_node_of(&both, "tablet");
    assert_eq!(scene.labels_of(&tablet), "role=db,team=ext");
    let until = |scene: &Scene, machine| scene.record(machine).owner.as_ref().unwrap().session_until;
    // Neither by itself, nor by signing in again; what was approved stays so.
    for again in [false, true] {
        scene.wait(HOUR);
        scene.refreshed("u-3", claims("u-3", &["databases", "contractors"])).unwrap();
        for machine in [&server, &tablet].into_iter().filter(|_| again) {
            scene.sign_in_again(machine, &both).unwrap();
        }
        assert_eq!(
            (scene.labels_of(&server).as_str(), scene.record(&server).lifetime),
            ("role=db", Some(8 * HOUR))
        );
        assert_eq!(scene.labels_of(&tablet), "role=db,team=ext");
        assert!(until(&scene, &server) > scene.now.wall && until(&scene, &tablet) > scene.now.wall);
    }
    // Who has nothing without an approval has nothing.
    scene.refreshed("u-3", claims("u-3", &["contractors"])).unwrap();
    assert_eq!((scene.labels_of(&server).as_str(), until(&scene, &server)), ("", scene.now.wall));
    assert_eq!(scene.labels_of(&tablet), "team=ext");
    let contractor = person("u-3", &["contractors"]);
    assert_eq!(scene.sign_in_again(&server, &contractor).unwrap_err().code, "BH-C208");
    assert!(scene.sign_in_again(&tablet, &contractor).is_ok());
    // An approval is for one person.
    scene.sign_in_again(&tablet, &person("u-1", &["engineering"])).unwrap();
    assert_eq!(scene.sign_in_again(&tablet, &contractor).unwrap_err().code, "BH-C208");
}

/// Two nodes of one engineer of the databases, of which the first cannot be certified without `role`, for its seal is
/// over that label too.
fn one_sealed() -> (Scene, Machine, Machine) {
    let mut scene = Scene::staffed();
    scene.apply(rule("mesh", "*", "*", ""));
    let ada = person("u-1", &["engineering", "databases"]);
    let (first, second) = (scene.node_of(&ada, "first"), scene.node_of(&ada, "second"));
    change(&mut scene, |document| document.sealed = vec!["env".parse().unwrap()]);
    seal(&mut scene, &first, "env=prod,role=db", 30 * 24 * HOUR).unwrap();
    (scene, first, second)
}

fn ends(scene: &Scene) -> usize {
    scene.journal.iter().filter(|event| matches!(event.change, Change::NodeSessionEnded { .. })).count()
}

#[test]
fn a_node_that_cannot_follow_ends_and_keeps_no_other_from_following() {
    let (mut scene, first, second) = one_sealed();
    let watch = scene.node("watch", "");
    let link = scene.online(&watch);
    let until = |scene: &Scene, machine| scene.record(machine).owner.as_ref().unwrap().session_until;
    let before = scene.record(&first).certificate.clone();
    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["engineering"])).unwrap();
    assert_eq!(scene.labels_of(&second), "team=eng");
    assert_eq!(until(&scene, &second), scene.now.wall.plus(12 * HOUR));
    // The other is off the maps, and what it holds is void.
    assert_eq!((scene.labels_of(&first).as_str(), until(&scene, &first)), ("env=prod", scene.now.wall));
    assert_eq!(scene.peers(link).into_iter().collect::<Vec<_>>(), ["second"]);
    let old = Certificate::parse(before.chain.leaf()).unwrap().claims;
    assert!(scene.revocations(link).revokes(&old));
    let Some(ended) =
        scene.journal.iter().find(|event| matches!(event.change, Change::NodeSessionEnded { .. }))
    else {
        panic!("nothing is written down")
    };
    assert!(ended.audit().detail["reason"].as_str().unwrap().contains("seal"), "{ended:?}");
    // What an administrator does to it meanwhile gives it nothing back.
    assert_eq!(scene.label(&first.name, "site", Some("hq")).err().unwrap().code, "BH-C181");
    let again = scene.restarted(scene.journal.len());
    assert_eq!(again.coordinator.state(), scene.coordinator.state());

    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["engineering"])).unwrap();
    assert_eq!((ends(&scene), until(&scene, &first) < scene.now.wall), (1, true), "it ends once");
    scene.refreshed("u-1", claims("u-1", &["engineering", "databases"])).unwrap();
    assert_eq!(scene.labels_of(&first), "env=prod,role=db,team=eng");
    assert_eq!(until(&scene, &first), scene.now.wall.plus(12 * HOUR));
    assert!(scene.record(&first).certificate.not_after > scene.now.wall);
}

#[test]
fn a_person_without_a_rule_is_out_with_every_node() {
    let (mut scene, first, second) = one_sealed();
    // Too many labels to say anything more: nothing of it counts when nothing is granted.
    for number in 0..62 {
        scene.label(&second.name, &format!("l{number}"), Some("x")).unwrap();
    }
    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["chess"])).unwrap();
    for machine in [&first, &second] {
        let node = scene.record(machine);
        assert_eq!(node.owner.as_ref().unwrap().session_until, scene.now.wall);
        assert!(node.certificate.not_after <= scene.now.wall && node.labels.get("team").is_none());
    }
}

#[test]
fn a_node_with_too_many_labels_is_not_prolonged_with_those_of_before() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    for number in 0..63 {
        scene.label(&laptop.name, &format!("l{number}"), Some("x")).unwrap();
    }
    let until = scene.record(&laptop).owner.as_ref().unwrap().session_until;
    scene.wait(HOUR);
    scene.refreshed("u-1", claims("u-1", &["engineering", "databases"])).unwrap();
    let node = scene.record(&laptop);
    assert!(node.owner.as_ref().unwrap().session_until < until && node.labels.len() == 63);
}

#[test]
fn claims_as_old_as_a_page_give_no_other_machine_anything_back() {
    let mut scene = Scene::staffed();
    let both = person("u-1", &["engineering", "databases"]);
    let laptop = scene.node_of(&both, "laptop");
    scene.refreshed("u-1", claims("u-1", &["engineering"])).unwrap();
    scene.node_of(&both, "tablet");
    assert_eq!(scene.labels_of(&laptop), "team=eng");
    scene.refreshed("u-1", claims("u-1", &["engineering", "databases"])).unwrap();
    assert_eq!(scene.labels_of(&laptop), "role=db,team=eng", "what the provider says when it is asked, does");
}

#[test]
fn after_a_denial_nothing_but_a_sign_in_at_the_machine_itself_brings_its_session_back() {
    let mut scene = Scene::staffed();
    let stolen = scene.node_of(&person("u-1", &["engineering"]), "stolen");
    scene.wait(HOUR);
    scene.refreshed("u-1", RefreshOutcome::Denied("disabled".to_owned())).unwrap();
    let ended = scene.now.wall;
    scene.wait(HOUR);
    let fresh = scene.node_of(&person("u-1", &["engineering"]), "fresh");
    scene.refreshed("u-1", claims("u-1", &["engineering", "databases"])).unwrap();
    let until = |scene: &Scene, machine| scene.record(machine).owner.as_ref().unwrap().session_until;
    assert_eq!(until(&scene, &stolen), ended);
    assert_eq!(until(&scene, &fresh), scene.now.wall.plus(12 * HOUR));
    let again = scene.restarted(scene.journal.len());
    assert_eq!(until(&again, &stolen), ended);
    // Found, and in the right hands.
    let device = super::people::Device { identity: stolen.identity, tunnel: stolen.tunnel };
    let begun = scene.sign_in(&device, None).ok().unwrap();
    scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap();
    let found = scene.coordinator.state().nodes[&super::scene::name("stolen")].owner.clone().unwrap();
    assert_eq!(found.session_until, scene.now.wall.plus(12 * HOUR));
}

#[test]
fn an_administrators_key_follows_the_provider() {
    let mut scene = Scene::staffed();
    for outcome in [RefreshOutcome::Denied("gone".to_owned()), claims("u-9", &["engineering"])] {
        let begun = scene.sign_in_for(Purpose::Login).ok().unwrap();
        scene.confirm(&begun.user_code, &person("u-9", &["netops"])).unwrap();
        assert!(
            scene.refreshed("u-9", claims("u-9", &["netops"])).unwrap(),
            "whose key is not fetched yet is known"
        );
        assert!(matches!(scene.poll(&begun.device_code), PollState::Session(_)));
        assert!(scene.refreshed("u-9", claims("u-9", &["netops"])).unwrap());
        assert_eq!(scene.coordinator.state().api_keys.len(), 1);
        assert!(!scene.refreshed("u-9", outcome).unwrap(), "nothing is left of them here");
        assert_eq!(scene.coordinator.state().api_keys.len(), 0);
    }
}

#[test]
fn nobody_fetches_a_key_for_a_right_that_was_lost_since() {
    let mut scene = Scene::staffed();
    for outcome in [RefreshOutcome::Denied("gone".to_owned()), claims("u-9", &["engineering"])] {
        let begun = scene.sign_in_for(Purpose::Login).ok().unwrap();
        scene.confirm(&begun.user_code, &person("u-9", &["netops"])).unwrap();
        assert!(!scene.refreshed("u-9", outcome).unwrap(), "nothing waits for them any more");
        assert!(
            matches!(scene.poll(&begun.device_code), PollState::Refused(error) if error.code == "BH-C205")
        );
        assert!(scene.coordinator.state().api_keys.is_empty());
    }
}

#[test]
fn what_a_provider_says_at_a_sign_in_counts_for_every_machine_and_prolongs_no_other() {
    let mut scene = Scene::staffed();
    let ada = person("u-1", &["engineering", "databases"]);
    let (desk, laptop) = (scene.node_of(&ada, "desk"), scene.node_of(&ada, "laptop"));
    let until = scene.record(&desk).owner.as_ref().unwrap().session_until;
    scene.wait(HOUR);
    scene.sign_in_again(&laptop, &person("u-1", &["engineering"])).unwrap();
    assert_eq!((scene.labels_of(&desk), scene.labels_of(&laptop)), ("team=eng".into(), "team=eng".into()));
    assert_eq!(scene.record(&desk).owner.as_ref().unwrap().session_until, until);
    assert!(scene.record(&desk).certificate.not_after <= until);
    let renewed = scene.record(&laptop).owner.as_ref().unwrap().session_until;
    assert_eq!(renewed, scene.now.wall.plus(12 * HOUR));
    assert_eq!(scene.restarted(scene.journal.len()).coordinator.state(), scene.coordinator.state());
}

#[test]
fn whoever_is_refused_at_a_sign_in_loses_what_they_had() {
    for only_looks in [false, true] {
        let mut scene = Scene::staffed();
        let desk = scene.node_of(&person("u-9", &["engineering", "netops"]), "desk");
        let login = scene.sign_in_for(Purpose::Login).ok().unwrap();
        scene.confirm(&login.user_code, &person("u-9", &["engineering", "netops"])).unwrap();
        assert!(matches!(scene.poll(&login.device_code), PollState::Session(_)));
        scene.wait(HOUR / 2);
        let device = scene.device();
        let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
        let nobody = person("u-9", &["chess"]);
        let refusal = match only_looks {
            true => scene.preview(&begun.user_code, &nobody).unwrap_err(),
            false => scene.confirm(&begun.user_code, &nobody).unwrap_err(),
        };
        assert_eq!(refusal.code, "BH-C205");
        let node = scene.record(&desk);
        assert_eq!(
            (node.labels.to_string().as_str(), node.owner.as_ref().unwrap().session_until),
            ("", scene.now.wall)
        );
        assert!(scene.coordinator.state().api_keys.is_empty());
        let kinds = |scene: &Scene| scene.journal.iter().filter(|event| !is_refusal(event)).count();
        let entries = kinds(&scene);
        assert!(scene.preview(&begun.user_code, &nobody).is_err());
        assert_eq!(kinds(&scene), entries, "nothing is left to say");
    }
}

fn is_refusal(event: &crate::Event) -> bool {
    matches!(event.change, Change::Refused { .. })
}

#[test]
fn an_answer_about_somebody_else_is_no_answer() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let entries = scene.journal.len();
    scene.refreshed("u-1", claims("u-2", &["engineering", "databases"])).unwrap_err();
    let mut many = person("u-1", &[]);
    many.groups = (0..10_000).map(|number| format!("g{number}")).collect();
    scene.refreshed("u-1", RefreshOutcome::Claims(Box::new(many))).unwrap_err();
    assert_eq!((scene.journal.len(), scene.labels_of(&laptop).as_str()), (entries, "team=eng"));
}

#[test]
fn d15_a_clock_that_jumps_neither_prolongs_a_session_nor_crashes() {
    const YEAR: u64 = 365 * 24 * 3600;
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let link = scene.online(&laptop);
    let at = |scene: &mut Scene, wall: u64| {
        scene.now = Now { mono: scene.now.mono + Duration::from_secs(1), wall: Timestamp(wall) };
        scene.tick();
    };
    let start = scene.now.wall.0;
    let until = scene.record(&laptop).owner.as_ref().unwrap().session_until;
    for jump in [start - 3600, start - YEAR / 365, start + 3600, start + YEAR] {
        at(&mut scene, jump);
        renews(&mut scene, link, &laptop);
        let node = scene.record(&laptop);
        assert_eq!(node.owner.as_ref().unwrap().session_until, until);
        assert!(node.certificate.not_after <= until, "{jump}");
    }
    // A year on, the session is over and the codes of sign-ins, which count by the other clock, are not.
    assert!(!renews(&mut scene, link, &laptop));
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("desk")).ok().unwrap();
    at(&mut scene, start);
    assert!(scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).is_ok());
}
