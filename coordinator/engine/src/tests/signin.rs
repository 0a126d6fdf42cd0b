//! Sign-ins: D1, D7, D8, D10, D13, and who may do what.

use super::people::{BROWSER, HOUR, person};
use super::scene::{Scene, name};
use crate::{
    AdminCall, AdminRole, Class, Command, Credential, Preview, Purpose, RequestId, Road, SignInOutcome,
    SignInPurpose,
};
use bulkhead_identity::Labels;
use bulkhead_protocol::signin::PollState;
use std::collections::BTreeSet;
use std::time::Duration;
use zeroize::Zeroizing;

fn refused(state: PollState) -> String {
    match state {
        PollState::Refused(error) => error.code,
        _ => panic!("not refused"),
    }
}

#[test]
fn a_confirmed_machine_is_its_persons_node_with_the_rules_labels() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    assert!(matches!(scene.poll(&begun.device_code), PollState::Waiting));
    let ada = person("u-1", &["engineering", "databases", "chess"]);
    let labels = Labels::parse("role=db,team=eng").unwrap();
    let expected = Preview::Enrol {
        name: name("laptop"),
        labels: labels.clone(),
        lifetime: 8 * HOUR,
        session: 12 * HOUR,
        approval: false,
        again: false,
    };
    let entries = scene.journal.len();
    assert_eq!(scene.preview(&begun.user_code, &ada).unwrap(), expected);
    assert_eq!(scene.journal.len(), entries, "a look changes nothing");
    let outcome = scene.confirm(&begun.user_code, &ada).unwrap();
    assert_eq!(outcome, SignInOutcome::Enrolled { name: name("laptop"), labels: labels.clone() });
    // However often it is asked, and after a restart.
    for _ in 0..2 {
        assert!(matches!(scene.poll(&begun.device_code), PollState::Enrolled(_)));
        scene = scene.restarted(scene.journal.len());
    }
    let node = &scene.coordinator.state().nodes[&name("laptop")];
    assert_eq!((&node.labels, node.certificate.not_after), (&labels, scene.now.wall.plus(8 * HOUR)));
    assert_eq!(node.owner.as_ref().unwrap().person.subject, "u-1");
    assert_eq!(scene.journal.last().unwrap().actor.to_string(), "person:acme/u-1 (Ada)");
}

#[test]
fn d7_the_page_shows_the_machine_its_address_and_the_code_of_both_screens() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let view = scene.look(&begun.user_code.to_lowercase().replace('-', " "), BROWSER).unwrap();
    assert_eq!((view.purpose, view.device), (SignInPurpose::Enrol, Some(name("laptop"))));
    assert_eq!(view.fingerprint, Some(device.identity.public().fingerprint()));
    assert_eq!(
        (view.source.to_string().as_str(), Some(&view.match_code)),
        ("192.0.2.9", begun.match_code.as_ref())
    );
    assert_eq!(view.expires, scene.now.wall.plus(Duration::from_secs(600)));
    assert_eq!(begun.verification_uri, "https://bulkhead.acme.example:8444/device");
    assert!(begun.verification_uri_complete.ends_with(&format!("?code={}", begun.user_code)));
}

#[test]
fn d7_a_sign_in_is_over_after_ten_minutes() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    scene.wait(Duration::from_secs(600));
    let ada = person("u-1", &["engineering"]);
    assert_eq!(scene.confirm(&begun.user_code, &ada).unwrap_err().code, "BH-C202");
    assert_eq!(refused(scene.poll(&begun.device_code)), "BH-C202");
    scene.wait(Duration::from_secs(120));
    scene.tick();
    assert_eq!(refused(scene.poll(&begun.device_code)), "BH-C202");
    assert!(scene.coordinator.state().nodes.is_empty());
}

