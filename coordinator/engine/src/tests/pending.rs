//! Nodes that wait for an administrator: L15, D13, and that waiting is nothing more than waiting.

use super::people::{BROWSER, Device, HOUR, person};
use super::scene::{Scene, name, rule};
use crate::{AdminCall, Class, Credential, RefreshOutcome, Reply, Road, SignInOutcome};
use bulkhead_identity::{Chain, Labels};
use bulkhead_protocol::admin::{CreateToken, PendingNode, Reject, Revoke};
use bulkhead_protocol::signin::{DeviceAuthorization, PollState};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A contractor's machine that waits under this name.
fn waiting(scene: &mut Scene, wish: &str) -> (Device, DeviceAuthorization) {
    let device = scene.device();
    let begun = scene.sign_in(&device, Some(wish)).ok().unwrap();
    let outcome = scene.confirm(&begun.user_code, &person("u-3", &["contractors"])).unwrap();
    assert_eq!(outcome, SignInOutcome::Pending { name: name(wish) });
    (device, begun)
}

fn listed(scene: &mut Scene) -> Vec<PendingNode> {
    let Ok(Reply::Pending(list)) = scene.admin(AdminCall::PendingList) else { panic!("no list") };
    list.nodes
}

fn is_awaited(state: &PollState) -> bool {
    matches!(state, PollState::Approval { name } if name == "tablet")
}

#[test]
fn a_pending_node_is_in_no_map_and_has_no_certificate() {
    let mut scene = Scene::staffed();
    scene.apply(rule("mesh", "*", "*", ""));
    let desk = scene.node_of(&person("u-1", &["engineering"]), "desk");
    let link = scene.online(&desk);
    let (device, begun) = waiting(&mut scene, "tablet");
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert!(scene.peers(link).is_empty());
    assert!(!scene.coordinator.state().nodes.contains_key(&name("tablet")));
    assert!(is_awaited(&scene.poll(&begun.device_code)));
    let [pending] = listed(&mut scene).try_into().unwrap();
    assert_eq!(pending.fingerprint, device.identity.public().fingerprint().to_string());
    assert_eq!((pending.labels.to_string().as_str(), pending.source.as_str()), ("team=ext", "192.0.2.9"));
    assert_eq!((pending.owner.subject.as_str(), pending.owner.seen), ("u-3", true));

    let approved = scene.admin(AdminCall::NodeApprove(name("tablet"))).unwrap();
    assert!(matches!(approved, Reply::Node(node) if node.owner.is_some()));
    scene.wait(Duration::from_secs(1));
    scene.tick();
    assert_eq!(scene.peers(link).into_iter().collect::<Vec<_>>(), ["tablet"]);
    let PollState::Enrolled(enrolled) = scene.poll(&begun.device_code) else { panic!("not enrolled") };
    let node = &scene.coordinator.state().nodes[&name("tablet")];
    assert_eq!(node.certificate.chain, Chain::decode(&enrolled.chain).unwrap());
    assert_eq!(node.identity_key, device.identity.public());
    assert!(listed(&mut scene).is_empty());
}

#[test]
fn a_machine_that_waits_resumes_after_restarts_on_both_sides() {
    let mut scene = Scene::staffed();
    let (_, begun) = waiting(&mut scene, "tablet");
    scene.wait(HOUR);
    scene = scene.restarted(scene.journal.len());
    assert!(is_awaited(&scene.poll(&begun.device_code)));
    scene.admin(AdminCall::NodeApprove(name("tablet"))).unwrap();
    scene = scene.restarted(scene.journal.len());
    assert!(matches!(scene.poll(&begun.device_code), PollState::Enrolled(_)));
    let node = &scene.coordinator.state().nodes[&name("tablet")];
    assert_eq!(node.certificate.not_after, scene.now.wall.plus(HOUR));
}

#[test]
fn nobody_is_approved_on_what_a_provider_said_long_ago() {
    let mut scene = Scene::staffed();
    let (_, begun) = waiting(&mut scene, "tablet");
    let approve = |scene: &mut Scene| scene.admin(AdminCall::NodeApprove(name("tablet"))).err();
    scene.wait(2 * HOUR);
    let refusal = approve(&mut scene).unwrap();
    assert!(refusal.code == "BH-C221" && refusal.message.contains("sign in again"), "{refusal}");
    scene.tick();
    let PollState::Refused(over) = scene.poll(&begun.device_code) else { panic!("it waits on") };
    assert!(over.message.contains("sign in again"), "{over:?}");
    // Said again, it counts from then: also without the person.
    waiting(&mut scene, "tablet");
    scene.wait(HOUR);
    let still = || RefreshOutcome::Claims(Box::new(person("u-3", &["contractors"])));
    scene.refreshed("u-3", still()).unwrap();
    let said = scene.now.wall;
    scene.wait(HOUR + HOUR / 2);
    scene.tick();
    assert!(approve(&mut scene).is_none());
    let until = |scene: &Scene| {
        scene.coordinator.state().nodes[&name("tablet")].owner.as_ref().unwrap().session_until
    };
    assert_eq!(until(&scene), said.plus(2 * HOUR), "the session began with the provider's word");
    let again = scene.restarted(scene.journal.len());
    assert_eq!(again.coordinator.state(), scene.coordinator.state());
}

