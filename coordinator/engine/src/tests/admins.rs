//! Administrators, and what the store and the audit log say about secrets: S4, S11.

use super::scene::{BOOTSTRAP, Scene, web_to_db};
use crate::{API_KEY_LIFETIME, AdminCall, AdminRole, Class, Credential, Reply};
use bulkhead_protocol::admin::{CreateToken, Login, Session};
use std::time::Duration;
use zeroize::Zeroizing;

fn login(scene: &mut Scene, secret: &[u8]) -> Result<Session, crate::Refusal> {
    let login = Login { secret: secret.to_vec(), name: "alice".to_owned() };
    match scene.admin_as(Credential::Anonymous, AdminCall::Login(login))? {
        Reply::Session(session) => Ok(session),
        _ => panic!("another reply"),
    }
}

fn key(session: &Session) -> Credential {
    Credential::ApiKey(Zeroizing::new(session.key.clone()))
}

#[test]
fn the_bootstrap_secret_opens_one_session() {
    let mut scene = Scene::new();
    assert_eq!(login(&mut scene, &[1; 32]).err().unwrap().class, Class::Unauthorized);
    let session = login(&mut scene, &BOOTSTRAP).ok().unwrap();
    let second = login(&mut scene, &BOOTSTRAP).err().unwrap();
    assert_eq!(second, login(&mut scene, &[1; 32]).err().unwrap());
    let Ok(Reply::WhoAmI(who)) = scene.admin_as(key(&session), AdminCall::WhoAmI) else { panic!("nobody") };
    assert_eq!((who.user.as_str(), who.role.as_str()), ("alice", "admin"));
}

#[test]
fn a_key_ends_at_logout_and_at_its_time() {
    let mut scene = Scene::new();
    let session = login(&mut scene, &BOOTSTRAP).ok().unwrap();
    scene.wait(API_KEY_LIFETIME - Duration::from_secs(1));
    assert!(scene.admin_as(key(&session), AdminCall::NodeList).is_ok());
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.admin_as(key(&session), AdminCall::NodeList).err().unwrap().class, Class::Unauthorized);

    let mut scene = Scene::new();
    let session = login(&mut scene, &BOOTSTRAP).ok().unwrap();
    scene.admin_as(key(&session), AdminCall::Logout).ok().unwrap();
    assert!(scene.admin_as(key(&session), AdminCall::NodeList).is_err());
}

#[test]
fn nothing_is_answered_without_a_credential() {
    let mut scene = Scene::new();
    let wrong = || Credential::ApiKey(Zeroizing::new(vec![0; 32]));
    for credential in [Credential::Anonymous, wrong()] {
        assert!(scene.coordinator.authorize(&credential, AdminRole::Admin, scene.now).is_err());
        assert!(scene.admin_as(credential, AdminCall::TokenCreate(CreateToken::default())).is_err());
    }
    assert_eq!(scene.journal.len(), 1);
}

#[test]
fn neither_store_nor_journal_nor_audit_log_holds_a_usable_secret() {
    let mut scene = Scene::new();
    let token = scene.token(CreateToken::default());
    let session = login(&mut scene, &BOOTSTRAP).ok().unwrap();
    let api_key = super::keys::create(&mut scene, "ci", AdminRole::Admin).secret;
    let mut dump = minicbor::to_vec(scene.coordinator.state()).unwrap();
    for event in &scene.journal {
        dump.extend(minicbor::to_vec(event).unwrap());
        dump.extend(event.audit().detail.to_string().into_bytes());
        dump.extend(format!("{event:?}").into_bytes());
    }
    for secret in [token.as_slice(), &session.key, api_key.as_slice(), &BOOTSTRAP] {
        assert!(!dump.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn every_kind_of_event_has_an_audit_line_with_its_actor() {
    let mut scene = Scene::new();
    scene.apply(web_to_db());
    let web = scene.node("web", "role=web");
    scene.label(&web.name, "env", Some("prod")).ok().unwrap();
    scene.revoke(&web);
    let lines: Vec<_> =
        scene.journal.iter().map(|e| format!("{} {}", e.actor, e.audit().event.as_str())).collect();
    let node_enrolled = lines[3].ends_with(" node_enrolled") && lines[3].starts_with("token:");
    assert!(node_enrolled, "{lines:?}");
    assert_eq!(lines[0], "system initialised");
    assert_eq!(lines[4..], ["root:0 node_relabelled", "root:0 node_revoked"]);
}