#[test]
fn d1_a_sign_in_is_confirmed_once_and_another_person_comes_too_late() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let (ada, eve) = (person("u-1", &["engineering"]), person("u-666", &["engineering"]));
    assert!(scene.preview(&begun.user_code, &eve).is_ok());
    scene.confirm(&begun.user_code, &ada).unwrap();
    for late in [&eve, &ada] {
        assert_eq!(scene.confirm(&begun.user_code, late).unwrap_err().code, "BH-C202");
    }
    let node = &scene.coordinator.state().nodes[&name("laptop")];
    assert_eq!(node.owner.as_ref().unwrap().person.subject, "u-1");
}

#[test]
fn whoever_no_rule_names_enrols_nothing_and_the_machine_is_told() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let stranger = person("u-2", &["chess"]);
    assert_eq!(scene.preview(&begun.user_code, &stranger).unwrap_err().code, "BH-C205");
    // Whoever only looks may sign in as somebody else.
    assert!(matches!(scene.poll(&begun.device_code), PollState::Waiting));
    let refusal = scene.confirm(&begun.user_code, &stranger).unwrap_err();
    assert_eq!((refusal.class, refusal.code), (Class::Forbidden, "BH-C205"));
    assert!(refusal.message.contains("acme/u-2"), "{refusal}");
    assert_eq!(refused(scene.poll(&begun.device_code)), "BH-C205");
    assert!(scene.coordinator.state().nodes.is_empty() && scene.coordinator.state().pending.is_empty());
}

#[test]
fn whoever_refuses_ends_it() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let (user_code, claims) = (begun.user_code.clone(), Box::new(person("u-1", &["engineering"])));
    scene.handle(Command::SignInRefuse {
        request: RequestId(1),
        user_code,
        claims: Some(claims),
        source: BROWSER,
    });
    assert_eq!(refused(scene.poll(&begun.device_code)), "BH-C204");
    assert!(scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).is_err());
}

#[test]
fn d2_a_network_that_guesses_codes_is_refused_even_with_the_right_one() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let guesser = "2001:db8::666".parse().unwrap();
    for _ in 0..5 {
        assert_eq!(scene.look("BCDF-GHJK", guesser).unwrap_err().code, "BH-C202");
    }
    let neighbour = "2001:db8::1".parse().unwrap();
    assert_eq!(scene.look(&begun.user_code, neighbour).unwrap_err().class, Class::TooMany);
    assert!(scene.look(&begun.user_code, BROWSER).is_ok(), "others may");
    scene.wait(Duration::from_secs(60));
    assert!(scene.look(&begun.user_code, neighbour).is_ok());
}

#[test]
fn a_flood_of_sign_ins_from_one_network_leaves_others_theirs() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    let mut codes = BTreeSet::from([begun.user_code.clone()]);
    for _ in 0..super::super::signin::MAX_SIGN_INS + 50 {
        let (source, entropy) = ("2001:db8::1".parse().unwrap(), scene.entropy());
        let (purpose, road) = (Purpose::Login, Road::Page);
        let command = Command::SignInBegin { request: RequestId(1), source, purpose, road, entropy };
        let reply = scene.handle(command).unwrap();
        let crate::Reply::SignInBegun(begun) = reply else { panic!() };
        assert!(codes.insert(begun.user_code), "two people have one code");
    }
    assert!(scene.look(&begun.user_code, BROWSER).is_ok());
}

#[test]
fn d8_the_subject_is_who_somebody_is_whatever_the_mail_says() {
    let mut scene = Scene::staffed();
    let ada = person("u-1", &["engineering"]);
    let laptop = scene.node_of(&ada, "laptop");
    // The same name and the same mail address, another subject; and the other way round.
    let twin = person("u-2", &["engineering", "databases"]);
    let other = scene.node_of(&twin, "other");
    assert_ne!(
        scene.record(&laptop).owner.as_ref().unwrap().person,
        scene.record(&other).owner.as_ref().unwrap().person
    );
    let mut renamed = person("u-1", &["databases"]);
    renamed.name = "Ada Byron".to_owned();
    renamed.other.clear();
    scene.refreshed("u-1", crate::RefreshOutcome::Claims(Box::new(renamed))).unwrap();
    assert_eq!(
        (scene.labels_of(&laptop).as_str(), scene.labels_of(&other).as_str()),
        ("role=db", "role=db,team=eng")
    );
    // An administrator by subject is none by name.
    let begun = scene.sign_in_for(Purpose::Login).ok().unwrap();
    assert!(scene.confirm(&begun.user_code, &twin).is_err());
}

