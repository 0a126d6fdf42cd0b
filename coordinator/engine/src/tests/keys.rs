//! API keys: who may make which, how long they live, when their use is written down, and S10.

use super::scene::Scene;
use crate::{
    API_KEY_LIFETIME, AdminCall, AdminRole, Class, Command, Credential, KEY_USE_GRAIN, MAX_API_KEY_LIFETIME,
    Refusal, Reply,
};
use bulkhead_protocol::admin::{CreateKey, KeyView};
use bulkhead_protocol::token::{Token, TokenKind};
use std::time::Duration;
use zeroize::Zeroizing;

/// A key that was made.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) secret: Zeroizing<[u8; 32]>,
}

impl Made {
    pub(super) fn credential(&self) -> Credential {
        Credential::ApiKey(Zeroizing::new(self.secret.to_vec()))
    }
}

fn wish(name: &str, role: AdminRole) -> CreateKey {
    CreateKey { name: name.to_owned(), role, ttl_secs: None }
}

fn create_as(scene: &mut Scene, maker: Credential, wish: CreateKey) -> Result<Made, Refusal> {
    match scene.admin_as(maker, AdminCall::KeyCreate(wish))? {
        Reply::KeyCreated(created) => {
            let token = Token::parse(&created.key).unwrap();
            assert_eq!(token.kind, TokenKind::ApiKey);
            Ok(Made { id: created.id, secret: token.secret })
        }
        _ => panic!("another reply"),
    }
}

pub(super) fn create(scene: &mut Scene, name: &str, role: AdminRole) -> Made {
    create_as(scene, Credential::LocalRoot { uid: 0 }, wish(name, role)).ok().unwrap()
}

fn listed(scene: &mut Scene) -> Vec<KeyView> {
    let Ok(Reply::Keys(keys)) = scene.admin(AdminCall::KeyList) else { panic!("no list") };
    keys.keys
}

#[test]
fn a_key_may_what_its_role_may_and_says_whose_it_is() {
    let mut scene = Scene::new();
    for role in AdminRole::ALL {
        let key = create(&mut scene, role.as_str(), role);
        let Ok(Reply::WhoAmI(who)) = scene.admin_as(key.credential(), AdminCall::WhoAmI) else { panic!() };
        assert_eq!((who.user.as_str(), who.role.as_str()), (role.as_str(), role.as_str()));
        let made = scene.admin_as(key.credential(), AdminCall::TokenCreate(Default::default()));
        assert_eq!(made.is_ok(), role >= AdminRole::Operator);
        let made = create_as(&mut scene, key.credential(), wish(&format!("{role}-2"), AdminRole::Viewer));
        assert_eq!(made.is_ok(), role == AdminRole::Admin);
        let accepted = scene.admin_as(key.credential(), AdminCall::AcceptRestore);
        assert_eq!(accepted.err().unwrap().class, Class::Forbidden);
    }
}

#[test]
fn a_key_lives_as_long_as_was_asked_for_and_at_most_a_year() {
    let mut scene = Scene::new();
    let year = MAX_API_KEY_LIFETIME.as_secs();
    let root = || Credential::LocalRoot { uid: 0 };
    for (ttl, fits) in
        [(None, true), (Some(1), true), (Some(year), true), (Some(0), false), (Some(year + 1), false)]
    {
        let wish = CreateKey {
            ttl_secs: ttl,
            ..wish(&format!("k{ttl:?}").replace(['(', ')'], "-"), AdminRole::Viewer)
        };
        assert_eq!(create_as(&mut scene, root(), wish).is_ok(), fits, "{ttl:?}");
    }
    let lives = |key: &KeyView| key.created.until(key.expires);
    let mut lives: Vec<_> = listed(&mut scene).iter().map(lives).collect();
    lives.sort();
    assert_eq!(lives, [Duration::from_secs(1), API_KEY_LIFETIME, MAX_API_KEY_LIFETIME]);

    let short = listed(&mut scene).into_iter().find(|key| key.name == "kSome-1-").unwrap();
    scene.wait(Duration::from_secs(1));
    create(&mut scene, "next", AdminRole::Viewer);
    assert!(!listed(&mut scene).contains(&short), "what has ended makes room");
}