#[test]
fn a_machine_that_was_revoked_before_it_asked_is_told_so() {
    let mut scene = Scene::staffed();
    let (_, begun) = waiting(&mut scene, "tablet");
    scene.admin(AdminCall::NodeApprove(name("tablet"))).unwrap();
    let why = Revoke { reason: "lost".to_owned() };
    scene.admin(AdminCall::NodeRevoke(name("tablet"), why)).unwrap();
    assert!(matches!(scene.poll(&begun.device_code), PollState::Refused(_)));
}

#[test]
fn l15_name_and_keys_of_a_node_that_waits_are_taken() {
    let mut scene = Scene::staffed();
    let (device, begun) = waiting(&mut scene, "tablet");
    let secret = scene.token(CreateToken { uses: Some(9), ..CreateToken::default() });
    assert_eq!(scene.join(&*secret, Some("tablet")).err().unwrap().code, "BH-C105");
    let other = scene.device();
    let refusal = |scene: &mut Scene, device: &Device, wish: &str| {
        let begun = scene.sign_in(device, Some(wish)).ok().unwrap();
        scene.confirm(&begun.user_code, &person("u-1", &["engineering"])).unwrap_err().code
    };
    assert_eq!(refusal(&mut scene, &other, "tablet"), "BH-C105");
    let thief = Device { identity: other.identity, tunnel: device.tunnel };
    assert_eq!(refusal(&mut scene, &thief, "thief"), "BH-C106");
    // The machine itself is not in its own way: it begins again under another name, or joins by a token.
    let device = Device { identity: device.identity, tunnel: thief.tunnel };
    let again = scene.sign_in(&device, Some("slate")).ok().unwrap();
    scene.confirm(&again.user_code, &person("u-3", &["contractors"])).unwrap();
    assert_eq!(listed(&mut scene).iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["slate"]);
    assert!(matches!(scene.poll(&begun.device_code), PollState::Refused(_)));
    let (enrolment, request) = scene.request_of(&device);
    scene.finish(enrolment, *request, &*secret, Some("slate")).unwrap();
    assert!(listed(&mut scene).is_empty());
}

#[test]
fn a_refused_machine_is_told_why_and_its_name_is_free() {
    let mut scene = Scene::staffed();
    let (_, begun) = waiting(&mut scene, "tablet");
    let reject = Reject { reason: "not ours".to_owned() };
    assert!(matches!(scene.admin(AdminCall::NodeReject(name("tablet"), reject)), Ok(Reply::Done)));
    let PollState::Refused(error) = scene.poll(&begun.device_code) else { panic!("not refused") };
    assert!(error.message.contains("not ours"), "{error:?}");
    assert_eq!(scene.admin(AdminCall::NodeApprove(name("tablet"))).err().unwrap().class, Class::NotFound);
    waiting(&mut scene, "tablet");
}

#[test]
fn nobody_waits_for_more_than_thirty_days() {
    let mut scene = Scene::staffed();
    let (_, begun) = waiting(&mut scene, "tablet");
    scene.wait(30 * DAY);
    scene.tick();
    assert!(listed(&mut scene).is_empty());
    assert!(matches!(scene.poll(&begun.device_code), PollState::Refused(_)));
    assert!(scene.coordinator.state().devices.is_empty());
}

#[test]
fn one_person_cannot_fill_the_list() {
    let mut scene = Scene::staffed();
    for number in 0..10 {
        waiting(&mut scene, &format!("n{number}"));
    }
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("n10")).ok().unwrap();
    let refusal = scene.confirm(&begun.user_code, &person("u-3", &["contractors"])).unwrap_err();
    assert_eq!(refusal.class, Class::TooMany);
    // It is not over: once an administrator has made room, it can be confirmed.
    scene.admin(AdminCall::NodeReject(name("n0"), Reject::default())).unwrap();
    assert!(scene.confirm(&begun.user_code, &person("u-3", &["contractors"])).is_ok());
}

