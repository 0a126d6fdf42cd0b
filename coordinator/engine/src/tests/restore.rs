//! Backups: S5, C2.

use super::people::person;
use super::scene::{BOOTSTRAP, Scene, name, web_to_db};
use crate::{AdminCall, Class, Credential, Event, RefreshOutcome};
use bulkhead_identity::{Epoch, Generation};
use bulkhead_protocol::admin::{CreateToken, Login, Reject};
use bulkhead_protocol::control::ToNode;
use bulkhead_protocol::signin::PollState;

#[test]
fn a_restored_coordinator_changes_and_pushes_nothing_until_root_accepts_it() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    let backup = scene.journal.len();
    scene.revoke(&web);
    let mut scene = scene.restarted(backup);
    scene.persist(Event::restored(scene.now.wall));

    // One node heard of the revocation, the other never did: neither is told anything by the backup.
    let (heard, deaf) = (scene.connect(&db), scene.connect(&web));
    scene.hello(heard, 1, 1);
    scene.hello(deaf, 1, 0);
    for link in [heard, deaf] {
        assert!(matches!(scene.inbox[&link][..], [ToNode::Welcome { .. }, ToNode::Refused { .. }]));
    }
    assert_eq!(
        scene.admin(AdminCall::TokenCreate(CreateToken::default())).err().unwrap().class,
        Class::Unavailable
    );

    // Root revokes again what the backup does not know as revoked, then accepts.
    scene.revoke(&web);
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert!(scene.epoch(heard) > Epoch(1 << 20) && scene.generation(heard) > Generation(1 << 20));
    assert!(scene.revocations(heard).revokes(web.identity(&scene).claims()));
    assert!(scene.peers(heard).is_empty());
    assert!(scene.admin(AdminCall::TokenCreate(CreateToken::default())).is_ok());
}

#[test]
fn secrets_of_the_backup_end_with_its_acceptance() {
    let mut scene = Scene::new();
    let token = scene.token(CreateToken::default());
    scene.persist(Event::restored(scene.now.wall));
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert_eq!(scene.join(&*token, Some("web")).err().unwrap().code, "BH-C102");
    let login = Login { secret: BOOTSTRAP.to_vec(), name: "mallory".to_owned() };
    assert!(scene.admin_as(Credential::Anonymous, AdminCall::Login(login)).is_err());
}

#[test]
fn there_is_nothing_to_accept_without_a_restore() {
    let mut scene = Scene::new();
    assert_eq!(scene.admin(AdminCall::AcceptRestore).err().unwrap().class, Class::Conflict);
}

#[test]
fn what_people_lost_since_the_backup_does_not_come_back() {
    let mut scene = Scene::staffed();
    let laptop = scene.node_of(&person("u-1", &["engineering"]), "laptop");
    let device = scene.device();
    let begun = scene.sign_in(&device, Some("tablet")).ok().unwrap();
    scene.confirm(&begun.user_code, &person("u-3", &["contractors"])).unwrap();
    let backup = scene.journal.len();
    scene.refreshed("u-1", RefreshOutcome::Denied("gone".to_owned())).unwrap();
    scene.admin(AdminCall::NodeReject(name("tablet"), Reject::default())).ok().unwrap();

    let mut scene = scene.restarted(backup);
    scene.persist(Event::restored(scene.now.wall));
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert!(scene.record(&laptop).owner.as_ref().unwrap().session_until <= scene.now.wall);
    assert!(scene.coordinator.state().pending.is_empty());
    assert!(matches!(scene.poll(&begun.device_code), PollState::Refused(_)));
    assert_eq!(scene.coordinator.state().devices.len(), 1, "the laptop may ask what became of it");
    // Signing in again is all it takes.
    assert!(scene.sign_in_again(&laptop, &person("u-1", &["engineering"])).is_ok());
}

#[test]
fn a_node_that_claims_to_know_more_is_told_nothing_and_stops_nobody_else() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let (db, web, liar) =
        (scene.node("db", "role=db"), scene.node("web", "role=web"), scene.node("liar", "role=db"));
    scene.online(&db);
    scene.online(&web);
    let link = scene.connect(&liar);
    scene.hello(link, 1_000_000, 1_000_000);
    assert!(matches!(scene.inbox[&link][..], [ToNode::Welcome { .. }, ToNode::Refused { .. }]));
    assert_eq!(scene.coordinator.read_only(), None);
    scene.apply(web_to_db());
    assert!(matches!(scene.inbox[&link][..], [ToNode::Welcome { .. }, ToNode::Refused { .. }]));
}

#[test]
fn most_nodes_that_know_more_make_the_coordinator_read_only_but_not_for_revocation() {
    let mut scene = Scene::new();
    let (db, web) = (scene.node("db", "role=db"), scene.node("web", "role=web"));
    for machine in [&db, &web] {
        let link = scene.connect(machine);
        scene.hello(link, 5, 5);
    }
    assert!(scene.coordinator.read_only().is_some());
    assert_eq!(scene.label(&db.name, "a", Some("b")).err().unwrap().class, Class::Unavailable);
    scene.revoke(&db);
    scene.admin(AdminCall::AcceptRestore).ok().unwrap();
    assert_eq!(scene.coordinator.read_only(), None);
}