#[test]
fn two_living_keys_have_two_names_and_names_are_safe_to_print() {
    let mut scene = Scene::new();
    let key = create(&mut scene, "ci", AdminRole::Viewer);
    let root = || Credential::LocalRoot { uid: 0 };
    let refused = |scene: &mut Scene, name: &str| {
        create_as(scene, root(), wish(name, AdminRole::Viewer)).err().map(|refusal| refusal.code)
    };
    assert_eq!(refused(&mut scene, "ci"), Some("BH-C012"));
    for wrong in ["", "a b", "a\n", "é", "a:b", &"x".repeat(65)] {
        assert_eq!(refused(&mut scene, wrong), Some("BH-C007"), "{wrong:?}");
    }
    scene.admin(AdminCall::KeyRevoke(key.id.clone())).ok().unwrap();
    assert_eq!(refused(&mut scene, "ci"), None);
    assert_eq!(scene.admin(AdminCall::KeyRevoke(key.id)).err().unwrap().class, Class::NotFound);
}

#[test]
fn s10_the_last_admin_is_removed_by_root_alone() {
    let mut scene = Scene::new();
    let (first, second) =
        (create(&mut scene, "ann", AdminRole::Admin), create(&mut scene, "bob", AdminRole::Admin));
    create(&mut scene, "ci", AdminRole::Operator);
    let revoke = |scene: &mut Scene, by: Credential, id: &str| {
        scene.admin_as(by, AdminCall::KeyRevoke(id.to_owned())).err().map(|refusal| refusal.code)
    };
    assert_eq!(revoke(&mut scene, first.credential(), &second.id), None);
    let journal = scene.journal.len();
    assert_eq!(revoke(&mut scene, first.credential(), &first.id), Some("BH-C013"));
    assert_eq!(scene.journal.len(), journal, "nothing changed");
    assert!(scene.admin_as(first.credential(), AdminCall::KeyList).is_ok());
    // An admin whose time is over is none.
    let brief = CreateKey { ttl_secs: Some(60), ..wish("eve", AdminRole::Admin) };
    create_as(&mut scene, first.credential(), brief).ok().unwrap();
    scene.wait(Duration::from_secs(60));
    assert_eq!(revoke(&mut scene, first.credential(), &first.id), Some("BH-C013"));
    assert_eq!(revoke(&mut scene, Credential::LocalRoot { uid: 0 }, &first.id), None);
    assert!(scene.admin(AdminCall::NodeList).is_ok(), "root needs no key");
}

#[test]
fn the_use_of_a_key_is_written_down_once_an_hour() {
    let mut scene = Scene::new();
    let key = create(&mut scene, "ci", AdminRole::Viewer);
    let mut written = 0;
    for _ in 0..10 {
        if let Some(id) = scene.coordinator.unrecorded_use(&key.credential(), scene.now) {
            let source = Some("192.0.2.7".parse().unwrap());
            scene.handle(Command::KeyUsed { id, source });
            let event = scene.journal.last().unwrap();
            assert_eq!((event.actor.to_string().as_str(), event.source), ("admin:ci", source));
            assert_eq!(listed(&mut scene)[0].last_used, Some(scene.now.wall));
            written += 1;
        }
        scene.wait(KEY_USE_GRAIN / 4);
    }
    assert_eq!(written, 3);
    assert_eq!(scene.coordinator.unrecorded_use(&Credential::Anonymous, scene.now), None);
}

#[test]
fn keys_survive_a_restart_and_end_with_a_restore() {
    let mut scene = Scene::new();
    let key = create(&mut scene, "ci", AdminRole::Operator);
    let mut restarted = scene.restarted(scene.journal.len());
    assert!(restarted.admin_as(key.credential(), AdminCall::NodeList).is_ok());
    assert_eq!(restarted.coordinator.state(), scene.coordinator.state());
}