#[test]
fn one_person_has_so_many_nodes_whichever_way_they_come() {
    let mut scene = Scene::staffed();
    let both = person("u-3", &["engineering"]);
    let first = scene.node_of(&both, "n0");
    let (another, server) =
        (scene.node_of(&person("u-1", &["engineering"]), "desk"), scene.node("server", ""));
    waiting(&mut scene, "tablet");
    for number in 1..100 {
        scene.node_of(&both, &format!("n{number}"));
    }
    let approve = AdminCall::NodeApprove(name("tablet"));
    assert_eq!(scene.admin(approve).err().unwrap().code, "BH-C207");
    for machine in [&another, &server] {
        assert_eq!(scene.sign_in_again(machine, &both).unwrap_err().code, "BH-C207");
    }
    assert!(scene.sign_in_again(&first, &both).is_ok(), "it is one of them");
    scene.revoke(&first);
    assert!(scene.sign_in_again(&another, &both).is_ok(), "a revoked one is none");
}

#[test]
fn who_confirmed_at_the_providers_own_page_waits_whatever_the_rules_say() {
    let mut scene = Scene::staffed();
    let device = scene.device();
    let purpose = scene.joining(&device, Some("headless"));
    let begun = scene.sign_in_by(Road::ProviderDevice, purpose).ok().unwrap();
    let ada = person("u-1", &["engineering"]);
    let outcome = scene.confirm_by(Road::ProviderDevice, &begun.user_code, &ada).unwrap();
    assert_eq!(outcome, SignInOutcome::Pending { name: name("headless") });
    assert!(!listed(&mut scene)[0].owner.seen);
}

#[test]
fn a_name_that_the_policy_speaks_of_waits_and_changes_hands_by_an_approval_only() {
    let mut scene = Scene::staffed();
    scene.apply(rule("backups", "node:backup", "*", ""));
    let (ada, eve) = (person("u-1", &["engineering"]), person("u-2", &["engineering"]));
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("backup")).ok().unwrap();
    let preview = scene.preview(&begun.user_code, &eve).unwrap();
    assert!(matches!(preview, crate::Preview::Enrol { approval: true, .. }), "{preview:?}");
    let outcome = scene.confirm(&begun.user_code, &eve).unwrap();
    assert_eq!(outcome, SignInOutcome::Pending { name: name("backup") });
    scene.admin(AdminCall::NodeReject(name("backup"), Reject::default())).unwrap();

    let backup = scene.approved_node_of(&ada, "backup");
    assert_eq!(scene.sign_in_again(&backup, &eve).unwrap_err().code, "BH-C208");
    assert!(scene.sign_in_again(&backup, &ada).is_ok());
    let server = scene.node("server", "");
    scene.apply(rule("backups", "node:server", "*", ""));
    assert_eq!(scene.sign_in_again(&server, &eve).unwrap_err().code, "BH-C208");
    let desk = scene.node_of(&ada, "desk");
    assert!(scene.sign_in_again(&desk, &eve).is_ok(), "any other may");
}

#[test]
fn what_waits_follows_its_person() {
    let mut scene = Scene::staffed();
    waiting(&mut scene, "tablet");
    let both = person("u-3", &["contractors", "databases"]);
    scene.refreshed("u-3", RefreshOutcome::Claims(Box::new(both))).unwrap();
    assert_eq!(listed(&mut scene)[0].labels, Labels::parse("role=db,team=ext").unwrap());
    scene.refreshed("u-3", RefreshOutcome::Denied("disabled".to_owned())).unwrap();
    assert!(listed(&mut scene).is_empty());
    waiting(&mut scene, "tablet");
    scene.refreshed("u-3", RefreshOutcome::Claims(Box::new(person("u-3", &["chess"])))).unwrap();
    assert!(listed(&mut scene).is_empty());
}

#[test]
fn strangers_and_viewers_approve_nothing() {
    let mut scene = Scene::staffed();
    waiting(&mut scene, "tablet");
    for call in [
        AdminCall::PendingList,
        AdminCall::NodeApprove(name("tablet")),
        AdminCall::NodeReject(name("tablet"), Reject::default()),
    ] {
        assert_eq!(
            scene.admin_from(Credential::Anonymous, Some(BROWSER), call).err().unwrap().class,
            Class::Unauthorized
        );
    }
    let viewer = super::keys::create(&mut scene, "v", crate::AdminRole::Viewer);
    let approve = AdminCall::NodeApprove(name("tablet"));
    assert_eq!(scene.admin_as(viewer.credential(), approve).err().unwrap().class, Class::Forbidden);
    assert!(scene.admin_as(viewer.credential(), AdminCall::PendingList).is_ok());
}