#[test]
fn d10_whoever_signs_in_next_keeps_nothing_of_the_one_before() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering", "databases"]), "laptop");
    scene.label(&laptop.name, "by", Some("hand")).unwrap();
    let device = super::people::Device { identity: laptop.identity, tunnel: laptop.tunnel };
    // The same person: what an administrator gave stays.
    let begun = scene.sign_in(&device, None).ok().unwrap();
    let preview = scene.preview(&begun.user_code, &person("u-1", &["databases"])).unwrap();
    assert!(matches!(preview, Preview::Enrol { again: true, approval: false, .. }), "{preview:?}");
    scene.confirm(&begun.user_code, &person("u-1", &["databases"])).unwrap();
    let labels = |scene: &Scene| scene.coordinator.state().nodes[&name("laptop")].labels.to_string();
    assert_eq!(labels(&scene), "by=hand,role=db");
    // Another: nothing does.
    let begun = scene.sign_in(&device, Some("laptop")).ok().unwrap();
    scene.confirm(&begun.user_code, &person("u-2", &["engineering"])).unwrap();
    assert_eq!(labels(&scene), "team=eng");
    let node = &scene.coordinator.state().nodes[&name("laptop")];
    assert_eq!(node.owner.as_ref().unwrap().person.subject, "u-2");
    assert_eq!(scene.coordinator.state().nodes.len(), 1);
    // The certificates with the labels of before are void.
    assert_eq!(scene.coordinator.state().revoked.epoch.0, 3);
}

#[test]
fn d10_a_node_that_joined_by_a_token_becomes_its_persons_and_keeps_no_label() {
    let mut scene = Scene::staffed();
    let server = scene.node("server", "role=db");
    let device = super::people::Device { identity: server.identity, tunnel: server.tunnel };
    let begun = scene.sign_in(&device, None).ok().unwrap();
    scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap();
    assert_eq!(scene.coordinator.state().nodes[&name("server")].labels.to_string(), "team=eng");
    // Where an administrator has to approve, another person's machine begins anew.
    let begun = scene.sign_in(&device, None).ok().unwrap();
    let refusal = scene.confirm(&begun.user_code, &person("u-3", &["contractors"])).unwrap_err();
    assert_eq!(refusal.code, "BH-C208");
    let purpose = scene.joining(&device, None);
    let begun = scene.sign_in_by(Road::ProviderDevice, purpose).ok().unwrap();
    let eve = person("u-4", &["engineering"]);
    assert_eq!(scene.confirm_by(Road::ProviderDevice, &begun.user_code, &eve).unwrap_err().code, "BH-C208");
}

#[test]
fn d13_names_and_keys_of_others_are_refused_and_d2_strangers_are_not_told() {
    let mut scene = Scene::staffed();
    let ada = person("u-1", &["engineering"]);
    let laptop = scene.node_of(&ada, "laptop");
    let device = scene.device();
    let refusal = |scene: &mut Scene, device: &super::people::Device, wish: &str| {
        let begun = scene.sign_in(device, Some(wish)).ok().unwrap();
        let stranger = scene.preview(&begun.user_code, &person("u-2", &["chess"])).unwrap_err();
        assert_eq!(stranger.code, "BH-C205");
        scene.confirm(&begun.user_code, &ada).unwrap_err().code
    };
    assert_eq!(refusal(&mut scene, &device, "laptop"), "BH-C105");
    assert_eq!(scene.sign_in(&device, None).err().unwrap().code, "BH-C104");
    for hostile in ["pending", "Laptop", "../x", "a.b", ""] {
        assert_eq!(scene.sign_in(&device, Some(hostile)).err().unwrap().code, "BH-C104", "{hostile}");
    }
    let thief = super::people::Device { identity: device.identity, tunnel: laptop.tunnel };
    assert_eq!(refusal(&mut scene, &thief, "thief"), "BH-C106");
    // A name that is taken while the person reads the page.
    let (one, two) = (scene.device(), scene.device());
    let (first, second) =
        (scene.sign_in(&one, Some("desk")).ok().unwrap(), scene.sign_in(&two, Some("desk")).ok().unwrap());
    scene.confirm(&first.user_code, &ada).unwrap();
    assert_eq!(scene.confirm(&second.user_code, &ada).unwrap_err().code, "BH-C105");
    assert_eq!(refused(scene.poll(&second.device_code)), "BH-C105");
}

