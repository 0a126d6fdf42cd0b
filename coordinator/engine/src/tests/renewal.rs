//! Renewal: D14.

use super::scene::{Machine, Scene, certificate, web_to_db};
use crate::ConnectionId;
use bulkhead_identity::{CertificateRequest, Challenge, ChallengeKey, IdentityKey, TunnelKey, verify};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use std::time::Duration;

fn challenge(scene: &mut Scene, link: ConnectionId) -> (Challenge, ChallengeKey) {
    scene.say(link, ToCoordinator::RenewBegin);
    let Some(ToNode::RenewChallenge { challenge, key }) = scene.inbox[&link].last() else {
        panic!("no challenge")
    };
    (*challenge, *key)
}

pub(super) fn renew(
    scene: &mut Scene,
    link: ConnectionId,
    identity: &IdentityKey,
    tunnel: &TunnelKey,
) -> bool {
    let (challenge, key) = challenge(scene, link);
    let request = CertificateRequest::create(identity, tunnel, &challenge, &key);
    let before = scene.inbox[&link].len();
    scene.say(link, ToCoordinator::RenewFinish { request });
    scene.inbox[&link][before..].iter().any(|message| certificate(message).is_some())
}

fn pair(scene: &mut Scene) -> (Machine, Machine) {
    scene.apply(web_to_db());
    (scene.node("db", "role=db"), scene.node("web", "role=web"))
}

#[test]
fn a_renewed_certificate_lasts_longer_and_says_the_same() {
    let mut scene = Scene::new();
    let (db, web) = pair(&mut scene);
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    scene.wait(Duration::from_secs(12 * 3600));
    assert!(renew(&mut scene, web_link, &web.identity, &web.tunnel));
    let chain = scene.inbox[&web_link].iter().rev().find_map(certificate).unwrap();
    let new = verify(chain, scene.coordinator.trust(), &scene.revocations(db_link), scene.now.wall).unwrap();
    let old = web.identity(&scene);
    assert!(new.not_after() > old.not_after());
    assert_eq!((new.labels(), new.claims().addresses), (old.labels(), old.claims().addresses));
    assert_eq!(scene.map(db_link).peers[&web.name].chain, *chain);
}

#[test]
fn nobody_renews_with_the_key_of_another() {
    let mut scene = Scene::new();
    let (db, web) = pair(&mut scene);
    let link = scene.online(&web);
    let (stranger, fresh) = scene.keys();
    assert!(!renew(&mut scene, link, &db.identity, &web.tunnel));
    assert!(!renew(&mut scene, link, &stranger, &web.tunnel));
    assert!(!renew(&mut scene, link, &web.identity, &db.tunnel));
    assert!(renew(&mut scene, link, &web.identity, &fresh));
}

#[test]
fn a_revoked_node_does_not_renew() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    let link = scene.online(&web);
    let (challenge, key) = challenge(&mut scene, link);
    let request = CertificateRequest::create(&web.identity, &web.tunnel, &challenge, &key);
    scene.revoke(&web);
    let entries = scene.journal.len();
    scene.say(link, ToCoordinator::RenewFinish { request });
    assert_eq!(scene.journal.len(), entries);
}

#[test]
fn a_challenge_belongs_to_its_link_and_is_answered_once() {
    let mut scene = Scene::new();
    let (db, web) = pair(&mut scene);
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    let (foreign, foreign_key) = challenge(&mut scene, db_link);
    challenge(&mut scene, web_link);
    let request = CertificateRequest::create(&web.identity, &web.tunnel, &foreign, &foreign_key);
    let entries = scene.journal.len();
    scene.say(web_link, ToCoordinator::RenewFinish { request });
    assert_eq!(scene.journal.len(), entries);

    let (own, own_key) = challenge(&mut scene, web_link);
    let request = CertificateRequest::create(&web.identity, &web.tunnel, &own, &own_key);
    scene.say(web_link, ToCoordinator::RenewFinish { request: request.clone() });
    scene.say(web_link, ToCoordinator::RenewFinish { request });
    assert_eq!(scene.journal.len(), entries + 1);
}

#[test]
fn a_new_tunnel_key_ends_the_certificate_of_the_old_one() {
    let mut scene = Scene::new();
    let (db, web) = pair(&mut scene);
    let (db_link, web_link) = (scene.online(&db), scene.online(&web));
    let (_, fresh) = scene.keys();
    assert!(renew(&mut scene, web_link, &web.identity, &fresh));
    assert!(scene.revocations(db_link).revokes(web.identity(&scene).claims()));
}

#[test]
fn a_node_cannot_fill_the_journal_with_renewals() {
    let mut scene = Scene::new();
    let (_, web) = pair(&mut scene);
    let link = scene.online(&web);
    let renewed = (0..100).filter(|_| renew(&mut scene, link, &web.identity, &web.tunnel)).count();
    assert_eq!(renewed, 8);
    // A new link is no new budget; time is.
    let link = scene.online(&web);
    assert!(!renew(&mut scene, link, &web.identity, &web.tunnel));
    scene.wait(Duration::from_secs(10));
    assert!(renew(&mut scene, link, &web.identity, &web.tunnel));
}