#[test]
fn an_administrator_gets_the_rules_role_for_the_rules_time_and_the_key_is_told_once() {
    let mut scene = Scene::staffed();
    let begun = scene.sign_in_for(Purpose::Login).ok().unwrap();
    let ops = person("u-9", &["netops"]);
    let outcome = scene.confirm(&begun.user_code, &ops).unwrap();
    let user = "acme/u-9 (Ada)".to_owned();
    assert_eq!(outcome, SignInOutcome::LoggedIn { user: user.clone(), role: AdminRole::Operator });
    assert_eq!(scene.coordinator.state().api_keys.len(), 0, "no key before it is fetched");
    let PollState::Session(session) = scene.poll(&begun.device_code) else { panic!("no session") };
    assert_eq!((session.user, session.expires), (user, scene.now.wall.plus(HOUR)));
    assert_eq!(refused(scene.poll(&begun.device_code)), "BH-C202");
    let credential = || Credential::ApiKey(Zeroizing::new(session.key.clone()));
    assert!(scene.admin_as(credential(), AdminCall::PendingList).is_ok());
    let refusal = scene.admin_as(credential(), AdminCall::NodeRemove(name("x"))).err().unwrap();
    assert_eq!(refusal.class, Class::Forbidden);
    scene.wait(HOUR);
    assert_eq!(scene.admin_as(credential(), AdminCall::WhoAmI).err().unwrap().class, Class::Unauthorized);
}

#[test]
fn d7_nobody_becomes_an_administrator_by_a_code_typed_at_the_provider() {
    let mut scene = Scene::staffed();
    let begun = scene.sign_in_by(Road::ProviderDevice, Purpose::Login).ok().unwrap();
    let ops = person("u-9", &["netops"]);
    assert_eq!(scene.confirm_by(Road::ProviderDevice, &begun.user_code, &ops).unwrap_err().code, "BH-C206");
    let begun = scene.sign_in_for(Purpose::Login).ok().unwrap();
    assert_eq!(
        scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap_err().code,
        "BH-C205"
    );
}

#[test]
fn a_sign_in_is_confirmed_on_the_road_that_it_began_for() {
    let mut scene = Scene::staffed();
    let ada = person("u-1", &["engineering"]);
    for (began, other) in [(Road::Page, Road::ProviderDevice), (Road::ProviderDevice, Road::Page)] {
        let device = scene.device();
        let purpose = scene.joining(&device, Some("laptop"));
        let begun = scene.sign_in_by(began, purpose).ok().unwrap();
        assert_eq!(begun.match_code.is_some(), began == Road::Page);
        assert_eq!(scene.confirm_by(other, &begun.user_code, &ada).unwrap_err().code, "BH-C202");
        assert!(matches!(scene.poll(&begun.device_code), PollState::Waiting), "it goes on");
    }
}

#[test]
fn without_pages_nobody_signs_in_on_them() {
    let mut scene = Scene::new();
    let device = scene.device();
    assert_eq!(scene.sign_in(&device, Some("laptop")).err().unwrap().code, "BH-C201");
}
